//! Against candle's own operations in f32, on every tier, in both dtypes, at odd sizes.

use candle_core::{D, DType, Result, Tensor, Var};

use super::*;
use crate::isa::Tier;
use crate::product::PackedWeight;
use crate::testing::{Numbers, assert_same, tiers};
use crate::{Activation, Affine};

/// Tiers, each with f32 and with bf16 weights.
fn cases() -> impl Iterator<Item = (Tier, DType)> {
    tiers().flat_map(|tier| [(tier, DType::F32), (tier, DType::BF16)])
}

/// Numbers that bf16 holds exactly.
fn numbers(random: &mut Numbers, dims: &[usize]) -> Result<Tensor> {
    random.tensor(dims)?.to_dtype(DType::BF16)?.to_dtype(DType::F32)
}

/// What rounding allows in the dtype that a weight computes in: products of exact numbers are summed in f32, and the
/// result is rounded once.
fn tolerance(weight: &PackedWeight) -> f64 {
    if weight.compute_dtype() == DType::BF16 { 4.1e-3 } else { 2e-6 }
}

fn f32_of(xs: &Tensor) -> Result<Tensor> {
    xs.to_dtype(DType::F32)
}

/// Values and gradients of `found` against those of `expected`, by the variables.
fn compare(
    found: &Tensor,
    expected: &Tensor,
    variables: &[(&Var, &Var)],
    random: &mut Numbers,
    tolerance: f64,
) -> Result<()> {
    assert_same(&f32_of(found)?, expected, tolerance);
    let pull = numbers(random, expected.dims())?;
    let expected = (expected * &pull)?.sum_all()?.backward()?;
    let found =
        (found * pull.to_dtype(found.dtype())?)?.to_dtype(DType::F32)?.sum_all()?.backward()?;
    for (ours, theirs) in variables {
        let ours = f32_of(found.get(ours).expect("a gradient"))?;
        assert_same(&ours, expected.get(theirs).expect("a gradient"), 2.0 * tolerance);
    }
    Ok(())
}

#[test]
fn linear_layers_are_those_of_candle() -> Result<()> {
    let mut random = Numbers::new(31);
    // Tokens, inputs, outputs: one of each, odd ones, several blocks of the depth, panels and tasks.
    for [tokens, inputs, outputs] in
        [[1, 1, 1], [5, 3, 2], [77, 40, 50], [33, 70, 129], [16, 320, 96], [300, 600, 130]]
    {
        let xs = Var::from_tensor(&numbers(&mut random, &[1, tokens, inputs])?)?;
        let residual = Var::from_tensor(&numbers(&mut random, &[1, tokens, outputs])?)?;
        let weight = numbers(&mut random, &[outputs, inputs])?;
        let bias = numbers(&mut random, &[outputs])?;
        let plain = xs.flatten_to(1)?.matmul(&weight.t()?)?.broadcast_add(&bias)?.unsqueeze(0)?;
        let expected = (plain + residual.as_tensor())?;
        for (tier, dtype) in cases() {
            let packed = PackedWeight::new_on(tier, &weight.to_dtype(dtype)?, Some(&bias), false)?;
            let compute = packed.compute_dtype();
            let ours = Var::from_tensor(&xs.to_dtype(compute)?)?;
            let our_residual = Var::from_tensor(&residual.to_dtype(compute)?)?;
            let found = linear_frozen(&ours, &packed, Some(&our_residual))?;
            let pairs = [(&ours, &xs), (&our_residual, &residual)];
            compare(&found, &expected, &pairs, &mut random, tolerance(&packed))?;
            let found = linear_frozen(&ours, &packed, None)?;
            assert_same(&f32_of(&found)?, &(&expected - residual.as_tensor())?, tolerance(&packed));
        }
    }
    Ok(())
}

