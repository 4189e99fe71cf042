//! LoRA files from outside: what they do to layers, and what damage in them comes to.

#[path = "../common/mod.rs"]
mod common;
#[cfg(test)]
mod convert;
#[cfg(test)]
mod files;
#[cfg(test)]
mod gradients;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod support;
