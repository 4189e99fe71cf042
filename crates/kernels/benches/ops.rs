//! The operators at the sizes of Stable Diffusion 1.5 on a 512×512 picture, each beside candle's own.
//!
//! `cargo bench -p photomend-kernels`; `PHOTOMEND_ISA` and `RAYON_NUM_THREADS` choose the tier and the threads.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use kernels::{Activation, Affine};

fn main() {
    divan::main();
}

/// Channels in, channels out, side of the image, kernel, stride.
const CONVOLUTIONS: [[usize; 5]; 5] = [
    [320, 320, 64, 3, 1],
    [640, 640, 32, 3, 1],
    [1280, 1280, 16, 3, 1],
    [1280, 1280, 8, 3, 1],
    [320, 320, 64, 1, 1],
];
/// Tokens, features in, features out.
const LINEARS: [[usize; 3]; 4] =
    [[4096, 320, 320], [4096, 320, 2560], [1024, 640, 5120], [256, 1280, 10240]];
/// Queries, keys, heads, features of a head. The last is the autoencoder's.
const ATTENTIONS: [[usize; 4]; 6] = [
    [4096, 4096, 8, 40],
    [1024, 1024, 8, 80],
    [256, 256, 8, 160],
    [64, 64, 8, 160],
    [4096, 77, 8, 40],
    [4096, 4096, 1, 512],
];

fn random(dims: &[usize]) -> Tensor {
    Tensor::randn(0_f32, 1.0, dims, &Device::Cpu).expect("a small tensor")
}

fn timed(bencher: Bencher<'_, '_>, flop: usize, run: impl Fn() -> Result<Tensor>) {
    bencher
        .counter(ItemsCount::new(flop))
        .bench_local(|| black_box(run().expect("shapes that fit")));
}

mod conv2d {
    use super::*;

    #[divan::bench(args = CONVOLUTIONS, sample_count = 5)]
    fn ours(bencher: Bencher<'_, '_>, [inputs, outputs, side, k, stride]: [usize; 5]) {
        let (xs, weight) = (random(&[1, inputs, side, side]), random(&[outputs, inputs, k, k]));
        let flop = 2 * inputs * outputs * k * k * side * side / (stride * stride);
        timed(bencher, flop, || kernels::conv2d(&xs, &weight, None, stride, k / 2));
    }

    #[divan::bench(args = CONVOLUTIONS, sample_count = 5)]
    fn candle(bencher: Bencher<'_, '_>, [inputs, outputs, side, k, stride]: [usize; 5]) {
        let (xs, weight) = (random(&[1, inputs, side, side]), random(&[outputs, inputs, k, k]));
        let flop = 2 * inputs * outputs * k * k * side * side / (stride * stride);
        timed(bencher, flop, || xs.conv2d(&weight, k / 2, stride, 1, 1));
    }
}

mod linear {
    use super::*;

    #[divan::bench(args = LINEARS, sample_count = 5)]
    fn ours(bencher: Bencher<'_, '_>, [tokens, inputs, outputs]: [usize; 3]) {
        let (xs, weight) = (random(&[tokens, inputs]), random(&[outputs, inputs]));
        timed(bencher, 2 * tokens * inputs * outputs, || kernels::linear(&xs, &weight, None));
    }

    #[divan::bench(args = LINEARS, sample_count = 5)]
    fn candle(bencher: Bencher<'_, '_>, [tokens, inputs, outputs]: [usize; 3]) {
        let (xs, weight) = (random(&[tokens, inputs]), random(&[outputs, inputs]));
        timed(bencher, 2 * tokens * inputs * outputs, || xs.matmul(&weight.t()?));
    }
}

mod attention {
    use super::*;

    fn inputs([n, m, heads, d]: [usize; 4], dtype: DType) -> Result<[Tensor; 3]> {
        let dims = [[1, n, heads * d], [1, m, heads * d], [1, m, heads * d]];
        let [q, k, v] = dims.map(|dims| random(&dims).to_dtype(dtype));
        Ok([q?, k?, v?])
    }

    fn forward(bencher: Bencher<'_, '_>, sizes: [usize; 4], dtype: DType) {
        let [q, k, v] = inputs(sizes, dtype).expect("small tensors");
        let [n, m, heads, d] = sizes;
        timed(bencher, 4 * heads * n * m * d, || kernels::attention(&q, &k, &v, heads, 0.1, None));
    }

    #[divan::bench(args = ATTENTIONS, sample_count = 7)]
    fn ours(bencher: Bencher<'_, '_>, sizes: [usize; 4]) {
        forward(bencher, sizes, DType::F32);
    }

    #[divan::bench(args = ATTENTIONS, sample_count = 5)]
    fn ours_bf16(bencher: Bencher<'_, '_>, sizes: [usize; 4]) {
        forward(bencher, sizes, DType::BF16);
    }

    #[divan::bench(args = ATTENTIONS, sample_count = 3)]
    fn ours_forward_and_backward(bencher: Bencher<'_, '_>, sizes: [usize; 4]) {
        let inputs = inputs(sizes, DType::F32).expect("small tensors");
        let [q, k, v] = inputs.map(|input| Var::from_tensor(&input).expect("a small tensor"));
        let [n, m, heads, d] = sizes;
        timed(bencher, 14 * heads * n * m * d, || {
            let out = kernels::attention(&q, &k, &v, heads, 0.1, None)?;
            out.sum_all()?.backward()?.get(&q).map_or_else(|| Ok(out), |grad| Ok(grad.clone()))
        });
    }

    #[divan::bench(args = ATTENTIONS, sample_count = 3)]
    fn candle(bencher: Bencher<'_, '_>, [n, m, heads, d]: [usize; 4]) {
        let (q, k, v) = (random(&[heads, n, d]), random(&[heads, m, d]), random(&[heads, m, d]));
        timed(bencher, 4 * heads * n * m * d, || {
            let scores = (q.matmul(&k.t()?)? * 0.1)?;
            let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
            weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?.matmul(&v)
        });
    }
}

mod pointwise {
    use super::*;

    #[divan::bench(sample_count = 10)]
    fn group_norm_silu(bencher: Bencher<'_, '_>) {
        let xs = random(&[1, 320, 64, 64]);
        let weight = Tensor::ones(320, DType::F32, &Device::Cpu).expect("a small tensor");
        let affine = Affine { weight: &weight, bias: &weight, eps: 1e-5 };
        timed(bencher, xs.elem_count(), || {
            kernels::group_norm(&xs, 32, affine, Some(Activation::Silu))
        });
    }

    #[divan::bench(sample_count = 10)]
    fn layer_norm(bencher: Bencher<'_, '_>) {
        let xs = random(&[1, 4096, 320]);
        let weight = Tensor::ones(320, DType::F32, &Device::Cpu).expect("a small tensor");
        let affine = Affine { weight: &weight, bias: &weight, eps: 1e-5 };
        timed(bencher, xs.elem_count(), || kernels::layer_norm(&xs, affine));
    }

    #[divan::bench(sample_count = 10)]
    fn geglu(bencher: Bencher<'_, '_>) {
        let xs = random(&[1, 4096, 2560]);
        timed(bencher, xs.elem_count() / 2, || kernels::geglu(&xs));
    }

    #[divan::bench(sample_count = 10)]
    fn candle_gelu(bencher: Bencher<'_, '_>) {
        let xs = random(&[1, 4096, 1280]);
        timed(bencher, xs.elem_count(), || xs.gelu_erf());
    }
}
