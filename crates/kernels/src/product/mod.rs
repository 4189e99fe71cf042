//! Rows of activations times packed weights: what frozen convolutions and linear layers are made of.
//!
//! Weights are packed once ([`PackedWeight`]); activations are channels-last and are read where they lie. The depth of
//! a convolution's product is cut at its taps: under each tap, a row is a run of neighbouring channels of one pixel,
//! so that a tap is an offset into the (padded) picture and the im2col matrix never exists. What follows a product
//! (bias, non-linearity, residual) is done to each block of the output while it is in the first-level cache.
//!
//! There are two engines: one of f32 for every tier, and one of bf16 for tiers that multiply pairs of bf16. That of f32
//! takes 3×3 convolutions by tiles of outputs, with fewer products ([`winograd`]).
//! All sum each element over the depth in an order that depends on the depth alone: results do not depend on how the
//! work is split, nor on the number of threads.

mod epilogue;
mod packed;
mod packing;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod rows;
mod single;
mod transposed;
mod winograd;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::bf16;
use rayon::prelude::*;

use crate::simd::Real;

pub(crate) use self::epilogue::Epilogue;
pub use self::packed::PackedWeight;
pub(crate) use self::packed::{Packed, Side};
pub(crate) use self::rows::{Map, Rows};
#[cfg(target_arch = "x86_64")]
pub(crate) use self::transposed::transpose16;

/// Rows of activations times packed weights, another product's share beside them, and what comes after.
pub(crate) struct Call<'a, T> {
    pub(crate) rows: Rows,
    pub(crate) a: &'a [T],
    pub(crate) side: Side<'a>,
    /// Where the input under each tap is, from a row's start on.
    pub(crate) taps: &'a [usize],
    /// Rows of another, shallow product with the same columns, one after the other; each of its depth, or that rounded
    /// up to [`Engine::DEPTH_STEP`].
    pub(crate) extra: Option<(&'a [T], Side<'a>)>,
    pub(crate) epilogue: Epilogue<'a, T>,
}

/// A convolution of a padded picture, by tiles of outputs.
pub(crate) struct Windowed<'a, T> {
    pub(crate) map: Map,
    /// The padded pictures.
    pub(crate) a: &'a [T],
    pub(crate) side: Side<'a>,
    /// Outputs on a side of a tile.
    pub(crate) tile: usize,
    pub(crate) epilogue: Epilogue<'a, T>,
}

/// The type of activations, and the engine that multiplies them.
pub(crate) trait Engine: Real {
    /// Rows that the engine takes at once.
    const ROW_STEP: usize;
    /// What the depth under a tap is padded to, with zeros or anything finite.
    const DEPTH_STEP: usize;

    /// Multiplies and finishes all rows.
    ///
    /// # Panics
    /// If the activations are shorter than the rows say, or steps are not kept; the caller vouches for the output
    /// ([`Epilogue::finish`]).
    fn multiply(call: &Call<'_, Self>);

    /// Outputs on a side of a tile, if a convolution is faster by tiles ([`Engine::multiply_tiles`]).
    fn tile(_: &Side<'_>, _: &Map) -> Option<usize> {
        None
    }

    /// Multiplies and finishes all tiles.
    ///
    /// # Panics
    /// If the engine has no tiles of that side, or the padded picture does not cover them; the caller vouches for the
    /// output ([`Epilogue::finish`]).
    fn multiply_tiles(call: &Windowed<'_, Self>) {
        unreachable!("no tiles of {0} by {0}", call.tile);
    }
}

/// The deepest product that can ride along ([`Call::extra`]).
pub(crate) const MAX_EXTRA_DEPTH: usize = single::DEPTH_BLOCK;

impl Engine for f32 {
    const ROW_STEP: usize = 1;
    const DEPTH_STEP: usize = 1;
    fn multiply(call: &Call<'_, Self>) {
        single::multiply(call);
    }
    fn tile(side: &Side<'_>, map: &Map) -> Option<usize> {
        winograd::tile(side, map)
    }
    fn multiply_tiles(call: &Windowed<'_, Self>) {
        winograd::multiply(call);
    }
}

impl Engine for bf16 {
    const ROW_STEP: usize = 16;
    const DEPTH_STEP: usize = packed::PAIR_DEPTH;
    fn multiply(call: &Call<'_, Self>) {
        #[cfg(target_arch = "x86_64")]
        pairs::multiply(call);
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!(
            "no tier multiplies bf16 here, so that nothing is packed for it: {}",
            call.a.len()
        );
    }
}

/// A part of the depth: neighbouring channels under one tap, or all channels under several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// The first tap.
    pub(crate) tap: usize,
    pub(crate) taps: usize,
    /// The first channel.
    pub(crate) start: usize,
    /// Channels under each tap.
    pub(crate) len: usize,
}

