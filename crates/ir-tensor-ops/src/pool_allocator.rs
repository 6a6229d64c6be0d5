//! A global allocator that keeps large blocks for the next large tensor.
//!
//! Candle allocates every result anew. The operating system hands out large blocks page by
//! page, at the first touch, and takes them back when they are freed: for an activation of
//! 8 MB that costs more than the convolution that fills it. A training step allocates the same
//! sizes every time, so blocks that are kept are used again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Blocks of at least this many bytes are pooled.
const SMALLEST: usize = 1 << SMALLEST_EXPONENT;
const SMALLEST_EXPONENT: u32 = 18;
const LARGEST_EXPONENT: u32 = 40;
/// Classes per doubling of the size: a block is at most a quarter larger than asked for.
const STEPS: usize = 4;
const CLASSES: usize = (LARGEST_EXPONENT - SMALLEST_EXPONENT) as usize * STEPS + 1;
/// The alignment of pooled blocks: a cache line, and a vector of 16 f32.
const ALIGNMENT: usize = 64;

/// A global allocator for programs that compute on large tensors.
///
/// Blocks of 256 KiB and more are aligned to 64 bytes and, when freed, kept on a list of their
/// size class for the next allocation, as long as the lists hold at most a limit of bytes in
/// all. Everything else goes to the system's allocator. A library must not choose its
/// program's allocator, so a binary opts in:
///
/// ```
/// use ir_tensor_ops::PoolAllocator;
///
/// #[global_allocator]
/// static ALLOCATOR: PoolAllocator = PoolAllocator::new();
///
/// # fn main() {
/// let first = vec![1f32; 1 << 20];
/// assert_eq!(first.as_ptr().addr() % 64, 0);
/// # }
/// ```
#[derive(Debug)]
pub struct PoolAllocator {
    pool: Mutex<Pool>,
    limit: usize,
}

/// Free blocks, as a linked list for each class. A free block's first bytes hold the address of
/// the next.
#[derive(Debug)]
struct Pool {
    first: [*mut u8; CLASSES],
    bytes: usize,
}

// SAFETY: the pool owns the free blocks, so the addresses may move to another thread with it.
unsafe impl Send for Pool {}

/// The size class of an allocation, if it is pooled.
#[derive(Debug, Clone, Copy)]
struct Class {
    index: usize,
    block: Layout,
}

impl Class {
    fn of(layout: Layout) -> Option<Self> {
        let size = layout.size();
        if size < SMALLEST || layout.align() > ALIGNMENT || size > 1 << LARGEST_EXPONENT {
            return None;
        }
        // Sizes (2^e, 2^(e+1)] are rounded up to multiples of 2^e / 4.
        let exponent = (size - 1).ilog2().max(SMALLEST_EXPONENT - 1);
        let step = (1 << exponent) / STEPS;
        let steps = size.div_ceil(step);
        let doublings = (exponent + 1 - SMALLEST_EXPONENT) as usize;
        // exponent = 17 gives only 2^18 itself, as class 0.
        let index = (doublings * STEPS + steps).checked_sub(2 * STEPS)?;
        let block = Layout::from_size_align(steps * step, ALIGNMENT).ok()?;
        Some(Self { index, block })
    }
}

impl PoolAllocator {
    /// Keeps at most 4 GiB of free blocks.
    pub const fn new() -> Self {
        Self::with_limit(4 << 30)
    }

    /// Keeps at most `limit` bytes of free blocks.
    pub const fn with_limit(limit: usize) -> Self {
        Self {
            pool: Mutex::new(Pool {
                first: [ptr::null_mut(); CLASSES],
                bytes: 0,
            }),
            limit,
        }
    }

