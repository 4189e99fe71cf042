//! PyTorch's `.bin`, `.pt` and `.ckpt` files since 1.6: a zip archive of a pickle and one file per storage.
//!
//! The pickle is parsed by a machine that executes nothing; tensors are read from the archive by position, strided views gathered.
//! The dictionary of tensors may lie under `state_dict`, as in the checkpoints of a training run, beside objects that are not looked at.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;

use super::elements::{FileBytes, Layout, Run, nearest, read_tensor, size_of};
use super::pickle::{Pickle, StridedTensor, Value};
use super::safetensors::check_header_entry;
use super::weights::missing;
use super::zip_index::ZipIndex;
use super::{TensorFile, TensorInfo, TensorSource, check_tensor};
use crate::error::{DiffusionError, Result};

/// The largest pickle that is read, in bytes; that of SD 1.5 has 300 thousand.
const MAX_PICKLE: u64 = 64 << 20;

/// The most tensors of a file; SD 2 has 1200.
const MAX_TENSORS: usize = 100_000;

/// How deep `state_dict` may be nested.
const MAX_NESTING: usize = 8;

/// An open PyTorch checkpoint.
#[derive(Debug)]
pub struct PickleFile {
    bytes: FileBytes,
    zip: ZipIndex,
    /// The archive's folder, which all names begin with.
    root: String,
    tensors: BTreeMap<String, Entry>,
    integers: BTreeMap<String, i64>,
}

#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    info: TensorInfo,
    /// Or why it cannot be read.
    view: Result<View, String>,
}

/// Where a tensor lies in its storage, checked against it.
#[derive(Clone, Debug)]
struct View {
    key: String,
    offset: usize,
    /// Elements from the first to the last, inclusive.
    extent: usize,
    /// `None` if the elements lie in order.
    strides: Option<Vec<usize>>,
}

impl PickleFile {
    /// Opens a file and parses its pickle; no tensor is read.
    ///
    /// # Errors
    /// [`DiffusionError::Io`], and [`DiffusionError::Checkpoint`] if it is no PyTorch archive, is damaged, or holds no
    /// dictionary of tensors.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let bytes = FileBytes::open(path.as_ref())?;
        let fail = |problem: String| DiffusionError::checkpoint(bytes.path(), problem);
        let zip = ZipIndex::read(&bytes)?;
        let roots: Vec<_> = zip.names().filter_map(|name| name.strip_suffix("/data.pkl")).collect();
        let [root] = roots[..] else {
            return Err(fail("expected a PyTorch checkpoint, found another zip archive".into()));
        };
        let root = root.to_owned();
        let byteorder = format!("{root}/byteorder");
        if zip.size(&byteorder) == Some(3) && read_entry(&bytes, &zip, &byteorder)? == b"big" {
            return Err(fail("expected little-endian tensors, found big-endian ones".into()));
        }

        let pickle = read_entry(&bytes, &zip, &format!("{root}/data.pkl"))?;
        let pickle = Pickle::parse(&pickle).map_err(fail)?;
        let (mut tensors, mut integers) = (BTreeMap::new(), BTreeMap::new());
        let mut dict = pickle.root();
        for _ in 0..MAX_NESTING {
            let mut inner = None;
            for (key, value) in pickle.items(dict) {
                match pickle.get(value) {
                    Value::Int(value) => {
                        integers.insert(super::shorten(key), *value);
                    }
                    Value::Dict(_) if key == "state_dict" => inner = Some(value),
                    _ => {}
                }
            }
            match inner {
                Some(inner) => dict = inner,
                None => break,
            }
        }
        for (key, value) in pickle.items(dict) {
            if let &Value::Tensor(arguments) = pickle.get(value)
                && let Some(tensor) = pickle.tensor(arguments)
            {
                let entry = entry(&tensor, &zip, &root);
                check_header_entry(key, &entry.info.shape).map_err(fail)?;
                tensors.insert(key.to_owned(), entry);
                if tensors.len() > MAX_TENSORS {
                    let problem = format!("expected at most {MAX_TENSORS} tensors, found more");
                    return Err(fail(problem));
                }
            }
        }
        if tensors.is_empty() {
            let problem =
                "expected a dictionary of tensors (a state dict), found none in the pickle";
            return Err(fail(problem.into()));
        }
        Ok(Self { bytes, zip, root, tensors, integers })
    }

    /// The elements of a view, and where they begin in the file.
    fn locate(&self, name: &str, entry: &Entry) -> Result<(View, u64)> {
        let fail = |problem: &str| {
            DiffusionError::checkpoint(self.bytes.path(), format!("tensor {name}: {problem}"))
        };
        let view = entry.view.as_ref().map_err(|problem| fail(problem))?.clone();
        let file = format!("{}/data/{}", self.root, view.key);
        let (start, _) = self.zip.locate(&self.bytes, &file)?;
        Ok((view.clone(), start + (view.offset * entry.dtype.bitsize() / 8) as u64))
    }
}

