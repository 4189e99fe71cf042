//! What was found, in figures.

use serde::{Deserialize, Serialize};

use crate::imgproc::{Connectivity, component_runs, distance_transform};
use crate::mask::Mask;

/// What was found, in figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectionStats {
    /// The share of the picture that is to be replaced, after dilation, `0 ..= 1`.
    pub coverage: f64,
    /// The share that is damaged itself, before dilation, `0 ..= 1`.
    pub core_coverage: f64,
    /// The picture's noise: standard deviation in 8-bit grey levels.
    pub noise: f32,
    /// Connected pieces of damage of all kinds together, before dilation.
    pub components: usize,
    /// Dark thin damage.
    pub dark: KindStats,
    /// Bright thin damage.
    pub bright: KindStats,
    /// Wide losses.
    pub wide: KindStats,
    /// How wide the damage is before dilation.
    pub widths: WidthStats,
}

/// One kind of damage before dilation. Kinds may overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindStats {
    /// Connected pieces.
    pub components: usize,
    /// Pixels.
    pub pixels: usize,
    /// Pixels of the largest piece.
    pub largest: usize,
}

/// Widths along the middle of the damage, in whole pixels; all 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WidthStats {
    /// Half the middle is at most this wide.
    pub median: usize,
    /// Nine tenths of it are at most this wide.
    pub p90: usize,
    /// The widest place.
    pub max: usize,
}

impl KindStats {
    pub(super) fn of(mask: &Mask) -> Self {
        let runs = component_runs(mask, Connectivity::Eight);
        let areas = runs.components().iter().map(|component| component.area);
        Self {
            components: runs.components().len(),
            pixels: areas.clone().sum(),
            largest: areas.max().unwrap_or(0),
        }
    }
}

impl WidthStats {
    /// Widths where the distance from the outside is largest among the eight neighbours.
    pub(super) fn of(core: &Mask) -> Self {
        // Outside the bounding box there is nothing to measure; one kept pixel around it must stay.
        let Some(bounds) = core.bounding_box() else { return Self::default() };
        let window = bounds.grown(1, core.width(), core.height());
        let distances = distance_transform(&Mask::from_plane(core.plane().crop(window)));
        let (width, height) = distances.size();
        let mut counts: Vec<usize> = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let distance = distances.get(x, y);
                // Without any kept pixel the distance is infinite: the whole picture is damage.
                if distance == 0.0 || distance.is_infinite() {
                    continue;
                }
                let ridge = (y.saturating_sub(1)..=(y + 1).min(height - 1)).all(|row| {
                    let columns = x.saturating_sub(1)..=(x + 1).min(width - 1);
                    distances.row(row)[columns].iter().all(|&other| other <= distance)
                });
                if ridge {
                    // The middle of an odd width w is (w + 1) / 2 from the nearest kept pixel.
                    let across = (2.0 * distance - 1.0).round() as usize;
                    if counts.len() <= across {
                        counts.resize(across + 1, 0);
                    }
                    counts[across] += 1;
                }
            }
        }
        let total: usize = counts.iter().sum();
        let quantile = |share: f64| {
            let mut below = 0;
            counts
                .iter()
                .position(|&count| {
                    below += count;
                    below as f64 >= share * total as f64
                })
                .unwrap_or(0)
        };
        if total == 0 {
            return Self::default();
        }
        Self { median: quantile(0.5), p90: quantile(0.9), max: counts.len() - 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_of_bars() {
        let mask = Mask::from_fn(100, 60, |x, y| {
            (5..95).contains(&x) && ((10..13).contains(&y) || (30..37).contains(&y) && x < 25)
        });
        assert_eq!(WidthStats::of(&mask), WidthStats { median: 3, p90: 7, max: 7 });
        let kind = KindStats::of(&mask);
        assert_eq!(kind, KindStats { components: 2, pixels: 270 + 140, largest: 270 });
        assert_eq!(WidthStats::of(&Mask::empty(5, 5)), WidthStats::default());
        assert_eq!(WidthStats::of(&Mask::from_fn(5, 5, |_, _| true)), WidthStats::default());
    }
}
