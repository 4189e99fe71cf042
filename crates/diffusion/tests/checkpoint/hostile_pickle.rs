//! Pickles that attack: nothing is executed, nothing recurses, memory stays in proportion to the file.

use std::io::Write;
use std::path::Path;

use candle_core::{DType, Device};
use diffusion::checkpoint::{PickleFile, TensorSource};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// A PyTorch archive of this pickle and one storage of four floats.
fn archive(path: &Path, pickle: &[u8], method: CompressionMethod) {
    let file = std::fs::File::create(path).expect("a file");
    let mut zip = zip::ZipWriter::new(file);
    let options = SimpleFileOptions::default().compression_method(method);
    let floats: Vec<u8> = [1_f32, 2.0, 3.0, 4.0].into_iter().flat_map(f32::to_le_bytes).collect();
    for (name, content) in [("archive/data.pkl", pickle), ("archive/data/0", &floats)] {
        zip.start_file(name, options).expect("an entry");
        zip.write_all(content).expect("written");
    }
    zip.finish().expect("a zip archive");
}

/// What opening (and reading "a") says.
fn outcome(pickle: &[u8]) -> Result<Vec<f32>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.pt");
    archive(&path, pickle, CompressionMethod::Stored);
    let file = PickleFile::open(&path).map_err(|error| error.to_string())?;
    let Some(info) = file.info("a") else { return Err("no a".into()) };
    let tensor = file.read("a", &info.shape, DType::F32, &Device::Cpu);
    let tensor = tensor.map_err(|error| error.to_string())?;
    Ok(tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("floats"))
}

/// `{"a": _rebuild_tensor_v2(storage, offset, size, stride, False, OrderedDict())}` in protocol 0 text, with the given numbers.
fn tensor(numel: &str, offset: &str, size: &str, stride: &str) -> Vec<u8> {
    let numbers = |list: &str| {
        let items: String =
            list.split(' ').filter(|n| !n.is_empty()).map(|n| format!("I{n}\n")).collect();
        format!("({items}t")
    };
    format!(
        "(dVa\nctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI{numel}\ntQI{offset}\n{}{}I00\nccollections\nOrderedDict\n)RtRs.",
        numbers(size),
        numbers(stride),
    )
    .into_bytes()
}

