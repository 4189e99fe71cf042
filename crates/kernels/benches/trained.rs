//! Layers whose weights are trained, at the sizes of small U-Nets: forward, and each gradient.
//!
//! `cargo bench -p photomend-kernels --bench trained`; items are floating point operations of the direct sum.

use candle_core::{Device, Tensor, Var};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use kernels::Recording;

#[global_allocator]
static ALLOCATOR: kernels::Allocator = kernels::Allocator;

fn main() {
    divan::main();
}

/// Images, side, channels in and out, stride.
const CONVOLUTIONS: [[usize; 5]; 7] = [
    [16, 128, 32, 32, 1],
    [16, 64, 64, 64, 1],
    [16, 32, 128, 128, 1],
    [16, 16, 192, 192, 1],
    [16, 128, 16, 16, 1],
    [16, 128, 4, 32, 1],
    [16, 128, 32, 64, 2],
];

fn random(dims: &[usize]) -> Tensor {
    Tensor::randn(0_f32, 1.0, dims, &Device::Cpu).expect("a small tensor")
}

fn flop([b, side, c, n, stride]: [usize; 5]) -> usize {
    2 * 9 * b * side * side * c * n / (stride * stride)
}

fn inputs([b, side, c, n, _]: [usize; 5]) -> (Tensor, Tensor) {
    (random(&[b, side, side, c]), random(&[n, c, 3, 3]))
}

#[divan::bench(args = CONVOLUTIONS, sample_count = 7)]
fn forward(bencher: Bencher<'_, '_>, size: [usize; 5]) {
    let (xs, weight) = inputs(size);
    bencher
        .counter(ItemsCount::new(flop(size)))
        .bench_local(|| black_box(kernels::conv2d(&xs, &weight, None, size[4], (1, 1))));
}

#[divan::bench(args = CONVOLUTIONS, sample_count = 7)]
fn by_input(bencher: Bencher<'_, '_>, size: [usize; 5]) {
    let (xs, weight) = inputs(size);
    backward(bencher, size, &Var::from_tensor(&xs).expect("a small tensor"), &weight);
}

#[divan::bench(args = CONVOLUTIONS, sample_count = 7)]
fn by_weight(bencher: Bencher<'_, '_>, size: [usize; 5]) {
    let (xs, weight) = inputs(size);
    backward(bencher, size, &xs, &Var::from_tensor(&weight).expect("a small tensor"));
}

/// The gradients by what is tracked.
fn backward(bencher: Bencher<'_, '_>, size: [usize; 5], xs: &Tensor, weight: &Tensor) {
    let run = || kernels::conv2d(xs, weight, None, size[4], (1, 1));
    let pull = random(run().expect("shapes that fit").dims());
    bencher
        .counter(ItemsCount::new(flop(size)))
        .with_inputs(|| Recording::of(run).expect("shapes that fit"))
        .bench_local_values(|(ys, recording)| black_box(recording.backward(&ys, &pull)));
}
