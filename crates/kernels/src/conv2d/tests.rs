use candle_core::{DType, Result, Tensor, Var};

use super::conv2d_on;
use crate::testing::{Numbers, assert_close, assert_same, tiers};

/// `(b, in, h, w)`, out channels, kernel, stride, padding.
const CASES: [([usize; 4], usize, usize, usize, usize); 9] = [
    ([1, 1, 1, 1], 1, 1, 1, 0),
    ([1, 3, 5, 7], 4, 3, 1, 1),
    ([2, 9, 8, 8], 17, 3, 1, 1),
    ([2, 40, 9, 11], 20, 3, 2, 1),
    ([1, 33, 64, 64], 12, 3, 1, 1),
    ([3, 20, 6, 5], 9, 1, 1, 0),
    ([1, 5, 13, 50], 8, 3, 2, 0),
    ([1, 4, 9, 9], 3, 5, 3, 2),
    ([1, 2, 6, 60], 3, 1, 2, 0),
];

/// The definition, in f64.
fn reference(
    xs: &Tensor,
    weight: &Tensor,
    bias: &[f32],
    stride: usize,
    padding: usize,
) -> Vec<f64> {
    let (b, c, h, w) = xs.dims4().unwrap();
    let (out, _, kh, kw) = weight.dims4().unwrap();
    let x: Vec<f32> = xs.flatten_all().unwrap().to_vec1().unwrap();
    let k: Vec<f32> = weight.flatten_all().unwrap().to_vec1().unwrap();
    let (oh, ow) = ((h + 2 * padding - kh) / stride + 1, (w + 2 * padding - kw) / stride + 1);
    let mut ys = Vec::new();
    for at in 0..b * out * oh * ow {
        let (image, o, y, x0) = (at / (out * oh * ow), at / (oh * ow) % out, at / ow % oh, at % ow);
        let mut sum = f64::from(bias[o]);
        for (ci, ky, kx) in (0..c * kh * kw).map(|i| (i / (kh * kw), i / kw % kh, i % kw)) {
            let (iy, ix) = (y * stride + ky, x0 * stride + kx);
            if iy >= padding && ix >= padding && iy - padding < h && ix - padding < w {
                let pixel = x[((image * c + ci) * h + iy - padding) * w + ix - padding];
                sum += f64::from(pixel) * f64::from(k[((o * c + ci) * kh + ky) * kw + kx]);
            }
        }
        ys.push(sum);
    }
    ys
}

#[test]
fn agrees_with_the_definition_on_every_tier() -> Result<()> {
    let mut numbers = Numbers::new(4);
    for (dims, out, k, stride, padding) in CASES {
        let xs = numbers.tensor(&dims)?;
        let weight = numbers.tensor(&[out, dims[1], k, k])?;
        let bias = numbers.tensor(&[out])?;
        let expected = reference(&xs, &weight, &bias.to_vec1()?, stride, padding);
        // The same pixels, channels last.
        let turned = xs.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))?;
        for tier in tiers() {
            for xs in [&xs, &turned] {
                let ys = conv2d_on(tier, xs, &weight, Some(&bias), stride, padding)?;
                assert_close(&ys.flatten_all()?.to_vec1()?, &expected, 1e-5);
            }
        }
    }
    Ok(())
}

/// `Σ a · b`.
fn inner(a: &Tensor, b: &Tensor) -> Result<f64> {
    (a * b)?.to_dtype(DType::F64)?.sum_all()?.to_scalar()
}

/// A convolution is linear in its input and in its weight, and so its gradients are its adjoints: `⟨∂x, x'⟩ =
/// ⟨conv(x', w), g⟩` for any x', and likewise for the weight. (Candle's own backward refuses some of the sizes.)
#[test]
fn gradients_are_adjoints() -> Result<()> {
    let mut numbers = Numbers::new(5);
    for (dims, out, k, stride, padding) in CASES {
        let xs = Var::from_tensor(&numbers.tensor(&dims)?)?;
        let weight = Var::from_tensor(&numbers.tensor(&[out, dims[1], k, k])?)?;
        let bias = Var::from_tensor(&numbers.tensor(&[out])?)?;
        for tier in tiers() {
            let conv =
                |xs: &Tensor, weight: &Tensor| conv2d_on(tier, xs, weight, None, stride, padding);
            let ys = conv2d_on(tier, &xs, &weight, Some(&bias), stride, padding)?;
            let pull = numbers.tensor(ys.dims())?;
            let gradients = (ys * &pull)?.sum_all()?.backward()?;
            let tolerance = 1e-3 * (pull.elem_count() as f64).sqrt();
            for _ in 0..3 {
                let probe = numbers.tensor(&dims)?;
                let expected = inner(&conv(&probe, &weight.as_detached_tensor())?, &pull)?;
                let found = inner(gradients.get(&xs).unwrap(), &probe)?;
                assert!((found - expected).abs() < tolerance, "{dims:?}: {found}, {expected}");

                let probe = numbers.tensor(weight.dims())?;
                let expected = inner(&conv(&xs.as_detached_tensor(), &probe)?, &pull)?;
                let found = inner(gradients.get(&weight).unwrap(), &probe)?;
                assert!((found - expected).abs() < tolerance, "{dims:?}: {found}, {expected}");
            }
            assert_same(gradients.get(&bias).unwrap(), &pull.sum((0, 2, 3))?, 1e-5);
            // A weight that is not tracked gets no gradient, the input still does.
            let frozen = conv(&xs, &weight.as_detached_tensor())?;
            let found = (frozen * &pull)?.sum_all()?.backward()?;
            assert!(found.get(&weight).is_none());
            assert_same(found.get(&xs).unwrap(), gradients.get(&xs).unwrap(), 0.0);
        }
    }
    Ok(())
}

#[test]
fn weights_stay_in_their_dtype() -> Result<()> {
    let mut numbers = Numbers::new(6);
    let xs = Var::from_tensor(&numbers.tensor(&[1, 6, 10, 9])?)?;
    let weight = numbers.tensor(&[7, 6, 3, 3])?;
    for dtype in [DType::BF16, DType::F16] {
        let stored = weight.to_dtype(dtype)?;
        let as_f32 = stored.to_dtype(DType::F32)?;
        for tier in tiers() {
            let found = conv2d_on(tier, &xs, &stored, None, 1, 1)?;
            let expected = conv2d_on(tier, &xs, &as_f32, None, 1, 1)?;
            assert_same(&found, &expected, 0.0);
            let found = found.sqr()?.sum_all()?.backward()?;
            let expected = expected.sqr()?.sum_all()?.backward()?;
            assert_same(found.get(&xs).unwrap(), expected.get(&xs).unwrap(), 0.0);
        }
    }
    Ok(())
}

#[test]
fn wrong_shapes_are_errors() -> Result<()> {
    let mut numbers = Numbers::new(7);
    let xs = numbers.tensor(&[1, 3, 4, 4])?;
    for (weight, stride) in [([2, 4, 3, 3], 1), ([2, 3, 7, 7], 1), ([2, 3, 3, 3], 0)] {
        assert!(super::conv2d(&xs, &numbers.tensor(&weight)?, None, stride, 1).is_err());
    }
    let bias = numbers.tensor(&[3])?;
    assert!(super::conv2d(&xs, &numbers.tensor(&[2, 3, 3, 3])?, Some(&bias), 1, 1).is_err());
    assert!(
        super::conv2d(&xs.to_dtype(DType::F64)?, &numbers.tensor(&[2, 3, 3, 3])?, None, 1, 1)
            .is_err()
    );
    Ok(())
}
