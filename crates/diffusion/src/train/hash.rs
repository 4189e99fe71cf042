//! SHA-256 of files and of lists of things, in hexadecimal digits.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use imaging::ImagingError;
use ring::digest::{Context, SHA256};

/// The SHA-256 of a file's bytes.
pub(super) fn of_file(path: &Path) -> Result<String, ImagingError> {
    let fail = |source| ImagingError::io(path, "read", source);
    let mut file = File::open(path).map_err(fail)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).map_err(fail)? {
            0 => return Ok(finish(context)),
            count => context.update(&buffer[..count]),
        }
    }
}

/// The SHA-256 of several things, each with its length before it, so that their borders count.
pub(super) fn of_parts<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        let part = part.as_ref();
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    finish(context)
}

fn finish(context: Context) -> String {
    context.finish().as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_published_hash_and_parts_keep_their_borders() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "abc").expect("a temporary file");
        // FIPS 180-4's example.
        assert_eq!(
            of_file(file.path()).expect("a readable file"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_ne!(of_parts(["ab", "c"]), of_parts(["a", "bc"]));
    }
}
