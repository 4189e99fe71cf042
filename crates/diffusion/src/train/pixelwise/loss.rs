//! What is minimised, with its gradient by the network's output.

use imaging::Plane;
use imaging::imgproc::{StructuringElement, open};

use super::crops::CropBatch;
use super::options::PixelTask;
use crate::error::Result;

/// A loss and its gradient by each value of the prediction.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) value: f64,
    pub(super) gradient: Vec<f32>,
}

/// The loss of a task on a batch.
///
/// # Errors
/// Those of the morphology that tells thin damage from wide.
pub(super) fn loss(task: PixelTask, prediction: &[f32], batch: &CropBatch) -> Result<Loss> {
    Ok(match task {
        PixelTask::Detector => detection(prediction, &batch.mask, &importance(batch)?),
        PixelTask::Refiner => refinement(prediction, batch),
        PixelTask::Autoencoder => {
            reconstruction(prediction, &batch.clean, batch.input.dims()[0].max(1))
        }
    })
}

/// Gradients below this share of the largest possible one are none.
const CERTAIN: f64 = 1e-5;

/// A change of a pixel, of values in `[-1, 1]`, up to which nobody can see it, and from which everybody can.
const VISIBLE: [f32; 2] = [0.02, 0.12];

/// How far each pixel counts: 1 where nothing is damaged, and for damaged ones how visible that is. Damage that changed
/// nothing to speak of, such as a crack's faint end or the rim of a mask, is neither right nor wrong to find.
pub(super) fn visibility(batch: &CropBatch) -> Vec<f32> {
    let [from, to] = VISIBLE;
    let pixels = batch.clean.chunks_exact(3).zip(batch.shown.chunks_exact(3));
    pixels
        .zip(&batch.mask)
        .map(|((clean, shown), &mask)| {
            let change = clean.iter().zip(shown).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            if mask > 0.0 { ((change - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 }
        })
        .collect()
}

/// What is narrower than this everywhere, in pixels, is thin.
const THIN: usize = 7;

/// How much more a pixel of thin damage counts.
const THIN_WEIGHT: f32 = 2.0;

/// The weights of pixels: their [`visibility`], times [`THIN_WEIGHT`] in thin damage, of which a picture has few pixels however
/// many scratches it has.
fn importance(batch: &CropBatch) -> Result<Vec<Vec<f32>>> {
    let (height, width) = batch.size();
    let area = (height * width).max(1);
    let (square, visibility) = (StructuringElement::square(THIN)?, visibility(batch));
    let crops = batch.mask.chunks_exact(area).zip(visibility.chunks_exact(area));
    Ok(crops
        .map(|(mask, visibility)| {
            let mask = Plane::from_fn(width, height, |x, y| u8::from(mask[y * width + x] > 0.0));
            let wide = open(&mask, &square);
            let thin = mask.data().iter().zip(wide.data()).map(|(&mask, &wide)| mask > wide);
            let weight = |thin| if thin { THIN_WEIGHT } else { 1.0 };
            thin.zip(visibility).map(|(thin, visibility)| weight(thin) * visibility).collect()
        })
        .collect())
}

/// Added to both sides of the Dice coefficient for each pixel, so that a crop without damage has Dice 1 as long as nothing is
/// found in it.
const SMOOTH: f64 = 5e-4;

/// Cross-entropy of the logits of all pixels, plus the mean over crops of one minus their Dice coefficient (Milletari et al.
/// 2016): the first judges every pixel, the second keeps a scratch from being outvoted by all the rest of its crop, and its crop
/// by those with large losses. Pixels count by their weights.
fn detection(logits: &[f32], truth: &[f32], weights: &[Vec<f32>]) -> Loss {
    let count = weights.iter().flatten().map(|&w| f64::from(w)).sum::<f64>().max(1.0);
    let area = weights.first().map_or(1, |weights| weights.len().max(1));
    let share = 1.0 / weights.len().max(1) as f64;
    let (mut value, mut gradient) = (0.0, Vec::with_capacity(logits.len()));
    let crops = logits.chunks_exact(area).zip(truth.chunks_exact(area)).zip(weights);
    for ((logits, truth), weights) in crops {
        let pixels = || {
            let triples = logits.iter().zip(truth).zip(weights);
            triples.map(|((&x, &y), &w)| (f64::from(x), f64::from(y), f64::from(w)))
        };
        let probability = |logit: f64| 1.0 / (1.0 + (-logit).exp());
        let smooth = SMOOTH * area as f64;
        let (mut entropy, mut above, mut below) = (0.0, smooth, smooth);
        for (x, y, w) in pixels() {
            entropy += w * (x.max(0.0) - x * y + (-x.abs()).exp().ln_1p());
            let p = probability(x);
            above += 2.0 * w * p * y;
            below += w * (p + y);
        }
        value += entropy / count + share * (1.0 - above / below);
        gradient.extend(pixels().map(|(x, y, w)| {
            let p = probability(x);
            let by_dice = share * (above - 2.0 * y * below) / (below * below);
            let gradient = w * ((p - y) / count + by_dice * p * (1.0 - p));
            // What is certain teaches nothing, and products of such numbers would be denormal, which processors are slow with.
            if gradient.abs() * count > CERTAIN { gradient as f32 } else { 0.0 }
        }));
    }
    Loss { value, gradient }
}

/// Added to mean squared errors, of values in `[0, 1]`, before the logarithm: crops that are nearly perfect (40 dB) count no more.
const FLOOR: f64 = 1e-4;

/// The mean over crops of 10 · log10 of the mean squared error, which is minus their PSNR.
fn reconstruction(prediction: &[f32], clean: &[f32], crops: usize) -> Loss {
    let samples = prediction.len() / crops.max(1);
    let (mut value, mut gradient) = (0.0, Vec::with_capacity(prediction.len()));
    let pairs = prediction.chunks_exact(samples.max(1)).zip(clean.chunks_exact(samples.max(1)));
    for (prediction, clean) in pairs {
        // Half, as values are in [-1, 1] here.
        let errors =
            || prediction.iter().zip(clean).map(|(a, b)| 0.5 * (f64::from(*a) - f64::from(*b)));
        let mse = errors().map(|error| error * error).sum::<f64>() / samples as f64 + FLOOR;
        value += 10.0 * mse.log10() / crops as f64;
        let scale = 10.0 / std::f64::consts::LN_10 / mse / (samples * crops) as f64;
        gradient.extend(errors().map(|error| (scale * error) as f32));
    }
    Loss { value, gradient }
}

/// The mean over crops of 10 · log10 of the mean squared error over the masked pixels, which is minus their PSNR.
fn refinement(prediction: &[f32], batch: &CropBatch) -> Loss {
    let crops = batch.input.dims()[0].max(1);
    let pixels = batch.mask.len() / crops;
    let mut gradient = vec![0.0_f32; prediction.len()];
    let (mut value, mut counted) = (0.0, 0);
    let errors = |at: usize, pixel: usize, channel: usize| {
        let i = 3 * (at * pixels + pixel) + channel;
        // Half, as values are in [-1, 1] here.
        (i, 0.5 * f64::from(batch.shown[i] + prediction[i] - batch.clean[i]))
    };
    for at in 0..crops {
        let mask = &batch.mask[at * pixels..(at + 1) * pixels];
        let masked = || (0..pixels).filter(|&pixel| mask[pixel] > 0.0);
        let samples = 3 * masked().count();
        if samples == 0 {
            continue;
        }
        counted += 1;
        let channels = || masked().flat_map(|pixel| (0..3).map(move |channel| (pixel, channel)));
        let sum: f64 = channels().map(|(p, c)| errors(at, p, c).1.powi(2)).sum();
        let mse = sum / samples as f64 + FLOOR;
        value += 10.0 * mse.log10();
        let scale = 10.0 / std::f64::consts::LN_10 / mse / samples as f64;
        for (p, c) in channels() {
            let (i, error) = errors(at, p, c);
            gradient[i] = (scale * error) as f32;
        }
    }
    let counted = f64::from(counted.max(1));
    gradient.iter_mut().for_each(|value| *value /= counted as f32);
    Loss { value: value / counted, gradient }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::random::SplitMix64;

    fn batch(random: &mut SplitMix64) -> CropBatch {
        let mut values = |count: usize| (0..count).map(|_| 2.0 * random.unit() - 1.0).collect();
        let input = Tensor::zeros((2, 4, 4, 4), DType::F32, &Device::Cpu).unwrap();
        let (clean, shown): (Vec<f32>, Vec<f32>) = (values(96), values(96));
        let mask = (0..32).map(|i| f32::from(i % 3 == 0)).collect();
        CropBatch { input, clean, mask, shown }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let mut random = SplitMix64::new(1);
        let batch = batch(&mut random);
        for (task, count) in
            [(PixelTask::Detector, 32), (PixelTask::Refiner, 96), (PixelTask::Autoencoder, 96)]
        {
            let prediction: Vec<f32> = (0..count).map(|_| random.nearly_normal()).collect();
            let found = loss(task, &prediction, &batch).unwrap().gradient;
            for at in 0..count {
                let moved = |by: f32| {
                    let mut prediction = prediction.clone();
                    prediction[at] += by;
                    loss(task, &prediction, &batch).unwrap().value
                };
                let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                let error = (f64::from(found[at]) - expected).abs();
                assert!(error < 1e-4 + 1e-2 * expected.abs(), "{task:?} {at}: {error}");
            }
        }
    }

    #[test]
    fn perfect_predictions_lose_little() {
        let mut random = SplitMix64::new(2);
        let batch = batch(&mut random);
        let right: Vec<f32> =
            batch.mask.iter().map(|&y| if y > 0.0 { 20.0 } else { -20.0 }).collect();
        assert!(loss(PixelTask::Detector, &right, &batch).unwrap().value < 1e-6);
        let right: Vec<f32> = batch.clean.iter().zip(&batch.shown).map(|(c, s)| c - s).collect();
        assert!((loss(PixelTask::Refiner, &right, &batch).unwrap().value + 40.0).abs() < 1e-3);
    }

    #[test]
    fn thin_damage_counts_twice_and_invisible_damage_not_at_all() {
        let side = 32;
        let is_masked = |x: usize, y: usize| x == 4 || (x >= 16 && y >= 16);
        let pixels = || (0..side * side).map(|at| (at % side, at / side));
        let mask = pixels().map(|(x, y)| f32::from(is_masked(x, y))).collect();
        let input = Tensor::zeros((1, side, side, 3), DType::F32, &Device::Cpu).unwrap();
        let clean = vec![0.0; 3 * side * side];
        // The upper half of the scratch is not to be seen.
        let seen = |x, y| is_masked(x, y) && y >= 8;
        let shown = pixels().flat_map(|(x, y)| [if seen(x, y) { 0.5 } else { 0.0 }; 3]).collect();
        let weights = importance(&CropBatch { input, clean, mask, shown }).unwrap();
        for (x, y) in pixels() {
            let expected = match (x, y) {
                (4, 0..8) => 0.0,
                (4, _) => THIN_WEIGHT,
                _ => 1.0,
            };
            assert_eq!(weights[0][y * side + x], expected, "{x}, {y}");
        }
    }
}
