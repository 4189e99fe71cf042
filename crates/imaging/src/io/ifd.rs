//! The directory structure shared by TIFF files and EXIF data.
//!
//! Follows TIFF 6.0 and its 64-bit variant BigTIFF. Only locates values: nothing is allocated by a count that the file
//! claims until [`Structure::bytes`] is asked for it, and then at most what the caller allows.

use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};

/// More entries than this in one directory are taken for damage.
const MAX_ENTRIES: u64 = 4096;

/// A TIFF structure being read.
pub(super) struct Structure<R> {
    reader: R,
    big_endian: bool,
    big_tiff: bool,
    /// Position of the first directory.
    pub first: u64,
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub tag: u16,
    /// TIFF's code for the type of the values.
    pub kind: u16,
    /// Values.
    pub count: u64,
    /// Position of the values.
    pub at: u64,
}

/// One directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub entries: Vec<Entry>,
    /// Position of the next directory; 0 for none.
    pub next: u64,
    /// Position of the field that holds `next`.
    pub next_at: u64,
}

impl Directory {
    /// The entry with this tag; the first, should there be several.
    pub(super) fn get(&self, tag: u16) -> Option<Entry> {
        self.entries.iter().copied().find(|entry| entry.tag == tag)
    }
}

/// Bytes of one value of a type; `None` for a type that does not exist.
pub(super) const fn value_bytes(kind: u16) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 | 17 | 18 => Some(8),
        _ => None,
    }
}

/// Bytes of the unit in which a type is turned around between byte orders; a rational is two of four.
pub(super) const fn unit_bytes(kind: u16) -> usize {
    match kind {
        3 | 8 => 2,
        4 | 5 | 9 | 10 | 11 | 13 => 4,
        12 | 16 | 17 | 18 => 8,
        _ => 1,
    }
}

fn invalid(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidData, reason)
}

impl<R: Read + Seek> Structure<R> {
    /// Reads the header.
    pub(super) fn open(mut reader: R) -> Result<Self> {
        let mut header = [0; 4];
        reader.seek(SeekFrom::Start(0))?;
        reader.read_exact(&mut header)?;
        let (big_endian, version) = match header {
            [b'I', b'I', low, high] => (false, u16::from_le_bytes([low, high])),
            [b'M', b'M', high, low] => (true, u16::from_be_bytes([high, low])),
            _ => return Err(invalid("no TIFF header")),
        };
        let mut structure = Self { reader, big_endian, big_tiff: version == 43, first: 0 };
        structure.first = match version {
            42 => structure.unsigned(4)?,
            43 if structure.unsigned(2)? == 8 && structure.unsigned(2)? == 0 => {
                structure.unsigned(8)?
            }
            _ => return Err(invalid("no TIFF version number")),
        };
        Ok(structure)
    }

    /// True if numbers are stored high byte first.
    pub(super) const fn big_endian(&self) -> bool {
        self.big_endian
    }

    fn unsigned(&mut self, bytes: usize) -> Result<u64> {
        let mut buffer = [0; 8];
        self.reader.read_exact(&mut buffer[..bytes])?;
        Ok(unsigned_of(&buffer[..bytes], self.big_endian))
    }