#[test]
fn f16_weights_are_computed_in_f32() -> Result<()> {
    let mut random = Numbers::new(32);
    let (xs, weight) = (random.tensor(&[9, 300])?, random.tensor(&[70, 300])?);
    let weight = weight.to_dtype(DType::F16)?;
    let expected = xs.matmul(&f32_of(&weight)?.t()?)?;
    for tier in tiers() {
        let packed = PackedWeight::new_on(tier, &weight, None, false)?;
        assert_same(&linear_frozen(&xs, &packed, None)?, &expected, 2e-6);
    }
    Ok(())
}

#[test]
fn gated_layers_are_products_with_gelu() -> Result<()> {
    let mut random = Numbers::new(33);
    for [tokens, inputs, half] in [[1, 2, 1], [5, 33, 20], [40, 64, 48], [130, 300, 70]] {
        let xs = Var::from_tensor(&numbers(&mut random, &[tokens, inputs])?)?;
        let weight = numbers(&mut random, &[2 * half, inputs])?;
        let bias = numbers(&mut random, &[2 * half])?;
        let hidden = xs.matmul(&weight.t()?)?.broadcast_add(&bias)?;
        let gate = hidden.narrow(D::Minus1, half, half)?.contiguous()?.gelu_erf()?;
        let expected = (hidden.narrow(D::Minus1, 0, half)? * gate)?;
        for (tier, dtype) in cases() {
            let packed = PackedWeight::new_on(tier, &weight.to_dtype(dtype)?, Some(&bias), true)?;
            let ours = Var::from_tensor(&xs.to_dtype(packed.compute_dtype())?)?;
            let found = linear_geglu(&ours, &packed)?;
            compare(&found, &expected, &[(&ours, &xs)], &mut random, 2.0 * tolerance(&packed))?;
        }
    }
    Ok(())
}

#[test]
fn lora_adds_its_product_and_gets_its_gradients() -> Result<()> {
    let mut random = Numbers::new(34);
    for [tokens, inputs, outputs, rank] in
        [[5, 8, 6, 1], [48, 64, 96, 4], [77, 130, 70, 33], [200, 320, 330, 64]]
    {
        let xs = Var::from_tensor(&numbers(&mut random, &[1, tokens, inputs])?)?;
        let weight = numbers(&mut random, &[outputs, inputs])?;
        let down = Var::from_tensor(&numbers(&mut random, &[rank, inputs])?)?;
        let up = Var::from_tensor(&numbers(&mut random, &[outputs, rank])?)?;
        let flat = xs.flatten_to(1)?;
        let low = (flat.matmul(&down.t()?)?.matmul(&up.t()?)? * 0.5)?;
        let expected = (flat.matmul(&weight.t()?)? + low)?.unsqueeze(0)?;
        for (tier, dtype) in cases() {
            let packed = PackedWeight::new_on(tier, &weight.to_dtype(dtype)?, None, false)?;
            let ours = Var::from_tensor(&xs.to_dtype(packed.compute_dtype())?)?;
            let low = LowRank { down: &down, up: &up, scale: 0.5 };
            let found = linear_lora(&ours, &packed, low)?;
            // The low product is rounded in between.
            let tolerance = 2.0 * tolerance(&packed);
            let pairs = [(&ours, &xs), (&down, &down), (&up, &up)];
            compare(&found, &expected, &pairs, &mut random, tolerance)?;
        }
    }
    Ok(())
}

/// Channels-last to candle's order and back.
fn first(xs: &Tensor) -> Result<Tensor> {
    xs.permute((0, 3, 1, 2))?.contiguous()
}
fn last(xs: &Tensor) -> Result<Tensor> {
    xs.permute((0, 2, 3, 1))
}

/// [`tolerance`] of a convolution: tiles of outputs are less exact than a sum ([`crate::product`]).
fn conv_tolerance(weight: &PackedWeight) -> f64 {
    tolerance(weight).max(4e-6)
}

