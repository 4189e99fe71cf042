//! What a [`PixelUnet`](super::PixelUnet) is built from.

use serde::{Deserialize, Serialize};

use crate::error::{DiffusionError, Result};
use crate::models::config::{self, MAX_CHANNELS, MAX_LAYERS};

const CLASS: &str = "PixelUnet";

/// Widths and depths of a [`PixelUnet`](super::PixelUnet).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelUnetConfig {
    /// Channels that go in.
    pub in_channels: usize,
    /// Channels that come out.
    pub out_channels: usize,
    /// Channels of each resolution, the picture's first; each next one has half the sides.
    pub widths: Vec<usize>,
    /// Blocks of each resolution, on the way down and again on the way up; the smallest has them once.
    pub blocks: Vec<usize>,
    /// Groups of the norms before every convolution of a block and the last one; no norms if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_num_groups: Option<usize>,
}

impl PixelUnetConfig {
    /// Sides must be multiples of it.
    #[must_use]
    pub fn down_factor(&self) -> usize {
        1 << self.widths.len().clamp(1, 16).saturating_sub(1)
    }

    /// How far a pixel of the output can depend on the input, in pixels.
    #[must_use]
    pub fn reach(&self) -> usize {
        let smallest = self.widths.len().saturating_sub(1);
        let level = |(i, &blocks): (usize, &usize)| {
            // Two convolutions a block, and those between the resolutions.
            let ways = if i == smallest { 1 } else { 2 };
            (2 * ways * blocks + 2) << i
        };
        2 + self.blocks.iter().enumerate().map(level).sum::<usize>()
    }

    /// # Errors
    /// [`DiffusionError::Argument`] naming the key that does not fit.
    pub fn validate(&self) -> Result<()> {
        let check = |key, value, max| config::check_count(CLASS, key, value, max);
        check("in_channels", self.in_channels, MAX_CHANNELS)?;
        check("out_channels", self.out_channels, MAX_CHANNELS)?;
        if !(1..=8).contains(&self.widths.len()) || self.widths.len() != self.blocks.len() {
            let name = format!("{CLASS}: widths");
            let expected = format!("1 to 8 numbers, as many as blocks ({})", self.blocks.len());
            return Err(DiffusionError::argument(name, expected, self.widths.len()));
        }
        self.widths.iter().try_for_each(|&width| check("widths", width, MAX_CHANNELS))?;
        if let Some(groups) = self.norm_num_groups {
            config::check_widths(CLASS, "widths", &self.widths, groups)?;
        }
        self.blocks.iter().try_for_each(|&blocks| check("blocks", blocks, MAX_LAYERS))
    }
}