fn read_entry(bytes: &FileBytes, zip: &ZipIndex, name: &str) -> Result<Vec<u8>> {
    let (start, size) = zip.locate(bytes, name)?;
    if size > MAX_PICKLE {
        let problem = format!("{name}: expected at most {MAX_PICKLE} bytes, found {size}");
        return Err(DiffusionError::checkpoint(bytes.path(), problem));
    }
    let mut content = vec![0; size as usize];
    bytes.read_at(start, &mut content)?;
    Ok(content)
}

/// Checks a tensor of the pickle against its storage.
fn entry(tensor: &StridedTensor<'_>, zip: &ZipIndex, root: &str) -> Entry {
    let dtype = tensor.storage.dtype;
    let shape = tensor.shape.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
    Entry {
        dtype,
        view: view(tensor, zip, root),
        info: TensorInfo { dtype: nearest(dtype), shape },
    }
}

fn view(tensor: &StridedTensor<'_>, zip: &ZipIndex, root: &str) -> Result<View, String> {
    let StridedTensor { storage, offset, shape, strides } = tensor;
    let natural = |values: &[i64]| -> Option<Vec<usize>> {
        values.iter().map(|&value| usize::try_from(value).ok()).collect()
    };
    let (Some(shape), Some(strides)) = (natural(shape), natural(strides)) else {
        return Err("its shape or strides are negative".into());
    };
    let (Ok(offset), Ok(numel)) = (usize::try_from(*offset), usize::try_from(storage.numel)) else {
        return Err("its position or storage is negative".into());
    };
    if shape.len() != strides.len() {
        return Err(format!("its shape {shape:?} has other dimensions than its strides"));
    }
    let (Some((count, _)), Some((_, size))) =
        (size_of(storage.dtype, &shape), size_of(storage.dtype, &[numel]))
    else {
        return Err(format!("its shape {shape:?} is too large"));
    };

    // 1. the storage is in the archive, whole
    let key = super::shorten(storage.key);
    match zip.size(&format!("{root}/data/{key}")) {
        Some(found) if found == size => {}
        Some(found) => {
            return Err(format!("expected a storage {key} of {size} bytes, found {found}"));
        }
        None => return Err(format!("expected a storage {key}, found none")),
    }

    // 2. every element of the view lies in it; a view of repeated elements could be larger than the file
    let last = shape.iter().zip(&strides).try_fold(0_usize, |last, (&d, &stride)| {
        d.saturating_sub(1).checked_mul(stride)?.checked_add(last)
    });
    let extent = if count == 0 { Some(0) } else { last.and_then(|last| last.checked_add(1)) };
    let end = extent.and_then(|extent| offset.checked_add(extent));
    let (Some(extent), Some(_)) = (extent, end.filter(|&end| end <= numel)) else {
        return Err(format!("its shape {shape:?} does not fit in its storage of {numel} elements"));
    };
    if count > numel {
        return Err(format!("its shape {shape:?} repeats the {numel} elements of its storage"));
    }
    let mut contiguous = 1;
    let in_order = shape.iter().zip(&strides).rev().all(|(&d, &stride)| {
        let expected = contiguous;
        contiguous *= d.max(1);
        d <= 1 || stride == expected
    });
    let strides = (!in_order && count > 0).then_some(strides);
    Ok(View { key, offset, extent, strides })
}

impl TensorSource for PickleFile {
    fn origin(&self) -> String {
        self.bytes.path().display().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.get(name).map(|entry| entry.info.clone())
    }

    fn read(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let entry = self.tensors.get(name);
        check_tensor(&self.origin(), name, shape, entry.map(|entry| &entry.info))?;
        let Some(entry) = entry else { return Err(missing(&self.origin(), name, shape)) };
        let (view, offset) = self.locate(name, entry)?;
        let run = Run { offset, dtype: entry.dtype, len: view.extent };
        let layout = Layout { shape, strides: view.strides.as_deref() };
        read_tensor(&self.bytes, run, &layout, name, dtype, device)
    }
}

impl TensorFile for PickleFile {
    fn stored_dtype(&self, name: &str) -> Option<Dtype> {
        self.tensors.get(name).map(|entry| entry.dtype)
    }

    /// Integers of the pickle's dictionaries, such as `global_step`.
    fn metadata_value(&self, key: &str) -> Option<String> {
        self.integers.get(key).map(i64::to_string)
    }

    fn read_rows(
        &self,
        name: &str,
        rows: Range<usize>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(missing(&self.origin(), name, &[]));
        };
        let whole = self.read(name, &entry.info.shape, dtype, device)?;
        // A copy, so that the rest is freed.
        Ok(whole.narrow(0, rows.start, rows.len())?.force_contiguous()?)
    }
}
