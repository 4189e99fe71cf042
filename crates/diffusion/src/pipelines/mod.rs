//! What restores a picture: diffusers' inpainting pipeline, number for number, and the restoration pipeline over it.
