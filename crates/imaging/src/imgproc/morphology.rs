//! Grey-level morphology on bytes, as OpenCV's `erode`, `dilate` and `morphologyEx`.
//!
//! Pixels beyond the edge never win, as with OpenCV's default border. Rectangles are separable, and
//! either direction is done by doubling: the extremum over 2ⁿ pixels is that of two windows of half the
//! length, and two windows of 2ⁿ that overlap cover any length below 2ⁿ⁺¹; so a window of k pixels costs
//! about log₂ k vector operations. Every other shape is a union of horizontal stretches: rows are kept
//! with their doubled windows, and each stretch picks two of these. Unlike van Herk's algorithm this needs
//! no shuffling within vectors.

use rayon::prelude::*;

use super::simd::vectorized;
use super::structuring_element::{ElementRun, StructuringElement};
use crate::plane::Plane;

/// Rows that one task filters, at least.
const STRIP: usize = 128;

/// Bytes that the inner loop handles at a time: four 32-byte vectors.
const BLOCK: usize = 128;

/// Bytes of working memory a task aims at, to stay within a core's own cache.
const CACHE: usize = 192 << 10;

/// What [`morphology`] computes; ⊖ is erosion, ⊕ is dilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MorphOp {
    /// The least value under the element.
    Erode,
    /// The greatest value under the element.
    Dilate,
    /// ⊖ then ⊕: removes what is bright and smaller than the element.
    Open,
    /// ⊕ then ⊖: fills what is dark and smaller than the element.
    Close,
    /// ⊕ minus ⊖: edges.
    Gradient,
    /// The picture minus its opening: bright details.
    TopHat,
    /// The closing minus the picture: dark details.
    BlackHat,
}

/// Applies `op`; erosions and dilations inside it are each repeated `iterations` times.
///
/// With 0 iterations erosion and dilation leave the picture as it is.
#[must_use]
pub fn morphology(
    src: &Plane<u8>,
    op: MorphOp,
    element: &StructuringElement,
    iterations: usize,
) -> Plane<u8> {
    let erode = |src: &Plane<u8>| repeated::<Least>(src, element, iterations);
    let dilate = |src: &Plane<u8>| repeated::<Greatest>(src, element, iterations);
    match op {
        MorphOp::Erode => erode(src),
        MorphOp::Dilate => dilate(src),
        MorphOp::Open => dilate(&erode(src)),
        MorphOp::Close => erode(&dilate(src)),
        MorphOp::Gradient => difference(
            dilate(src),
            &erode(src),
            #[inline(always)]
            |high, low| (high, low),
        ),
        MorphOp::TopHat => difference(
            dilate(&erode(src)),
            src,
            #[inline(always)]
            |open, src| (src, open),
        ),
        MorphOp::BlackHat => difference(
            erode(&dilate(src)),
            src,
            #[inline(always)]
            |close, src| (close, src),
        ),
    }
}

/// The least value under `element` around every pixel.
#[must_use]
pub fn erode(src: &Plane<u8>, element: &StructuringElement) -> Plane<u8> {
    morphology(src, MorphOp::Erode, element, 1)
}

/// The greatest value under `element` around every pixel.
#[must_use]
pub fn dilate(src: &Plane<u8>, element: &StructuringElement) -> Plane<u8> {
    morphology(src, MorphOp::Dilate, element, 1)
}

/// Erosion, then dilation.
#[must_use]
pub fn open(src: &Plane<u8>, element: &StructuringElement) -> Plane<u8> {
    morphology(src, MorphOp::Open, element, 1)
}

/// Dilation, then erosion.
#[must_use]
pub fn close(src: &Plane<u8>, element: &StructuringElement) -> Plane<u8> {
    morphology(src, MorphOp::Close, element, 1)
}

/// Dilation minus erosion.
#[must_use]
pub fn morphological_gradient(src: &Plane<u8>, element: &StructuringElement) -> Plane<u8> {
    morphology(src, MorphOp::Gradient, element, 1)
}

/// The picture minus its opening.
#[must_use]
pub fn top_hat(src: &Plane<u8>, element: &StructuringElement) -> Plane<u8> {
    morphology(src, MorphOp::TopHat, element, 1)
}

/// The closing minus the picture.
#[must_use]
pub fn black_hat(src: &Plane<u8>, element: &StructuringElement) -> Plane<u8> {
    morphology(src, MorphOp::BlackHat, element, 1)
}

/// The lesser or the greater of two bytes.
trait Extremum {
    /// What never wins.
    const NEUTRAL: u8;
    fn pick(a: u8, b: u8) -> u8;
}

struct Least;
impl Extremum for Least {
    const NEUTRAL: u8 = 255;
    #[inline(always)]
    fn pick(a: u8, b: u8) -> u8 {
        a.min(b)
    }
}

