//! The inpainting pipeline against diffusers' on the fixtures of `fixtures/generate_inpaint.py`.

mod common;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use diffusion::checkpoint::{Checkpoint, OpenOptions, SafetensorsFile};
use diffusion::components::{Components, LoadOptions, PromptEmbeds};
use diffusion::noise::GivenNoise;
use diffusion::pipelines::inpaint::{InpaintOptions, inpaint, to_u8};
use imaging::Silent;
use serde::Deserialize;

/// One call of the pipeline.
#[derive(Deserialize)]
struct Case {
    model: String,
    tensors: String,
    num_inference_steps: usize,
    strength: f64,
    guidance_scale: f64,
}

/// Within one grey level of diffusers' on every pixel.
fn check_case(components: &Components, case: &Case, path: &Path) {
    let name = path.display();
    let tensors = SafetensorsFile::open(path)
        .and_then(|file| file.read_all(&Device::Cpu))
        .expect("a readable fixture");
    let options = InpaintOptions {
        num_inference_steps: case.num_inference_steps,
        strength: case.strength,
        guidance_scale: case.guidance_scale,
        ..InpaintOptions::default()
    };
    let prompts = PromptEmbeds {
        positive: tensors["prompt_embeds"].clone(),
        negative: tensors["negative_prompt_embeds"].clone(),
        truncated: Vec::new(),
    };
    let draws = (0..).map_while(|at| tensors.get(&format!("noise.{at}")).cloned());
    let mut noise = GivenNoise::new(draws);

    let decoded = inpaint(
        components,
        &tensors["image"],
        &tensors["mask"],
        &prompts,
        &options,
        &mut noise,
        &Silent,
    )
    .expect("inputs that fit the model");

    let bytes = |tensor: &Tensor| -> Vec<u8> {
        let bytes = tensor.to_dtype(DType::U8).and_then(|bytes| bytes.flatten_all());
        bytes.and_then(|bytes| bytes.to_vec1()).expect("bytes, or whole numbers up to 255")
    };
    let (ours, theirs) = (bytes(&to_u8(&decoded).expect("a picture")), bytes(&tensors["bytes"]));
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let worst = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max().expect("pixels");
    assert!(worst <= 1, "{name}: a pixel is {worst} levels off");
    // Rounding apart, they are the same.
    let off = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
    assert!(off * 200 <= ours.len(), "{name}: {off} of {} values differ", ours.len());
}

#[test]
fn inpaint_parity() {
    let cases: Vec<Case> = common::json("inpaint/cases.json");
    assert!(!cases.is_empty());
    let mut loaded: Option<(&str, Components)> = None;
    for case in &cases {
        let folder = common::fixtures().join("inpaint").join(&case.model);
        let components = match loaded.take() {
            Some((name, components)) if name == case.model => components,
            _ => {
                let checkpoint = Checkpoint::open(&folder, &OpenOptions::default()).unwrap();
                Components::load(&checkpoint, &LoadOptions::default()).unwrap()
            }
        };
        check_case(&components, case, &folder.join(&case.tensors));
        loaded = Some((&case.model, components));
    }
}
