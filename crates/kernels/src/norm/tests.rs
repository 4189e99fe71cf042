use candle_core::{D, Device, Var};

use super::*;
use crate::testing::{Numbers, agrees, assert_same, tiers};

/// Normalises the last dimension.
fn plain(xs: &Tensor, eps: f64) -> Result<Tensor> {
    let xs = xs.broadcast_sub(&xs.mean_keepdim(D::Minus1)?)?;
    xs.broadcast_div(&(xs.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?)
}

/// [`group_norm`] of `(b, h, w, c)` from candle's own operations.
fn plain_groups(xs: &Tensor, groups: usize, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = xs.dims4()?;
    let xs = xs.permute((0, 3, 1, 2))?.contiguous()?; // (b, c, h, w)
    let xs = plain(&xs.reshape((b, groups, ()))?, 1e-5)?.reshape((b, c, h, w))?;
    xs.permute((0, 2, 3, 1))?.contiguous()?.broadcast_mul(weight)?.broadcast_add(bias)
}

#[test]
fn group_norm_agrees_with_the_composed_operations() -> Result<()> {
    let mut numbers = Numbers::new(40);
    let cases = [
        ([1, 1, 2, 2], 1),
        ([2, 5, 7, 6], 3),
        ([1, 9, 9, 32], 8),
        // More than a block of 256 rows, and of 16 thousand numbers.
        ([1, 30, 30, 4], 2),
        ([2, 9, 17, 320], 32),
    ];
    for (dims, groups) in cases {
        let c = dims[3];
        let xs = ((numbers.tensor(&dims)? * 3.0)? + 5.0)?;
        let (weight, bias) = ((numbers.tensor(&[c])? + 1.5)?, numbers.tensor(&[c])?);
        for activation in [None, Some(Activation::Silu)] {
            agrees(
                1e-4,
                &[&xs, &weight, &bias],
                |_, vars| {
                    let ys = plain_groups(&vars[0], groups, &vars[1], &vars[2])?;
                    if activation.is_some() { ys.silu() } else { Ok(ys) }
                },
                |tier, vars| {
                    let affine = Affine { weight: &vars[1], bias: &vars[2], eps: 1e-5 };
                    group_norm_on(tier, &vars[0], groups, affine, activation)
                },
            )?;
            // Values are closer than gradients, and weights may be frozen.
            let affine = Affine { weight: &weight, bias: &bias, eps: 1e-5 };
            let expected = plain_groups(&xs, groups, &weight, &bias)?;
            let expected = if activation.is_some() { expected.silu()? } else { expected };
            for tier in tiers() {
                let found = group_norm_on(tier, &xs, groups, affine, activation)?;
                assert_same(&found, &expected, 1e-5);
            }
        }
    }
    Ok(())
}

#[test]
fn a_mean_far_from_zero_costs_no_digits_of_the_variance() -> Result<()> {
    // Numbers of 1000 ± 1 and of -3000 ± 1, which f32 holds exactly: multiples of 2⁻¹².
    let (rows, channels) = (1000, 6);
    let mut stream = Numbers::new(43);
    let near: Vec<f32> = (0..rows * channels).map(|_| (stream.one() * 4096.0).round()).collect();
    let off = |at: usize| if at % channels < 3 { 1000.0 } else { -3000.0 };
    let xs: Vec<f32> = near.iter().enumerate().map(|(at, x)| x / 4096.0 + off(at)).collect();
    let near: Vec<f32> = near.iter().map(|x| x / 4096.0).collect();
    let dims = (1, rows, 1, channels);
    let (xs, near) =
        (Tensor::from_vec(xs, dims, &Device::Cpu)?, Tensor::from_vec(near, dims, &Device::Cpu)?);
    let (weight, bias) =
        (Tensor::new(&[1_f32; 6], &Device::Cpu)?, Tensor::new(&[0_f32; 6], &Device::Cpu)?);
    let expected = plain_groups(&near, 2, &weight, &bias)?;
    let affine = Affine { weight: &weight, bias: &bias, eps: 1e-5 };
    for tier in tiers() {
        // The shift of 3000 / 0.58 is itself rounded to 2⁻¹²: 2.4e-4, of numbers up to 1.7.
        assert_same(&group_norm_on(tier, &xs, 2, affine, None)?, &expected, 3e-4);
    }
    Ok(())
}

#[test]
fn layer_norm_agrees_with_the_composed_operations() -> Result<()> {
    let mut numbers = Numbers::new(41);
    for dims in [[1, 1, 3], [2, 5, 32], [1, 7, 100], [1, 300, 320], [1, 2, 5000]] {
        let xs = (numbers.tensor(&dims)? * 2.0)?;
        let (weight, bias) = (numbers.tensor(&[dims[2]])?, numbers.tensor(&[dims[2]])?);
        let expected = |xs: &Tensor, weight: &Tensor, bias: &Tensor| {
            plain(xs, 1e-5)?.broadcast_mul(weight)?.broadcast_add(bias)
        };
        agrees(
            1e-4,
            &[&xs, &weight, &bias],
            |_, vars| expected(&vars[0], &vars[1], &vars[2]),
            |tier, vars| {
                layer_norm_on(
                    tier,
                    &vars[0],
                    Affine { weight: &vars[1], bias: &vars[2], eps: 1e-5 },
                )
            },
        )?;
        let affine = Affine { weight: &weight, bias: &bias, eps: 1e-5 };
        for tier in tiers() {
            let found = layer_norm_on(tier, &xs, affine)?;
            assert_same(&found, &expected(&xs, &weight, &bias)?, 1e-5);
        }
    }
    Ok(())
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let mut numbers = Numbers::new(44);
    let xs = numbers.tensor(&[1, 40, 40, 64])?;
    let (weight, bias) = (numbers.tensor(&[64])?, numbers.tensor(&[64])?);
    let run = || -> Result<Vec<Vec<f32>>> {
        let (xs, weight) = (Var::from_tensor(&xs)?, Var::from_tensor(&weight)?);
        let affine = Affine { weight: &weight, bias: &bias, eps: 1e-5 };
        let ys = group_norm(&xs, 8, affine, Some(Activation::Silu))?;
        let ys = layer_norm(&ys, affine)?;
        let gradients = ys.sqr()?.sum_all()?.backward()?;
        [&ys, gradients.get(&xs).unwrap(), gradients.get(&weight).unwrap()]
            .into_iter()
            .map(|tensor| tensor.flatten_all()?.to_vec1())
            .collect()
    };
    let on = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
    };
    assert!(on(1)? == on(3)?);
    Ok(())
}

#[test]
fn wrong_shapes_are_errors() -> Result<()> {
    let mut numbers = Numbers::new(42);
    let (xs, weight) = (numbers.tensor(&[1, 2, 2, 6])?, numbers.tensor(&[6])?);
    let affine = Affine { weight: &weight, bias: &weight, eps: 1e-5 };
    assert!(group_norm(&xs, 4, affine, None).is_err());
    assert!(group_norm(&xs, 0, affine, None).is_err());
    assert!(group_norm(&weight, 2, affine, None).is_err());
    assert!(layer_norm(&xs.narrow(3, 0, 5)?, affine).is_err());
    Ok(())
}
