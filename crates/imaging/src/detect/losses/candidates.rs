//! Regions that may be wide losses, for detectors that have another witness.

use super::measure::Measured;
use crate::error::{ImagingError, Result};
use crate::geometry::Rect;
use crate::imgproc::{Interpolation, resize};
use crate::plane::Plane;

/// Weights of what is measured of a region ([`LossRegion::terms`]), and the log-odds where all of it is 0. Paper and ground are
/// even and yet grained, where skies and blurred backgrounds are smooth. Fitted with the carried network as the other
/// witness (`tools/models/fit_losses.py`).
const WEIGHTS: [f64; 8] = [1.27, -0.73, -1.96, 0.87, 1.07, 0.59, -0.58, 0.42];
const BIAS: f64 = 3.56;
/// The log-odds that another witness can give a pixel, at most.
const SURE: f32 = 8.0;
/// Regions whose log-odds stay below this whatever another witness says are let go.
const HOPELESS: f64 = -4.0;

/// Where a region lies in the copy of [`LossCandidates::size`].
#[derive(Clone, Debug)]
pub struct LossArea {
    pub(super) bounds: Rect,
    /// The region within `bounds`: 255 inside, 0 outside.
    pub(super) region: Plane<u8>,
}

impl LossArea {
    /// The mean of a plane of the copy's size over the region.
    #[must_use]
    pub fn mean(&self, plane: &Plane<f32>) -> f64 {
        let (mut sum, mut count) = (0.0, 0_usize);
        for (row, y) in self.region.rows().zip(self.bounds.y..) {
            let values = &plane.row(y)[self.bounds.x..self.bounds.right()];
            for (_, &value) in row.iter().zip(values).filter(|&(&region, _)| region > 0) {
                sum += f64::from(value);
                count += 1;
            }
        }
        sum / count.max(1) as f64
    }

    /// Raises the region's pixels to `value`.
    pub(super) fn paint(&self, onto: &mut Plane<u8>, value: u8) {
        for (row, y) in self.region.rows().zip(self.bounds.y..) {
            let out = &mut onto.row_mut(y)[self.bounds.x..self.bounds.right()];
            out.iter_mut().zip(row).for_each(|(out, &region)| *out = (*out).max(value & region));
        }
    }
}

/// A region of the reduced copy and what was measured of it.
#[derive(Clone, Debug)]
pub(super) struct LossCandidate {
    pub(super) area: LossArea,
    pub(super) measured: Measured,
}

impl LossCandidate {
    /// Whether another witness can make it a loss, in a picture of this size.
    pub(super) fn is_open(&self, (width, height): (usize, usize)) -> bool {
        weighed(&self.measured.terms(SURE.into(), width * height)) > HOPELESS
    }
}

/// The log-odds of a loss.
fn weighed(terms: &[f64; 8]) -> f64 {
    BIAS + WEIGHTS.iter().zip(terms).map(|(weight, term)| weight * term).sum::<f64>()
}

/// What one region is decided by.
#[derive(Clone, Copy, Debug)]
pub struct LossRegion<'a> {
    /// Its pixels.
    pub area: &'a LossArea,
    /// Natural logarithms of: the distance in colour that nine tenths of its outline reach, plus 3; the difference in brightness
    /// between its halves, plus ½; the distance in colour that nine tenths of it stay below, plus 3; its grain (the median
    /// of second differences both ways), plus ½; its compactness, `4π · area / perimeter²`; its share of the picture. All in
    /// 8-bit levels. Then 1 if it is as dark as a shadow, else 0, and the mean log-odds of the other witness.
    pub terms: [f64; 8],
}

/// Every region of a picture that may be a wide loss, on the copy of at most
/// [`LossParams::max_side`](super::super::LossParams::max_side) pixels a side where they were looked for.
#[derive(Clone, Debug)]
pub struct LossCandidates {
    full: (usize, usize),
    small: (usize, usize),
    list: Vec<LossCandidate>,
}

impl LossCandidates {
    pub(super) const fn new(
        full: (usize, usize),
        small: (usize, usize),
        list: Vec<LossCandidate>,
    ) -> Self {
        Self { full, small, list }
    }

    /// No regions, of a picture of this size.
    pub(in crate::detect) const fn none(size: (usize, usize)) -> Self {
        Self::new(size, size, Vec::new())
    }

    /// Width and height of the copy in pixels.
    #[must_use]
    pub const fn size(&self) -> (usize, usize) {
        self.small
    }

    /// How probable it is that each pixel of the picture lies in a wide loss, 0 to 255, by what was measured of the regions
    /// around it and by another witness, `log_odds`: its natural log-odds that a pixel is damaged, of [`LossCandidates::size`],
    /// of which no more than ±8 counts. 0 outside all regions.
    ///
    /// # Errors
    /// `Size` if `log_odds` is of another size.
    pub fn probabilities(&self, log_odds: &Plane<f32>) -> Result<Plane<u8>> {
        let (width, height) = self.small;
        let mut probable = Plane::filled(width, height, 0_u8);
        for LossRegion { area, terms } in self.regions(log_odds)? {
            let probability = (255.0 / (1.0 + (-weighed(&terms)).exp())).round() as u8;
            area.paint(&mut probable, probability);
        }
        self.enlarged(probable)
    }

