//! How alike two pictures, or two masks, are.