/// Batch, height, width, channels in and out; kernel, stride, zeros before and behind.
const CONVOLUTIONS: [([usize; 5], [usize; 4]); 15] = [
    ([1, 1, 1, 1, 1], [1, 1, 0, 0]),
    ([2, 5, 7, 3, 4], [3, 1, 1, 1]),
    ([1, 16, 16, 33, 20], [3, 1, 1, 1]),
    ([2, 8, 8, 64, 40], [3, 1, 1, 1]),
    ([1, 9, 33, 16, 130], [3, 1, 1, 1]),
    ([1, 8, 8, 40, 33], [3, 2, 1, 1]),
    ([2, 32, 32, 8, 8], [3, 2, 1, 1]),
    ([1, 9, 7, 20, 17], [3, 2, 0, 1]),
    ([1, 10, 10, 5, 6], [5, 1, 2, 2]),
    ([2, 6, 5, 70, 90], [1, 1, 0, 0]),
    ([1, 6, 6, 4, 4], [1, 2, 0, 0]),
    ([1, 12, 11, 300, 8], [3, 1, 0, 0]),
    // Several tasks of tiles; few channels; tiles of 2×2.
    ([3, 21, 34, 70, 100], [3, 1, 1, 1]),
    ([1, 11, 27, 5, 4], [3, 1, 2, 0]),
    ([1, 7, 8, 130, 50], [3, 1, 1, 1]),
];

#[test]
fn convolutions_are_those_of_candle() -> Result<()> {
    let mut random = Numbers::new(35);
    for ([b, h, w, c, n], [k, stride, before, behind]) in CONVOLUTIONS {
        let xs = Var::from_tensor(&numbers(&mut random, &[b, h, w, c])?)?;
        let weight = numbers(&mut random, &[n, c, k, k])?;
        let bias = numbers(&mut random, &[n])?;
        let image_bias = numbers(&mut random, &[b, n])?;
        let padded = first(&xs)?
            .pad_with_zeros(2, before, behind)?
            .pad_with_zeros(3, before, behind)?
            // candle's backward pass at a stride needs outputs that reach the end.
            .narrow(2, 0, (h + before + behind - k) / stride * stride + k)?
            .narrow(3, 0, (w + before + behind - k) / stride * stride + k)?
            .contiguous()?;
        let plain = last(&padded.conv2d(&weight, 0, stride, 1, 1)?)?;
        let added = (image_bias.broadcast_add(&bias)?).reshape((b, 1, 1, n))?;
        let plain = plain.broadcast_add(&added)?;
        let residual = Var::from_tensor(&numbers(&mut random, plain.dims())?)?;
        let expected = (plain + residual.as_tensor())?;
        let stored = cases().chain(tiers().map(|tier| (tier, DType::F16)));
        for (tier, dtype) in stored {
            let packed = PackedWeight::new_on(tier, &weight.to_dtype(dtype)?, Some(&bias), false)?;
            let compute = packed.compute_dtype();
            let ours = Var::from_tensor(&xs.to_dtype(compute)?)?;
            let our_residual = Var::from_tensor(&residual.to_dtype(compute)?)?;
            let conv = FrozenConv2d {
                padding: (before, behind),
                image_bias: Some(&image_bias),
                residual: Some(&our_residual),
                ..FrozenConv2d::new(&packed, stride, before)
            };
            let found = conv.forward(&ours)?;
            let pairs = [(&ours, &xs), (&our_residual, &residual)];
            compare(&found, &expected, &pairs, &mut random, conv_tolerance(&packed))?;
            // Without what is added, which takes another way where the kernel is one pixel.
            let conv = FrozenConv2d { image_bias: None, residual: None, ..conv };
            let rest = (image_bias.reshape((b, 1, 1, n))?.broadcast_add(&residual))?;
            let found = conv.forward(&ours)?;
            assert_same(&f32_of(&found)?, &(&expected - rest)?, conv_tolerance(&packed));
        }
    }
    Ok(())
}

