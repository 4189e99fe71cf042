//! EXIF data: a TIFF structure without pixels.
//!
//! Two ways to handle it. [`normalize`] changes the few fields that reading a picture makes wrong and leaves every
//! other byte where it was, because makers' notes refer to positions. [`Fields`] takes the fields out of one
//! structure to lay them out anew in another, which a TIFF file as source or destination demands.

use std::io::{Cursor, Read, Result, Seek};

use super::ifd::{Directory, Entry, Structure, unit_bytes};
use crate::image::Resolution;

pub(super) const ORIENTATION: u16 = 274;
const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const PIXEL_X_DIMENSION: u16 = 0xa002;
const PIXEL_Y_DIMENSION: u16 = 0xa003;
const THUMBNAIL_AT: u16 = 513;
const THUMBNAIL_BYTES: u16 = 514;
pub(super) const X_RESOLUTION: u16 = 282;
pub(super) const Y_RESOLUTION: u16 = 283;
pub(super) const RESOLUTION_UNIT: u16 = 296;
pub(super) const EXIF_POINTER: u16 = 34_665;
pub(super) const GPS_POINTER: u16 = 34_853;
pub(super) const INTEROPERABILITY_POINTER: u16 = 40_965;
const MAKER_NOTE: u16 = 37_500;

/// More bytes than this are not taken for EXIF data, or for one value in it.
pub(super) const MAX_BYTES: u64 = 16 << 20;

const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;

/// Tags of a TIFF file's first directory that tell about the picture, not about how its pixels are stored.
const DESCRIPTIVE: [u16; 20] = [
    269, 270, 271, 272, 285, 305, 306, 315, 316, 18_246, 18_249, 33_432, 33_723, 40_091, 40_092,
    40_093, 40_094, 40_095, 50_341, 50_827,
];

/// True if a field of a first directory is worth carrying from one file to another.
pub(super) fn is_descriptive(tag: u16) -> bool {
    DESCRIPTIVE.contains(&tag)
}

/// The structure inside a block of EXIF data, which some writers put behind an `Exif\0\0`.
pub(super) fn strip_prefix(data: &[u8]) -> &[u8] {
    data.strip_prefix(b"Exif\0\0").unwrap_or(data)
}

/// The orientation, `1 ..= 8`; 1 if there is none or it makes no sense.
pub(super) fn orientation(data: &[u8]) -> u8 {
    let read = || {
        let mut structure = Structure::open(Cursor::new(data)).ok()?;
        let directory = structure.directory(structure.first).ok()?;
        orientation_in(&mut structure, &directory)
    };
    read().unwrap_or(1)
}

/// The orientation that a directory states.
pub(super) fn orientation_in<R: Read + Seek>(
    structure: &mut Structure<R>,
    directory: &Directory,
) -> Option<u8> {
    let value = structure.integer(directory.get(ORIENTATION)?).ok()?;
    u8::try_from(value).ok().filter(|value| (1..=8).contains(value))
}

/// The resolution that EXIF data states.
pub(super) fn resolution(data: &[u8]) -> Option<Resolution> {
    let mut structure = Structure::open(Cursor::new(data)).ok()?;
    let directory = structure.directory(structure.first).ok()?;
    resolution_in(&mut structure, &directory)
}

/// The resolution that a directory states; `None` if it is a mere aspect ratio or makes no sense.
pub(super) fn resolution_in<R: Read + Seek>(
    structure: &mut Structure<R>,
    directory: &Directory,
) -> Option<Resolution> {
    let unit =
        directory.get(RESOLUTION_UNIT).map_or(Some(2), |entry| structure.integer(entry).ok());
    let inches = match unit? {
        2 => 1.0,
        3 => 2.54,
        _ => return None,
    };
    let x = structure.rational(directory.get(X_RESOLUTION)?).ok()? * inches;
    let y = structure.rational(directory.get(Y_RESOLUTION)?).ok()? * inches;
    sensible(x, y)
}

/// The resolution, unless it is not a positive number that a file can hold.
pub(super) fn sensible(x: f64, y: f64) -> Option<Resolution> {
    let fits = |value: f64| (0.01..=1e6).contains(&value);
    (fits(x) && fits(y)).then_some(Resolution { x, y })
}

