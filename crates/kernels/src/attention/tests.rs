use candle_core::{D, DType, Result, Tensor, Var};

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

/// Batch, queries, keys, heads, features of a head.
const CASES: [[usize; 5]; 8] = [
    [1, 1, 1, 1, 1],
    [2, 7, 5, 3, 10],
    [1, 100, 77, 2, 40],
    [1, 50, 300, 1, 64],
    [2, 130, 130, 2, 49],
    [1, 33, 290, 3, 33],
    [1, 20, 40, 1, 150],
    // So many heads that one task has all of a head's keys.
    [2, 140, 270, 16, 7],
];

/// Queries and keys that differ enough for some queries to look at almost one key, and such that no score is large.
const LENGTHS: [f64; 2] = [4.0, 0.7];

/// Queries, keys and values, representable in `dtype`; the former two are multiplied by `length`.
fn inputs(
    numbers: &mut Numbers,
    [b, n, m, heads, d]: [usize; 5],
    length: f64,
    dtype: DType,
) -> Result<[Var; 3]> {
    let mut random = |rows: usize, size: f64| {
        Var::from_tensor(&(numbers.tensor(&[b, rows, heads * d])? * size)?.to_dtype(dtype)?)
    };
    Ok([random(n, length)?, random(m, length)?, random(m, 1.0)?])
}

/// The output of attention and the gradients of its inputs, all f32, where `pull` is the gradient of the output.
fn with_gradients(
    vars: &[Var; 3],
    pull: &Tensor,
    run: impl Fn([&Tensor; 3]) -> Result<Tensor>,
) -> Result<[Tensor; 4]> {
    let [q, k, v] = vars;
    let out = run([q, k, v])?;
    let gradients = (&out * &pull.to_dtype(out.dtype())?)?.sum_all()?.backward()?;
    let f32 = |tensor: &Tensor| tensor.to_dtype(DType::F32);
    let gradient = |var: &Var| f32(gradients.get(var).expect("a gradient"));
    Ok([f32(&out)?, gradient(q)?, gradient(k)?, gradient(v)?])
}

#[test]
fn values_and_gradients_are_those_of_the_definition() -> Result<()> {
    let mut numbers = Numbers::new(30);
    for (dtype, tolerances) in [(DType::F32, [1e-5, 2e-5]), (DType::BF16, [8e-3, 1.5e-2])] {
        for (sizes, length) in CASES.into_iter().flat_map(|sizes| LENGTHS.map(|l| (sizes, l))) {
            let [b, n, m, heads, d] = sizes;
            let vars = inputs(&mut numbers, sizes, length, dtype)?;
            let scale = (d as f64).powf(-0.5);
            let bias = if n == m { Some(causal(n)?) } else { None };
            let pull = numbers.tensor(&[b, n, heads * d])?.to_dtype(dtype)?;
            let in_f32 = vars.each_ref().map(|var| Var::from_tensor(&var.to_dtype(DType::F32)?));
            let [q, k, v] = in_f32;
            let expected = with_gradients(&[q?, k?, v?], &pull, |[q, k, v]| {
                plain(q, k, v, heads, scale, bias.as_ref())
            })?;
            for tier in tiers() {
                let found = with_gradients(&vars, &pull, |[q, k, v]| {
                    attention_on(tier, q, k, v, heads, scale, bias.as_ref())
                })?;
                for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    assert_same(found, expected, tolerances[usize::from(at > 0)]);
                }
            }
        }
    }
    Ok(())
}

