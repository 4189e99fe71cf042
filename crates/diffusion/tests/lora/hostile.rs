//! Damaged, mislabelled and malicious files: one clear error each, never a panic.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use diffusion::lora::LoraFile;

use crate::support::*;

fn good() -> Draft {
    let key = format!("lora_unet_{}", LINEAR.replace('.', "_"));
    Draft::default()
        .with(format!("{key}.lora_down.weight"), random(&[2, 6]))
        .with(format!("{key}.lora_up.weight"), random(&[5, 2]))
        .with(format!("{key}.alpha"), Tensor::new(1f32, &Device::Cpu).unwrap())
        .note("ss_network_dim", "2")
}

/// The error for a file of these bytes, from reading it or from fitting it to the model.
fn error(folder: &Path, bytes: &[u8]) -> String {
    let path = folder.join("bad.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let error = fit_file(&path).unwrap_err().to_string();
    assert!(error.contains("bad.safetensors"), "{error}");
    error
}

fn draft_error(draft: &Draft) -> String {
    let folder = tempfile::tempdir().unwrap();
    error(folder.path(), &draft.bytes())
}

#[test]
fn files_that_are_no_safetensors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = good().bytes();
    let truncated = &bytes[..bytes.len() - 1];
    let absurd = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    let long = [&(1u64 << 26).to_le_bytes()[..], b"{}"].concat();
    for bytes in [&[][..], b"{}", b"PK\x03\x04 a zip file", truncated, &absurd, &long, &[0; 64]] {
        let error = error(folder.path(), bytes);
        assert!(["safetensors", "cut short", "empty"].iter().any(|w| error.contains(w)), "{error}");
    }
    let error = LoraFile::open(folder.path().join("none.safetensors")).unwrap_err().to_string();
    assert!(error.contains("none.safetensors") && error.contains("cannot"), "{error}");
    let error = LoraFile::open(tempfile::tempdir().unwrap().path()).unwrap_err().to_string();
    assert!(error.contains("adapter_model"), "{error}");
}

#[test]
fn half_pairs_wrong_ranks_and_wrong_shapes_are_named() {
    let a = format!("unet.{LINEAR}.lora_A.weight");
    let b = format!("unet.{LINEAR}.lora_B.weight");
    let pair = |down: &[usize], up: &[usize]| {
        draft_error(&Draft::default().with(&a, random(down)).with(&b, random(up)))
    };
    let only_up = draft_error(&Draft::default().with(&b, random(&[5, 2])));
    assert!(only_up.contains("found only") && only_up.contains(&b), "{only_up}");
    let only_alpha =
        draft_error(&Draft::default().with(format!("unet.{LINEAR}.alpha"), random(&[1])));
    assert!(only_alpha.contains("found only"), "{only_alpha}");
    for (down, up, key) in [
        (&[0, 6][..], &[5, 0][..], "lora_A.weight: expected shape (r, in)"),
        (&[2][..], &[5, 2][..], "lora_A.weight: expected shape (r, in)"),
        (&[2, 6, 3, 1][..], &[5, 2][..], "lora_A.weight: expected shape (r, in)"),
        (&[2, 6][..], &[5, 3][..], "for rank 2"),
        (&[2, 6][..], &[5, 2, 3, 3][..], "for rank 2"),
        (&[2, 6][..], &[0, 2][..], "for rank 2"),
        (&[2, 7][..], &[5, 2][..], "(down): expected shape [2, 6], found [2, 7]"),
        (&[2, 6][..], &[4, 2][..], "(up): expected shape [5, 2], found [4, 2]"),
        (&[2, 6, 3, 3][..], &[5, 2][..], "(down): expected shape [2, 6], found"),
    ] {
        let error = pair(down, up);
        assert!(error.contains(key) && error.contains(LINEAR), "{error}");
    }
    let twice = draft_error(
        &Draft::default()
            .with(&a, random(&[2, 6]))
            .with(&b, random(&[5, 2]))
            .with(format!("unet.{LINEAR}.lora.down.weight"), random(&[2, 6])),
    );
    assert!(twice.contains("found two"), "{twice}");
    let both_names = draft_error(
        &Draft::default()
            .with("lora_unet_middle_block_0_in_layers_2.lora_down.weight", random(&[2, 3, 3, 3]))
            .with("lora_unet_middle_block_0_in_layers_2.lora_up.weight", random(&[4, 2, 1, 1]))
            .with("lora_unet_mid_block_resnets_0_conv1.lora_down.weight", random(&[2, 3, 3, 3]))
            .with("lora_unet_mid_block_resnets_0_conv1.lora_up.weight", random(&[4, 2, 1, 1])),
    );
    assert!(both_names.contains("found two"), "{both_names}");
}

