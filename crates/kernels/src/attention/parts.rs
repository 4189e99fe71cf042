//! What backward passes share: how a call is cut up, and how its parts become gradients.

use std::ops::Range;

use rayon::prelude::*;

use super::heads::{Number, Sizes, View};
use super::pack::{Scratch, load, unpack_columns, write_row};
use super::{Attention, dispatch};
use crate::output::Target;
use crate::panel::PANEL_ROWS;
use crate::simd::{Kernel, Simd};

/// Tasks that a call is cut into, if its heads have keys for as many.
const TASKS: usize = 32;
/// Keys that are worth a task.
const MIN_CHUNK: usize = 128;

/// What the backward pass is given beside the output's logarithms.
pub(super) struct Inputs<'a, T> {
    pub(super) q: View<'a, T>,
    pub(super) k: View<'a, T>,
    pub(super) v: View<'a, T>,
    pub(super) out: View<'a, T>,
    /// Of the output.
    pub(super) grad: View<'a, T>,
    pub(super) logs: &'a [f32],
}

/// How a call is cut up. It depends on sizes and tier alone.
pub(super) struct Plan {
    pub(super) queries: usize,
    /// Queries in a panel.
    pub(super) width: usize,
    /// True if the last panel is as narrow as its queries allow.
    pub(super) narrows: bool,
    /// Panels of a head.
    pub(super) panels: usize,
    /// Features rounded up to rows of a product, and to its columns.
    pub(super) features: usize,
    pub(super) lanes: usize,
    /// Chunks of a head's keys, and the keys in one.
    pub(super) chunks: usize,
    pub(super) chunk_keys: usize,
    /// Numbers in a chunk's part of dQ, panel by panel as `(features, queries)`.
    pub(super) part: usize,
}

impl Plan {
    pub(super) fn new(
        sizes: &Sizes,
        key_block: usize,
        (width, narrows): (usize, bool),
        [features, lanes]: [usize; 2],
    ) -> Self {
        let most = sizes.keys.div_ceil(MIN_CHUNK);
        let wanted = TASKS.div_ceil(sizes.all_heads().max(1)).min(most);
        let chunk_keys = sizes.keys.div_ceil(wanted).next_multiple_of(key_block);
        let panels = sizes.queries.div_ceil(width);
        Self {
            queries: sizes.queries,
            width,
            narrows,
            panels,
            features,
            lanes,
            chunks: sizes.keys.div_ceil(chunk_keys),
            chunk_keys,
            part: panels * features * width,
        }
    }
    /// Queries of a panel.
    pub(super) fn rows(&self, panel: usize) -> Range<usize> {
        panel * self.width..((panel + 1) * self.width).min(self.queries)
    }
    /// Keys of a chunk.
    pub(super) fn keys(&self, chunk: usize, sizes: &Sizes) -> Range<usize> {
        chunk * self.chunk_keys..((chunk + 1) * self.chunk_keys).min(sizes.keys)
    }
}

/// Adds the chunks' parts of dQ for a panel.
pub(super) struct SumParts<'a, T> {
    op: &'a Attention,
    sizes: &'a Sizes,
    plan: &'a Plan,
    at: usize,
    panel: usize,
    /// Of this head.
    parts: &'a [f32],
    dq: Target<T>,
}

impl<'a, T: Number> SumParts<'a, T> {
    /// Adds all parts.
    pub(super) fn all(
        op: &'a Attention,
        sizes: &'a Sizes,
        plan: &'a Plan,
        parts: &[f32],
        dq: &mut [T],
    ) {
        let dq = Target::new(dq.as_mut_ptr());
        (0..sizes.all_heads() * plan.panels).into_par_iter().for_each(|index| {
            let (at, panel) = (index / plan.panels, index % plan.panels);
            let parts = &parts[at * plan.chunks * plan.part..][..plan.chunks * plan.part];
            dispatch(op.tier, SumParts { op, sizes, plan, at, panel, parts, dq });
        });
    }
}

impl<T: Number> Kernel for SumParts<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { op, sizes, plan, at, panel, parts, dq } = self;
        let rows = plan.rows(panel);
        let narrow = rows.len().next_multiple_of(S::LANES);
        let width = if plan.narrows { narrow } else { plan.width };
        let size = plan.features * plan.width;
        let mut scratch = Scratch::take();
        let [total, stage] = scratch.arrays([size, PANEL_ROWS * plan.features]);
        // SAFETY: parts and total have one size; rows of this panel of dQ are this task's.
        unsafe {
            for (chunk, part) in parts.chunks(plan.part).enumerate() {
                let part = part[panel * size..][..size].as_ptr();
                for i in (0..plan.features * width).step_by(S::LANES) {
                    let mut sum = simd.mul(simd.load(part.add(i)), simd.splat(op.scale));
                    if chunk > 0 {
                        sum = simd.add(sum, simd.load(total.add(i)));
                    }
                    simd.store(total.add(i), sum);
                }
            }
            let to = (dq.row(sizes.queries, sizes, at, rows.start), sizes.inner());
            unpack_columns(simd, total, width, rows.len(), sizes.d, stage, to);
        }
    }
}

/// Writes dK or dV of keys, times `scale`, from rows of `lanes` numbers. Who makes it vouches for both.
pub(super) struct WriteRows<'a, T> {
    pub(super) sizes: &'a Sizes,
    pub(super) at: usize,
    pub(super) keys: Range<usize>,
    pub(super) from: *mut f32,
    /// A multiple of a register.
    pub(super) lanes: usize,
    pub(super) scale: f32,
    pub(super) out: Target<T>,
}

impl<T: Number> Kernel for WriteRows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { sizes, at, keys, from, lanes, scale, out } = self;
        for (i, row) in keys.enumerate() {
            // SAFETY: the word of who made this.
            unsafe {
                let from = from.add(i * lanes);
                for j in (0..lanes).step_by(S::LANES) {
                    let scaled = simd.mul(simd.load(from.add(j)), simd.splat(scale));
                    simd.store(from.add(j), scaled);
                }
                write_row(simd, from, out.row(sizes.keys, sizes, at, row), sizes.d);
            }
        }
    }
}

/// `Σ a b` of rows.
#[inline(always)]
pub(super) fn dot<S: Simd, T: Number>(simd: S, a: &[T], b: &[T]) -> f32 {
    let mut sum = simd.zero();
    for (a, b) in a.chunks(S::LANES).zip(b.chunks(S::LANES)) {
        sum = simd.mul_add(load(simd, a), load(simd, b), sum);
    }
    simd.to_array(sum)[..S::LANES].iter().sum()
}
