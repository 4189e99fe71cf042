//! Structural similarity: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image Quality Assessment: From
//! Error Visibility to Structural Similarity", 2004, with the choices of scikit-image's `structural_similarity`.
//!
//! Those choices: sample covariance (divided by N − 1), K1 = 0.01, K2 = 0.03, each colour channel by itself and
//! then averaged, and only windows that lie wholly inside the picture. Samples are integers, so the running sums
//! of the uniform window are exact in `f64` and the result does not depend on how the picture is cut into tiles.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::Pair;
use crate::error::{ImagingError, Result};
use crate::geometry::Rect;
use crate::image::Image;
use crate::mask::Mask;

/// Window positions across and down a tile: the running sums of a tile stay in the cache.
const TILE: usize = 256;

/// The window that local means and covariances are taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SsimWindow {
    /// 7×7, all pixels alike: scikit-image's default.
    #[default]
    Uniform,
    /// 11×11, Gaussian weights of σ = 1.5: scikit-image's `gaussian_weights=True`.
    Gaussian,
}

impl SsimWindow {
    /// Pixels along a side.
    #[must_use]
    pub const fn side(self) -> usize {
        match self {
            Self::Uniform => 7,
            Self::Gaussian => 11,
        }
    }

    /// The weights along one side. Those of the uniform window are 1, so that sums of samples stay whole numbers.
    fn weights(self) -> Vec<f64> {
        match self {
            Self::Uniform => vec![1.0; self.side()],
            Self::Gaussian => {
                let radius = (self.side() / 2) as i32;
                let raw: Vec<f64> = (-radius..=radius)
                    .map(|x| (-0.5 * f64::from(x * x) / (1.5 * 1.5)).exp())
                    .collect();
                let sum: f64 = raw.iter().sum();
                raw.iter().map(|weight| weight / sum).collect()
            }
        }
    }
}

/// Mean structural similarity, `-1 ..= 1`, 1 for equal pictures.
///
/// # Errors
/// What [`check_comparable`](super::check_comparable) says, and [`ImagingError::Argument`] for a picture
/// smaller than the window.
pub fn ssim(reference: &Image, test: &Image, window: SsimWindow) -> Result<f64> {
    ssim_inside(reference, test, reference.bounds(), window)
}

/// [`ssim`] over the bounding box of the mask's weights above 0, grown where it is smaller than the window;
/// `None` for an empty mask.
///
/// # Errors
/// As [`ssim`], and [`ImagingError::Size`] for a mask of another size.
pub fn box_ssim(
    reference: &Image,
    test: &Image,
    mask: &Mask,
    window: SsimWindow,
) -> Result<Option<f64>> {
    ImagingError::check_size("mask", reference.size(), mask.size())?;
    let Some(found) = mask.bounding_box() else { return Ok(None) };
    // A box shorter than the window is widened around its centre, and moved back inside the picture.
    let widen = |start: usize, length: usize, limit: usize| {
        let wanted = length.max(window.side()).min(limit);
        ((start.saturating_sub((wanted - length.min(wanted)) / 2)).min(limit - wanted), wanted)
    };
    let (x, width) = widen(found.x, found.width, reference.width());
    let (y, height) = widen(found.y, found.height, reference.height());
    ssim_inside(reference, test, Rect::new(x, y, width, height), window).map(Some)
}

fn ssim_inside(reference: &Image, test: &Image, rect: Rect, window: SsimWindow) -> Result<f64> {
    let pair = Pair::new(reference, test)?;
    let side = window.side();
    if rect.width < side || rect.height < side {
        return Err(ImagingError::argument(
            "image to compare",
            format!("at least {side}×{side} pixels, the window of SSIM"),
            format!("{}×{}", rect.width, rect.height),
        ));
    }
    let max = f64::from(reference.samples().max_value());
    let pixels = (side * side) as f64;
    let kernel = Kernel {
        running: window == SsimWindow::Uniform,
        scale: if window == SsimWindow::Uniform { 1.0 / pixels } else { 1.0 },
        weights: window.weights(),
        covariance: pixels / (pixels - 1.0),
        c1: (0.01 * max).powi(2),
        c2: (0.03 * max).powi(2),
        color: reference.color().color_channels(),
    };
    let layout = |image: &Image| (image.width(), image.color().channels());
    let layouts = (layout(reference), layout(test));
    let sum = match pair {
        Pair::U8(a, b) => kernel.sum(&Grid::new(a, layouts.0), &Grid::new(b, layouts.1), rect),
        Pair::U16(a, b) => kernel.sum(&Grid::new(a, layouts.0), &Grid::new(b, layouts.1), rect),
    };
    let windows = (rect.width - side + 1) * (rect.height - side + 1);
    Ok(sum / (windows * kernel.color) as f64)
}

