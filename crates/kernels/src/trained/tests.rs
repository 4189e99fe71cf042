use candle_core::{DType, Result, Tensor, Var};

use super::{conv2d_on, linear_on};
use crate::recording::Recording;
use crate::testing::{Numbers, assert_close, assert_same, tiers};

/// `(b, h, w, channels)`, outputs, kernel, stride, padding before and behind.
type Case = ([usize; 4], usize, usize, usize, (usize, usize));

const CASES: [Case; 18] = [
    ([1, 1, 1, 1], 1, 1, 1, (0, 0)),
    ([1, 5, 7, 3], 4, 3, 1, (1, 1)),
    ([2, 8, 8, 9], 17, 3, 1, (1, 1)),
    ([2, 9, 11, 40], 20, 3, 2, (1, 1)),
    ([1, 30, 31, 33], 12, 3, 1, (1, 1)),
    ([3, 6, 5, 20], 9, 1, 1, (0, 0)),
    ([1, 13, 50, 5], 8, 3, 2, (0, 0)),
    ([1, 9, 9, 4], 3, 5, 3, (2, 2)),
    ([1, 6, 60, 2], 3, 1, 2, (0, 0)),
    ([2, 12, 10, 7], 33, 4, 2, (1, 1)),
    ([1, 9, 8, 6], 16, 3, 2, (0, 1)),
    // Several columns of blocks, lines in a block, parts of the pixels.
    ([2, 5, 300, 8], 16, 3, 1, (1, 1)),
    ([5, 16, 16, 12], 24, 3, 1, (1, 1)),
    ([3, 40, 44, 3], 5, 3, 1, (1, 1)),
    // Several ranges of channels and panels of outputs: even ones, and one that is left over.
    ([1, 6, 7, 70], 100, 3, 1, (1, 1)),
    ([1, 4, 5, 130], 64, 3, 1, (1, 1)),
    ([1, 7, 6, 16], 160, 1, 1, (0, 0)),
    ([2, 5, 4, 64], 1, 3, 1, (1, 1)),
];

/// The output and the gradients by input, weight and bias of `Σ output · pull`: the definition, in f64.
struct Reference {
    ys: Vec<f64>,
    dxs: Vec<f64>,
    dw: Vec<f64>,
    db: Vec<f64>,
}

