//! Functions of libraries that are loaded when one of them is first called, and not when the program starts.
//!
//! A program that is linked with a library does not start where there is none. [`late!`](late) defines the functions of a library
//! under their own names, weakly: the linker then has what it looks for, sees that nobody needs the library, and leaves it out (`--as-needed`, with
//! the linker of rustc, which counts only the code that is kept). Where another linker does not leave it out, everything is as it
//! was without this file.
//!
//! Each function is one jump, through an address of its own. To begin with this leads to [`go_on`], which keeps the arguments in the registers,
//! has the function looked for, and goes there; from the second call on the jump goes there itself. If there is no library, a call returns the library's status for that.

use std::arch::naked_asm;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{RTLD_GLOBAL, RTLD_NOW, dlerror, dlopen, dlsym};

/// A library that need not be there.
pub(crate) struct Library {
    /// What the loader knows it by, such as `libcuda.so.1`.
    name: &'static str,
    /// What its functions are taken for where there is none.
    absent: extern "C" fn() -> c_int,
    loaded: OnceLock<Result<Handle, String>>,
}

/// What `dlopen` has returned. It is never given back.
struct Handle(*mut c_void);

// SAFETY: `dlsym` may be called with it by any thread, and nothing else is done with it.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// One function, as [`late!`](late) lays it out.
#[repr(C)]
struct Function {
    /// Where its jump leads.
    address: AtomicPtr<c_void>,
    library: &'static Library,
    name: *const c_char,
}

/// What a function returns that is not there.
pub(crate) extern "C" fn status<const STATUS: c_int>() -> c_int {
    STATUS
}

impl Library {
    pub(crate) const fn new(name: &'static str, absent: extern "C" fn() -> c_int) -> Self {
        Self {
            name,
            absent,
            loaded: OnceLock::new(),
        }
    }

    /// Loads it, if that has not happened yet.
    ///
    /// # Errors
    /// What the loader says if it cannot be loaded, with the library's name.
    pub(crate) fn load(&self) -> Result<(), String> {
        self.handle().map(|_| ())
    }

    fn handle(&self) -> Result<&Handle, String> {
        let loaded = self.loaded.get_or_init(|| {
            let name = CString::new(self.name).map_err(|error| error.to_string())?;
            // SAFETY: the name ends with a zero. What the library does when it is loaded is what it would have done at the start of the program.
            let handle = unsafe { dlopen(name.as_ptr(), RTLD_NOW | RTLD_GLOBAL) };
            if handle.is_null() {
                Err(last_error())
            } else {
                Ok(Handle(handle))
            }
        });
        loaded.as_ref().map_err(String::clone)
    }
}

/// What the loader says of this thread's last call that failed.
fn last_error() -> String {
    // SAFETY: the text is this thread's until its next call of the loader.
    let said = unsafe { dlerror() };
    if said.is_null() {
        return "the loader does not say why".into();
    }
    // SAFETY: as above, and it ends with a zero.
    let said = unsafe { CStr::from_ptr(said) };
    said.to_string_lossy().into_owned()
}

/// Where to go on with the call of a function.
extern "C" fn find(function: &Function) -> *const c_void {
    let found = match function.library.handle() {
        // SAFETY: the handle is that of a library which stays loaded; the name ends with a zero.
        Ok(handle) => unsafe { dlsym(handle.0, function.name) },
        Err(_) => ptr::null_mut(),
    };
    if found.is_null() {
        return function.library.absent as *const c_void;
    }
    function.address.store(found, Ordering::Relaxed);
    found
}

/// Goes on with the call of the function whose [`Function`] is in r11, a register that no argument is in: keeps the registers in which arguments are passed
/// while it is looked for. What is on the stack stays where it is.
///
/// # Safety
/// Only [`late!`](late) jumps here, from where a function was called.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn go_on() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        "sub rsp, 128",
        "movups [rsp], xmm0",
        "movups [rsp + 16], xmm1",
        "movups [rsp + 32], xmm2",
        "movups [rsp + 48], xmm3",
        "movups [rsp + 64], xmm4",
        "movups [rsp + 80], xmm5",
        "movups [rsp + 96], xmm6",
        "movups [rsp + 112], xmm7",
        "mov rdi, r11",
        "call {find}",
        "mov r11, rax",
        "movups xmm0, [rsp]",
        "movups xmm1, [rsp + 16]",
        "movups xmm2, [rsp + 32]",
        "movups xmm3, [rsp + 48]",
        "movups xmm4, [rsp + 64]",
        "movups xmm5, [rsp + 80]",
        "movups xmm6, [rsp + 96]",
        "movups xmm7, [rsp + 112]",
        "add rsp, 128",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "pop rbp",
        "jmp r11",
        find = sym find,
    )
}

