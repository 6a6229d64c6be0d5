//! Panics of libraries, turned into errors: the one place where a panic is caught.
//!
//! Two libraries panic on input that others choose. `parquet` (60.1) indexes and asserts its way
//! through damaged pages: a run of levels that ends early, a reference beyond its dictionary.
//! `hf-hub` (0.5) expects a `location` in every redirection. Neither can be known beforehand
//! without doing the library's work.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether this thread is within [`caught`], where a panic is not printed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs a library's code; gives the message of a panic as an error, and prints nothing.
///
/// What the code was working on is in an unknown state after a panic: who calls throws it away.
/// The process's panic hook is replaced once, by one that hands every panic outside of this
/// function on to the hook that was there before.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                before(panic);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(run));
    QUIET.set(outer);
    outcome.map_err(|panic| message(panic.as_ref()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_its_message_and_a_value_is_itself() {
        assert_eq!(caught(|| 3), Ok(3));
        let there = [1, 2];
        let place = there.len() + 5;
        let indexed = caught(|| there[place]);
        assert!(indexed.unwrap_err().contains("index out of bounds"));
        assert_eq!(caught(|| panic!("plain")), Err::<(), _>("plain".into()));
        assert!(!QUIET.get());
    }
}
