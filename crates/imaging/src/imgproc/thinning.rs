//! Skeletons: Guo and Hall, "Parallel thinning with two-subiteration algorithms" (CACM 1989), their
//! algorithm A1, as scikit-image's `morphology.thin`.
//!
//! Preferred to Zhang and Suen's rule, which leaves staircases two pixels thick on diagonal lines;
//! scikit-image's `skeletonize` mends these with a hand-made table that follows no published rule.

use rayon::prelude::*;

use crate::mask::Mask;

/// Pixels that one task looks at.
const CHUNK: usize = 1 << 14;

/// Thins the damaged pixels (weight above 0) to lines one pixel wide, keeping what hangs together.
///
/// With [`distance_transform`](super::distance_transform) it gives the lengths and widths of cracks: the
/// skeleton's pixels count the length, and twice the distance at each is the local width.
#[must_use]
pub fn thin(mask: &Mask) -> Mask {
    let (width, height) = mask.size();
    // A frame of kept pixels saves looking for the edge.
    let stride = width + 2;
    let mut pixels = vec![0u8; stride * (height + 2)];
    let mut damaged: Vec<usize> = Vec::new();
    for (y, row) in mask.plane().rows().enumerate() {
        for (x, _) in row.iter().enumerate().filter(|&(_, &weight)| weight > 0) {
            let index = (y + 1) * stride + x + 1;
            pixels[index] = 1;
            damaged.push(index);
        }
    }
    let tables = [removable(0), removable(1)];
    // Two half steps, from either side, until neither removes anything. Within one, every pixel is
    // judged by the same picture.
    loop {
        let before = damaged.len();
        for table in &tables {
            let removed: Vec<usize> = damaged
                .par_chunks(CHUNK)
                .flat_map_iter(|chunk| {
                    chunk.iter().copied().filter(|&i| table[neighbours(&pixels, stride, i)])
                })
                .collect();
            for &index in &removed {
                pixels[index] = 0;
            }
            if !removed.is_empty() {
                damaged.retain(|&index| pixels[index] != 0);
            }
        }
        if damaged.len() == before {
            break;
        }
    }
    let mut out = Mask::empty(width, height);
    for index in damaged {
        out.plane_mut().set(index % stride - 1, index / stride - 1, Mask::DAMAGED);
    }
    out
}

/// The eight neighbours as bits, counter-clockwise from the one on the right.
fn neighbours(pixels: &[u8], stride: usize, index: usize) -> usize {
    let above = &pixels[index - stride - 1..index - stride + 2];
    let below = &pixels[index + stride - 1..index + stride + 2];
    let (left, right) = (pixels[index - 1], pixels[index + 1]);
    let bits = [right, above[2], above[1], above[0], left, below[0], below[1], below[2]];
    bits.iter().rev().fold(0, |code, &bit| code << 1 | usize::from(bit))
}

/// Whether a pixel with given neighbours goes in the first (0) or the second (1) half step.
fn removable(half: usize) -> [bool; 256] {
    std::array::from_fn(|code| {
        let p = |i: usize| code >> (i % 8) & 1 == 1;
        // The branches that meet here: removing the pixel must not part them.
        let branches = [0, 2, 4, 6].iter().filter(|&&i| !p(i) && (p(i + 1) || p(i + 2))).count();
        // Neighbours in pairs, either way; one pair alone is the end of a line, which stays.
        let pairs = |offset: usize| {
            [0, 2, 4, 6].iter().filter(|&&i| p(i + offset) || p(i + offset + 1)).count()
        };
        let count = pairs(0).min(pairs(1));
        // The first half step works from the north-east, the second from the south-west.
        let start = 4 * half;
        let kept = (p(start + 1) || p(start + 2) || !p(start + 7)) && p(start);
        branches == 1 && (2..=3).contains(&count) && !kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_becomes_a_line() {
        let mask = Mask::from_fn(20, 7, |x, y| (2..18).contains(&x) && (2..5).contains(&y));
        let skeleton = thin(&mask);
        let rows: Vec<usize> = skeleton
            .plane()
            .rows()
            .map(|row| row.iter().filter(|&&weight| weight > 0).count())
            .collect();
        assert!(rows[3] >= 13 && rows.iter().sum::<usize>() == rows[3], "{rows:?}");
    }

    #[test]
    fn thin_masks_stay() {
        let line = Mask::from_fn(9, 9, |x, y| x == y);
        assert_eq!(thin(&line), line);
        assert_eq!(thin(&Mask::empty(0, 0)), Mask::empty(0, 0));
    }
}
