//! What the integration tests share.

mod fixtures;
pub(crate) mod npy;

pub(crate) use fixtures::fixtures;