/// Brings EXIF data in line with pixels whose orientation has been applied; `None` if it has no structure.
///
/// The orientation becomes 1, stated sizes become `width × height`, and the thumbnail, which shows the picture before
/// its restoration, is cut off. All else keeps its place.
pub(super) fn normalize(mut data: Vec<u8>, (width, height): (usize, usize)) -> Option<Vec<u8>> {
    let mut structure = Structure::open(Cursor::new(&data[..])).ok()?;
    let big_endian = structure.big_endian();
    let main = structure.directory(structure.first).ok()?;
    let exif = main
        .get(EXIF_POINTER)
        .and_then(|entry| structure.integer(entry).ok())
        .and_then(|at| structure.directory(at).ok())
        .unwrap_or_default();
    let thumbnail = (main.next != 0).then(|| structure.directory(main.next).ok()).flatten();
    let mut thumbnail_value = |tag| {
        let entry = thumbnail.as_ref()?.get(tag)?;
        structure.integer(entry).ok().map(|value| value as usize)
    };
    let image = (thumbnail_value(THUMBNAIL_AT), thumbnail_value(THUMBNAIL_BYTES));

    let numbers = [
        (&main, ORIENTATION, 1),
        (&main, WIDTH, width),
        (&main, HEIGHT, height),
        (&exif, PIXEL_X_DIMENSION, width),
        (&exif, PIXEL_Y_DIMENSION, height),
    ];
    for (directory, tag, value) in numbers {
        if let Some(entry) = directory.get(tag) {
            store(&mut data, entry, value, big_endian);
        }
    }
    if main.next != 0 {
        let at = main.next_at as usize;
        if let Some(field) = data.get_mut(at..at.saturating_add(4)) {
            field.fill(0);
        }
        if let (Some(at), Some(bytes)) = image {
            let end = at.saturating_add(bytes).min(data.len());
            // Thumbnails usually come last. One in the middle keeps its room, so that nothing moves.
            if end == data.len() && at > main.next_at as usize + 4 && at < end {
                data.truncate(at);
            } else if data.get(at..end).is_some_and(|bytes| bytes.starts_with(&[0xff, 0xd8])) {
                data[at..end].fill(0);
            }
        }
    }
    Some(data)
}

fn store(data: &mut [u8], entry: Entry, value: usize, big_endian: bool) {
    let value = value as u32;
    let at = entry.at as usize;
    let bytes = match (entry.kind, entry.count) {
        (SHORT, 1) => {
            let short = u16::try_from(value).unwrap_or(u16::MAX);
            if big_endian { short.to_be_bytes().to_vec() } else { short.to_le_bytes().to_vec() }
        }
        (LONG, 1) => {
            if big_endian {
                value.to_be_bytes().to_vec()
            } else {
                value.to_le_bytes().to_vec()
            }
        }
        _ => return,
    };
    if let Some(field) = data.get_mut(at..at.saturating_add(bytes.len())) {
        field.copy_from_slice(&bytes);
    }
}

/// One value of a directory, its numbers low byte first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub tag: u16,
    pub kind: u16,
    pub bytes: Vec<u8>,
}

impl Field {
    fn short(tag: u16, value: u16) -> Self {
        Self { tag, kind: SHORT, bytes: value.to_le_bytes().to_vec() }
    }

    /// A field that holds the position of another directory.
    pub(super) fn pointer(tag: u16, at: u32) -> Self {
        Self { tag, kind: LONG, bytes: at.to_le_bytes().to_vec() }
    }

    fn rational(tag: u16, value: f64) -> Self {
        let (over, under) = fraction(value);
        Self { tag, kind: RATIONAL, bytes: [over.to_le_bytes(), under.to_le_bytes()].concat() }
    }
}

/// A positive number as a fraction of two 32-bit numbers, whole numbers over 1.
pub(super) fn fraction(value: f64) -> (u32, u32) {
    if value.fract() == 0.0 {
        (value as u32, 1)
    } else if value < 4000.0 {
        ((value * 1e6).round() as u32, 1_000_000)
    } else {
        ((value * 1e3).round() as u32, 1000)
    }
}

