//! The hot operators of the diffusion engine on CPU, as candle custom ops with their own backward.
