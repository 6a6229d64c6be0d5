//! The memory that a kernel reads and writes.

use crate::gpu::backend::Address;

/// The memory of the device, which is the process's own.
#[derive(Debug)]
pub(super) struct Global {
    /// Address and bytes of each piece, by address.
    pieces: Vec<(Address, usize)>,
    /// The piece that was used last.
    last: (Address, usize),
}

impl Global {
    pub(super) fn new(pieces: &[(Address, usize)]) -> Self {
        let mut pieces = pieces.to_vec();
        pieces.sort_unstable();
        let last = (0, 0);
        Self { pieces, last }
    }

    /// Whether the device has so many bytes there.
    fn check(&mut self, address: Address, bytes: usize) -> Result<(), String> {
        if !address.is_multiple_of(bytes as u64) {
            return Err(format!(
                "address {address:#x} is no multiple of the {bytes} bytes that it is used for"
            ));
        }
        let holds = |(start, length): (Address, usize)| {
            address >= start && address - start + bytes as u64 <= length as u64
        };
        if holds(self.last) {
            return Ok(());
        }
        let behind = self.pieces.partition_point(|&(start, _)| start <= address);
        let piece = behind.checked_sub(1).map(|place| self.pieces[place]);
        match piece.filter(|&piece| holds(piece)) {
            Some(piece) => {
                self.last = piece;
                Ok(())
            }
            None => Err(format!("the device has no {bytes} bytes at {address:#x}")),
        }
    }

    pub(super) fn read(&mut self, address: Address, to: &mut [u8]) -> Result<(), String> {
        self.check(address, to.len())?;
        // SAFETY: the machine has that many bytes there (checked above), and nothing else uses them while it runs a kernel.
        unsafe {
            std::ptr::copy_nonoverlapping(address as *const u8, to.as_mut_ptr(), to.len());
        }
        Ok(())
    }

    pub(super) fn write(&mut self, address: Address, from: &[u8]) -> Result<(), String> {
        self.check(address, from.len())?;
        // SAFETY: as in `read`.
        unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), address as *mut u8, from.len());
        }
        Ok(())
    }
}

/// The shared memory of a block.
#[derive(Debug)]
pub(super) struct Shared(Vec<u8>);

impl Shared {
    /// What no thread has written is not a number.
    pub(super) fn new(bytes: usize) -> Self {
        Self(vec![0xff; bytes])
    }

    fn place(&mut self, address: u64, bytes: usize) -> Result<&mut [u8], String> {
        if !address.is_multiple_of(bytes as u64) {
            return Err(format!(
                "place {address} of shared memory is no multiple of the {bytes} bytes that it is used for"
            ));
        }
        let length = self.0.len();
        let start = usize::try_from(address).unwrap_or(usize::MAX);
        self.0
            .get_mut(start..start.saturating_add(bytes))
            .ok_or_else(|| {
                format!("shared memory has {length} bytes, and none of the {bytes} at {address}")
            })
    }

    pub(super) fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), String> {
        to.copy_from_slice(self.place(address, to.len())?);
        Ok(())
    }

    pub(super) fn write(&mut self, address: u64, from: &[u8]) -> Result<(), String> {
        self.place(address, from.len())?.copy_from_slice(from);
        Ok(())
    }
}
