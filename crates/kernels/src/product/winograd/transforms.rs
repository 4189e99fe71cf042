//! The transforms of minimal filtering, `Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A`: along one axis, and over tiles.
//!
//! Each works on registers: on as many channels, or columns of the product, as a register has lanes.

use crate::simd::Simd;

/// `F(M, 3)`: `M` outputs of a filter of three taps from `N = M + 2` inputs by `N` products.
pub(super) trait Minimal<const N: usize, const M: usize> {
    /// `Bᵀ d`.
    fn input<S: Simd>(simd: S, d: [S::V; N]) -> [S::V; N];
    /// `G g`.
    fn weight<S: Simd>(simd: S, g: [S::V; 3]) -> [S::V; N];
    /// `Aᵀ m`.
    fn output<S: Simd>(simd: S, m: [S::V; N]) -> [S::V; M];
}

/// F(2, 3), from the points 0, 1, -1 and infinity.
pub(super) struct Two;

impl Minimal<4, 2> for Two {
    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d]: [S::V; 4]) -> [S::V; 4] {
        [simd.sub(a, c), simd.add(b, c), simd.sub(c, b), simd.sub(b, d)]
    }
    #[inline(always)]
    fn weight<S: Simd>(simd: S, [a, b, c]: [S::V; 3]) -> [S::V; 4] {
        let half = simd.splat(0.5);
        let (outer, inner) = (simd.mul(simd.add(a, c), half), simd.mul(b, half));
        [a, simd.add(outer, inner), simd.sub(outer, inner), c]
    }
    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d]: [S::V; 4]) -> [S::V; 2] {
        [simd.add(simd.add(a, b), c), simd.sub(simd.sub(b, c), d)]
    }
}

/// F(4, 3), from the points 0, ±3/4, ±3/2 and infinity.
///
/// With the usual 0, ±1, ±2 and infinity the largest error is four times as large: of these four, products of high
/// powers of 2 cancel. These points' input and output transforms are exact in f32 too, but for the rounding of sums.
pub(super) struct Four;

impl Four {
    const A: f32 = 0.75;
    const B: f32 = 1.5;
    const A2: f32 = Self::A * Self::A;
    const B2: f32 = Self::B * Self::B;
    /// What the Lagrange polynomials of ±A and ±B are divided by.
    const OVER_A: f32 = 1.0 / (2.0 * Self::A2 * (Self::A2 - Self::B2));
    const OVER_B: f32 = 1.0 / (2.0 * Self::B2 * (Self::B2 - Self::A2));
}

impl Minimal<6, 4> for Four {
    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::V; 6]) -> [S::V; 6] {
        let (minus_a2, minus_b2) = (simd.splat(-Self::A2), simd.splat(-Self::B2));
        let (product, sum) = (simd.splat(Self::A2 * Self::B2), simd.splat(-Self::A2 - Self::B2));
        let p = simd.mul_add(c, minus_b2, e);
        let q = simd.mul(simd.mul_add(b, minus_b2, d), simd.splat(Self::A));
        let r = simd.mul_add(c, minus_a2, e);
        let s = simd.mul(simd.mul_add(b, minus_a2, d), simd.splat(Self::B));
        [
            simd.mul_add(a, product, simd.mul_add(c, sum, e)),
            simd.add(p, q),
            simd.sub(p, q),
            simd.add(r, s),
            simd.sub(r, s),
            simd.mul_add(b, product, simd.mul_add(d, sum, f)),
        ]
    }
    #[inline(always)]
    fn weight<S: Simd>(simd: S, [a, b, c]: [S::V; 3]) -> [S::V; 6] {
        let half = |x: S::V, square: f32, factor: f32| {
            simd.mul(simd.mul_add(x, simd.splat(square), a), simd.splat(factor))
        };
        let p = half(c, Self::A2, Self::OVER_A);
        let q = simd.mul(b, simd.splat(Self::A * Self::OVER_A));
        let r = half(c, Self::B2, Self::OVER_B);
        let s = simd.mul(b, simd.splat(Self::B * Self::OVER_B));
        [
            simd.mul(a, simd.splat(1.0 / (Self::A2 * Self::B2))),
            simd.add(p, q),
            simd.sub(p, q),
            simd.add(r, s),
            simd.sub(r, s),
            c,
        ]
    }
    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::V; 6]) -> [S::V; 4] {
        let (p, q) = (simd.add(b, c), simd.sub(b, c));
        let (r, s) = (simd.add(d, e), simd.sub(d, e));
        let sum = |x: S::V, by_x: f32, y: S::V, by_y: f32| {
            simd.mul_add(x, simd.splat(by_x), simd.mul(y, simd.splat(by_y)))
        };
        [
            simd.add(simd.add(a, p), r),
            sum(q, Self::A, s, Self::B),
            sum(p, Self::A2, r, Self::B2),
            simd.add(sum(q, Self::A2 * Self::A, s, Self::B2 * Self::B), f),
        ]
    }
}