/// The fields of EXIF data, apart from the structure that they came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// About the file: camera, author, description.
    pub main: Vec<Field>,
    /// About the exposure.
    pub exif: Vec<Field>,
    /// About the place.
    pub gps: Vec<Field>,
    /// About the rules that the file follows.
    pub interoperability: Vec<Field>,
}

impl Fields {
    /// The fields of EXIF data; of the first directory only the descriptive ones.
    pub(super) fn of_exif(data: &[u8]) -> Option<Self> {
        let mut structure = Structure::open(Cursor::new(data)).ok()?;
        let directory = structure.directory(structure.first).ok()?;
        Self::collect(&mut structure, &directory).ok()
    }

    /// The fields that a first directory holds and points to. Values that cannot be read are left out.
    pub(super) fn collect<R: Read + Seek>(
        structure: &mut Structure<R>,
        main: &Directory,
    ) -> Result<Self> {
        let mut budget = MAX_BYTES;
        let mut fields =
            Self { main: copied(structure, main, is_descriptive, &mut budget), ..Self::default() };
        let mut follow = |directory: &Directory, tag| {
            let at = directory.get(tag).and_then(|entry| structure.integer(entry).ok())?;
            structure.directory(at).ok()
        };
        let exif = follow(main, EXIF_POINTER).unwrap_or_default();
        let gps = follow(main, GPS_POINTER).unwrap_or_default();
        let interoperability = follow(&exif, INTEROPERABILITY_POINTER).unwrap_or_default();
        let not_pointer = |tag| tag != INTEROPERABILITY_POINTER;
        fields.exif = copied(structure, &exif, not_pointer, &mut budget);
        fields.gps = copied(structure, &gps, |_| true, &mut budget);
        fields.interoperability = copied(structure, &interoperability, |_| true, &mut budget);
        Ok(fields)
    }

    /// True if there is nothing to carry.
    pub(super) fn is_empty(&self) -> bool {
        self.main.is_empty() && self.exif.is_empty() && self.gps.is_empty()
    }

    /// Removes the fields that are mere bulk, until EXIF data of these fields fits into `bytes`.
    ///
    /// The makers' notes go first, then the longest values.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let longest = |fields: &[Field]| {
            let bulk = |field: &Field| {
                field.bytes.len() + if field.tag == MAKER_NOTE { 1 << 30 } else { 0 }
            };
            (0..fields.len()).map(|i| (bulk(&fields[i]), i)).max()
        };
        while self.to_bytes().len() > bytes {
            let (main, exif) = (longest(&self.main), longest(&self.exif));
            match (main, exif) {
                (Some((_, i)), None) => drop(self.main.remove(i)),
                (Some((a, i)), Some((b, _))) if a > b => drop(self.main.remove(i)),
                (_, Some((_, i))) => drop(self.exif.remove(i)),
                (None, None) => {
                    self.gps.clear();
                    self.interoperability.clear();
                    return;
                }
            }
        }
    }

    /// States this resolution, in pixels an inch, in place of any that is stated.
    pub(super) fn set_resolution(&mut self, resolution: Resolution) {
        self.main
            .retain(|field| ![X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT].contains(&field.tag));
        self.main.push(Field::rational(X_RESOLUTION, resolution.x));
        self.main.push(Field::rational(Y_RESOLUTION, resolution.y));
        self.main.push(Field::short(RESOLUTION_UNIT, 2));
    }

    /// EXIF data with these fields, orientation 1, little-endian.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut main = self.main.clone();
        main.retain(|field| field.tag != ORIENTATION);
        main.push(Field::short(ORIENTATION, 1));
        let mut exif = self.exif.clone();

        let mut data = b"II*\0\0\0\0\0".to_vec();
        if !self.interoperability.is_empty() {
            let at = lay_out(&mut data, self.interoperability.clone());
            exif.push(Field::pointer(INTEROPERABILITY_POINTER, at));
        }
        if !exif.is_empty() {
            let at = lay_out(&mut data, exif);
            main.push(Field::pointer(EXIF_POINTER, at));
        }
        if !self.gps.is_empty() {
            let at = lay_out(&mut data, self.gps.clone());
            main.push(Field::pointer(GPS_POINTER, at));
        }
        let first = lay_out(&mut data, main);
        data[4..8].copy_from_slice(&first.to_le_bytes());
        data
    }
}

