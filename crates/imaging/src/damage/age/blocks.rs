//! The traces of JPEG files: blocks of 8 × 8 pixels whose cosine coefficients are rounded.
//!
//! No file is written: the picture goes through the transform (ISO/IEC 10918-1, A.3.3) and its rounding, with the
//! standard's own tables, chroma at half the resolution.

use rayon::prelude::*;

use crate::geometry::Rect;
use crate::image::{Image, Samples};
use crate::imgproc::vectorized;
use crate::plane::Plane;

/// Tables K.1 and K.2 of the standard, row by row.
const LUMA: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];
const CHROMA: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// ½ · cos((2x + 1) u π / 16), for u = 1 … 7 by cos(k π / 16), and √⅛ for u = 0.
fn basis() -> [[f32; 8]; 8] {
    const COS: [f32; 8] = [
        1.0,
        0.980_785_3,
        0.923_879_5,
        0.831_469_6,
        std::f32::consts::FRAC_1_SQRT_2,
        0.555_570_2,
        0.382_683_43,
        0.195_090_32,
    ];
    std::array::from_fn(|u| {
        std::array::from_fn(|x| {
            if u == 0 {
                return 0.5 * COS[4];
            }
            // cos(k π / 16) has a period of 32, is even, and odd around 8.
            let k = (2 * x + 1) * u % 32;
            let k = k.min(32 - k);
            let value = match k {
                8 => 0.0,
                0..8 => COS[k],
                _ => -COS[16 - k],
            };
            0.5 * value
        })
    })
}

/// Leaves in a picture what a JPEG file of this `quality` would: 0 to 1, libjpeg's scale by 100. Alpha and metadata stay.
pub fn compress(image: &mut Image, quality: f32) {
    let (width, height) = image.size();
    let quality = (quality * 100.0).clamp(1.0, 100.0);
    let percent = if quality < 50.0 { 5000.0 / quality } else { 200.0 - 2.0 * quality };
    let steps = |table: [u8; 64]| {
        table.map(|step| (f32::from(step) * percent / 100.0).clamp(1.0, 255.0) / 255.0)
    };
    let planes = image.color_planes(Rect::new(0, 0, width, height));
    let mut planes = planes.into_iter();
    let (Some(first), green, blue) = (planes.next(), planes.next(), planes.next()) else { return };
    let (Some(green), Some(blue)) = (green, blue) else {
        let mut grey = first;
        round(&mut grey, &steps(LUMA));
        store(image, &[grey]);
        return;
    };
    // 1. Luma and the differences from it, chroma as means of 2 × 2 pixels.
    let mut red = first;
    let (mut green, mut blue) = (green, blue);
    let pixels = red.data_mut().iter_mut().zip(green.data_mut()).zip(blue.data_mut());
    for ((r, g), b) in pixels {
        let y = 0.299 * *r + 0.587 * *g + 0.114 * *b;
        (*r, *g, *b) = (y, (*b - y) * 0.564, (*r - y) * 0.713);
    }
    let (mut luma, mut cb, mut cr) = (red, halved(&green), halved(&blue));
    // 2. Rounding.
    round(&mut luma, &steps(LUMA));
    round(&mut cb, &steps(CHROMA));
    round(&mut cr, &steps(CHROMA));
    // 3. And back.
    for row in 0..height {
        let (cb, cr) = (cb.row(row / 2), cr.row(row / 2));
        let reds = luma.row_mut(row).iter_mut();
        let pixels = reds.zip(green.row_mut(row)).zip(blue.row_mut(row));
        for (x, ((r, g), b)) in pixels.enumerate() {
            let (y, cb, cr) = (*r, cb[x / 2], cr[x / 2]);
            (*r, *g, *b) = (y + 1.402 * cr, y - 0.344 * cb - 0.714 * cr, y + 1.772 * cb);
        }
    }
    store(image, &[luma, green, blue]);
}

/// Means of 2 × 2 pixels; at an odd border of what there is.
fn halved(plane: &Plane<f32>) -> Plane<f32> {
    let (width, height) = plane.size();
    let mut half = Vec::with_capacity(width.div_ceil(2) * height.div_ceil(2));
    for y in (0..height).step_by(2) {
        let (top, bottom) = (plane.row(y), plane.row((y + 1).min(height - 1)));
        let pairs = top.chunks(2).zip(bottom.chunks(2));
        half.extend(pairs.map(|(top, bottom)| {
            0.25 * (top[0] + top[top.len() - 1] + bottom[0] + bottom[bottom.len() - 1])
        }));
    }
    Plane::from_vec(width.div_ceil(2), height.div_ceil(2), half).expect("one mean for each pair")
}

