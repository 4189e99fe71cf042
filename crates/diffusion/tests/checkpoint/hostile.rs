//! Damaged files give an error or a correct read: thousands of seeded mutations of every format.

use std::path::Path;

use candle_core::{DType, Device};
use diffusion::checkpoint::{Checkpoint, OpenOptions, inspect, open_weights};

use crate::path;

/// Small numbers that are different every time and the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

/// What length fields and opcodes are damaged with.
const NASTY: [&[u8]; 10] = [
    &[0xff; 8],
    &[0; 8],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0, 0, 0, 0, 0, 0, 0, 0x80],
    b"9999999999999999999",
    b"-1",
    b"[[[[[[[[[[[[[[[[",
    b"((((((((",
    b"}}}}uuuussss",
    b"\"",
];

/// One to three changes within the first `region` bytes or anywhere: bits, bytes, cuts, repeats, nasty numbers.
fn mutate(bytes: &[u8], region: std::ops::Range<usize>, random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = if random.below(4) > 0 {
            (region.start + random.below(region.len())).min(bytes.len() - 1)
        } else {
            random.below(bytes.len())
        };
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.below(256) as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.below(64)).min(bytes.len());
                let repeated = bytes[at..end].to_vec();
                bytes.splice(at..at, repeated);
            }
            4 => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                for (byte, nasty) in bytes[at..].iter_mut().zip(NASTY[random.below(NASTY.len())]) {
                    *byte = *nasty;
                }
            }
        }
    }
    bytes
}

/// Opens a file of tensors and reads all of them; errors name the file.
fn read_everything(path: &Path) -> bool {
    let file = match open_weights(path) {
        Ok(file) => file,
        Err(error) => {
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            let message = error.to_string();
            assert!(message.contains(&name), "{message}");
            assert!(message.len() < 4000, "{message}");
            return false;
        }
    };
    for name in file.names() {
        let shape = file.info(&name).expect("a listed tensor").shape;
        if let Ok(tensor) = file.read(&name, &shape, DType::F32, &Device::Cpu) {
            assert_eq!(tensor.dims(), shape);
        }
    }
    true
}

/// Mutates a fixture `count` times; some mutants must still open and some must not.
fn attack(name: &str, seed: u64, count: usize, region: impl Fn(&[u8]) -> std::ops::Range<usize>) {
    let folder = tempfile::tempdir().expect("a folder");
    let original = std::fs::read(path(name)).expect("a fixture");
    let extension = Path::new(name).extension().expect("an extension");
    let target = folder.path().join("mutant").with_extension(extension);
    let mut random = Random(seed);
    let region = region(&original);
    let mut opened = 0;
    for _ in 0..count {
        std::fs::write(&target, mutate(&original, region.clone(), &mut random)).expect("written");
        opened += usize::from(read_everything(&target));
    }
    assert!(opened < count, "every mutant of {name} opened");
}

/// From the first occurrence of a needle to the last of another.
fn between(bytes: &[u8], from: &[u8], to: &[u8]) -> std::ops::Range<usize> {
    let start = bytes.windows(from.len()).position(|w| w == from).expect("the start");
    let end = bytes.windows(to.len()).rposition(|w| w == to).expect("the end");
    start..end
}

#[test]
fn mutated_safetensors_are_errors_or_read() {
    let header = |bytes: &[u8]| {
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
        0..8 + length as usize
    };
    attack("views.safetensors", 1, 2500, header);
}

#[test]
fn mutated_pickles_are_errors_or_read() {
    // The pickle lies between its name and the first storage's.
    let pickle = |bytes: &[u8]| between(bytes, b"data.pkl", b"/data/0");
    attack("views.pt", 2, 2500, pickle);
    attack("views5.pt", 3, 1000, pickle);
}

#[test]
fn mutated_zip_tables_are_errors_or_read() {
    let table = |bytes: &[u8]| between(bytes, b"PK\x01\x02", b"PK\x05\x06").start..bytes.len();
    attack("views.pt", 4, 2000, table);
}

#[test]
fn every_length_of_a_cut_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["views.safetensors", "views.pt"] {
        let original = std::fs::read(path(name)).unwrap();
        let target = folder.path().join(name);
        for length in (0..original.len()).step_by(7) {
            std::fs::write(&target, &original[..length]).unwrap();
            assert!(!read_everything(&target), "{name} opened with {length} bytes");
        }
    }
}

#[test]
fn mutated_configurations_and_indices_are_errors_or_open() {
    let folder = tempfile::tempdir().unwrap();
    let unet = folder.path().join("unet");
    std::fs::create_dir(&unet).unwrap();
    for entry in std::fs::read_dir(path("sd1/unet")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), unet.join(entry.file_name())).unwrap();
    }
    let mut random = Random(5);
    for name in ["config.json", "diffusion_pytorch_model.safetensors.index.json"] {
        let target = unet.join(name);
        let original = std::fs::read(&target).unwrap();
        for _ in 0..300 {
            let mutant = mutate(&original, 0..original.len(), &mut random);
            std::fs::write(&target, mutant).unwrap();
            let info = inspect(folder.path(), &OpenOptions::default()).unwrap();
            assert_eq!(info.components.len(), 1);
        }
        std::fs::write(&target, original).unwrap();
    }
}

#[test]
fn absurd_configurations_are_refused_before_anything_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    for (json, expected) in [
        (
            r#""layers_per_block": 1000000000000"#,
            "layers_per_block: expected a number from 1 to 24",
        ),
        (r#""layers_per_block": -1"#, "layers_per_block"),
        (r#""layers_per_block": 1e300"#, "layers_per_block"),
        (r#""block_out_channels": []"#, "block_out_channels: expected a list of 1 to 16"),
        (r#""block_out_channels": [320, 18446744073709551615]"#, "block_out_channels: expected"),
        (r#""block_out_channels": "320""#, "block_out_channels: expected a list"),
        (r#""cross_attention_dim": [768]"#, "cross_attention_dim"),
        (r#""down_block_types": ["DownBlock2D"]"#, "down_block_types: expected a list of 4"),
    ] {
        let text = format!(r#"{{"_class_name": "UNet2DConditionModel", {json}}}"#);
        std::fs::write(&config, text).unwrap();
        let checkpoint = Checkpoint::open(folder.path(), &OpenOptions::default()).unwrap();
        let component = checkpoint.components()[0];
        let error = checkpoint.expected_tensors(component).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    std::fs::write(&config, vec![b' '; 2 << 20]).unwrap();
    let error = Checkpoint::open(folder.path(), &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("at most 1048576 bytes, found 2097152"), "{error}");
    std::fs::write(&config, "[".repeat(1 << 19)).unwrap();
    assert!(Checkpoint::open(folder.path(), &OpenOptions::default()).is_err());
}

#[test]
fn mislabelled_files_are_known_by_their_content() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in
        [("sd1.ckpt", "a.safetensors"), ("sd2.safetensors", "b.ckpt"), ("sd2.safetensors", "c")]
    {
        let target = folder.path().join(to);
        std::fs::copy(path(from), &target).unwrap();
        let checkpoint = Checkpoint::open(&target, &OpenOptions::default()).unwrap();
        assert_eq!(checkpoint.components().len(), 3);
    }
    for (from, expected) in [
        ("views.pt", "found other tensors"),
        ("legacy.pt", "bare pickle"),
        ("sd1/unet/config.json", "found neither"),
        ("sd1/vae/diffusion_pytorch_model.fp16.safetensors", "open the folder that holds it"),
    ] {
        let error = Checkpoint::open(&path(from), &OpenOptions::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
