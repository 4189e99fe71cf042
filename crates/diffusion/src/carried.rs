//! Models that are part of the program: restoration works at once and offline.
//!
//! `models/README.md` says how they were made, from which photographs, and by whom.

use std::path::Path;

use crate::checkpoint::SafetensorsFile;
use crate::error::Result;

/// The small inpainting checkpoint goes by this name wherever a checkpoint's path does, if nothing on disk has that path.
pub const COMPACT: &str = "compact";

/// Its restoration LoRA, likewise.
pub const RESTORATION: &str = "restoration";

/// The damage detector for pictures with colours.
pub(crate) fn detector() -> Result<SafetensorsFile> {
    let bytes = include_bytes!("../models/detector.safetensors");
    SafetensorsFile::carried("the carried detector", bytes)
}

/// The damage detector for pictures without, which sees luma alone.
pub(crate) fn luma_detector() -> Result<SafetensorsFile> {
    let bytes = include_bytes!("../models/luma_detector.safetensors");
    SafetensorsFile::carried("the carried detector for luma", bytes)
}

/// What decides by what both detectors say.
pub(crate) fn judge() -> Result<SafetensorsFile> {
    let bytes = include_bytes!("../models/judge.safetensors");
    SafetensorsFile::carried("the carried judge of damage", bytes)
}

/// The refiner of fills.
pub(crate) fn refiner() -> Result<SafetensorsFile> {
    let bytes = include_bytes!("../models/refiner.safetensors");
    SafetensorsFile::carried("the carried refiner", bytes)
}

/// What a path stands for that is a carried model's name and nothing on disk.
pub(crate) fn file(path: &Path) -> Option<&'static [u8]> {
    let bytes: &[u8] = match path.to_str()? {
        COMPACT => include_bytes!("../models/compact.safetensors"),
        RESTORATION => include_bytes!("../models/restoration.safetensors"),
        _ => return None,
    };
    (!path.exists()).then_some(bytes)
}