fn reference(
    [xs, weight, bias, pull]: [&Tensor; 4],
    stride: usize,
    before: usize,
    (oh, ow): (usize, usize),
) -> Reference {
    let (b, h, w, c) = xs.dims4().unwrap();
    let (out, _, kh, kw) = weight.dims4().unwrap();
    let [x, k, bias, g] = [xs, weight, bias, pull]
        .map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    let mut found = Reference {
        ys: Vec::new(),
        dxs: vec![0.0; x.len()],
        dw: vec![0.0; k.len()],
        db: vec![0.0; out],
    };
    for at in 0..b * oh * ow * out {
        let (image, y, x0, o) =
            (at / (oh * ow * out), at / (ow * out) % oh, at / out % ow, at % out);
        let mut sum = f64::from(bias[o]);
        let grad = f64::from(g[at]);
        found.db[o] += grad;
        for (ky, kx) in (0..kh * kw).map(|tap| (tap / kw, tap % kw)) {
            let (iy, ix) = (y * stride + ky, x0 * stride + kx);
            if iy < before || ix < before || iy - before >= h || ix - before >= w {
                continue;
            }
            for ci in 0..c {
                let from = ((image * h + iy - before) * w + ix - before) * c + ci;
                let tap = ((o * c + ci) * kh + ky) * kw + kx;
                sum += f64::from(x[from]) * f64::from(k[tap]);
                found.dxs[from] += grad * f64::from(k[tap]);
                found.dw[tap] += grad * f64::from(x[from]);
            }
        }
        found.ys.push(sum);
    }
    found
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

#[test]
fn convolutions_and_their_gradients_are_the_definition_on_every_tier() -> Result<()> {
    let mut numbers = Numbers::new(4);
    for (dims, out, k, stride, padding) in CASES {
        let xs = Var::from_tensor(&numbers.tensor(&dims)?)?;
        let weight = Var::from_tensor(&numbers.tensor(&[out, dims[3], k, k])?)?;
        let bias = Var::from_tensor(&numbers.tensor(&[out])?)?;
        let side = |side: usize| (side + padding.0 + padding.1 - k) / stride + 1;
        let size = (side(dims[1]), side(dims[2]));
        let pull = numbers.tensor(&[dims[0], size.0, size.1, out])?;
        let tensors = [xs.as_tensor(), weight.as_tensor(), bias.as_tensor(), &pull];
        let expected = reference(tensors, stride, padding.0, size);
        for tier in tiers() {
            let run = || conv2d_on(tier, &xs, &weight, Some(&bias), stride, padding);
            let ys = run()?;
            assert_eq!(ys.dims(), pull.dims());
            assert_close(&values(&ys)?, &expected.ys, 1e-5);
            let gradients = (ys * &pull)?.sum_all()?.backward()?;
            let (output, recording) = Recording::of(run)?;
            let recorded = recording.backward(&output, &pull)?;
            let all = [(&xs, &expected.dxs), (&weight, &expected.dw), (&bias, &expected.db)];
            for (var, expected) in all {
                let found = gradients.get(var).unwrap();
                assert_eq!(found.dims(), var.dims());
                assert_close(&values(found)?, expected, 1e-5);
                assert_same(recorded.get(var.id()).unwrap(), found, 0.0);
            }
        }
    }
    Ok(())
}

#[test]
fn only_what_is_tracked_gets_a_gradient() -> Result<()> {
    let mut numbers = Numbers::new(5);
    let tensors = [&[2, 6, 7, 5][..], &[20, 5, 3, 3], &[20]].map(|dims| numbers.tensor(dims));
    let [xs, weight, bias] = tensors;
    let vars = [Var::from_tensor(&xs?)?, Var::from_tensor(&weight?)?, Var::from_tensor(&bias?)?];
    let all = [true, true, true];
    let run = |tracked: [bool; 3]| {
        let [xs, weight, bias] = [0, 1, 2].map(|i| {
            let var = &vars[i];
            if tracked[i] { var.as_tensor().clone() } else { var.as_detached_tensor() }
        });
        let ys = conv2d_on(crate::Tier::current(), &xs, &weight, Some(&bias), 1, (1, 1))?;
        ys.sqr()?.sum_all()?.backward()
    };
    let expected = run(all)?;
    for tracked in (1..8).map(|bits| [bits & 1 > 0, bits & 2 > 0, bits & 4 > 0]) {
        let found = run(tracked)?;
        for (var, is_tracked) in vars.iter().zip(tracked) {
            assert_eq!(found.get(var).is_some(), is_tracked);
            if let Some(found) = found.get(var) {
                assert_same(found, expected.get(var).unwrap(), 1e-6);
            }
        }
    }
    Ok(())
}

#[test]
fn linear_layers_are_products_of_candle_with_their_gradients() -> Result<()> {
    let mut numbers = Numbers::new(8);
    let cases = [
        (vec![1, 1], 1),
        (vec![2, 7, 33], 50),
        (vec![77, 130], 9),
        (vec![2, 3, 5, 16], 49),
        (vec![1300, 20], 64),
    ];
    for (dims, outputs) in cases {
        let inputs = dims[dims.len() - 1];
        let xs = Var::from_tensor(&numbers.tensor(&dims)?)?;
        let weight = Var::from_tensor(&numbers.tensor(&[outputs, inputs])?)?;
        let bias = Var::from_tensor(&numbers.tensor(&[outputs])?)?;
        let mut out = dims.clone();
        out[dims.len() - 1] = outputs;
        let flat = xs.reshape(((), inputs))?;
        let plain = flat.matmul(&weight.t()?)?.broadcast_add(&bias)?.reshape(out)?;
        let pull = numbers.tensor(plain.dims())?;
        let expected = (&plain * &pull)?.sum_all()?.backward()?;
        for tier in tiers() {
            let ys = linear_on(tier, &xs, &weight, Some(&bias))?;
            assert_same(&ys, &plain, 1e-5);
            let found = (ys * &pull)?.sum_all()?.backward()?;
            for var in [&xs, &weight, &bias] {
                assert_same(found.get(var).unwrap(), expected.get(var).unwrap(), 1e-5);
            }
        }
    }
    Ok(())
}

#[test]
fn strided_inputs_and_halves_are_taken() -> Result<()> {
    let mut numbers = Numbers::new(9);
    let xs = Var::from_tensor(&numbers.tensor(&[40, 2, 10])?)?;
    let picture = Var::from_tensor(&numbers.tensor(&[1, 6, 10, 9])?)?;
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let weight = numbers.tensor(&[30, 10])?.to_dtype(dtype)?;
        let kernel = numbers.tensor(&[7, 6, 3, 3])?.to_dtype(dtype)?;
        for tier in tiers() {
            let compute = |weight: &Tensor, kernel: &Tensor| {
                let flat = linear_on(tier, &xs.transpose(0, 1)?, weight, None)?;
                let turned = picture.permute((0, 2, 3, 1))?;
                let conv = conv2d_on(tier, &turned, kernel, None, 1, (1, 1))?;
                flat.sqr()?.sum_all()? + conv.sqr()?.sum_all()?
            };
            let vars = [Var::from_tensor(&weight)?, Var::from_tensor(&kernel)?];
            let plain = [weight.to_dtype(DType::F32)?, kernel.to_dtype(DType::F32)?];
            let plain = [Var::from_tensor(&plain[0])?, Var::from_tensor(&plain[1])?];
            let found = compute(&vars[0], &vars[1])?.backward()?;
            let expected = compute(&plain[0], &plain[1])?.backward()?;
            for var in [&xs, &picture] {
                assert_same(found.get(var).unwrap(), expected.get(var).unwrap(), 0.0);
            }
            for (var, plain) in vars.iter().zip(&plain) {
                let expected = expected.get(plain).unwrap().to_dtype(dtype)?;
                let found = found.get(var).unwrap();
                assert_eq!(found.dtype(), dtype);
                let [found, expected] = [found, &expected].map(|x| x.to_dtype(DType::F32));
                assert_same(&found?, &expected?, 0.0);
            }
        }
    }
    Ok(())
}

