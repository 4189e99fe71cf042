//! Tensors on disk by the content that they were computed from, for later epochs and later runs.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use candle_core::{Device, Tensor};

use super::hash;
use crate::checkpoint::{Checkpoint, Component, SafetensorsFile, save_tensors};
use crate::error::{DiffusionError, Result};

/// What tells a component of a checkpoint from others: its configuration, the names and shapes of its tensors, and the
/// content of the small ones (biases and norms differ between any two trained models, and are read quickly).
pub(super) fn fingerprint(checkpoint: &Checkpoint, component: Component) -> Result<String> {
    const SMALL: usize = 4096;
    let source = checkpoint.weights(component)?;
    let mut parts = vec![checkpoint.config(component)?.to_string().into_bytes()];
    for name in source.names() {
        let Some(info) = source.info(&name) else { continue };
        parts.push(format!("{name} {:?}", info.shape).into_bytes());
        if info.shape.iter().product::<usize>() <= SMALL && info.dtype.is_float() {
            let dtype = candle_core::DType::F32;
            let tensor = source.read(&name, &info.shape, dtype, &Device::Cpu)?;
            let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            parts.push(values.into_iter().flat_map(f32::to_le_bytes).collect());
        }
    }
    Ok(hash::of_parts(parts))
}

/// A folder of them; remembers nothing if there is none.
#[derive(Debug, Default)]
pub(super) struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// Keeps files in `folder`, which is made when the first one comes.
    pub(super) const fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        Some(folder.join(key.get(..2)?).join(format!("{key}.safetensors")))
    }

    /// What was kept under a key. A file that cannot be read is no reason to stop: it is computed and written again.
    pub(super) fn get(&self, key: &str) -> Option<HashMap<String, Tensor>> {
        SafetensorsFile::open(self.path(key)?).ok()?.read_all(&Device::Cpu).ok()
    }

    /// Keeps tensors under a key.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn put(&self, key: &str, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let Some(path) = self.path(key) else { return Ok(()) };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| DiffusionError::io(folder, "create the folder", source))?;
        }
        save_tensors(&path, true, tensors, &BTreeMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_damage_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path().join("cache")));
        let key = hash::of_parts(["a", "b"]);
        assert!(cache.get(&key).is_none());
        let tensor = Tensor::new(&[1.0f32, 2.0], &Device::Cpu).unwrap();
        cache.put(&key, &HashMap::from([("mean".to_owned(), tensor)])).unwrap();
        assert_eq!(cache.get(&key).unwrap()["mean"].to_vec1::<f32>().unwrap(), [1.0, 2.0]);
        std::fs::write(cache.path(&key).unwrap(), b"cut").unwrap();
        assert!(cache.get(&key).is_none());
        let none = Cache::default();
        none.put(&key, &HashMap::new()).unwrap();
        assert!(none.get(&key).is_none());
    }
}
