//! Neighbouring rows of the output under one panel, addressed once: what an epilogue does to nearly all of them.

use std::ops::Range;

use crate::product::Epilogue;
use crate::product::packed::PAIR_COLUMNS;
use crate::product::rows::NO_TARGET;
use crate::simd::{Real, Simd};

/// Rows of a panel whose outputs are whole and lie at equal distances.
pub(crate) struct Lines<T> {
    bias: Bias,
    /// The first row's residual, or null.
    residual: *const T,
    /// The first row's output.
    out: *mut T,
    /// Numbers between rows of the output.
    stride: usize,
    gated: bool,
}

/// What is added to every row, of the layer and of the image.
#[repr(align(64))]
struct Bias([f32; PAIR_COLUMNS]);

impl<T: Real> Lines<T> {
    /// The rows `targets` under the packed columns `columns`, or none if a row is dropped, columns are missing, or the
    /// rows belong to several images with a bias of their own.
    ///
    /// # Panics
    /// If the residual or a bias is shorter than the rows and columns say.
    pub(crate) fn new(
        epilogue: &Epilogue<'_, T>,
        targets: &[usize],
        columns: Range<usize>,
    ) -> Option<Self> {
        let (&first, &last) = (targets.first()?, targets.last()?);
        // Rows ascend, so that none is dropped if the last one is where it would be then.
        if first == NO_TARGET || last != first + (targets.len() - 1) {
            return None;
        }
        let share = if epilogue.gated { 2 } else { 1 };
        let outputs = columns.start / share..columns.end / share;
        if columns.len() != PAIR_COLUMNS || outputs.end > epilogue.columns {
            return None;
        }
        let mut bias = Bias([0.0; PAIR_COLUMNS]);
        if let Some(of_layer) = epilogue.bias {
            bias.0.copy_from_slice(&of_layer[columns]);
        }
        if let Some((of_images, per_image)) = epilogue.image_bias {
            let image = first / per_image;
            if image != last / per_image || epilogue.gated {
                return None;
            }
            let of_image = &of_images[image * epilogue.columns..][outputs.clone()];
            bias.0.iter_mut().zip(of_image).for_each(|(bias, x)| *bias += x);
        }
        let place = first * epilogue.columns + outputs.start;
        let residual = epilogue.residual.map_or(std::ptr::null(), |residual| {
            let end = last * epilogue.columns + outputs.end;
            residual[place..end].as_ptr()
        });
        // SAFETY: the caller of the engine vouches that the output has all targets and columns.
        let out = unsafe { epilogue.out.at(place) };
        Some(Self { bias, residual, out, stride: epilogue.columns, gated: epilogue.gated })
    }

    /// Finishes the rows `rows` of the block at `sums`, which are [`PAIR_COLUMNS`] apart.
    ///
    /// # Safety
    /// The block holds the rows, and the output that the epilogue named is there.
    #[inline(always)]
    pub(crate) unsafe fn finish<S: Simd>(&self, simd: S, sums: *const f32, rows: Range<usize>) {
        for row in rows {
            // SAFETY: the caller's word: a row of the block, of the output and, where there is one, of the residual, with as
            // many columns as the panel or half as many.
            unsafe {
                let from = sums.add(row * PAIR_COLUMNS);
                let out = self.out.add(row * self.stride);
                for at in (0..PAIR_COLUMNS).step_by(2 * S::LANES) {
                    let bias = self.bias.0.as_ptr().add(at);
                    let mut low = simd.add(simd.load(from.add(at)), simd.load(bias));
                    let mut high =
                        simd.add(simd.load(from.add(at + S::LANES)), simd.load(bias.add(S::LANES)));
                    if self.gated {
                        let mut x = simd.mul(low, T::gelu(simd, high));
                        if !self.residual.is_null() {
                            let residual = self.residual.add(row * self.stride + at / 2);
                            x = simd.add(x, T::load(simd, residual));
                        }
                        T::store(simd, out.add(at / 2), x);
                        continue;
                    }
                    if !self.residual.is_null() {
                        let residual = self.residual.add(row * self.stride + at);
                        low = simd.add(low, T::load(simd, residual));
                        high = simd.add(high, T::load(simd, residual.add(S::LANES)));
                    }
                    T::store_two(simd, out.add(at), low, high);
                }
            }
        }
    }
}
