//! What restores a picture: diffusers' inpainting pipeline, number for number, and the restoration pipeline over it.

mod denoise;
mod painter;

pub mod inpaint;
pub mod pixelwise;
pub mod restore;
mod seams;
