//! Finds damage: cracks, scratches, tears and missing paint. Creases are found where they are thin lines.
//!
//! Thin damage is found as lines that stand out from the activity around them ([`lines`] and the
//! hysteresis on top), wide losses as even regions unlike their surroundings. One set of parameters
//! serves all photographs; a clean one gives an empty or nearly empty mask.

pub mod lines;

mod detail;
mod feather;
mod losses;
mod monochrome;
mod noise;
mod overlay;
mod palette;
mod preset;
mod ridges;
mod stats;

pub use detail::reduced_to_detail;
pub use feather::feather;
pub use losses::{LossArea, LossCandidates, LossRegion};
pub use monochrome::is_monochrome;
pub use noise::noise_sigma;
pub use overlay::overlay;
pub use palette::Palette;
pub use preset::{DetectParams, LineParams, LossParams, Preset};
pub use stats::{DetectionStats, KindStats, WidthStats};

use crate::error::Result;
use crate::image::{Image, Samples};
use crate::imgproc::{self, StructuringElement};
use crate::mask::Mask;
use crate::observer::Observer;
use crate::plane::Plane;
use ridges::Extremes;

/// What was found.
#[derive(Clone, Debug)]
pub struct Detection {
    /// The damaged pixels themselves, hard, before dilation.
    pub core: Mask,
    /// `core` dilated: hard; what `photomend mask` writes.
    pub mask: Mask,
    /// Coverage, components, widths.
    pub stats: DetectionStats,
}

/// Steps that [`detect`] reports as progress.
const STEPS: u64 = 3;

/// Finds the damage in a picture.
///
/// Works on 8-bit values: 16-bit ones are reduced first. Alpha is ignored. The result does not depend on
/// the number of threads.
///
/// # Errors
/// `Argument` for a parameter out of range; `Cancelled`.
pub fn detect(image: &Image, params: &DetectParams, observer: &dyn Observer) -> Result<Detection> {
    Ok(detect_with_candidates(image, params, observer)?.0)
}

/// [`detect`], and the regions that may be wide losses: none if they are not looked for.
///
/// # Errors
/// Those of [`detect`].
pub fn detect_with_candidates(
    image: &Image,
    params: &DetectParams,
    observer: &dyn Observer,
) -> Result<(Detection, LossCandidates)> {
    params.validate()?;
    let (width, height) = image.size();
    let progress = |done| observer.progress("detect", done, STEPS);
    progress(0);

    // 1. thin damage
    let noise = noise_sigma(&image.luma8());
    observer.check()?;
    let mut core = Mask::empty(width, height);
    let mut stats = DetectionStats { noise, ..DetectionStats::default() };
    if params.dark || params.bright {
        let extremes = extremes(image)?;
        let found = ridges::find_ridges(&extremes, noise, &params.lines, observer)?;
        if params.dark {
            stats.dark = KindStats::of(&found.dark);
            core.merge(&found.dark)?;
        }
        if params.bright {
            stats.bright = KindStats::of(&found.bright);
            core.merge(&found.bright)?;
        }
    }
    observer.check()?;
    progress(1);

    // 2. wide losses
    let mut candidates = LossCandidates::none(image.size());
    if params.wide {
        let found;
        (found, candidates) = losses::find_losses(&channels(image)?, &params.losses, observer)?;
        stats.wide = KindStats::of(&found);
        core.merge(&found)?;
    }
    progress(2);

    // 3. what is to be replaced, and figures
    let detection = Detection::of_core(core, params.dilate, &stats)?;
    observer.check()?;
    progress(STEPS);
    Ok((detection, candidates))
}

impl Detection {
    /// What was found by whatever way: the damaged pixels, to be grown by a disc of radius `dilate`. Counts and widths in
    /// `stats` are filled in; what is said of kinds and noise stays.
    ///
    /// # Errors
    /// `Argument` if `dilate` is out of range.
    pub fn of_core(core: Mask, dilate: usize, stats: &DetectionStats) -> Result<Self> {
        let element = StructuringElement::disc(2 * dilate + 1)?;
        let mask = Mask::from_plane(imgproc::dilate(core.plane(), &element));
        let stats = DetectionStats {
            coverage: mask.coverage(),
            core_coverage: core.coverage(),
            components: KindStats::of(&core).components,
            widths: WidthStats::of(&core),
            ..stats.clone()
        };
        Ok(Self { core, mask, stats })
    }
}

/// `value` of 16 bits in 8, rounded.
const fn reduced(value: u16) -> u8 {
    ((value as u32 + 128) / 257) as u8
}

/// The colour channels in 8 bits.
fn channels(image: &Image) -> Result<Vec<Plane<u8>>> {
    let stride = image.color().channels();
    (0..image.color().color_channels())
        .map(|channel| {
            let data = match image.samples() {
                Samples::U8(values) => values[channel..].iter().step_by(stride).copied().collect(),
                Samples::U16(values) => {
                    values[channel..].iter().step_by(stride).map(|&value| reduced(value)).collect()
                }
            };
            Plane::from_vec(image.width(), image.height(), data)
        })
        .collect()
}

/// The largest and the smallest colour channel of every pixel in 8 bits.
fn extremes(image: &Image) -> Result<Extremes> {
    let colours = image.color().color_channels();
    let stride = image.color().channels();
    let plane = |choose: fn(&[u8]) -> u8, choose16: fn(&[u16]) -> u16| {
        let data = match image.samples() {
            Samples::U8(values) => {
                values.chunks_exact(stride).map(|pixel| choose(&pixel[..colours])).collect()
            }
            Samples::U16(values) => values
                .chunks_exact(stride)
                .map(|pixel| reduced(choose16(&pixel[..colours])))
                .collect(),
        };
        Plane::from_vec(image.width(), image.height(), data)
    };
    Ok(Extremes { brightest: plane(largest, largest)?, darkest: plane(smallest, smallest)? })
}

fn largest<T: Copy + Ord + Default>(values: &[T]) -> T {
    values.iter().copied().max().unwrap_or_default()
}

fn smallest<T: Copy + Ord + Default>(values: &[T]) -> T {
    values.iter().copied().min().unwrap_or_default()
}
