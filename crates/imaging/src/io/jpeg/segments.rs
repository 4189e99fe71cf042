//! The marker segments of a JPEG file: frame header, tables and metadata.
//!
//! Follows ITU-T T.81 annex B. Nothing is decoded; the whole file is walked from marker to marker, so that a file
//! that was cut off is told from a complete one.

use crate::image::{JpegCoding, Resolution};
use crate::io::decode::{Failure, MAX_ICC_BYTES};
use crate::io::exif;

pub(super) const XMP_MARKER: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const EXIF_MARKER: &[u8] = b"Exif\0\0";
const ICC_MARKER: &[u8] = b"ICC_PROFILE\0";

/// Positions, row by row, of the values that tables store in zigzag order (T.81 figure A.6).
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The frame header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    pub width: u16,
    pub height: u16,
    pub progressive: bool,
    components: [Component; 4],
    count: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Component {
    id: u8,
    across: u8,
    down: u8,
    table: u8,
}

/// What the segments say.
pub(super) struct Segments<'a> {
    pub frame: Frame,
    /// An end-of-image marker was found.
    pub complete: bool,
    pub exif: Option<&'a [u8]>,
    pub xmp: Option<&'a [u8]>,
    pub resolution: Option<Resolution>,
    /// Sequence number and content.
    icc_parts: Vec<(u8, &'a [u8])>,
    /// Quantisation tables by their number, row by row.
    tables: [Option<[u16; 64]>; 4],
    /// Colour transform of an Adobe segment: 0 none, 1 YCbCr, 2 YCCK.
    adobe_transform: Option<u8>,
    jfif: bool,
}

/// Width and height that the frame header of a JPEG stream states; `None` if there is none.
pub(crate) fn frame_size(data: &[u8]) -> Option<(u16, u16)> {
    let mut walk = Walk { data, at: 2 };
    while let Some((marker, content)) = walk.next_segment() {
        match marker {
            0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                let [_, h1, h0, w1, w0, ..] = *content else { return None };
                return Some((u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0])));
            }
            0xd9 => return None,
            _ => {}
        }
    }
    None
}

/// Goes from marker to marker.
struct Walk<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    /// The next marker and the content of its segment. Entropy-coded data and stray bytes are passed over.
    fn next_segment(&mut self) -> Option<(u8, &'a [u8])> {
        loop {
            let rest = self.data.get(self.at..)?;
            self.at += rest.iter().position(|&byte| byte == 0xff)?;
            let marker = *self.data.get(self.at + 1)?;
            match marker {
                // A fill byte, a stuffed 0xff, a restart: not a segment.
                0xff => self.at += 1,
                0x00 | 0x01 | 0xd0..=0xd8 => self.at += 2,
                0xd9 => {
                    self.at += 2;
                    return Some((marker, &[]));
                }
                _ => {
                    let length = self.data.get(self.at + 2..self.at + 4)?;
                    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                    let start = self.at + 4;
                    let end = self.at + 2 + length;
                    self.at = end.max(start);
                    return Some((marker, self.data.get(start..end).unwrap_or_default()));
                }
            }
        }
    }
}

