//! What is trained: LoRA matrices beside frozen layers, or every weight of the UNet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor, Var};

use super::options::{LoraInit, NetworkOptions};
use crate::checkpoint::{TensorInfo, TensorSource};
use crate::error::{DiffusionError, Result};
use crate::lora::{
    Adapters, DropoutSeed, LoraComponent, LoraDropout, LoraFile, LoraLayer, LoraModule, ModuleNames,
};
use crate::noise::{NoiseSource as _, TorchNoise};
use crate::random::{SplitMix64, sub_seed};

/// A tensor that is trained, in f32.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// `unet.{layer}.lora_A.weight` and `.lora_B.weight`, or `unet.{tensor}`; likewise `text_encoder.…`.
    pub name: String,
    /// Its values, which the model sees.
    pub var: Var,
}

/// A layer that gets a LoRA.
#[derive(Clone, Debug)]
struct Target {
    component: LoraComponent,
    path: String,
}

/// The LoRA that is trained: adapters for the models, and the matrices in them.
#[derive(Debug)]
pub struct LoraNetwork {
    targets: Vec<Target>,
    /// Down and up of each target in turn.
    parameters: Vec<Parameter>,
    alpha: f64,
    unet: Arc<Adapters>,
    text_encoder: Arc<Adapters>,
    dropout: DropoutSeed,
}

impl LoraNetwork {
    /// A LoRA on the layers that the options name. What the matrices start as depends on the seed and the layer's path.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] for a setting outside its range, or a name that fits no layer.
    pub fn new(
        options: &NetworkOptions,
        unet: &ModuleNames,
        text_encoder: &ModuleNames,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        options.validate()?;
        let mut network = Self {
            targets: Vec::new(),
            parameters: Vec::new(),
            alpha: options.alpha(),
            unet: Arc::default(),
            text_encoder: Arc::default(),
            dropout: DropoutSeed::default(),
        };
        let components = [
            (LoraComponent::Unet, unet, &options.target_modules, "target_modules"),
            (
                LoraComponent::TextEncoder,
                text_encoder,
                &options.text_encoder_target_modules,
                "text_encoder_target_modules",
            ),
        ];
        for (component, names, wanted, setting) in components {
            let mut layers: HashMap<String, Vec<LoraLayer>> = HashMap::new();
            for (path, shape) in matching(names, wanted, component, setting)? {
                let [down, up] = pair(&path, &shape, component, options, seed, device)?;
                let mut layer = LoraLayer::new(
                    down.var.as_tensor().clone(),
                    up.var.as_tensor().clone(),
                    options.alpha() / options.rank as f64,
                );
                if options.dropout > 0.0 {
                    let name = format!("{component}.{path}");
                    layer.dropout =
                        Some(LoraDropout::new(options.dropout, name, network.dropout.clone()));
                }
                layers.insert(path.clone(), vec![layer]);
                network.parameters.extend([down, up]);
                network.targets.push(Target { component, path });
            }
            let adapters = Arc::new(Adapters::live_set(layers));
            match component {
                LoraComponent::Unet => network.unet = adapters,
                _ => network.text_encoder = adapters,
            }
        }
        Ok(network)
    }

    /// For the UNet.
    #[must_use]
    pub fn unet_adapters(&self) -> Arc<Adapters> {
        Arc::clone(&self.unet)
    }

    /// For the text encoder.
    #[must_use]
    pub fn text_encoder_adapters(&self) -> Arc<Adapters> {
        Arc::clone(&self.text_encoder)
    }

    /// The matrices, down and up of each layer in turn.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// How many layers have a LoRA.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.targets.len()
    }

    /// True if no layer has one.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// What decides what dropout hides.
    #[must_use]
    pub const fn dropout_seed(&self) -> &DropoutSeed {
        &self.dropout
    }

    /// The LoRA as a file, with `weights` (a slice for each parameter) in place of its own if they are given.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn to_file(&self, path: &str, weights: Option<&[Vec<f32>]>) -> Result<LoraFile> {
        let matrix = |at: usize| -> Result<Tensor> {
            let own = self.parameters[at].var.as_tensor();
            let tensor = match weights {
                Some(weights) => Tensor::from_vec(weights[at].clone(), own.shape(), &Device::Cpu)?,
                // Not the variable itself, which further steps would change.
                None => own.to_device(&Device::Cpu)?.copy()?.detach(),
            };
            Ok(tensor)
        };
        let modules = self
            .targets
            .iter()
            .enumerate()
            .map(|(at, Target { component, path })| {
                let (down, up) = (matrix(2 * at)?, matrix(2 * at + 1)?);
                LoraModule::new(*component, path.clone(), down, up, self.alpha)
            })
            .collect::<Result<_>>()?;
        Ok(LoraFile::from_modules(path, modules))
    }
}

