//! The gradient by a weight: for each tap, the sum over outputs of the outer product of the channels that the output saw
//! under it and the gradient by the output.
//!
//! A product whose depth is the pixels. Registers hold a few channels by a few registers of outputs while a block of
//! pixels passes, for each of which channels are broadcast. Channels and gradients are copied for that, eight channels
//! or a panel of outputs together, with the zeros around the picture; so a tap is an offset.
//!
//! A task is a part of the pixels by a range of channels. Sizes alone decide about parts, and these are summed in order:
//! results do not depend on the number of threads.

mod pack;
mod sweep;

use std::ops::Range;

use rayon::prelude::*;

use self::pack::{channels_room, pack_channels, pack_gradients};
use self::sweep::Sweep;
use crate::buffer::{Aligned, Buffer};
use crate::frozen::ConvShape;
use crate::isa::Tier;
use crate::output::{Target, written};
use crate::panel::{Element, MAX_VECTORS};
use crate::simd::{Kernel, Real, Simd, dispatch};

/// Channels that are copied together.
const CHANNELS: usize = 8;
/// Outputs in a block, more or less: with a panel of gradients, 24 kB.
const BLOCK: usize = 128;
/// Channels in a task, by [`CHANNELS`].
const MOST_GROUPS: usize = 8;
/// Bytes of all parts' sums.
const MOST_BYTES: usize = 16 << 20;
/// Parts of the pixels.
const MOST_PARTS: usize = 64;

/// The gradients by a layer's weight and bias.
pub(crate) struct Gradients {
    /// `(outputs, channels, taps)`.
    pub(crate) weight: Vec<f32>,
    /// `(outputs)`.
    pub(crate) bias: Vec<f32>,
}

/// The gradients by weight and bias of a convolution of `xs`, `(images, size.0, size.1, channels)`, from that by its
/// output, `grad`, `(images, out.0, out.1, outputs)`.
///
/// # Panics
/// If a slice has another size.
pub(crate) fn weight_gradient<T: Real + Element>(
    tier: Tier,
    xs: &[T],
    grad: &[T],
    shape: ConvShape,
) -> Gradients {
    let ConvShape { images, channels, outputs, size, out, .. } = shape;
    assert_eq!(xs.len(), images * size.0 * size.1 * channels, "the input's size");
    assert_eq!(grad.len(), images * out.0 * out.1 * outputs, "the output's size");
    let plan = Plan::new(tier, shape);
    if outputs == 0 || plan.blocks() == 0 {
        let weight = vec![0.0; outputs * channels * shape.taps()];
        return Gradients { weight, bias: vec![0.0; outputs] };
    }
    // SAFETY: each task writes the sums of its part and range, and the first ranges those of the bias.
    let mut sums: Aligned<f32> =
        unsafe { Aligned::uninitialised(plan.parts * (plan.numbers() + plan.columns)) };
    let to = Target::new(sums.as_mut_ptr());
    (0..plan.parts * plan.ranges()).into_par_iter().with_max_len(1).for_each_init(
        Scratch::default,
        |scratch, task| {
            let (part, range) = (task / plan.ranges(), task % plan.ranges());
            let first = range * plan.groups_in_task;
            let groups = first..(first + plan.groups_in_task).min(plan.groups);
            // SAFETY: the places of this task's sums, and of its part's bias.
            let (sums, bias) = unsafe {
                (
                    to.at(part * plan.numbers() + groups.start * plan.group()),
                    to.at(plan.parts * plan.numbers() + part * plan.columns),
                )
            };
            let bias = (range == 0).then_some(bias);
            dispatch(tier, Task { plan: &plan, xs, grad, part, groups, sums, bias, scratch });
        },
    );
    plan.sum(sums.as_slice())
}

/// The gradient by a bias, `(outputs)`, from that by the output, `(.., outputs)`.
pub(crate) fn bias_gradient<T: Real + Element>(tier: Tier, grad: &[T], outputs: usize) -> Vec<f32> {
    let shape = ConvShape::linear(grad.len() / outputs.max(1), 0, outputs);
    weight_gradient::<T>(tier, &[], grad, shape).bias
}

/// How the work is cut.
struct Plan {
    shape: ConvShape,
    /// Groups of channels, all and in a task.
    groups: usize,
    groups_in_task: usize,
    /// Registers of outputs, and their numbers.
    vectors: usize,
    columns: usize,
    /// Lines and columns of outputs in a block, and blocks of an image.
    lines: usize,
    across: usize,
    per_image: (usize, usize),
    parts: usize,
}

/// Outputs of one image.
struct Block {
    image: usize,
    lines: Range<usize>,
    across: Range<usize>,
}

impl Plan {
    fn new(tier: Tier, shape: ConvShape) -> Self {
        let (height, width) = shape.out;
        let groups = shape.channels.div_ceil(CHANNELS);
        let vectors = shape.outputs.div_ceil(tier.lanes());
        let columns = vectors * tier.lanes();
        let across = width.div_ceil(width.div_ceil(BLOCK).max(1)).max(1);
        let lines = (BLOCK / across).clamp(1, height.max(1));
        let lines = height.div_ceil(height.div_ceil(lines).max(1)).max(1);
        let per_image = (height.div_ceil(lines), width.div_ceil(across));
        let ranges = groups.div_ceil(MOST_GROUPS).max(1);
        let mut plan = Self {
            shape,
            groups,
            groups_in_task: groups.div_ceil(ranges).max(1),
            vectors,
            columns,
            lines,
            across,
            per_image,
            parts: 1,
        };
        let bytes = 4 * (plan.numbers() + columns).max(1);
        plan.parts =
            (MOST_BYTES / bytes).clamp(1, MOST_PARTS).min(plan.blocks().div_ceil(4)).max(1);
        plan
    }