impl<'a> Segments<'a> {
    /// Reads the segments up to the end-of-image marker.
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Failure> {
        let mut segments = Self {
            frame: Frame::default(),
            complete: false,
            exif: None,
            xmp: None,
            resolution: None,
            icc_parts: Vec::new(),
            tables: [None; 4],
            adobe_transform: None,
            jfif: false,
        };
        let mut found = false;
        let mut walk = Walk { data, at: 2 };
        while let Some((marker, content)) = walk.next_segment() {
            match marker {
                0xd9 => {
                    segments.complete = true;
                    break;
                }
                0xdb => segments.read_tables(content),
                0xc0..=0xc2 if found => return Err(Failure::reason("several frames")),
                0xc0..=0xc2 => {
                    segments.frame = read_frame(content, marker == 0xc2)?;
                    found = true;
                }
                0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    return Err(Failure::Reason(format!(
                        "expected baseline or progressive coding, found {}",
                        match marker {
                            0xc3 | 0xcb => "lossless JPEG",
                            0xc9 | 0xca => "arithmetic coding",
                            _ => "hierarchical JPEG",
                        }
                    )));
                }
                0xe0 => segments.read_jfif(content),
                0xe1 => {
                    if let Some(exif) = content.strip_prefix(EXIF_MARKER) {
                        segments.exif.get_or_insert(exif);
                    } else if let Some(packet) = content.strip_prefix(XMP_MARKER) {
                        segments.xmp.get_or_insert(packet);
                    }
                }
                0xe2 => {
                    if let Some([number, _, part @ ..]) = content.strip_prefix(ICC_MARKER) {
                        segments.icc_parts.push((*number, part));
                    }
                }
                0xee => {
                    if let [b'A', b'd', b'o', b'b', b'e', .., transform] = content
                        && content.len() == 12
                    {
                        segments.adobe_transform = Some(*transform);
                    }
                }
                _ => {}
            }
        }
        if found { Ok(segments) } else { Err(Failure::reason("there is no frame header")) }
    }

    fn read_tables(&mut self, mut content: &[u8]) {
        while let [head, rest @ ..] = content {
            let (wide, number) = (head >> 4 != 0, usize::from(head & 0x0f));
            let bytes = if wide { 128 } else { 64 };
            let Some((values, rest)) = rest.split_at_checked(bytes) else { return };
            if let Some(slot) = self.tables.get_mut(number) {
                let mut table = [0; 64];
                for (i, &position) in ZIGZAG.iter().enumerate() {
                    table[usize::from(position)] = if wide {
                        u16::from_be_bytes([values[2 * i], values[2 * i + 1]])
                    } else {
                        values[i].into()
                    };
                }
                *slot = Some(table);
            }
            content = rest;
        }
    }

    fn read_jfif(&mut self, content: &[u8]) {
        let [b'J', b'F', b'I', b'F', 0, _, _, unit, x1, x0, y1, y0, ..] = *content else { return };
        self.jfif = true;
        let inches = match unit {
            1 => 1.0,
            2 => 2.54,
            _ => return,
        };
        let [x, y] =
            [[x1, x0], [y1, y0]].map(|bytes| f64::from(u16::from_be_bytes(bytes)) * inches);
        self.resolution = exif::sensible(x, y);
    }

    /// The ICC profile, put together from its parts.
    pub(super) fn icc_profile(&self) -> Option<Vec<u8>> {
        let mut parts = self.icc_parts.clone();
        parts.sort_by_key(|&(number, _)| number);
        let bytes: usize = parts.iter().map(|(_, part)| part.len()).sum();
        let complete = parts.iter().zip(1..).all(|(&(number, _), expected)| number == expected);
        (bytes > 0 && bytes <= MAX_ICC_BYTES && complete)
            .then(|| parts.iter().flat_map(|&(_, part)| part).copied().collect())
    }

    /// How the pixels are coded, if a file can be written in the same way.
    pub(super) fn coding(&self) -> Option<JpegCoding> {
        let components = &self.frame.components[..usize::from(self.frame.count)];
        let table = |component: &Component| -> Option<[u8; 64]> {
            let table = self.tables.get(usize::from(component.table))?.as_ref()?;
            let mut small = [0; 64];
            for (small, &value) in small.iter_mut().zip(table) {
                *small = u8::try_from(value).ok().filter(|&value| value > 0)?;
            }
            Some(small)
        };
        let progressive = self.frame.progressive;
        match components {
            [gray] => {
                let luma = table(gray)?;
                Some(JpegCoding { luma, chroma: luma, chroma_step: (1, 1), progressive })
            }
            [luma, blue, red] => {
                let stored_rgb = match self.adobe_transform {
                    Some(transform) => transform == 0,
                    None => !self.jfif && [luma.id, blue.id, red.id] == *b"RGB",
                };
                let step = |luma: u8, chroma: u8| {
                    (chroma > 0 && luma.is_multiple_of(chroma)).then(|| luma / chroma)
                };
                let chroma_step = (step(luma.across, blue.across)?, step(luma.down, blue.down)?);
                let same = (blue.across, blue.down) == (red.across, red.down);
                let known = matches!(chroma_step, (1 | 2, 1 | 2));
                (!stored_rgb && same && known).then_some(())?;
                let (luma, chroma) = (table(luma)?, table(blue)?);
                Some(JpegCoding { luma, chroma, chroma_step, progressive })
            }
            _ => None,
        }
    }
}

fn read_frame(content: &[u8], progressive: bool) -> Result<Frame, Failure> {
    let [bits, h1, h0, w1, w0, count, rest @ ..] = content else {
        return Err(Failure::reason("the frame header is too short"));
    };
    if *bits != 8 {
        return Err(Failure::Reason(format!(
            "expected 8 bits a channel, found a JPEG file with {bits}"
        )));
    }
    let mut frame = Frame {
        width: u16::from_be_bytes([*w1, *w0]),
        height: u16::from_be_bytes([*h1, *h0]),
        progressive,
        count: *count,
        ..Frame::default()
    };
    if ![1, 3, 4].contains(count) || rest.len() < usize::from(*count) * 3 {
        return Err(Failure::Reason(format!(
            "expected 1, 3 or 4 colour components, found {count}"
        )));
    }
    for (component, values) in
        frame.components[..usize::from(*count)].iter_mut().zip(rest.chunks(3))
    {
        let [id, factors, table] = *values else { break };
        *component = Component { id, across: factors >> 4, down: factors & 0x0f, table };
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zigzag_visits_every_position_once() {
        let mut seen = ZIGZAG;
        seen.sort_unstable();
        assert!(seen.iter().zip(0..).all(|(&found, expected)| found == expected));
    }

    #[test]
    fn profiles_are_joined_in_order_or_not_at_all() {
        let frame = b"\xff\xc0\x00\x0b\x08\x00\x01\x00\x01\x01\x01\x11\x00";
        let part = |number: u8, content: &[u8]| {
            let length = (2 + 14 + content.len()) as u16;
            [b"\xff\xe2", &length.to_be_bytes()[..], b"ICC_PROFILE\0", &[number, 2], content]
                .concat()
        };
        let file =
            |parts: &[Vec<u8>]| [b"\xff\xd8".to_vec(), parts.concat(), frame.to_vec()].concat();
        let both = file(&[part(2, b"world"), part(1, b"hello ")]);
        assert_eq!(Segments::parse(&both).unwrap().icc_profile().unwrap(), b"hello world");
        let one = file(&[part(2, b"world")]);
        assert_eq!(Segments::parse(&one).unwrap().icc_profile(), None);
        assert!(!Segments::parse(&one).unwrap().complete);
        assert_eq!(frame_size(&both), Some((1, 1)));
    }

    #[test]
    fn other_kinds_of_jpeg_are_named() {
        for (marker, bits, expected) in
            [(0xc3, 8, "lossless"), (0xc9, 8, "arithmetic"), (0xc1, 12, "with 12")]
        {
            let data = [0xff, 0xd8, 0xff, marker, 0, 11, bits, 0, 1, 0, 1, 1, 1, 0x11, 0];
            let Err(Failure::Reason(reason)) = Segments::parse(&data) else { panic!("accepted") };
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
