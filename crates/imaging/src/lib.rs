//! Everything `photomend` knows about pictures, and nothing about tensors.
//!
//! Images and masks at their own bit depth, damage detection and synthesis, classical inpainting,
//! compositing, metrics and reports. Every entry point is `Send + Sync`, prints nothing, keeps no global
//! state, reports progress through an [`Observer`] and stops when the observer says so.
//!
//! The conventions that hold everywhere in this crate:
//! - pixels are row-major, `(y, x)`, channels interleaved, sRGB-encoded as stored in the file;
//! - a [`Mask`] is 0 where a pixel is kept and 255 where it is damaged; between, it is a blend weight;
//! - lengths are in pixels of the full-size image, unless a name says otherwise.

pub mod composite;
pub mod damage;
pub mod detect;
pub mod evaluate;
pub mod fill;
pub mod imgproc;
pub mod io;
pub mod metrics;
pub mod report;
pub mod restore;
pub mod windows;

mod error;
mod geometry;
mod image;
mod mask;
mod methods;
mod observer;
mod plane;

pub use crate::error::{ImagingError, Result};
pub use crate::geometry::Rect;
pub use crate::image::{
    ColorType, Image, JpegCoding, Metadata, Resolution, Samples, TiffAlpha, TiffCoding,
    TiffCompression,
};
pub use crate::mask::Mask;
pub use crate::methods::{Detector, Repainter};
pub use crate::observer::{Observer, Quiet, Silent, Step};
pub use crate::plane::Plane;
