//! Weights of a network without norms, standardised while it learns.
//!
//! The weights of each output of a convolution are brought to mean 0 and variance 1 / fan-in, times a gain that is learnt
//! (Brock, De and Smith 2021, "Characterizing signal propagation to close the performance gap in unnormalized ResNets"). So
//! activations stay in range at any learning rate; with plain weights they grew to 10⁷ within twenty thousand steps, and the
//! network died. The network is built with the products, and saved with them: only training knows.

use std::collections::HashMap;

use candle_core::{Device, Tensor, Var};

use crate::error::Result;
use crate::random::SplitMix64;
use crate::train::gradients::Gradients;
use crate::train::parameters::{Parameter, flat, set, values};

/// Added to the variance times the fan-in.
const EPS: f32 = 1e-8;

/// The convolutions in blocks and between resolutions.
#[derive(Debug, Default)]
pub(super) struct Standardised(Vec<Layer>);

/// One of them, `fan_in` weights for each output.
#[derive(Debug)]
struct Layer {
    /// What the network computes with: (outputs, inputs, 3, 3).
    product: Parameter,
    /// What is trained in its place, of the same name and shape.
    weight: Parameter,
    /// And with it: (outputs).
    gain: Parameter,
}

impl Standardised {
    /// Splits what a network was built with, and returns what is to be trained in place of it.
    pub(super) fn split(parameters: Vec<Parameter>, seed: u64) -> Result<(Self, Vec<Parameter>)> {
        let mut layers = Vec::new();
        let mut trained = Vec::new();
        for product in parameters {
            let is_layer = product.name.contains(".levels.") && product.var.rank() == 4;
            if !is_layer {
                trained.push(product);
                continue;
            }
            let layer = Layer::of(product, seed)?;
            trained.extend([layer.weight.clone(), layer.gain.clone()]);
            layers.push(layer);
        }
        Ok((Self(layers), trained))
    }

    /// Lets the network compute with the weights as they are now.
    pub(super) fn refresh(&self) -> Result<()> {
        self.0.iter().try_for_each(|layer| {
            let product = product(&values(&layer.weight)?, &values(&layer.gain)?);
            set(&layer.product, &product)
        })
    }

