//! The network that decides by what the others, and the classical detector, say of a pixel and of all around it.

use std::path::Path;

use candle_core::Device;
use imaging::detect::Palette;
use imaging::imgproc::histogram;
use imaging::{Image, Observer, Plane, Rect};

use super::levels::{Said, level, log_odds, mean_of_levels, probability};
use super::prior;
use super::tiles::{answer, ask_all, tiles};
use crate::checkpoint::{SafetensorsFile, TensorSource as _};
use crate::error::{DiffusionError, Result};
use crate::models::{PixelUnet, PixelUnetConfig};
use crate::pixels::luma_plane;

/// What is added to the networks' log-odds where the classical detector has found something near, and what
/// where it has not: the networks must be 5 % sure there, 66 % elsewhere, for even odds. Chosen on photographs that are
/// neither samples nor learned from (`docs/models.md`).
const SEEN: f32 = 2.944;
const UNSEEN: f32 = -0.65;
/// What is added to the judge's log-odds: it must be 82 % sure for even odds, and more in a picture with little damage
/// ([`prior::correction`]). Chosen likewise.
const CAUTION: f32 = -1.5;
/// The same where one network was asked alone, which is less sure: 68 %.
const CAUTION_ALONE: f32 = -0.75;
/// Where the log-odds are below this all over a tile there is no damage, and the judge is not asked.
const DOUBTFUL: f32 = -5.0;
/// Nor does more or less than this of a colour's evidence count for it.
const MOST: f32 = 5.3;

/// It has no norms: tiles need only see what is near.
const SIDE: usize = 480;
const MARGIN: usize = 16;

/// A network without norms that corrects the log-odds of others.
#[derive(Clone, Debug)]
pub(super) struct Judge(PixelUnet);

/// What is known of a picture's pixels before anything is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) said: &'a Said<Plane<u8>>,
    /// Above 0 where the classical detector has found something near.
    pub(super) seen: &'a Plane<u8>,
    /// How probable it is that each pixel lies in a loss, as a whole region, 0 to 255.
    pub(super) regions: &'a Plane<u8>,
}

impl Known<'_> {
    /// The log-odds that a pixel is damaged, by the networks and by whether the classical detector has found something near.
    fn log_odds(&self, at: usize) -> f32 {
        let Said { first, color, .. } = self.said;
        let first = first.data()[at];
        let said = match color {
            Some(color) => mean_of_levels(first, color.data()[at]),
            None => log_odds(first),
        };
        said + if self.seen.data()[at] > 0 { SEEN } else { UNSEEN }
    }

    /// How probable it is that each pixel is damaged, 0 to 255, without a judge: whole regions, of which the networks may know
    /// parts, then each pixel by itself.
    pub(super) fn probabilities(&self) -> Plane<u8> {
        let mut probable = self.regions.clone();
        for (at, to) in probable.data_mut().iter_mut().enumerate() {
            *to = (*to).max(probability(self.log_odds(at)));
        }
        probable
    }

    /// What a judge is shown of a part of the picture, as rows of values for each of its channels, in their order.
    fn shown(&self, image: &Image, palette: &Palette, part: Rect) -> [Vec<f32>; 6] {
        let values = |plane: &Plane<u8>, value: &dyn Fn(u8) -> f32| {
            let rows = (part.y..part.bottom()).map(|y| &plane.row(y)[part.x..part.right()]);
            rows.flatten().map(|&level| value(level)).collect::<Vec<_>>()
        };
        let odds = |level| log_odds(level) / 4.0;
        let Said { first, color, .. } = self.said;
        let evidence = palette.evidence_in(image, part).into_iter();
        let luma = luma_plane(image.color_planes(part)).map(|value| 2.0 * value - 1.0);
        [
            values(color.as_ref().unwrap_or(first), &odds),
            values(first, &odds),
            values(self.seen, &|seen| f32::from(u8::from(seen > 0))),
            values(self.regions, &|probability| f32::from(probability) / 255.0),
            evidence.map(|evidence| evidence.clamp(-MOST, MOST) / 3.0).collect(),
            luma.into_vec(),
        ]
    }

    /// What [`Self::shown`] is made of but for luma, in bytes, to train a judge with.
    pub(super) fn bytes(&self, image: &Image, palette: &Palette) -> Vec<[u8; 5]> {
        let evidence = palette.evidence_in(image, image.bounds());
        let Said { first, color, .. } = self.said;
        let color = color.as_ref().unwrap_or(first);
        let bytes = |at: usize| {
            let planes = [color, first, self.seen, self.regions];
            let [color, first, seen, regions] = planes.map(|plane| plane.data()[at]);
            [color, first, seen, regions, (24.0 * evidence[at] + 128.0) as u8]
        };
        (0..evidence.len()).map(bytes).collect()
    }
}