    /// The regions that may be losses, and what [`LossCandidates::probabilities`] decides each by. `log_odds` as there.
    ///
    /// # Errors
    /// `Size` if `log_odds` is of another size.
    pub fn regions(&self, log_odds: &Plane<f32>) -> Result<impl Iterator<Item = LossRegion<'_>>> {
        ImagingError::check_size("log-odds", self.small, log_odds.size())?;
        let pixels = log_odds.data().len();
        let log_odds = log_odds.map(|odds| odds.clamp(-SURE, SURE));
        Ok(self.list.iter().map(move |LossCandidate { area, measured }| LossRegion {
            area,
            terms: measured.terms(area.mean(&log_odds), pixels),
        }))
    }

    /// At the picture's size. An outline runs where half of a pixel's surroundings lie inside, and keeps its probability up to
    /// there.
    fn enlarged(&self, probable: Plane<u8>) -> Result<Plane<u8>> {
        if self.small == self.full {
            return Ok(probable);
        }
        let (width, height) = self.full;
        let covered = probable.map(|value| if value > 0 { 255 } else { 0 });
        let covered = resize(&covered, width, height, Interpolation::Linear)?;
        let mut enlarged = resize(&probable, width, height, Interpolation::Linear)?;
        for (value, &covered) in enlarged.data_mut().iter_mut().zip(covered.data()) {
            *value = if covered < 128 {
                0
            } else {
                (u32::from(*value) * 255 / u32::from(covered)).min(255) as u8
            };
        }
        Ok(enlarged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{DetectParams, detect_with_candidates};
    use crate::{ColorType, Image, Samples, Silent};

    /// Waves, and on them a grey square, hardly lighter than their crests and not quite even: it may be a loss, or not.
    fn waves(width: usize, height: usize, square: Rect) -> Image {
        let samples = (0..width * height).map(|i| {
            let (x, y) = (i % width, i / width);
            if (square.x..square.right()).contains(&x) && (square.y..square.bottom()).contains(&y) {
                return 116
                    + ((x - square.x) * 14 / square.width) as u8
                    + (x * 7 + y * 13) as u8 % 3;
            }
            (90.0 + 10.0 * (0.3 * x as f32).sin() + 10.0 * (0.23 * y as f32).cos()) as u8
        });
        Image::new(width, height, ColorType::Gray, Samples::U8(samples.collect()))
            .expect("as many samples as pixels")
    }

    fn candidates(image: &Image) -> LossCandidates {
        detect_with_candidates(image, &DetectParams::default(), &Silent).expect("defaults").1
    }

    #[test]
    fn the_other_witness_decides_where_what_was_measured_leaves_it_open() {
        let square = Rect::new(80, 50, 40, 30);
        let candidates = candidates(&waves(220, 150, square));
        let at_middle = |log_odds: f32| {
            let log_odds = Plane::filled(220, 150, log_odds);
            let probable = candidates.probabilities(&log_odds).expect("the picture's size");
            assert_eq!(probable.size(), (220, 150));
            probable.get(100, 65)
        };
        let [never, rather_not, rather, always] = [-8.0, -4.0, 0.0, 8.0].map(at_middle);
        assert!(never < rather_not && rather_not < rather && rather < always);
        assert!(never < 64 && always > 192, "{never} … {always}");
        assert_eq!(at_middle(8.0), at_middle(100.0), "no more than 8 counts");
    }

    #[test]
    fn a_region_is_enlarged_to_its_outline_in_the_picture() {
        let square = Rect::new(400, 250, 200, 150);
        let image = waves(1100, 750, square);
        let candidates = candidates(&image);
        let (width, height) = candidates.size();
        assert_eq!((width, height), (640, 436));
        let inside = |x: usize, y: usize, by: isize| {
            let within = |at: usize, from: usize, to: usize| {
                (from as isize - by..to as isize + by).contains(&(at as isize))
            };
            within(x, square.x, square.right()) && within(y, square.y, square.bottom())
        };
        let scale = 640.0 / 1100.0;
        let log_odds = Plane::from_fn(width, height, |x, y| {
            let full = |at: usize| (at as f32 / scale) as usize;
            if inside(full(x), full(y), 0) { 6.0 } else { -8.0 }
        });
        let probable = candidates.probabilities(&log_odds).expect("the copy's size");
        assert_eq!(probable.size(), image.size());
        for y in 0..750 {
            for x in 0..1100 {
                if inside(x, y, -6) {
                    assert!(probable.get(x, y) >= 128, "({x}, {y}) inside");
                } else if !inside(x, y, 6) {
                    assert!(probable.get(x, y) < 128, "({x}, {y}) outside");
                }
            }
        }
    }

    #[test]
    fn log_odds_of_another_size_are_an_error() {
        let candidates = candidates(&waves(220, 150, Rect::new(80, 50, 40, 30)));
        let error = candidates.probabilities(&Plane::filled(150, 220, 0.0)).expect_err("turned");
        assert!(error.to_string().contains("log-odds"), "{error}");
    }

    #[test]
    fn pictures_too_small_for_losses_have_none() {
        let image = waves(12, 9, Rect::new(0, 0, 0, 0));
        let candidates = candidates(&image);
        let probable = candidates.probabilities(&Plane::filled(12, 9, 8.0)).expect("same size");
        assert!(probable.data().iter().all(|&value| value == 0));
    }
}