/// The layers that `wanted` names, with the shapes of their weights.
fn matching(
    names: &ModuleNames,
    wanted: &[String],
    component: LoraComponent,
    setting: &str,
) -> Result<Vec<(String, Vec<usize>)>> {
    let fits = |path: &str, name: &str| {
        path == name || path.strip_suffix(name).is_some_and(|head| head.ends_with('.'))
    };
    for name in wanted {
        if name.is_empty() || !names.paths().any(|path| fits(path, name)) {
            let expected = format!("names of layers of the {component}");
            return Err(DiffusionError::argument(setting, expected, format!("{name:?}")));
        }
    }
    let mut layers = Vec::new();
    for path in names.paths().filter(|path| wanted.iter().any(|name| fits(path, name))) {
        if let Some(shape) = names.shape(path) {
            layers.push((path.to_owned(), shape.to_vec()));
        }
    }
    Ok(layers)
}

/// The matrices down and up of one layer, as they start.
fn pair(
    path: &str,
    shape: &[usize],
    component: LoraComponent,
    options: &NetworkOptions,
    seed: u64,
    device: &Device,
) -> Result<[Parameter; 2]> {
    let (rank, outputs) = (options.rank, shape[0]);
    let mut down_shape = shape.to_vec();
    down_shape[0] = rank;
    let mut up_shape = vec![1; shape.len()];
    (up_shape[0], up_shape[1]) = (outputs, rank);
    let name = format!("{component}.{path}.lora_A.weight");
    let down = match options.init {
        LoraInit::Gaussian => {
            let mut noise = TorchNoise::new(sub_seed(seed, &name));
            let shape = down_shape.as_slice().into();
            noise.randn(&shape, DType::F32, &Device::Cpu)?.affine(1.0 / rank as f64, 0.0)?
        }
        LoraInit::Kaiming => {
            let fan_in: usize = shape[1..].iter().product();
            let bound = 1.0 / (fan_in as f32).sqrt();
            let mut random = SplitMix64::named(seed, &name);
            let count = down_shape.iter().product();
            let values = (0..count).map(|_| bound * (2.0 * random.unit() - 1.0)).collect();
            Tensor::from_vec::<_, f32>(values, down_shape, &Device::Cpu)?
        }
    };
    let up = Tensor::zeros(up_shape, DType::F32, device)?;
    Ok([
        Parameter { name, var: Var::from_tensor(&down.to_device(device)?)? },
        Parameter {
            name: format!("{component}.{path}.lora_B.weight"),
            var: Var::from_tensor(&up)?,
        },
    ])
}

/// Weights that are trained as they are: what is read becomes a parameter.
pub struct TrainableSource {
    inner: Arc<dyn TensorSource>,
    prefix: String,
    vars: Mutex<Vec<Parameter>>,
}

impl TrainableSource {
    /// The weights in `inner`, to be trained; parameters are called `PREFIX.NAME`.
    #[must_use]
    pub fn new(inner: Arc<dyn TensorSource>, prefix: impl Into<String>) -> Self {
        Self { inner, prefix: prefix.into(), vars: Mutex::default() }
    }

    /// What has been read, by name.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut vars = self.vars.lock().unwrap_or_else(PoisonError::into_inner).clone();
        vars.sort_by(|a, b| a.name.cmp(&b.name));
        vars
    }
}

impl TensorSource for TrainableSource {
    fn origin(&self) -> String {
        self.inner.origin()
    }

    fn names(&self) -> Vec<String> {
        self.inner.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.inner.info(name)
    }

    /// The variable itself, in f32 whatever is asked for: small changes would be lost in fewer digits.
    fn read(&self, name: &str, shape: &[usize], _: DType, device: &Device) -> Result<Tensor> {
        let name_of_var = format!("{}.{name}", self.prefix);
        let mut vars = self.vars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = vars.iter().find(|parameter| parameter.name == name_of_var) {
            return Ok(known.var.as_tensor().clone());
        }
        let var = Var::from_tensor(&self.inner.read(name, shape, DType::F32, device)?)?;
        let tensor = var.as_tensor().clone();
        vars.push(Parameter { name: name_of_var, var });
        Ok(tensor)
    }
}

/// A parameter's numbers.
pub(super) fn values(parameter: &Parameter) -> Result<Vec<f32>> {
    flat(parameter.var.as_tensor())
}

/// The numbers of a tensor, in order.
pub(super) fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// Gives a parameter, and with it the model, other numbers.
pub(super) fn set(parameter: &Parameter, weights: &[f32]) -> Result<()> {
    let var = &parameter.var;
    let tensor = Tensor::from_slice(weights, var.shape(), &Device::Cpu)?;
    Ok(var.set(&tensor.to_device(var.device())?)?)
}
