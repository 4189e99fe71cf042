//! The operators at the sizes of Stable Diffusion 1.5 on a 512×512 picture, each beside candle's own.
//!
//! `cargo bench -p photomend-kernels`; `PHOTOMEND_ISA` and `RAYON_NUM_THREADS` choose the tier and the threads.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use kernels::{Activation, Affine, FrozenConv2d, PackedWeight};

#[global_allocator]
static ALLOCATOR: kernels::Allocator = kernels::Allocator;

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

/// Convolutions and linear layers with packed weights, forward and backward by the input.
mod frozen {
    use candle_core::Var;

    use super::*;

    /// As above, and a decoder block of the UNet and the autoencoder's widest pictures.
    const CONVOLUTIONS: [[usize; 5]; 8] = [
        [320, 320, 64, 3, 1],
        [640, 640, 32, 3, 1],
        [1280, 1280, 16, 3, 1],
        [1280, 1280, 8, 3, 1],
        [640, 320, 64, 3, 1],
        [128, 128, 512, 3, 1],
        [256, 256, 256, 3, 1],
        [320, 320, 64, 1, 1],
    ];

    /// A weight stored in a dtype, and activations as it takes them.
    fn operands(xs: &[usize], weight: &[usize], dtype: DType) -> Result<(Tensor, PackedWeight)> {
        let weight = PackedWeight::new(&random(weight).to_dtype(dtype)?, None)?;
        Ok((random(xs).to_dtype(weight.compute_dtype())?, weight))
    }

    fn convolution(
        bencher: Bencher<'_, '_>,
        [inputs, outputs, side, k, stride]: [usize; 5],
        dtype: DType,
    ) {
        let dims = ([1, side, side, inputs], [outputs, inputs, k, k]);
        let (xs, weight) = operands(&dims.0, &dims.1, dtype).expect("small tensors");
        let flop = 2 * inputs * outputs * k * k * side * side / (stride * stride);
        timed(bencher, flop, || FrozenConv2d::new(&weight, stride, k / 2).forward(&xs));
    }

    fn layer(bencher: Bencher<'_, '_>, [tokens, inputs, outputs]: [usize; 3], dtype: DType) {
        let (xs, weight) =
            operands(&[tokens, inputs], &[outputs, inputs], dtype).expect("small tensors");
        timed(bencher, 2 * tokens * inputs * outputs, || {
            kernels::linear_frozen(&xs, &weight, None)
        });
    }

    #[divan::bench(args = CONVOLUTIONS, sample_count = 5)]
    fn conv2d(bencher: Bencher<'_, '_>, sizes: [usize; 5]) {
        convolution(bencher, sizes, DType::F32);
    }

    #[divan::bench(args = CONVOLUTIONS, sample_count = 25)]
    fn conv2d_bf16(bencher: Bencher<'_, '_>, sizes: [usize; 5]) {
        convolution(bencher, sizes, DType::BF16);
    }

    #[divan::bench(args = LINEARS, sample_count = 25)]
    fn linear_bf16(bencher: Bencher<'_, '_>, sizes: [usize; 3]) {
        layer(bencher, sizes, DType::BF16);
    }

    #[divan::bench(args = CONVOLUTIONS, sample_count = 5)]
    fn conv2d_backward(bencher: Bencher<'_, '_>, [inputs, outputs, side, k, stride]: [usize; 5]) {
        let (xs, weight) = (random(&[1, side, side, inputs]), random(&[outputs, inputs, k, k]));
        let weight = PackedWeight::new(&weight, None).expect("a small weight");
        let xs = Var::from_tensor(&xs).expect("a small tensor");
        let ys = FrozenConv2d::new(&weight, stride, k / 2).forward(&xs).expect("shapes that fit");
        let flop = 2 * inputs * outputs * k * k * side * side / (stride * stride);
        timed(bencher, flop, || ys.backward()?.remove(&xs).ok_or(candle_core::Error::msg("none")));
    }

    #[divan::bench(args = LINEARS, sample_count = 5)]
    fn linear(bencher: Bencher<'_, '_>, sizes: [usize; 3]) {
        layer(bencher, sizes, DType::F32);
    }
}

mod conv2d {
    use super::*;

