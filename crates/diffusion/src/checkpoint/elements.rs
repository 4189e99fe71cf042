//! Stored elements to tensors: positional reads of a file, converted chunk by chunk into the tensor's own buffer.
//!
//! Nothing is mapped into memory: a file that is cut short under a map kills the process, and a copy into the
//! tensor is needed anyway. Each chunk is read, converted and checked by one thread while others do the next ones.

use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, WithDType};
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

use crate::carried;
use crate::error::{DiffusionError, Result};

/// Elements that are read and converted at a time: with their bytes they fit in a core's own cache.
const CHUNK: usize = 1 << 16;

/// An open regular file, or one that the program carries, that threads read from at any position.
#[derive(Debug)]
pub(super) struct FileBytes {
    path: PathBuf,
    place: Place,
    len: u64,
}

#[derive(Debug)]
enum Place {
    Disk(File),
    Program(&'static [u8]),
}

impl FileBytes {
    /// Opens a regular file, or a carried one by its name; folders, pipes and devices are refused.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if let Some(bytes) = carried::file(path) {
            return Ok(Self::carried(path, bytes));
        }
        let metadata =
            path.metadata().map_err(|source| DiffusionError::io(path, "read", source))?;
        if !metadata.is_file() {
            return Err(DiffusionError::checkpoint(path, "expected a file, found something else"));
        }
        let file = File::open(path).map_err(|source| DiffusionError::io(path, "read", source))?;
        Ok(Self { path: path.to_path_buf(), place: Place::Disk(file), len: metadata.len() })
    }

    /// A file of this name that is a part of the program.
    pub(super) fn carried(name: impl Into<PathBuf>, bytes: &'static [u8]) -> Self {
        Self { path: name.into(), place: Place::Program(bytes), len: bytes.len() as u64 }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` with the bytes from `offset` on.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let read = match &self.place {
            Place::Disk(file) => read_exact_at(file, buffer, offset),
            Place::Program(bytes) => {
                let start = offset as usize;
                let found = start.checked_add(buffer.len()).and_then(|end| bytes.get(start..end));
                found
                    .map(|bytes| buffer.copy_from_slice(bytes))
                    .ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
            }
        };
        read.map_err(|source| DiffusionError::io(&self.path, "read", source))
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[n..];
        offset += n as u64;
    }
    Ok(())
}

/// A run of elements in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Where it begins, in bytes.
    pub(super) offset: u64,
    /// The type of its elements.
    pub(super) dtype: Dtype,
    /// How many there are; the caller has checked that the file is long enough.
    pub(super) len: usize,
}

/// Which elements of a run make a tensor.
#[derive(Clone, Debug)]
pub(super) struct Layout<'a> {
    /// The tensor's dimensions.
    pub(super) shape: &'a [usize],
    /// Steps between neighbours in elements, one a dimension; `None` if they lie in order.
    pub(super) strides: Option<&'a [usize]>,
}

/// Reads a run of elements as a tensor of `dtype`; `name` is for messages.
///
/// # Errors
/// Reading, NaN or infinity among the elements, and types that cannot become `dtype`.
pub(super) fn read_tensor(
    file: &FileBytes,
    run: Run,
    layout: &Layout<'_>,
    name: &str,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    match dtype {
        DType::F32 => read_as::<f32>(file, run, layout, name, device),
        DType::F16 => read_as::<f16>(file, run, layout, name, device),
        DType::BF16 => read_as::<bf16>(file, run, layout, name, device),
        DType::F64 => read_as::<f64>(file, run, layout, name, device),
        DType::U8 => read_as::<u8>(file, run, layout, name, device),
        DType::U32 => read_as::<u32>(file, run, layout, name, device),
        DType::I64 => read_as::<i64>(file, run, layout, name, device),
        other => Err(DiffusionError::argument(
            "dtype",
            "f32, f16, bf16, f64, u8, u32 or i64",
            format!("{other:?}"),
        )),
    }
}

fn read_as<T: Element>(
    file: &FileBytes,
    run: Run,
    layout: &Layout<'_>,
    name: &str,
    device: &Device,
) -> Result<Tensor> {
    let elements = read_elements::<T>(file, run, name)?;
    let elements = match layout.strides {
        None => elements,
        Some(strides) => gather(&elements, layout.shape, strides),
    };
    Ok(Tensor::from_vec(elements, layout.shape, device)?)
}

fn read_elements<T: Element>(file: &FileBytes, run: Run, name: &str) -> Result<Vec<T>> {
    let fail = |problem: String| {
        DiffusionError::checkpoint(file.path(), format!("tensor {name}: {problem}"))
    };
    if !supported::<T>(run.dtype) {
        return Err(fail(format!("cannot read elements of type {} as {:?}", run.dtype, T::DTYPE)));
    }
    let width = run.dtype.bitsize() / 8;
    let mut elements = T::zeros(run.len);
    elements.par_chunks_mut(CHUNK).enumerate().try_for_each_init(
        Scratch::default,
        |scratch, (index, chunk)| {
            scratch.bytes.resize(chunk.len() * width, 0);
            let start = run.offset + (index * CHUNK * width) as u64;
            file.read_at(start, &mut scratch.bytes)?;
            convert(run.dtype, scratch, chunk).map_err(|problem| fail(problem.into()))
        },
    )?;
    Ok(elements)
}

/// The elements of a strided view in the order of its indices.
fn gather<T: Element>(elements: &[T], shape: &[usize], strides: &[usize]) -> Vec<T> {
    let count = shape.iter().product();
    let mut out = Vec::with_capacity(count);
    let mut index = vec![0; shape.len()];
    let mut position = 0;
    while out.len() < count {
        out.push(elements[position]);
        // Count up, the last dimension fastest.
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            position += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            position -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    out
}

#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    halves: Vec<f16>,
    floats: Vec<f32>,
}

/// An element type of tensors in memory.
trait Element: WithDType + Default {
    /// The same type in a file.
    const STORED: Dtype;
    const IS_FLOAT: bool;
    /// A buffer that the system gives zeroed: its pages are first touched by the threads that fill them.
    fn zeros(len: usize) -> Vec<Self>;
    /// Copies little-endian bytes of [`Element::STORED`].
    fn copy(bytes: &[u8], out: &mut [Self]);
    fn round(floats: &[f32], out: &mut [Self]);
    /// `None` if it does not fit.
    fn from_integer(value: i64) -> Option<Self>;
    fn all_finite(values: &[Self]) -> bool;
}

macro_rules! float_element {
    ($type:ty, $stored:ident, $mask:expr, $zeros:expr, $round:expr) => {
        impl Element for $type {
            const STORED: Dtype = Dtype::$stored;
            const IS_FLOAT: bool = true;
            fn zeros(len: usize) -> Vec<Self> {
                $zeros(len)
            }
            fn copy(bytes: &[u8], out: &mut [Self]) {
                let (values, _) = bytes.as_chunks();
                for (out, value) in out.iter_mut().zip(values) {
                    *out = Self::from_le_bytes(*value);
                }
            }
            fn round(floats: &[f32], out: &mut [Self]) {
                $round(floats, out);
            }
            fn from_integer(value: i64) -> Option<Self> {
                Some(Self::from_f64(value as f64))
            }
            fn all_finite(values: &[Self]) -> bool {
                // All exponent bits set is infinity or NaN. Without an early exit this is a vector loop.
                values.iter().fold(true, |all, value| all & (value.to_bits() & $mask != $mask))
            }
        }
    };
}

float_element!(f32, F32, 0x7f80_0000, |len| vec![0.0; len], |floats: &[f32], out: &mut [f32]| {
    out.copy_from_slice(floats);
});
float_element!(
    f64,
    F64,
    0x7ff0_0000_0000_0000,
    |len| vec![0.0; len],
    |floats: &[f32], out: &mut [f64]| {
        for (out, &value) in out.iter_mut().zip(floats) {
            *out = f64::from(value);
        }
    }
);
float_element!(
    f16,
    F16,
    0x7c00,
    |len| vec![0_u16; len].reinterpret_into(),
    |floats: &[f32], out: &mut [f16]| out.convert_from_f32_slice(floats)
);
float_element!(
    bf16,
    BF16,
    0x7f80,
    |len| vec![0_u16; len].reinterpret_into(),
    |floats: &[f32], out: &mut [bf16]| {
        // To nearest, ties to even, without the branch for NaN that keeps half's own from being a vector loop.
        for (out, value) in out.iter_mut().zip(floats) {
            let bits = value.to_bits();
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
            *out = bf16::from_bits((rounded >> 16) as u16);
        }
    }
);

macro_rules! integer_element {
    ($type:ty, $stored:ident) => {
        impl Element for $type {
            const STORED: Dtype = Dtype::$stored;
            const IS_FLOAT: bool = false;
            fn zeros(len: usize) -> Vec<Self> {
                vec![0; len]
            }
            fn copy(bytes: &[u8], out: &mut [Self]) {
                let (values, _) = bytes.as_chunks();
                for (out, value) in out.iter_mut().zip(values) {
                    *out = Self::from_le_bytes(*value);
                }
            }
            fn round(_: &[f32], _: &mut [Self]) {}
            fn from_integer(value: i64) -> Option<Self> {
                Self::try_from(value).ok()
            }
            fn all_finite(_: &[Self]) -> bool {
                true
            }
        }
    };
}

integer_element!(u8, U8);
integer_element!(u32, U32);
integer_element!(i64, I64);

const fn is_integer(dtype: Dtype) -> bool {
    use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(dtype, BOOL | U8 | I8 | U16 | I16 | U32 | I32 | U64 | I64)
}

fn supported<T: Element>(dtype: Dtype) -> bool {
    use Dtype::{BF16, F8_E4M3, F8_E5M2, F16, F32, F64};
    is_integer(dtype) || T::IS_FLOAT && matches!(dtype, F8_E4M3 | F8_E5M2 | F16 | BF16 | F32 | F64)
}

const NOT_FINITE: &str = "expected finite numbers, found NaN or infinity";

/// Converts one chunk of `scratch.bytes`; the types have been checked by [`supported`].
fn convert<T: Element>(
    dtype: Dtype,
    scratch: &mut Scratch,
    out: &mut [T],
) -> Result<(), &'static str> {
    if dtype == T::STORED {
        T::copy(&scratch.bytes, out);
    } else if is_integer(dtype) {
        let values = scratch.bytes.chunks_exact(dtype.bitsize() / 8);
        for (out, bytes) in out.iter_mut().zip(values) {
            *out = integer(dtype, bytes)
                .and_then(T::from_integer)
                .ok_or("an integer does not fit the type asked for")?;
        }
    } else {
        scratch.floats.resize(out.len(), 0.0);
        widen(dtype, scratch);
        // Rounding is for finite numbers: NaN may come out as anything.
        if !f32::all_finite(&scratch.floats) {
            return Err(NOT_FINITE);
        }
        T::round(&scratch.floats, out);
        if !T::all_finite(out) {
            return Err("a value is too large for the type asked for");
        }
        return Ok(());
    }
    if T::all_finite(out) { Ok(()) } else { Err(NOT_FINITE) }
}

/// `scratch.bytes`, floats of `dtype`, to `scratch.floats`.
fn widen(dtype: Dtype, scratch: &mut Scratch) {
    let Scratch { bytes, halves, floats } = scratch;
    match dtype {
        Dtype::F32 => f32::copy(bytes, floats),
        Dtype::F64 => {
            for (out, value) in floats.iter_mut().zip(bytes.as_chunks().0) {
                *out = f64::from_le_bytes(*value) as f32;
            }
        }
        Dtype::BF16 => {
            for (out, value) in floats.iter_mut().zip(bytes.as_chunks().0) {
                *out = bf16::from_le_bytes(*value).to_f32();
            }
        }
        Dtype::F16 => {
            halves.resize(floats.len(), f16::ZERO);
            f16::copy(bytes, halves);
            halves.convert_to_f32_slice(floats);
        }
        // The upper half of an f16.
        Dtype::F8_E5M2 => {
            for (out, &byte) in floats.iter_mut().zip(bytes.iter()) {
                *out = f16::from_bits(u16::from(byte) << 8).to_f32();
            }
        }
        _ => {
            for (out, &byte) in floats.iter_mut().zip(bytes.iter()) {
                *out = e4m3(byte);
            }
        }
    }
}

/// An 8-bit float with 4 exponent bits, bias 7, no infinity and NaN at all ones (OCP 8-bit floating point).
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let size = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 8.0 * 2_f32.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2_f32.powi(exponent - 7),
    };
    if byte & 0x80 == 0 { size } else { -size }
}

/// One integer of the given width; `None` if it is beyond an i64.
fn integer(dtype: Dtype, bytes: &[u8]) -> Option<i64> {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let value = u64::from_le_bytes(wide);
    Some(match dtype {
        Dtype::I8 => i64::from(value as i8),
        Dtype::I16 => i64::from(value as i16),
        Dtype::I32 => i64::from(value as i32),
        Dtype::I64 => value as i64,
        _ => return i64::try_from(value).ok(),
    })
}

/// The tensor type that is nearest to a stored type: the same where there is one.
pub(super) const fn nearest(dtype: Dtype) -> DType {
    match dtype {
        Dtype::BOOL | Dtype::U8 => DType::U8,
        Dtype::I8 | Dtype::I16 => DType::I16,
        Dtype::U16 | Dtype::U32 => DType::U32,
        Dtype::I32 => DType::I32,
        Dtype::U64 | Dtype::I64 => DType::I64,
        Dtype::F16 | Dtype::F8_E5M2 | Dtype::F8_E5M2FNUZ => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 | Dtype::C64 => DType::F64,
        _ => DType::F8E4M3,
    }
}

/// The number of elements and of bytes of a tensor; `None` if they overflow or do not fill whole bytes.
pub(super) fn size_of(dtype: Dtype, shape: &[usize]) -> Option<(usize, u64)> {
    // A zero anywhere makes the tensor empty, but the other dimensions must still multiply without overflow,
    // or later products would.
    let positive = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d.max(1)))?;
    let count = if shape.contains(&0) { 0 } else { positive };
    let bits = count.checked_mul(dtype.bitsize())?;
    (bits % 8 == 0).then_some((count, (bits / 8) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_floats_have_the_published_values() {
        // OCP: largest 448 = 1.75 · 2^8, smallest 2^-9, zero, minus one
        assert_eq!(
            [e4m3(0x7e), e4m3(0x01), e4m3(0), e4m3(0xb8)],
            [448.0, 2_f32.powi(-9), 0.0, -1.0]
        );
        assert!(e4m3(0x7f).is_nan());
    }

    #[test]
    fn a_transposed_view_is_gathered_in_its_own_order() {
        // [[0, 1, 2], [3, 4, 5]] transposed
        let gathered = gather(&[0_i64, 1, 2, 3, 4, 5], &[3, 2], &[1, 3]);
        assert_eq!(gathered, [0, 3, 1, 4, 2, 5]);
        assert_eq!(gather(&[7_i64], &[], &[]), [7]);
        assert!(gather::<i64>(&[], &[0, 4], &[4, 1]).is_empty());
    }

    #[test]
    fn rounding_to_bf16_is_that_of_half() {
        let floats: Vec<f32> = (0..1_u32 << 16)
            .map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9) ^ 0x8000))
            .chain([1.0, 1.003_906_3, 1.011_718_8, 1.003_906_2, -0.0, f32::MAX, 1e-40])
            .filter(|value| value.is_finite())
            .collect();
        let mut out = bf16::zeros(floats.len());
        bf16::round(&floats, &mut out);
        let expected: Vec<_> = floats.iter().map(|&value| bf16::from_f32(value)).collect();
        assert_eq!(out, expected);
    }

    #[test]
    fn sizes_that_overflow_are_none() {
        assert_eq!(size_of(Dtype::F32, &[2, 3]), Some((6, 24)));
        assert_eq!(size_of(Dtype::F32, &[]), Some((1, 4)));
        assert_eq!(size_of(Dtype::F32, &[0, 3]), Some((0, 0)));
        assert_eq!(size_of(Dtype::F32, &[usize::MAX, 2]), None);
        assert_eq!(size_of(Dtype::F32, &[0, usize::MAX, 2]), None);
        assert_eq!(size_of(Dtype::F32, &[usize::MAX / 2]), None);
    }
}
