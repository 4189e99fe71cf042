use candle_core::{D, Result, Tensor, Var};

use super::{attention, attention_on};
use crate::testing::{Numbers, assert_same, tiers};

/// The definition, from candle's operations.
fn plain(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let split = |xs: &Tensor| {
        let (b, n, inner) = xs.dims3()?;
        xs.reshape((b, n, heads, inner / heads))?.transpose(1, 2)?.contiguous() // (b, heads, n, d)
    };
    let (q, k, v) = (split(q)?, split(k)?, split(v)?);
    let mut scores = (q.matmul(&k.t()?.contiguous()?)? * scale)?;
    if let Some(bias) = bias {
        scores = scores.broadcast_add(bias)?;
    }
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    weights.matmul(&v)?.transpose(1, 2)?.contiguous()?.flatten_from(2)
}

/// -∞ above the diagonal.
fn causal(n: usize) -> Result<Tensor> {
    let bias = (0..n * n).map(|at| if at % n > at / n { f32::NEG_INFINITY } else { 0.0 }).collect();
    Tensor::from_vec(bias, (n, n), &candle_core::Device::Cpu)
}

#[test]
fn values_and_gradients_are_those_of_the_definition() -> Result<()> {
    let mut numbers = Numbers::new(30);
    // (batch, queries, keys, heads, features of a head)
    let cases = [
        (1, 1, 1, 1, 1),
        (2, 7, 5, 3, 10),
        (1, 100, 77, 2, 40),
        (1, 50, 300, 1, 64),
        (2, 130, 130, 2, 49),
    ];
    for (b, n, m, heads, d) in cases {
        // Large enough for some queries to look at almost one key.
        let q = Var::from_tensor(&(numbers.tensor(&[b, n, heads * d])? * 4.0)?)?;
        let k = Var::from_tensor(&(numbers.tensor(&[b, m, heads * d])? * 4.0)?)?;
        let v = Var::from_tensor(&numbers.tensor(&[b, m, heads * d])?)?;
        let scale = (d as f64).powf(-0.5);
        let bias = if n == m { Some(causal(n)?) } else { None };
        let expected = plain(&q, &k, &v, heads, scale, bias.as_ref())?;
        let pull = numbers.tensor(expected.dims())?;
        let gradients = (&expected * &pull)?.sum_all()?.backward()?;
        for tier in tiers() {
            let found = attention_on(tier, &q, &k, &v, heads, scale, bias.as_ref())?;
            assert_same(&found, &expected, 1e-5);
            let found = (found * &pull)?.sum_all()?.backward()?;
            for var in [&q, &k, &v] {
                assert_same(found.get(var).unwrap(), gradients.get(var).unwrap(), 2e-5);
            }
        }
    }
    Ok(())
}

#[test]
fn queries_that_see_nothing_in_a_block_are_finite() -> Result<()> {
    let mut numbers = Numbers::new(31);
    // Only the last of 200 keys is seen: the first block of keys is all -∞.
    let (q, k) = (numbers.tensor(&[1, 3, 8])?, numbers.tensor(&[1, 200, 8])?);
    let bias = (0..600).map(|at| if at % 200 == 199 { 0.0 } else { f32::NEG_INFINITY }).collect();
    let bias = Tensor::from_vec(bias, (3, 200), q.device())?;
    for tier in tiers() {
        let out = attention_on(tier, &q, &k, &k, 2, 1.0, Some(&bias))?;
        let last = k.narrow(1, 199, 1)?.broadcast_as((1, 3, 8))?;
        assert_same(&out, &last.contiguous()?, 1e-6);
    }
    Ok(())
}

#[test]
fn wrong_shapes_are_errors() -> Result<()> {
    let mut numbers = Numbers::new(32);
    let (q, k) = (numbers.tensor(&[1, 3, 8])?, numbers.tensor(&[1, 5, 8])?);
    assert!(attention(&q, &k, &k, 3, 1.0, None).is_err());
    assert!(attention(&q, &k, &k, 0, 1.0, None).is_err());
    assert!(attention(&q, &k, &q, 2, 1.0, None).is_err());
    assert!(attention(&q, &k, &k, 2, 1.0, Some(&causal(3)?)).is_err());
    assert!(
        attention(&q, &numbers.tensor(&[1, 0, 8])?, &numbers.tensor(&[1, 0, 8])?, 2, 1.0, None)
            .is_err()
    );
    Ok(())
}
