//! What colours damage has in a picture.

use crate::error::{ImagingError, Result};
use crate::geometry::Rect;
use crate::image::Image;
use crate::plane::Plane;

/// Colours are told apart by so many levels of each channel.
const BINS: usize = 32;
/// Pixels at least so probably damaged, of 255, show what colours damage has…
const DAMAGED: u8 = 179;
/// … and those below this what colours all else has.
const UNDAMAGED: u8 = 51;
/// A colour that no pixel has is as likely damage as any; this many pixels are mixed into each colour to say so.
const PRIOR: f64 = 2.0;
/// Of larger pictures every second, third … row is counted, so that about as many pixels are.
const ENOUGH: usize = 1 << 20;
/// Fewer damaged pixels say nothing.
const LEAST: usize = 30;

/// The colours of a picture's damage. One picture's cracks and losses mostly show one paper or ground, and so where some are
/// certain, another place of their colour is more likely damaged too.
#[derive(Clone, Debug)]
pub struct Palette {
    /// For each colour the natural logarithm of how much more likely damage is there than anywhere; none where too little
    /// damage is certain.
    evidence: Vec<f32>,
}

impl Palette {
    /// The palette of a picture of whose pixels `probable` says how probably they are damaged, 0 to 255. Alpha is ignored.
    ///
    /// # Errors
    /// `Size` if `probable` is of another size.
    pub fn of(image: &Image, probable: &Plane<u8>) -> Result<Self> {
        ImagingError::check_size("probabilities", image.size(), probable.size())?;
        let mut counts = [vec![0.0_f64; BINS.pow(3)], vec![0.0; BINS.pow(3)]];
        let mut totals = [0_usize; 2];
        let every = (probable.data().len() / ENOUGH).max(1);
        for (row, y) in probable.rows().zip(0..).step_by(every) {
            let mut strip = image.bounds();
            (strip.y, strip.height) = (y, 1);
            let planes = image.color_planes(strip);
            for (x, &probability) in row.iter().enumerate() {
                let of = match probability {
                    DAMAGED.. => 0,
                    ..UNDAMAGED => 1,
                    _ => continue,
                };
                counts[of][bin(color_at(&planes, x))] += 1.0;
                totals[of] += 1;
            }
        }
        if totals[0] < LEAST {
            return Ok(Self { evidence: Vec::new() });
        }
        let [damaged, undamaged] = counts.map(smoothed);
        let prior = totals[0] as f64 / (totals[0] + totals[1]) as f64;
        let log_odds = |share: f64| {
            let share = share.clamp(1e-6, 1.0 - 1e-6);
            (share / (1.0 - share)).ln()
        };
        let evidence = |(damaged, undamaged): (f64, f64)| {
            let share = (damaged + PRIOR * prior) / (damaged + undamaged + PRIOR);
            (log_odds(share) - log_odds(prior)) as f32
        };
        Ok(Self { evidence: damaged.into_iter().zip(undamaged).map(evidence).collect() })
    }

    /// By how much a colour, of values in `[0, 1]`, raises the natural log-odds that a pixel is damaged; 0 where too little damage
    /// is certain.
    #[must_use]
    pub fn evidence(&self, color: [f32; 3]) -> f32 {
        self.evidence.get(bin(color)).copied().unwrap_or(0.0)
    }

    /// The [`Self::evidence`] of each pixel of a part of a picture, row by row.
    ///
    /// # Panics
    /// If `part` reaches outside the picture.
    #[must_use]
    pub fn evidence_in(&self, image: &Image, part: Rect) -> Vec<f32> {
        let planes = image.color_planes(part);
        (0..part.area()).map(|at| self.evidence(color_at(&planes, at))).collect()
    }
}

/// A pixel's colour; grey three times.
fn color_at(planes: &[Plane<f32>], at: usize) -> [f32; 3] {
    std::array::from_fn(|channel| planes[channel.min(planes.len() - 1)].data()[at])
}

/// Where a colour is counted.
fn bin(color: [f32; 3]) -> usize {
    let level = |value: f32| (255.0 * value).round().clamp(0.0, 255.0) as usize / (256 / BINS);
    color.into_iter().fold(0, |bin, value| BINS * bin + level(value))
}

/// Counts of colours, spread to their neighbours in each channel by 1/4, 1/2, 1/4.
fn smoothed(mut counts: Vec<f64>) -> Vec<f64> {
    for step in [1, BINS, BINS * BINS] {
        counts = (0..counts.len())
            .map(|at| {
                let level = at / step % BINS;
                let before = if level > 0 { counts[at - step] } else { 0.0 };
                let after = if level + 1 < BINS { counts[at + step] } else { 0.0 };
                0.5 * counts[at] + 0.25 * (before + after)
            })
            .collect();
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ColorType, Samples};

    /// 40×30 pixels of sky; the first 50 of them red, and 5 red ones in its midst.
    fn picture() -> Image {
        let samples = (0..1200_usize).flat_map(|at| match at {
            0..50 | 600..605 => [200, 60, 40],
            _ => [90, 140, 210 + (at % 3) as u8],
        });
        Image::new(40, 30, ColorType::Rgb, Samples::U8(samples.collect())).expect("a picture")
    }

    fn probable(certain: usize) -> Plane<u8> {
        let mut plane = Plane::filled(40, 30, 0_u8);
        plane.data_mut()[..certain].fill(255);
        plane.data_mut()[600..605].fill(100);
        plane
    }

    fn evidence(palette: &Palette, color: [u8; 3]) -> f32 {
        palette.evidence(color.map(|value| f32::from(value) / 255.0))
    }

    #[test]
    fn the_colour_of_certain_damage_speaks_for_damage_elsewhere() {
        let palette = Palette::of(&picture(), &probable(50)).expect("equal sizes");
        assert!(evidence(&palette, [200, 60, 40]) > 2.0);
        assert!(evidence(&palette, [201, 63, 44]) > 2.0, "about the same");
        assert!(evidence(&palette, [90, 140, 211]) < -2.0);
        assert_eq!(evidence(&palette, [0, 255, 0]), 0.0, "nothing has that colour");
    }

    #[test]
    fn little_damage_says_nothing() {
        let palette = Palette::of(&picture(), &probable(29)).expect("equal sizes");
        assert_eq!(evidence(&palette, [200, 60, 40]), 0.0);
    }

    #[test]
    fn counts_are_spread_and_kept() {
        let mut counts = vec![0.0; BINS.pow(3)];
        let at = |r: usize, g: usize, b: usize| (r * BINS + g) * BINS + b;
        counts[at(5, 6, 7)] = 64.0;
        let spread = smoothed(counts);
        assert_eq!(spread[at(5, 6, 7)], 8.0);
        assert_eq!(spread[at(4, 6, 7)], 4.0);
        assert_eq!(spread[at(4, 7, 8)], 1.0);
        assert_eq!(spread.iter().sum::<f64>(), 64.0);
    }

    #[test]
    fn probabilities_of_another_size_are_an_error() {
        let error = Palette::of(&picture(), &Plane::filled(30, 40, 0)).expect_err("turned");
        assert!(error.to_string().contains("probabilities"), "{error}");
    }

    #[test]
    fn grey_pictures_have_one_too() {
        let samples = (0..1200_usize).map(|at| if at < 50 { 230 } else { 80 });
        let grey = Image::new(40, 30, ColorType::Gray, Samples::U8(samples.collect()));
        let palette = Palette::of(&grey.expect("a picture"), &probable(50)).expect("equal sizes");
        assert!(evidence(&palette, [230; 3]) > 2.0 && evidence(&palette, [80; 3]) < -2.0);
    }
}
