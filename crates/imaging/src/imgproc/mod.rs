//! Pixel operations that agree with OpenCV's `imgproc`, shared by detection, damage, fill and metrics.
