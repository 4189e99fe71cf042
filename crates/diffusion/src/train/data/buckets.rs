//! Shapes of about the same number of pixels, and which of them is nearest to a picture's own.
//!
//! Aspect ratio bucketing as NovelAI described it for Stable Diffusion: pictures keep their shape, and those of one
//! batch share it. Nothing here reads files.

/// The widest and the narrowest shape are this many times as long as wide.
const MAX_ASPECT: usize = 4;

/// The sizes that pictures may have in training, `(width, height)` in pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Buckets {
    sizes: Vec<(usize, usize)>,
}

impl Buckets {
    /// One square.
    pub(super) fn square(resolution: usize) -> Self {
        Self { sizes: vec![(resolution, resolution)] }
    }

    /// Shapes up to 4 : 1 and 1 : 4. Their sides are multiples of `step`, or of the largest multiple of 8 that is no more
    /// than a quarter of `resolution`, and at least of 8; their areas are within a quarter of `resolution²`.
    ///
    /// `resolution` and `step` are multiples of 8 above 0.
    pub(super) fn mixed(resolution: usize, step: usize) -> Self {
        let step = step.min(resolution / 4 / 8 * 8).max(8);
        let area = resolution * resolution;
        let nearest = |value: usize, to: usize| ((value + to / 2) / to).max(1) * to;
        // Without it, a resolution between two multiples of `step` would have no square.
        let square = nearest(resolution, step);
        let mut sizes = vec![(square, square)];
        for long in (square..=2 * resolution).step_by(step) {
            let short = nearest(area / long, step);
            let near = 4 * long * short >= 3 * area && 4 * long * short <= 5 * area;
            if short < long && near && long <= MAX_ASPECT * short {
                sizes.extend([(long, short), (short, long)]);
            }
        }
        sizes.sort_unstable();
        sizes.dedup();
        Self { sizes }
    }

    /// The bucket whose aspect ratio is nearest to that of a `width × height` picture, as its logarithm goes; the first
    /// of equally near ones. `(width, height)`.
    pub(super) fn of(&self, width: usize, height: usize) -> (usize, usize) {
        let aspect = |(width, height): (usize, usize)| (width as f64 / height as f64).ln();
        let wanted = aspect((width, height));
        let far = |size: &(usize, usize)| (aspect(*size) - wanted).abs();
        let nearest = self.sizes.iter().copied().min_by(|a, b| far(a).total_cmp(&far(b)));
        nearest.unwrap_or((8, 8))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_usual_resolution_has_the_usual_shapes() {
        let buckets = Buckets::mixed(512, 64);
        assert!(buckets.sizes.contains(&(512, 512)) && buckets.sizes.contains(&(384, 704)));
        // 4 : 3 = 1.33 lies between 576 × 448 = 1.29 and 640 × 384 = 1.67.
        for (picture, bucket) in [
            ((512, 512), (512, 512)),
            ((4000, 3000), (576, 448)),
            ((3000, 4000), (448, 576)),
            ((1920, 1080), (704, 384)),
            ((100, 1), (1024, 256)),
        ] {
            assert_eq!(buckets.of(picture.0, picture.1), bucket, "{picture:?}");
        }
        assert_eq!(Buckets::square(40).of(300, 200), (40, 40));
    }

    proptest! {
        #[test]
        fn sides_are_multiples_and_areas_are_near(eighths in 1_usize..160, step in 1_usize..20) {
            let resolution = 8 * eighths;
            let used = (8 * step).min(resolution / 4 / 8 * 8).max(8);
            let buckets = Buckets::mixed(resolution, 8 * step);
            for &(width, height) in &buckets.sizes {
                prop_assert!(width % used == 0 && height % used == 0, "{width}×{height}");
                let share = (width * height) as f64 / (resolution * resolution) as f64;
                prop_assert!((0.75..=1.25).contains(&share), "{width}×{height}: {share}");
                prop_assert!(buckets.sizes.contains(&(height, width)));
                prop_assert_eq!(buckets.of(width, height), (width, height));
            }
            prop_assert!(buckets.sizes.iter().any(|(width, height)| width == height));
        }
    }
}
