//! What a model predicts, and the clean sample or the noise that follows from it.

use candle_core::Tensor;

use super::choice::Choice;
use super::walk::{combine, divide};
use crate::error::Result;

/// What the model's output means (`prediction_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictionType {
    /// The noise in the sample.
    Epsilon,
    /// The clean sample.
    Sample,
    /// The velocity, `alpha · noise − sigma · sample` (Salimans and Ho 2022).
    VPrediction,
}

impl Choice for PredictionType {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("epsilon", Self::Epsilon),
        ("sample", Self::Sample),
        ("v_prediction", Self::VPrediction),
    ];
}

impl PredictionType {
    /// The clean sample, where `sample = alpha · clean + sigma · noise`.
    pub(super) fn original(
        self,
        sample: &Tensor,
        model_output: &Tensor,
        alpha: f32,
        sigma: f32,
    ) -> Result<Tensor> {
        match self {
            Self::Epsilon => divide(&combine(&[(1.0, sample), (-sigma, model_output)])?, alpha),
            Self::Sample => Ok(model_output.clone()),
            Self::VPrediction => combine(&[(alpha, sample), (-sigma, model_output)]),
        }
    }

    /// The noise, where `sample = alpha · clean + sigma · noise`.
    pub(super) fn epsilon(
        self,
        sample: &Tensor,
        model_output: &Tensor,
        alpha: f32,
        sigma: f32,
    ) -> Result<Tensor> {
        match self {
            Self::Epsilon => Ok(model_output.clone()),
            Self::Sample => divide(&combine(&[(1.0, sample), (-alpha, model_output)])?, sigma),
            Self::VPrediction => combine(&[(alpha, model_output), (sigma, sample)]),
        }
    }
}