fn copied<R: Read + Seek>(
    structure: &mut Structure<R>,
    directory: &Directory,
    wanted: impl Fn(u16) -> bool,
    budget: &mut u64,
) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for &entry in &directory.entries {
        // Types above 12 exist in BigTIFF only.
        if !wanted(entry.tag) || entry.count == 0 || entry.kind > 12 {
            continue;
        }
        if fields.iter().any(|field| field.tag == entry.tag) {
            continue;
        }
        let Ok(mut bytes) = structure.bytes(entry, *budget) else { continue };
        *budget -= bytes.len() as u64;
        if structure.big_endian() {
            bytes.chunks_exact_mut(unit_bytes(entry.kind)).for_each(<[u8]>::reverse);
        }
        fields.push(Field { tag: entry.tag, kind: entry.kind, bytes });
    }
    fields
}

/// Appends a directory with its values to `data` and returns its position.
fn lay_out(data: &mut Vec<u8>, mut fields: Vec<Field>) -> u32 {
    fields.sort_by_key(|field| field.tag);
    let at = data.len();
    let mut values_at = at + 2 + 12 * fields.len() + 4;
    let mut values: Vec<u8> = Vec::new();
    data.extend((fields.len() as u16).to_le_bytes());
    for field in &fields {
        let size = super::ifd::value_bytes(field.kind).unwrap_or(1) as usize;
        data.extend(field.tag.to_le_bytes());
        data.extend(field.kind.to_le_bytes());
        data.extend(((field.bytes.len() / size) as u32).to_le_bytes());
        if field.bytes.len() <= 4 {
            data.extend(&field.bytes);
            data.extend(&[0; 4][field.bytes.len()..]);
        } else {
            data.extend((values_at as u32).to_le_bytes());
            values.extend(&field.bytes);
            if field.bytes.len() % 2 == 1 {
                values.push(0); // values begin at even positions
            }
            values_at = at + 2 + 12 * fields.len() + 4 + values.len();
        }
    }
    data.extend([0; 4]);
    data.extend(values);
    at as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Fields {
        let mut fields = Fields {
            main: vec![
                Field { tag: 271, kind: 2, bytes: b"Maker\0".to_vec() },
                Field { tag: 315, kind: 2, bytes: b"Me\0".to_vec() },
            ],
            exif: vec![
                Field { tag: MAKER_NOTE, kind: 7, bytes: vec![9; 3001] },
                Field {
                    tag: PIXEL_X_DIMENSION,
                    kind: LONG,
                    bytes: 1000_u32.to_le_bytes().to_vec(),
                },
                Field::short(PIXEL_Y_DIMENSION, 500),
            ],
            gps: vec![Field { tag: 1, kind: 2, bytes: b"N\0".to_vec() }],
            interoperability: vec![Field { tag: 1, kind: 2, bytes: b"R98\0".to_vec() }],
        };
        fields.set_resolution(Resolution { x: 300.0, y: 1200.5 });
        fields
    }

    #[test]
    fn fields_come_back_from_bytes() {
        let data = sample().to_bytes();
        let mut expected = sample();
        expected.main.truncate(2); // the resolution is not a descriptive field
        assert!(Fields::of_exif(&data) == Some(expected));
        assert_eq!(orientation(&data), 1);
        assert_eq!(resolution(&data), Some(Resolution { x: 300.0, y: 1200.5 }));
    }

    #[test]
    fn shrinking_drops_the_makers_notes_first() {
        let mut fields = sample();
        fields.shrink(1000);
        assert!(fields.exif.iter().all(|field| field.tag != MAKER_NOTE));
        assert_eq!(fields.exif.len(), 2);
        assert_eq!(fields.main.len(), sample().main.len());
        fields.shrink(0);
        assert!(fields.is_empty());
    }

    #[test]
    fn normalizing_rewrites_orientation_and_sizes_in_place() {
        for big_endian in [false, true] {
            let mut data = sample().to_bytes();
            if big_endian {
                data = in_big_endian(&data);
            }
            let at = entry_at(&data, ORIENTATION);
            data[at + usize::from(big_endian)] = 8;
            assert_eq!(orientation(&data), 8);
            let length = data.len();
            let data = normalize(data, (70_000, 300)).unwrap();
            assert_eq!(data.len(), length);
            assert_eq!(orientation(&data), 1);
            let fields = Fields::of_exif(&data).unwrap();
            assert_eq!(fields.exif[0].bytes, sample().exif[0].bytes);
            assert_eq!(fields.exif[1].bytes, 70_000_u32.to_le_bytes());
            assert_eq!(fields.exif[2].bytes, 300_u16.to_le_bytes());
        }
    }

    #[test]
    fn normalizing_cuts_the_thumbnail_off() {
        let mut data = sample().to_bytes();
        let first = u32::from_le_bytes(data[4..8].try_into().unwrap()) as usize;
        let entries = usize::from(u16::from_le_bytes([data[first], data[first + 1]]));
        let next_at = first + 2 + 12 * entries;
        let second = data.len() as u32;
        data[next_at..next_at + 4].copy_from_slice(&second.to_le_bytes());
        let thumbnail_at = second + 2 + 24 + 4;
        let fields =
            vec![Field::pointer(THUMBNAIL_AT, thumbnail_at), Field::pointer(THUMBNAIL_BYTES, 5)];
        lay_out(&mut data, fields);
        data.extend([0xff, 0xd8, 1, 2, 3]);

        let data = normalize(data, (1, 1)).unwrap();
        assert_eq!(data.len(), thumbnail_at as usize);
        assert_eq!(data[next_at..next_at + 4], [0; 4]);
    }

    #[test]
    fn nonsense_is_refused_not_followed() {
        assert_eq!(normalize(b"nonsense".to_vec(), (1, 1)), None);
        assert_eq!(orientation(b""), 1);
        assert_eq!(resolution(b"II*\0\xff\xff\xff\xff"), None);
        let data = sample().to_bytes();
        for length in 0..data.len().min(600) {
            let _ = normalize(data[..length].to_vec(), (3, 4));
            let _ = Fields::of_exif(&data[..length]);
        }
    }

    fn entry_at(data: &[u8], tag: u16) -> usize {
        let mut structure = Structure::open(Cursor::new(data)).unwrap();
        let directory = structure.directory(structure.first).unwrap();
        directory.get(tag).unwrap().at as usize
    }

    /// The same structure with every number turned around.
    fn in_big_endian(data: &[u8]) -> Vec<u8> {
        let mut turned = data.to_vec();
        turned[..4].copy_from_slice(b"MM\0*");
        turned[4..8].reverse();
        let mut structure = Structure::open(Cursor::new(data)).unwrap();
        let mut pending = vec![structure.first];
        while let Some(at) = pending.pop() {
            let directory = structure.directory(at).unwrap();
            turned[at as usize..at as usize + 2].reverse();
            for (i, &entry) in directory.entries.iter().enumerate() {
                let field = at as usize + 2 + 12 * i;
                turned[field..field + 2].reverse();
                turned[field + 2..field + 4].reverse();
                turned[field + 4..field + 8].reverse();
                let bytes = structure.bytes(entry, MAX_BYTES).unwrap();
                if bytes.len() > 4 {
                    turned[field + 8..field + 12].reverse();
                }
                let values = &mut turned[entry.at as usize..entry.at as usize + bytes.len()];
                values.chunks_exact_mut(unit_bytes(entry.kind)).for_each(<[u8]>::reverse);
                if [EXIF_POINTER, GPS_POINTER, INTEROPERABILITY_POINTER].contains(&entry.tag) {
                    pending.push(structure.integer(entry).unwrap());
                }
            }
        }
        turned
    }
}
