use candle_core::{DType, Result, Var};

use super::linear_on;
use crate::testing::{Numbers, assert_same, tiers};

#[test]
fn values_and_gradients_are_those_of_candles_product() -> Result<()> {
    let mut numbers = Numbers::new(8);
    let cases =
        [(vec![1, 1], 1), (vec![2, 7, 33], 50), (vec![77, 130], 9), (vec![2, 3, 5, 16], 49)];
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
            let ys = linear_on(
                tier,
                &xs,
                &weight.as_detached_tensor(),
                Some(&bias.as_detached_tensor()),
            )?;
            assert_same(&ys, &plain, 1e-5);
            let found = (ys * &pull)?.sum_all()?.backward()?;
            assert!(found.get(&weight).is_none());
            assert_same(found.get(&xs).unwrap(), expected.get(&xs).unwrap(), 1e-5);
        }
    }
    Ok(())
}

#[test]
fn strided_inputs_and_halves_are_taken() -> Result<()> {
    let mut numbers = Numbers::new(9);
    let xs = numbers.tensor(&[40, 2, 10])?.transpose(0, 1)?;
    let weight = numbers.tensor(&[30, 10])?;
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let stored = weight.to_dtype(dtype)?;
        for tier in tiers() {
            let found = linear_on(tier, &xs, &stored, None)?;
            let expected = linear_on(tier, &xs.contiguous()?, &stored.to_dtype(DType::F32)?, None)?;
            assert_same(&found, &expected, 0.0);
        }
    }
    assert!(super::linear(&xs, &numbers.tensor(&[30, 11])?, None).is_err());
    Ok(())
}