struct Greatest;
impl Extremum for Greatest {
    const NEUTRAL: u8 = 0;
    #[inline(always)]
    fn pick(a: u8, b: u8) -> u8 {
        a.max(b)
    }
}

/// `minuend − subtrahend`, each named by `order(a, b)`; the result overwrites `a`.
fn difference(
    mut a: Plane<u8>,
    b: &Plane<u8>,
    order: impl Fn(u8, u8) -> (u8, u8) + Sync,
) -> Plane<u8> {
    let chunks = a.data_mut().par_chunks_mut(1 << 16).zip(b.data().par_chunks(1 << 16));
    chunks.for_each(|(a, b)| {
        vectorized(
            #[inline(always)]
            || {
                for (a, &b) in a.iter_mut().zip(b) {
                    let (minuend, subtrahend) = order(*a, b);
                    *a = minuend.saturating_sub(subtrahend);
                }
            },
        );
    });
    a
}

fn repeated<E: Extremum>(
    src: &Plane<u8>,
    element: &StructuringElement,
    iterations: usize,
) -> Plane<u8> {
    if iterations == 0 || src.data().is_empty() {
        return src.clone();
    }
    if element.is_rect() {
        // Repeating a rectangle is one larger rectangle, and none need reach beyond the picture.
        let grown = |side: usize, most: usize| {
            (side - 1).saturating_mul(iterations).saturating_add(1).min(2 * most - 1)
        };
        let (width, height) = element.size();
        return by_rect::<E>(src, grown(width, src.width()), grown(height, src.height()));
    }
    let mut out = by_runs::<E>(src, element);
    for _ in 1..iterations {
        out = by_runs::<E>(&out, element);
    }
    out
}

/// Columns `from ..` of a row, where `from` may be negative; beyond the row, the neutral value.
fn copy_padded<E: Extremum>(row: &[u8], from: isize, out: &mut [u8]) {
    let before = (-from).clamp(0, out.len() as isize) as usize;
    let start = (from.max(0) as usize).min(row.len());
    let count = (row.len() - start).min(out.len() - before);
    out[..before].fill(E::NEUTRAL);
    out[before..before + count].copy_from_slice(&row[start..start + count]);
    out[before + count..].fill(E::NEUTRAL);
}

/// `out[i] = pick(a[i], b[i])` over the shortest of the three.
#[inline(always)]
fn pick_all<E: Extremum>(a: &[u8], b: &[u8], out: &mut [u8]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = E::pick(a, b);
    }
}

/// `a[i] = pick(a[i], b[i])` over the shorter of the two.
#[inline(always)]
fn pick_into<E: Extremum>(a: &mut [u8], b: &[u8]) {
    for (a, &b) in a.iter_mut().zip(b) {
        *a = E::pick(*a, b);
    }
}

/// A `width × height` window, both odd.
fn by_rect<E: Extremum>(src: &Plane<u8>, width: usize, height: usize) -> Plane<u8> {
    let (columns, rows) = src.size();
    let mut out = Plane::filled(columns, rows, 0u8);
    let strip = STRIP.max(3 * height);
    // Enough columns to make the margins cheap, few enough for the tile to stay in cache.
    let tile = (CACHE / (strip + height)).max(4 * width).next_multiple_of(BLOCK);
    out.data_mut().par_chunks_mut(strip * columns).enumerate().for_each(|(index, out)| {
        let top = index * strip;
        let count = out.len() / columns;
        let mut buffer = vec![0u8; (count + height - 1) * tile];
        let mut row = vec![0u8; tile + width - 1];
        let mut spare = row.clone();
        for left in (0..columns).step_by(tile) {
            let wide = tile.min(columns - left);
            // 1. Row filter, into the tile with its margin of rows above and below.
            for (y, target) in buffer.chunks_exact_mut(tile).enumerate() {
                let Some(y) = (top + y).checked_sub(height / 2).filter(|&y| y < rows) else {
                    target.fill(E::NEUTRAL);
                    continue;
                };
                let margin = left as isize - (width / 2) as isize;
                copy_padded::<E>(src.row(y), margin, &mut row[..wide + width - 1]);
                vectorized(
                    #[inline(always)]
                    || {
                        let mut window = 1;
                        while 2 * window <= width {
                            pick_all::<E>(&row, &row[window..], &mut spare);
                            std::mem::swap(&mut row, &mut spare);
                            window *= 2;
                        }
                        pick_all::<E>(&row, &row[width - window..], &mut target[..wide]);
                    },
                );
            }
            // 2. Column filter: doubling in place from the top, as each row needs later ones only.
            vectorized(
                #[inline(always)]
                || {
                    let mut window = 1;
                    let mut valid = count + height - 1;
                    while 2 * window <= height {
                        valid -= window;
                        for y in 0..valid {
                            let (row, later) = buffer[y * tile..].split_at_mut(window * tile);
                            pick_into::<E>(&mut row[..wide], &later[..wide]);
                        }
                        window *= 2;
                    }
                    for (y, out) in out.chunks_exact_mut(columns).enumerate() {
                        let first = &buffer[y * tile..][..wide];
                        let second = &buffer[(y + height - window) * tile..][..wide];
                        pick_all::<E>(first, second, &mut out[left..left + wide]);
                    }
                },
            );
        }
    });
    out
}