/// What rounding the weights and the output to bf16 costs, and no more.
#[test]
fn bf16_rounds_weights_and_output_only() -> Result<()> {
    let mut numbers = Numbers::new(33);
    let sizes @ [_, _, _, heads, d] = [1, 64, 200, 2, 40];
    let scale = (d as f64).powf(-0.5);
    let f32 = |tensor: &Tensor| tensor.to_dtype(DType::F32);
    for length in LENGTHS {
        let [q, k, v] = inputs(&mut numbers, sizes, length, DType::BF16)?;
        let exact = plain(&f32(&q)?, &f32(&k)?, &f32(&v)?, heads, scale, None)?;
        let error = |found: &Tensor| -> Result<f32> {
            (f32(found)? - &exact)?.sqr()?.mean_all()?.sqrt()?.to_scalar()
        };
        let rounded = error(&exact.to_dtype(DType::BF16)?)?;
        for tier in tiers() {
            let found = error(&attention_on(tier, &q, &k, &v, heads, scale, None)?)?;
            // Weights are rounded by as much as outputs; averaged over keys, that costs less than rounding an output.
            assert!(found <= 1.5 * rounded, "{tier}: {found}, against {rounded} of the output");
        }
    }
    Ok(())
}

#[test]
fn views_of_one_tensor_are_read_where_they_lie() -> Result<()> {
    let mut numbers = Numbers::new(34);
    let (b, n, heads, d) = (2, 70, 2, 24);
    for dtype in [DType::F32, DType::BF16] {
        let fused = numbers.tensor(&[b, n + 3, 3 * heads * d])?.to_dtype(dtype)?;
        let pull = numbers.tensor(&[b, n, heads * d])?.to_dtype(dtype)?;
        for tier in tiers() {
            let run = |copied: bool| -> Result<[Tensor; 2]> {
                let fused = Var::from_tensor(&fused)?;
                let part = |at: usize| {
                    let part = fused.narrow(1, 2, n)?.narrow(2, at * heads * d, heads * d)?;
                    if copied { part.contiguous() } else { Ok(part) }
                };
                let out = attention_on(tier, &part(0)?, &part(1)?, &part(2)?, heads, 0.3, None)?;
                assert!(out.is_contiguous() && out.dtype() == dtype);
                let gradients = (&out * &pull)?.sum_all()?.backward()?;
                let gradient = gradients.get(&fused).expect("a gradient");
                Ok([out.to_dtype(DType::F32)?, gradient.to_dtype(DType::F32)?])
            };
            for (view, copy) in run(false)?.iter().zip(&run(true)?) {
                assert_same(view, copy, 0.0);
            }
            // Features that are not neighbours are copied.
            let turned = numbers.tensor(&[b, heads * d, n])?.to_dtype(dtype)?.transpose(1, 2)?;
            let copy = turned.contiguous()?;
            let found = attention_on(tier, &turned, &turned, &turned, heads, 0.3, None)?;
            let expected = attention_on(tier, &copy, &copy, &copy, heads, 0.3, None)?;
            assert_same(&found.to_dtype(DType::F32)?, &expected.to_dtype(DType::F32)?, 0.0);
        }
    }
    Ok(())
}

#[test]
fn scales_may_be_zero_or_negative() -> Result<()> {
    let mut numbers = Numbers::new(35);
    let [q, k, v] = inputs(&mut numbers, [1, 5, 40, 1, 16], LENGTHS[0], DType::BF16)?;
    let f32 = |tensor: &Tensor| tensor.to_dtype(DType::F32);
    for scale in [0.0, -0.25] {
        let expected = plain(&f32(&q)?, &f32(&k)?, &f32(&v)?, 1, scale, None)?;
        for tier in tiers() {
            let found = attention_on(tier, &q, &k, &v, 1, scale, None)?;
            assert_same(&f32(&found)?, &expected, 8e-3);
        }
    }
    Ok(())
}

#[test]
fn what_is_not_a_number_is_seen() -> Result<()> {
    let mut numbers = Numbers::new(36);
    for (dtype, length) in
        [DType::F32, DType::BF16].into_iter().flat_map(|d| LENGTHS.map(|l| (d, l)))
    {
        let [q, k, v] = inputs(&mut numbers, [1, 3, 40, 1, 16], length, dtype)?;
        let broken = (k.narrow(1, 0, 1)? * f64::NAN)?;
        let k = Tensor::cat(&[&broken, &k.narrow(1, 1, 39)?], 1)?;
        for tier in tiers() {
            let found = attention_on(tier, &q, &k, &v, 1, 0.3, None)?.to_dtype(DType::F32)?;
            assert!(found.flatten_all()?.to_vec1::<f32>()?.iter().all(|x| x.is_nan()), "{tier}");
        }
    }
    Ok(())
}