    /// The gradients of what is trained, from those of the products.
    pub(super) fn pull_back(
        &self,
        store: &kernels::Gradients,
        gradients: &mut Gradients,
    ) -> Result<()> {
        for Layer { product, weight, gain } in &self.0 {
            let Some(gradient) = store.get(product.var.id()) else { continue };
            let (of_weight, of_gain) =
                pulled_back(&values(weight)?, &values(gain)?, &flat(gradient)?);
            gradients
                .add_to(weight, Tensor::from_vec(of_weight, weight.var.shape(), &Device::Cpu)?)?;
            gradients.add_to(gain, Tensor::from_vec(of_gain, gain.var.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }
}

impl Layer {
    /// The layer whose product is as near to what it is now as it can be.
    fn of(product: Parameter, seed: u64) -> Result<Self> {
        let mut weights = values(&product)?;
        let outputs = product.var.dims()[0];
        let fan_in = weights.len() / outputs.max(1);
        let mut gains = Vec::with_capacity(outputs);
        let mut random = SplitMix64::named(seed, &product.name);
        for weights in weights.chunks_exact_mut(fan_in) {
            let (_, scale) = centre(weights);
            let is_zero = weights.iter().all(|&weight| weight == 0.0);
            gains.push(if is_zero { 0.0 } else { 1.0 / scale });
            if is_zero {
                // Nothing points anywhere: the gain alone is 0.
                weights.fill_with(|| random.nearly_normal());
            }
        }
        let var = |values: Vec<f32>, shape: &[usize]| -> Result<Var> {
            Ok(Var::from_vec(values, shape, &Device::Cpu)?)
        };
        let name = product.name.clone();
        let gain = Parameter { name: gain_of(&name), var: var(gains, &[outputs])? };
        let weight = Parameter { name, var: var(weights, product.var.dims())? };
        Ok(Self { product, weight, gain })
    }
}

/// The gain's name, from that of the weight.
fn gain_of(weight: &str) -> String {
    format!("{}.gain", weight.strip_suffix(".weight").unwrap_or(weight))
}

/// The tensors of the network as it is used, from those that were trained.
pub(super) fn products(mut trained: HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>> {
    let names: Vec<_> = trained.keys().cloned().collect();
    for name in names {
        let Some(gain) = trained.remove(&gain_of(&name)) else { continue };
        if let Some(weight) = trained.get_mut(&name) {
            let product = product(&flat(weight)?, &flat(&gain)?);
            *weight = Tensor::from_vec(product, weight.shape(), &Device::Cpu)?;
        }
    }
    Ok(trained)
}

/// The mean of an output's weights, and what brings them to variance 1 / fan-in.
fn centre(weights: &[f32]) -> (f32, f32) {
    let mean = weights.iter().sum::<f32>() / weights.len() as f32;
    let squares: f32 = weights.iter().map(|weight| (weight - mean) * (weight - mean)).sum();
    (mean, 1.0 / (squares + EPS).sqrt())
}

fn product(weights: &[f32], gains: &[f32]) -> Vec<f32> {
    let fan_in = weights.len() / gains.len().max(1);
    let output = |(weights, &gain): (&[f32], &f32)| {
        let (mean, scale) = centre(weights);
        weights.iter().map(|weight| (weight - mean) * scale * gain).collect::<Vec<_>>()
    };
    weights.chunks_exact(fan_in.max(1)).zip(gains).flat_map(output).collect()
}

/// The gradients by weights and gains, from that by their product.
fn pulled_back(weights: &[f32], gains: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let fan_in = (weights.len() / gains.len().max(1)).max(1);
    let mut of_weights = Vec::with_capacity(weights.len());
    let mut of_gains = Vec::with_capacity(gains.len());
    let outputs = weights.chunks_exact(fan_in).zip(gradient.chunks_exact(fan_in)).zip(gains);
    for ((weights, gradient), &gain) in outputs {
        // u = s (w − mean w) with s = (Σ (w − mean w)² + ε)^−½, product = gain · u:
        // ∂/∂gain = Σ g u; ∂/∂w = gain · s · (g − mean g − u · Σ g u)
        let (mean, scale) = centre(weights);
        let unit = |weight: f32| (weight - mean) * scale;
        let along: f32 = weights.iter().zip(gradient).map(|(&w, g)| unit(w) * g).sum();
        let mean_gradient = gradient.iter().sum::<f32>() / fan_in as f32;
        of_gains.push(along);
        of_weights.extend(
            weights
                .iter()
                .zip(gradient)
                .map(|(&w, g)| gain * scale * (g - mean_gradient - unit(w) * along)),
        );
    }
    (of_weights, of_gains)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, name: &str) -> Vec<f32> {
        let mut random = SplitMix64::named(5, name);
        (0..count).map(|_| random.nearly_normal()).collect()
    }

    #[test]
    fn products_have_mean_0_and_the_norm_of_their_gain() {
        let gains = [0.5, -2.0, 0.0];
        let product = product(&numbers(3 * 18, "weights"), &gains);
        for (weights, gain) in product.chunks_exact(18).zip(gains) {
            assert!(weights.iter().sum::<f32>().abs() < 1e-5);
            let norm = weights.iter().map(|weight| weight * weight).sum::<f32>().sqrt();
            assert!((norm - gain.abs()).abs() < 1e-5, "{norm}");
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (weights, gains) = (numbers(2 * 9, "weights"), vec![0.7, -1.3]);
        let gradient = numbers(2 * 9, "gradient");
        let loss = |weights: &[f32], gains: &[f32]| -> f64 {
            let product = product(weights, gains);
            product.iter().zip(&gradient).map(|(&p, &g)| f64::from(p) * f64::from(g)).sum()
        };
        let (of_weights, of_gains) = pulled_back(&weights, &gains, &gradient);
        let step = 1e-3_f32;
        let difference = |at: usize, of: &[f32], loss: &dyn Fn(&[f32]) -> f64| {
            let moved = |by: f32| {
                let mut moved = of.to_vec();
                moved[at] += by;
                loss(&moved)
            };
            (moved(step) - moved(-step)) / (2.0 * f64::from(step))
        };
        for (at, &found) in of_weights.iter().enumerate() {
            let expected = difference(at, &weights, &|weights| loss(weights, &gains));
            assert!((f64::from(found) - expected).abs() < 2e-3, "{at}: {found} {expected}");
        }
        for (at, &found) in of_gains.iter().enumerate() {
            let expected = difference(at, &gains, &|gains| loss(&weights, gains));
            assert!((f64::from(found) - expected).abs() < 2e-3, "{at}: {found} {expected}");
        }
    }

    #[test]
    fn a_split_network_computes_what_it_did_but_for_the_means() {
        let of = |name: &str, values: Vec<f32>, shape: &[usize]| Parameter {
            name: name.to_owned(),
            var: Var::from_vec(values, shape, &Device::Cpu).expect("as many as the shape says"),
        };
        let centred: Vec<f32> = [1.0, -3.0, 2.0].repeat(12);
        let parameters = vec![
            of("refiner.conv_in.weight", numbers(36, "in"), &[2, 2, 3, 3]),
            of("refiner.levels.0.down.0.conv1.bias", numbers(2, "bias"), &[2]),
            of("refiner.levels.0.down.0.conv1.weight", centred.clone(), &[2, 2, 3, 3]),
            of("refiner.levels.0.down.0.conv2.weight", vec![0.0; 36], &[2, 2, 3, 3]),
        ];
        let (split, trained) = Standardised::split(parameters, 1).expect("vectors");
        let names: Vec<_> = trained.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "refiner.conv_in.weight",
                "refiner.levels.0.down.0.conv1.bias",
                "refiner.levels.0.down.0.conv1.weight",
                "refiner.levels.0.down.0.conv1.gain",
                "refiner.levels.0.down.0.conv2.weight",
                "refiner.levels.0.down.0.conv2.gain",
            ]
        );
        split.refresh().expect("vectors");
        let [first, second] = &split.0[..] else { panic!("{split:?}") };
        for (is, was) in values(&first.product).expect("a vector").iter().zip(&centred) {
            assert!((is - was).abs() < 1e-5, "{was} became {is}");
        }
        assert!(values(&second.product).expect("a vector").iter().all(|&weight| weight == 0.0));

        let tensors = trained.iter().map(|one| (one.name.clone(), one.var.as_tensor().clone()));
        let written = products(tensors.collect()).expect("vectors");
        assert_eq!(written.len(), 4);
        let written = flat(&written["refiner.levels.0.down.0.conv1.weight"]).expect("a vector");
        assert_eq!(written, values(&first.product).expect("a vector"));
    }
}