#[test]
fn threads_change_nothing() -> Result<()> {
    let mut numbers = Numbers::new(10);
    for (dims, out, stride) in
        [([3, 40, 33, 20], 30, 1), ([2, 16, 16, 130], 64, 1), ([2, 21, 20, 9], 50, 2)]
    {
        let xs = Var::from_tensor(&numbers.tensor(&dims)?)?;
        let weight = Var::from_tensor(&numbers.tensor(&[out, dims[3], 3, 3])?)?;
        let bias = Var::from_tensor(&numbers.tensor(&[out])?)?;
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a pool").install(|| {
                let tier = crate::Tier::current();
                let ys = conv2d_on(tier, &xs, &weight, Some(&bias), stride, (1, 1))?;
                let gradients = ys.sqr()?.sum_all()?.backward()?;
                let all = [&xs, &weight, &bias].map(|var| values(gradients.get(var).unwrap()));
                let [dxs, dw, db] = all;
                Ok::<_, candle_core::Error>([values(&ys)?, dxs?, dw?, db?])
            })
        };
        let one = run(1)?;
        for threads in [2, 3, 7] {
            assert!(run(threads)? == one, "{dims:?} on {threads} threads");
        }
    }
    Ok(())
}

#[test]
fn wrong_shapes_and_dtypes_are_errors() -> Result<()> {
    let mut numbers = Numbers::new(7);
    let xs = numbers.tensor(&[1, 4, 4, 3])?;
    for (weight, stride) in [([2, 4, 3, 3], 1), ([2, 3, 7, 7], 1), ([2, 3, 3, 3], 0)] {
        let weight = numbers.tensor(&weight)?;
        assert!(super::conv2d(&xs, &weight, None, stride, (1, 1)).is_err());
    }
    let (weight, bias) = (numbers.tensor(&[2, 3, 3, 3])?, numbers.tensor(&[3])?);
    assert!(super::conv2d(&xs, &weight, Some(&bias), 1, (1, 1)).is_err());
    assert!(super::conv2d(&xs.to_dtype(DType::F64)?, &weight, None, 1, (1, 1)).is_err());
    assert!(super::linear(&xs, &weight, None).is_err());
    assert!(super::linear(&xs, &numbers.tensor(&[30, 11])?, None).is_err());
    Ok(())
}
