use candle_core::{DType, Device, Var};

use super::*;
use crate::simd::math::gelu_for_bf16;
use crate::testing::{Numbers, agrees, tiers};

const ALL: [Activation; 5] = [
    Activation::Silu,
    Activation::Gelu,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::LeakyRelu { slope: 0.2 },
];

/// The same from candle's own operations.
fn plain(xs: &Tensor, activation: Activation) -> Result<Tensor> {
    let sigmoid = |xs: Tensor| (xs.neg()?.exp()? + 1.0)?.recip();
    match activation {
        Activation::Silu => xs * sigmoid(xs.clone())?,
        Activation::Gelu => xs.gelu_erf(),
        Activation::QuickGelu => xs * sigmoid((xs * 1.702)?)?,
        Activation::Relu => xs.relu(),
        Activation::LeakyRelu { slope } => xs.relu()? - (xs.neg()?.relu()? * f64::from(slope))?,
    }
}

#[test]
fn values_and_gradients_are_those_of_the_composed_operations() -> Result<()> {
    let mut numbers = Numbers::new(20);
    // The last is more than a block.
    for count in [1, 7, 16, 100, (1 << 14) + 3] {
        let xs = (numbers.tensor(&[count])? * 8.0)?;
        for activation in ALL {
            agrees(
                1e-6,
                &[&xs],
                |_, xs| plain(&xs[0], activation),
                |tier, xs| activate_on(tier, &xs[0], activation),
            )?;
        }
    }
    Ok(())
}

#[test]
fn large_inputs_stay_finite() -> Result<()> {
    let xs = Var::new(&[-1e30_f32, -1e4, -100.0, 0.0, 100.0, 1e4, 1e30], &Device::Cpu)?;
    // All but the last vanish below 0.
    let all = &ALL[..4];
    for (tier, activation) in tiers().flat_map(|tier| all.iter().map(move |&of| (tier, of))) {
        let ys = activate_on(tier, &xs, activation)?;
        let gradient = ys.sum_all()?.backward()?;
        let gradient = gradient.get(&xs).unwrap().to_vec1::<f32>()?;
        for (x, y) in xs.to_vec1::<f32>()?.into_iter().zip(ys.to_vec1::<f32>()?) {
            assert!(
                (y - x.max(0.0)).abs() <= 1e-6 * x.abs().min(1e30),
                "{activation:?}({x}) = {y}"
            );
        }
        assert!(gradient.iter().all(|slope| (-0.1..1.1).contains(slope)), "{gradient:?}");
    }
    Ok(())
}

#[test]
fn short_gelu_is_gelu() {
    struct Worst;
    impl Kernel for Worst {
        type Output = f32;
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> f32 {
            let mut worst = 0.0_f32;
            for number in -4000..=4000 {
                let x = simd.splat(number as f32 / 500.0);
                let [short, whole] = [gelu_for_bf16(simd, x), Activation::Gelu.value(simd, x)]
                    .map(|y| simd.to_array(y)[0]);
                worst = worst.max((short - whole).abs() / (number as f32 / 500.0).abs().max(1.0));
            }
            worst
        }
    }
    for tier in tiers() {
        let worst = dispatch(tier, Worst);
        assert!(worst < 4e-6, "{tier}: {worst}");
    }
}

#[test]
fn geglu_is_a_product_with_gelu() -> Result<()> {
    let mut numbers = Numbers::new(21);
    for dims in [[1, 1, 2], [2, 3, 34], [1, 5, 128], [1, 300, 100]] {
        let xs = (numbers.tensor(&dims)? * 3.0)?;
        let half = dims[2] / 2;
        agrees(
            1e-6,
            &[&xs],
            |_, xs| {
                let gate = xs[0].narrow(2, half, half)?.contiguous()?.gelu_erf()?;
                xs[0].narrow(2, 0, half)? * gate
            },
            |tier, xs| geglu_on(tier, &xs[0]),
        )?;
    }
    assert!(geglu(&numbers.tensor(&[2, 3])?).is_err());
    Ok(())
}

#[test]
fn other_dtypes_are_errors() -> Result<()> {
    let xs = Tensor::zeros(4, DType::F64, &Device::Cpu)?;
    assert!(activate(&xs, Activation::Silu).is_err());
    assert!(geglu(&xs).is_err());
    Ok(())
}
