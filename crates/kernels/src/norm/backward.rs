//! The gradients of group normalisation, through the activation behind it.

use rayon::prelude::*;

use super::pulled;
use super::statistics::{Groups, Moments, Scales, moments, scales};
use crate::activation::Activation;
use crate::isa::Tier;
use crate::output::written_in_blocks;
use crate::simd::{Kernel, MAX_LANES, Real, Simd, dispatch};

/// The gradients by what group normalisation takes.
pub(crate) struct GroupGradients<T> {
    /// `(images, rows, channels)`.
    pub(crate) xs: Vec<T>,
    /// `(channels)`.
    pub(crate) weight: Vec<f32>,
    /// `(channels)`.
    pub(crate) bias: Vec<f32>,
}

/// Pulls a gradient back through the activation and group normalisation, whose statistics are computed anew.
///
/// # Shapes
/// - xs, grad: `(images, rows, channels)`
/// - weight, bias: `(channels)`
pub(crate) fn group_norm_backward<T: Real>(
    tier: Tier,
    (xs, grad): (&[T], &[T]),
    size: Groups,
    (weight, bias): (&[f32], &[f32]),
    activation: Option<Activation>,
) -> GroupGradients<T> {
    let Groups { images, channels, .. } = size;
    let moments = moments(tier, xs, size);
    let scales = scales(&moments, size, weight, bias);
    let normals = self::scales(&moments, size, &vec![1.0; channels], &vec![0.0; channels]);

    // 1. Σ g and Σ g · x̂ of each channel in each image, g being the gradient by what the activation takes.
    let rows = size.blocks();
    let parts: Vec<Vec<f32>> = rows
        .blocks()
        .map(|block| {
            let sums = BlockSums {
                xs: block.of(xs, channels),
                grad: block.of(grad, channels),
                scales: scales.of(block.image, channels),
                normals: normals.of(block.image, channels),
                activation,
            };
            dispatch(tier, sums)
        })
        .collect();
    let mut sums = vec![(0.0_f64, 0.0_f64); images * channels];
    for (parts, sums) in
        parts.chunks(rows.blocks_per_image().max(1)).zip(sums.chunks_exact_mut(channels))
    {
        for part in parts {
            let (by_bias, by_weight) = part.split_at(part.len() / 2);
            for (sum, (&g, &gx)) in sums.iter_mut().zip(by_bias.iter().zip(by_weight)) {
                *sum = (sum.0 + f64::from(g), sum.1 + f64::from(gx));
            }
        }
    }

    // 2. the gradient by each input.
    let rest = rest(&moments, size, weight, &sums);
    // SAFETY: each row writes as many numbers as it has.
    let xs = unsafe {
        written_in_blocks(rows, channels, |block, to| {
            let block = BlockGradient {
                xs: block.of(xs, channels),
                grad: block.of(grad, channels),
                scales: scales.of(block.image, channels),
                rest: rest.of(block.image, channels),
                activation,
                to,
            };
            dispatch(tier, block);
        })
    };

    // 3. the gradients by the channels' weights, which are the sums over all images.
    let mut gradients = GroupGradients { xs, weight: Vec::new(), bias: Vec::new() };
    for channel in 0..channels {
        let (mut by_bias, mut by_weight) = (0.0, 0.0);
        for sums in sums.chunks_exact(channels) {
            by_bias += sums[channel].0;
            by_weight += sums[channel].1;
        }
        gradients.bias.push(by_bias as f32);
        gradients.weight.push(by_weight as f32);
    }
    gradients
}

/// What does not depend on an element's own gradient. With `d = g · weight`, the gradient by an input is
/// `inverse · (d - mean(d) - x̂ · mean(d · x̂))`, means over the group; that is `g · scale + x · rest.scale + rest.shift`.
fn rest(moments: &[Moments], size: Groups, weight: &[f32], sums: &[(f64, f64)]) -> Scales {
    let (channels, width) = (size.channels, size.width());
    let count = (size.rows * width) as f64;
    let mut rest = Scales::default();
    for (moments, sums) in moments.chunks_exact(size.groups).zip(sums.chunks_exact(channels)) {
        for (group, &Moments { mean, inverse }) in moments.iter().enumerate() {
            let (mut by_d, mut by_dx) = (0.0, 0.0);
            for channel in group * width..(group + 1) * width {
                by_d += f64::from(weight[channel]) * sums[channel].0;
                by_dx += f64::from(weight[channel]) * sums[channel].1;
            }
            let scale = (-inverse * inverse * by_dx / count) as f32;
            let shift = (-inverse * by_d / count - mean * f64::from(scale)) as f32;
            rest.scale.extend(std::iter::repeat_n(scale, width));
            rest.shift.extend(std::iter::repeat_n(shift, width));
        }
    }
    rest
}

