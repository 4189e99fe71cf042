//! 3×3 convolutions of stride 1 in f32 by minimal filtering: Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks" (2016).
//!
//! A tile of 4×4 outputs takes 36 products a channel where the direct sum takes 144, one of 2×2 outputs 16 for 36.
//! Inputs of a tile and weights are transformed; at each of the 36 or 16 places of a tile, tiles by channels times
//! channels by columns is then an ordinary product; and sums are transformed back to outputs.
//!
//! Errors are those of the direct sum for tiles of 2×2, and some five times as large for tiles of 4×4: 2e-6 of the
//! largest output, whatever the depth, as blocks of it are summed on their own.
//!
//! A task is a block of tiles by a few panels of columns. Its inputs are transformed once and stay in the second-level
//! cache. Weights are transformed when they are needed, a block of channels of a panel at a time, for all tiles of the
//! task: kept, transformed weights would take up to four times the memory of the weights themselves.

mod transforms;

use std::ops::Range;

use self::transforms::{Four, Minimal, Two};
use super::epilogue::TileRows;
use super::packed::Side;
use super::single::{Sweep, panel_of};
use super::{Block, Map, Tasks, Windowed, blocks};
use crate::buffer::{Aligned, Buffer};
use crate::panel::MAX_VECTORS;
use crate::simd::{Kernel, MAX_LANES, Simd, dispatch};

/// Channels from which on transforms of inputs cost less than they save.
const LEAST_CHANNELS: usize = 4;
/// Outputs on a side of a tile, and tiles from which on it is worth while to transform the weights.
const LEAST_TILES: [(usize, usize); 2] = [(4, 9), (2, 16)];
/// The most channels whose weights are transformed at a time: with the widest tile and panel, 660 kB.
const DEPTH_BLOCK: usize = 96;
/// Transformed inputs of a task, more or less; but no fewer than 32 tiles of 4×4, or 64 of 2×2.
const INPUT_BYTES: usize = 1536 << 10;