#[test]
fn a_norm_comes_before_the_kernel() -> Result<()> {
    let mut random = Numbers::new(39);
    for ([b, h, w, c, n], groups) in [
        ([1, 3, 4, 6, 5], 3),
        ([2, 7, 5, 64, 40], 32),
        ([2, 8, 8, 20, 33], 5),
        ([2, 13, 18, 40, 33], 5),
    ] {
        let xs = Var::from_tensor(&numbers(&mut random, &[b, h, w, c])?)?;
        let (scale, shift) = (numbers(&mut random, &[c])?, numbers(&mut random, &[c])?);
        let affine = Affine { weight: &scale, bias: &shift, eps: 1e-5 };
        for (kernel, activation) in [(3, Some(Activation::Silu)), (1, None)] {
            let weight = numbers(&mut random, &[n, c, kernel, kernel])?;
            for (tier, dtype) in cases() {
                let packed = PackedWeight::new_on(tier, &weight.to_dtype(dtype)?, None, false)?;
                let compute = packed.compute_dtype();
                let ours = Var::from_tensor(&xs.to_dtype(compute)?)?;
                let plain = FrozenConv2d::new(&packed, 1, kernel / 2);
                let norm = Some(NormBefore { groups, affine });
                let found = FrozenConv2d { norm, activation, ..plain }.forward(&ours)?;
                // The same steps one by one, rounded alike.
                let normed =
                    crate::group_norm_on(tier, &xs.to_dtype(compute)?, groups, affine, activation)?;
                assert_same(&f32_of(&found)?, &f32_of(&plain.forward(&normed)?)?, 1e-6);
                if compute == DType::F32 {
                    let normed = crate::group_norm_on(tier, &xs, groups, affine, activation)?;
                    let expected = plain.forward(&normed)?;
                    compare(&found, &expected, &[(&ours, &xs)], &mut random, 2e-6)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn an_activation_comes_before_the_kernel() -> Result<()> {
    let mut random = Numbers::new(40);
    let activations = [Activation::Silu, Activation::LeakyRelu { slope: 0.2 }];
    for (([b, h, w, c, n], stride), activation) in
        [([1, 3, 4, 6, 5], 1), ([2, 13, 18, 40, 33], 1), ([1, 9, 7, 17, 8], 2)]
            .into_iter()
            .flat_map(|case| activations.map(|activation| (case, activation)))
    {
        let xs = Var::from_tensor(&numbers(&mut random, &[b, h, w, c])?)?;
        for kernel in [1, 3] {
            let weight = numbers(&mut random, &[n, c, kernel, kernel])?;
            for (tier, dtype) in cases() {
                let packed = PackedWeight::new_on(tier, &weight.to_dtype(dtype)?, None, false)?;
                let compute = packed.compute_dtype();
                let ours = Var::from_tensor(&xs.to_dtype(compute)?)?;
                let plain = FrozenConv2d::new(&packed, stride, kernel / 2);
                let found =
                    FrozenConv2d { activation: Some(activation), ..plain }.forward(&ours)?;
                // The same two steps one by one, rounded alike.
                let bent = |xs: &Tensor| crate::activate_on(tier, xs, activation);
                let expected = plain.forward(&bent(&xs.to_dtype(compute)?)?)?;
                assert_same(&f32_of(&found)?, &f32_of(&expected)?, 1e-6);
                if compute == DType::F32 {
                    let expected = plain.forward(&bent(&xs)?)?;
                    compare(&found, &expected, &[(&ours, &xs)], &mut random, 2e-6)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn resizing_comes_before_the_kernel() -> Result<()> {
    let mut random = Numbers::new(36);
    for ([b, h, w, c, n], size) in
        [([2, 4, 3, 5, 6], (8, 6)), ([1, 5, 4, 33, 20], (9, 11)), ([1, 8, 8, 32, 32], (16, 16))]
    {
        let xs = Var::from_tensor(&numbers(&mut random, &[b, h, w, c])?)?;
        let weight = numbers(&mut random, &[n, c, 3, 3])?;
        let index = |from: usize, to: usize| {
            let index: Vec<u32> = (0..to).map(|i| (i * from / to) as u32).collect();
            Tensor::new(index, &candle_core::Device::Cpu)
        };
        let resized =
            xs.index_select(&index(h, size.0)?, 1)?.index_select(&index(w, size.1)?, 2)?;
        let expected = last(&first(&resized)?.conv2d(&weight, 1, 1, 1, 1)?)?;
        for (tier, dtype) in cases() {
            let packed = PackedWeight::new_on(tier, &weight.to_dtype(dtype)?, None, false)?;
            let ours = Var::from_tensor(&xs.to_dtype(packed.compute_dtype())?)?;
            let conv = FrozenConv2d { resize: Some(size), ..FrozenConv2d::new(&packed, 1, 1) };
            let found = conv.forward(&ours)?;
            compare(&found, &expected, &[(&ours, &xs)], &mut random, conv_tolerance(&packed))?;
        }
    }
    Ok(())
}

#[test]
fn threads_change_nothing() -> Result<()> {
    let mut random = Numbers::new(37);
    // By tiles of 4×4, those in several tasks, by tiles of 2×2, and pixel by pixel.
    for (dims, outputs, stride) in [
        ([2, 20, 20, 64], 130, 1),
        ([1, 44, 40, 70], 60, 1),
        ([1, 7, 9, 64], 130, 1),
        ([2, 20, 20, 64], 130, 2),
    ] {
        let (xs, weight) = (random.tensor(&dims)?, random.tensor(&[outputs, dims[3], 3, 3])?);
        let weight = PackedWeight::new(&weight, None)?;
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let xs = Var::from_tensor(&xs)?;
            pool.expect("a pool").install(|| {
                let ys = FrozenConv2d::new(&weight, stride, 1).forward(&xs)?;
                let gradients = ys.sqr()?.sum_all()?.backward()?;
                let gradient = gradients.get(&xs).expect("a gradient").flatten_all()?;
                Ok::<_, candle_core::Error>((
                    ys.flatten_all()?.to_vec1::<f32>()?,
                    gradient.to_vec1::<f32>()?,
                ))
            })
        };
        let one = run(1)?;
        for threads in [2, 3, 7] {
            assert_eq!(run(threads)?, one, "{dims:?} on {threads} threads");
        }
    }
    Ok(())
}

#[test]
fn other_shapes_and_dtypes_are_refused() -> Result<()> {
    let mut random = Numbers::new(38);
    let weight = random.tensor(&[6, 4, 3, 3])?;
    let packed = PackedWeight::new(&weight, None)?;
    let conv = |packed, stride, padding| FrozenConv2d::new(packed, stride, padding);
    assert!(conv(&packed, 1, 1).forward(&random.tensor(&[1, 5, 5, 3])?).is_err());
    assert!(conv(&packed, 0, 1).forward(&random.tensor(&[1, 5, 5, 4])?).is_err());
    assert!(conv(&packed, 1, 0).forward(&random.tensor(&[1, 2, 5, 4])?).is_err());
    assert!(conv(&packed, 1, 1).forward(&random.tensor(&[5, 5, 4])?).is_err());
    let wrong = random.tensor(&[1, 5, 5, 5])?;
    let with_residual = FrozenConv2d { residual: Some(&wrong), ..conv(&packed, 1, 1) };
    assert!(with_residual.forward(&random.tensor(&[1, 5, 5, 4])?).is_err());
    assert!(linear_frozen(&random.tensor(&[2, 4])?, &packed, None).is_err());

    let layer = PackedWeight::new(&random.tensor(&[6, 4])?, None)?;
    assert!(linear_frozen(&random.tensor(&[2, 5])?, &layer, None).is_err());
    assert!(linear_frozen(&random.tensor(&[2, 4])?.to_dtype(DType::F16)?, &layer, None).is_err());
    assert!(
        linear_frozen(&random.tensor(&[2, 4])?, &layer, Some(&random.tensor(&[2, 5])?)).is_err()
    );
    assert!(linear_geglu(&random.tensor(&[2, 4])?, &layer).is_err());
    assert!(PackedWeight::gated(&random.tensor(&[5, 4])?, None).is_err());
    assert!(PackedWeight::new(&random.tensor(&[5])?, None).is_err());
    assert!(PackedWeight::new(&random.tensor(&[5, 4])?, Some(&random.tensor(&[4])?)).is_err());
    Ok(())
}
