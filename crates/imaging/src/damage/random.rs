//! Seeded randomness with the same values on every platform.
//!
//! The generator is PCG32 (`rand_pcg::Pcg32`), whose output is fixed by its definition. Distributions are our
//! own few lines, because those of `rand` may change between versions, and sines are a polynomial, because
//! those of the C library differ between systems. Only IEEE additions, products and square roots remain.

use rand::Rng;
use rand_pcg::Pcg32;

/// SplitMix64's finalizer (Steele, Lea and Flood 2014): every input bit reaches every output bit.
const fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The seed of the part called `name` of what `seed` makes: `mix(seed ⊕ mix(fnv1a64(name)))`.
///
/// The name alone separates the parts, so that adding or reordering parts changes none of the others.
#[must_use]
pub(super) fn sub_seed(seed: u64, name: &str) -> u64 {
    // FNV-1a, 64 bits.
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    mix(seed ^ mix(hash))
}

/// A stream of random values.
pub(super) struct Random(Pcg32);

impl Random {
    /// The stream of the part called `name` under `seed`; see [`sub_seed`].
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let seed = sub_seed(seed, name);
        Self(Pcg32::new(seed, mix(seed)))
    }

    /// 32 random bits.
    pub(super) fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Uniform in `[0, 1)`, a multiple of 2⁻²⁴.
    pub(super) fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in `[low, high)`.
    pub(super) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Denser towards `low`: the square of a uniform value, stretched to `[low, high)`.
    pub(super) fn skewed(&mut self, low: f32, high: f32) -> f32 {
        let u = self.unit();
        low + (high - low) * u * u
    }

    /// True with probability `p`.
    pub(super) fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// -1 or 1.
    pub(super) fn sign(&mut self) -> f32 {
        if self.bits() & 1 == 0 { -1.0 } else { 1.0 }
    }

    /// Uniform in `0 .. n` for `n ≥ 1` (Lemire's multiplication, whose bias is below n / 2³²).
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.bits()) * n as u64) >> 32) as usize
    }

    /// A whole number whose mean is `mean`: its floor, or one more with the probability of the rest.
    pub(super) fn count(&mut self, mean: f32) -> usize {
        let whole = mean.max(0.0).floor();
        whole as usize + usize::from(self.chance(mean - whole))
    }

    /// Nearly normal with mean 0 and variance 1, within ±√12: the sum of four uniform values.
    pub(super) fn normal(&mut self) -> f32 {
        let sum = self.unit() + self.unit() + self.unit() + self.unit();
        (sum - 2.0) * 1.732_050_8
    }

    /// A unit vector of any direction.
    pub(super) fn direction(&mut self) -> (f32, f32) {
        direction(self.unit())
    }

    /// The index of a weight, drawn in proportion; `None` if no weight is positive.
    pub(super) fn weighted(&mut self, weights: &[f32]) -> Option<usize> {
        let total: f32 = weights.iter().sum();
        let mut left = self.unit() * total;
        let mut last = None;
        for (index, &weight) in weights.iter().enumerate() {
            if weight > 0.0 {
                last = Some(index);
                if left < weight {
                    break;
                }
                left -= weight;
            }
        }
        last
    }
}

/// Cosine and sine of `turns` (1 = a full circle), to about 1e-6.
pub(super) fn direction(turns: f32) -> (f32, f32) {
    // Quarter turns are exact rotations; the rest is within an eighth of a turn of 0.
    let quarter = (turns * 4.0).round();
    let angle = (turns - quarter * 0.25) * std::f32::consts::TAU;
    let square = angle * angle;
    let sin = angle * (1.0 - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0)));
    let cos =
        1.0 - square / 2.0 * (1.0 - square / 12.0 * (1.0 - square / 30.0 * (1.0 - square / 56.0)));
    match (quarter as i64).rem_euclid(4) {
        0 => (cos, sin),
        1 => (-sin, cos),
        2 => (-cos, -sin),
        _ => (sin, -cos),
    }
}

/// `vector` turned by `turns`.
pub(super) fn rotated((x, y): (f32, f32), turns: f32) -> (f32, f32) {
    let (cos, sin) = direction(turns);
    (x * cos - y * sin, x * sin + y * cos)
}

/// `low` at 0, `high` at 1.
pub(super) fn lerp(low: f32, high: f32, t: f32) -> f32 {
    low + (high - low) * t
}

