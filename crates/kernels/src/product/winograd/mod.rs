//! 3×3 convolutions of stride 1 in f32 by minimal filtering: Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks" (2016).
//!
//! A tile of 2×2 outputs takes 16 products a channel where the direct sum takes 36. Inputs of a tile and weights are
//! transformed; at each of the 16 places of a tile, tiles by channels times channels by columns is then an ordinary
//! product; and sums are transformed back to outputs.
//!
//! A task is a block of tiles by a few panels of columns. Its inputs are transformed once and stay in the second-level
//! cache. Weights are transformed when they are needed, a block of channels of a panel at a time, for all tiles of the
//! task: kept, transformed weights would take 1.8 times the memory of the weights themselves.

mod transforms;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use self::transforms::{Four, Minimal, Two};
use super::packed::Side;
use super::rows::NO_TARGET;
use super::single::{Sweep, panel_of};
use super::{Block, Map, Tasks, Windowed, blocks};
use crate::buffer::Buffer;
use crate::gemm::{MAX_VECTORS, MAX_WIDTH};
use crate::simd::{Kernel, MAX_LANES, Simd, dispatch};

fn knob(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|x| x.parse().ok()).unwrap_or(default)
}

/// Outputs on a side of a tile, if a convolution is faster that way.
pub(crate) fn tile(side: &Side<'_>, map: &Map) -> Option<usize> {
    if side.packed().order.kernel != (3, 3) || map.stride != 1 {
        return None;
    }
    let tile = knob("W_TILE", 2);
    let tiles = map.images * map.out_height.div_ceil(tile) * map.out_width.div_ceil(tile);
    (tiles >= knob("W_MIN", 48) && side.depth() >= 16 && side.columns() >= 16).then_some(tile)
}

/// Multiplies and finishes all outputs.
///
/// # Panics
/// If the padded picture does not cover whole tiles, or is shorter than it says; the caller vouches for the output
/// ([`Epilogue::finish`](super::Epilogue::finish)).
pub(crate) fn multiply(call: &Windowed<'_, f32>) {
    match call.tile {
        2 => tiled::<Two, 4, 2>(call),
        4 => tiled::<Four, 6, 4>(call),
        other => unreachable!("tiles of {other}"),
    }
}

fn tiled<F: Minimal<N, M>, const N: usize, const M: usize>(call: &Windowed<'_, f32>) {
    let Windowed { map, a, side, .. } = call;
    let tiles = Tiles::<M>::new(*map);
    let (count, depth) = (tiles.count(), side.depth());
    if count == 0 || side.columns() == 0 {
        return;
    }
    let order = &side.packed().order;
    assert!(order.kernel == (3, 3) && map.stride == 1 && map.channels == depth, "a 3×3 kernel");
    assert!(
        map.padded.0 >= tiles.down * M + 2 && map.padded.1 >= tiles.across * M + 2,
        "the padded picture covers the tiles"
    );
    let corner = (N - 1) * (map.padded.1 + 1) * depth;
    let reach = tiles.offset(count - 1) + corner + depth.next_multiple_of(MAX_LANES);
    assert!(reach <= a.len(), "the tiles lie in the picture");
    let (step, most) = match side {
        Side::Forward(_) => (1, knob("W_DEPTH", 80)),
        // A transposed block starts with a panel.
        Side::Transposed(packed) => {
            let width = packed.order.width();
            (width, (knob("W_DEPTH", 96) / width).max(1) * width)
        }
    };
    let depths = blocks(1, depth, most, step);
    let width = side.vectors() * side.tier().lanes();
    let block = (knob("W_CACHE", 1280 << 10) / (4 * N * N * depth))
        .clamp(knob("W_LO", 64), knob("W_HI", 128))
        / 8
        * 8;
    let block = count.div_ceil(count.div_ceil(block)).next_multiple_of(8);
    let tasks = Tasks::new(count, block, side.columns().div_ceil(width), knob("W_TASKS", 4));
    let next = AtomicUsize::new(0);
    // Each thread takes task after task: scratch is megabytes, too much to make for each task.
    (0..rayon::current_num_threads().min(tasks.count())).into_par_iter().with_max_len(1).for_each(
        |_| {
            let mut scratch = Scratch::default();
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks.count() {
                    return;
                }
                let (rows, panels) = tasks.get(task);
                let task = Task::<F, N, M> {
                    call,
                    tiles,
                    depths: &depths,
                    piece: step.max(MAX_LANES),
                    rows,
                    panels,
                    scratch: &mut scratch,
                    filter: std::marker::PhantomData,
                };
                dispatch(side.tier(), task);
            }
        },
    );
}

/// Tiles of `M` by `M` outputs, in order; the last of a line or an image may reach over its end.
#[derive(Clone, Copy)]
struct Tiles<const M: usize> {
    map: Map,
    down: usize,
    across: usize,
}

impl<const M: usize> Tiles<M> {
    const fn new(map: Map) -> Self {
        Self { map, down: map.out_height.div_ceil(M), across: map.out_width.div_ceil(M) }
    }

    const fn count(&self) -> usize {
        self.map.images * self.down * self.across
    }

    /// Image, line and column of the tile's first output.
    const fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (image, within) = (tile / (self.down * self.across), tile % (self.down * self.across));
        (image, within / self.across * M, within % self.across * M)
    }

    /// Where the inputs of a tile start.
    const fn offset(&self, tile: usize) -> usize {
        let (image, y, x) = self.place(tile);
        let (height, width) = self.map.padded;
        ((image * height + y) * width + x) * self.map.channels
    }

    /// The output row of each output of a tile, line by line.
    fn targets(&self, tile: usize, to: &mut [usize]) {
        let (image, y, x) = self.place(tile);
        let Map { out_height, out_width, .. } = self.map;
        for (i, target) in to.iter_mut().enumerate() {
            let (y, x) = (y + i / M, x + i % M);
            let inside = y < out_height && x < out_width;
            *target = if inside { (image * out_height + y) * out_width + x } else { NO_TARGET };
        }
    }
}

