//! How much each pixel looks like part of a dark or a bright line.
//!
//! For every direction, brightness is averaged along a short straight stretch through the pixel and along
//! the two stretches beside it. A dark line is darker than *both* flanks, so its response is the smaller
//! flank less the middle; the edge of an object differs from one flank only and gives nothing. The
//! largest response over directions and flank distances counts. This is the line detector of Tupin et
//! al., "Detection of linear features in SAR images" (IEEE TGRS 1998), with differences in place of
//! ratios; averaging along the line is what sets long damage apart from texture.

use rayon::prelude::*;

use super::preset::LineParams;
use crate::error::Result;
use crate::observer::Observer;
use crate::plane::Plane;

/// Rows that one task works on.
const STRIP: usize = 64;

/// Whether damage is darker or brighter than its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// Darker: cracks.
    Dark,
    /// Brighter: scratches, paper showing.
    Bright,
}

/// One direction: where the samples of a stretch lie, and where its flanks are.
struct Direction {
    /// Samples as (rows down, columns right).
    samples: Vec<(isize, isize)>,
    /// Flanks as (rows down, columns right) from the middle; the other flank is opposite.
    flanks: Vec<(isize, isize)>,
}

impl Direction {
    fn all(params: &LineParams) -> Vec<Self> {
        let mut distances = vec![params.near];
        if params.far != params.near {
            distances.push(params.far);
        }
        (0..params.directions)
            .map(|index| {
                let angle = std::f64::consts::PI * index as f64 / params.directions as f64;
                let (sin, cos) = angle.sin_cos();
                // One sample a step along the axis that the direction follows more closely, so that no
                // pixel is skipped; the stretch keeps its Euclidean length.
                let longer = sin.abs().max(cos.abs());
                let half = ((params.length / 2) as f64 * longer).round() as isize;
                let at = |t: isize, part: f64| (t as f64 * part / longer).round() as isize;
                Self {
                    samples: (-half..=half).map(|t| (at(t, sin), at(t, cos))).collect(),
                    flanks: distances
                        .iter()
                        .map(|&d| {
                            let d = d as f64;
                            ((cos * d).round() as isize, (-sin * d).round() as isize)
                        })
                        .collect(),
                }
            })
            .collect()
    }
}

/// The response of every pixel, in grey levels of contrast, 0 where there is no line of this polarity.
///
/// Pixels beyond the edge repeat the edge's.
///
/// # Errors
/// `Cancelled`.
pub fn line_response(
    src: &Plane<u8>,
    polarity: Polarity,
    params: &LineParams,
    observer: &dyn Observer,
) -> Result<Plane<u8>> {
    let (width, height) = src.size();
    let mut out = Plane::filled(width, height, 0u8);
    if width == 0 || height == 0 {
        return Ok(out);
    }
    let directions = Direction::all(params);
    let arch = pulp::Arch::new();
    out.data_mut().par_chunks_mut(STRIP * width).enumerate().try_for_each(|(strip, out)| {
        observer.check()?;
        let mut work = Strip::new(src, strip * STRIP, out.len() / width, params, polarity);
        for direction in &directions {
            arch.dispatch(|| work.average(&direction.samples));
            for &flank in &direction.flanks {
                arch.dispatch(|| work.compare(flank));
            }
        }
        for (out, best) in out.chunks_exact_mut(width).zip(work.best.chunks_exact(width)) {
            for (out, &best) in out.iter_mut().zip(best) {
                *out = ((best + SCALE as i16 / 2) / SCALE as i16).clamp(0, 255) as u8;
            }
        }
        Ok(())
    })?;
    Ok(out)
}

/// Means are kept in eighths of a grey level.
const SCALE: u32 = 8;

/// A strip of rows with what surrounds it.
struct Strip {
    width: usize,
    /// How far flanks reach beyond the strip.
    reach: usize,
    /// How far stretches reach beyond that.
    half: usize,
    /// The source, dark lines as they are, bright ones inverted, with `reach + half` pixels on all sides.
    padded: Vec<u8>,
    /// Means along the direction in eighths of a grey level, with `reach` pixels on all sides.
    means: Vec<i16>,
    /// Sums of one row.
    sums: Vec<u16>,
    /// The largest response so far.
    best: Vec<i16>,
}

impl Strip {
    fn new(
        src: &Plane<u8>,
        top: usize,
        rows: usize,
        params: &LineParams,
        polarity: Polarity,
    ) -> Self {
        let (width, height) = src.size();
        let (reach, half) = (params.far, params.length / 2);
        let pad = reach + half;
        let mut padded = Vec::with_capacity((width + 2 * pad) * (rows + 2 * pad));
        for y in 0..rows + 2 * pad {
            let row = src.row((top + y).saturating_sub(pad).min(height - 1));
            padded.extend(std::iter::repeat_n(row[0], pad));
            padded.extend_from_slice(row);
            padded.extend(std::iter::repeat_n(row[width - 1], pad));
        }
        if polarity == Polarity::Bright {
            padded.iter_mut().for_each(|value| *value = 255 - *value);
        }
        Self {
            width,
            reach,
            half,
            padded,
            means: vec![0; (width + 2 * reach) * (rows + 2 * reach)],
            sums: vec![0; width + 2 * reach],
            best: vec![0; width * rows],
        }
    }

    /// Fills `means` for one direction.
    #[inline(always)]
    fn average(&mut self, samples: &[(isize, isize)]) {
        let stride = self.width + 2 * self.reach;
        let source_stride = stride + 2 * self.half;
        // sum · factor >> 16 = 8 · sum / samples; at most 31 samples of 255, so a sum fits 16 bits.
        let factor = ((SCALE << 16) as f64 / samples.len() as f64).round() as u32;
        for (y, means) in self.means.chunks_exact_mut(stride).enumerate() {
            self.sums.fill(0);
            for &(dy, dx) in samples {
                let row = (y + self.half).wrapping_add_signed(dy) * source_stride;
                let start = row + self.half.wrapping_add_signed(dx);
                let source = &self.padded[start..start + stride];
                for (sum, &value) in self.sums.iter_mut().zip(source) {
                    *sum += u16::from(value);
                }
            }
            for (mean, &sum) in means.iter_mut().zip(&self.sums) {
                *mean = ((u32::from(sum) * factor) >> 16) as i16;
            }
        }
    }

    /// Raises `best` to the response with flanks at this distance.
    #[inline(always)]
    fn compare(&mut self, (dy, dx): (isize, isize)) {
        let stride = self.width + 2 * self.reach;
        for (y, best) in self.best.chunks_exact_mut(self.width).enumerate() {
            let at = |dy: isize, dx: isize| {
                let row = (y + self.reach).wrapping_add_signed(dy) * stride;
                let start = row + self.reach.wrapping_add_signed(dx);
                &self.means[start..start + best.len()]
            };
            let (middle, one, other) = (at(0, 0), at(dy, dx), at(-dy, -dx));
            for (((best, &middle), &one), &other) in best.iter_mut().zip(middle).zip(one).zip(other)
            {
                *best = (*best).max(one.min(other) - middle);
            }
        }
    }
}
