//! What outer products read: copies of a block of a picture and of the gradients by its outputs.
//!
//! Registers and groups beyond the last channel or output hold whatever follows in memory: it goes into sums that
//! nobody reads.

use std::ops::Range;

use super::{Block, CHANNELS};
use crate::frozen::ConvShape;
use crate::panel::Element;
use crate::simd::{Real, Simd};

/// Numbers of a block of `seen` lines and columns.
pub(super) const fn channels_room(seen: (usize, usize), groups: usize) -> usize {
    seen.0 * seen.1 * groups * CHANNELS
}

/// Copies what a block of outputs sees to `[line][group][column][channel]`, zeros where that is outside the picture.
///
/// # Safety
/// `xs` is the picture, and there are [`channels_room`] numbers at `to`.
#[inline(always)]
pub(super) unsafe fn pack_channels<T: Element>(
    shape: &ConvShape,
    xs: &[T],
    block: &Block,
    seen: (usize, usize),
    groups: &Range<usize>,
    to: *mut f32,
) {
    let ConvShape { channels, size: (height, width), stride, before, .. } = *shape;
    let origin = |at: usize, size: usize| at.checked_sub(before).filter(|&at| at < size);
    for line in 0..seen.0 {
        let to = to.wrapping_add(line * groups.len() * seen.1 * CHANNELS);
        let from = origin(block.lines.start * stride + line, height)
            .map(|y| (block.image * height + y) * width);
        for column in 0..seen.1 {
            let x = origin(block.across.start * stride + column, width);
            let from = from.zip(x).map(|(row, x)| (row + x) * channels);
            for (at, group) in groups.clone().enumerate() {
                let to = to.wrapping_add((at * seen.1 + column) * CHANNELS);
                // SAFETY: a place in the block.
                let to = unsafe { std::slice::from_raw_parts_mut(to, CHANNELS) };
                match from.map(|from| &xs[from + group * CHANNELS..]) {
                    None => to.fill(0.0),
                    Some(from) if from.len() >= CHANNELS => T::convert(&from[..CHANNELS], to),
                    Some(from) => {
                        to.fill(0.0);
                        T::convert(from, &mut to[..from.len()]);
                    }
                }
            }
        }
    }
}

/// Copies a panel of the gradients by a block of outputs to `[pixel][column]`, and adds them to those by the bias.
///
/// # Safety
/// `grad` is the gradient, `panel` its first column and its registers; there are as many registers at `to` as the block
/// has pixels and the panel registers, and as many at `bias` as the panel has.
#[inline(always)]
pub(super) unsafe fn pack_gradients<S: Simd, T: Real>(
    simd: S,
    shape: &ConvShape,
    grad: &[T],
    block: &Block,
    (column, vectors): (usize, usize),
    to: *mut f32,
    bias: Option<*mut f32>,
) {
    let (height, width) = shape.out;
    let mut to = to;
    for y in block.lines.clone() {
        let row = (block.image * height + y) * width;
        for x in block.across.clone() {
            let from = (row + x) * shape.outputs + column;
            for v in 0..vectors {
                let from = from + v * S::LANES;
                // SAFETY: as many numbers are left of the gradient; the rest is the caller's word.
                unsafe {
                    let left = grad.len() - from;
                    let values = T::load_up_to(simd, grad.as_ptr().add(from), left);
                    simd.store(to, values);
                    if let Some(bias) = bias {
                        let sum = bias.add(v * S::LANES);
                        simd.store(sum, simd.add(simd.load(sum), values));
                    }
                    to = to.add(S::LANES);
                }
            }
        }
    }
}
