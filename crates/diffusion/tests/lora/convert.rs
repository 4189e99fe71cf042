//! Writing and reading back.

use std::path::Path;

use candle_core::DType;
use diffusion::lora::{LoraComponent, LoraFile, LoraFormat, LoraModule, ModuleNames, WriteOptions};
use proptest::prelude::*;

use crate::support::*;

const FORMATS: [LoraFormat; 3] = [LoraFormat::Peft, LoraFormat::Diffusers, LoraFormat::Kohya];

fn options(format: LoraFormat) -> WriteOptions {
    WriteOptions { format, ..WriteOptions::default() }
}

/// A LoRA on four layers of Stable Diffusion, whose ranks and alphas are the given ones in turn.
fn lora(settings: &[(usize, f64)], dtype: DType) -> LoraFile {
    use LoraComponent::{TextEncoder, Unet};
    let shapes: [(LoraComponent, &str, Vec<usize>); 4] = [
        (Unet, LINEAR, vec![5, 6]),
        (Unet, CONV, vec![4, 3, 3, 3]),
        (Unet, POINTWISE, vec![4, 4, 1, 1]),
        (TextEncoder, TEXT, vec![5, 6]),
    ];
    let modules = shapes.into_iter().zip(settings.iter().cycle()).map(
        |((component, path, shape), &(rank, alpha))| {
            let (mut down, mut up) = (shape.clone(), vec![shape[0], rank]);
            down[0] = rank;
            up.resize(shape.len(), 1);
            let matrix = |shape: &[usize]| random(shape).to_dtype(dtype).unwrap();
            LoraModule::new(component, path, matrix(&down), matrix(&up), alpha).unwrap()
        },
    );
    LoraFile::from_modules("in memory", modules.collect())
}

/// Both LoRAs come to the same change of every layer.
fn assert_same(a: &LoraFile, b: &LoraFile) {
    let changes = |file: &LoraFile| {
        let names =
            [ModuleNames::stable_diffusion_unet(), ModuleNames::stable_diffusion_text_encoder()];
        let mut changes: Vec<_> = file
            .modules()
            .iter()
            .map(|module| {
                let names = &names[usize::from(module.component() != LoraComponent::Unet)];
                let path = names.resolve(module.name()).unwrap().to_owned();
                let flat = |t: &candle_core::Tensor| {
                    t.to_dtype(DType::F32).unwrap().flatten_from(1).unwrap()
                };
                let product = flat(module.up()).matmul(&flat(module.down())).unwrap();
                (path, module.rank(), product.affine(module.scale(), 0.0).unwrap())
            })
            .collect();
        changes.sort_by(|a, b| a.0.cmp(&b.0));
        changes
    };
    let (a, b) = (changes(a), changes(b));
    assert_eq!(a.len(), b.len());
    for ((path_a, rank_a, a), (path_b, rank_b, b)) in a.into_iter().zip(b) {
        assert_eq!((&path_a, rank_a), (&path_b, rank_b));
        let difference = max_difference(&[a], &[b]);
        assert!(difference < 1e-4, "{path_a}: {difference}");
    }
}

fn target(folder: &Path, format: LoraFormat) -> std::path::PathBuf {
    folder.join(if format == LoraFormat::Peft { "lora" } else { "lora.safetensors" })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_format_round_trips(
        settings in prop::collection::vec((1..5usize, prop_oneof![Just(0.0), -20.0..20.0f64]), 1..4),
        first in 0..3usize,
        second in 0..3usize,
        half in any::<bool>(),
    ) {
        let file = lora(&settings, if half { DType::F16 } else { DType::F32 });
        let (first, second) = (FORMATS[first], FORMATS[second]);
        let folder = tempfile::tempdir().unwrap();
        let path = target(folder.path(), first);
        file.write(&path, &options(first)).unwrap();
        let read = LoraFile::open(&path).unwrap();
        prop_assert_eq!(LoraFormat::from(read.style()), first);
        assert_same(&file, &read);

        let other = tempfile::tempdir().unwrap();
        let path = target(other.path(), second);
        read.write(&path, &options(second)).unwrap();
        assert_same(&file, &LoraFile::open(&path).unwrap());
    }
}

