//! The table of contents of a zip archive whose entries are stored as they are, as PyTorch writes them.
//!
//! Tensors are then read from the archive by position. Compressed or encrypted entries are listed and refused when
//! they are asked for. Follows PKWARE's APPNOTE 6.3.10, with the 64-bit extensions; every number is checked against the
//! file's length before anything is allocated.

use std::collections::HashMap;

use super::elements::FileBytes;
use crate::error::{DiffusionError, Result};

/// The largest table that is read, in bytes: a million entries.
const MAX_TABLE: u64 = 64 << 20;

const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";

/// The entries of an archive by name.
#[derive(Debug)]
pub(super) struct ZipIndex {
    entries: HashMap<String, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    stored: bool,
    size: u64,
    header: u64,
}

impl ZipIndex {
    /// Reads the table of contents.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if the archive is cut short or its table is damaged.
    pub(super) fn read(file: &FileBytes) -> Result<Self> {
        let fail = |problem: &str| DiffusionError::checkpoint(file.path(), problem);
        let (offset, size) = table_position(file)?;
        let fits = offset.checked_add(size).is_some_and(|end| end <= file.len());
        if !fits || size > MAX_TABLE {
            return Err(fail("the zip archive's table of contents lies outside the file"));
        }
        let mut table = vec![0; size as usize];
        file.read_at(offset, &mut table)?;
        let mut entries = HashMap::new();
        let mut rest = &table[..];
        while rest.starts_with(&CENTRAL) {
            let (name, entry, length) =
                central(rest).ok_or_else(|| fail("the zip archive's table is damaged"))?;
            entries.insert(name, entry);
            rest = &rest[length..];
        }
        Ok(Self { entries })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The number of bytes of an entry; `None` if there is none of this name.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.size)
    }

    /// Where an entry's bytes begin, and how many there are; all lie within the file.
    ///
    /// # Errors
    /// [`DiffusionError::Checkpoint`] if there is no such entry, it is compressed, or its position is wrong.
    pub(super) fn locate(&self, file: &FileBytes, name: &str) -> Result<(u64, u64)> {
        let fail =
            |problem: &str| DiffusionError::checkpoint(file.path(), format!("{name}: {problem}"));
        let entry = self.entries.get(name).ok_or_else(|| fail("expected an entry, found none"))?;
        if !entry.stored {
            return Err(fail("expected an entry as PyTorch stores it, found a compressed one"));
        }
        let mut header = [0; 30];
        if entry.header.checked_add(30).is_none_or(|end| end > file.len()) {
            return Err(fail("its position lies outside the file"));
        }
        file.read_at(entry.header, &mut header)?;
        if !header.starts_with(&LOCAL) {
            return Err(fail("its header is damaged"));
        }
        let start =
            entry.header + 30 + u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
        if start.checked_add(entry.size).is_none_or(|end| end > file.len()) {
            return Err(fail("the file is cut short"));
        }
        Ok((start, entry.size))
    }
}

/// Position and length of the table of contents.
fn table_position(file: &FileBytes) -> Result<(u64, u64)> {
    let cut = || DiffusionError::checkpoint(file.path(), "the zip archive is cut short");
    // The end record is followed by a comment of up to 65535 bytes.
    let tail = file.len().min(22 + 65535);
    let base = file.len() - tail;
    let mut bytes = vec![0; tail as usize];
    file.read_at(base, &mut bytes)?;
    let end = bytes.windows(4).rposition(|window| window == END).ok_or_else(cut)?;
    let record = bytes.get(end..end + 22).ok_or_else(cut)?;
    let (size, offset) = (u64::from(u32_at(record, 12)), u64::from(u32_at(record, 16)));
    let entries = u16_at(record, 10);
    if size != u64::from(u32::MAX) && offset != u64::from(u32::MAX) && entries != u16::MAX {
        return Ok((offset, size));
    }
    // The 64-bit record, by way of its locator just before.
    let Some(locator) = end.checked_sub(20).map(|start| &bytes[start..end]) else {
        return Ok((offset, size));
    };
    if !locator.starts_with(&LOCATOR_64) {
        return Ok((offset, size));
    }
    let position = u64_at(locator, 8);
    if position.checked_add(56).is_none_or(|end| end > file.len()) {
        return Err(cut());
    }
    let mut record = [0; 56];
    file.read_at(position, &mut record)?;
    if !record.starts_with(&END_64) {
        return Err(cut());
    }
    Ok((u64_at(&record, 48), u64_at(&record, 40)))
}

/// One entry of the table and its length there.
fn central(bytes: &[u8]) -> Option<(String, Entry, usize)> {
    let header = bytes.get(..46)?;
    let (flags, method) = (u16_at(header, 8), u16_at(header, 10));
    let (packed, size) = (u32_at(header, 20), u32_at(header, 24));
    let offset = u32_at(header, 42);
    let name_end = 46 + usize::from(u16_at(header, 28));
    let extra_end = name_end + usize::from(u16_at(header, 30));
    let end = extra_end + usize::from(u16_at(header, 32));
    let name = String::from_utf8_lossy(bytes.get(46..name_end)?).into_owned();
    bytes.get(..end)?;

    // Numbers that do not fit in 32 bits follow in the extra field 1, in this order.
    let mut wide = wide_numbers(bytes.get(name_end..extra_end)?);
    let mut number = |short: u32| {
        if short == u32::MAX { wide.next() } else { Some(u64::from(short)) }
    };
    let size = number(size)?;
    let packed = number(packed)?;
    let header = number(offset)?;
    let stored = method == 0 && flags & 1 == 0 && packed == size;
    Some((name, Entry { stored, size, header }, end))
}

fn wide_numbers(mut extra: &[u8]) -> impl Iterator<Item = u64> + use<'_> {
    let mut numbers: &[u8] = &[];
    while let Some((head, rest)) = extra.split_at_checked(4) {
        let length = usize::from(u16_at(head, 2)).min(rest.len());
        if u16_at(head, 0) == 1 {
            numbers = &rest[..length];
        }
        extra = &rest[length..];
    }
    numbers.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
