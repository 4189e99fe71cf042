//! Checkpoints to resume from: weights, moments and averages in one file that appears whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use super::optimizer::Optimizer;
use super::parameters::{set, values};
use super::settings::first_difference;
use crate::checkpoint::{SafetensorsFile, TensorSource as _, save_tensors};
use crate::error::{DiffusionError, Result};

/// The key of the notes in the file's metadata.
const KEY: &str = "photomend_training_state";

/// What a checkpoint belongs to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Identity {
    /// The settings that must agree.
    pub(super) settings: Value,
    /// The pictures, by content.
    pub(super) data: String,
}

/// The folder of a run's checkpoints.
#[derive(Clone, Debug)]
pub(super) struct States {
    folder: PathBuf,
}

impl States {
    pub(super) fn new(output: &Path) -> Self {
        Self { folder: output.join("checkpoints") }
    }

    /// The checkpoints, the newest last.
    pub(super) fn list(&self) -> Result<Vec<(u64, PathBuf)>> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let fail = |source| DiffusionError::io(&self.folder, "list", source);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let step =
                name.strip_prefix("step-").and_then(|rest| rest.strip_suffix(".safetensors"));
            if let Some(step) = step.and_then(|step| step.parse().ok()) {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Writes a checkpoint and removes all but the newest `keep`.
    pub(super) fn save(
        &self,
        optimizer: &Optimizer,
        identity: &Identity,
        keep: usize,
    ) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.folder)
            .map_err(|source| DiffusionError::io(&self.folder, "create the folder", source))?;
        let mut tensors = HashMap::new();
        for (at, parameter) in optimizer.parameters().iter().enumerate() {
            let mut put = |kind: &str, values: &[f32]| -> Result<()> {
                let tensor = Tensor::from_slice(values, parameter.var.shape(), &Device::Cpu)?;
                tensors.insert(format!("{kind}.{}", parameter.name), tensor);
                Ok(())
            };
            put("weights", &values(parameter)?)?;
            put("first_moment", &optimizer.moments[at].first)?;
            put("second_moment", &optimizer.moments[at].second)?;
            if let Some(ema) = &optimizer.ema {
                put("average", &ema.shadows[at])?;
            }
        }
        let notes = json!({
            "step": optimizer.step, "settings": identity.settings, "data": identity.data,
        });
        let metadata = BTreeMap::from([(KEY.to_owned(), notes.to_string())]);
        let path = self.folder.join(format!("step-{:08}.safetensors", optimizer.step));
        save_tensors(&path, true, &tensors, &metadata)?;
        self.prune(keep)?;
        Ok(path)
    }

    /// Removes all but the newest `keep`: all of another run, or one that a run left that was killed while it saved.
    pub(super) fn prune(&self, keep: usize) -> Result<()> {
        for (_, old) in self.list()?.iter().rev().skip(keep) {
            std::fs::remove_file(old)
                .map_err(|source| DiffusionError::io(old, "remove", source))?;
        }
        Ok(())
    }

    /// Brings the optimizer to the newest checkpoint; false if there is none.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] naming the setting in which the checkpoint's run is another one;
    /// [`DiffusionError::Checkpoint`] or [`DiffusionError::TensorShape`] if the file is damaged.
    pub(super) fn resume(&self, optimizer: &mut Optimizer, identity: &Identity) -> Result<bool> {
        let Some((_, path)) = self.list()?.pop() else { return Ok(false) };
        let fail = |problem: &str| DiffusionError::checkpoint(&path, problem);
        let file = SafetensorsFile::open(&path)?;
        let notes = file.metadata().get(KEY).ok_or_else(|| {
            fail("expected a checkpoint of a training run, found another safetensors file")
        })?;
        let notes: Value = serde_json::from_str(notes).map_err(|error| fail(&error.to_string()))?;
        if let Some((name, before, now)) = first_difference(&notes["settings"], &identity.settings)
        {
            return Err(DiffusionError::argument(
                name,
                format!("{before}, as in the run that is resumed ({})", path.display()),
                now,
            ));
        }
        if notes["data"] != Value::String(identity.data.clone()) {
            return Err(DiffusionError::argument(
                "data",
                format!("the pictures of the run that is resumed ({})", path.display()),
                "other pictures, or changed ones",
            ));
        }
        let step = notes["step"].as_u64().ok_or_else(|| fail("expected a step in its notes"))?;
        let read = |name: String, shape: &[usize]| -> Result<Vec<f32>> {
            let tensor = file.read(&name, shape, candle_core::DType::F32, &Device::Cpu)?;
            Ok(tensor.flatten_all()?.to_vec1()?)
        };
        // Read everything before anything is changed.
        let mut all = Vec::with_capacity(optimizer.parameters().len());
        for parameter in optimizer.parameters() {
            let get = |kind: &str| read(format!("{kind}.{}", parameter.name), parameter.var.dims());
            let average = optimizer.ema.is_some().then(|| get("average")).transpose()?;
            all.push((get("weights")?, get("first_moment")?, get("second_moment")?, average));
        }
        for (at, (weights, first, second, average)) in all.into_iter().enumerate() {
            set(&optimizer.parameters()[at], &weights)?;
            (optimizer.moments[at].first, optimizer.moments[at].second) = (first, second);
            if let (Some(ema), Some(average)) = (&mut optimizer.ema, average) {
                ema.shadows[at] = average;
            }
        }
        optimizer.step = step;
        Ok(true)
    }
}