/// Interleaved samples and how they lie.
struct Grid<'a, T> {
    samples: &'a [T],
    width: usize,
    channels: usize,
}

impl<'a, T: Copy + Into<f64>> Grid<'a, T> {
    const fn new(samples: &'a [T], (width, channels): (usize, usize)) -> Self {
        Self { samples, width, channels }
    }

    /// The colour samples (`color` a pixel) of columns `columns` of row `y`, without alpha.
    #[inline(always)]
    fn read_row(&self, y: usize, columns: &Range<usize>, color: usize, out: &mut [f64]) {
        let start = y * self.width;
        let row = &self.samples
            [(start + columns.start) * self.channels..(start + columns.end) * self.channels];
        if self.channels == color {
            for (out, &value) in out.iter_mut().zip(row) {
                *out = value.into();
            }
        } else {
            for (out, pixel) in out.chunks_exact_mut(color).zip(row.chunks_exact(self.channels)) {
                for (out, &value) in out.iter_mut().zip(pixel) {
                    *out = value.into();
                }
            }
        }
    }
}

/// Window weights and the constants of the formula.
struct Kernel {
    weights: Vec<f64>,
    /// True if all weights are 1, so that a row's part can be added when it enters and taken away when it leaves.
    running: bool,
    /// What a weighted sum is multiplied by to become a mean.
    scale: f64,
    /// N / (N − 1).
    covariance: f64,
    c1: f64,
    c2: f64,
    /// Colour channels, interleaved.
    color: usize,
}

/// Weighted sums over the rows of the window, a column and channel each: a, b, a², b², ab.
struct Columns {
    sums: [Vec<f64>; 5],
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Columns {
    fn new(length: usize) -> Self {
        let zeros = || vec![0.0; length];
        Self { sums: [zeros(), zeros(), zeros(), zeros(), zeros()], a: zeros(), b: zeros() }
    }

    /// Adds the row held in `a` and `b`, times `weight`.
    #[inline(always)]
    fn add(&mut self, weight: f64) {
        let length = self.a.len();
        let [sa, sb, saa, sbb, sab] = &mut self.sums;
        let (a, b) = (&self.a[..length], &self.b[..length]);
        let (sa, sb) = (&mut sa[..length], &mut sb[..length]);
        let (saa, sbb, sab) = (&mut saa[..length], &mut sbb[..length], &mut sab[..length]);
        for i in 0..length {
            let (wa, wb) = (weight * a[i], weight * b[i]);
            sa[i] += wa;
            sb[i] += wb;
            saa[i] += wa * a[i];
            sbb[i] += wb * b[i];
            sab[i] += wa * b[i];
        }
    }
}

impl Kernel {
    /// The sum of the similarity over every window inside `rect` and every colour channel.
    fn sum<T: Copy + Into<f64> + Sync>(&self, a: &Grid<'_, T>, b: &Grid<'_, T>, rect: Rect) -> f64 {
        let side = self.weights.len();
        let (across, down) = (rect.width - side + 1, rect.height - side + 1);
        let columns = across.div_ceil(TILE);
        let tiles = columns * down.div_ceil(TILE);
        let arch = Arch::new();
        let sums: Vec<f64> = (0..tiles)
            .into_par_iter()
            .map(|tile| {
                let (left, top) = (tile % columns * TILE, tile / columns * TILE);
                let positions = Rect::new(
                    rect.x + left,
                    rect.y + top,
                    TILE.min(across - left),
                    TILE.min(down - top),
                );
                arch.dispatch(|| self.tile(a, b, positions))
            })
            .collect();
        // Summed in the tiles' own order: the same bits on any number of threads.
        sums.iter().sum()
    }