#[test]
fn values_that_are_no_numbers_and_absurd_alphas_are_named() {
    let key = format!("lora_unet_{}", LINEAR.replace('.', "_"));
    for value in [f32::NAN, f32::INFINITY] {
        let filled = Tensor::full(value, (5, 2), &Device::Cpu).unwrap();
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let filled = filled.to_dtype(dtype).unwrap();
            let error = draft_error(&good().with(format!("{key}.lora_up.weight"), filled));
            assert!(error.contains("lora_up.weight: expected finite"), "{error}");
        }
        let error = draft_error(
            &good().with(format!("{key}.alpha"), Tensor::new(value, &Device::Cpu).unwrap()),
        );
        assert!(error.contains("alpha"), "{error}");
    }
    let alpha = |alpha: Tensor| draft_error(&good().with(format!("{key}.alpha"), alpha));
    assert!(alpha(Tensor::new(-1e30f32, &Device::Cpu).unwrap()).contains("expected an alpha"));
    assert!(alpha(random(&[2])).contains("alpha: expected shape []"));
    assert!(alpha(random(&[0])).contains("alpha: expected shape []"));
    let integers = Tensor::zeros((5, 2), DType::U8, &Device::Cpu).unwrap();
    let error = draft_error(&good().with(format!("{key}.lora_up.weight"), integers));
    assert!(error.contains("expected floating-point numbers, found u8"), "{error}");
}

#[test]
fn other_methods_and_other_files_are_named() {
    let error = draft_error(&good().with("lora_unet_conv_in.hada_w1_a", random(&[2, 2])));
    assert!(error.contains("found LoHa") && error.contains("hada_w1_a"), "{error}");
    let error = draft_error(&good().with(format!("lora_unet_{LINEAR}.dora_scale"), random(&[2])));
    assert!(error.contains("found DoRA"), "{error}");
    let error = draft_error(&Draft::default().with("conv_in.weight", random(&[2, 2])));
    assert!(error.contains("1 other tensors (conv_in.weight"), "{error}");
    let error = draft_error(&Draft::default());
    assert!(error.contains("no tensors at all"), "{error}");
    let foreign = Draft::default()
        .with("transformer.blocks.0.to_q.lora_A.weight", random(&[2, 6]))
        .with("transformer.blocks.0.to_q.lora_B.weight", random(&[5, 2]));
    assert!(draft_error(&foreign).contains("expected a LoRA for this model"));
    for note in ["", "[]", "{\"unet.r\": 3, \"unet.lora_alpha\": 1}", "{\"unet.r\": -1}"] {
        let error = draft_error(
            &Draft::default()
                .with(format!("unet.{LINEAR}.lora_A.weight"), random(&[2, 6]))
                .with(format!("unet.{LINEAR}.lora_B.weight"), random(&[5, 2]))
                .note("lora_adapter_metadata", note),
        );
        assert!(error.contains("expected") || error.contains("metadata"), "{error}");
    }
}

#[test]
fn thousands_of_mutations_are_errors_or_correct_reads() {
    const MUTATIONS: u64 = 2000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mutant.safetensors");
    let original = good().bytes();
    let header = 8 + u64::from_le_bytes(original[..8].try_into().unwrap()) as usize;
    let mut read = 0;
    for seed in 0..MUTATIONS {
        let mut random = Random(seed);
        let mut bytes = original.clone();
        for _ in 0..=random.below(3) {
            match random.below(5) {
                0 => bytes.truncate(random.below(bytes.len() + 1)),
                1 => bytes.extend(std::iter::repeat_n(0x41, random.below(40))),
                // Most mutations hit the header, where structure is.
                2 | 3 if bytes.len() > header => {
                    bytes[random.below(header)] = random.below(256) as u8;
                }
                _ if !bytes.is_empty() => {
                    let at = random.below(bytes.len());
                    bytes[at] ^= 1 << random.below(8);
                }
                _ => {}
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        match fit_file(&path) {
            Ok(adapters) => {
                read += 1;
                assert_eq!(adapters.unet.paths().collect::<Vec<_>>(), [LINEAR]);
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("mutant.safetensors"), "seed {seed}: {error}");
            }
        }
    }
    assert!(read > 0, "some mutations only change a value");
}