/// `Bᵀ d B` of one register of channels: pixel `(y, x)` is at `from + y · line + x · pixel`, result `i` goes to
/// `to + i · plane`.
///
/// # Safety
/// `N²` registers can be read and written there.
#[inline(always)]
pub(super) unsafe fn input<S: Simd, F: Minimal<N, M>, const N: usize, const M: usize>(
    simd: S,
    from: *const f32,
    (line, pixel): (usize, usize),
    to: *mut f32,
    plane: usize,
) {
    let mut columns = [[simd.zero(); N]; N];
    for x in 0..N {
        let mut column = [simd.zero(); N];
        for y in 0..N {
            // SAFETY: the caller's word.
            column[y] = unsafe { simd.load(from.add(y * line + x * pixel)) };
        }
        columns[x] = F::input(simd, column);
    }
    for y in 0..N {
        let mut row = [simd.zero(); N];
        for x in 0..N {
            row[x] = columns[x][y];
        }
        let row = F::input(simd, row);
        for x in 0..N {
            // SAFETY: the caller's word.
            unsafe { simd.store(to.add((y * N + x) * plane), row[x]) };
        }
    }
}

/// `G g Gᵀ` of one register of columns: tap `i` is at `taps[i] + at`, result `i` goes to `to + i · plane`.
///
/// # Safety
/// A register can be read at each tap, and `N²` written.
#[inline(always)]
pub(super) unsafe fn weight<S: Simd, F: Minimal<N, M>, const N: usize, const M: usize>(
    simd: S,
    taps: &[*const f32; 9],
    at: usize,
    to: *mut f32,
    plane: usize,
) {
    let mut columns = [[simd.zero(); N]; 3];
    for x in 0..3 {
        let mut column = [simd.zero(); 3];
        for y in 0..3 {
            // SAFETY: the caller's word.
            column[y] = unsafe { simd.load(taps[y * 3 + x].add(at)) };
        }
        columns[x] = F::weight(simd, column);
    }
    for y in 0..N {
        let row = F::weight(simd, [columns[0][y], columns[1][y], columns[2][y]]);
        for x in 0..N {
            // SAFETY: the caller's word.
            unsafe { simd.store(to.add((y * N + x) * plane), row[x]) };
        }
    }
}

/// `Aᵀ m A` of one register of columns, line by line: product `i` is at `from + i · plane`.
///
/// # Safety
/// `N²` registers can be read.
#[inline(always)]
pub(super) unsafe fn output<S: Simd, F: Minimal<N, M>, const N: usize, const M: usize>(
    simd: S,
    from: *const f32,
    plane: usize,
) -> [[S::V; M]; M] {
    let mut columns = [[simd.zero(); M]; N];
    for x in 0..N {
        let mut column = [simd.zero(); N];
        for y in 0..N {
            // SAFETY: the caller's word.
            column[y] = unsafe { simd.load(from.add((y * N + x) * plane)) };
        }
        columns[x] = F::output(simd, column);
    }
    let mut outputs = [[simd.zero(); M]; M];
    for y in 0..M {
        let mut row = [simd.zero(); N];
        for x in 0..N {
            row[x] = columns[x][y];
        }
        outputs[y] = F::output(simd, row);
    }
    outputs
}