    /// The sum over the windows whose top left corners lie in `positions`.
    #[inline(always)]
    fn tile<T: Copy + Into<f64>>(&self, a: &Grid<'_, T>, b: &Grid<'_, T>, positions: Rect) -> f64 {
        let side = self.weights.len();
        let pixels = positions.x..positions.right() + side - 1;
        let length = pixels.len() * self.color;
        let mut columns = Columns::new(length);
        let mut means: [Vec<f64>; 5] =
            std::array::from_fn(|_| vec![0.0; positions.width * self.color]);
        let mut total = 0.0;
        let read = |columns: &mut Columns, y: usize| {
            a.read_row(y, &pixels, self.color, &mut columns.a);
            b.read_row(y, &pixels, self.color, &mut columns.b);
        };

        if self.running {
            for y in positions.y..positions.y + side - 1 {
                read(&mut columns, y);
                columns.add(1.0);
            }
        }
        for y in positions.y..positions.bottom() {
            if self.running {
                read(&mut columns, y + side - 1);
                columns.add(1.0);
            } else {
                for sum in &mut columns.sums {
                    sum.fill(0.0);
                }
                for (row, &weight) in (y..y + side).zip(&self.weights) {
                    read(&mut columns, row);
                    columns.add(weight);
                }
            }
            for (mean, sum) in means.iter_mut().zip(&columns.sums) {
                self.across(sum, mean);
            }
            total += self.similarity(&means);
            if self.running {
                read(&mut columns, y);
                columns.add(-1.0);
            }
        }
        total
    }

    /// The weighted means over each window from the column sums.
    #[inline(always)]
    fn across(&self, sums: &[f64], means: &mut [f64]) {
        means.fill(0.0);
        for (k, &weight) in self.weights.iter().enumerate() {
            let shifted = &sums[k * self.color..];
            for (mean, &sum) in means.iter_mut().zip(shifted) {
                *mean += weight * sum;
            }
        }
        for mean in means {
            *mean *= self.scale;
        }
    }

    /// The sum of the similarity over one row of windows, given the means of a, b, a², b² and ab.
    #[inline(always)]
    fn similarity(&self, means: &[Vec<f64>; 5]) -> f64 {
        const LANES: usize = 8;
        let [ma, mb, maa, mbb, mab] = means;
        let length = ma.len();
        let (ma, mb, maa) = (&ma[..length], &mb[..length], &maa[..length]);
        let (mbb, mab) = (&mbb[..length], &mab[..length]);
        let one = |i: usize| {
            let (a, b) = (ma[i], mb[i]);
            let variance_a = self.covariance * (maa[i] - a * a);
            let variance_b = self.covariance * (mbb[i] - b * b);
            let covariance = self.covariance * (mab[i] - a * b);
            let above = (2.0 * a * b + self.c1) * (2.0 * covariance + self.c2);
            let below = (a * a + b * b + self.c1) * (variance_a + variance_b + self.c2);
            above / below
        };
        // Independent partial sums in a fixed pattern, so that the loop vectorises.
        let mut lanes = [0.0; LANES];
        for block in 0..length / LANES {
            for (lane, sum) in lanes.iter_mut().enumerate() {
                *sum += one(block * LANES + lane);
            }
        }
        let rest: f64 = (length / LANES * LANES..length).map(one).sum();
        lanes.iter().sum::<f64>() + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ColorType, Samples};

    fn pattern(width: usize, height: usize, step: usize) -> Image {
        let samples = (0..width * height).map(|i| (i * step % 251) as u8).collect();
        Image::new(width, height, ColorType::Gray, Samples::U8(samples)).expect("valid size")
    }

    #[test]
    fn a_picture_equals_itself_across_tile_borders() {
        let image = pattern(TILE + 20, 9, 7);
        assert_eq!(ssim(&image, &image, SsimWindow::Uniform).expect("large enough"), 1.0);
    }

    #[test]
    fn a_picture_smaller_than_the_window_is_named() {
        let image = pattern(6, 9, 7);
        let error = ssim(&image, &image, SsimWindow::Uniform).expect_err("6 < 7");
        assert!(error.to_string().contains("at least 7×7 pixels"), "{error}");
        let image = pattern(10, 12, 7);
        assert!(ssim(&image, &image, SsimWindow::Gaussian).is_err());
    }

    #[test]
    fn the_box_grows_to_the_window_even_in_a_corner() {
        let (a, b) = (pattern(20, 18, 7), pattern(20, 18, 11));
        let corner = Mask::from_fn(20, 18, |x, y| x == 19 && y == 0);
        let found = box_ssim(&a, &b, &corner, SsimWindow::Uniform).expect("large enough");
        let crop = Rect::new(13, 0, 7, 7);
        let expected = ssim_inside(&a, &b, crop, SsimWindow::Uniform).expect("7×7");
        assert_eq!(found, Some(expected));
        assert_eq!(
            box_ssim(&a, &b, &Mask::empty(20, 18), SsimWindow::Uniform).expect("same size"),
            None
        );
    }
}
