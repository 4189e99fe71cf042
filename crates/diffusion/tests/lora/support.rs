//! A model of three layers, and LoRA files for it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Module, Tensor};
use diffusion::Result;
use diffusion::checkpoint::{MemorySource, TensorSource};
use diffusion::lora::{AdapterMode, LoraAdapters, LoraSet, LoraSpec, LoraTargets, ModuleNames};
use diffusion::nn::{Conv2d, Conv2dConfig, Linear, Params};

/// A layer of 6 → 5 features.
pub(crate) const LINEAR: &str = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
/// A 3×3 convolution of 3 → 4 channels.
pub(crate) const CONV: &str = "mid_block.resnets.0.conv1";
/// A 1×1 convolution of 4 → 4 channels.
pub(crate) const POINTWISE: &str = "mid_block.attentions.0.proj_in";
/// A text encoder's layer of 6 → 5 features.
pub(crate) const TEXT: &str = "text_model.encoder.layers.0.self_attn.q_proj";

/// A small generator of pseudo-random numbers (SplitMix64), so that a failure can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

thread_local! {
    /// Each test has a thread of its own, so each draws the same tensors every time.
    static RANDOM: RefCell<Random> = const { RefCell::new(Random(0)) };
}

/// A tensor of numbers in [-2, 2].
pub(crate) fn random(shape: &[usize]) -> Tensor {
    let values = RANDOM.with_borrow_mut(|random| {
        let count = shape.iter().product();
        let draw = |_| random.next() as f32 / u64::MAX as f32 * 4.0 - 2.0;
        (0..count).map(draw).collect::<Vec<_>>()
    });
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Weights of the three layers, and of the text encoder's one.
pub(crate) fn weights() -> (Arc<dyn TensorSource>, Arc<dyn TensorSource>) {
    let unet =
        [(LINEAR, vec![5, 6], 5), (CONV, vec![4, 3, 3, 3], 4), (POINTWISE, vec![4, 4, 1, 1], 4)];
    let unet = unet.into_iter().flat_map(|(path, shape, out)| {
        [(format!("{path}.weight"), random(&shape)), (format!("{path}.bias"), random(&[out]))]
    });
    let text =
        [(format!("{TEXT}.weight"), random(&[5, 6])), (format!("{TEXT}.bias"), random(&[5]))];
    (
        Arc::new(MemorySource::new("unet", unet.collect())),
        Arc::new(MemorySource::new("text encoder", text.into_iter().collect())),
    )
}

pub(crate) fn fit(
    set: &LoraSet,
    unet: &dyn TensorSource,
    text: &dyn TensorSource,
    mode: AdapterMode,
) -> Result<LoraAdapters> {
    let targets = LoraTargets {
        unet: &ModuleNames::from_source(unet),
        text_encoder: &ModuleNames::from_source(text),
    };
    set.adapters(targets, mode, &Device::Cpu)
}

pub(crate) fn fit_file(path: &Path) -> Result<LoraAdapters> {
    let (unet, text) = weights();
    let set = LoraSet::open(&[LoraSpec::new(path)])?;
    fit(&set, &*unet, &*text, AdapterMode::Live)
}

/// The outputs of the three layers and the text encoder's layer on fixed inputs, which `inputs` holds.
pub(crate) fn outputs(
    unet: &Arc<dyn TensorSource>,
    text: &Arc<dyn TensorSource>,
    adapters: Option<&LoraAdapters>,
    inputs: &[Tensor; 3],
) -> Vec<Tensor> {
    let params =
        |source: &Arc<dyn TensorSource>| Params::new(Arc::clone(source), DType::F32, &Device::Cpu);
    let (mut unet, mut text) = (params(unet), params(text));
    if let Some(adapters) = adapters {
        unet = unet.with_adapters(Arc::clone(&adapters.unet));
        text = text.with_adapters(Arc::clone(&adapters.text_encoder));
    }
    let linear = Linear::load(6, 5, true, &unet.pp(LINEAR)).unwrap();
    let conv = Conv2dConfig::new(3, 2, 1);
    let conv = Conv2d::load(3, 4, conv, &unet.pp(CONV)).unwrap();
    let pointwise = Conv2d::load(4, 4, Conv2dConfig::POINTWISE, &unet.pp(POINTWISE)).unwrap();
    let text = Linear::load(6, 5, true, &text.pp(TEXT)).unwrap();
    vec![
        linear.forward(&inputs[0]).unwrap(),
        conv.forward(&inputs[1]).unwrap(),
        pointwise.forward(&inputs[2]).unwrap(),
        text.forward(&inputs[0]).unwrap(),
    ]
}

pub(crate) fn inputs() -> [Tensor; 3] {
    [random(&[2, 3, 6]), random(&[1, 5, 6, 3]), random(&[1, 3, 3, 4])]
}

/// The largest difference between two lists of tensors.
pub(crate) fn max_difference(a: &[Tensor], b: &[Tensor]) -> f32 {
    a.iter().zip(b).fold(0.0, |largest, (a, b)| {
        let difference = (a - b).unwrap().abs().unwrap().max_all().unwrap();
        largest.max(difference.to_scalar::<f32>().unwrap())
    })
}

/// Tensors by name, and a file of them.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) tensors: HashMap<String, Tensor>,
    pub(crate) metadata: HashMap<String, String>,
}

impl Draft {
    pub(crate) fn with(mut self, name: impl Into<String>, tensor: Tensor) -> Self {
        self.tensors.insert(name.into(), tensor);
        self
    }

    pub(crate) fn note(mut self, key: &str, text: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), text.into());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let metadata = (!self.metadata.is_empty()).then(|| self.metadata.clone());
        let mut tensors: Vec<_> = self.tensors.iter().collect();
        tensors.sort_by_key(|(name, _)| *name);
        safetensors::serialize(tensors, metadata).unwrap()
    }

    pub(crate) fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, self.bytes()).unwrap();
        path
    }
}

/// Matrices for every layer, all of rank 2.
pub(crate) struct Matrices {
    pub(crate) linear: (Tensor, Tensor),
    pub(crate) conv: (Tensor, Tensor),
    pub(crate) pointwise: (Tensor, Tensor),
    pub(crate) text: (Tensor, Tensor),
}

impl Matrices {
    pub(crate) fn new() -> Self {
        Self {
            linear: (random(&[2, 6]), random(&[5, 2])),
            conv: (random(&[2, 3, 3, 3]), random(&[4, 2, 1, 1])),
            pointwise: (random(&[2, 4, 1, 1]), random(&[4, 2, 1, 1])),
            text: (random(&[2, 6]), random(&[5, 2])),
        }
    }

    pub(crate) fn unet(&self) -> [(&'static str, &(Tensor, Tensor)); 3] {
        [(LINEAR, &self.linear), (CONV, &self.conv), (POINTWISE, &self.pointwise)]
    }
}
