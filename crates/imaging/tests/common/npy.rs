//! Reads NumPy's `.npy` files, versions 1 and 2, in C order and little-endian.

use std::path::Path;

/// A type that an array's elements can have.
pub(crate) trait Element: Sized {
    /// NumPy's name of it, without the byte order.
    const DTYPE: &'static str;
    fn from_le(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($($type:ty = $dtype:literal),*) => {$(
        impl Element for $type {
            const DTYPE: &'static str = $dtype;
            fn from_le(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("as many bytes as the type has"))
            }
        }
    )*};
}

element!(u8 = "u1", u16 = "u2", u32 = "u4", u64 = "u8", i16 = "i2", i32 = "i4", i64 = "i8");
element!(f32 = "f4", f64 = "f8");

impl Element for bool {
    const DTYPE: &'static str = "b1";
    fn from_le(bytes: &[u8]) -> Self {
        bytes[0] != 0
    }
}

/// Reads a file: its dimensions, slowest first (none for a scalar), and its elements in that order.
///
/// Panics, naming the file, if it cannot be read or holds another type.
pub(crate) fn read<T: Element>(path: impl AsRef<Path>) -> (Vec<usize>, Vec<T>) {
    let path = path.as_ref();
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    parse(&bytes).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
}

fn parse<T: Element>(bytes: &[u8]) -> Result<(Vec<usize>, Vec<T>), String> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("not an .npy file")?;
    let (header_length, rest) = match rest {
        [1, 0, a, b, rest @ ..] => (u16::from_le_bytes([*a, *b]) as usize, rest),
        [2, 0, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err("not version 1 or 2".to_owned()),
    };
    let (header, bytes) = rest.split_at_checked(header_length).ok_or("the header is cut short")?;
    let header = std::str::from_utf8(header).map_err(|e| e.to_string())?;
    if header.contains("'fortran_order': True") {
        return Err("in Fortran order".to_owned());
    }
    let quoted = |key: &str| header.split(key).nth(1);
    let dtype = quoted("'descr': '").and_then(|s| s.split('\'').next()).ok_or("no descr")?;
    if dtype.trim_start_matches(['<', '|', '=']) != T::DTYPE {
        return Err(format!("expected elements of type {}, found {dtype}", T::DTYPE));
    }
    let shape = quoted("'shape': (").and_then(|s| s.split(')').next()).ok_or("no shape")?;
    let shape: Vec<usize> = shape
        .split(',')
        .map(str::trim)
        .filter(|dimension| !dimension.is_empty())
        .map(|dimension| dimension.parse().map_err(|_| format!("dimension {dimension}")))
        .collect::<Result<_, _>>()?;
    let count: usize = shape.iter().product();
    if bytes.len() != size_of::<T>() * count {
        return Err(format!(
            "expected {count} elements of {}, found {} bytes",
            T::DTYPE,
            bytes.len()
        ));
    }
    Ok((shape, bytes.chunks_exact(size_of::<T>()).map(T::from_le).collect()))
}
