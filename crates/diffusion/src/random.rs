//! Seeded random numbers: counters and names in, numbers out, nothing remembered elsewhere.
//!
//! What is drawn for a thing depends on a seed and on the thing's name alone, so that work can stop and go on, or be
//! done in another order, and still draw the same.

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    /// The stream that begins after this state.
    pub(crate) const fn new(state: u64) -> Self {
        Self(state)
    }

    /// The stream of the thing called `name` under `seed`.
    pub(crate) fn named(seed: u64, name: &str) -> Self {
        Self(sub_seed(seed, name))
    }

    /// 64 random bits.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Uniform in `[0, 1)`, a multiple of 2⁻²⁴.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in `0 .. n` for `n ≥ 1` (Lemire's multiplication).
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        f64::from(self.unit()) < p
    }

    /// Mean 0, variance 1, nearly normal: the sum of four uniform numbers of 16 bits each.
    pub(crate) fn nearly_normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u32 = (0..4).map(|i| (bits >> (16 * i)) as u32 & 0xFFFF).sum();
        // A uniform number's variance is 1/12, that of four is 1/3; the mean of the sum is 2 · 65535.
        (sum as f32 - 131_070.0) * (3.0_f32.sqrt() / 65_536.0)
    }

    /// A fair permutation of `items` (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// SplitMix64's finalizer: every input bit reaches every output bit.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// FNV-1a, 64 bits, of a name, from `begin` on.
pub(crate) fn fnv1a64(begin: u64, name: &str) -> u64 {
    name.bytes().fold(begin, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The seed of the thing called `name` among those that `seed` makes.
pub(crate) fn sub_seed(seed: u64, name: &str) -> u64 {
    mix(seed.wrapping_add(0x9E37_79B9_7F4A_7C15) ^ mix(fnv1a64(0xcbf2_9ce4_8422_2325, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_sequence() {
        // Vigna's splitmix64.c with state 1234567.
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn names_and_seeds_separate_streams() {
        assert_ne!(sub_seed(0, "a"), sub_seed(0, "b"));
        assert_ne!(sub_seed(0, "a"), sub_seed(1, "a"));
        let mut order: Vec<usize> = (0..100).collect();
        SplitMix64::named(7, "order").shuffle(&mut order);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_stay_in_range_and_are_spread() {
        let mut random = SplitMix64::new(3);
        let mut counts = [0; 10];
        for _ in 0..10_000 {
            counts[random.below(10)] += 1;
            assert!((0.0..1.0).contains(&random.unit()));
        }
        // The deviation of a count is √(10000 · 0.1 · 0.9) = 30.
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
