//! Transcendental functions on vectors, accurate to a few units in the last place unless they say otherwise.

use super::Simd;

/// `eˣ`; at least 1.2e-38 (never a denormal), at most 1.7e38.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::V) -> S::V {
    // Cody and Waite's reduction to |r| ≤ ln 2 / 2, then the polynomial of Cephes' expf.
    let x = simd.min(simd.max(x, simd.splat(-87.3)), simd.splat(88.0));
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let r = simd.mul_add(n, simd.splat(-0.693_359_4), x);
    let r = simd.mul_add(n, simd.splat(2.121_944_4e-4), r);
    let mut p = simd.splat(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = simd.mul_add(p, r, simd.splat(c));
    }
    let y = simd.mul_add(p, simd.mul(r, r), simd.add(r, simd.splat(1.0)));
    simd.mul(y, simd.exp2_integral(n))
}

/// [`Simd::exp2`] from its other methods.
#[inline(always)]
pub(super) fn exp2<S: Simd>(simd: S, x: S::V) -> S::V {
    let n = simd.round(x);
    let r = simd.sub(x, n);
    // The Taylor polynomial of 2ʳ: |r| ≤ 1/2 leaves (ln 2 / 2)⁷ / 7! = 1.2e-7.
    let mut p = simd.splat(1.540_353e-4);
    for c in [1.333_355_8e-3, 9.618_129e-3, 5.550_411e-2, 2.402_265e-1, std::f32::consts::LN_2, 1.0]
    {
        p = simd.mul_add(p, r, simd.splat(c));
    }
    simd.mul(p, simd.exp2_integral(n))
}

/// `1 / (1 + e⁻ˣ)` within 1e-13 beside what is rounded, and 0 below -30: what SiLU makes of very negative values, and the gradients that are
/// multiplied by it layer after layer, would else be denormal numbers, which made a training step six times as slow.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::V) -> S::V {
    let one = simd.splat(1.0);
    let doublings = simd.mul(x, simd.splat(-std::f32::consts::LOG2_E));
    let doublings = simd.max(simd.min(doublings, simd.splat(43.280_85)), simd.splat(-126.0)); // at most 30
    let least = simd.splat(9.4e-14); // above the sigmoid of -30
    let sigmoid = simd.quotient(one, simd.add(one, simd.exp2(doublings)));
    simd.max(simd.sub(sigmoid, least), simd.zero())
}

/// The error function: an odd rational function on `[-4, 4]`, outside which erf is ±1 in f32.
#[inline(always)]
fn erf<S: Simd>(simd: S, x: S::V) -> S::V {
    // The minimax coefficients that Eigen and XLA use.
    const ALPHA: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BETA: [f32; 5] =
        [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2];
    let x = simd.min(simd.max(x, simd.splat(-4.0)), simd.splat(4.0));
    let x2 = simd.mul(x, x);
    simd.quotient(simd.mul(x, horner(simd, x2, ALPHA)), horner(simd, x2, BETA))
}

/// The normal distribution's cumulative function, Φ.
#[inline(always)]
pub(crate) fn normal_cdf<S: Simd>(simd: S, x: S::V) -> S::V {
    let erf = erf(simd, simd.mul(x, simd.splat(std::f32::consts::FRAC_1_SQRT_2)));
    simd.mul_add(simd.splat(0.5), erf, simd.splat(0.5))
}

/// `x · Φ(x)`.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(simd: S, x: S::V) -> S::V {
    simd.mul(x, normal_cdf(simd, x))
}

/// [`gelu`] within 4e-6 of `x`, for what is rounded to bf16: a shorter fraction than [`erf`]'s, divided less exactly.
#[inline(always)]
pub(crate) fn gelu_for_bf16<S: Simd>(simd: S, x: S::V) -> S::V {
    // Minimax coefficients of (Φ(x) - 1/2) / x in x², up to 5²: within 2.9e-6 of Φ.
    const ABOVE: [f32; 4] = [3.099_131_3e-5, 3.753_554_7e-3, 2.818_051e-2, 3.989_303e-1];
    const BELOW: [f32; 4] = [1.114_028_6e-3, 2.399_844e-2, 2.372_246_8e-1, 1.0];
    let inside = simd.min(simd.max(x, simd.splat(-5.0)), simd.splat(5.0));
    let square = simd.mul(inside, inside);
    let above = simd.mul(inside, horner(simd, square, ABOVE));
    let inverse = simd.inverse(horner(simd, square, BELOW));
    simd.mul(x, simd.mul_add(above, inverse, simd.splat(0.5)))
}

/// The polynomial with these coefficients, the highest first. A function: a closure may be compiled apart, without the
/// tier's instructions.
#[inline(always)]
fn horner<S: Simd, const N: usize>(simd: S, x: S::V, coefficients: [f32; N]) -> S::V {
    let mut p = simd.splat(coefficients[0]);
    for &c in &coefficients[1..] {
        p = simd.mul_add(p, x, simd.splat(c));
    }
    p
}
