//! The denoiser of Stable Diffusion (Rombach et al. 2022), as diffusers' `UNet2DConditionModel`.

use candle_core::{DType, Module, Tensor};

use super::unet_2d_blocks::{BlockConfig, DownBlock, MidBlock, UpBlock, UpWidths};
use super::unet_2d_condition_config::UNet2DConditionConfig;
use crate::error::{DiffusionError, Result};
use crate::nn::{
    Activation, Around, Conv2d, Conv2dConfig, GroupNorm, Params, TimestepEmbedding,
    TimestepsConfig, cast, channels_first, channels_last, compute_dtype, timestep_embedding,
    timestep_values,
};

/// A piece of the network: what training computes again when it keeps few activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnetStage {
    /// The first convolution.
    ConvIn,
    /// A resnet and, in blocks with attention, a transformer, on the way down.
    Down { block: usize, layer: usize },
    /// The end of a block on the way down.
    Downsample { block: usize },
    /// The lowest resolution.
    Mid,
    /// A layer on the way up; takes a residual.
    Up { block: usize, layer: usize },
    /// The end of a block on the way up.
    Upsample { block: usize },
    /// The last norm and convolution.
    Out,
}

impl UnetStage {
    /// True if the way up needs its output again.
    pub(crate) const fn leaves_residual(self) -> bool {
        matches!(self, Self::ConvIn | Self::Down { .. } | Self::Downsample { .. })
    }