/// 0 up to `low`, 1 from `high` on, a smooth cubic between.
pub(super) fn smoothstep(low: f32, high: f32, value: f32) -> f32 {
    let t = ((value - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// The largest whole number at most `value`, in both forms; without a call where processors have no instruction
/// for it. Saturates beyond ±2³¹.
#[inline(always)]
pub(super) fn floor(value: f32) -> (i32, f32) {
    let near = value as i32;
    let floor = near.saturating_sub(i32::from(value < near as f32));
    (floor, floor as f32)
}

/// Smooth noise on the plane (value noise on the unit lattice, cubic between), in `[-1, 1]`.
#[derive(Clone, Copy)]
pub(super) struct Noise(u32);

impl Noise {
    /// A noise field of its own.
    pub(super) fn new(random: &mut Random) -> Self {
        Self(random.bits())
    }

    /// An unrelated field.
    pub(super) const fn other(self, index: u32) -> Self {
        Self(self.0 ^ index.wrapping_mul(0x9E37_79B9))
    }

    /// The lattice value at whole coordinates, in `[-1, 1)`.
    #[inline(always)]
    pub(super) fn lattice(self, x: i32, y: i32) -> f32 {
        // Two rounds of the "lowbias32" integer hash (C. Wellons).
        let mut h = (x as u32).wrapping_mul(0x85EB_CA6B) ^ self.0;
        h ^= h >> 16;
        h = h.wrapping_mul(0x7FEB_352D) ^ (y as u32).wrapping_mul(0xC2B2_AE35);
        h ^= h >> 15;
        h = h.wrapping_mul(0x846C_A68B);
        h ^= h >> 16;
        (h >> 8) as f32 * (1.0 / 8_388_608.0) - 1.0
    }

    /// The value at `(x, y)`; features are about one unit long.
    #[inline]
    pub(super) fn at(self, x: f32, y: f32) -> f32 {
        let ((ix, fx), (iy, fy)) = (floor(x), floor(y));
        let (tx, ty) = (x - fx, y - fy);
        let (sx, sy) = (tx * tx * (3.0 - 2.0 * tx), ty * ty * (3.0 - 2.0 * ty));
        let (jx, jy) = (ix.wrapping_add(1), iy.wrapping_add(1));
        let top = lerp(self.lattice(ix, iy), self.lattice(jx, iy), sx);
        let bottom = lerp(self.lattice(ix, jy), self.lattice(jx, jy), sx);
        lerp(top, bottom, sy)
    }

    /// `octaves` fields, each of twice the frequency and `gain` times the weight of the last, in `[-1, 1]`.
    pub(super) fn fractal(self, x: f32, y: f32, octaves: u32, gain: f32) -> f32 {
        let (mut sum, mut total, mut weight, mut scale) = (0.0, 0.0, 1.0, 1.0);
        for octave in 0..octaves {
            sum += weight * self.other(octave).at(x * scale, y * scale);
            total += weight;
            weight *= gain;
            scale *= 2.0;
        }
        sum / total
    }

    /// Noise along a line: `at(t, 0.5)`.
    pub(super) fn along(self, t: f32) -> f32 {
        // Half-way between lattice rows the values would be averages, hence row 0 itself.
        self.at(t, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_match_the_library_sines() {
        for step in -40..80 {
            let turns = step as f32 / 32.0 + 0.013;
            let (sin, cos) = (f64::from(turns) * std::f64::consts::TAU).sin_cos();
            let (x, y) = direction(turns);
            assert!((f64::from(x) - cos).abs() < 3e-6 && (f64::from(y) - sin).abs() < 3e-6);
        }
    }

    #[test]
    fn floors_are_those_of_the_library() {
        for value in [-3.0_f32, -2.5, -0.1, 0.0, 0.9, 1.0, 7.25, 1e6 + 0.5] {
            assert_eq!(floor(value), (value.floor() as i32, value.floor()));
        }
    }

    #[test]
    fn draws_are_fixed_by_definition() {
        // The values themselves: a change here changes every data set that users have made.
        let mut random = Random::new(7, "test");
        let first: Vec<u32> = (0..3).map(|_| random.bits()).collect();
        let again: Vec<u32> = {
            let mut random = Random::new(7, "test");
            (0..3).map(|_| random.bits()).collect()
        };
        assert_eq!(first, again);
        assert_ne!(sub_seed(7, "cracks"), sub_seed(7, "dust"));
        assert_ne!(sub_seed(7, "cracks"), sub_seed(8, "cracks"));
    }

    #[test]
    fn draws_have_their_moments() {
        let mut random = Random::new(1, "moments");
        let n = 20_000;
        let normals: Vec<f64> = (0..n).map(|_| f64::from(random.normal())).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(n);
        let variance = normals.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let counts: usize = (0..n).map(|_| random.count(2.25)).sum();
        assert!((counts as f64 / f64::from(n) - 2.25).abs() < 0.02);
        let picks = (0..n).filter(|_| random.weighted(&[1.0, 0.0, 3.0]) == Some(2)).count();
        assert!((picks as f64 / f64::from(n) - 0.75).abs() < 0.02);
        assert_eq!(random.weighted(&[0.0, 0.0]), None);
    }

    #[test]
    fn noise_stays_in_range_and_is_smooth() {
        let noise = Noise::new(&mut Random::new(3, "noise"));
        let mut last = noise.fractal(-9.0, 4.0, 4, 0.5);
        for step in 0..4000 {
            let value = noise.fractal(-9.0 + step as f32 * 0.005, 4.0, 4, 0.5);
            assert!((-1.0..=1.0).contains(&value) && (value - last).abs() < 0.1);
            last = value;
        }
    }
}
