//! A picture of any size through a [`PixelUnet`], in overlapping tiles.

use candle_core::{Device, Tensor};
use imaging::{Mask, Observer, Rect};

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

/// What one more tile costs, in pixels that are seen.
const CALL: usize = 4096;
/// Cores that are no longer than this are not cut.
const LEAST: usize = 32;

/// [`tiles`] for an answer that is wanted where `wanted` has weight alone: their cores are cut in halves and shrunk to what
/// is wanted of them wherever less is seen in all.
pub(super) fn tiles_of(wanted: &Mask, side: usize, margin: usize) -> Vec<Tile> {
    let size = (wanted.width(), wanted.height());
    let cut = |tile: Tile| cheapest(wanted, tile.core, margin).0;
    tiles(size, side, margin).into_iter().flat_map(cut).collect()
}

/// The tiles of what is wanted of a core, and what they cost.
fn cheapest(wanted: &Mask, core: Rect, margin: usize) -> (Vec<Tile>, usize) {
    let Some(part) = Mask::from_plane(wanted.plane().crop(core)).bounding_box() else {
        return (Vec::new(), 0);
    };
    let core = Rect::new(core.x + part.x, core.y + part.y, part.width, part.height);
    let whole = Tile { core, seen: core.grown(margin, wanted.width(), wanted.height()) };
    let cost = whole.seen.area() + CALL;
    if core.width.max(core.height) <= LEAST {
        return (vec![whole], cost);
    }
    let halves = halves(core).map(|half| cheapest(wanted, half, margin));
    let in_halves = halves.iter().map(|(_, cost)| cost).sum();
    if cost <= in_halves {
        return (vec![whole], cost);
    }
    (halves.into_iter().flat_map(|(tiles, _)| tiles).collect(), in_halves)
}

/// Cut across the longer side.
fn halves(rect: Rect) -> [Rect; 2] {
    let Rect { x, y, width, height } = rect;
    if width > height {
        let left = width / 2;
        return [Rect::new(x, y, left, height), Rect::new(x + left, y, width - left, height)];
    }
    let top = height / 2;
    [Rect::new(x, y, width, top), Rect::new(x, y + top, width, height - top)]
}

/// What `ask` says of each tile, in their order. Two are asked about at a time: threads that one leaves idle between its
/// layers, the other takes.
///
/// # Errors
/// Those of `ask`, and `Cancelled`.
pub(super) fn ask_all<T: Send>(
    tiles: &[Tile],
    (stage, observer): (&'static str, &dyn Observer),
    ask: impl Fn(Tile) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let total = tiles.len() as u64;
    let mut answers = Vec::with_capacity(tiles.len());
    for tiles in tiles.chunks(2) {
        observer.progress(stage, answers.len() as u64, total);
        observer.check()?;
        let (first, second) =
            rayon::join(|| ask(tiles[0]), || tiles.get(1).map(|&tile| ask(tile)).transpose());
        answers.push(first?);
        answers.extend(second?);
    }
    observer.progress(stage, total, total);
    Ok(answers)
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
    use imaging::Plane;

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

    #[test]
    fn tiles_of_what_is_wanted_cover_it_once_and_see_less() {
        // A long line, a block and a pixel.
        let mut wanted = Plane::filled(300, 200, 0_u8);
        (0..290).for_each(|x| wanted.row_mut(x * 199 / 300)[x] = 255);
        (150..190).for_each(|y| wanted.row_mut(y)[20..60].fill(9));
        wanted.row_mut(3)[297] = 1;
        let wanted = Mask::from_plane(wanted);
        let tiles_of_it = tiles_of(&wanted, 200, 8);
        let mut seen = Plane::filled(300, 200, 0);
        for Tile { core, seen: around } in &tiles_of_it {
            assert!(core.width <= 200 && core.height <= 200);
            assert_eq!(*around, core.grown(8, 300, 200));
            for y in core.y..core.bottom() {
                seen.row_mut(y)[core.x..core.right()].iter_mut().for_each(|count| *count += 1);
            }
        }
        assert!(seen.data().iter().all(|&count| count <= 1));
        let mut pairs = seen.data().iter().zip(wanted.plane().data());
        assert!(pairs.all(|(&count, &weight)| weight == 0 || count == 1));
        let area = |tiles: &[Tile]| tiles.iter().map(|tile| tile.seen.area() + CALL).sum::<usize>();
        let all = area(&tiles((300, 200), 200, 8));
        assert!(area(&tiles_of_it) * 5 < all * 4, "{} of {all}", area(&tiles_of_it));
        assert!(tiles_of(&Mask::from_plane(Plane::filled(70, 60, 0)), 64, 8).is_empty());
    }

    #[test]
    fn answers_come_in_the_order_of_the_tiles() {
        let tiles = tiles((100, 90), 30, 0);
        let found = ask_all(&tiles, ("ask", &imaging::Silent), |tile| Ok(tile.core));
        let cores: Vec<_> = tiles.iter().map(|tile| tile.core).collect();
        assert_eq!(found.expect("answers"), cores);
        let failing = |tile: Tile| match tile == tiles[3] {
            true => Err(crate::error::DiffusionError::argument("tile", "another", 3)),
            false => Ok(()),
        };
        assert!(ask_all(&tiles, ("ask", &imaging::Silent), failing).is_err());
    }
}