impl Judge {
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if the file is no judge, and those of reading it.
    pub(super) fn of_file(file: SafetensorsFile) -> Result<Self> {
        let origin = file.origin();
        let unet = PixelUnet::from_file(file, "judge", &Device::Cpu)?;
        let PixelUnetConfig { in_channels, out_channels, .. } = *unet.config();
        if (in_channels, out_channels) != (6, 1) {
            let problem = format!(
                "expected a judge of 6 channels that gives 1, found {in_channels} and {out_channels}"
            );
            return Err(DiffusionError::checkpoint(Path::new(&origin), problem));
        }
        Ok(Self(unet))
    }

    /// [`Known::probabilities`] as the judge corrects them, and how much of the picture is damaged by what it says.
    ///
    /// # Errors
    /// Those of the tensor operations, and `Cancelled`.
    pub(super) fn probabilities(
        &self,
        image: &Image,
        known: &Known<'_>,
        observer: &dyn Observer,
    ) -> Result<Plane<u8>> {
        let palette = Palette::of(image, &known.probabilities())?;
        let width = image.width();
        let pixels = |core: Rect| {
            (core.y..core.bottom())
                .flat_map(move |y| (core.x..core.right()).map(move |x| y * width + x))
        };
        let mut tiles = tiles(image.size(), SIDE, MARGIN);
        tiles.retain(|tile| pixels(tile.core).any(|at| known.log_odds(at) > DOUBTFUL));
        let found = ask_all(&tiles, ("judge", observer), |tile| {
            let channels = known.shown(image, &palette, tile.seen);
            answer(&self.0, tile, &channels.each_ref().map(Vec::as_slice))
        })?;
        let caution = if known.said.color.is_some() { CAUTION } else { CAUTION_ALONE };
        let mut judged = Plane::filled(width, image.height(), 0_u8);
        for (tile, found) in tiles.iter().zip(found) {
            for (at, added) in pixels(tile.core).zip(found) {
                judged.data_mut()[at] = level(known.log_odds(at) + added);
            }
        }
        let added = caution + prior::correction(&histogram(&judged));
        let of_level: [u8; 256] =
            std::array::from_fn(|level| probability(log_odds(level as u8) + added));
        let mut probable = known.regions.clone();
        for (to, &level) in probable.data_mut().iter_mut().zip(judged.data()) {
            *to = (*to).max(of_level[usize::from(level)]);
        }
        Ok(probable)
    }
}

#[cfg(test)]
mod tests {
    use imaging::{ColorType, Samples, Silent};

    use super::super::levels::level;
    use super::*;
    use crate::carried;

    const SIZE: (usize, usize) = (40, 30);

    fn picture() -> Image {
        let samples = (0..40 * 30 * 3).map(|at| (at * at % 251) as u8).collect();
        Image::new(40, 30, ColorType::Rgb, Samples::U8(samples)).expect("a picture")
    }

    fn plane(value: impl FnMut(usize, usize) -> u8) -> Plane<u8> {
        Plane::from_fn(SIZE.0, SIZE.1, value)
    }

