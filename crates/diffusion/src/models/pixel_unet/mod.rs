//! A U-Net (Ronneberger et al. 2015) on the picture's own pixels: small, without norms, for one pass over all of a scan.
//!
//! ```text
//! conv_in ─► blocks ──────────────────────────────(+)─► blocks ─► conv_out
//!              └► downsample ─► blocks ──(+)─► blocks ─► upsample ─┘
//!                                 └► … ─► upsample ─┘
//! ```
//!
//! A block is `x + conv2(silu(conv1(silu(x))))`, as in a residual network with the activation first (He et al. 2016). There is
//! nothing in it that depends on the whole window, neither norm nor attention, so that a large picture may be cut into
//! overlapping windows anywhere: away from a window's border each pixel sees the same.

mod config;
mod file;
mod initial;

pub use self::config::PixelUnetConfig;
pub use self::initial::InitialWeights;

pub(crate) use self::file::save;

use candle_core::{Module as _, Tensor};

use crate::error::{DiffusionError, Result};
use crate::nn::{Activation, Around, Conv2d, Conv2dConfig, Params};

/// Halves the sides, rounded up.
const HALVE: Conv2dConfig = Conv2dConfig::new(3, 2, 1);

/// `x + conv2(silu(conv1(silu(x))))`.
#[derive(Clone, Debug)]
struct Block {
    conv1: Conv2d,
    conv2: Conv2d,
}

impl Block {
    fn load(width: usize, params: &Params) -> Result<Self> {
        let conv = |name| Conv2d::load(width, width, Conv2dConfig::SAME_3X3, &params.pp(name));
        Ok(Self { conv1: conv("conv1")?, conv2: conv("conv2")? })
    }

    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let inner = self.conv1.forward(&Activation::Silu.forward(xs)?)?;
        let inner = Activation::Silu.forward(&inner)?;
        self.conv2.forward_around(&inner, Around { residual: Some(xs), ..Around::default() })
    }
}

/// One resolution, on the way down and on the way up.
#[derive(Clone, Debug)]
struct Level {
    down: Vec<Block>,
    up: Vec<Block>,
    /// To the next smaller one and back; the smallest has none.
    between: Option<(Conv2d, Conv2d)>,
}

/// The network.
#[derive(Clone, Debug)]
pub struct PixelUnet {
    config: PixelUnetConfig,
    conv_in: Conv2d,
    levels: Vec<Level>,
    conv_out: Conv2d,
}

impl PixelUnet {
    /// Loads `conv_in`, `levels.I.down.J`, `levels.I.downsample`, `levels.I.upsample`, `levels.I.up.J` and `conv_out`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] for a configuration that makes no sense, and those of [`Params::get`].
    pub fn load(config: &PixelUnetConfig, params: &Params) -> Result<Self> {
        config.validate()?;
        let widths = &config.widths;
        let same = Conv2dConfig::SAME_3X3;
        let mut levels = Vec::with_capacity(widths.len());
        for (i, (&width, &depth)) in widths.iter().zip(&config.blocks).enumerate() {
            let params = params.pp("levels").pp(i);
            let blocks = |name: &str, count: usize| -> Result<Vec<Block>> {
                (0..count).map(|j| Block::load(width, &params.pp(name).pp(j))).collect()
            };
            let between = match widths.get(i + 1) {
                Some(&next) => Some((
                    Conv2d::load(width, next, HALVE, &params.pp("downsample"))?,
                    Conv2d::load(next, width, same, &params.pp("upsample"))?,
                )),
                None => None,
            };
            // The smallest level has one way only.
            let up = if between.is_some() { depth } else { 0 };
            levels.push(Level { down: blocks("down", depth)?, up: blocks("up", up)?, between });
        }
        Ok(Self {
            conv_in: Conv2d::load(config.in_channels, widths[0], same, &params.pp("conv_in"))?,
            conv_out: Conv2d::load(widths[0], config.out_channels, same, &params.pp("conv_out"))?,
            levels,
            config: config.clone(),
        })
    }

    /// What it was built from.
    #[must_use]
    pub const fn config(&self) -> &PixelUnetConfig {
        &self.config
    }

    /// # Shapes
    /// - xs: `(b, h, w, in_channels)`, f32; sides that are no multiples of [`PixelUnetConfig::down_factor`] are continued by
    ///   the last row and column meanwhile
    /// - returns: `(b, h, w, out_channels)`
    ///
    /// # Errors
    /// [`DiffusionError::Shape`] for another shape, and those of the tensor operations.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let &[_, h, w, channels] = xs.dims() else {
            return Err(DiffusionError::shape("pixels", "(b, h, w, channels)", xs.dims()));
        };
        if channels != self.config.in_channels {
            let expected = format!("(b, h, w, {})", self.config.in_channels);
            return Err(DiffusionError::shape("pixels", expected, xs.dims()));
        }
        let factor = self.config.down_factor();
        let missing = |side: usize| side.next_multiple_of(factor) - side;
        if missing(h) + missing(w) > 0 {
            let xs = xs.pad_with_same(1, 0, missing(h))?.pad_with_same(2, 0, missing(w))?;
            return Ok(self.forward_whole(&xs)?.narrow(1, 0, h)?.narrow(2, 0, w)?);
        }
        self.forward_whole(xs)
    }

    /// [`PixelUnet::forward`] where the sides fit.
    fn forward_whole(&self, xs: &Tensor) -> Result<Tensor> {
        // 1. down
        let mut xs = self.conv_in.forward(xs)?;
        let mut kept = Vec::new();
        for level in &self.levels {
            for block in &level.down {
                xs = block.forward(&xs)?;
            }
            if let Some((downsample, _)) = &level.between {
                let smaller = downsample.forward(&Activation::Silu.forward(&xs)?)?;
                kept.push(xs);
                xs = smaller;
            }
        }

        // 2. up
        for level in self.levels.iter().rev() {
            if let Some((_, upsample)) = &level.between
                && let Some(skip) = kept.pop()
            {
                let (_, h, w, _) = skip.dims4()?;
                let around =
                    Around { resize: Some((h, w)), residual: Some(&skip), ..Around::default() };
                xs = upsample.forward_around(&Activation::Silu.forward(&xs)?, around)?;
            }
            for block in &level.up {
                xs = block.forward(&xs)?;
            }
        }
        Ok(self.conv_out.forward(&Activation::Silu.forward(&xs)?)?)
    }
}
