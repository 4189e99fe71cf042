//! The allocator that the engine's programs run on: large blocks start on cache lines.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, with blocks of a page or more aligned to 64 bytes.
///
/// Rows of AMX tiles and vector registers that straddle two cache lines are up to three times slower to load, and a
/// tensor's storage is aligned as its allocator likes. Results do not depend on it.
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
const LARGE: usize = 4096;
/// A cache line.
const ALIGNMENT: usize = 64;

fn aligned(layout: Layout) -> Layout {
    if layout.size() < LARGE {
        return layout;
    }
    layout.align_to(ALIGNMENT).unwrap_or(layout)
}

// SAFETY: all is the system allocator's work. A block's layout decides alone whether it is aligned, so that it is
// freed with the layout that it was allocated with.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's word.
        unsafe { System.alloc(aligned(layout)) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's word; the layout is the one of the allocation.
        unsafe { System.dealloc(block, aligned(layout)) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's word.
        unsafe { System.alloc_zeroed(aligned(layout)) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.size() < LARGE && new_size < LARGE {
            // SAFETY: the caller's word; neither block is aligned.
            return unsafe { System.realloc(block, layout, new_size) };
        }
        // SAFETY: `realloc`'s caller vouches that the new size with this alignment is a layout.
        unsafe {
            let new = Layout::from_size_align_unchecked(new_size, layout.align());
            let to = self.alloc(new);
            if !to.is_null() {
                std::ptr::copy_nonoverlapping(block, to, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            to
        }
    }
}
