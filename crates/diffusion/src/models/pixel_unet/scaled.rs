//! Weights stored in 8 bits, with a scale for each output channel: half of what f16 takes.

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;

use crate::checkpoint::{SafetensorsFile, TensorFile as _, TensorInfo, TensorSource};
use crate::error::Result;

/// A file whose tensors `NAME` of type `i8` stand for their product with `NAME_scale`, which has one value for each of their first
/// dimension, as `tools/models/quantize.py` writes them. All else is as it is stored.
#[derive(Debug)]
pub(crate) struct ScaledWeights(SafetensorsFile);

impl ScaledWeights {
    pub(crate) const fn new(file: SafetensorsFile) -> Self {
        Self(file)
    }

    fn is_scaled(&self, name: &str) -> bool {
        self.0.stored_dtype(name) == Some(Dtype::I8)
    }
}

fn scale_of(name: &str) -> String {
    format!("{name}_scale")
}

impl TensorSource for ScaledWeights {
    fn origin(&self) -> String {
        self.0.origin()
    }

    fn names(&self) -> Vec<String> {
        let names = self.0.names();
        let is_scale =
            |name: &str| name.strip_suffix("_scale").is_some_and(|weight| self.is_scaled(weight));
        names.into_iter().filter(|name| !is_scale(name)).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let info = self.0.info(name)?;
        let dtype = if self.is_scaled(name) { DType::F32 } else { info.dtype };
        Some(TensorInfo { dtype, ..info })
    }

    fn read(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        if !self.is_scaled(name) {
            return self.0.read(name, shape, dtype, device);
        }
        let levels = self.0.read(name, shape, DType::F32, device)?;
        let channels = shape.first().copied().unwrap_or(1);
        let scale = self.0.read(&scale_of(name), &[channels], DType::F32, device)?;
        let mut broadcast = vec![1; shape.len().max(1)];
        broadcast[0] = channels;
        Ok(levels.broadcast_mul(&scale.reshape(broadcast)?)?.to_dtype(dtype)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use safetensors::tensor::TensorView;

    use super::*;

    fn view(dtype: Dtype, shape: &[usize], bytes: &'static [u8]) -> TensorView<'static> {
        TensorView::new(dtype, shape.to_vec(), bytes).expect("as many bytes")
    }

    fn weights(folder: &Path, tensors: HashMap<&str, TensorView<'_>>) -> ScaledWeights {
        let path = folder.join("weights.safetensors");
        safetensors::serialize_to_file(tensors, None, &path).expect("a file");
        ScaledWeights::new(SafetensorsFile::open(path).expect("its header"))
    }

    #[test]
    fn eight_bits_are_scaled_and_all_else_is_as_it_is_stored() {
        let folder = tempfile::tempdir().expect("a folder");
        let scales = b"\x00\x00\x00\x3f\x00\x00\x00\x40"; // 0.5 and 2
        let tensors = HashMap::from([
            ("a.weight", view(Dtype::I8, &[2, 3, 1, 1], &[1, 0xff, 127, 3, 0, 0x81])),
            ("a.weight_scale", view(Dtype::F32, &[2], scales)),
            ("b.weight_scale", view(Dtype::F32, &[2], scales)),
        ]);
        let weights = weights(folder.path(), tensors);
        assert_eq!(weights.names(), ["a.weight", "b.weight_scale"]);
        let info = weights.info("a.weight").expect("a weight");
        assert_eq!((info.dtype, info.shape), (DType::F32, vec![2, 3, 1, 1]));
        let read = |name, shape: &[usize]| {
            let tensor = weights.read(name, shape, DType::F32, &Device::Cpu).expect(name);
            assert_eq!(tensor.dims(), shape);
            tensor.flatten_all().and_then(|all| all.to_vec1::<f32>()).expect("numbers")
        };
        let expected = [0.5, -0.5, 63.5, 6.0, 0.0, -254.0];
        assert_eq!(read("a.weight", &[2, 3, 1, 1]), expected);
        assert_eq!(read("b.weight_scale", &[2]), [0.5, 2.0]);
    }

    #[test]
    fn a_scale_that_is_missing_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let tensors = HashMap::from([("a.weight", view(Dtype::I8, &[2], &[1, 2]))]);
        let weights = weights(folder.path(), tensors);
        let error = weights.read("a.weight", &[2], DType::F32, &Device::Cpu).expect_err("none");
        assert!(error.to_string().contains("a.weight_scale"), "{error}");
    }
}