    /// Numbers of a group's sums, and of all.
    const fn group(&self) -> usize {
        self.shape.taps() * CHANNELS * self.columns
    }
    const fn numbers(&self) -> usize {
        self.groups * self.group()
    }
    const fn blocks(&self) -> usize {
        self.shape.images * self.per_image.0 * self.per_image.1
    }
    /// Ranges of channels; without channels there is one, for the sake of the bias.
    fn ranges(&self) -> usize {
        self.groups.div_ceil(self.groups_in_task).max(1)
    }
    /// Panels of outputs, as even as they can be.
    const fn panels(&self) -> usize {
        self.vectors.div_ceil(MAX_VECTORS)
    }
    /// The first register of a panel.
    const fn first(&self, panel: usize) -> usize {
        panel * self.vectors / self.panels()
    }
    /// The blocks of a part.
    const fn blocks_of(&self, part: usize) -> Range<usize> {
        part * self.blocks() / self.parts..(part + 1) * self.blocks() / self.parts
    }
    fn block(&self, at: usize) -> Block {
        let (down, across) = self.per_image;
        let line = at / across % down * self.lines;
        let column = at % across * self.across;
        Block {
            image: at / (down * across),
            lines: line..(line + self.lines).min(self.shape.out.0),
            across: column..(column + self.across).min(self.shape.out.1),
        }
    }

    /// The sums of all parts, in the order of the weight.
    fn sum(&self, sums: &[f32]) -> Gradients {
        let ConvShape { channels, outputs, .. } = self.shape;
        let (taps, columns) = (self.shape.taps(), self.columns);
        let (weights, biases) = sums.split_at(self.parts * self.numbers());
        let add = |total: &mut [f32], part: &[f32]| {
            for (total, part) in total.iter_mut().zip(part) {
                *total += part;
            }
        };
        let mut bias = vec![0.0; columns];
        biases.chunks_exact(columns).for_each(|part| add(&mut bias, part));
        bias.truncate(outputs);
        // SAFETY: each channel's numbers are written, of each output.
        let weight = unsafe {
            written(outputs * channels * taps, |to: &Target<f32>| {
                (0..channels).into_par_iter().for_each_init(Vec::new, |total, channel| {
                    total.clear();
                    total.resize(taps * columns, 0.0_f32);
                    let within = channel / CHANNELS * self.group() + channel % CHANNELS * columns;
                    for part in weights.chunks_exact(self.numbers()) {
                        for (tap, total) in total.chunks_exact_mut(columns).enumerate() {
                            let from = within + tap * CHANNELS * columns;
                            add(total, &part[from..from + columns]);
                        }
                    }
                    for output in 0..outputs {
                        for tap in 0..taps {
                            let at = (output * channels + channel) * taps + tap;
                            to.at(at).write(total[tap * columns + output]);
                        }
                    }
                });
            })
        };
        Gradients { weight, bias }
    }
}

#[derive(Default)]
struct Scratch {
    channels: Buffer,
    gradients: Buffer,
}

/// A part of the pixels by a range of channels.
struct Task<'a, T> {
    plan: &'a Plan,
    xs: &'a [T],
    grad: &'a [T],
    part: usize,
    groups: Range<usize>,
    /// `[group][tap][channel][column]`.
    sums: *mut f32,
    /// `[column]`, if this task is the one to write it.
    bias: Option<*mut f32>,
    scratch: &'a mut Scratch,
}

impl<T: Real + Element> Kernel for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { plan, xs, grad, part, groups, sums, bias, scratch } = self;
        let ConvShape { kernel, stride, .. } = plan.shape;
        // SAFETY: this task's sums.
        unsafe {
            sums.write_bytes(0, groups.len() * plan.group());
            if let Some(bias) = bias {
                bias.write_bytes(0, plan.columns);
            }
        }
        for at in plan.blocks_of(part) {
            let block = plan.block(at);
            let (lines, across) = (block.lines.len(), block.across.len());
            let seen = ((lines - 1) * stride + kernel.0, (across - 1) * stride + kernel.1);
            let room = channels_room(seen, groups.len());
            let channels = scratch.channels.reserve(room);
            // SAFETY: there is room; sizes were checked in `weight_gradient`.
            unsafe { pack_channels(&plan.shape, xs, &block, seen, &groups, channels) };
            for panel in 0..plan.panels() {
                let first = plan.first(panel);
                let vectors = plan.first(panel + 1) - first;
                let gradients = scratch.gradients.reserve(lines * across * vectors * S::LANES);
                let column = first * S::LANES;
                // SAFETY: there is room for the panel; the bias has the panel's columns.
                unsafe {
                    let bias = bias.map(|bias| bias.add(column));
                    pack_gradients(
                        simd,
                        &plan.shape,
                        grad,
                        &block,
                        (column, vectors),
                        gradients,
                        bias,
                    );
                }
                for group in 0..groups.len() {
                    for tap in 0..plan.shape.taps() {
                        let (down, right) = (tap / kernel.1, tap % kernel.1);
                        let from = (down * groups.len() + group) * seen.1 + right;
                        let to = group * plan.group() + tap * CHANNELS * plan.columns + column;
                        let sweep = Sweep {
                            channels: channels.wrapping_add(from * CHANNELS),
                            channels_line: stride * groups.len() * seen.1 * CHANNELS,
                            channels_step: stride * CHANNELS,
                            gradients,
                            lines,
                            across,
                            sums: sums.wrapping_add(to),
                            columns: plan.columns,
                        };
                        // SAFETY: what was packed reaches to the last output's tap; the sums are this task's.
                        unsafe { sweep.run(simd, vectors) };
                    }
                }
            }
        }
    }
}
