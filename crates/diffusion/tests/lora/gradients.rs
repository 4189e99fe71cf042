//! Every matrix of a live LoRA learns: it gets a gradient, through the whole model.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use diffusion::lora::{Adapters, LoraAdapters, LoraComponent, LoraFile, LoraLayer};

use crate::common;
use crate::parity::World;

/// The LoRA on every kind of layer with variables for matrices; names and variables.
fn trainable(world: &World, component: LoraComponent) -> (Adapters, Vec<(String, Var)>) {
    let file = common::fixtures().join("lora/kohya.safetensors");
    let file = LoraFile::open(file).unwrap();
    let names = &world.names()[usize::from(component != LoraComponent::Unet)];
    let (mut layers, mut variables) = (HashMap::new(), Vec::new());
    for module in file.modules().iter().filter(|module| module.component() == component) {
        let path = names.resolve(module.name()).unwrap().to_owned();
        let mut variable = |part: &str, matrix: &Tensor| {
            let matrix = matrix.to_dtype(candle_core::DType::F32).unwrap();
            let variable = Var::from_tensor(&matrix).unwrap();
            variables.push((format!("{path} {part}"), variable.clone()));
            variable.as_tensor().clone()
        };
        let down = variable("down", module.down());
        let up = variable("up", module.up());
        layers.insert(path, vec![LoraLayer::new(down, up, module.scale())]);
    }
    (Adapters::live_set(layers), variables)
}

fn check(output: &Tensor, variables: &[(String, Var)]) {
    // A weighted sum: the plain one is blind to what norms take away.
    let count = output.elem_count();
    let weights = Tensor::arange(0f32, count as f32, &Device::Cpu).unwrap().sin().unwrap();
    let loss = (output.flatten_all().unwrap() * weights).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    for (name, variable) in variables {
        let gradient = gradients.get(variable).unwrap_or_else(|| panic!("{name}: no gradient"));
        let largest = gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(largest.is_finite() && largest > 0.0, "{name}: {largest}");
    }
}

#[test]
fn every_matrix_of_the_unet_gets_a_gradient() {
    let world = World::open();
    let (unet, variables) = trainable(&world, LoraComponent::Unet);
    for layer in ["attn1.to_q", "attn1.to_k", "attn2.to_q", "attn2.to_k", "conv1", "proj_in"] {
        assert!(variables.iter().any(|(name, _)| name.contains(layer)), "{layer}");
    }
    let adapters =
        LoraAdapters { unet: Arc::new(unet), text_encoder: Arc::default(), reports: Vec::new() };
    check(&world.run_unet(&world.unet, &adapters), &variables);
}

#[test]
fn every_matrix_of_the_text_encoder_gets_a_gradient() {
    let world = World::open();
    let (text, variables) = trainable(&world, LoraComponent::TextEncoder);
    let adapters =
        LoraAdapters { unet: Arc::default(), text_encoder: Arc::new(text), reports: Vec::new() };
    check(&world.run_text(&world.text, &adapters), &variables);
}
