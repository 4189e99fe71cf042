//! From PyTorch's order of a weight, `[output][channel][tap]`, to panels.

use candle_core::WithDType;
use half::bf16;
use rayon::prelude::*;

use super::packed::{Order, PAIR_CHUNK, PAIR_COLUMNS, PAIR_DEPTH};
use crate::buffer::Aligned;

/// Channels whose part of a panel stays in the first-level cache while it is filled.
const CHANNEL_BLOCK: usize = 16;

/// Panels of `[tap][channel][column]`.
///
/// # Panics
/// If there are not as many weights as the order says.
pub(super) fn pack_lanes<T: WithDType>(order: &Order, weight: &[T]) -> Aligned<T> {
    let (taps, channels) = (order.taps(), order.channels);
    assert_eq!(weight.len(), order.outputs * channels * taps, "as many weights as the shape says");
    let depth = taps * channels;
    let last = order.panels().saturating_sub(1);
    let widths = last * order.width() + order.vectors_of(last) * order.lanes;
    let mut packed = Aligned::zeroed(if order.columns() == 0 { 0 } else { depth * widths });
    if depth == 0 {
        return packed;
    }
    let panels = packed.as_mut_slice().par_chunks_mut(depth * order.width());
    panels.enumerate().for_each(|(panel, to)| {
        let width = to.len() / depth;
        for start in (0..channels).step_by(CHANNEL_BLOCK) {
            let block = start..(start + CHANNEL_BLOCK).min(channels);
            for column in 0..width {
                let Some(output) = order.output(panel * order.width() + column) else { continue };
                let row = &weight[output * depth..][block.start * taps..block.end * taps];
                for (channel, values) in block.clone().zip(row.chunks_exact(taps)) {
                    for (tap, &value) in values.iter().enumerate() {
                        to[(tap * channels + channel) * width + column] = value;
                    }
                }
            }
        }
    });
    packed
}

/// Panels of `[tap][channel][column]` of the transposed weight with its taps turned; `order` is the transpose's.
///
/// # Panics
/// If there are not as many weights as the order says.
pub(super) fn pack_turned(order: &Order, weight: &[f32]) -> Aligned<f32> {
    let (taps, depths, columns) = (order.taps(), order.channels, order.outputs);
    assert_eq!(weight.len(), columns * depths * taps, "as many weights as the shape says");
    let last = order.panels().saturating_sub(1);
    let widths = last * order.width() + order.vectors_of(last) * order.lanes;
    let mut packed = Aligned::zeroed(if columns == 0 { 0 } else { depths * taps * widths });
    if packed.as_slice().is_empty() {
        return packed;
    }
    let panels = packed.as_mut_slice().par_chunks_mut(depths * taps * order.width());
    panels.enumerate().for_each(|(panel, to)| {
        let (width, first) = (to.len() / (depths * taps), panel * order.width());
        let count = width.min(columns - first);
        for depth in 0..depths {
            let from = &weight[(depth * columns + first) * taps..][..count * taps];
            for tap in 0..taps {
                let to = &mut to[((taps - 1 - tap) * depths + depth) * width..][..count];
                for (to, from) in to.iter_mut().zip(from[tap..].iter().step_by(taps)) {
                    *to = *from;
                }
            }
        }
    });
    packed
}

/// Panels of `[chunk of steps][tap][step][tile][pair][column][which]`; depths and columns beyond the weight are zero.
///
/// # Panics
/// If there are not as many weights as the order says.
pub(super) fn pack_pairs(order: &Order, weight: &[bf16]) -> Aligned<bf16> {
    let (taps, channels) = (order.taps(), order.channels);
    let depth = taps * channels;
    let weight = &weight[..order.outputs * depth];
    let per_panel = pair_panel(order);
    let mut packed = Aligned::zeroed(order.panels() * per_panel);
    if depth == 0 {
        return packed;
    }
    let steps = channels.div_ceil(PAIR_DEPTH);
    packed.as_mut_slice().par_chunks_mut(per_panel).enumerate().for_each(|(panel, to)| {
        for step in 0..steps {
            let block = step * PAIR_DEPTH..((step + 1) * PAIR_DEPTH).min(channels);
            for column in 0..PAIR_COLUMNS {
                let Some(output) = order.output(panel * PAIR_COLUMNS + column) else { continue };
                let row = &weight[output * depth..][block.start * taps..block.end * taps];
                for (k, values) in row.chunks_exact(taps).enumerate() {
                    let within = pair_place(column, k);
                    for (tap, &value) in values.iter().enumerate() {
                        let step = pair_step(taps, steps, tap, step);
                        to[step * PAIR_DEPTH * PAIR_COLUMNS + within] = value;
                    }
                }
            }
        }
    });
    packed
}

/// Numbers in a panel of pairs.
pub(super) const fn pair_panel(order: &Order) -> usize {
    order.taps() * order.channels.div_ceil(PAIR_DEPTH) * PAIR_DEPTH * PAIR_COLUMNS
}

/// Where step `step` of the `steps` under tap `tap` is among the steps of a panel: all taps of a chunk of channels are
/// neighbours, as what they read of the picture is in the first-level cache then.
pub(super) const fn pair_step(taps: usize, steps: usize, tap: usize, step: usize) -> usize {
    let (chunk, within) = (step / PAIR_CHUNK, step % PAIR_CHUNK);
    let rest = steps - chunk * PAIR_CHUNK;
    let size = if rest < PAIR_CHUNK { rest } else { PAIR_CHUNK };
    chunk * PAIR_CHUNK * taps + tap * size + within
}

/// Where column `column` and depth `k` of a step are.
const fn pair_place(column: usize, k: usize) -> usize {
    let (tile, column) = (column / 16, column % 16);
    ((tile * 16 + k / 2) * 16 + column) * 2 + k % 2
}