impl Block {
    /// Its part under each tap.
    fn each_tap(self) -> impl Iterator<Item = Self> {
        (self.tap..self.tap + self.taps).map(move |tap| Self { tap, taps: 1, ..self })
    }

    /// Channels under all taps.
    const fn depth(self) -> usize {
        self.taps * self.len
    }
}

/// Cuts the depth of `taps` by `channels` into blocks of at most `most` channels in all, each but the last of a tap a
/// multiple of `step`. Few channels are taken under several taps at once.
pub(crate) fn blocks(taps: usize, channels: usize, most: usize, step: usize) -> Vec<Block> {
    let parts = channels.div_ceil(most).max(1);
    let size = channels.div_ceil(parts).next_multiple_of(step);
    let at_once = if parts == 1 { (most / channels.max(1)).clamp(1, taps.max(1)) } else { 1 };
    let at_once = taps.div_ceil(taps.div_ceil(at_once).max(1)).max(1);
    let mut blocks = Vec::with_capacity(taps.div_ceil(at_once) * parts);
    for tap in (0..taps).step_by(at_once) {
        for start in (0..channels).step_by(size.max(1)) {
            let (taps, len) = (at_once.min(taps - tap), size.min(channels - start));
            blocks.push(Block { tap, taps, start, len });
        }
    }
    blocks
}

/// How a product is cut into tasks.
#[derive(Clone, Copy, Debug)]
struct Tasks {
    rows: usize,
    row_block: usize,
    panels: usize,
    panel_block: usize,
}

impl Tasks {
    /// Tasks of up to `row_block` rows; fewer panels each if there are fewer tasks than `per_thread` otherwise.
    fn new(rows: usize, row_block: usize, panels: usize, per_thread: usize) -> Self {
        let wanted = per_thread * rayon::current_num_threads();
        let row_tasks = rows.div_ceil(row_block).max(1);
        let panel_tasks = wanted.div_ceil(row_tasks).clamp(1, panels.max(1));
        Self { rows, row_block, panels, panel_block: panels.div_ceil(panel_tasks).max(1) }
    }

    fn count(&self) -> usize {
        self.rows.div_ceil(self.row_block) * self.panels.div_ceil(self.panel_block)
    }

    /// Does each task with its rows and panels. Threads take task after task, each with scratch of its own: that may be
    /// megabytes, too much to make for each task.
    fn for_each<S>(
        &self,
        scratch: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, Range<usize>, Range<usize>) + Sync,
    ) {
        let count = self.count();
        let next = AtomicUsize::new(0);
        let threads = rayon::current_num_threads().min(count);
        (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
            let mut own = None;
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= count {
                    return;
                }
                let (rows, panels) = self.get(task);
                work(own.get_or_insert_with(&scratch), rows, panels);
            }
        });
    }

    /// Rows and panels of a task. Tasks of the same rows are neighbours in time, so that these stay in the cache.
    fn get(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let panel_tasks = self.panels.div_ceil(self.panel_block);
        let row = task / panel_tasks * self.row_block;
        let panel = task % panel_tasks * self.panel_block;
        (
            row..(row + self.row_block).min(self.rows),
            panel..(panel + self.panel_block).min(self.panels),
        )
    }
}

/// Rows in a task: as many as fit into a part of the second-level cache, a multiple of `step`.
fn rows_in_task(bytes_per_row: usize, step: usize) -> usize {
    const CACHE: usize = 768 << 10;
    (CACHE / bytes_per_row.max(1)).clamp(128, 512) / step * step
}