#[test]
fn matrices_change_their_type_where_that_can_hold_them() {
    let file = lora(&[(2, 3.0)], DType::F32);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let half = file.clone().to_dtype(DType::F16).unwrap();
    half.write(&path, &options(LoraFormat::Kohya)).unwrap();
    let read = LoraFile::open(&path).unwrap();
    for (module, original) in read.modules().iter().zip(half.modules()) {
        assert_eq!(module.down().dtype(), DType::F16);
        assert_eq!(module.alpha(), original.alpha());
    }
    for (a, b) in half.modules().iter().zip(file.modules()) {
        let down = a.down().to_dtype(DType::F32).unwrap();
        assert!(max_difference(&[down], &[b.down().clone()]) < 1e-2);
    }

    let large = lora(&[(2, 3.0)], DType::F32).modules()[0].clone();
    let down = (large.down() * 1e6).unwrap();
    let large = LoraModule::new(large.component(), LINEAR, down, large.up().clone(), 2.0).unwrap();
    let error = LoraFile::from_modules("big.safetensors", vec![large]).to_dtype(DType::F16);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("big.safetensors") && error.contains(LINEAR), "{error}");
}

#[test]
fn a_kohya_file_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    lora(&[(2, 3.0)], DType::F16).write(&path, &options(LoraFormat::Kohya)).unwrap();
    let file = LoraFile::open(&path).unwrap();
    assert_eq!(file.metadata()["ss_network_dim"], "2");
    assert_eq!(file.metadata()["ss_network_alpha"], "3.0");
    assert!(file.modules().iter().all(|module| module.down().dtype() == DType::F16));
    assert!(file.modules().iter().all(|module| module.alpha() == 3.0));

    let path = folder.path().join("b.safetensors");
    lora(&[(2, 3.0), (4, 3.0)], DType::F32).write(&path, &options(LoraFormat::Kohya)).unwrap();
    let file = LoraFile::open(&path).unwrap();
    assert_eq!(file.metadata()["ss_network_dim"], "Dynamic");
    assert_eq!(file.metadata()["ss_network_alpha"], "3.0");
}

#[test]
fn notes_are_kept_and_old_scales_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let key = format!("lora_unet_{}", LINEAR.replace('.', "_"));
    let path = Draft::default()
        .with(format!("{key}.lora_down.weight"), random(&[2, 6]))
        .with(format!("{key}.lora_up.weight"), random(&[5, 2]))
        .note("ss_output_name", "cracks")
        .note("ss_network_alpha", "1.0")
        .write(folder.path(), "a.safetensors");
    let out = folder.path().join("b.safetensors");
    LoraFile::open(path).unwrap().write(&out, &options(LoraFormat::Diffusers)).unwrap();
    let file = LoraFile::open(&out).unwrap();
    assert_eq!(file.metadata().get("ss_output_name").map(String::as_str), Some("cracks"));
    assert_eq!(file.metadata().get("ss_network_alpha"), None);
}

#[test]
fn what_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let file = lora(&[(2, 2.0)], DType::F32);
    let error = file.write(&path, &options(LoraFormat::Peft)).unwrap_err().to_string();
    assert!(error.contains("expected a folder"), "{error}");

    // Nothing is replaced without being told to, and nothing half written is left.
    for format in FORMATS {
        let path = target(folder.path(), format);
        file.write(&path, &options(format)).unwrap();
        let error = file.write(&path, &options(format)).unwrap_err().to_string();
        assert!(error.contains("exist"), "{error}");
        file.write(&path, &WriteOptions { force: true, ..options(format) }).unwrap();
        assert_same(&file, &LoraFile::open(&path).unwrap());
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
    }

    let path = Draft::default()
        .with("lora_unet_some_other_model.lora_down.weight", random(&[2, 6]))
        .with("lora_unet_some_other_model.lora_up.weight", random(&[5, 2]))
        .write(folder.path(), "c.safetensors");
    let foreign = LoraFile::open(path).unwrap();
    let out = folder.path().join("d.safetensors");
    let error = foreign.write(&out, &options(LoraFormat::Diffusers)).unwrap_err().to_string();
    assert!(error.contains("unet.some_other_model") && error.contains("c.safetensors"), "{error}");
    assert!(!out.exists());
    assert!("safetensors".parse::<LoraFormat>().is_err());
    assert_eq!("kohya".parse::<LoraFormat>().unwrap(), LoraFormat::Kohya);
}
