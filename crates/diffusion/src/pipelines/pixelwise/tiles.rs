//! A picture of any size through a [`PixelUnet`], in overlapping tiles.

use candle_core::{Device, Tensor};
use imaging::Rect;

use crate::error::Result;
use crate::models::PixelUnet;

/// A part of the picture, and the larger one around it that the network sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// What the network's answer is used for.
    pub(super) core: Rect,
    /// What it sees.
    pub(super) seen: Rect,
}

/// Cuts a picture into tiles whose cores cover it, each seen with `margin` pixels around where there are any. Cores are as
/// equal as they can be, and no side is longer than `side`.
pub(super) fn tiles((width, height): (usize, usize), side: usize, margin: usize) -> Vec<Tile> {
    let cuts = |length: usize| {
        let parts = length.div_ceil(side).max(1);
        (0..parts).map(move |part| (length * part / parts, length * (part + 1) / parts))
    };
    let tile = |(left, right): (usize, usize), (top, bottom): (usize, usize)| {
        let core = Rect::new(left, top, right - left, bottom - top);
        Tile { core, seen: core.grown(margin, width, height) }
    };
    cuts(height).flat_map(|rows| cuts(width).map(move |columns| tile(columns, rows))).collect()
}

/// The network's answer for the core of a tile: `core.area()` pixels of `out_channels` values, row by row.
///
/// `channels` are the planes of what is seen, in the order of the network's input; `seen.area()` values each.
pub(super) fn answer(unet: &PixelUnet, tile: Tile, channels: &[&[f32]]) -> Result<Vec<f32>> {
    let Tile { core, seen } = tile;
    let mut input = Vec::with_capacity(seen.area() * channels.len());
    for at in 0..seen.area() {
        input.extend(channels.iter().map(|channel| channel[at]));
    }
    let shape = (1, seen.height, seen.width, channels.len());
    let output = unet
        .forward(&Tensor::from_vec(input, shape, &Device::Cpu)?)?
        .narrow(1, core.y - seen.y, core.height)?
        .narrow(2, core.x - seen.x, core.width)?;
    Ok(output.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_cover_the_picture_once() {
        for size in [(1, 1), (10, 3), (100, 257), (64, 64), (65, 64)] {
            let tiles = tiles(size, 64, 7);
            let mut seen = vec![0; size.0 * size.1];
            for Tile { core, seen: around } in tiles {
                assert!(core.width <= 64 && core.height <= 64 && core.area() > 0);
                assert_eq!(around, core.grown(7, size.0, size.1));
                for y in core.y..core.bottom() {
                    (core.x..core.right()).for_each(|x| seen[y * size.0 + x] += 1);
                }
            }
            assert!(seen.iter().all(|&count| count == 1), "{size:?}");
        }
    }
}
