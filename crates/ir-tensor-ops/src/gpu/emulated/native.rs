//! The functions by which the host reaches the emulation: those of `kernels/emulation.cpp` and `kernels/races.cpp`.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::{NonNull, null_mut};

use crate::gpu::backend::{Address, Argument, Launch};

/// When a launch or a copy happens, for [`Races`].
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Moment {
    /// Its place among all that were asked for, from 1 on.
    pub(super) number: u32,
    /// 1 for what goes beside, 0 for all else.
    pub(super) queue: u32,
    /// The last of the other queue that it waits for; 0 for none.
    pub(super) awaited: u32,
}

/// What looks for races in a device's memory (`kernels/races.h`).
#[derive(Debug)]
pub(super) struct Races(NonNull<c_void>);

// SAFETY: it is a C++ object without ties to a thread.
unsafe impl Send for Races {}

/// Two accesses to one place in no order.
#[derive(Debug)]
pub(super) struct Race {
    pub(super) address: Address,
    pub(super) reason: String,
}

impl Default for Races {
    fn default() -> Self {
        // SAFETY: it takes nothing, and gives an object of its own.
        let made = unsafe { emulation_races() };
        Self(NonNull::new(made).expect("`new` gives an object"))
    }
}

impl Drop for Races {
    fn drop(&mut self) {
        // SAFETY: it was made by `emulation_races`, and is used no more.
        unsafe { emulation_no_races(self.0.as_ptr()) };
    }
}

impl Races {
    /// The device has new memory here.
    pub(super) fn take(&mut self, address: Address, bytes: usize) {
        // SAFETY: the object is there; the address is only a number.
        unsafe { emulation_take(self.0.as_ptr(), address as usize, bytes) };
    }

    /// What the device had here may become anything.
    pub(super) fn give_back(&mut self, address: Address, bytes: usize) {
        // SAFETY: the object is there; the address is only a number.
        unsafe { emulation_give_back(self.0.as_ptr(), address as usize, bytes) };
    }

    /// The host reads or writes.
    pub(super) fn host_accesses(&mut self, at: Address, bytes: usize, writes: bool, when: Moment) {
        // SAFETY: the object is there; the address is only a number.
        unsafe {
            emulation_copy(
                self.0.as_ptr(),
                at as usize,
                bytes,
                c_int::from(writes),
                &raw const when,
            );
        }
    }

    /// The first race of the last launch or copy.
    pub(super) fn found(&mut self) -> Option<Race> {
        let mut text = [0u8; 256];
        let mut address = 0usize;
        // SAFETY: the object is there, and the text has the room that is named.
        let length = unsafe {
            let room = text.len();
            emulation_race(
                self.0.as_ptr(),
                text.as_mut_ptr().cast(),
                room,
                &raw mut address,
            )
        };
        let reason = String::from_utf8_lossy(&text[..length.min(text.len() - 1)]).into_owned();
        let address = address as Address;
        (length > 0).then_some(Race { address, reason })
    }
}

/// That a kernel was given another number of arguments than it takes.
pub(super) fn wrong_count(parameters: usize, given: usize) -> String {
    format!("it takes {parameters} arguments, and was given {given}")
}

/// Runs a kernel to its end, on the CPU.
///
/// # Errors
/// What is wrong with it.
pub(super) fn launch(
    launch: &Launch,
    reverse: bool,
    races: Option<&mut Races>,
    when: Moment,
) -> Result<(), String> {
    let name = CString::new(launch.kernel.as_str())
        .map_err(|_| String::from("its name holds a zero byte"))?;
    // SAFETY: the name ends in zero.
    let parameter = |place| unsafe { emulation_parameter(name.as_ptr(), place) };
    let parameters = (0..).take_while(|&place| parameter(place) > 0).count();
    if parameters > 0 && parameters != launch.arguments.len() {
        return Err(wrong_count(parameters, launch.arguments.len()));
    }
    let mut arguments: Vec<*mut c_void> = launch.arguments.iter().map(Argument::pointer).collect();
    // SAFETY: the name ends in zero, the two sizes are three numbers each, there is an argument
    // for each parameter of the kernel, as whoever made the launch has promised; `races` is there, or null.
    let code = unsafe {
        emulation_launch(
            name.as_ptr(),
            launch.grid.as_ptr(),
            launch.block.as_ptr(),
            launch.shared_bytes,
            arguments.as_mut_ptr(),
            c_int::from(reverse),
            races.map_or(null_mut(), |races| races.0.as_ptr()),
            &raw const when,
        )
    };
    let reason = match code {
        0 => return Ok(()),
        1 => "there is no kernel of this name",
        2 => "not all threads of a block reach a barrier",
        3 => "more than 1024 threads in a block",
        4 => "it moves 16 bytes at an address that is no multiple of 16",
        _ => "it has written behind its shared memory",
    };
    Err(reason.into())
}

unsafe extern "C" {
    fn emulation_parameter(name: *const c_char, place: usize) -> usize;
    fn emulation_launch(
        name: *const c_char,
        grid: *const u32,
        block: *const u32,
        shared_bytes: usize,
        arguments: *mut *mut c_void,
        reverse: c_int,
        races: *mut c_void,
        when: *const Moment,
    ) -> c_int;
    fn emulation_races() -> *mut c_void;
    fn emulation_no_races(races: *mut c_void);
    fn emulation_take(races: *mut c_void, address: usize, bytes: usize);
    fn emulation_give_back(races: *mut c_void, address: usize, bytes: usize);
    fn emulation_copy(
        races: *mut c_void,
        address: usize,
        bytes: usize,
        writes: c_int,
        when: *const Moment,
    );
    fn emulation_race(
        races: *const c_void,
        text: *mut c_char,
        room: usize,
        address: *mut usize,
    ) -> usize;
}