/// Defines functions of libraries: `LIBRARY: function function; …`, where LIBRARY is a static [`Library`]. They must return a status or nothing, and take
/// no variable number of arguments.
macro_rules! late {
    ($($library:ident: $($function:ident)*;)*) => { $($(
        ::std::arch::global_asm!(
            concat!(".section .data.", stringify!($function), ",\"aw\",@progbits"),
            ".balign 8",
            // A `Function`.
            "2: .quad 3f",
            ".quad {library}",
            ".quad 4f",
            concat!(".section .rodata.", stringify!($function), ",\"a\",@progbits"),
            concat!("4: .asciz \"", stringify!($function), "\""),
            concat!(".section .text.", stringify!($function), ",\"ax\",@progbits"),
            concat!(".weak ", stringify!($function)),
            concat!(".hidden ", stringify!($function)),
            concat!(".type ", stringify!($function), ",@function"),
            concat!(stringify!($function), ":"),
            "jmp qword ptr [rip + 2b]",
            "3: lea r11, [rip + 2b]",
            "jmp {go_on}",
            concat!(".size ", stringify!($function), ", . - ", stringify!($function)),
            ".text",
            library = sym $library,
            go_on = sym $crate::late::go_on,
        );
    )*)* };
}
#[cfg(feature = "cuda")]
pub(crate) use late;

#[cfg(test)]
mod tests {
    use super::*;

    static MATHEMATICS: Library = Library::new("libm.so.6", status::<1>);
    static NOWHERE: Library = Library::new("libnowhere.so.7", status::<707>);
    static PARTS: Library = Library::new("libm.so.6", status::<3>);

    late! {
        MATHEMATICS: jn fdimf;
        NOWHERE: ir_nowhere;
        PARTS: ir_no_part_of_it;
    }

    unsafe extern "C" {
        fn jn(order: c_int, x: f64) -> f64;
        fn fdimf(a: f32, b: f32) -> f32;
        fn ir_nowhere(a: c_int, b: *const c_void) -> c_int;
        fn ir_no_part_of_it() -> c_int;
    }

    /// Bessel functions of the first kind, from their series: Σ (−1)^k (x/2)^(2k+n) / (k! (k+n)!).
    fn bessel(order: i32, x: f64) -> f64 {
        let factorial = |n: i32| (1..=n).map(f64::from).product::<f64>();
        (0..20)
            .map(|k| {
                (-1f64).powi(k) * (x / 2.).powi(2 * k + order)
                    / (factorial(k) * factorial(k + order))
            })
            .sum()
    }

    #[test]
    fn a_call_finds_its_function_with_its_arguments() {
        for (order, x) in [(1, 2.5), (3, 0.75), (0, 1.)] {
            // SAFETY: a function of C's library with these arguments.
            let found = unsafe { jn(order, x) };
            assert!(
                (found - bessel(order, x)).abs() < 1e-14,
                "{order} {x}: {found}"
            );
        }
        // SAFETY: as above.
        assert_eq!(unsafe { fdimf(5., 3.) }, 2.);
        assert_eq!(MATHEMATICS.load(), Ok(()));
    }

    #[test]
    fn without_the_library_a_call_returns_its_status() {
        for _ in 0..2 {
            // SAFETY: nothing is called but `status`, which takes no arguments.
            assert_eq!(unsafe { ir_nowhere(5, ptr::null()) }, 707);
        }
        let said = NOWHERE.load().unwrap_err();
        assert!(said.contains("libnowhere.so.7"), "{said}");
    }

    #[test]
    fn without_the_function_a_call_returns_the_status_too() {
        // SAFETY: as above.
        assert_eq!(unsafe { ir_no_part_of_it() }, 3);
    }

    #[test]
    fn threads_may_call_at_once() {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                // SAFETY: a function of C's library with these arguments.
                scope.spawn(|| assert_eq!(unsafe { fdimf(1.5, 0.25) }, 1.25));
            }
        });
    }
}
