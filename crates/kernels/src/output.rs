//! Results without a pass of zeros: new vectors that tasks write block by block.
//!
//! How rows are cut into blocks depends on their sizes alone, so that sums over blocks do not depend on the number of
//! threads.

use rayon::prelude::*;

/// Numbers in a block: of f32, half of what the smallest second-level caches hold.
const BLOCK: usize = 1 << 14;

/// Images of rows of numbers, channels last, cut into blocks of neighbouring rows of one image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) images: usize,
    pub(crate) per_image: usize,
    per_block: usize,
}

/// Neighbouring rows of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) image: usize,
    /// The first row, counted in its image.
    pub(crate) first: usize,
    /// The first row, counted over all images.
    pub(crate) start: usize,
    pub(crate) count: usize,
}

impl Rows {
    /// Blocks of about 16 thousand numbers.
    pub(crate) fn new(images: usize, per_image: usize, width: usize) -> Self {
        Self { images, per_image, per_block: (BLOCK / width.max(1)).max(1) }
    }

    /// The rows of a tensor whose last dimension is `width`.
    pub(crate) fn of(len: usize, width: usize) -> Self {
        Self::new(1, len / width.max(1), width)
    }

    /// The same rows in blocks of at most `most`.
    pub(crate) fn in_blocks_of(self, most: usize) -> Self {
        Self { per_block: self.per_block.min(most), ..self }
    }

    pub(crate) fn blocks_per_image(self) -> usize {
        self.per_image.div_ceil(self.per_block)
    }

    /// Every block, image after image.
    pub(crate) fn blocks(self) -> impl IndexedParallelIterator<Item = Block> {
        let per_image = self.blocks_per_image();
        (0..self.images * per_image).into_par_iter().map(move |at| {
            let (image, first) = (at / per_image, at % per_image * self.per_block);
            Block {
                image,
                first,
                start: image * self.per_image + first,
                count: self.per_block.min(self.per_image - first),
            }
        })
    }
}

impl Block {
    /// The block's part of a tensor with `width` numbers a row.
    pub(crate) fn of<T>(self, values: &[T], width: usize) -> &[T] {
        &values[self.start * width..][..self.count * width]
    }
}

/// Where tasks write disjoint parts of one vector.
#[derive(Clone, Copy)]
pub(crate) struct Target<T>(*mut T);

// SAFETY: a pointer; whoever writes through it vouches that no other task writes there.
unsafe impl<T: Send> Send for Target<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Target<T> {}

impl<T> Target<T> {
    pub(crate) const fn new(first: *mut T) -> Self {
        Self(first)
    }

    /// The address of number `at`.
    ///
    /// # Safety
    /// The vector has room for `at` numbers.
    pub(crate) unsafe fn at(&self, at: usize) -> *mut T {
        // SAFETY: the caller's word.
        unsafe { self.0.add(at) }
    }
}

/// A vector of `len` numbers that `write` writes.
///
/// # Safety
/// `write` has written all of them when it returns, and reads none before it is written.
pub(crate) unsafe fn written<T: Copy>(len: usize, write: impl FnOnce(&Target<T>)) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    write(&Target(values.as_mut_ptr()));
    // SAFETY: there is room for `len` numbers, and the caller vouches that all are written.
    unsafe { values.set_len(len) };
    values
}

/// A vector with `width` numbers for each of `rows`, that tasks write block by block: `write` is given a block and
/// where its first number belongs.
///
/// # Safety
/// Each call writes `count * width` numbers, and reads none before it is written.
pub(crate) unsafe fn written_in_blocks<T: Copy + Send>(
    rows: Rows,
    width: usize,
    write: impl Fn(Block, *mut T) + Sync,
) -> Vec<T> {
    // SAFETY: the blocks cover all rows, do not overlap, and the caller vouches that each is written.
    unsafe {
        written(rows.images * rows.per_image * width, |to| {
            rows.blocks().for_each(|block| write(block, to.at(block.start * width)));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_row_once() {
        for (images, per_image, width) in [(1, 1, 1), (2, 100, 1000), (3, 70_000, 1), (2, 0, 5)] {
            let rows = Rows::new(images, per_image, width);
            // SAFETY: each number of a block is written.
            let written = unsafe {
                written_in_blocks(rows, 1, |block, to: *mut usize| {
                    for i in 0..block.count {
                        to.add(i).write(block.image * per_image + block.first + i);
                    }
                })
            };
            assert_eq!(written, (0..images * per_image).collect::<Vec<_>>());
        }
    }
}
