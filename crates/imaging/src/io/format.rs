//! The file formats, told by their first bytes when read and by the extension when written.

use std::path::Path;

/// An image file format that is read and written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Portable Network Graphics.
    Png,
    /// JPEG (JFIF, Exif).
    Jpeg,
    /// WebP; written lossless.
    WebP,
    /// TIFF and BigTIFF.
    Tiff,
}

/// Extensions of the formats, lower case, the customary one of each format first.
const EXTENSIONS: [(&str, Format); 9] = [
    ("png", Format::Png),
    ("jpg", Format::Jpeg),
    ("jpeg", Format::Jpeg),
    ("jpe", Format::Jpeg),
    ("jfif", Format::Jpeg),
    ("webp", Format::WebP),
    ("tif", Format::Tiff),
    ("tiff", Format::Tiff),
    ("btf", Format::Tiff),
];

impl Format {
    /// Bytes of a file that [`Format::from_bytes`] wants to see.
    pub const SIGNATURE_BYTES: usize = 16;

    /// The format that a path's extension names, in any case; `None` for another extension or none.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        EXTENSIONS.iter().find(|(known, _)| *known == extension).map(|&(_, format)| format)
    }

    /// The format that a file's first bytes belong to.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Self::Tiff),
            _ => None,
        }
    }

    /// The format's name as people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
            Self::Tiff => "TIFF",
        }
    }

    /// The customary extension, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::WebP => "webp",
            Self::Tiff => "tif",
        }
    }
}

/// What a file that is none of ours appears to be, for the error message.
pub(super) fn describe_foreign(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "an empty file",
        [b'G', b'I', b'F', b'8', ..] => "a GIF image",
        [b'B', b'M', ..] => "a BMP image",
        [b'8', b'B', b'P', b'S', ..] => "a Photoshop document",
        [b'%', b'P', b'D', b'F', ..] => "a PDF document",
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => "a JPEG XL image",
        [0, 0, 0, 12, b'j', b'P', ..] => "a JPEG 2000 image",
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => "an AVIF image",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "a HEIC image or a film",
        [b'v', b'/', b'1', 1, ..] => "an OpenEXR image",
        _ if bytes.iter().all(|&byte| byte == 0) => "zero bytes",
        _ if bytes
            .iter()
            .all(|&byte| (byte >= 0x20 && byte != 0x7f) || byte.is_ascii_whitespace()) =>
        {
            "text"
        }
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_known_in_any_case() {
        for (name, format) in [
            ("a.png", Some(Format::Png)),
            ("a.JPG", Some(Format::Jpeg)),
            ("a.b.Tiff", Some(Format::Tiff)),
            ("folder.png/a.webp", Some(Format::WebP)),
            ("a.gif", None),
            ("png", None),
            (".png", None),
        ] {
            assert_eq!(Format::from_path(Path::new(name)), format, "{name}");
        }
        for format in [Format::Png, Format::Jpeg, Format::WebP, Format::Tiff] {
            let name = format!("a.{}", format.extension());
            assert_eq!(Format::from_path(Path::new(&name)), Some(format));
        }
    }

    #[test]
    fn signatures_are_told_apart() {
        assert_eq!(Format::from_bytes(b"\x89PNG\r\n\x1a\nrest"), Some(Format::Png));
        assert_eq!(Format::from_bytes(b"\xff\xd8\xff\xe0"), Some(Format::Jpeg));
        assert_eq!(Format::from_bytes(b"RIFF\x10\0\0\0WEBPVP8 "), Some(Format::WebP));
        assert_eq!(Format::from_bytes(b"RIFF\x10\0\0\0WAVEfmt "), None);
        assert_eq!(Format::from_bytes(b"II*\0\x08\0\0\0"), Some(Format::Tiff));
        assert_eq!(Format::from_bytes(b"MM\0+\0\x08\0\0"), Some(Format::Tiff));
        assert_eq!(Format::from_bytes(b""), None);
        assert_eq!(describe_foreign(b"Dear reader, "), "text");
        assert_eq!(describe_foreign(b"GIF89a"), "a GIF image");
    }
}