    /// Reads the directory at a position. Entries of unknown types are left out.
    pub(super) fn directory(&mut self, at: u64) -> Result<Directory> {
        let (count_bytes, field) = if self.big_tiff { (8, 8) } else { (2, 4) };
        self.reader.seek(SeekFrom::Start(at))?;
        let count = self.unsigned(count_bytes)?;
        if count > MAX_ENTRIES {
            return Err(invalid("a directory with too many entries"));
        }
        let mut directory = Directory::default();
        let mut position = at + count_bytes as u64;
        let mut pointers = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let (tag, kind) = (self.unsigned(2)? as u16, self.unsigned(2)? as u16);
            let count = self.unsigned(field)?;
            let inline_at = position + 4 + field as u64;
            let pointer = self.unsigned(field)?;
            position = inline_at + field as u64;
            pointers.push((Entry { tag, kind, count, at: inline_at }, pointer));
        }
        directory.next_at = position;
        // Some writers forget the last pointer; the entries are of use all the same.
        directory.next = self.unsigned(field).unwrap_or(0);
        for (entry, pointer) in pointers {
            let Some(size) = value_bytes(entry.kind) else { continue };
            let Some(bytes) = size.checked_mul(entry.count) else { continue };
            let at = if bytes > field as u64 { pointer } else { entry.at };
            directory.entries.push(Entry { at, ..entry });
        }
        Ok(directory)
    }

    /// The bytes of an entry's values in the file's byte order, at most `limit`.
    pub(super) fn bytes(&mut self, entry: Entry, limit: u64) -> Result<Vec<u8>> {
        let bytes = value_bytes(entry.kind).and_then(|size| size.checked_mul(entry.count));
        let bytes =
            bytes.filter(|&bytes| bytes <= limit).ok_or_else(|| invalid("too long a value"))?;
        self.reader.seek(SeekFrom::Start(entry.at))?;
        let mut values = Vec::new();
        // Grows as bytes arrive, so that a count beyond the end of the file allocates nothing.
        (&mut self.reader).take(bytes).read_to_end(&mut values)?;
        if values.len() as u64 == bytes { Ok(values) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    /// The bytes from a position on, at most `limit`, fewer at the end of the file.
    pub(super) fn up_to(&mut self, at: u64, limit: u64) -> Result<Vec<u8>> {
        self.reader.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        (&mut self.reader).take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// An entry's values as unsigned integers (bytes, shorts, longs), at most `limit` of them.
    pub(super) fn integers(&mut self, entry: Entry, limit: u64) -> Result<Vec<u64>> {
        let size = match entry.kind {
            1 | 3 | 4 | 13 | 16 | 18 => unit_bytes(entry.kind),
            _ => return Err(invalid("not an unsigned integer")),
        };
        if entry.count > limit {
            return Err(invalid("too many values"));
        }
        let bytes = self.bytes(entry, limit * 8)?;
        Ok(bytes.chunks_exact(size).map(|value| unsigned_of(value, self.big_endian)).collect())
    }

    /// The first of an entry's values as an unsigned integer.
    pub(super) fn integer(&mut self, entry: Entry) -> Result<u64> {
        let first = Entry { count: entry.count.min(1), ..entry };
        self.integers(first, 1)?.first().copied().ok_or_else(|| invalid("an entry without a value"))
    }

    /// The first of an entry's values as an unsigned fraction.
    pub(super) fn rational(&mut self, entry: Entry) -> Result<f64> {
        if entry.kind != 5 || entry.count == 0 {
            return Err(invalid("not a fraction"));
        }
        let bytes = self.bytes(Entry { count: 1, ..entry }, 8)?;
        let (over, under) = bytes.split_at(4);
        Ok(unsigned_of(over, self.big_endian) as f64 / unsigned_of(under, self.big_endian) as f64)
    }
}

fn unsigned_of(bytes: &[u8], big_endian: bool) -> u64 {
    let push = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
    if big_endian { bytes.iter().fold(0, push) } else { bytes.iter().rev().fold(0, push) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn both_byte_orders_give_the_same_values() {
        let little = b"II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x1a\x01\x05\0\x01\0\0\0\x26\0\0\0\0\0\0\0\x2c\x01\0\0\x01\0\0\0";
        let big = b"MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x01\x1a\0\x05\0\0\0\x01\0\0\0\x26\0\0\0\0\0\0\x01\x2c\0\0\0\x01";
        for bytes in [&little[..], &big[..]] {
            let mut structure = Structure::open(Cursor::new(bytes)).unwrap();
            let directory = structure.directory(structure.first).unwrap();
            assert_eq!(structure.integer(directory.get(274).unwrap()).unwrap(), 6);
            assert_eq!(structure.rational(directory.get(282).unwrap()).unwrap(), 300.0);
            assert_eq!(directory.next, 0);
            assert_eq!(directory.next_at, 34);
        }
    }

    #[test]
    fn claims_beyond_the_end_allocate_nothing_and_fail() {
        let mut bytes =
            b"II*\0\x08\0\0\0\x01\0\x12\x01\x07\0\xff\xff\xff\x7f\x1a\0\0\0\0\0\0\0abc".to_vec();
        let mut structure = Structure::open(Cursor::new(&bytes[..])).unwrap();
        let directory = structure.directory(8).unwrap();
        assert!(structure.bytes(directory.entries[0], u64::MAX).is_err());
        bytes[8..10].copy_from_slice(&[0xff, 0xff]);
        let mut structure = Structure::open(Cursor::new(&bytes[..])).unwrap();
        assert!(structure.directory(8).is_err());
        assert!(structure.directory(u64::MAX).is_err());
    }
}
