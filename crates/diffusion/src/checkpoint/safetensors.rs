//! `.safetensors` files: a JSON header with names, types, shapes and positions, then the elements.
//!
//! The format and its limits are those of the `safetensors` crate (header of at most 100 MB, positions without gaps
//! or overlaps that cover the file). That crate reads from one slice of the whole file, which would need a memory map
//! or a second copy; here the header is checked against the file's length and tensors are read when asked for.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo as HeaderEntry;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::elements::{FileBytes, Layout, Run, nearest, read_tensor, size_of};
use super::{TensorFile, TensorInfo, TensorSource, check_tensor};
use crate::error::{DiffusionError, Result};

/// The longest header that upstream accepts, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// An open `.safetensors` file whose header has been checked.
#[derive(Debug)]
pub struct SafetensorsFile {
    bytes: FileBytes,
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    info: TensorInfo,
    offset: u64,
    len: usize,
}

#[derive(Default)]
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: HashMap<String, HeaderEntry>,
}

/// Each value goes straight to its type: buffering values of unknown type would take many times the header's length.
impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        header.metadata = map.next_value::<Option<_>>()?.unwrap_or_default();
                        continue;
                    }
                    let entry = map.next_value()?;
                    let shown = super::shorten(&name);
                    if header.tensors.insert(name, entry).is_some() {
                        return Err(A::Error::custom(format!("tensor {shown} is there twice")));
                    }
                }
                Ok(header)
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
    }
}

impl SafetensorsFile {
    /// Opens a file and checks its header; no tensor is read.
    ///
    /// # Errors
    /// [`DiffusionError::Io`], and [`DiffusionError::Checkpoint`] if it is no safetensors file, is cut short or
    /// describes tensors that its length contradicts.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::of_bytes(FileBytes::open(path.as_ref())?)
    }

    /// A file of this name that is a part of the program.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] as for [`SafetensorsFile::open`].
    pub(crate) fn carried(name: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::of_bytes(FileBytes::carried(name, bytes))
    }

    fn of_bytes(bytes: FileBytes) -> Result<Self> {
        let fail = |problem: String| DiffusionError::checkpoint(bytes.path(), problem);

        // 1. the header's length
        if bytes.len() < 8 {
            return Err(fail(format!(
                "expected a safetensors file, found one of {} bytes",
                bytes.len()
            )));
        }
        let mut length = [0; 8];
        bytes.read_at(0, &mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(fail(format!(
                "expected a safetensors header of at most {MAX_HEADER} bytes, found {length}"
            )));
        }
        if length > bytes.len() - 8 {
            return Err(fail(format!(
                "the file is cut short: expected a header of {length} bytes, found {}",
                bytes.len() - 8
            )));
        }

        // 2. the header
        let mut json = vec![0; length as usize];
        bytes.read_at(8, &mut json)?;
        let header: Header = serde_json::from_slice(&json)
            .map_err(|error| fail(format!("the safetensors header is damaged: {error}")))?;
        let mut entries: Vec<_> = header.tensors.into_iter().collect();
        entries.sort_by(|a, b| (a.1.data_offsets, &a.0).cmp(&(b.1.data_offsets, &b.0)));

        // 3. every tensor begins where the one before ends, and the last ends with the file
        let data = 8 + length;
        let mut tensors = BTreeMap::new();
        let mut position = 0;
        for (name, HeaderEntry { dtype, shape, data_offsets: (begin, end) }) in entries {
            check_header_entry(&name, &shape).map_err(&fail)?;
            if begin as u64 != position || end < begin {
                return Err(fail(format!(
                    "tensor {name}: expected its data from byte {position} on, found {begin}..{end}"
                )));
            }
            let found = (end - begin) as u64;
            let Some((len, size)) = size_of(dtype, &shape).filter(|&(_, size)| size == found)
            else {
                return Err(fail(format!(
                    "tensor {name}: its shape {shape:?} of {dtype} does not fit its {found} bytes"
                )));
            };
            let offset = data + position;
            position += size;
            let info = TensorInfo { dtype: nearest(dtype), shape };
            tensors.insert(name, Entry { dtype, info, offset, len });
        }
        if data + position != bytes.len() {
            let found = bytes.len() - data;
            return Err(fail(if position > found {
                format!(
                    "the file is cut short: expected {position} bytes of tensors, found {found}"
                )
            } else {
                format!("expected {position} bytes of tensors, found {found}")
            }));
        }
        Ok(Self { bytes, tensors, metadata: header.metadata })
    }

    /// The strings that the writer put beside the tensors.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Reads every tensor as it is stored (integers as `i64`).
    ///
    /// # Errors
    /// Those of [`TensorSource::read`].
    pub fn read_all(&self, device: &Device) -> Result<HashMap<String, Tensor>> {
        self.tensors
            .iter()
            .map(|(name, entry)| {
                let dtype = match entry.info.dtype {
                    DType::F8E4M3 => DType::F16,
                    dtype if dtype.is_float() => dtype,
                    _ => DType::I64,
                };
                Ok((name.clone(), self.read(name, &entry.info.shape, dtype, device)?))
            })
            .collect()
    }
}

/// Refuses names and shapes that no model has and that would make unreadable messages.
pub(super) fn check_header_entry(name: &str, shape: &[usize]) -> Result<(), String> {
    if name.len() > 1024 {
        return Err(format!(
            "expected tensor names of at most 1024 bytes, found one of {}",
            name.len()
        ));
    }
    if shape.len() > 16 {
        let rank = shape.len();
        return Err(format!("tensor {name}: expected at most 16 dimensions, found {rank}"));
    }
    Ok(())
}

impl TensorSource for SafetensorsFile {
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
        let rows = 0..shape.first().copied().unwrap_or(1);
        self.read_rows(name, rows, dtype, device)
    }
}

impl TensorFile for SafetensorsFile {
    fn stored_dtype(&self, name: &str) -> Option<Dtype> {
        self.tensors.get(name).map(|entry| entry.dtype)
    }

    fn metadata_value(&self, key: &str) -> Option<String> {
        self.metadata.get(key).cloned()
    }

    fn read_rows(
        &self,
        name: &str,
        rows: Range<usize>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(DiffusionError::MissingTensor {
                origin: self.origin(),
                name: name.to_owned(),
                shape: Vec::new(),
            });
        };
        let mut shape = entry.info.shape.clone();
        let (mut offset, mut len) = (entry.offset, entry.len);
        if let Some(count) = shape.first_mut()
            && rows != (0..*count)
        {
            if rows.start > rows.end || rows.end > *count {
                let expected = format!("rows within 0..{count} of {name}");
                return Err(DiffusionError::argument("rows", expected, format!("{rows:?}")));
            }
            // `count` is above 0, or no other range would lie within it.
            let row = entry.len / (*count).max(1);
            offset += (rows.start * row * entry.dtype.bitsize() / 8) as u64;
            *count = rows.len();
            len = rows.len() * row;
        }
        let run = Run { offset, dtype: entry.dtype, len };
        let layout = Layout { shape: &shape, strides: None };
        read_tensor(&self.bytes, run, &layout, name, dtype, device)
    }
}