    /// True if it takes a residual.
    pub(crate) const fn takes_residual(self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// Predicts the noise (or velocity) in latents at a timestep, given a text.
#[derive(Clone, Debug)]
pub struct UNet2DConditionModel {
    conv_in: Conv2d,
    time_proj: TimestepsConfig,
    time_embedding: TimestepEmbedding,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    activation: Activation,
    config: UNet2DConditionConfig,
    /// Of activations.
    dtype: DType,
}

impl UNet2DConditionModel {
    /// Loads the model.
    ///
    /// # Errors
    /// Those of [`UNet2DConditionConfig::validate`] and [`Params::get`].
    pub fn load(config: &UNet2DConditionConfig, params: &Params) -> Result<Self> {
        config.validate()?;
        let resolutions = config.resolutions()?;
        let blocks = resolutions.len();
        let (first, deepest) = (resolutions[0], resolutions[blocks - 1]);
        let shared = BlockConfig::new(config)?;
        let activation = config.activation()?;
        let same_size = |kernel_size| Conv2dConfig::new(kernel_size, 1, (kernel_size - 1) / 2);

        // 1. the time embedding and the first convolution: like the last one computed in f32, so that what comes in and
        // goes out is not rounded
        let time_proj = TimestepsConfig {
            num_channels: first.width,
            flip_sin_to_cos: config.flip_sin_to_cos,
            downscale_freq_shift: config.freq_shift,
        };
        let time_embedding = TimestepEmbedding::load(
            first.width,
            config.time_embed_dim(),
            config.time_cond_proj_dim,
            activation,
            &params.pp("time_embedding"),
        )?;
        let conv_in = Conv2d::load_in_f32(
            config.in_channels,
            first.width,
            same_size(config.conv_in_kernel),
            &params.pp("conv_in"),
        )?;

        // 2. down
        let mut down_blocks = Vec::with_capacity(blocks);
        let mut in_channels = first.width;
        for (i, resolution) in resolutions.iter().copied().enumerate() {
            let params = params.pp("down_blocks").pp(i);
            let block_type = &config.down_block_types[i];
            let is_final = i + 1 == blocks;
            down_blocks.push(DownBlock::load(
                block_type,
                &shared,
                in_channels,
                resolution,
                is_final,
                &params,
            )?);
            in_channels = resolution.width;
        }

        // 3. middle
        let mid_block = config
            .mid_block_type
            .as_deref()
            .map(|block_type| MidBlock::load(block_type, &shared, deepest, &params.pp("mid_block")))
            .transpose()?;

        // 4. up
        let mut up_blocks = Vec::with_capacity(blocks);
        let mut previous = deepest.width;
        for (i, block_type) in config.up_block_types.iter().enumerate() {
            let level = blocks - 1 - i;
            let resolution = resolutions[level];
            let next = resolutions[level.saturating_sub(1)].width;
            let params = params.pp("up_blocks").pp(i);
            let widths = UpWidths { previous, next };
            let is_final = level == 0;
            up_blocks
                .push(UpBlock::load(block_type, &shared, widths, resolution, is_final, &params)?);
            previous = resolution.width;
        }

        // 5. out
        let (groups, eps) = (config.norm_num_groups, config.norm_eps);
        let conv_norm_out = GroupNorm::load(groups, first.width, eps, &params.pp("conv_norm_out"))?;
        let conv_out = Conv2d::load_in_f32(
            first.width,
            config.out_channels,
            same_size(config.conv_out_kernel),
            &params.pp("conv_out"),
        )?;
        Ok(Self {
            conv_in,
            time_proj,
            time_embedding,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out,
            conv_out,
            activation,
            config: config.clone(),
            dtype: compute_dtype(params),
        })
    }

    /// What the model was built from.
    #[must_use]
    pub const fn config(&self) -> &UNet2DConditionConfig {
        &self.config
    }

    /// The prediction for `sample`.
    ///
    /// # Shapes
    /// - sample: `(b, in_channels, h, w)`, scaled latents; inpainting models take latents, mask and the masked image's
    ///   latents, in this order
    /// - timestep: `(b)`, any float or u32
    /// - `encoder_hidden_states`: `(b, n, cross_attention_dim)`, in the dtype of `sample`
    /// - returns: `(b, out_channels, h, w)`
    ///
    /// # Errors
    /// [`DiffusionError::Shape`].
    pub fn forward(
        &self,
        sample: &Tensor,
        timestep: &Tensor,
        encoder_hidden_states: &Tensor,
    ) -> Result<Tensor> {
        self.forward_conditioned(sample, timestep, encoder_hidden_states, None)
    }

    /// As [`UNet2DConditionModel::forward`], with the condition beside the timestep that LCM models take
    /// ([`guidance_scale_embedding`](crate::nn::guidance_scale_embedding)).
    ///
    /// # Shapes
    /// - `timestep_cond`: `(b, time_cond_proj_dim)`
    ///
    /// # Errors
    /// [`DiffusionError::Shape`]; [`DiffusionError::Argument`] if the model takes no such condition.
    pub fn forward_conditioned(
        &self,
        sample: &Tensor,
        timestep: &Tensor,
        encoder_hidden_states: &Tensor,
        timestep_cond: Option<&Tensor>,
    ) -> Result<Tensor> {
        self.check_inputs(sample, timestep, encoder_hidden_states, timestep_cond)?;
        let context = encoder_hidden_states.to_dtype(self.dtype)?;
        let temb = self.time_embedding(timestep, timestep_cond, sample)?;
        let mut xs = sample.clone();
        let mut residuals = Vec::new();
        for stage in self.stages() {
            xs = self.run_stage(stage, &xs, &mut residuals, &temb, &context)?;
        }
        Ok(xs)
    }

    /// The embedding of the timesteps, in the dtype and on the device of `sample`: sines in f32, then two layers.
    ///
    /// # Shapes
    /// - timestep: `(b)`; `timestep_cond`: `(b, time_cond_proj_dim)`
    /// - returns: `(b, time_embed_dim)`
    pub(crate) fn time_embedding(
        &self,
        timestep: &Tensor,
        timestep_cond: Option<&Tensor>,
        sample: &Tensor,
    ) -> Result<Tensor> {
        let dtype = sample.dtype();
        let timesteps = timestep_values(timestep)?;
        let projected = timestep_embedding(&timesteps, self.time_proj, sample.device())?;
        let timestep_cond = timestep_cond.map(|cond| cond.to_dtype(dtype)).transpose()?;
        self.time_embedding.forward(&projected.to_dtype(dtype)?, timestep_cond.as_ref())
    }

    /// The stages that a sample passes through, in order.
    pub(crate) fn stages(&self) -> Vec<UnetStage> {
        let mut stages = vec![UnetStage::ConvIn];
        for (block, down) in self.down_blocks.iter().enumerate() {
            stages.extend((0..down.len()).map(|layer| UnetStage::Down { block, layer }));
            if down.has_downsampler() {
                stages.push(UnetStage::Downsample { block });
            }
        }
        if self.mid_block.is_some() {
            stages.push(UnetStage::Mid);
        }
        for (block, up) in self.up_blocks.iter().enumerate() {
            stages.extend((0..up.len()).map(|layer| UnetStage::Up { block, layer }));
            if up.has_upsampler() {
                stages.push(UnetStage::Upsample { block });
            }
        }
        stages.push(UnetStage::Out);
        stages
    }

    /// One stage. Pictures are channels-last between stages, `(b, c, h, w)` before the first and behind the last. What
    /// the way up needs again is pushed to `residuals`, and taken off its end there.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub(crate) fn run_stage(
        &self,
        stage: UnetStage,
        xs: &Tensor,
        residuals: &mut Vec<Tensor>,
        temb: &Tensor,
        context: &Tensor,
    ) -> Result<Tensor> {
        let out = match stage {
            UnetStage::ConvIn => {
                let centred = self.config.center_input_sample;
                let xs = if centred { xs.affine(2.0, -1.0)? } else { xs.clone() };
                let xs = channels_last(&xs, xs.dtype())?;
                cast(&self.conv_in.forward(&xs)?, self.dtype)?
            }
            UnetStage::Down { block, layer } => {
                self.down_blocks[block].layer(layer, xs, temb, context)?
            }
            UnetStage::Downsample { block } => self.down_blocks[block].downsample(xs)?,
            UnetStage::Mid => match &self.mid_block {
                Some(mid) => mid.forward(xs, temb, context)?,
                None => xs.clone(),
            },
            UnetStage::Up { block, layer } => {
                let residual =
                    residuals.pop().expect("one was pushed for every layer on the way up");
                self.up_blocks[block].layer(layer, xs, &residual, temb, context)?
            }
            UnetStage::Upsample { block } => {
                // What comes next is joined with what remains there, so that says the size, odd ones too.
                let size = residuals.last().map(Tensor::dims4).transpose()?;
                self.up_blocks[block].upsample(xs, size.map(|(_, h, w, _)| (h, w)))?
            }
            UnetStage::Out => {
                let (norm, activation) = (Some(&self.conv_norm_out), Some(self.activation));
                let around = Around { norm, activation, ..Around::default() };
                let out = self.conv_out.forward_around(xs, around)?;
                channels_first(&out)?
            }
        };
        if stage.leaves_residual() {
            residuals.push(out.clone());
        }
        Ok(out)
    }

    fn check_inputs(
        &self,
        sample: &Tensor,
        timestep: &Tensor,
        encoder_hidden_states: &Tensor,
        timestep_cond: Option<&Tensor>,
    ) -> Result<()> {
        let channels = self.config.in_channels;
        let b = match *sample.dims() {
            [b, c, h, w] if b > 0 && c == channels && h > 0 && w > 0 => b,
            _ => {
                let expected = format!("(b, {channels}, h, w)");
                return Err(DiffusionError::shape("sample", expected, sample.dims()));
            }
        };
        if timestep.dims() != [b] {
            return Err(DiffusionError::shape("timestep", format!("({b})"), timestep.dims()));
        }
        let dim = self.config.context_dim();
        let context = encoder_hidden_states.dims();
        if !matches!(*context, [rows, n, d] if rows == b && n > 0 && d == dim) {
            let expected = format!("({b}, n, {dim})");
            return Err(DiffusionError::shape("encoder_hidden_states", expected, context));
        }
        match (timestep_cond, self.config.time_cond_proj_dim) {
            (None, _) => Ok(()),
            (Some(cond), Some(dim)) if cond.dims() == [b, dim] => Ok(()),
            (Some(cond), Some(dim)) => {
                Err(DiffusionError::shape("timestep_cond", format!("({b}, {dim})"), cond.dims()))
            }
            (Some(_), None) => Err(DiffusionError::argument(
                "timestep_cond",
                "none, since the model has no time_cond_proj_dim",
                "a tensor",
            )),
        }
    }
}
