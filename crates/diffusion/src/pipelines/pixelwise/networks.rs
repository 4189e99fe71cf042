//! Networks that say of each pixel how likely it is damaged: one that sees colours, one that sees luma, or both.

use std::path::Path;

use candle_core::Device;
use imaging::detect::is_monochrome;
use imaging::{Image, Rect};

use super::levels::Said;
use super::tiles::{Tile, answer};
use crate::checkpoint::{SafetensorsFile, TensorSource as _};
use crate::error::{DiffusionError, Result};
use crate::models::{PixelUnet, PixelUnetConfig};
use crate::pixels::luma_plane;

/// Where the network that sees luma stays below this all over a tile, the other one is not asked. Chosen on photographs that are
/// neither samples nor learned from (`docs/models.md`).
const DOUBTFUL: f32 = -5.5;
/// What the other one is taken to say there.
const SURE: f32 = -8.0;

/// Pictures of more pixels are shown to the network that sees luma alone: both together would take half as long again for
/// all of a restoration.
const MANY: usize = 8_000_000;

/// Whether a picture has so many pixels that time decides what it is shown to.
pub(super) fn is_large(image: &Image) -> bool {
    image.width() * image.height() > MANY
}

/// A network.
#[derive(Clone, Debug)]
pub(super) struct Network(PixelUnet);

impl Network {
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if the file is no detector, and those of reading it.
    pub(super) fn of_file(file: SafetensorsFile) -> Result<Self> {
        let origin = file.origin();
        let unet = PixelUnet::from_file(file, "detector", &Device::Cpu)?;
        let PixelUnetConfig { in_channels, out_channels, .. } = *unet.config();
        if !matches!((in_channels, out_channels), (1 | 3, 1)) {
            let problem = format!(
                "expected a detector of 3 channels, or 1, that gives 1, found {in_channels} and {out_channels}"
            );
            return Err(DiffusionError::checkpoint(Path::new(&origin), problem));
        }
        Ok(Self(unet))
    }

    /// Its log-odds that each pixel of a tile's core is damaged.
    fn logits(&self, image: &Image, tile: Tile) -> Result<Vec<f32>> {
        if self.0.config().in_channels == 1 {
            let luma = luma_plane(image.color_planes(tile.seen)).map(scaled);
            return answer(&self.0, tile, &[luma.data()]);
        }
        let planes = scaled_planes(image, tile.seen);
        answer(&self.0, tile, &planes.each_ref().map(Vec::as_slice))
    }
}

/// What a detector has.
#[derive(Clone, Debug)]
pub(super) struct Networks {
    pub(super) network: Network,
    /// Sees luma, where the other one sees colours: alone asked about pictures without them, and about large ones.
    pub(super) luma: Option<Network>,
}

/// Those that are asked about a picture.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<'a> {
    One(&'a Network),
    Both { color: &'a Network, luma: &'a Network },
}

impl Networks {
    pub(super) fn asked_of(&self, image: &Image) -> Result<Asked<'_>> {
        let Self { network, luma } = self;
        Ok(match luma {
            None => Asked::One(network),
            Some(luma) if is_large(image) || is_monochrome(image)? => Asked::One(luma),
            Some(luma) => Asked::Both { color: network, luma },
        })
    }
}

impl Asked<'_> {
    pub(super) const fn are_two(&self) -> bool {
        matches!(self, Self::Both { .. })
    }

    /// What they say of each pixel of a tile's core.
    pub(super) fn logits(self, image: &Image, tile: Tile) -> Result<Said<Vec<f32>>> {
        let (color, luma) = match self {
            Self::One(network) => return Ok(Said::by_one(network.logits(image, tile)?)),
            Self::Both { color, luma } => (color, luma),
        };
        let first = luma.logits(image, tile)?;
        let color = if first.iter().any(|&logit| logit > DOUBTFUL) {
            color.logits(image, tile)?
        } else {
            vec![SURE; first.len()]
        };
        Ok(Said::by_two(first, color))
    }
}

/// From `[0, 1]` to `[-1, 1]`.
fn scaled(value: f32) -> f32 {
    2.0 * value - 1.0
}

/// Red, green and blue of a part of the picture in `[-1, 1]`; grey three times.
pub(super) fn scaled_planes(image: &Image, rect: Rect) -> [Vec<f32>; 3] {
    let mut planes = image.color_planes(rect).into_iter().map(|plane| {
        let mut values = plane.into_vec();
        values.iter_mut().for_each(|value| *value = scaled(*value));
        values
    });
    let first = planes.next().unwrap_or_default();
    match (planes.next(), planes.next()) {
        (Some(second), Some(third)) => [first, second, third],
        _ => [first.clone(), first.clone(), first],
    }
}

#[cfg(test)]
mod tests {
    use imaging::{ColorType, Samples};

    use super::*;
    use crate::carried;

    fn picture(color: ColorType) -> Image {
        let channels = color.channels();
        let samples = (0..48 * 40 * channels).map(|at| (at * at % 251) as u8).collect();
        Image::new(48, 40, color, Samples::U8(samples)).expect("a picture")
    }

    #[test]
    fn without_colours_only_the_network_that_sees_luma_is_asked() {
        let network = || Network::of_file(carried::detector().expect("a file")).expect("whole");
        let luma = Network::of_file(carried::luma_detector().expect("a file")).expect("whole");
        let both = Networks { network: network(), luma: Some(luma) };
        let tile = Tile { core: Rect::new(8, 8, 30, 20), seen: Rect::new(0, 0, 48, 40) };
        let grey = picture(ColorType::Gray);
        let asked = both.asked_of(&grey).expect("valid");
        let Asked::One(luma) = asked else { panic!("expected one, found {asked:?}") };
        assert_eq!(luma.0.config().in_channels, 1);
        let said = asked.logits(&grey, tile).expect("log-odds");
        assert_eq!(said.first, luma.logits(&grey, tile).expect("log-odds"));
        assert_eq!(said.color, None);

        let coloured = picture(ColorType::Rgb);
        let asked = both.asked_of(&coloured).expect("valid");
        let Asked::Both { color, luma } = asked else { panic!("expected both") };
        let said = asked.logits(&coloured, tile).expect("log-odds");
        assert_eq!(said.first, luma.logits(&coloured, tile).expect("log-odds"));
        let by_color = color.logits(&coloured, tile).expect("log-odds");
        let doubtful = said.first.iter().any(|&logit| logit > DOUBTFUL);
        assert_eq!(said.color, Some(if doubtful { by_color } else { vec![SURE; 600] }));

        let samples = (0..3 * 4000 * 2001).map(|at| (at % 251) as u8).collect();
        let large =
            Image::new(4000, 2001, ColorType::Rgb, Samples::U8(samples)).expect("a picture");
        assert!(matches!(both.asked_of(&large).expect("valid"), Asked::One(_)));

        let one = Networks { network: network(), luma: None };
        assert!(matches!(one.asked_of(&grey).expect("valid"), Asked::One(_)));
    }
}
