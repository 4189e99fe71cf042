//! Measured series made ready to be drawn: cleaned, smoothed, and reduced to what a screen can show.

/// Larger numbers are left out, so that the differences of any two are finite.
const LARGEST: f64 = 1e300;
/// Smoothing of up to [`SPAN_POINTS`] points is TensorBoard's with a weight of 0.9, about the mean of 10 points.
const SPAN: f64 = 10.0;
const SPAN_POINTS: f64 = 500.0;
/// Shorter series are smoothed over a fifth of their points.
const SHORT_SHARE: f64 = 5.0;

/// A place on the axes, in their units.
pub(super) type Point = (f64, f64);

/// The points that can be drawn, from left to right; on a logarithmic axis only those above 0.
///
/// Points at the same place across keep their order.
pub(super) fn drawable(points: &[Point], log: bool) -> Vec<Point> {
    let finite = |value: f64| value.abs() <= LARGEST; // false for NaN
    let mut kept: Vec<Point> = points
        .iter()
        .copied()
        .filter(|&(x, y)| finite(x) && finite(y) && (!log || y >= f64::MIN_POSITIVE))
        .collect();
    if !kept.is_sorted_by(|a, b| a.0 <= b.0) {
        kept.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    kept
}

/// The exponential moving average of TensorBoard's scalar charts, whose start is not drawn towards 0.
///
/// The weight is 0.9 for up to 500 points, then rises so that the average spans a fiftieth of them; it is lower for
/// fewer than 50, which would otherwise be flattened.
pub(super) fn smoothed(points: &[Point]) -> Vec<Point> {
    let count = points.len() as f64;
    let span = (count / SPAN_POINTS * SPAN).max((count / SHORT_SHARE).min(SPAN)).max(1.0);
    let weight = 1.0 - 1.0 / span;
    let (mut sum, mut lacking) = (0.0, 1.0);
    points
        .iter()
        .map(|&(x, y)| {
            sum = weight * sum + (1.0 - weight) * y;
            lacking *= weight; // the weight that the 0 before the first point still has
            (x, sum / (1.0 - lacking))
        })
        .collect()
}

/// The lowest and the highest of neighbouring points in the same pixel column, in their order.
///
/// A line through them covers the same pixels as a line through all.
pub(super) fn extremes(points: &[Point], column: impl Fn(f64) -> usize) -> Vec<Point> {
    let mut kept = Vec::new();
    for group in points.chunk_by(|a, b| column(a.0) == column(b.0)) {
        let indices = 0..group.len();
        let by_height = |a: &usize, b: &usize| group[*a].1.total_cmp(&group[*b].1);
        let lowest = indices.clone().min_by(by_height).unwrap_or(0);
        let highest = indices.max_by(by_height).unwrap_or(0);
        kept.push(group[lowest.min(highest)]);
        if lowest != highest {
            kept.push(group[lowest.max(highest)]);
        }
    }
    kept
}

/// The last of neighbouring points in the same pixel column.
///
/// For moving averages, which hardly change within a column except at their start: there the last is a mean of most
/// points.
pub(super) fn last(points: &[Point], column: impl Fn(f64) -> usize) -> Vec<Point> {
    let groups = points.chunk_by(|a, b| column(a.0) == column(b.0));
    groups.filter_map(|group| group.last().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        let points = [(2.0, 0.0), (1.0, 5.0), (f64::NAN, 1.0), (3.0, f64::INFINITY), (1.0, -4.0)];
        assert_eq!(drawable(&points, false), [(1.0, 5.0), (1.0, -4.0), (2.0, 0.0)]);
        assert_eq!(drawable(&points, true), [(1.0, 5.0)]);
    }

    #[test]
    fn smoothing_is_tensorboards() {
        // 50 points: weight 0.9. After two: (0.9 · 0.1 · 1 + 0.1 · 2) / (1 − 0.81) = 0.29 / 0.19
        let points: Vec<Point> = (0..50).map(|i| (f64::from(i), f64::from(i + 1))).collect();
        let smooth = smoothed(&points);
        assert!((smooth[0].1 - 1.0).abs() < 1e-12);
        assert!((smooth[1].1 - 0.29 / 0.19).abs() < 1e-12);
        let flat = smoothed(&vec![(0.0, 3.5); 10_000]);
        assert!(flat.iter().all(|point| (point.1 - 3.5).abs() < 1e-9));
        assert_eq!(smoothed(&[(1.0, 2.0)]), [(1.0, 2.0)]);
        assert_eq!(smoothed(&[]), []);
    }

    #[test]
    fn a_column_keeps_its_extremes_in_order() {
        let heights = [3.0, 9.0, 4.0, 1.0, 2.0, 7.0, 7.0];
        let points: Vec<Point> = heights.iter().enumerate().map(|(i, &y)| (i as f64, y)).collect();
        // columns of five points: 3 9 4 1 2 and 7 7
        let kept = extremes(&points, |x| x as usize / 5);
        assert_eq!(kept, [(1.0, 9.0), (3.0, 1.0), (5.0, 7.0), (6.0, 7.0)]);
        assert_eq!(extremes(&points, |x| x as usize), points);
        assert_eq!(last(&points, |x| x as usize / 5), [(4.0, 2.0), (6.0, 7.0)]);
    }
}