/// Any element, as the union of its horizontal stretches.
fn by_runs<E: Extremum>(src: &Plane<u8>, element: &StructuringElement) -> Plane<u8> {
    let (width, height) = src.size();
    let mut out = Plane::filled(width, height, 0u8);
    let shape = Shape::new(element.runs());
    let tile = (CACHE / (shape.slots() * shape.levels)).clamp(4 * BLOCK, 64 * BLOCK);
    let tile = tile.max(shape.left + shape.right).next_multiple_of(BLOCK);
    out.data_mut().par_chunks_mut(STRIP * width).enumerate().for_each(|(strip, out)| {
        let top = strip * STRIP;
        for left in (0..width).step_by(tile) {
            let wide = tile.min(width - left);
            let mut ring = Levels::new(&shape, wide.next_multiple_of(BLOCK), E::NEUTRAL);
            let mut next = top.saturating_sub(shape.above);
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                let y = top + row;
                while next < (y + shape.below + 1).min(height) {
                    let levels = ring.slot_mut(next);
                    let margin = left as isize - shape.left as isize;
                    copy_padded::<E>(
                        src.row(next),
                        margin,
                        &mut levels[..shape.left + wide + shape.right],
                    );
                    vectorized(
                        #[inline(always)]
                        || double::<E>(levels, shape.levels),
                    );
                    next += 1;
                }
                let terms: Vec<&[u8]> = element
                    .runs()
                    .iter()
                    .filter_map(|run| {
                        let y = y.checked_add_signed(run.dy).filter(|&y| y < height)?;
                        Some(ring.windows(y, run, shape.left))
                    })
                    .flat_map(|(first, second)| [Some(first), second])
                    .flatten()
                    .collect();
                let out = &mut out[left..left + wide];
                vectorized(
                    #[inline(always)]
                    || pick_terms::<E>(&terms, out),
                );
            }
        }
    });
    out
}

/// How far an element reaches and how long its stretches are.
struct Shape {
    left: usize,
    right: usize,
    above: usize,
    below: usize,
    /// Windows of 1, 2, 4 … pixels that are needed.
    levels: usize,
}

impl Shape {
    fn new(runs: &[ElementRun]) -> Self {
        let most = |reach: &dyn Fn(&ElementRun) -> isize| {
            runs.iter().map(reach).max().unwrap_or(0).max(0) as usize
        };
        let longest = most(&|run| run.length as isize);
        Self {
            left: most(&|run| -run.dx),
            right: most(&|run| run.dx + run.length as isize - 1),
            above: most(&|run| -run.dy),
            below: most(&|run| run.dy),
            levels: longest.max(1).ilog2() as usize + 1,
        }
    }

    /// Rows that the element covers, with that of its anchor.
    const fn slots(&self) -> usize {
        self.above + 1 + self.below
    }
}

/// A ring of rows, each with the extrema over windows of 1, 2, 4 … pixels to the right.
struct Levels {
    slots: usize,
    levels: usize,
    stride: usize,
    data: Vec<u8>,
}

impl Levels {
    fn new(shape: &Shape, columns: usize, neutral: u8) -> Self {
        let (slots, levels) = (shape.slots(), shape.levels);
        let stride = shape.left + columns + shape.right;
        Self { slots, levels, stride, data: vec![neutral; slots * levels * stride] }
    }

    fn slot_mut(&mut self, y: usize) -> &mut [u8] {
        let size = self.levels * self.stride;
        &mut self.data[y % self.slots * size..][..size]
    }

    /// The one or two windows in row `y` that make up `run`, for every output column.
    fn windows(&self, y: usize, run: &ElementRun, left: usize) -> (&[u8], Option<&[u8]>) {
        let level = run.length.ilog2() as usize;
        let row = (y % self.slots * self.levels + level) * self.stride;
        let row = &self.data[row..row + self.stride];
        let start = (left as isize + run.dx) as usize;
        let rest = run.length - (1 << level);
        (&row[start..], (rest > 0).then(|| &row[start + rest..]))
    }
}

/// Fills the second and later of `levels` rows from the first.
#[inline(always)]
fn double<E: Extremum>(rows: &mut [u8], levels: usize) {
    let stride = rows.len() / levels;
    for level in 1..levels {
        let half = 1 << (level - 1);
        let (shorter, longer) = rows[(level - 1) * stride..].split_at_mut(stride);
        let valid = stride - half;
        pick_all::<E>(&shorter[..valid], &shorter[half..], &mut longer[..valid]);
    }
}