/// Outputs on a side of a tile, if a convolution is faster by tiles.
pub(crate) fn tile(side: &Side<'_>, map: &Map) -> Option<usize> {
    let fits = side.packed().order.kernel == (3, 3) && map.stride == 1;
    if !fits || side.depth() < LEAST_CHANNELS {
        return None;
    }
    let tiles =
        |tile: usize| map.images * map.out_height.div_ceil(tile) * map.out_width.div_ceil(tile);
    LEAST_TILES.into_iter().find(|&(tile, least)| tiles(tile) >= least).map(|(tile, _)| tile)
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
    assert!(!call.epilogue.gated, "no layer of tiles is gated");
    assert!(order.kernel == (3, 3) && map.stride == 1 && map.channels == depth, "a 3×3 kernel");
    assert!(
        map.padded.0 >= tiles.down * M + 2 && map.padded.1 >= tiles.across * M + 2,
        "the padded picture covers the tiles"
    );
    let corner = (N - 1) * (map.padded.1 + 1) * depth;
    let reach = tiles.offset(tiles.place(count - 1)) + corner + depth.next_multiple_of(MAX_LANES);
    assert!(reach <= a.len(), "the tiles lie in the picture");
    // A transposed block starts with a panel.
    let step = match side {
        Side::Forward(_) => 1,
        Side::Transposed(_) => order.width(),
    };
    let depths = blocks(1, depth, (DEPTH_BLOCK / step).max(1) * step, step);
    let width = side.vectors() * side.tier().lanes();
    let block = (INPUT_BYTES / (4 * N * N * depth)).clamp(128 / M, 64) / 8 * 8;
    // Blocks are stretched or shortened to be alike: a short one would transform all weights again for a few tiles.
    let parts = ((2 * count + block) / (2 * block)).max(1);
    let block = count.div_ceil(parts).next_multiple_of(8);
    let tasks = Tasks::new(count, block, side.columns().div_ceil(width), 2);
    let most = depths.iter().map(|block| block.len).max().unwrap_or(0);
    let strides = Strides {
        channels: depth.next_multiple_of(MAX_LANES) + MAX_LANES,
        weights: most * width + MAX_LANES,
        sums: block * width + MAX_LANES,
    };
    tasks.for_each(
        || Scratch::new::<N>(strides, block),
        |scratch, rows, panels| {
            let task = Task::<F, N, M> {
                call,
                tiles,
                depths: &depths,
                strides,
                piece: step.max(MAX_LANES),
                rows,
                panels,
                scratch,
                filter: std::marker::PhantomData,
            };
            dispatch(side.tier(), task);
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
    const fn offset(&self, (image, y, x): (usize, usize, usize)) -> usize {
        let (height, width) = self.map.padded;
        ((image * height + y) * width + x) * self.map.channels
    }

    /// The output rows of a tile.
    fn rows(&self, (image, y, x): (usize, usize, usize)) -> TileRows {
        let Map { out_height, out_width, .. } = self.map;
        TileRows {
            first: (image * out_height + y) * out_width + x,
            line: out_width,
            lines: M.min(out_height - y),
            across: M.min(out_width - x),
        }
    }

    /// The places of tiles from one on, without the divisions of [`Tiles::place`].
    fn places(self, first: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let (height, width) = (self.down * M, self.across * M);
        std::iter::successors(Some(self.place(first)), move |&(image, y, x)| {
            Some(if x + M < width {
                (image, y, x + M)
            } else if y + M < height {
                (image, y + M, 0)
            } else {
                (image + 1, 0, 0)
            })
        })
    }
}

/// Numbers between neighbours in scratch. None is a multiple of 4 kB, which would put the places of a tile on the same
/// lines of the first-level cache.
#[derive(Clone, Copy)]
struct Strides {
    /// Between places of a tile's inputs.
    channels: usize,
    /// Between places of a block of weights.
    weights: usize,
    /// Between places of the sums.
    sums: usize,
}

struct Scratch {
    offsets: Vec<usize>,
    /// `[tile][place][channel]`
    inputs: Aligned<f32>,
    /// Under each tap, the part of a panel that is transformed next.
    taps: [Buffer; 9],
    /// `[place][channel][column]`
    weights: Aligned<f32>,
    /// `[place][tile][column]`
    sums: Aligned<f32>,
}

impl Scratch {
    /// For tasks of up to `block` tiles.
    fn new<const N: usize>(strides: Strides, block: usize) -> Self {
        // SAFETY: a task reads only what it wrote.
        let room = |numbers: usize| unsafe { Aligned::uninitialised(numbers) };
        Self {
            offsets: Vec::new(),
            inputs: room(block * strides.tile::<N>()),
            taps: Default::default(),
            weights: room(N * N * strides.weights),
            sums: room(N * N * strides.sums),
        }
    }
}

impl Strides {
    /// Between the inputs of tiles.
    const fn tile<const N: usize>(self) -> usize {
        N * N * self.channels + MAX_LANES
    }
}

struct Task<'a, F, const N: usize, const M: usize> {
    call: &'a Windowed<'a, f32>,
    tiles: Tiles<M>,
    depths: &'a [Block],
    strides: Strides,
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
        let Self { call, tiles, depths, strides, piece, rows, panels, scratch, .. } = self;
        let Scratch { offsets, inputs, taps, weights, sums } = scratch;
        let (inputs, weights, sums) =
            (inputs.as_mut_ptr(), weights.as_mut_ptr(), sums.as_mut_ptr());
        let side = &call.side;
        let (depth, width) = (side.depth(), side.vectors() * S::LANES);
        let last = rows.len() - 1;
        // 1. the inputs of all tiles
        // One loop over tiles and channels: of two, the compiler finds all addresses of a tile before the inner one, which took a
        // quarter of the time for few channels.
        let line = call.map.padded.1 * depth;
        let vectors = depth.div_ceil(S::LANES);
        let mut places = tiles.places(rows.start);
        let (mut from, mut to, mut left) = (call.a.as_ptr(), inputs, 0);
        for step in 0..rows.len() * vectors {
            if left == 0 {
                let place = places.next().unwrap_or_default();
                from = call.a.as_ptr().wrapping_add(tiles.offset(place));
                to = inputs.wrapping_add(step / vectors * strides.tile::<N>());
                left = vectors;
            }
            // SAFETY: the last tile was checked in `tiled`; there is room for a tile's channels.
            unsafe {
                transforms::input::<S, F, N, M>(simd, from, (line, depth), to, strides.channels);
            }
            (from, to, left) = (from.wrapping_add(S::LANES), to.wrapping_add(S::LANES), left - 1);
        }
        offsets.clear();
        // Rows that fill the last tile of registers are the last row again.
        let padded = rows.len().next_multiple_of(S::TILE_ROWS);
        offsets.extend((0..padded).map(|row| row.min(last) * strides.tile::<N>()));
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
                        let part = Block { tap, taps: 1, start, len };
                        // SAFETY: the part is one of the side's.
                        from[tap] =
                            unsafe { panel_of(simd, side, part, panel, vectors, &mut taps[tap]) };
                    }
                    let to = weights.wrapping_add((start - block.start) * width);
                    for at in (0..len * width).step_by(S::LANES) {
                        // SAFETY: inside the part, for which there is room.
                        unsafe {
                            let to = to.add(at);
                            transforms::weight::<S, F, N, M>(simd, &from, at, to, strides.weights);
                        }
                    }
                }
                // 3. a product at each place, of inputs and weights that were just written
                for place in 0..N * N {
                    let sweep = Sweep {
                        a: inputs,
                        offsets,
                        low: None,
                        bases: &[place * strides.channels + block.start],
                        b: weights.wrapping_add(place * strides.weights),
                        depth: block.len,
                        sums: sums.wrapping_add(place * strides.sums),
                        vectors,
                        accumulate: at > 0,
                    };
                    // Not inlined: the micro-kernel is compiled once a tier.
                    dispatch(S::TIER, sweep);
                }
            }
            // 4. the outputs of each tile
            let epilogue = call.epilogue;
            for (at, place) in tiles.places(rows.start).take(rows.len()).enumerate() {
                let tile = tiles.rows(place);
                for column in (0..width).step_by(S::LANES) {
                    // SAFETY: inside the sums of the tile; what is written is the caller's word.
                    unsafe {
                        let from = sums.add(at * width + column);
                        let outputs = transforms::output::<S, F, N, M>(simd, from, strides.sums);
                        epilogue.finish_tile(simd, &tile, first + column, outputs);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
