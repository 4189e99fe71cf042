//! What is done to a block of a product before it is written.

use std::ops::Range;

use super::rows::NO_TARGET;
use crate::output::Target;
use crate::simd::{Real, Simd};

/// `residual + activation(product + bias)`, or of gated columns `values · gelu(gates)`.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a, T> {
    /// One number a packed column, with zeros up to the end of the last panel.
    pub(crate) bias: Option<&'a [f32]>,
    /// `(images, columns)`, and the output rows of an image.
    pub(crate) image_bias: Option<(&'a [f32], usize)>,
    /// `(output rows, output columns)`.
    pub(crate) residual: Option<&'a [T]>,
    /// Registers alternate between values and their gates.
    pub(crate) gated: bool,
    /// Columns of the output.
    pub(crate) columns: usize,
    pub(crate) out: Target<T>,
}

/// A tile of an image's outputs.
pub(super) struct TileRows {
    /// The output row of its first output.
    pub(super) first: usize,
    /// Output rows from one line to the next.
    pub(super) line: usize,
    /// Lines of it that are there.
    pub(super) lines: usize,
    /// Outputs of a line that are there.
    pub(super) across: usize,
}

/// One register of the output.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    column: usize,
    count: usize,
}

impl<T: Real> Epilogue<'_, T> {
    /// Finishes the rows of a block: row `i` of it is at `block + i · stride` and goes to row `targets[i]`, its first
    /// column is packed column `columns.start`.
    ///
    /// # Safety
    /// The block holds the rows and columns; the output and the residual have each row's target and the columns; the
    /// bias reaches to the end of the columns, rounded up to a register.
    #[inline(always)]
    pub(crate) unsafe fn finish<S: Simd>(
        &self,
        simd: S,
        targets: &[usize],
        columns: Range<usize>,
        block: *const f32,
        stride: usize,
    ) {
        for (i, &target) in targets.iter().enumerate() {
            if target == NO_TARGET {
                continue;
            }
            // SAFETY: a row of the block.
            let from = unsafe { block.add(i * stride) };
            // SAFETY: the caller's word.
            unsafe {
                if self.gated {
                    self.gated_row(simd, target, &columns, from);
                } else {
                    self.row(simd, target, &columns, from);
                }
            }
        }
    }

    /// # Safety
    /// That of `finish`.
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, simd: S, row: usize, columns: &Range<usize>, from: *const f32) {
        let of_image = self.image_bias_of(row);
        for at in (0..columns.len()).step_by(S::LANES) {
            let column = columns.start + at;
            if column >= self.columns {
                return;
            }
            // SAFETY: the register is in the block, the bias has a number for each of its columns.
            unsafe {
                let bias = self.bias_at(simd, column, of_image);
                let x = simd.add(simd.load(from.add(at)), bias);
                self.write(simd, self.place(row, column, S::LANES), x);
            }
        }
    }

    /// Finishes a register of columns of a tile of an image's outputs, as `M` lines of `M`: those of its first lines and
    /// columns that `tile` says are there. Nothing is gated.
    ///
    /// # Safety
    /// The output and the residual have the tile's rows and the columns; the bias reaches to the end of the register.
    #[inline(always)]
    pub(super) unsafe fn finish_tile<S: Simd, const M: usize>(
        &self,
        simd: S,
        tile: &TileRows,
        column: usize,
        outputs: [[S::V; M]; M],
    ) {
        if column >= self.columns {
            return;
        }
        // SAFETY: the caller's word: what is there of the tile has a place in the output, and in the residual if there is one.
        unsafe {
            let bias = self.bias_at(simd, column, self.image_bias_of(tile.first));
            if self.columns - column < S::LANES {
                for (y, line) in outputs.iter().enumerate().take(tile.lines) {
                    for (x, &sums) in line.iter().enumerate().take(tile.across) {
                        let row = tile.first + y * tile.line + x;
                        self.write(simd, self.place(row, column, S::LANES), simd.add(sums, bias));
                    }
                }
                return;
            }
            // Whole registers, at steps that are found once.
            let (first, line) = (tile.first * self.columns + column, tile.line * self.columns);
            let residual = self.residual.map_or(std::ptr::null(), <[T]>::as_ptr);
            for y in 0..M {
                for x in 0..M {
                    if y < tile.lines && x < tile.across {
                        let at = first + y * line + x * self.columns;
                        let mut sums = simd.add(outputs[y][x], bias);
                        if !residual.is_null() {
                            sums = simd.add(sums, T::load(simd, residual.add(at)));
                        }
                        T::store(simd, self.out.at(at), sums);
                    }
                }
            }
        }
    }

    fn place(&self, row: usize, column: usize, lanes: usize) -> Place {
        Place { row, column, count: (self.columns - column).min(lanes) }
    }

    /// What is added to the columns of the image that a row is of.
    fn image_bias_of(&self, row: usize) -> Option<&[f32]> {
        self.image_bias.map(|(bias, per_image)| &bias[row / per_image * self.columns..])
    }

    /// What is added to a register of columns: of the layer, and of an image.
    ///
    /// # Safety
    /// The bias has a number for each of the register's columns.
    #[inline(always)]
    unsafe fn bias_at<S: Simd>(&self, simd: S, column: usize, of_image: Option<&[f32]>) -> S::V {
        // SAFETY: the caller's word; the bias of an image is one of all columns.
        unsafe {
            let of_layer = self.bias.map_or(simd.zero(), |bias| {
                debug_assert!(column + S::LANES <= bias.len());
                simd.load(bias.as_ptr().add(column))
            });
            let Some(of_image) = of_image else { return of_layer };
            let count = (self.columns - column).min(S::LANES);
            simd.add(of_layer, f32::load_up_to(simd, of_image.as_ptr().add(column), count))
        }
    }

    /// # Safety
    /// That of `finish`.
    #[inline(always)]
    unsafe fn gated_row<S: Simd>(
        &self,
        simd: S,
        row: usize,
        columns: &Range<usize>,
        from: *const f32,
    ) {
        for at in (0..columns.len()).step_by(2 * S::LANES) {
            let packed = columns.start + at;
            let column = packed / 2;
            if column >= self.columns {
                return;
            }
            let count = (self.columns - column).min(S::LANES);
            // SAFETY: both registers are in the block, the bias has a number for each of their columns.
            unsafe {
                let mut value = simd.load(from.add(at));
                let mut gate = simd.load(from.add(at + S::LANES));
                if let Some(bias) = self.bias {
                    debug_assert!(packed + 2 * S::LANES <= bias.len());
                    value = simd.add(value, simd.load(bias.as_ptr().add(packed)));
                    gate = simd.add(gate, simd.load(bias.as_ptr().add(packed + S::LANES)));
                }
                let x = simd.mul(value, T::gelu(simd, gate));
                self.write(simd, Place { row, column, count }, x);
            }
        }
    }

    /// # Safety
    /// The output and the residual have the place.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, simd: S, place: Place, x: S::V) {
        let Place { row, column, count } = place;
        let at = row * self.columns + column;
        let mut x = x;
        // SAFETY: the caller's word.
        unsafe {
            if let Some(residual) = self.residual {
                debug_assert!(at + count <= residual.len());
                x = simd.add(x, T::load_up_to(simd, residual.as_ptr().add(at), count));
            }
            T::store_up_to(simd, self.out.at(at), x, count);
        }
    }
}