/// The extremum over all `terms`, column by column.
#[inline(always)]
fn pick_terms<E: Extremum>(terms: &[&[u8]], out: &mut [u8]) {
    for (index, out) in out.chunks_mut(BLOCK).enumerate() {
        let x = index * BLOCK;
        let mut best = [E::NEUTRAL; BLOCK];
        for term in terms {
            let term: &[u8; BLOCK] =
                term[x..x + BLOCK].try_into().expect("the range is BLOCK long");
            for (best, &value) in best.iter_mut().zip(term) {
                *best = E::pick(*best, value);
            }
        }
        out.copy_from_slice(&best[..out.len()]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mask::Mask;

    /// The definition, pixel by pixel.
    fn naive(src: &Plane<u8>, element: &StructuringElement, least: bool) -> Plane<u8> {
        let mask = element.to_mask();
        let (width, height) = src.size();
        Plane::from_fn(width, height, |x, y| {
            let mut best = if least { 255 } else { 0 };
            for dy in 0..mask.height() {
                for dx in 0..mask.width() {
                    let sx = (x + dx).wrapping_sub(mask.width() / 2);
                    let sy = (y + dy).wrapping_sub(mask.height() / 2);
                    if mask.plane().get(dx, dy) > 0 && sx < width && sy < height {
                        let value = src.get(sx, sy);
                        best = if least { value.min(best) } else { value.max(best) };
                    }
                }
            }
            best
        })
    }

    fn noise(width: usize, height: usize, seed: u64) -> Plane<u8> {
        use rand::{Rng, SeedableRng};
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(seed);
        Plane::from_fn(width, height, |_, _| rng.next_u32() as u8)
    }

    fn element() -> impl Strategy<Value = StructuringElement> {
        let odd = || (0usize..9).prop_map(|n| 2 * n + 1);
        prop_oneof![
            (odd(), odd()).prop_map(|(w, h)| StructuringElement::rect(w, h).unwrap()),
            (odd(), odd()).prop_map(|(w, h)| StructuringElement::ellipse(w, h).unwrap()),
            (odd(), odd()).prop_map(|(w, h)| StructuringElement::cross(w, h).unwrap()),
            (1usize..30, 0f64..180.0).prop_map(|(n, a)| StructuringElement::line(n, a).unwrap()),
            (odd(), odd(), any::<u64>()).prop_map(|(w, h, seed)| {
                let mut mask = noise(w, h, seed);
                mask.data_mut()[0] = 255;
                StructuringElement::from_mask(&Mask::from_plane(mask).binarized(170)).unwrap()
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn equals_the_definition(
            element in element(), width in 1usize..180, height in 1usize..40, seed in any::<u64>(),
        ) {
            let src = noise(width, height, seed);
            prop_assert_eq!(erode(&src, &element), naive(&src, &element, true));
            prop_assert_eq!(dilate(&src, &element), naive(&src, &element, false));
        }

        #[test]
        fn algebra(element in element(), width in 1usize..90, height in 1usize..200, seed in any::<u64>()) {
            let src = noise(width, height, seed);
            // Erosion is the dual of dilation.
            let dual = erode(&src.map(|v| 255 - v), &element).map(|v| 255 - v);
            prop_assert_eq!(&dual, &dilate(&src, &element));
            // Opening shrinks and closing grows, each once and for all: for symmetric elements.
            if element.reflected() == element {
                let (open_once, close_once) = (open(&src, &element), close(&src, &element));
                let ordered = |a: &Plane<u8>, b: &Plane<u8>| a.data().iter().zip(b.data()).all(|(a, b)| a <= b);
                prop_assert!(ordered(&open_once, &src) && ordered(&src, &close_once));
                prop_assert_eq!(&open(&open_once, &element), &open_once);
                prop_assert_eq!(&close(&close_once, &element), &close_once);
            }
        }

        #[test]
        fn iterations_repeat(element in element(), seed in any::<u64>(), iterations in 0usize..5) {
            let src = noise(40, 23, seed);
            let mut expected = src.clone();
            for _ in 0..iterations {
                expected = erode(&expected, &element);
            }
            prop_assert_eq!(morphology(&src, MorphOp::Erode, &element, iterations), expected);
        }
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let src = noise(700, 900, 7);
        let element = StructuringElement::ellipse(21, 15).unwrap();
        let wide = StructuringElement::rect(31, 45).unwrap();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (black_hat(&src, &element), top_hat(&src, &wide)))
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn planes_without_pixels_stay() {
        let empty = Plane::filled(0, 4, 0u8);
        assert_eq!(close(&empty, &StructuringElement::square(3).unwrap()), empty);
    }
}