/// Rounds the coefficients of each block to multiples of `steps`. Blocks over the border repeat its pixels.
fn round(plane: &mut Plane<f32>, steps: &[f32; 64]) {
    let (width, height) = plane.size();
    let basis = basis();
    plane.data_mut().par_chunks_mut(8 * width).enumerate().for_each(|(_, rows)| {
        vectorized(
            #[inline(always)]
            || {
                let lines = (rows.len() / width).min(height);
                for left in (0..width).step_by(8) {
                    let columns = (width - left).min(8);
                    let mut block = [[0.0_f32; 8]; 8];
                    for (y, line) in block.iter_mut().enumerate() {
                        let row = &rows[y.min(lines - 1) * width + left..][..columns];
                        for (x, value) in line.iter_mut().enumerate() {
                            *value = row[x.min(columns - 1)];
                        }
                    }
                    let coefficients = transform(&basis, &transform(&basis, &block));
                    let mut rounded = [[0.0_f32; 8]; 8];
                    for (v, row) in rounded.iter_mut().enumerate() {
                        for (u, value) in row.iter_mut().enumerate() {
                            // Transposed twice, so that the tables are read as they are written.
                            let step = steps[8 * v + u];
                            *value = (coefficients[v][u] / step).round_ties_even() * step;
                        }
                    }
                    let back = inverse(&basis, &inverse(&basis, &rounded));
                    for (y, line) in back.iter().enumerate().take(lines) {
                        let row = &mut rows[y * width + left..][..columns];
                        row.copy_from_slice(&line[..columns]);
                    }
                }
            },
        );
    });
}

/// `(B · block)ᵀ`: twice gives all coefficients, rows for the vertical frequency.
#[inline(always)]
fn transform(basis: &[[f32; 8]; 8], block: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
    let mut out = [[0.0_f32; 8]; 8];
    for u in 0..8 {
        let mut sum = [0.0_f32; 8];
        for y in 0..8 {
            for x in 0..8 {
                sum[x] += basis[u][y] * block[y][x];
            }
        }
        for x in 0..8 {
            out[x][u] = sum[x];
        }
    }
    out
}

/// `(Bᵀ · block)ᵀ`: twice undoes [`transform`] twice.
#[inline(always)]
fn inverse(basis: &[[f32; 8]; 8], block: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
    let mut out = [[0.0_f32; 8]; 8];
    for y in 0..8 {
        let mut sum = [0.0_f32; 8];
        for u in 0..8 {
            for x in 0..8 {
                sum[x] += basis[u][y] * block[u][x];
            }
        }
        for x in 0..8 {
            out[x][y] = sum[x];
        }
    }
    out
}

fn store(image: &mut Image, planes: &[Plane<f32>]) {
    use crate::damage::pixel::Sample;
    fn put<T: Sample>(samples: &mut [T], channels: usize, planes: &[Plane<f32>]) {
        for (channel, plane) in planes.iter().enumerate() {
            let values = samples.iter_mut().skip(channel).step_by(channels);
            for (value, &new) in values.zip(plane.data()) {
                *value = T::from_unit(new);
            }
        }
    }
    let channels = image.color().channels();
    match image.samples_mut() {
        Samples::U8(samples) => put(samples, channels, planes),
        Samples::U16(samples) => put(samples, channels, planes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ColorType;

    #[test]
    fn fine_steps_keep_a_block_and_coarse_ones_flatten_it() {
        let mut plane = Plane::from_fn(11, 13, |x, y| (x * 3 + y * 5 % 7) as f32 / 64.0);
        let before = plane.clone();
        round(&mut plane, &[1e-6; 64]);
        for (a, b) in plane.data().iter().zip(before.data()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        let mut steps = [100.0; 64];
        steps[0] = 1e-6;
        round(&mut plane, &steps);
        let corner = plane.get(0, 0);
        assert!((plane.get(7, 7) - corner).abs() < 1e-5 && (plane.get(8, 0) - corner).abs() > 0.01);
    }

    #[test]
    fn coarse_quality_changes_colours_and_alpha_stays() {
        let (width, height) = (19, 13);
        let pixel = |at: usize| {
            let value = if (at % width).is_multiple_of(3) { 200 } else { 60 };
            [value, value, value, (at % 256) as u8]
        };
        let samples: Vec<u8> = (0..width * height).flat_map(pixel).collect();
        for (quality, at_least, at_most) in [(1.0, 0, 3), (0.1, 20, 255)] {
            let samples = Samples::U8(samples.clone());
            let before = Image::new(width, height, ColorType::Rgba, samples).unwrap();
            let mut after = before.clone();
            compress(&mut after, quality);
            let (Samples::U8(before), Samples::U8(after)) = (before.samples(), after.samples())
            else {
                panic!("expected 8 bits");
            };
            let pixels = || before.chunks_exact(4).zip(after.chunks_exact(4));
            assert!(pixels().all(|(a, b)| a[3] == b[3]));
            let differences = pixels().flat_map(|(a, b)| (0..3).map(|c| a[c].abs_diff(b[c])));
            let largest = differences.max().unwrap();
            assert!((at_least..=at_most).contains(&largest), "{quality}: {largest}");
        }
    }
}