/// The result must not depend on how many threads there are.
#[test]
fn threads_do_not_change_a_bit() -> Result<()> {
    let mut numbers = Numbers::new(37);
    for dtype in [DType::F32, DType::BF16] {
        let vars = inputs(&mut numbers, [1, 150, 300, 2, 20], LENGTHS[1], dtype)?;
        let pull = numbers.tensor(&[1, 150, 40])?.to_dtype(dtype)?;
        for tier in tiers() {
            let on = |threads: usize| -> Result<[Tensor; 4]> {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.expect("a pool").install(|| {
                    with_gradients(&vars, &pull, |[q, k, v]| {
                        attention_on(tier, q, k, v, 2, 0.3, None)
                    })
                })
            };
            for (one, three) in on(1)?.iter().zip(&on(3)?) {
                assert_same(one, three, 0.0);
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
    assert!(attention(&q, &k.to_dtype(DType::BF16)?, &k, 2, 1.0, None).is_err());
    assert!(attention(&q.to_dtype(DType::F16)?, &k, &k, 2, 1.0, None).is_err());
    assert!(attention(&q, &k, &q, 2, 1.0, None).is_err());
    assert!(attention(&q, &k, &k, 2, 1.0, Some(&causal(3)?)).is_err());
    assert!(
        attention(&q, &numbers.tensor(&[1, 0, 8])?, &numbers.tensor(&[1, 0, 8])?, 2, 1.0, None)
            .is_err()
    );
    Ok(())
}

#[test]
fn what_lies_side_by_side_gives_the_same() -> Result<()> {
    let mut numbers = Numbers::new(77);
    for dtype in [DType::F32, DType::BF16] {
        let qkv = Var::from_tensor(&numbers.tensor(&[2, 3, 4, 36])?.to_dtype(dtype)?)?;
        let kv = Var::from_tensor(&numbers.tensor(&[2, 5, 24])?.to_dtype(dtype)?)?;
        let pull = numbers.tensor(&[2, 12, 12])?.to_dtype(dtype)?;
        let flat = qkv.reshape((2, 12, 36))?;
        let part = |at: usize| flat.narrow(2, 12 * at, 12);
        let half = |at: usize| kv.narrow(2, 12 * at, 12);
        let gradients = |output: &Tensor, of: &Var| {
            let output = output.reshape((2, 12, 12))?;
            let store = (output * &pull)?.sum_all()?.backward()?;
            store.get(of).expect("a gradient").to_dtype(DType::F32)
        };
        let own = attention(&part(0)?, &part(1)?, &part(2)?, 3, 0.4, None)?;
        let joined = super::self_attention(&qkv, 3, 0.4)?;
        assert_eq!(joined.dims(), [2, 3, 4, 12]);
        let values = |xs: &Tensor| xs.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>();
        assert_eq!(values(&joined)?, values(&own)?);
        assert_same(&gradients(&joined, &qkv)?, &gradients(&own, &qkv)?, 1e-6);

        let other = attention(&part(0)?, &half(0)?, &half(1)?, 3, 0.4, None)?;
        let queries = part(0)?.reshape((2, 3, 4, 12))?;
        let joined = super::cross_attention(&queries, &kv, 3, 0.4)?;
        assert_eq!(values(&joined)?, values(&other)?);
        for variable in [&qkv, &kv] {
            let expected = gradients(&other, variable)?;
            assert_same(&gradients(&joined, variable)?, &expected, 1e-6);
        }
    }
    Ok(())
}
