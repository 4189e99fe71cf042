//! Panels: runs of rows of a matrix, packed depth by depth for the micro-kernels that multiply them.

mod matrix;

pub(crate) use self::matrix::{Element, Matrix};
use crate::simd::MAX_LANES;

/// Rows in a packed panel of the side whose numbers are broadcast.
pub(crate) const PANEL_ROWS: usize = 8;
/// Registers in a row of the micro-tile, and so in a packed row of the other side.
pub(crate) const MAX_VECTORS: usize = 3;
/// The widest panel on any tier.
pub(crate) const MAX_WIDTH: usize = MAX_VECTORS * MAX_LANES;
