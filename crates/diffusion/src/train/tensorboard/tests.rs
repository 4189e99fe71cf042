//! Files are read back by a small reader that shares nothing with the writer but its tested checksum.

use std::collections::BTreeMap;

use imaging::ColorType;
use imaging::io::{ReadOptions, read_image};

use super::record::{crc32c, masked};
use super::*;

const TIME: f64 = 1_700_000_000.5;

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
enum Field {
    Number(u64),
    Bits64([u8; 8]),
    Bits32([u8; 4]),
    Bytes(Vec<u8>),
}

type Fields = BTreeMap<u64, Field>;

fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !file.is_empty() {
        let (length, rest) = file.split_at(8);
        let (length_crc, rest) = rest.split_at(4);
        assert_eq!(masked(crc32c(length)).to_le_bytes(), length_crc);
        let (data, rest) =
            rest.split_at(u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize);
        let (data_crc, rest) = rest.split_at(4);
        assert_eq!(masked(crc32c(data)).to_le_bytes(), data_crc);
        records.push(data.to_vec());
        file = rest;
    }
    records
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("a whole number");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Fields {
    let mut fields = Fields::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let mut take = |count: usize| {
            let (head, rest) = bytes.split_at(count);
            bytes = rest;
            head.to_vec()
        };
        let field = match key & 7 {
            1 => Field::Bits64(take(8).try_into().expect("8 bytes")),
            5 => Field::Bits32(take(4).try_into().expect("4 bytes")),
            0 => Field::Number(varint(&mut bytes)),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (head, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(head.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        assert_eq!(fields.insert(key >> 3, field), None, "no field is repeated here");
    }
    fields
}

/// Follows messages within messages.
fn inside(fields_of: &Fields, path: &[u64]) -> Fields {
    path.iter().fold(fields_of.clone(), |message, number| match &message[number] {
        Field::Bytes(bytes) => fields(bytes),
        other => panic!("expected a message in field {number}, found {other:?}"),
    })
}

fn events(path: &Path) -> Vec<Fields> {
    let file = std::fs::read(path).expect("the event file");
    records(&file).iter().map(|record| fields(record)).collect()
}

fn text(value: &str) -> Field {
    Field::Bytes(value.into())
}

#[test]
fn a_file_opens_with_its_version_and_the_step_that_the_run_starts_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let writer = EventWriter::create(&folder.path().join("a/b"), 300, TIME).expect("a writer");
    let name = writer.path().file_name().and_then(|name| name.to_str());
    assert_eq!(name, Some("events.out.tfevents.1700000000.photomend.000"));
    // Both are in the file before anything is logged.
    let events = events(writer.path());
    assert_eq!(events.len(), 2);
    assert_eq!(events[0][&1], Field::Bits64(TIME.to_le_bytes()));
    assert_eq!(events[0][&3], text("brain.Event:2"));
    assert_eq!(events[1][&2], Field::Number(300));
    assert_eq!(inside(&events[1], &[7])[&1], Field::Number(1));
}

#[test]
fn scalars_images_and_text_are_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = EventWriter::create(folder.path(), 0, TIME).expect("a writer");
    let samples = Samples::U16([0, 128, 129, 65_535, 32_768, 257].to_vec());
    let image = Image::new(2, 1, ColorType::Rgb, samples).expect("2 px");
    writer.scalar(1, TIME + 1.0, "loss/train", 0.125).expect("written");
    writer.scalar(1 << 40, TIME + 2.0, "loss/train", f32::NEG_INFINITY).expect("written");
    writer.image(7, TIME, "samples/0", &image).expect("written");
    writer.text(0, TIME, "arguments", "**rank** 16").expect("written");
    writer.flush().expect("written");
    let events = &events(writer.path())[2..];
    assert_eq!(events.len(), 4);

    let value = inside(&events[0], &[5, 1]);
    assert_eq!(events[0][&1], Field::Bits64((TIME + 1.0).to_le_bytes()));
    assert_eq!(events[0][&2], Field::Number(1));
    assert_eq!(value[&1], text("loss/train"));
    assert_eq!(value[&2], Field::Bits32(0.125_f32.to_le_bytes()));
    assert_eq!(events[1][&2], Field::Number(1 << 40));

    let value = inside(&events[2], &[5, 1, 4]);
    // height, width, RGB
    assert_eq!([1, 2, 3].map(|field| value[&field].clone()), [1, 2, 3].map(Field::Number));
    let Field::Bytes(png) = &value[&4] else { panic!("expected a file, found {value:?}") };
    let path = folder.path().join("back.png");
    std::fs::write(&path, png).expect("written");
    let back = read_image(&path, &ReadOptions::default()).expect("a PNG file");
    // 128 / 257 < ½ < 129 / 257; 32768 / 257 = 127.5 and a bit
    assert_eq!(*back.samples(), Samples::U8(vec![0, 0, 1, 255, 128, 1]));

    let value = inside(&events[3], &[5, 1]);
    assert_eq!(inside(&value, &[8])[&8], text("**rank** 16"));
    assert_eq!(inside(&value, &[9, 1])[&1], text("text"));
}

#[test]
fn files_of_one_second_stand_beside_each_other_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = || EventWriter::create(folder.path(), 0, TIME).expect("a writer");
    let paths = [start(), start(), start()].map(|writer| writer.path().to_path_buf());
    assert!(paths.is_sorted() && paths[0] != paths[1] && paths[1] != paths[2]);
}

#[test]
fn arguments_and_folders_are_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    for time in [f64::NAN, -1.0, 1e10] {
        let error = EventWriter::create(folder.path(), 0, time).expect_err("no time");
        assert!(error.to_string().starts_with("wall time: expected"), "{error}");
    }
    let error = EventWriter::create(folder.path(), u64::MAX, TIME).expect_err("no step");
    assert!(error.to_string().starts_with("step: expected at most"), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let error = EventWriter::create(&file, 0, TIME).expect_err("no folder");
    assert!(error.to_string().contains("file: cannot create the folder"), "{error}");
}
