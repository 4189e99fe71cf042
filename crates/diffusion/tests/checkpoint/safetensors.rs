//! Safetensors files: what is written is read back, and damaged or hostile files give an error.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use diffusion::checkpoint::{SafetensorsFile, TensorSource, save_tensors};
use half::{bf16, f16};

fn tensors() -> HashMap<String, Tensor> {
    let device = &Device::Cpu;
    let floats: Vec<f32> = (0..24).map(|i| i as f32 * 0.37 - 3.0).collect();
    let wide = Tensor::from_vec(floats, (2, 3, 4), device).expect("a fixture that can be made");
    HashMap::from([
        ("f32".to_owned(), wide.clone()),
        ("f16".to_owned(), wide.to_dtype(DType::F16).expect("a fixture that can be made")),
        ("bf16".to_owned(), wide.to_dtype(DType::BF16).expect("a fixture that can be made")),
        ("f64".to_owned(), wide.to_dtype(DType::F64).expect("a fixture that can be made")),
        (
            "ids".to_owned(),
            Tensor::new(&[[0_i64, 1, 2, 300]], device).expect("a fixture that can be made"),
        ),
        ("scalar".to_owned(), Tensor::new(0.5_f32, device).expect("a fixture that can be made")),
        (
            "empty".to_owned(),
            Tensor::zeros((0, 3), DType::F32, device).expect("a fixture that can be made"),
        ),
        ("u8".to_owned(), Tensor::new(&[7_u8, 255], device).expect("a fixture that can be made")),
    ])
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor
        .to_dtype(DType::F64)
        .expect("a fixture that can be made")
        .flatten_all()
        .expect("a fixture that can be made")
        .to_vec1()
        .expect("a fixture that can be made")
}

#[test]
fn every_type_survives_a_round_trip_and_converts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    save_tensors(&path, false, &tensors(), &metadata).unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    assert_eq!(file.metadata(), &metadata);
    assert_eq!(file.names().len(), tensors().len());
    for (name, tensor) in tensors() {
        let info = file.info(&name).unwrap();
        assert_eq!((info.dtype, &info.shape[..]), (tensor.dtype(), tensor.dims()));
        let read = |dtype| file.read(&name, tensor.dims(), dtype, &Device::Cpu).unwrap();
        assert_eq!(values(&read(tensor.dtype())), values(&tensor), "{name}");
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            // 300 and 255 are exact in all but bf16, which candle rounds as we do
            let expected = tensor.to_dtype(DType::F32).unwrap().to_dtype(dtype).unwrap();
            assert_eq!(values(&read(dtype)), values(&expected), "{name} as {dtype:?}");
        }
    }
    let all = file.read_all(&Device::Cpu).unwrap();
    assert_eq!(values(&all["ids"]), [0.0, 1.0, 2.0, 300.0]);
}

#[test]
fn upstream_reads_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    save_tensors(&path, false, &tensors(), &BTreeMap::new()).unwrap();
    let upstream = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    for (name, tensor) in tensors() {
        assert_eq!(values(&upstream[&name]), values(&tensor), "{name}");
    }
    // Long tensors cross the chunks that are read at a time.
    let long: Vec<f32> = (0..200_003).map(|i| (i % 1000) as f32).collect();
    let long = Tensor::from_vec(long, 200_003, &Device::Cpu).unwrap();
    let written = HashMap::from([("long".to_owned(), long.to_dtype(DType::F16).unwrap())]);
    save_tensors(&path, true, &written, &BTreeMap::new()).unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    let read = file.read("long", &[200_003], DType::F32, &Device::Cpu).unwrap();
    assert_eq!(values(&read), values(&long));
}

/// A file with this header and this many bytes of zeros after it.
fn write_header(path: &Path, header: &str, zeros: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + zeros, 0);
    std::fs::write(path, bytes).expect("a fixture that can be made");
}

#[test]
fn contradictory_headers_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let cases = [
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4, "cut short"),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 12, "expected 8 bytes"),
        (
            r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            8,
            "does not fit its 8 bytes",
        ),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8, "expected its data from"),
        (r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#, 8, "a:"),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}}"#, 8, "a:"),
        (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}"#, 8, "damaged"),
        (r#"{"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}"#, 8, "F99"),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
            "tensor b",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
            8,
            "tensor a is there twice",
        ),
        ("[1, 2]", 0, "damaged"),
        ("{\"a\":", 0, "damaged"),
    ];
    for (header, zeros, expected) in cases {
        write_header(&path, header, zeros);
        let error = SafetensorsFile::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("a.safetensors"), "{header}: {error}");
    }
    for (bytes, expected) in [
        (&b""[..], "found one of 0 bytes"),
        (b"1234", "found one of 4 bytes"),
        (&[0xff; 16], "found 18446744073709551615"),
        (&[0x40, 0, 0, 0, 0, 0, 0, 0, b'{'], "cut short"),
        (&[0, 0xe1, 0xf5, 5, 0, 0, 0, 0, b'{'], "cut short"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = SafetensorsFile::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{bytes:?}: {error}");
    }
    let long = "n".repeat(2000);
    write_header(
        &path,
        &format!(r#"{{"{long}":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}"#),
        8,
    );
    let error = SafetensorsFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("found one of 2000"), "{error}");
    assert!(SafetensorsFile::open(folder.path()).is_err());
    assert!(SafetensorsFile::open(folder.path().join("none")).is_err());
}

#[test]
fn nan_infinity_and_overflow_name_the_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let device = &Device::Cpu;
    let broken = HashMap::from([
        ("nan".to_owned(), Tensor::new(&[0.0_f32, f32::NAN], device).unwrap()),
        ("inf".to_owned(), Tensor::new(&[f16::INFINITY, f16::ONE], device).unwrap()),
        ("bf".to_owned(), Tensor::new(&[bf16::NEG_INFINITY, bf16::ONE], device).unwrap()),
        ("big".to_owned(), Tensor::new(&[1e6_f32, 0.0], device).unwrap()),
        ("ids".to_owned(), Tensor::new(&[-1_i64, 0], device).unwrap()),
    ]);
    save_tensors(&path, false, &broken, &BTreeMap::new()).unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    let read = |name: &str, dtype| file.read(name, &[2], dtype, device).map_err(|e| e.to_string());
    for (name, dtype, expected) in [
        ("nan", DType::F32, "tensor nan: expected finite numbers"),
        ("nan", DType::F16, "tensor nan: expected finite numbers"),
        ("inf", DType::F16, "tensor inf: expected finite"),
        ("bf", DType::F32, "tensor bf: expected finite"),
        ("big", DType::F16, "tensor big: a value is too large"),
        ("ids", DType::U32, "tensor ids: an integer does not fit"),
        ("big", DType::I64, "tensor big: cannot read elements of type F32 as I64"),
        ("none", DType::F32, "expected a tensor none of shape [2], found none"),
    ] {
        let error = read(name, dtype).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    read("big", DType::F32).unwrap();
    let error = file.read("big", &[3], DType::F32, device).unwrap_err().to_string();
    assert!(error.contains("big: expected shape [3], found [2]"), "{error}");
}

#[test]
fn a_file_cut_after_opening_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    save_tensors(&path, false, &tensors(), &BTreeMap::new()).unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(20).unwrap();
    assert!(file.read("f32", &[2, 3, 4], DType::F32, &Device::Cpu).is_err());
}