/// `Σ g` of each channel in a block of rows, then `Σ g · x̂`.
struct BlockSums<'a, T> {
    xs: &'a [T],
    grad: &'a [T],
    scales: (&'a [f32], &'a [f32]),
    /// Scale and shift to x̂.
    normals: (&'a [f32], &'a [f32]),
    activation: Option<Activation>,
}

impl<T: Real> Kernel for BlockSums<'_, T> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self { xs, grad, scales, normals, activation } = self;
        let channels = scales.0.len();
        for values in [scales.1, normals.0, normals.1] {
            assert_eq!(values.len(), channels);
        }
        let padded = channels.next_multiple_of(MAX_LANES);
        let mut sums = vec![0.0_f32; 2 * padded];
        let (by_bias, by_weight) = sums.split_at_mut(padded);
        for (xs, grad) in xs.chunks_exact(channels).zip(grad.chunks_exact(channels)) {
            for at in (0..channels).step_by(S::LANES) {
                let left = channels - at;
                // SAFETY: rows and scales have `channels` numbers, and registers of the padded sums are whole.
                unsafe {
                    let x = T::load_up_to(simd, xs.as_ptr().add(at), left);
                    let grad = T::load_up_to(simd, grad.as_ptr().add(at), left);
                    let scale = f32::load_up_to(simd, scales.0.as_ptr().add(at), left);
                    let shift = f32::load_up_to(simd, scales.1.as_ptr().add(at), left);
                    let g = pulled(simd, activation, simd.mul_add(x, scale, shift), grad);
                    let scale = f32::load_up_to(simd, normals.0.as_ptr().add(at), left);
                    let shift = f32::load_up_to(simd, normals.1.as_ptr().add(at), left);
                    let x = simd.mul_add(x, scale, shift);
                    let sum = by_bias.as_mut_ptr().add(at);
                    simd.store(sum, simd.add(simd.load(sum), g));
                    let sum = by_weight.as_mut_ptr().add(at);
                    simd.store(sum, simd.mul_add(g, x, simd.load(sum)));
                }
            }
        }
        sums
    }
}

/// The gradient by the inputs of a block of rows.
struct BlockGradient<'a, T> {
    xs: &'a [T],
    grad: &'a [T],
    scales: (&'a [f32], &'a [f32]),
    /// That of [`rest`].
    rest: (&'a [f32], &'a [f32]),
    activation: Option<Activation>,
    to: *mut T,
}

impl<T: Real> Kernel for BlockGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { xs, grad, scales, rest, activation, to } = self;
        let channels = scales.0.len();
        for values in [scales.1, rest.0, rest.1] {
            assert_eq!(values.len(), channels);
        }
        let rows = xs.chunks_exact(channels).zip(grad.chunks_exact(channels));
        for (row, (xs, grad)) in rows.enumerate() {
            for at in (0..channels).step_by(S::LANES) {
                let left = channels - at;
                // SAFETY: rows, scales and what is written have `channels` numbers.
                unsafe {
                    let x = T::load_up_to(simd, xs.as_ptr().add(at), left);
                    let grad = T::load_up_to(simd, grad.as_ptr().add(at), left);
                    let scale = f32::load_up_to(simd, scales.0.as_ptr().add(at), left);
                    let shift = f32::load_up_to(simd, scales.1.as_ptr().add(at), left);
                    let g = pulled(simd, activation, simd.mul_add(x, scale, shift), grad);
                    let slope = f32::load_up_to(simd, rest.0.as_ptr().add(at), left);
                    let term = f32::load_up_to(simd, rest.1.as_ptr().add(at), left);
                    let y = simd.mul_add(g, scale, simd.mul_add(x, slope, term));
                    T::store_up_to(simd, to.add(row * channels + at), y, left);
                }
            }
        }
    }
}