    /// The bytes of the free blocks that are kept.
    pub fn kept(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a free block of the class.
    fn pop(&self, class: Class) -> Option<NonNull<u8>> {
        let mut pool = self.lock();
        let block = NonNull::new(pool.first[class.index])?;
        // SAFETY: a block on a list belongs to the pool, is aligned to 64 bytes, and `push`
        // wrote the address of the next into it.
        pool.first[class.index] = unsafe { block.cast::<*mut u8>().read() };
        pool.bytes -= class.block.size();
        Some(block)
    }

    /// Keeps a block of the class, unless the limit is reached.
    ///
    /// # Safety
    /// The caller owns the block, which has the class's layout, and gives it up if the result
    /// is `true`.
    unsafe fn push(&self, block: *mut u8, class: Class) -> bool {
        let mut pool = self.lock();
        if pool.bytes + class.block.size() > self.limit {
            return false;
        }
        // SAFETY: the caller owns the block; it is large enough and aligned for an address.
        unsafe { block.cast::<*mut u8>().write(pool.first[class.index]) };
        pool.first[class.index] = block;
        pool.bytes += class.block.size();
        true
    }
}

impl Default for PoolAllocator {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: every block comes from `System` with the layout that `Class::of` derives from the
// requested one (or with the requested one), which is at least as large and as aligned; it is
// given back to `System` with the same layout, derived in the same way, or kept on the list of
// its class, from which it goes to one allocation at a time.
unsafe impl GlobalAlloc for PoolAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Class::of(layout) {
            // SAFETY: the caller's conditions are those of `System`.
            None => unsafe { System.alloc(layout) },
            Some(class) => match self.pop(class) {
                Some(block) => block.as_ptr(),
                // SAFETY: the block's layout has a size of at least 256 KiB.
                None => unsafe { System.alloc(class.block) },
            },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Class::of(layout) {
            // SAFETY: the caller's conditions are those of `System`.
            None => unsafe { System.alloc_zeroed(layout) },
            Some(class) => match self.pop(class) {
                Some(block) => {
                    // SAFETY: the block is ours and at least as large as the layout.
                    unsafe { block.write_bytes(0, layout.size()) };
                    block.as_ptr()
                }
                // SAFETY: the block's layout has a size of at least 256 KiB.
                None => unsafe { System.alloc_zeroed(class.block) },
            },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Class::of(layout) {
            // SAFETY: such a block came from `System` with this layout.
            None => unsafe { System.dealloc(block, layout) },
            Some(class) => {
                // SAFETY: the caller gives up the block, which came from `alloc` with this
                // class's layout; if the pool did not keep it, it is still ours to free.
                unsafe {
                    if !self.push(block, class) {
                        System.dealloc(block, class.block);
                    }
                }
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Ok(new_layout) = Layout::from_size_align(new_size, layout.align()) else {
            return ptr::null_mut();
        };
        match (Class::of(layout), Class::of(new_layout)) {
            // SAFETY: the block came from `System` with this layout.
            (None, None) => unsafe { System.realloc(block, layout, new_size) },
            (Some(old), Some(new)) if old.index == new.index => block,
            _ => {
                // SAFETY: the new block is another one; as many bytes are copied as both hold.
                unsafe {
                    let new = self.alloc(new_layout);
                    if !new.is_null() {
                        ptr::copy_nonoverlapping(block, new, layout.size().min(new_size));
                        self.dealloc(block, layout);
                    }
                    new
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 4).unwrap()
    }

    #[test]
    fn every_size_fits_its_class_and_classes_do_not_mix_sizes() {
        let mut sizes = vec![0; CLASSES];
        for exponent in SMALLEST_EXPONENT..LARGEST_EXPONENT {
            for part in 0..64 {
                for offset in [-1, 0, 1] {
                    let size = (1usize << exponent) + part * ((1 << exponent) / 64);
                    let size = size.saturating_add_signed(offset);
                    let Some(class) = Class::of(layout(size)) else {
                        assert!(size < SMALLEST);
                        continue;
                    };
                    assert!(class.block.size() >= size);
                    assert!(class.block.size() <= size + size.div_ceil(STEPS) + 1);
                    let known = &mut sizes[class.index];
                    assert!(*known == 0 || *known == class.block.size());
                    *known = class.block.size();
                }
            }
        }
        assert!(sizes.is_sorted());
    }

    #[test]
    fn a_freed_block_is_used_again_and_zeroed_on_request() {
        let allocator = PoolAllocator::new();
        let layout = layout(SMALLEST + 12);
        // SAFETY: the layout is not empty; every block is used within its size and freed once.
        unsafe {
            let first = allocator.alloc(layout);
            assert_eq!(first.addr() % ALIGNMENT, 0);
            first.write_bytes(7, layout.size());
            allocator.dealloc(first, layout);
            assert_eq!(allocator.kept(), Class::of(layout).unwrap().block.size());
            let second = allocator.alloc_zeroed(layout);
            assert_eq!(second, first);
            assert!(
                std::slice::from_raw_parts(second, layout.size())
                    .iter()
                    .all(|&b| b == 0)
            );
            assert_eq!(allocator.kept(), 0);
            let third = allocator.alloc(layout);
            assert_ne!(third, second);
            allocator.dealloc(second, layout);
            allocator.dealloc(third, layout);
        }
    }

    #[test]
    fn the_limit_holds() {
        let allocator = PoolAllocator::with_limit(SMALLEST);
        let layout = layout(SMALLEST);
        // SAFETY: the layout is not empty; every block is freed once.
        unsafe {
            let blocks = [allocator.alloc(layout), allocator.alloc(layout)];
            for block in blocks {
                allocator.dealloc(block, layout);
            }
        }
        assert_eq!(allocator.kept(), SMALLEST);
    }

    #[test]
    fn reallocation_keeps_the_contents() {
        let allocator = PoolAllocator::new();
        let sizes = [100, SMALLEST, SMALLEST + 1, 3 * SMALLEST, SMALLEST / 2];
        // SAFETY: layouts are not empty; the block is used within its size and freed once.
        unsafe {
            let mut size = 64;
            let mut block = allocator.alloc_zeroed(layout(size));
            for i in 0..64 {
                block.add(i).write(i as u8);
            }
            for new_size in sizes {
                block = allocator.realloc(block, layout(size), new_size);
                size = new_size;
                let start = std::slice::from_raw_parts(block, 64);
                assert!(start.iter().enumerate().all(|(i, &byte)| byte == i as u8));
            }
            allocator.dealloc(block, layout(size));
        }
    }
}
