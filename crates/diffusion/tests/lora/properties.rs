//! Merged is live, and zero is nothing.

use std::sync::Arc;

use candle_core::{DType, Device};
use diffusion::checkpoint::TensorSource;
use diffusion::lora::{AdapterMode, LoraComponent, LoraFile, LoraModule, LoraSet, MergedSource};
use proptest::prelude::*;

use crate::support::*;

/// A LoRA of rank `rank` on every layer, its second matrix times `up`.
fn lora(rank: usize, alpha: f64, up: f64) -> LoraFile {
    let module = |component, path: &str, down: Vec<usize>, up_shape: Vec<usize>| {
        let up = random(&up_shape).affine(up, 0.0).unwrap();
        LoraModule::new(component, path, random(&down), up, alpha).unwrap()
    };
    use LoraComponent::{TextEncoder, Unet};
    LoraFile::from_modules(
        "lora",
        vec![
            module(Unet, LINEAR, vec![rank, 6], vec![5, rank]),
            module(Unet, CONV, vec![rank, 3, 3, 3], vec![4, rank, 1, 1]),
            module(Unet, POINTWISE, vec![rank, 4], vec![4, rank]),
            module(TextEncoder, TEXT, vec![rank, 6], vec![5, rank]),
        ],
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn merged_equals_live(
        loras in prop::collection::vec((1..6usize, -4.0..4.0f64, -1.5..1.5f64), 1..4),
    ) {
        let (unet, text) = weights();
        let inputs = inputs();
        let mut set = LoraSet::default();
        for (rank, alpha, weight) in loras {
            set.push(lora(rank, alpha, 1.0), weight).unwrap();
        }
        let live = fit(&set, &*unet, &*text, AdapterMode::Live).unwrap();
        let merged = fit(&set, &*unet, &*text, AdapterMode::Merged).unwrap();
        let ours = outputs(&unet, &text, Some(&live), &inputs);
        let theirs = outputs(&unet, &text, Some(&merged), &inputs);
        // Sums of some hundred products of normal numbers, in f32.
        prop_assert!(max_difference(&ours, &theirs) < 1e-3);

        let wrap = |source: &Arc<dyn TensorSource>, adapters| -> Arc<dyn TensorSource> {
            Arc::new(MergedSource::new(Arc::clone(source), adapters))
        };
        let unet = wrap(&unet, live.unet);
        let text = wrap(&text, live.text_encoder);
        let read = outputs(&unet, &text, None, &inputs);
        prop_assert_eq!(max_difference(&read, &theirs), 0.0);
    }

    #[test]
    fn a_zero_matrix_changes_nothing(rank in 1..6usize, alpha in -4.0..4.0f64) {
        let (unet, text) = weights();
        let inputs = inputs();
        let plain = outputs(&unet, &text, None, &inputs);
        let mut set = LoraSet::default();
        set.push(lora(rank, alpha, 0.0), 1.0).unwrap();
        for mode in [AdapterMode::Live, AdapterMode::Merged] {
            let adapters = fit(&set, &*unet, &*text, mode).unwrap();
            let changed = outputs(&unet, &text, Some(&adapters), &inputs);
            prop_assert_eq!(max_difference(&changed, &plain), 0.0);
        }
    }
}

#[test]
fn merging_rounds_once() {
    let (unet, text) = weights();
    let mut set = LoraSet::default();
    set.push(lora(2, 2.0, 1.0), 1.0).unwrap();
    set.push(lora(3, 1.0, 1.0), -0.5).unwrap();
    let adapters = fit(&set, &*unet, &*text, AdapterMode::Live).unwrap();
    let merged = MergedSource::new(unet, adapters.unet);
    let name = format!("{CONV}.weight");
    let read = |dtype| merged.read(&name, &[4, 3, 3, 3], dtype, &Device::Cpu).unwrap();
    let expected = read(DType::F32).to_dtype(DType::BF16).unwrap();
    let (a, b) = (read(DType::BF16), expected);
    let equal = a.eq(&b).unwrap().to_dtype(DType::F32).unwrap().min_all().unwrap();
    assert_eq!(equal.to_scalar::<f32>().unwrap(), 1.0);
    assert!(merged.read(&name, &[4, 3], DType::F32, &Device::Cpu).is_err());
    assert!(merged.read("nothing", &[1], DType::F32, &Device::Cpu).is_err());
}
