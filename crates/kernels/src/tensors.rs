//! Between candle's tensors and slices.

use candle_core::{CpuStorage, Device, Layout, Result, Storage, Tensor, bail};

use crate::simd::Real;

/// The storage of a tensor on the CPU.
///
/// # Errors
/// If the tensor is on another device.
pub(crate) fn cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("kernels: expected a tensor on the CPU"),
    }
}

/// The numbers of a contiguous tensor of activations.
///
/// # Errors
/// If the tensor has another dtype or is not contiguous.
pub(crate) fn numbers<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("kernels: expected a contiguous tensor, found strides {:?}", layout.stride());
    };
    Ok(&T::slice(storage)?[start..end])
}

/// Runs `f` with the numbers of a contiguous tensor on the CPU.
///
/// # Errors
/// Those of [`cpu`], [`numbers`] and `f`.
pub(crate) fn with_numbers<T: Real, R>(
    tensor: &Tensor,
    f: impl FnOnce(&[T]) -> Result<R>,
) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    f(numbers(cpu(&storage)?, layout)?)
}

/// A tensor of activations on the CPU.
///
/// # Errors
/// If there are more or fewer values than the shape has.
pub(crate) fn from_numbers<T: Real>(values: Vec<T>, dims: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values, dims, &Device::Cpu)
}

/// Runs a block with `$real` standing for the type of activations that a dtype names, f32 or bf16.
macro_rules! for_real {
    ($dtype:expr, |$real:ident| $body:block) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $real = f32;
                $body
            }
            candle_core::DType::BF16 => {
                type $real = half::bf16;
                $body
            }
            other => {
                candle_core::bail!("kernels: expected activations in f32 or bf16, found {other:?}")
            }
        }
    };
}
/// Runs a block with a contiguous weight as a slice of the dtype that it is stored in.
macro_rules! with_weights {
    ($storage:expr, $layout:expr, |$weight:ident| $body:block) => {{
        let Some((start, end)) = $layout.contiguous_offsets() else {
            candle_core::bail!(
                "kernels: expected a contiguous weight, found {:?}",
                $layout.stride()
            );
        };
        match $storage {
            candle_core::CpuStorage::F32(values) => {
                let $weight = &values[start..end];
                $body
            }
            candle_core::CpuStorage::BF16(values) => {
                let $weight = &values[start..end];
                $body
            }
            candle_core::CpuStorage::F16(values) => {
                let $weight = &values[start..end];
                $body
            }
            _ => candle_core::bail!("kernels: expected weights in f32, bf16 or f16"),
        }
    }};
}
pub(crate) use {for_real, with_weights};
