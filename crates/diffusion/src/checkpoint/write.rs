//! Writes `.safetensors` files one tensor at a time, so that a checkpoint is never held twice.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use imaging::ImagingError;
use imaging::io::write_atomically;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo as HeaderEntry};

use super::elements::size_of;
use crate::error::{DiffusionError, Result};

/// A tensor that a file is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the file.
    pub name: String,
    /// Its element type in the file: f64, f32, f16, bf16, i64, u32 or u8.
    pub dtype: DType,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

/// Writes a `.safetensors` file that appears whole or not at all.
///
/// `read` is asked for each tensor when its turn comes and may give it in any dtype that converts. The order is that of
/// the `safetensors` crate: widest elements first, then by name, so equal contents make equal files. Without
/// `force` an existing file is an error.
///
/// # Errors
/// [`DiffusionError::Argument`] for a name given twice or a dtype that is not stored, those of `read`, those of writing, and
/// [`DiffusionError::TensorShape`] if `read` gives another shape than the specification says.
pub fn write_safetensors(
    path: &Path,
    force: bool,
    specs: &[TensorSpec],
    metadata: &BTreeMap<String, String>,
    mut read: impl FnMut(&TensorSpec) -> Result<Tensor>,
) -> Result<()> {
    // 1. the header
    let mut order: Vec<(&TensorSpec, Dtype)> =
        specs.iter().map(|spec| Ok((spec, stored(spec.dtype)?))).collect::<Result<_>>()?;
    order.sort_by(|(a, left), (b, right)| right.cmp(left).then(a.name.cmp(&b.name)));
    let header = header(path, &order, metadata)?;

    // 2. header and tensors; an error of ours waits beside imaging's
    let mut problem = None;
    let written = write_atomically(path, force, |writer| {
        let fail = |source| ImagingError::io(path, "write", source);
        writer.write_all(&(header.len() as u64).to_le_bytes()).map_err(fail)?;
        writer.write_all(&header).map_err(fail)?;
        for (spec, _) in &order {
            let bytes = read(spec).and_then(|tensor| bytes_of(path, spec, &tensor));
            match bytes {
                Ok(bytes) => writer.write_all(&bytes).map_err(fail)?,
                Err(error) => {
                    problem = Some(error);
                    return Err(ImagingError::Cancelled);
                }
            }
        }
        Ok(())
    });
    match problem {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

/// [`write_safetensors`] for tensors in memory, each in its own dtype.
///
/// # Errors
/// Those of [`write_safetensors`].
pub fn save_tensors(
    path: &Path,
    force: bool,
    tensors: &HashMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let specs: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| TensorSpec {
            name: name.clone(),
            dtype: tensor.dtype(),
            shape: tensor.dims().to_vec(),
        })
        .collect();
    write_safetensors(path, force, &specs, metadata, |spec| Ok(tensors[&spec.name].clone()))
}

fn header(
    path: &Path,
    order: &[(&TensorSpec, Dtype)],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let mut position = 0;
    let mut names = std::collections::HashSet::new();
    let mut map = serde_json::Map::new();
    if !metadata.is_empty() {
        map.insert("__metadata__".to_owned(), serde_json::json!(metadata));
    }
    for (spec, dtype) in order {
        if !names.insert(&spec.name) || spec.name == "__metadata__" {
            return Err(DiffusionError::argument("tensors", "different names", &spec.name));
        }
        let (_, size) = size_of(*dtype, &spec.shape).ok_or_else(|| {
            DiffusionError::argument(&spec.name, "a shape that fits in memory", spec.shape.len())
        })?;
        let entry = HeaderEntry {
            dtype: *dtype,
            shape: spec.shape.clone(),
            data_offsets: (position, position + size as usize),
        };
        position += size as usize;
        map.insert(spec.name.clone(), serde_json::json!(entry));
    }
    let mut bytes = serde_json::to_vec(&map)
        .map_err(|error| DiffusionError::checkpoint(path, format!("cannot write: {error}")))?;
    // Spaces up to a multiple of eight keep the elements aligned for those who map the file.
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    // What upstream would refuse to read must not be written.
    serde_json::from_slice::<Metadata>(&bytes)
        .map_err(|error| DiffusionError::checkpoint(path, format!("cannot write: {error}")))?;
    Ok(bytes)
}

fn stored(dtype: DType) -> Result<Dtype> {
    Ok(match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::U32 => Dtype::U32,
        DType::U8 => Dtype::U8,
        other => {
            let expected = "f64, f32, f16, bf16, i64, u32 or u8";
            return Err(DiffusionError::argument("dtype", expected, format!("{other:?}")));
        }
    })
}

/// The elements of a tensor in order, little-endian, as `spec` says.
fn bytes_of(path: &Path, spec: &TensorSpec, tensor: &Tensor) -> Result<Vec<u8>> {
    if tensor.dims() != spec.shape {
        return Err(DiffusionError::TensorShape {
            origin: path.display().to_string(),
            name: spec.name.clone(),
            expected: spec.shape.clone(),
            found: tensor.dims().to_vec(),
        });
    }
    let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?.to_dtype(spec.dtype)?;
    macro_rules! bytes {
        ($type:ty) => {{
            let values = flat.to_vec1::<$type>()?;
            let mut bytes = vec![0; values.len() * std::mem::size_of::<$type>()];
            for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
            bytes
        }};
    }
    Ok(match spec.dtype {
        DType::F64 => bytes!(f64),
        DType::F32 => bytes!(f32),
        DType::F16 => bytes!(f16),
        DType::BF16 => bytes!(bf16),
        DType::I64 => bytes!(i64),
        DType::U32 => bytes!(u32),
        _ => flat.to_vec1::<u8>()?,
    })
}
