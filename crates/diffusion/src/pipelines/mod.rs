//! What restores a picture: diffusers' inpainting pipeline, number for number, and the restoration pipeline over it.

mod colour;
mod components;
mod denoise;
mod masks;
mod painter;
mod pixels;

pub mod inpaint;
pub mod restore;

pub use components::{Autoencoder, Components, LoadOptions, PromptEmbeds, encode_prompts};
pub use masks::{MaskShrink, latent_mask};