    #[divan::bench(args = CONVOLUTIONS, sample_count = 5)]
    fn ours(bencher: Bencher<'_, '_>, [inputs, outputs, side, k, stride]: [usize; 5]) {
        let (xs, weight) = (random(&[1, side, side, inputs]), random(&[outputs, inputs, k, k]));
        let flop = 2 * inputs * outputs * k * k * side * side / (stride * stride);
        let padding = (k / 2, k / 2);
        timed(bencher, flop, || kernels::conv2d(&xs, &weight, None, stride, padding));
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

    #[divan::bench(args = ATTENTIONS, sample_count = 25)]
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

/// What is bound by memory, at the size of the UNet's first blocks, in f32 and in bf16.
mod pointwise {
    use super::*;

    const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

    fn stored(dims: &[usize], dtype: DType) -> Tensor {
        random(dims).to_dtype(dtype).expect("a small tensor")
    }

    fn ones(channels: usize) -> Tensor {
        Tensor::ones(channels, DType::F32, &Device::Cpu).expect("a small tensor")
    }

    #[divan::bench(args = DTYPES, sample_count = 20)]
    fn group_norm_silu(bencher: Bencher<'_, '_>, dtype: DType) {
        let (xs, weight) = (stored(&[1, 64, 64, 320], dtype), ones(320));
        let affine = Affine { weight: &weight, bias: &weight, eps: 1e-5 };
        timed(bencher, xs.elem_count(), || {
            kernels::group_norm(&xs, 32, affine, Some(Activation::Silu))
        });
    }

    #[divan::bench(args = DTYPES, sample_count = 20)]
    fn group_norm_silu_backward(bencher: Bencher<'_, '_>, dtype: DType) {
        let (xs, weight) = (stored(&[1, 64, 64, 320], dtype), ones(320));
        let xs = Var::from_tensor(&xs).expect("a small tensor");
        let affine = Affine { weight: &weight, bias: &weight, eps: 1e-5 };
        let ys = kernels::group_norm(&xs, 32, affine, Some(Activation::Silu)).expect("a norm");
        timed(bencher, xs.elem_count(), || {
            Ok(ys.backward()?.remove(&xs).expect("a tracked input"))
        });
    }

    #[divan::bench(args = DTYPES, sample_count = 20)]
    fn layer_norm(bencher: Bencher<'_, '_>, dtype: DType) {
        let (xs, weight) = (stored(&[1, 4096, 320], dtype), ones(320));
        let affine = Affine { weight: &weight, bias: &weight, eps: 1e-5 };
        timed(bencher, xs.elem_count(), || kernels::layer_norm(&xs, affine));
    }

    #[divan::bench(args = DTYPES, sample_count = 20)]
    fn geglu(bencher: Bencher<'_, '_>, dtype: DType) {
        let xs = stored(&[1, 4096, 2560], dtype);
        timed(bencher, xs.elem_count() / 2, || kernels::geglu(&xs));
    }

    #[divan::bench(args = DTYPES, sample_count = 20)]
    fn add(bencher: Bencher<'_, '_>, dtype: DType) {
        let (a, b) = (stored(&[1, 64, 64, 320], dtype), stored(&[1, 64, 64, 320], dtype));
        timed(bencher, a.elem_count(), || kernels::add(&a, &b));
    }

    #[divan::bench(args = DTYPES, sample_count = 20)]
    fn concat_channels(bencher: Bencher<'_, '_>, dtype: DType) {
        let (a, b) = (stored(&[1, 64, 64, 320], dtype), stored(&[1, 64, 64, 320], dtype));
        timed(bencher, 2 * a.elem_count(), || kernels::concat_channels(&a, &b));
    }

    #[divan::bench(args = DTYPES, sample_count = 20)]
    fn upsample_nearest(bencher: Bencher<'_, '_>, dtype: DType) {
        let xs = stored(&[1, 32, 32, 640], dtype);
        timed(bencher, 4 * xs.elem_count(), || kernels::upsample_nearest(&xs, 64, 64));
    }

    /// Channels, side and the dtype of what is channels last.
    const LAYOUTS: [(usize, usize, DType); 4] = [
        (320, 64, DType::F32),
        (320, 64, DType::BF16),
        (3, 512, DType::F32),
        (3, 512, DType::BF16),
    ];

    #[divan::bench(args = LAYOUTS, sample_count = 20)]
    fn channels_last(bencher: Bencher<'_, '_>, (c, side, dtype): (usize, usize, DType)) {
        let xs = random(&[1, c, side, side]);
        timed(bencher, xs.elem_count(), || kernels::channels_last(&xs, dtype));
    }

    #[divan::bench(args = LAYOUTS, sample_count = 20)]
    fn channels_first(bencher: Bencher<'_, '_>, (c, side, dtype): (usize, usize, DType)) {
        let xs = stored(&[1, side, side, c], dtype);
        timed(bencher, xs.elem_count(), || kernels::channels_first(&xs));
    }

    #[divan::bench(sample_count = 10)]
    fn candle_gelu(bencher: Bencher<'_, '_>) {
        let xs = random(&[1, 4096, 1280]);
        timed(bencher, xs.elem_count(), || xs.gelu_erf());
    }
}
