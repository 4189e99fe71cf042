//! LoRA files from outside: what they do to layers, and what damage in them comes to.

#[cfg(test)]
mod files;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod support;
