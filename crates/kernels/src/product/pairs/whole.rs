//! Neighbouring rows of the output under one panel, addressed once: what an epilogue does to nearly all of them.

use std::ops::Range;

use half::bf16;

use crate::product::Epilogue;
use crate::product::packed::PAIR_COLUMNS;
use crate::product::rows::NO_TARGET;
use crate::simd::Simd;
use crate::simd::math::gelu_for_bf16;

/// Rows of a panel whose outputs are whole and lie at equal distances. Each number is what
/// [`Epilogue::finish`] makes of it.
pub(super) struct WholeRows {
    bias: Bias,
    /// The first row's residual, or null.
    residual: *const bf16,
    /// The first row's output.
    out: *mut bf16,
    /// Numbers between rows of the output.
    stride: usize,
    gated: bool,
}

/// What is added to every row, of the layer and of the image.
#[repr(align(64))]
struct Bias([f32; PAIR_COLUMNS]);

impl WholeRows {
    /// The rows `targets` under the packed columns `columns`, or none if a row is dropped, columns are missing, the rows
    /// belong to several images with a bias of their own, or gated ones have more than a bias of the layer.
    ///
    /// # Panics
    /// If the residual or a bias is shorter than the rows and columns say.
    pub(super) fn new(
        epilogue: &Epilogue<'_, bf16>,
        targets: &[usize],
        columns: Range<usize>,
    ) -> Option<Self> {
        let (&first, &last) = (targets.first()?, targets.last()?);
        // Rows ascend, so that none is dropped if the last one is where it would be then.
        if first == NO_TARGET || last != first + (targets.len() - 1) {
            return None;
        }
        let Epilogue { image_bias, residual, gated, .. } = *epilogue;
        if gated && (image_bias.is_some() || residual.is_some()) {
            return None;
        }
        let share = if gated { 2 } else { 1 };
        let outputs = columns.start / share..columns.end / share;
        if outputs.end > epilogue.columns {
            return None;
        }
        let mut bias = Bias([0.0; PAIR_COLUMNS]);
        if let Some(of_layer) = epilogue.bias {
            bias.0.copy_from_slice(&of_layer[columns]);
        }
        if let Some((of_images, per_image)) = image_bias {
            let image = first / per_image;
            if image != last / per_image {
                return None;
            }
            let of_image = &of_images[image * epilogue.columns..][outputs.clone()];
            bias.0.iter_mut().zip(of_image).for_each(|(bias, x)| *bias += x);
        }
        let place = first * epilogue.columns + outputs.start;
        let residual = residual.map_or(std::ptr::null(), |residual| {
            let end = last * epilogue.columns + outputs.end;
            residual[place..end].as_ptr()
        });
        // SAFETY: the caller of the engine vouches that the output has all targets and columns.
        let out = unsafe { epilogue.out.at(place) };
        Some(Self { bias, residual, out, stride: epilogue.columns, gated })
    }

    /// Finishes the rows `rows` of the block at `sums`, which are [`PAIR_COLUMNS`] apart.
    ///
    /// # Safety
    /// The block holds the rows, and the output that the epilogue named is there.
    #[inline(always)]
    pub(super) unsafe fn finish<S: Simd>(&self, simd: S, sums: *const f32, rows: Range<usize>) {
        for row in rows {
            // SAFETY: the caller's word: a row of the block, of the output and, where there is one, of the residual, with
            // as many columns as the panel or half as many.
            unsafe {
                let from = sums.add(row * PAIR_COLUMNS);
                let out = self.out.add(row * self.stride);
                for at in (0..PAIR_COLUMNS).step_by(2 * S::LANES) {
                    let bias = self.bias.0.as_ptr().add(at);
                    let mut low = simd.add(simd.load(from.add(at)), simd.load(bias));
                    let mut high =
                        simd.add(simd.load(from.add(at + S::LANES)), simd.load(bias.add(S::LANES)));
                    if self.gated {
                        let x = simd.mul(low, gelu_for_bf16(simd, high));
                        simd.store_bf16(out.add(at / 2), x);
                        continue;
                    }
                    if !self.residual.is_null() {
                        let residual = self.residual.add(row * self.stride + at);
                        low = simd.add(low, simd.load_bf16(residual));
                        high = simd.add(high, simd.load_bf16(residual.add(S::LANES)));
                    }
                    simd.store_two_bf16(out.add(at), low, high);
                }
            }
        }
    }
}
