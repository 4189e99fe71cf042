//! The pictures of an evaluation that are kept to look at: the best, the worst, and an even selection.

use super::{ImageScores, Metric, Run};
use crate::error::Result;
use crate::image::Image;
use crate::mask::Mask;
use crate::report::panel::{Panel, fitted};
use crate::report::sheet::{SheetOptions, draw, worst_damage};

/// The longer side of a picture in the report.
const LONGEST: usize = 760;

/// One picture to look at, as JPEG data of moderate size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhibit {
    /// The position among all pictures, counting those that failed.
    pub index: usize,
    /// The damaged picture's file name.
    pub name: String,
    /// The sheet Damaged → Mask → Restored → Clean.
    pub sheet: Vec<u8>,
    /// The single pictures under their headings: "Damaged", one for each run, "Clean".
    pub pictures: Vec<(String, Vec<u8>)>,
}

/// The pictures of one triplet at full size.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) clean: &'a Image,
    pub(super) damaged: &'a Image,
    pub(super) mask: Option<&'a Mask>,
    pub(super) restored: &'a [Image],
}

impl Exhibit {
    pub(super) fn new(
        index: usize,
        scores: &ImageScores,
        runs: &[Run],
        shown: Shown<'_>,
    ) -> Result<Self> {
        let decibels = |score: Option<f64>| match score {
            Some(value) if value.is_finite() => format!("{value:.2} dB"),
            Some(_) => "∞ dB".to_owned(),
            None => String::new(),
        };
        let mask = shown.mask.map(Mask::to_image).transpose()?;
        let mut panels = vec![("Damaged", shown.damaged)];
        let mut notes = vec![decibels(scores.damaged.get(Metric::Psnr))];
        if let (Some(image), Some(mask)) = (&mask, shown.mask) {
            panels.push(("Mask", image));
            notes.push(format!("{:.1} %", mask.coverage() * 100.0));
        }
        let headings: Vec<String> = runs
            .iter()
            .map(|run| {
                if runs.len() == 1 {
                    "Restored".to_owned()
                } else {
                    format!("Restored: {}", run.name)
                }
            })
            .collect();
        for ((heading, image), run) in headings.iter().zip(shown.restored).zip(&scores.runs) {
            panels.push((heading, image));
            notes.push(decibels(run.restored.get(Metric::Psnr)));
        }
        panels.push(("Clean", shown.clean));
        let options = SheetOptions {
            title: Some(scores.name.clone()),
            notes,
            focus: shown.mask.and_then(worst_damage),
            panel: if panels.len() > 5 { 480 } else { 640 },
        };
        let sheet = draw(&panels, &options)?;
        let size = fitted(shown.clean.size(), LONGEST);
        let small = |image: &Image| {
            let panel = Panel::new(image, image.bounds(), size);
            jpeg(&panel)
        };
        let pictures = panels
            .iter()
            .filter(|(heading, _)| *heading != "Mask")
            .map(|(heading, image)| Ok(((*heading).to_owned(), small(image)?)))
            .collect::<Result<_>>()?;
        Ok(Self { index, name: scores.name.clone(), sheet: jpeg(&sheet)?, pictures })
    }
}

fn jpeg(panel: &Panel) -> Result<Vec<u8>> {
    use jpeg_encoder::{Encoder, SamplingFactor};
    let failed = |reason: String| crate::ImagingError::Numeric { what: "JPEG of a sheet", reason };
    let Panel { width, height, rgb } = panel;
    let (Ok(width), Ok(height)) = (u16::try_from(*width), u16::try_from(*height)) else {
        return Err(failed(format!(
            "expected at most 65535 pixels a side, found {width}×{height}"
        )));
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 90);
    encoder.set_sampling_factor(SamplingFactor::F_1_1);
    encoder
        .encode(rgb, width, height, jpeg_encoder::ColorType::Rgb)
        .map_err(|error| failed(error.to_string()))?;
    Ok(bytes)
}