#[derive(Default)]
struct Scratch {
    offsets: Vec<usize>,
    inputs: Buffer,
    /// Under each tap, the part of a panel that is transformed next.
    taps: [Buffer; 9],
    weights: Buffer,
    sums: Buffer,
}

struct Task<'a, F, const N: usize, const M: usize> {
    call: &'a Windowed<'a, f32>,
    tiles: Tiles<M>,
    depths: &'a [Block],
    /// Channels of a panel that are transformed at once.
    piece: usize,
    rows: Range<usize>,
    panels: Range<usize>,
    scratch: &'a mut Scratch,
    filter: std::marker::PhantomData<F>,
}

impl<F: Minimal<N, M>, const N: usize, const M: usize> Kernel for Task<'_, F, N, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { call, tiles, depths, piece, rows, panels, scratch, .. } = self;
        let Scratch { offsets, inputs, taps, weights, sums } = scratch;
        let side = &call.side;
        let depth = side.depth();
        let count = rows.len();
        let padded = count.next_multiple_of(S::TILE_ROWS);
        // 1. the inputs of all tiles, `[tile][place][channel]`; neighbours are not a multiple of 4 kB apart, which would
        // put them on the same lines of the first-level cache
        let stride = depth.next_multiple_of(MAX_LANES) + MAX_LANES;
        let per_tile = N * N * stride + MAX_LANES;
        let to = inputs.reserve(count * per_tile);
        let line = call.map.padded.1 * depth;
        for (at, tile) in rows.clone().enumerate() {
            let from = tiles.offset(tile);
            for channel in (0..depth).step_by(S::LANES) {
                // SAFETY: the last tile was checked in `tiled`; there is room for a tile's channels.
                unsafe {
                    let from = call.a.as_ptr().add(from + channel);
                    let to = to.add(at * per_tile + channel);
                    transforms::input::<S, F, N, M>(simd, from, (line, depth), to, stride);
                }
            }
        }
        // SAFETY: reserved, and initialised.
        let inputs = unsafe { std::slice::from_raw_parts(to, count * per_tile) };
        offsets.clear();
        // Rows that fill the last tile of registers are the last row again.
        offsets.extend((0..padded).map(|row| row.min(count - 1) * per_tile));
        let width = side.vectors() * S::LANES;
        let most = depths.iter().map(|block| block.len).max().unwrap_or(0);
        let weight_plane = most * width + MAX_LANES;
        let weights = weights.reserve(N * N * weight_plane);
        let sum_plane = padded * width + MAX_LANES;
        let sums = sums.reserve(N * N * sum_plane);
        for panel in panels {
            let first = panel * width;
            let vectors = (side.columns() - first).div_ceil(S::LANES).min(MAX_VECTORS);
            let vectors = vectors.min(side.vectors());
            let width = vectors * S::LANES;
            for (at, block) in depths.iter().enumerate() {
                // 2. the weights of the block, `[place][channel][column]`
                let end = block.start + block.len;
                for start in (block.start..end).step_by(piece) {
                    let len = piece.min(end - start);
                    let mut from = [std::ptr::null(); 9];
                    for tap in 0..9 {
                        let part = Block { tap, start, len };
                        // SAFETY: the part is one of the side's.
                        from[tap] =
                            unsafe { panel_of(simd, side, part, panel, vectors, &mut taps[tap]) };
                    }
                    let to = weights.wrapping_add((start - block.start) * width);
                    for at in (0..len * width).step_by(S::LANES) {
                        // SAFETY: inside the part, for which there is room.
                        unsafe {
                            let to = to.add(at);
                            transforms::weight::<S, F, N, M>(simd, &from, at, to, weight_plane);
                        }
                    }
                }
                // 3. a product at each place
                for place in 0..N * N {
                    let sweep = Sweep {
                        a: inputs,
                        offsets,
                        base: Some(place * stride + block.start),
                        low: (0, 0, 0),
                        b: weights.wrapping_add(place * weight_plane),
                        depth: block.len,
                        sums: sums.wrapping_add(place * sum_plane),
                        vectors,
                        accumulate: at > 0,
                    };
                    // Not inlined: the micro-kernel is compiled once a tier.
                    dispatch(S::TIER, sweep);
                }
            }
            // 4. the outputs of each tile
            let columns = first..first + width;
            let mut outputs = [0.0_f32; 16 * MAX_WIDTH];
            let mut targets = [NO_TARGET; 16];
            for (at, tile) in rows.clone().enumerate() {
                for column in (0..width).step_by(S::LANES) {
                    // SAFETY: inside the sums of the tile, and the block of its outputs.
                    unsafe {
                        let from = sums.add(at * width + column);
                        let to = outputs.as_mut_ptr().add(column);
                        transforms::output::<S, F, N, M>(simd, from, sum_plane, to, width);
                    }
                }
                tiles.targets(tile, &mut targets[..M * M]);
                let (targets, columns) = (&targets[..M * M], columns.clone());
                // SAFETY: the block has all rows and columns; the rest is the caller's word.
                unsafe { call.epilogue.finish(simd, targets, columns, outputs.as_ptr(), width) };
            }
        }
    }
}

#[cfg(test)]
mod tests;
