//! The allocator that the engine's programs run on: large blocks start on cache lines and are used again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

/// The system's allocator, with blocks of a page or more aligned to 64 bytes, and a store of freed large ones.
///
/// Rows of AMX tiles and vector registers that straddle two cache lines are up to three times slower to load, and a
/// tensor's storage is aligned as its allocator likes. And a network gives back a tensor of some megabytes for each that
/// it makes: the system would take the pages away and hand out zeroed ones, which costs as much as a norm or an
/// addition. Freed blocks wait here for the next tensor of their size, as long as they and the blocks in use are no more
/// than were ever in use at once, or the blocks that wait no more than 160 MB: waiting makes no program larger than it
/// was by more than that, and the next step of a training finds what the last one gave back. Results do not depend on it.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: kernels::Allocator = kernels::Allocator;
/// # fn main() {
/// assert_eq!(vec![0_u8; 10_000].as_ptr() as usize % 64, 0);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

/// Blocks from this size on are aligned.
const ALIGNED: usize = 4 << 10;
/// A cache line.
const ALIGNMENT: usize = 64;
/// Blocks from this size on are stored when they are freed.
const STORED: usize = 256 << 10;
/// Bytes that may wait in the store whatever else is in use.
const FREE_BYTES: usize = 160 << 20;
/// Blocks that wait in the store.
const MOST_BLOCKS: usize = 1024;

/// Freed blocks, the oldest first, and how much is in use outside the store.
struct Store {
    blocks: [(*mut u8, usize); MOST_BLOCKS],
    count: usize,
    /// Bytes of the blocks that wait.
    bytes: usize,
    /// Bytes of the large blocks in use, and the most that they ever were.
    used: usize,
    most_used: usize,
}

// SAFETY: the blocks belong to the store alone.
unsafe impl Send for Store {}

static STORE: Mutex<Store> = Mutex::new(Store {
    blocks: [(null_mut(), 0); MOST_BLOCKS],
    count: 0,
    bytes: 0,
    used: 0,
    most_used: 0,
});

impl Store {
    fn remove(&mut self, at: usize) -> (*mut u8, usize) {
        let (block, size) = self.blocks[at];
        self.blocks.copy_within(at + 1..self.count, at);
        self.count -= 1;
        self.bytes -= size;
        (block, size)
    }

    /// The latest block of this size, or a new one (null if there is no memory).
    fn take(&mut self, size: usize) -> *mut u8 {
        let at = self.blocks[..self.count].iter().rposition(|&(_, stored)| stored == size);
        let stored = at.map(|at| self.remove(at).0);
        self.used += size;
        self.most_used = self.most_used.max(self.used);
        self.trim();
        // SAFETY: a layout of this allocator.
        let block = stored.unwrap_or_else(|| unsafe { System.alloc(large(size)) });
        if block.is_null() {
            self.used -= size;
        }
        block
    }

    /// Keeps a block.
    ///
    /// # Safety
    /// The block is one of this allocator's with this size, and nobody's any more.
    unsafe fn put(&mut self, block: *mut u8, size: usize) {
        if self.count == MOST_BLOCKS {
            self.release_oldest();
        }
        self.blocks[self.count] = (block, size);
        self.count += 1;
        self.bytes += size;
        self.used -= size;
        self.trim();
    }

    /// Gives the oldest blocks back to the system as long as too much waits.
    fn trim(&mut self) {
        while self.bytes > FREE_BYTES && self.used + self.bytes > self.most_used {
            self.release_oldest();
        }
    }

    fn release_oldest(&mut self) {
        let (block, size) = self.remove(0);
        // SAFETY: a stored block was allocated with this layout, and is nobody's.
        unsafe { System.dealloc(block, large(size)) };
    }
}

/// The layout of a stored size.
const fn large(size: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and sizes come from layouts, rounded up by an eighth at most.
    unsafe { Layout::from_size_align_unchecked(size, ALIGNMENT) }
}

/// The size that a large block is allocated with: of its three leading bits, so that similar tensors share blocks.
const fn rounded(size: usize) -> usize {
    size.next_multiple_of(1 << (size.ilog2() - 3))
}

/// True if blocks of this layout go through the store. It depends on the layout alone, so that a block is freed as it
/// was allocated.
const fn is_stored(layout: Layout) -> bool {
    layout.size() >= STORED && layout.align() <= ALIGNMENT
}

fn aligned(layout: Layout) -> Layout {
    if layout.size() < ALIGNED {
        return layout;
    }
    layout.align_to(ALIGNMENT).unwrap_or(layout)
}

// SAFETY: all blocks are the system allocator's. A block's layout decides alone what it is allocated and freed with, and
// a stored block is handed out once.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_stored(layout) {
            let size = rounded(layout.size());
            return STORE.lock().unwrap_or_else(PoisonError::into_inner).take(size);
        }
        // SAFETY: the caller's word.
        unsafe { System.alloc(aligned(layout)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_stored(layout) {
            let mut store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the block is one of this size, and the caller gives it up.
            return unsafe { store.put(block, rounded(layout.size())) };
        }
        // SAFETY: the caller's word; the layout is the one of the allocation.
        unsafe { System.dealloc(block, aligned(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_stored(layout) {
            // SAFETY: the caller's word; the block is at least as long as the layout.
            unsafe {
                let block = self.alloc(layout);
                if !block.is_null() {
                    block.write_bytes(0, layout.size());
                }
                return block;
            }
        }
        // SAFETY: the caller's word.
        unsafe { System.alloc_zeroed(aligned(layout)) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: `realloc`'s caller vouches that the new size with this alignment is a layout.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if layout.size() < ALIGNED && new_size < ALIGNED {
            // SAFETY: the caller's word; neither block is aligned.
            return unsafe { System.realloc(block, layout, new_size) };
        }
        if is_stored(layout) && is_stored(new) && rounded(layout.size()) == rounded(new_size) {
            return block;
        }
        // SAFETY: the caller's word; the new block is as long as the new layout says.
        unsafe {
            let to = self.alloc(new);
            if !to.is_null() {
                std::ptr::copy_nonoverlapping(block, to, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            to
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_contents_and_their_alignment() {
        let allocator = Allocator;
        for size in [1, 100, 4095, 4096, 5000, 300_000, 1 << 20, 20_000_000] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            // SAFETY: layouts are those of the allocations, and all is inside the blocks.
            unsafe {
                let block = allocator.alloc_zeroed(layout);
                assert!(size < ALIGNED || (block as usize).is_multiple_of(ALIGNMENT));
                assert!(std::slice::from_raw_parts(block, size).iter().all(|&byte| byte == 0));
                block.write_bytes(7, size);
                let block = allocator.realloc(block, layout, 3 * size);
                assert!(std::slice::from_raw_parts(block, size).iter().all(|&byte| byte == 7));
                allocator.dealloc(block, Layout::from_size_align(3 * size, 8).unwrap());
            }
        }
    }

    #[test]
    fn sizes_are_rounded_by_an_eighth_at_most() {
        for size in [STORED, STORED + 1, 1_000_000, 1 << 30, (1 << 30) - 1] {
            let rounded = rounded(size);
            assert!(rounded >= size && rounded - size <= size / 8, "{size} to {rounded}");
        }
        assert_eq!(rounded(5 << 20), 5 << 20);
    }
}
