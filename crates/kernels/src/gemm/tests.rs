use super::{Bias, Matrix, Size, gemm};
use crate::isa::Tier;
use crate::testing::{Numbers, assert_close, tiers};

/// `A · B + bias` in f64, A `(rows, depth)`, B `(depth, columns)`.
fn reference(size: Size, a: &[f32], b: &[f32], bias: impl Fn(usize, usize) -> f32) -> Vec<f64> {
    let Size { rows, columns, depth } = size;
    let mut c = Vec::with_capacity(rows * columns);
    for i in 0..rows {
        for j in 0..columns {
            let products =
                (0..depth).map(|k| f64::from(a[i * depth + k]) * f64::from(b[k * columns + j]));
            c.push(products.sum::<f64>() + f64::from(bias(i, j)));
        }
    }
    c
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|at| values[at % rows * columns + at / rows]).collect()
}

#[test]
fn products_of_every_tier_and_layout_agree_with_f64() {
    let mut numbers = Numbers::new(1);
    let shapes =
        [(1, 1, 1), (8, 48, 256), (9, 49, 257), (3, 500, 17), (77, 33, 600), (330, 100, 70)];
    for (rows, columns, depth) in shapes {
        let size = Size { rows, columns, depth };
        let (a, b) = (numbers.take(rows * depth), numbers.take(depth * columns));
        let (row_bias, column_bias) = (numbers.take(rows), numbers.take(columns));
        let (at, bt) = (transposed(&a, rows, depth), transposed(&b, depth, columns));
        for tier in tiers() {
            let mut c = vec![f32::NAN; rows * columns];
            let a_rows = Matrix::new(&a, (rows, depth), (depth, 1));
            let a_columns = Matrix::new(&at, (rows, 1), (depth, rows));
            let b_rows = Matrix::new(&b, (columns, 1), (depth, columns));
            let b_columns = Matrix::new(&bt, (columns, depth), (depth, 1));

            gemm(tier, size, &a_rows, &b_rows, Bias::None, columns, &mut c);
            assert_close(&c, &reference(size, &a, &b, |_, _| 0.0), 1e-5);
            let first = c.clone();
            gemm(tier, size, &a_columns, &b_columns, Bias::None, columns, &mut c);
            assert_eq!(c, first, "{tier}: packing does not change the arithmetic");
            gemm(tier, size, &a_rows, &b_columns, Bias::Row(&row_bias), columns, &mut c);
            assert_close(&c, &reference(size, &a, &b, |i, _| row_bias[i]), 1e-5);
            gemm(tier, size, &a_columns, &b_rows, Bias::Column(&column_bias), columns, &mut c);
            assert_close(&c, &reference(size, &a, &b, |_, j| column_bias[j]), 1e-5);
        }
    }
}

#[test]
fn halves_are_exact_while_they_are_packed() {
    let mut numbers = Numbers::new(2);
    let size = Size { rows: 20, columns: 50, depth: 75 };
    let a = numbers.take(20 * 75);
    let bf16: Vec<half::bf16> =
        numbers.take(50 * 75).into_iter().map(half::bf16::from_f32).collect();
    let f16: Vec<half::f16> = bf16.iter().map(|&x| half::f16::from_f32(x.to_f32())).collect();
    let f32s: Vec<f32> = bf16.iter().map(|x| x.to_f32()).collect();
    let f16_as_f32: Vec<f32> = f16.iter().map(|x| x.to_f32()).collect();
    for tier in tiers() {
        let product = |run: &dyn Fn(&Matrix<'_, f32>, &mut [f32])| {
            let mut c = vec![0.0; 1000];
            run(&Matrix::new(&a, (20, 75), (75, 1)), &mut c);
            c
        };
        let (span, depth) = ((50, 75), (75, 1));
        let expected = product(&|a, c| {
            gemm(tier, size, a, &Matrix::new(&f32s, span, depth), Bias::None, 50, c);
        });
        let found = product(&|a, c| {
            gemm(tier, size, a, &Matrix::new(&bf16, span, depth), Bias::None, 50, c);
        });
        assert_eq!(found, expected, "{tier}");
        let expected = product(&|a, c| {
            gemm(tier, size, a, &Matrix::new(&f16_as_f32, span, depth), Bias::None, 50, c);
        });
        let found = product(&|a, c| {
            gemm(tier, size, a, &Matrix::new(&f16, span, depth), Bias::None, 50, c);
        });
        assert_eq!(found, expected, "{tier}");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let mut numbers = Numbers::new(3);
    let size = Size { rows: 130, columns: 700, depth: 300 };
    let (a, b) = (numbers.take(130 * 300), numbers.take(300 * 700));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut c = vec![0.0; 130 * 700];
        pool.install(|| {
            let a = Matrix::new(&a, (130, 300), (300, 1));
            let b = Matrix::new(&b, (700, 1), (300, 700));
            gemm(Tier::current(), size, &a, &b, Bias::None, 700, &mut c);
        });
        c
    };
    assert_eq!(run(1), run(3));
}