/// Keeps the exhibits that are wanted while pictures are finished in any order.
pub(super) struct Exhibits {
    /// How many of the best, and of the worst, are kept.
    ends: usize,
    /// Positions that are kept whatever they score.
    chosen: Vec<usize>,
    kept: Vec<(f64, Exhibit)>,
}

impl Exhibits {
    pub(super) fn new(wanted: usize, total: usize) -> Self {
        let ends = if wanted >= total { 0 } else { wanted / 3 };
        let even = wanted - 2 * ends;
        let even = even.min(total);
        let chosen = (0..even).map(|i| (2 * i + 1) * total / (2 * even)).collect();
        Self { ends, chosen, kept: Vec::new() }
    }

    /// True if a picture with this gain would be kept, as things are now.
    pub(super) fn wants(&self, index: usize, gain: f64) -> bool {
        let ahead = |better: fn(&(f64, usize), &(f64, usize)) -> bool| {
            self.kept.iter().filter(|(g, e)| better(&(*g, e.index), &(gain, index))).count()
        };
        self.chosen.contains(&index) || ahead(is_better) < self.ends || ahead(is_worse) < self.ends
    }

    /// Adds a picture, and drops those that it takes the place of.
    pub(super) fn add(&mut self, exhibit: Exhibit, gain: f64) {
        self.kept.push((gain, exhibit));
        let keep: Vec<bool> =
            self.kept.iter().map(|(gain, exhibit)| self.wants(exhibit.index, *gain)).collect();
        let mut keep = keep.into_iter();
        self.kept.retain(|_| keep.next().unwrap_or(false));
    }

    /// What was kept, in the order of the pictures.
    pub(super) fn into_vec(self) -> Vec<Exhibit> {
        let mut exhibits: Vec<Exhibit> =
            self.kept.into_iter().map(|(_, exhibit)| exhibit).collect();
        exhibits.sort_unstable_by_key(|exhibit| exhibit.index);
        exhibits
    }
}

/// A strict order by gain and then position, so that the same pictures are kept whatever order they end in.
fn is_better(a: &(f64, usize), b: &(f64, usize)) -> bool {
    a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)).is_gt()
}

fn is_worse(a: &(f64, usize), b: &(f64, usize)) -> bool {
    is_better(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(wanted: usize, gains: &[(usize, f64)]) -> Vec<usize> {
        let mut exhibits = Exhibits::new(wanted, gains.len());
        for &(index, gain) in gains {
            if exhibits.wants(index, gain) {
                let exhibit =
                    Exhibit { index, name: String::new(), sheet: Vec::new(), pictures: Vec::new() };
                exhibits.add(exhibit, gain);
            }
        }
        exhibits.into_vec().iter().map(|exhibit| exhibit.index).collect()
    }

    #[test]
    fn the_same_pictures_are_kept_in_any_order() {
        let mut gains: Vec<(usize, f64)> = (0..30).map(|i| (i, (i * 7 % 30) as f64)).collect();
        let expected = keep(6, &gains);
        // 28 → 196 % 30 = 16 …: the best is 29 (i = 17), then 28 (i = 4); the worst 0 (i = 0) and 1 (i = 13)
        for index in [17, 4, 0, 13, 7, 22] {
            assert!(expected.contains(&index), "{index} in {expected:?}");
        }
        gains.reverse();
        assert_eq!(keep(6, &gains), expected);
        gains.rotate_left(11);
        assert_eq!(keep(6, &gains), expected);
    }

    #[test]
    fn small_sets_are_kept_whole_and_none_if_none_is_wanted() {
        let gains: Vec<(usize, f64)> = (0..4).map(|i| (i, 1.0)).collect();
        assert_eq!(keep(12, &gains), [0, 1, 2, 3]);
        assert_eq!(keep(0, &gains), [] as [usize; 0]);
    }
}
