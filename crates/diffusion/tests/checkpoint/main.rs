//! Checkpoints: every layout reads as the same tensors, what is written is read back, what is damaged is refused.

#[path = "../common/mod.rs"]
mod common;
mod convert;
mod folder;
mod hostile;
mod hostile_pickle;
mod inspect;
mod parity;
mod safetensors;

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use diffusion::checkpoint::{Checkpoint, OpenOptions, TensorSource};

pub(crate) fn path(name: &str) -> PathBuf {
    common::fixtures().join("checkpoint").join(name)
}

pub(crate) fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&path(name), &OpenOptions::default()).expect("a fixture that opens")
}

pub(crate) fn read(source: &dyn TensorSource, name: &str) -> Tensor {
    let info = source.info(name).unwrap_or_else(|| panic!("{name} in {}", source.origin()));
    source.read(name, &info.shape, DType::F32, &Device::Cpu).expect("a tensor that can be read")
}

pub(crate) fn assert_equal(name: &str, a: &Tensor, b: &Tensor) {
    assert_eq!(a.dims(), b.dims(), "{name}");
    let [a, b] = [a, b].map(|tensor| {
        tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("a tensor of floats")
    });
    assert!(a == b, "{name} differs");
}
