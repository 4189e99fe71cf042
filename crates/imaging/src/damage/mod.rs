//! Synthetic damage on clean photographs, with the mask that goes with it.
