//! diffusers' `Transformer2DModel` over an image, its `BasicTransformerBlock`, and the pair of them that
//! `DualTransformer2DModel` mixes.

use candle_core::{Module, Tensor};

use super::attention::{Attention, AttentionConfig};
use super::{
    Around, Conv2d, Conv2dConfig, FeedForward, GroupNorm, LayerNorm, Linear, Params, on_kernels,
};
use crate::error::{DiffusionError, Result};

/// The parts of a [`Transformer2D`].
#[derive(Clone, Copy, Debug)]
pub struct Transformer2DConfig {
    /// Channels of the image.
    pub in_channels: usize,
    /// Heads; each has `in_channels / num_attention_heads` features, rounded down.
    pub num_attention_heads: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Features of the context.
    pub cross_attention_dim: usize,
    /// Groups of the norm before the first projection.
    pub norm_num_groups: usize,
    /// Project with linear layers and not with 1×1 convolutions (SD 2).
    pub use_linear_projection: bool,
    /// The first attention of each block looks at the context too.
    pub only_cross_attention: bool,
    /// Multiply queries and keys in f32.
    pub upcast_attention: bool,
}

/// Self-attention, cross-attention, feed-forward, each behind a layer norm and added to its input.
#[derive(Clone, Debug)]
struct BasicTransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl BasicTransformerBlock {
    fn load(config: Transformer2DConfig, params: &Params) -> Result<Self> {
        const NORM_EPS: f64 = 1e-5;
        let heads = config.num_attention_heads;
        let dim_head = config.in_channels / heads;
        let dim = heads * dim_head;
        let self_context =
            if config.only_cross_attention { config.cross_attention_dim } else { dim };
        let attention = |context_dim, is_self, name| {
            let config = AttentionConfig {
                query_dim: dim,
                context_dim,
                is_self,
                heads,
                dim_head,
                bias: false,
                upcast: config.upcast_attention,
            };
            Attention::load(config, &params.pp(name))
        };
        Ok(Self {
            norm1: LayerNorm::load(dim, NORM_EPS, &params.pp("norm1"))?,
            attn1: attention(self_context, !config.only_cross_attention, "attn1")?,
            norm2: LayerNorm::load(dim, NORM_EPS, &params.pp("norm2"))?,
            attn2: attention(config.cross_attention_dim, false, "attn2")?,
            norm3: LayerNorm::load(dim, NORM_EPS, &params.pp("norm3"))?,
            ff: FeedForward::load(dim, &params.pp("ff"))?,
        })
    }

    fn forward(&self, xs: &Tensor, context: &Tensor) -> candle_core::Result<Tensor> {
        let xs = self.attn1.forward_add(&self.norm1.forward(xs)?, context, xs)?;
        let xs = self.attn2.forward_add(&self.norm2.forward(&xs)?, context, &xs)?;
        self.ff.forward_add(&self.norm3.forward(&xs)?, &xs)
    }
}

/// The projections around the blocks.
#[derive(Clone, Debug)]
enum Projections {
    Linear { proj_in: Linear, proj_out: Linear },
    Pointwise { proj_in: Conv2d, proj_out: Conv2d },
}

/// Attention between the pixels of an image and from them to a context, added to the image.
#[derive(Clone, Debug)]
pub struct Transformer2D {
    norm: GroupNorm,
    projections: Projections,
    transformer_blocks: Vec<BasicTransformerBlock>,
    inner_dim: usize,
}

impl Transformer2D {
    /// Loads `norm`, `proj_in`, `transformer_blocks` and `proj_out`.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if there are no heads or more heads than channels; those of [`Params::get`].
    pub fn load(config: Transformer2DConfig, params: &Params) -> Result<Self> {
        const NORM_EPS: f64 = 1e-6;
        let (c, heads) = (config.in_channels, config.num_attention_heads);
        if heads == 0 || heads > c {
            let expected = format!("1 to {c} heads for the channels of {}", params.path());
            return Err(DiffusionError::argument("attention_head_dim", expected, heads));
        }
        let inner_dim = heads * (c / heads);
        let (proj_in, proj_out) = (params.pp("proj_in"), params.pp("proj_out"));
        let projections = if config.use_linear_projection {
            Projections::Linear {
                proj_in: Linear::load(c, inner_dim, true, &proj_in)?,
                proj_out: Linear::load(inner_dim, c, true, &proj_out)?,
            }
        } else {
            let pointwise = Conv2dConfig::POINTWISE;
            Projections::Pointwise {
                proj_in: Conv2d::load(c, inner_dim, pointwise, &proj_in)?,
                proj_out: Conv2d::load(inner_dim, c, pointwise, &proj_out)?,
            }
        };
        let blocks = params.pp("transformer_blocks");
        Ok(Self {
            norm: GroupNorm::load(config.norm_num_groups, c, NORM_EPS, &params.pp("norm"))?,
            projections,
            transformer_blocks: (0..config.num_layers)
                .map(|i| BasicTransformerBlock::load(config, &blocks.pp(i)))
                .collect::<Result<_>>()?,
            inner_dim,
        })
    }

