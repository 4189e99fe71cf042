//! What the runs of different networks have in common: how one learns from crops, is judged, and is written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use kernels::Recording;

use super::autoencoder::AutoencoderStudent;
use super::crops::CropBatch;
use super::judge;
use super::loss::loss;
use super::options::{PixelTask, PixelTrainOptions};
use super::pages::Page;
use super::standardised::{Standardised, products};
use crate::checkpoint::{Checkpoint, Component, SafetensorsFile, TensorSource};
use crate::error::{DiffusionError, Result};
use crate::models::{InitialWeights, PixelUnet, ScaledWeights, save_pixel_unet};
use crate::nn::Params;
use crate::random::sub_seed;
use crate::train::gradients::Gradients;
use crate::train::log::LogEntry;
use crate::train::optimizer::Optimizer;
use crate::train::parameters::{Parameter, TrainableSource};

/// A network in training.
pub(super) trait Student {
    /// The loss of a step's batch; its gradients go to `gradients`.
    fn learn(&self, batch: &CropBatch, step: u64, gradients: &mut Gradients) -> Result<f64>;

    /// How it does on pages, with the weights that it has now, after so many steps.
    fn judge(&self, pages: &[Page], step: u64) -> Result<LogEntry>;

    /// Writes the network as it would be used now into the folder of the run, and returns where.
    fn write(&self, optimizer: &Optimizer, output: &Path, judged: &[Page]) -> Result<PathBuf>;
}

/// The network of a run before its first step, and what is trained of it.
pub(super) fn enrol(
    options: &PixelTrainOptions,
    checkpoint: Option<&Checkpoint>,
) -> Result<(Box<dyn Student>, Vec<Parameter>)> {
    let task = options.task;
    let trainable = |source| Arc::new(TrainableSource::new(source, task.name()));
    let params = |source: &Arc<TrainableSource>| {
        Params::new(Arc::<TrainableSource>::clone(source), DType::F32, &Device::Cpu)
    };
    if task == PixelTask::Autoencoder {
        let missing =
            || DiffusionError::argument("model", "a checkpoint with an autoencoder", "none");
        let checkpoint = checkpoint.ok_or_else(missing)?;
        let source = trainable(checkpoint.weights(Component::Vae)?);
        let student = AutoencoderStudent::new(checkpoint.clone(), options.seed, &params(&source))?;
        return Ok((Box::new(student), source.parameters()));
    }
    let network = options.network()?.clone();
    let source = trainable(initial(options)?);
    let unet = PixelUnet::load(&network, &params(&source))?;
    let (standardised, parameters) = match network.norm_num_groups {
        Some(_) => (Standardised::default(), source.parameters()),
        None => Standardised::split(source.parameters(), sub_seed(options.seed, "directions"))?,
    };
    Ok((Box::new(PixelStudent { task, unet, standardised }), parameters))
}

/// The weights to start from.
fn initial(options: &PixelTrainOptions) -> Result<Arc<dyn TensorSource>> {
    Ok(match &options.start_from {
        Some(path) => Arc::new(ScaledWeights::new(SafetensorsFile::open(path)?)),
        None => Arc::new(InitialWeights::new(sub_seed(options.seed, "network"))),
    })
}

/// A detector or a refiner.
struct PixelStudent {
    task: PixelTask,
    unet: PixelUnet,
    /// None of a network with norms.
    standardised: Standardised,
}

impl Student for PixelStudent {
    fn learn(&self, batch: &CropBatch, _: u64, gradients: &mut Gradients) -> Result<f64> {
        self.standardised.refresh()?;
        let (prediction, recording) = Recording::of(|| self.unet.forward(&batch.input))?;
        let found = loss(self.task, &prediction.flatten_all()?.to_vec1::<f32>()?, batch)?;
        let gradient = Tensor::from_vec(found.gradient, prediction.shape(), &Device::Cpu)?;
        let store = recording.backward(&prediction, &gradient)?;
        gradients.take(&store)?;
        self.standardised.pull_back(&store, gradients)?;
        Ok(found.value)
    }

    fn judge(&self, pages: &[Page], step: u64) -> Result<LogEntry> {
        self.standardised.refresh()?;
        match self.task {
            PixelTask::Detector => judge::detection(&self.unet, pages, step),
            _ => judge::refinement(&self.unet, pages, step),
        }
    }

    fn write(&self, optimizer: &Optimizer, output: &Path, _: &[Page]) -> Result<PathBuf> {
        let task = self.task.name();
        let path = output.join(format!("{task}.safetensors"));
        let tensors = products(optimizer.final_tensors(task)?)?;
        save_pixel_unet(&path, task, self.unet.config(), tensors)?;
        Ok(path)
    }
}
