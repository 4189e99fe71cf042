//! Finding the damage of a picture once, and reading it again for every sensitivity.

use std::path::Path;

use imaging::io::{ReadOptions, WriteOptions, read_mask, write_mask};
use imaging::{Image, Mask, Observer, Plane};

use crate::engine::Engine;
use crate::problem::Problem;
use crate::store::PictureFiles;
use crate::views::{DRAFT_SIDE, reduced};

/// The damage of a picture at a sensitivity, found now or before; what was found is kept beside the picture.
pub(crate) fn find(
    engine: &dyn Engine,
    image: &Image,
    files: &PictureFiles,
    sensitivity: u8,
    observer: &dyn Observer,
) -> Result<Mask, Problem> {
    // 1. found at this sensitivity before
    let path = files.detected(sensitivity);
    if let Some(mask) = read(&path, image) {
        return Ok(mask);
    }

    // 2. what the detector saw, for any sensitivity
    let evidence = match read(&files.evidence(), image) {
        Some(seen) => Some(seen),
        None => {
            let seen = engine.evidence(image, observer)?.map(Mask::from_plane);
            if let Some(seen) = &seen {
                write(&files.evidence(), seen);
            }
            seen
        }
    };

    // 3. the damage
    let evidence = evidence.as_ref().map(Mask::plane);
    let mask = engine.detect(image, evidence, f32::from(sensitivity), observer)?;
    write(&path, &mask);
    Ok(mask)
}

/// The damage of a picture as a copy of at most [`DRAFT_SIDE`] pixels a side shows it: quick, and thin damage may be missing.
pub(crate) fn draft(
    engine: &dyn Engine,
    image: &Image,
    sensitivity: u8,
    observer: &dyn Observer,
) -> Result<Mask, Problem> {
    let small = reduced(image, DRAFT_SIDE)?;
    let evidence: Option<Plane<u8>> = engine.evidence(&small, observer)?;
    Ok(engine.detect(&small, evidence.as_ref(), f32::from(sensitivity), observer)?)
}

/// What was kept; `None` if nothing was, or nothing that fits.
fn read(path: &Path, image: &Image) -> Option<Mask> {
    let options = ReadOptions { max_pixels: u64::MAX };
    read_mask(path, &options).ok().filter(|mask| mask.size() == image.size())
}

/// Keeps a mask. Without it the next look only takes longer, and the picture may be gone.
fn write(path: &Path, mask: &Mask) {
    let _ = write_mask(path, mask, &WriteOptions { force: true, jpeg_quality: None });
}
