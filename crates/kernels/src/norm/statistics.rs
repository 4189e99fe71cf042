//! What group normalisation subtracts and divides by: the moments of each group of channels in each image.

use rayon::prelude::*;

use crate::isa::Tier;
use crate::output::Rows;
use crate::simd::{Kernel, Real, Simd, dispatch};

/// Rows summed in f32 before their sums are added in f64.
const MOST_ROWS: usize = 256;

/// What is normalised: images of rows of channels, whose neighbours form groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Groups {
    pub(crate) images: usize,
    /// Pixels of an image.
    pub(crate) rows: usize,
    pub(crate) channels: usize,
    /// They divide the channels.
    pub(crate) groups: usize,
    /// Added to the variance.
    pub(crate) eps: f64,
}

impl Groups {
    /// Channels of a group.
    pub(super) const fn width(self) -> usize {
        self.channels / self.groups
    }

    /// Blocks of rows that are summed in f32.
    pub(super) fn blocks(self) -> Rows {
        Rows::new(self.images, self.rows, self.channels).in_blocks_of(MOST_ROWS)
    }
}

/// What maps an input to the normalised one: `(x - mean) · inverse`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) inverse: f64,
}

/// Group normalisation as a factor and a term for each channel of each image.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scales {
    /// `(images, channels)`.
    pub(crate) scale: Vec<f32>,
    /// `(images, channels)`.
    pub(crate) shift: Vec<f32>,
}

impl Scales {
    /// Those of an image, one of each for a channel.
    pub(crate) fn of(&self, image: usize, channels: usize) -> (&[f32], &[f32]) {
        let range = image * channels..(image + 1) * channels;
        (&self.scale[range.clone()], &self.shift[range])
    }
}

/// Scale and shift such that `x · scale + shift` is the normalised input times weight plus bias.
///
/// # Shapes
/// - xs: `(images, rows, channels)`
/// - weight, bias: `(channels)`
pub(crate) fn group_scales<T: Real>(
    tier: Tier,
    xs: &[T],
    size: Groups,
    weight: &[f32],
    bias: &[f32],
) -> Scales {
    scales(&moments(tier, xs, size), size, weight, bias)
}

pub(super) fn scales(moments: &[Moments], size: Groups, weight: &[f32], bias: &[f32]) -> Scales {
    let mut scales = Scales::default();
    for moments in moments.chunks_exact(size.groups) {
        for (channel, (&weight, &bias)) in weight.iter().zip(bias).enumerate() {
            let Moments { mean, inverse } = moments[channel / size.width()];
            let scale = (inverse * f64::from(weight)) as f32;
            scales.scale.push(scale);
            // With the scale as it was rounded, so that the mean itself is mapped to the bias.
            scales.shift.push((f64::from(bias) - mean * f64::from(scale)) as f32);
        }
    }
    scales
}

/// The moments of each group of each image, `(images, groups)`.
pub(super) fn moments<T: Real>(tier: Tier, xs: &[T], size: Groups) -> Vec<Moments> {
    let Groups { images, channels, groups, .. } = size;
    let rows = size.blocks();
    let parts: Vec<Vec<Part>> = rows
        .blocks()
        .map(|block| {
            let xs = block.of(xs, channels);
            dispatch(tier, BlockMoments { xs, rows: block.count, channels, groups })
        })
        .collect();
    let mut moments = Vec::with_capacity(images * groups);
    for parts in parts.chunks(rows.blocks_per_image().max(1)) {
        for group in 0..groups {
            let total = Part::total(parts.iter().map(|part| part[group]));
            let inverse = (total.squares / total.count.max(1.0) + size.eps).sqrt().recip();
            moments.push(Moments { mean: total.mean, inverse });
        }
    }
    moments
}

/// The moments of some numbers.
#[derive(Clone, Copy, Default)]
struct Part {
    count: f64,
    mean: f64,
    /// `Σ (x - mean)²`.
    squares: f64,
}

impl Part {
    /// Those of all parts together (Chan, Golub and LeVeque 1979).
    fn total(parts: impl Iterator<Item = Self> + Clone) -> Self {
        let mut total = Self::default();
        for part in parts.clone() {
            total.count += part.count;
            total.mean += part.count * part.mean;
        }
        total.mean /= total.count.max(1.0);
        for part in parts {
            let off = part.mean - total.mean;
            total.squares += part.squares + part.count * off * off;
        }
        total
    }
}

/// The moments of each group in a block of rows.
struct BlockMoments<'a, T> {
    xs: &'a [T],
    rows: usize,
    channels: usize,
    groups: usize,
}

impl<T: Real> Kernel for BlockMoments<'_, T> {
    type Output = Vec<Part>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<Part> {
        let Self { xs, rows, channels, groups } = self;
        assert_eq!(xs.len(), rows * channels, "whole rows");
        let mut parts = vec![Part::default(); channels];
        for at in (0..channels).step_by(S::LANES) {
            // SAFETY: there are as many rows, and each has `channels` numbers.
            let [centres, offsets, squares] =
                unsafe { column_moments(simd, &xs[at..], rows, channels, channels - at) };
            let (centres, offsets, squares) =
                (simd.to_array(centres), simd.to_array(offsets), simd.to_array(squares));
            for (lane, part) in parts[at..].iter_mut().take(S::LANES).enumerate() {
                let (count, offset) = (rows as f64, f64::from(offsets[lane]));
                *part = Part {
                    count,
                    mean: f64::from(centres[lane]) + offset / count,
                    squares: (f64::from(squares[lane]) - offset * offset / count).max(0.0),
                };
            }
        }
        parts
            .chunks_exact(channels / groups)
            .map(|group| Part::total(group.iter().copied()))
            .collect()
    }
}

/// Of a register of channels, `left` of which are there: a centre near their mean, `Σ (x - centre)` and `Σ (x - centre)²`.
///
/// # Safety
/// `left` numbers, or a register's worth if that is less, can be read at each of `rows` rows, which are `stride` apart.
#[inline(always)]
unsafe fn column_moments<S: Simd, T: Real>(
    simd: S,
    xs: &[T],
    rows: usize,
    stride: usize,
    left: usize,
) -> [S::V; 3] {
    // Sums of rows that take turns: each need not wait for the last one.
    const TURNS: usize = 4;
    let (zero, xs) = (simd.zero(), xs.as_ptr());
    // 1. the mean, as a centre that is close enough to lose no digits of the variance.
    let mut sums = [zero; TURNS];
    for row in 0..rows {
        // SAFETY: the caller's word.
        let x = unsafe { T::load_up_to(simd, xs.add(row * stride), left) };
        sums[row % TURNS] = simd.add(sums[row % TURNS], x);
    }
    let centre = simd.mul(sum(simd, sums), simd.splat(1.0 / rows as f32));
    // 2. what is off it.
    let (mut offsets, mut squares) = ([zero; TURNS], [zero; TURNS]);
    for row in 0..rows {
        // SAFETY: the caller's word.
        let x = unsafe { T::load_up_to(simd, xs.add(row * stride), left) };
        let x = simd.sub(x, centre);
        offsets[row % TURNS] = simd.add(offsets[row % TURNS], x);
        squares[row % TURNS] = simd.mul_add(x, x, squares[row % TURNS]);
    }
    [centre, sum(simd, offsets), sum(simd, squares)]
}

#[inline(always)]
fn sum<S: Simd>(simd: S, [a, b, c, d]: [S::V; 4]) -> S::V {
    simd.add(simd.add(a, b), simd.add(c, d))
}
