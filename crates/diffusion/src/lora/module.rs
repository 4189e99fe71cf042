//! One module of a LoRA file: a pair of matrices, a scale, and the layer that it is for.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::keys::LoraComponent;
use super::layer::LoraLayer;
use crate::error::{DiffusionError, Result};

/// Alphas beyond this are damage, not intent: trainers use 1 to a few hundred.
const LARGEST_ALPHA: f64 = 1e6;

/// A low-rank change to one layer, as a file holds it.
///
/// # Shapes
/// - linear: down `(r, in)`, up `(out, r)`
/// - convolution: down `(r, in, k, k)`, up `(out, r, 1, 1)`
#[derive(Clone, Debug)]
pub struct LoraModule {
    pub(super) component: LoraComponent,
    pub(super) name: String,
    down: Tensor,
    up: Tensor,
    alpha: f64,
}

impl LoraModule {
    /// The module of the layer `name` (a path in diffusers' layout) with scale `alpha` / r.
    ///
    /// # Errors
    /// [`DiffusionError::TensorShape`] if the matrices are no pair, [`DiffusionError::Checkpoint`] if alpha is absurd.
    pub fn new(
        component: LoraComponent,
        name: impl Into<String>,
        down: Tensor,
        up: Tensor,
        alpha: f64,
    ) -> Result<Self> {
        let name = name.into();
        let path = Path::new(component.name());
        let keys = (format!("{name}.lora_A.weight"), format!("{name}.lora_B.weight"));
        let mut module = Self::named(path, component, name, down, up, &keys.0, &keys.1)?;
        module.set_alpha(path, &keys.0, alpha)?;
        Ok(module)
    }

    /// The same, naming a file and its tensors in errors, with alpha = r.
    pub(super) fn named(
        path: &Path,
        component: LoraComponent,
        name: String,
        down: Tensor,
        up: Tensor,
        down_key: &str,
        up_key: &str,
    ) -> Result<Self> {
        let fail = |key: &str, expected: &str, found: &Tensor| {
            let found = found.dims();
            DiffusionError::checkpoint(
                path,
                format!("{key}: expected {expected}, found shape {found:?}"),
            )
        };
        let rank = match *down.dims() {
            [rank, input] if rank > 0 && input > 0 => rank,
            [rank, input, h, w] if rank > 0 && input > 0 && h > 0 && h == w => rank,
            _ => {
                return Err(fail(
                    down_key,
                    "shape (r, in) or (r, in, k, k) with r at least 1",
                    &down,
                ));
            }
        };
        match *up.dims() {
            [output, r] | [output, r, 1, 1] if output > 0 && r == rank => {}
            _ => {
                let expected =
                    format!("shape (out, {rank}) or (out, {rank}, 1, 1) for rank {rank}");
                return Err(fail(up_key, &expected, &up));
            }
        }
        Ok(Self { component, name, down, up, alpha: rank as f64 })
    }

    pub(super) fn set_alpha(&mut self, path: &Path, key: &str, alpha: f64) -> Result<()> {
        if alpha.is_nan() || alpha.abs() > LARGEST_ALPHA {
            return Err(DiffusionError::checkpoint(
                path,
                format!("{key}: expected an alpha of at most {LARGEST_ALPHA}, found {alpha}"),
            ));
        }
        self.alpha = alpha;
        Ok(())
    }

    /// What the layer is in.
    #[must_use]
    pub const fn component(&self) -> LoraComponent {
        self.component
    }

    /// The layer's path in diffusers' layout; as in the file, with underscores for dots, if that is in kohya's style.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// "A", to rank r.
    #[must_use]
    pub const fn down(&self) -> &Tensor {
        &self.down
    }

    /// "B", from rank r.
    #[must_use]
    pub const fn up(&self) -> &Tensor {
        &self.up
    }

    /// The module with its matrices in another type; `path` names the file in errors.
    pub(super) fn to_dtype(&self, path: &Path, dtype: DType) -> Result<Self> {
        let to = |matrix: &Tensor| -> Result<Tensor> {
            let matrix = matrix.to_dtype(dtype)?;
            let largest = matrix.abs()?.to_dtype(DType::F32)?.max_all()?.to_scalar::<f32>()?;
            if largest.is_finite() {
                return Ok(matrix);
            }
            let (part, layer) = (self.component, &self.name);
            let problem =
                format!("{part}.{layer}: expected numbers that {} can hold", dtype.as_str());
            Err(DiffusionError::checkpoint(path, problem))
        };
        Ok(Self { down: to(&self.down)?, up: to(&self.up)?, ..self.clone() })
    }

    /// r.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.down.dims()[0]
    }

    /// The scale times r.
    #[must_use]
    pub const fn alpha(&self) -> f64 {
        self.alpha
    }

    /// alpha / r.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank() as f64
    }

    /// The module shaped for a layer whose weight has shape `weight`, times `strength`, in f32 on `device`.
    ///
    /// Matrices for a linear layer serve a 1×1 convolution, and the other way about.
    ///
    /// # Errors
    /// [`DiffusionError::TensorShape`] naming `path` if they do not fit.
    pub(super) fn layer(
        &self,
        path: &Path,
        weight: &[usize],
        strength: f64,
        device: &Device,
    ) -> Result<LoraLayer> {
        let rank = self.rank();
        let wrong =
            |part: &str, expected: Vec<usize>, found: &Tensor| DiffusionError::TensorShape {
                origin: path.display().to_string(),
                name: format!("{}.{} ({part})", self.component, self.name),
                expected,
                found: found.dims().to_vec(),
            };
        let (mut down, mut up) = (vec![rank], vec![weight[0], rank]);
        down.extend(&weight[1..]);
        if weight.len() == 4 {
            up.extend([1, 1]);
        }
        // What else the matrices may be: the same numbers with or without a 1×1 kernel.
        let same = |found: &[usize], expected: &[usize]| {
            let bare = |shape: &[usize]| match *shape {
                [a, b, 1, 1] => vec![a, b],
                ref other => other.to_vec(),
            };
            bare(found) == bare(expected)
        };
        if !same(self.down.dims(), &down) {
            return Err(wrong("down", down, &self.down));
        }
        if !same(self.up.dims(), &up) {
            return Err(wrong("up", up, &self.up));
        }
        let place = |tensor: &Tensor, shape: Vec<usize>| {
            tensor.to_device(device)?.to_dtype(DType::F32)?.reshape(shape)
        };
        let scale = strength * self.scale();
        if !(scale as f32).is_finite() {
            return Err(DiffusionError::argument("a LoRA's weight", "a smaller number", strength));
        }
        Ok(LoraLayer::new(place(&self.down, down)?, place(&self.up, up)?, scale))
    }
}