    fn by_one(mut log_odds: impl FnMut(usize, usize) -> f32) -> Said<Plane<u8>> {
        let first = plane(|x, y| level(log_odds(x, y)));
        Said { joined: first.clone(), first, color: None }
    }

    /// Damage down to the tenth row, sure but for the second half of its columns.
    fn said() -> Said<Plane<u8>> {
        by_one(|x, y| if y >= 10 { -7.0 } else { 6.0 - x as f32 / 8.0 })
    }

    #[test]
    fn the_classical_detector_and_whole_regions_count() {
        let said = by_one(|_, _| -1.0);
        let seen = plane(|x, _| u8::from(x < 20) * 255);
        let regions = plane(|_, y| u8::from(y == 3) * 200);
        let known = Known { said: &said, seen: &seen, regions: &regions };
        let probable = known.probabilities();
        assert_eq!(probable.get(0, 0), probability(-1.0 + SEEN));
        assert_eq!(probable.get(30, 0), probability(-1.0 + UNSEEN));
        assert_eq!((probable.get(0, 3), probable.get(30, 3)), (probable.get(0, 0), 200));
    }

    #[test]
    fn what_is_shown_is_what_it_learned_from() {
        let (image, said) = (picture(), said());
        let seen = plane(|x, y| u8::from((x + y) % 3 == 0) * 255);
        let regions = plane(|x, _| x as u8 * 6);
        let known = Known { said: &said, seen: &seen, regions: &regions };
        let palette = Palette::of(&image, &known.probabilities()).expect("sizes");
        let part = Rect::new(5, 4, 20, 12);
        let shown = known.shown(&image, &palette, part);
        let bytes = known.bytes(&image, &palette);
        let luma = image.luma8();
        let mut kinds_of_evidence = [0; 2];
        for at in 0..part.area() {
            let (x, y) = (part.x + at % part.width, part.y + at / part.width);
            let [color, first, seen, regions, evidence] = bytes[y * SIZE.0 + x];
            assert_eq!(shown[0][at], (f32::from(color) - 128.0) / 64.0);
            assert_eq!(shown[1][at], (f32::from(first) - 128.0) / 64.0);
            assert_eq!(shown[2][at], f32::from(u8::from(seen > 0)));
            assert_eq!(shown[3][at], f32::from(regions) / 255.0);
            assert!((shown[4][at] - (f32::from(evidence) - 128.0) / 72.0).abs() < 1.0 / 72.0);
            let of_8_bits = f32::from(luma.get(x, y)) / 127.5 - 1.0;
            assert!((shown[5][at] - of_8_bits).abs() < 0.51 / 127.5, "but for rounding");
            kinds_of_evidence[usize::from(shown[4][at] > 0.0)] += 1;
        }
        assert!(kinds_of_evidence.iter().all(|&count| count > 20), "{kinds_of_evidence:?}");
    }

    #[test]
    fn the_judge_is_asked_about_doubtful_tiles() {
        let judge = Judge::of_file(carried::judge().expect("a file")).expect("whole");
        let (image, nothing) = (picture(), plane(|_, _| 0));
        let judged = |said: &Said<Plane<u8>>| {
            let known = Known { said, seen: &nothing, regions: &nothing };
            let judged = judge.probabilities(&image, &known, &Silent).expect("valid");
            (judged, known.probabilities())
        };
        let (at_rest, before) = judged(&by_one(|_, _| -6.0));
        assert!(before.data().iter().all(|&probability| probability == before.get(0, 0)));
        assert!(at_rest.data().iter().all(|&probability| probability == 0));
        let (doubted, before) = judged(&said());
        assert!((0..10).all(|y| doubted.row(y) != before.row(y)));
        assert!((15..30).all(|y| doubted.row(y).iter().all(|&probability| probability < 128)));
    }

    #[test]
    fn other_networks_are_no_judge() {
        let error = Judge::of_file(carried::refiner().expect("a file")).expect_err("a refiner");
        assert!(error.to_string().contains("expected a judge, found a refiner"), "{error}");
    }
}
