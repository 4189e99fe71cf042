//! Turns and mirrors pixels as the EXIF orientation says.
//!
//! Orientation 1 to 8 as in the Exif standard (tag 274): where row 0 and column 0 of the stored pixels belong
//! on the screen. Mirrors and the half turn work in place; the four that exchange rows and columns copy once,
//! in bands of rows, on all threads.

use rayon::prelude::*;

use crate::image::Samples;

/// Pixels a side of the blocks in which rows and columns are exchanged, so that both sides stay in the cache.
const BLOCK: usize = 32;

/// True if `orientation` exchanges width and height.
pub(super) const fn swaps_axes(orientation: u8) -> bool {
    matches!(orientation, 5..=8)
}

/// Applies `orientation` to `width × height` pixels of `channels` values and returns them with their new size.
///
/// An orientation outside `2 ..= 8` changes nothing.
pub(super) fn apply(
    samples: Samples,
    (width, height): (usize, usize),
    channels: usize,
    orientation: u8,
) -> (Samples, (usize, usize)) {
    let size = (width, height);
    let samples = match samples {
        Samples::U8(values) => Samples::U8(oriented(values, size, channels, orientation)),
        Samples::U16(values) => Samples::U16(oriented(values, size, channels, orientation)),
    };
    (samples, if swaps_axes(orientation) { (height, width) } else { size })
}

fn oriented<T: Copy + Default + Send + Sync>(
    mut values: Vec<T>,
    (width, height): (usize, usize),
    channels: usize,
    orientation: u8,
) -> Vec<T> {
    match (orientation, channels) {
        (2, _) => {
            values.par_chunks_exact_mut(width * channels).for_each(|row| mirror(row, channels));
            values
        }
        (3, _) => {
            mirror(&mut values, channels);
            values
        }
        (4, _) => {
            let stride = width * channels;
            let (top, bottom) = values.split_at_mut(height / 2 * stride);
            let skip = (height % 2) * stride;
            for (above, below) in
                top.chunks_exact_mut(stride).zip(bottom[skip..].chunks_exact_mut(stride).rev())
            {
                above.swap_with_slice(below);
            }
            values
        }
        (5..=8, 1) => exchanged::<T, 1>(&values, (width, height), orientation),
        (5..=8, 2) => exchanged::<T, 2>(&values, (width, height), orientation),
        (5..=8, 3) => exchanged::<T, 3>(&values, (width, height), orientation),
        (5..=8, 4) => exchanged::<T, 4>(&values, (width, height), orientation),
        _ => values,
    }
}

/// Reverses the order of the pixels of a row, or of a whole picture.
fn mirror<T: Copy>(values: &mut [T], channels: usize) {
    values.reverse();
    if channels > 1 {
        values.chunks_exact_mut(channels).for_each(<[T]>::reverse);
    }
}

fn exchanged<T: Copy + Default + Send + Sync, const CHANNELS: usize>(
    values: &[T],
    (width, height): (usize, usize),
    orientation: u8,
) -> Vec<T> {
    // Pixel (x, y) of the result, which is height × width, comes from column y or its mirror image, and from
    // row x or its mirror image.
    let (mirror_column, mirror_row) = (matches!(orientation, 7 | 8), matches!(orientation, 6 | 7));
    let (pixels, _) = values.as_chunks::<CHANNELS>();
    let mut result = vec![T::default(); values.len()];
    result.par_chunks_mut(height * CHANNELS * BLOCK).enumerate().for_each(|(band, rows)| {
        let (rows, _) = rows.as_chunks_mut::<CHANNELS>();
        for left in (0..height).step_by(BLOCK) {
            for (y, row) in rows.chunks_exact_mut(height).enumerate() {
                let y = band * BLOCK + y;
                let column = if mirror_column { width - 1 - y } else { y };
                let right = (left + BLOCK).min(height);
                for (x, pixel) in (left..right).zip(&mut row[left..right]) {
                    let source = if mirror_row { height - 1 - x } else { x };
                    *pixel = pixels[source * width + column];
                }
            }
        }
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_eight_orientations_of_a_small_picture() {
        // stored:  1 2 3
        //          4 5 6
        let stored = vec![1, 2, 3, 4, 5, 6];
        for (orientation, expected, size) in [
            (1, [1, 2, 3, 4, 5, 6], (3, 2)),
            (2, [3, 2, 1, 6, 5, 4], (3, 2)), // mirrored left to right
            (3, [6, 5, 4, 3, 2, 1], (3, 2)), // half a turn
            (4, [4, 5, 6, 1, 2, 3], (3, 2)), // mirrored top to bottom
            (5, [1, 4, 2, 5, 3, 6], (2, 3)), // transposed
            (6, [4, 1, 5, 2, 6, 3], (2, 3)), // a quarter turn clockwise
            (7, [6, 3, 5, 2, 4, 1], (2, 3)), // transposed along the other diagonal
            (8, [3, 6, 2, 5, 1, 4], (2, 3)), // a quarter turn anticlockwise
        ] {
            let (samples, found) = apply(Samples::U8(stored.clone()), (3, 2), 1, orientation);
            assert_eq!(samples, Samples::U8(expected.to_vec()), "orientation {orientation}");
            assert_eq!(found, size, "orientation {orientation}");
        }
    }

    proptest! {
        #[test]
        fn an_orientation_and_its_inverse_cancel(
            width in 1_usize..70, height in 1_usize..70, channels in 1_usize..=4, orientation in 1_u8..=8,
        ) {
            let values: Vec<u16> = (0..width * height * channels).map(|i| (i % 65_521) as u16).collect();
            let inverse = match orientation { 6 => 8, 8 => 6, same => same };
            let (once, size) = apply(Samples::U16(values.clone()), (width, height), channels, orientation);
            let (twice, back) = apply(once, size, channels, inverse);
            prop_assert_eq!(back, (width, height));
            prop_assert_eq!(twice, Samples::U16(values));
        }
    }
}
