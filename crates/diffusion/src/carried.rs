//! Models that are part of the program: restoration works at once and offline.
//!
//! `models/README.md` says how they were made, from which photographs, and by whom.

use crate::checkpoint::SafetensorsFile;
use crate::error::Result;

/// The damage detector.
pub(crate) fn detector() -> Result<SafetensorsFile> {
    let bytes = include_bytes!("../models/detector.safetensors");
    SafetensorsFile::carried("the carried detector", bytes)
}

/// The refiner of fills.
pub(crate) fn refiner() -> Result<SafetensorsFile> {
    let bytes = include_bytes!("../models/refiner.safetensors");
    SafetensorsFile::carried("the carried refiner", bytes)
}