#[test]
fn a_good_pickle_of_this_form_is_read() {
    assert_eq!(outcome(&tensor("4", "0", "2 2", "2 1")).unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(outcome(&tensor("4", "0", "2 2", "1 2")).unwrap(), [1.0, 3.0, 2.0, 4.0]);
    assert_eq!(outcome(&tensor("4", "3", "", "")).unwrap(), [4.0]);
}

#[test]
fn tensors_that_do_not_fit_their_storage_are_named() {
    for (numel, offset, size, stride, expected) in [
        ("4", "1", "4", "1", "does not fit in its storage of 4"),
        ("4", "0", "5", "1", "does not fit in its storage"),
        ("5", "0", "5", "1", "expected a storage 0 of 20 bytes, found 16"),
        ("9223372036854775807", "0", "4", "1", "too large"),
        ("-4", "0", "4", "1", "negative"),
        ("4", "-1", "4", "1", "negative"),
        ("4", "9223372036854775807", "4", "1", "does not fit"),
        ("4", "0", "-4", "1", "negative"),
        ("4", "0", "4", "-1", "negative"),
        ("4", "0", "4", "9223372036854775807", "does not fit"),
        ("4", "0", "4 4", "0 1", "repeats the 4 elements"),
        ("4", "0", "4611686018427387904 4", "0 1", "too large"),
        ("4", "0", "1000000000000", "0", "repeats"),
        ("4", "0", "4", "1 1", "other dimensions than its strides"),
    ] {
        let error = outcome(&tensor(numel, offset, size, stride)).unwrap_err();
        assert!(error.contains(expected) && error.contains("tensor a"), "{error}");
    }
}

#[test]
fn calls_are_never_made() {
    let folder = tempfile::tempdir().unwrap();
    let proof = folder.path().join("executed");
    let command = format!("touch {}", proof.display());
    // os.system, builtins.eval, by REDUCE, by INST, by OBJ and by BUILD
    for pickle in [
        format!("cos\nsystem\n(V{command}\ntR."),
        format!("cposix\nsystem\n(V{command}\ntR."),
        format!("(V{command}\nios\nsystem\n."),
        format!("(cos\nsystem\nV{command}\no."),
        format!("cbuiltins\neval\n(V__import__('os').system('{command}')\ntR."),
        format!("cos\nsystem\n)\u{1}(V{command}\ntb."),
    ] {
        outcome(pickle.as_bytes()).unwrap_err();
    }
    // Beside a tensor it is just a value that nobody looks at.
    let mut pickle = tensor("4", "0", "4", "1");
    pickle.pop();
    pickle.extend(format!("Vevil\ncos\nsystem\n(V{command}\ntRs.").into_bytes());
    assert_eq!(outcome(&pickle).unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert!(!proof.exists());
}

#[test]
fn bombs_are_refused_or_harmless() {
    let million = 3_000_000;
    let laughs = {
        // a list of ten of a list of ten of …: a billion elements if it were unfolded
        let mut pickle = b"]q\x00".to_vec();
        for level in 0..60_u8 {
            pickle.extend(b"](");
            for _ in 0..10 {
                pickle.extend([b'h', level]);
            }
            pickle.extend([b'e', b'q', level + 1]);
        }
        pickle.push(b'.');
        pickle
    };
    let nested = |inner: &[u8]| {
        let mut pickle = inner.repeat(million);
        pickle.push(b'.');
        pickle
    };
    let deep = {
        let mut pickle = vec![b']'; 100_000];
        pickle.extend(vec![b'a'; 99_999]);
        pickle.push(b'.');
        pickle
    };
    for (pickle, expected) in [
        (laughs, "expected a dictionary of tensors"),
        (deep, "expected a dictionary of tensors"),
        (nested(b"]"), "expected at most"),
        (nested(b"("), "too many marks"),
        (nested(b"]2"), "expected at most"),
        (nested(b"N\x85"), "expected at most"),
        (b"}q\x00X\n\0\0\0state_dicth\x00s.".to_vec(), "expected a dictionary of tensors"),
        (b"]q\x00h\x00a.".to_vec(), "expected a dictionary of tensors"),
        (b"\x80\x02X\xff\xff\xff\xffabc.".to_vec(), "cut short"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc.".to_vec(), "cut short"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.".to_vec(), "cut short"),
        (b"\x8b\xff\xff\xff\xff.".to_vec(), "cut short"),
        (b"\x80\x02".to_vec(), "cut short"),
        (b"".to_vec(), "cut short"),
        (b".".to_vec(), "the stack is empty"),
        (b"R.".to_vec(), "the stack is empty"),
        (b"t.".to_vec(), "there is no mark"),
        (b"](a.".to_vec(), "the stack is empty"),
        (b"h\x05.".to_vec(), "there is no memo 5"),
        (b"N\x86.".to_vec(), "the stack is empty"),
        (b"\xfe.".to_vec(), "opcode 0xfe is not known"),
        (b"NNs.".to_vec(), "the stack is empty"),
        (b"NNNs.".to_vec(), "expected a dictionary of tensors"),
        (b"\x80\x02ctorch\nnn\n.".to_vec(), "expected a dictionary of tensors"),
    ] {
        let error = outcome(&pickle).unwrap_err();
        assert!(error.contains(expected), "{:?}: {error}", &pickle[..pickle.len().min(40)]);
    }
}

#[test]
fn compressed_and_foreign_archives_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pt");
    archive(&path, &tensor("4", "0", "4", "1"), CompressionMethod::Deflated);
    let error = PickleFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("found a compressed one"), "{error}");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    zip.start_file("document.xml", SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap();
    let error = PickleFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("found another zip archive"), "{error}");
}
