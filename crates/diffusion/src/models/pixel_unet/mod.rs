//! A U-Net (Ronneberger et al. 2015) on the picture's own pixels: small, without norms, for one pass over all of a scan.
//!
//! ```text
//! conv_in ─► blocks ──────────────────────────────(+)─► blocks ─► conv_out
//!              └► downsample ─► blocks ──(+)─► blocks ─► upsample ─┘
//!                                 └► … ─► upsample ─┘
//! ```
//!
//! A block is `x + conv2(silu(norm2(conv1(silu(norm1(x))))))`, as in a residual network with the activation first (He et al.
//! 2016). Without norms nothing in it depends on the whole window, so that a large picture may be cut into overlapping windows
//! anywhere: away from a window's border each pixel sees the same. With them it learns to find things much sooner in pictures
//! of every brightness and contrast, and windows should be large.

mod config;
mod file;
mod initial;
mod scaled;

pub use self::config::PixelUnetConfig;
pub use self::initial::InitialWeights;

pub(crate) use self::file::save;
pub(crate) use self::scaled::ScaledWeights;

use candle_core::{Module as _, Tensor};

use crate::error::{DiffusionError, Result};
use crate::nn::{Activation, Around, Conv2d, Conv2dConfig, GroupNorm, Params};

/// Halves the sides, rounded up.
const HALVE: Conv2dConfig = Conv2dConfig::new(3, 2, 1);

/// SiLU before a convolution.
const BENT: Around<'_> = Around {
    norm: None,
    activation: Some(Activation::Silu),
    resize: None,
    image_bias: None,
    residual: None,
};

/// Added to the variance in every norm.
const NORM_EPS: f64 = 1e-5;

/// A convolution of what SiLU gives, behind a norm if there is one.
#[derive(Clone, Debug)]
struct Activated {
    norm: Option<GroupNorm>,
    conv: Conv2d,
}

impl Activated {
    /// Loads the convolution `conv` and, if there are groups, the norm `norm`.
    fn load(
        channels: (usize, usize),
        groups: Option<usize>,
        [norm, conv]: [&str; 2],
        params: &Params,
    ) -> Result<Self> {
        let load = |groups| GroupNorm::load(groups, channels.0, NORM_EPS, &params.pp(norm));
        let norm = groups.map(load).transpose()?;
        let same = Conv2dConfig::SAME_3X3;
        Ok(Self { norm, conv: Conv2d::load(channels.0, channels.1, same, &params.pp(conv))? })
    }

    fn forward(&self, xs: &Tensor, residual: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let norm = self.norm.as_ref();
        self.conv.forward_around(xs, Around { norm, residual, ..BENT })
    }
}

/// `x + conv2(silu(norm2(conv1(silu(norm1(x))))))`.
#[derive(Clone, Debug)]
struct Block([Activated; 2]);

impl Block {
    fn load(width: usize, groups: Option<usize>, params: &Params) -> Result<Self> {
        let load = |names| Activated::load((width, width), groups, names, params);
        Ok(Self([load(["norm1", "conv1"])?, load(["norm2", "conv2"])?]))
    }

    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let Self([first, second]) = self;
        second.forward(&first.forward(xs, None)?, Some(xs))
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
    out: Activated,
}

impl PixelUnet {
    /// Loads `conv_in`, `levels.I.down.J`, `levels.I.downsample`, `levels.I.upsample`, `levels.I.up.J`, `norm_out` (if there are
    /// norms) and `conv_out`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] for a configuration that makes no sense, and those of [`Params::get`].
    pub fn load(config: &PixelUnetConfig, params: &Params) -> Result<Self> {
        config.validate()?;
        let (widths, groups) = (&config.widths, config.norm_num_groups);
        let same = Conv2dConfig::SAME_3X3;
        let mut levels = Vec::with_capacity(widths.len());
        for (i, (&width, &depth)) in widths.iter().zip(&config.blocks).enumerate() {
            let params = params.pp("levels").pp(i);
            let blocks = |name: &str, count: usize| -> Result<Vec<Block>> {
                (0..count).map(|j| Block::load(width, groups, &params.pp(name).pp(j))).collect()
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
            out: Activated::load(
                (widths[0], config.out_channels),
                groups,
                ["norm_out", "conv_out"],
                params,
            )?,
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
                let smaller = downsample.forward_around(&xs, BENT)?;
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
                // SiLU of what is enlarged takes a quarter of what it would take behind.
                xs = upsample.forward_around(&Activation::Silu.forward(&xs)?, around)?;
            }
            for block in &level.up {
                xs = block.forward(&xs)?;
            }
        }
        Ok(self.out.forward(&xs, None)?)
    }
}
