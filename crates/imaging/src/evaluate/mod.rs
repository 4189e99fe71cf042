//! Scores restorations and detections over a data set of (clean, damaged, mask) triplets.
