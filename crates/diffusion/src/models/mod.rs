//! The networks of Stable Diffusion, driven by the configurations of their checkpoints.