    /// # Shapes
    /// - xs: `(b, h, w, in_channels)`
    /// - context: `(b, n, cross_attention_dim)`
    /// - returns: `(b, h, w, in_channels)`
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn forward(&self, xs: &Tensor, context: &Tensor) -> candle_core::Result<Tensor> {
        let (b, h, w, _) = xs.dims4()?;
        let norm = Some(&self.norm);
        let hidden = match &self.projections {
            Projections::Linear { proj_in, .. } => proj_in.forward(&self.norm.forward(xs)?)?,
            Projections::Pointwise { proj_in, .. } => {
                proj_in.forward_around(xs, Around { norm, ..Around::default() })?
            }
        };
        // Tokens; the kernels take them as the picture's rows, too.
        let picture = on_kernels(&hidden);
        let mut hidden =
            if picture { hidden } else { hidden.reshape((b, h * w, self.inner_dim))? };
        for block in &self.transformer_blocks {
            hidden = block.forward(&hidden, context)?;
        }
        let hidden = if picture { hidden } else { hidden.reshape((b, h, w, self.inner_dim))? };
        match &self.projections {
            Projections::Linear { proj_out, .. } => proj_out.forward_add(&hidden, xs),
            Projections::Pointwise { proj_out, .. } => {
                let residual = Some(xs);
                proj_out.forward_around(&hidden, Around { residual, ..Around::default() })
            }
        }
    }
}

/// Two transformers over two parts of the context, mixed half and half (`dual_cross_attention`).
#[derive(Clone, Debug)]
pub struct DualTransformer2D {
    transformers: [Transformer2D; 2],
}

impl DualTransformer2D {
    /// The length of the first part of the context; the second is what follows, up to 257.
    pub const CONDITION_LENGTHS: [usize; 2] = [77, 257];

    /// Loads `transformers.0` and `transformers.1`. As upstream, each has one block and pointwise projections,
    /// whatever the model's configuration says of the others.
    ///
    /// # Errors
    /// Those of [`Transformer2D::load`].
    pub fn load(config: Transformer2DConfig, params: &Params) -> Result<Self> {
        let config = Transformer2DConfig {
            num_layers: 1,
            use_linear_projection: false,
            only_cross_attention: false,
            upcast_attention: false,
            ..config
        };
        let transformers = params.pp("transformers");
        Ok(Self {
            transformers: [
                Transformer2D::load(config, &transformers.pp(0))?,
                Transformer2D::load(config, &transformers.pp(1))?,
            ],
        })
    }

    /// # Shapes
    /// As [`Transformer2D::forward`]; the context has more than 77 tokens.
    ///
    /// # Errors
    /// [`DiffusionError::Shape`] if the context is too short.
    pub fn forward(&self, xs: &Tensor, context: &Tensor) -> Result<Tensor> {
        let [first, second] = Self::CONDITION_LENGTHS;
        let n = context.dim(1)?;
        if n <= first {
            let expected = format!("(b, more than {first}, cross_attention_dim)");
            return Err(DiffusionError::shape("encoder_hidden_states", expected, context.dims()));
        }
        // The first part goes through the second transformer and the other way round: upstream's order.
        let a = self.transformers[1].forward(xs, &context.narrow(1, 0, first)?)?;
        let rest = context.narrow(1, first, second.min(n - first))?;
        let b = self.transformers[0].forward(xs, &rest)?;
        // x + ((a - x) + (b - x)) / 2 = (a + b) / 2
        Ok((super::add(&a, &b)? * 0.5)?)
    }
}
