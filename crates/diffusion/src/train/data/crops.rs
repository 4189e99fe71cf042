//! Where in a picture the network looks: rectangles of a bucket's shape, planned without the picture's colours.
//!
//! A *covering* rectangle is the largest of that shape inside the picture: it spans the whole picture in one direction.
//! Nothing is enlarged beyond that. Nothing here reads files.

use imaging::{Mask, Rect};

use crate::random::SplitMix64;

/// The damaged pixels of a hard mask, to find one of them quickly.
#[derive(Debug)]
pub(in crate::train) struct DamagedPixels {
    mask: Mask,
    /// Damaged pixels in the rows up to and with this one.
    up_to: Vec<usize>,
}

impl DamagedPixels {
    /// Counts the pixels with a weight above 0.
    pub(in crate::train) fn new(mask: Mask) -> Self {
        let mut total = 0;
        let count = |row: &[u8]| {
            total += row.iter().filter(|&&weight| weight > 0).count();
            total
        };
        let up_to = mask.plane().rows().map(count).collect();
        Self { mask, up_to }
    }

    /// The mask.
    pub(in crate::train) const fn mask(&self) -> &Mask {
        &self.mask
    }

    /// How many there are.
    pub(in crate::train) fn total(&self) -> usize {
        self.up_to.last().copied().unwrap_or(0)
    }

    /// How many are inside `rect`.
    pub(super) fn inside(&self, rect: Rect) -> usize {
        let rows = (rect.y..rect.bottom()).map(|y| &self.mask.plane().row(y)[rect.x..rect.right()]);
        rows.map(|row| row.iter().filter(|&&weight| weight > 0).count()).sum()
    }

    /// The pixel `(x, y)` number `index`, counted row by row from 0.
    pub(in crate::train) fn pixel(&self, index: usize) -> Option<(usize, usize)> {
        let y = self.up_to.partition_point(|&count| count <= index);
        let before = if y == 0 { 0 } else { *self.up_to.get(y - 1)? };
        let row = (y < self.mask.height()).then(|| self.mask.plane().row(y))?;
        let mut damaged = row.iter().enumerate().filter(|(_, weight)| **weight > 0);
        Some((damaged.nth(index - before)?.0, y))
    }

    /// Damaged pixels in each column, or in each row.
    fn profile(&self, of_columns: bool) -> Vec<usize> {
        if of_columns {
            let mut counts = vec![0; self.mask.width()];
            for row in self.mask.plane().rows() {
                for (count, &weight) in counts.iter_mut().zip(row) {
                    *count += usize::from(weight > 0);
                }
            }
            counts
        } else {
            let before = std::iter::once(0).chain(self.up_to.iter().copied());
            self.up_to.iter().zip(before).map(|(count, before)| count - before).collect()
        }
    }
}

/// The largest rectangle of the shape `size` inside a picture, `(width, height)`; at least one pixel.
pub(super) fn covering(picture: (usize, usize), size: (usize, usize)) -> (usize, usize) {
    let ((w, h), (bucket_w, bucket_h)) = (picture, size);
    if w * bucket_h <= h * bucket_w {
        (w, rounded(w * bucket_h, bucket_w).clamp(1, h))
    } else {
        (rounded(h * bucket_w, bucket_h).clamp(1, w), h)
    }
}

/// `value / by` to the nearest whole number.
const fn rounded(value: usize, by: usize) -> usize {
    (value + by / 2) / by
}

/// The covering rectangle in the middle of the picture.
pub(super) fn centered(picture: (usize, usize), size: (usize, usize)) -> Rect {
    let (width, height) = covering(picture, size);
    Rect::new((picture.0 - width) / 2, (picture.1 - height) / 2, width, height)
}

/// The covering rectangle with the most damaged pixels; of equally damaged ones the most central.
pub(super) fn worst(damage: &DamagedPixels, size: (usize, usize)) -> Rect {
    let picture = damage.mask().size();
    let middle = centered(picture, size);
    // One side spans the picture, so that the rectangle slides in the other direction only.
    let slides_across = middle.width < picture.0;
    let length = if slides_across { middle.width } else { middle.height };
    let preferred = if slides_across { middle.x } else { middle.y };
    let counts = damage.profile(slides_across);
    let mut inside: usize = counts[..length].iter().sum();
    let mut best = (inside, 0_usize);
    for start in 1..=counts.len() - length {
        inside = inside + counts[start + length - 1] - counts[start - 1];
        let closer = start.abs_diff(preferred) < best.1.abs_diff(preferred);
        if inside > best.0 || (inside == best.0 && closer) {
            best = (inside, start);
        }
    }
    if slides_across { Rect { x: best.1, ..middle } } else { Rect { y: best.1, ..middle } }
}

/// A rectangle at a random scale near a random damaged pixel, which is inside it. `None` if nothing is damaged.
pub(super) fn near_damage(
    damage: &DamagedPixels,
    size: (usize, usize),
    random: &mut SplitMix64,
) -> Option<Rect> {
    let picture = damage.mask().size();
    let (width, height) = at_random_scale(picture, size, random);
    let (x, y) = damage.pixel(random.below(damage.total().max(1)))?;
    // The pixel comes to lie in the middle half of the rectangle, unless the picture's border is near; moving the
    // rectangle back inside the picture never moves it past a pixel of the picture.
    let mut start = |at: usize, length: usize, limit: usize| {
        let before = length / 4 + random.below(length.div_ceil(2));
        at.saturating_sub(before).min(limit - length)
    };
    Some(Rect::new(start(x, width, picture.0), start(y, height, picture.1), width, height))
}

/// A rectangle at a random scale anywhere in the picture.
pub(super) fn anywhere(
    picture: (usize, usize),
    size: (usize, usize),
    random: &mut SplitMix64,
) -> Rect {
    let (width, height) = at_random_scale(picture, size, random);
    let x = random.below(picture.0 - width + 1);
    Rect::new(x, random.below(picture.1 - height + 1), width, height)
}

/// True if random rectangles of this picture are all the same: the whole picture, at one scale.
pub(super) fn is_always_whole(picture: (usize, usize), size: (usize, usize)) -> bool {
    largest_scale(picture, size) <= 1.0 && covering(picture, size) == picture
}

/// Pixels of the picture to one of the bucket in the covering rectangle.
fn largest_scale(picture: (usize, usize), size: (usize, usize)) -> f64 {
    (picture.0 as f64 / size.0 as f64).min(picture.1 as f64 / size.1 as f64)
}

/// The size of a rectangle between the covering one and one pixel for each of the bucket's; log-uniform.
fn at_random_scale(
    picture: (usize, usize),
    size: (usize, usize),
    random: &mut SplitMix64,
) -> (usize, usize) {
    let all = covering(picture, size);
    let largest = largest_scale(picture, size);
    // Drawn in any case, so that what follows does not depend on the picture's size.
    let drawn = f64::from(random.unit());
    if largest <= 1.0 {
        return all;
    }
    let scale = largest.powf(drawn);
    // Never below one pixel for each of the bucket's, and never beyond the picture.
    let side =
        |bucket: usize, all: usize| ((bucket as f64 * scale).round() as usize).max(bucket).min(all);
    (side(size.0, all.0), side(size.1, all.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dots(picture: (usize, usize), dots: &[(usize, usize)]) -> DamagedPixels {
        let dots: Vec<_> = dots.iter().map(|(x, y)| (x % picture.0, y % picture.1)).collect();
        DamagedPixels::new(Mask::from_fn(picture.0, picture.1, |x, y| dots.contains(&(x, y))))
    }

    proptest! {
        #[test]
        fn crops_stay_inside_and_see_damage(
            picture in (1_usize..150, 1_usize..150),
            size in (1_usize..12, 1_usize..12),
            damaged in proptest::collection::vec((0_usize..150, 0_usize..150), 1..5),
            seed in 0_u64..100_000,
        ) {
            let size = (8 * size.0, 8 * size.1);
            let damage = dots(picture, &damaged);
            let mut random = SplitMix64::new(seed);
            let near = near_damage(&damage, size, &mut random).expect("something is damaged");
            let all = [near, worst(&damage, size), centered(picture, size), anywhere(picture, size, &mut random)];
            for rect in all {
                prop_assert!(rect.width > 0 && rect.height > 0, "{rect:?}");
                prop_assert!(rect.right() <= picture.0 && rect.bottom() <= picture.1, "{rect:?}");
                // Never enlarged, unless the picture is smaller than the bucket.
                let (width, height) = covering(picture, size);
                prop_assert!(rect.width >= size.0.min(width) && rect.height >= size.1.min(height));
            }
            prop_assert!(damage.inside(near) > 0, "{near:?}");
            prop_assert!(damage.inside(worst(&damage, size)) > 0);
            if is_always_whole(picture, size) {
                prop_assert_eq!(near, Rect::new(0, 0, picture.0, picture.1));
            }
        }

        /// The worst crop against every place it could be.
        #[test]
        fn no_crop_is_worse_than_the_worst(
            picture in (1_usize..60, 1_usize..60),
            damaged in proptest::collection::vec((0_usize..60, 0_usize..60), 1..9),
        ) {
            let damage = dots(picture, &damaged);
            let worst = worst(&damage, (16, 24));
            for x in 0..=picture.0 - worst.width {
                for y in 0..=picture.1 - worst.height {
                    let other = Rect { x, y, ..worst };
                    prop_assert!(damage.inside(other) <= damage.inside(worst));
                }
            }
        }

        /// Every damaged pixel can be drawn, and no other.
        #[test]
        fn damaged_pixels_are_counted_row_by_row(
            picture in (1_usize..30, 1_usize..30),
            damaged in proptest::collection::vec((0_usize..30, 0_usize..30), 0..20),
        ) {
            let damage = dots(picture, &damaged);
            let found: Vec<_> = (0..damage.total()).map(|index| damage.pixel(index)).collect();
            let expected: Vec<_> = (0..picture.1)
                .flat_map(|y| (0..picture.0).map(move |x| (x, y)))
                .filter(|&(x, y)| damage.mask().plane().get(x, y) > 0)
                .map(Some)
                .collect();
            prop_assert_eq!(damage.pixel(damage.total()), None);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn scales_reach_from_single_pixels_to_the_whole_picture() {
        let damage = dots((400, 300), &[(7, 290)]);
        let mut random = SplitMix64::new(1);
        let widths: Vec<usize> = (0..2000)
            .filter_map(|_| near_damage(&damage, (40, 40), &mut random))
            .map(|rect| rect.width)
            .collect();
        let (low, high) = (widths.iter().min().copied(), widths.iter().max().copied());
        assert!(low == Some(40) && high >= Some(298), "{low:?} {high:?}");
        // Half of the scales lie below √(300 / 40) = 2.74, which is 110 pixels.
        let below = widths.iter().filter(|&&width| width < 110).count();
        assert!((900..1100).contains(&below), "{below}");
    }

    #[test]
    fn small_pictures_are_enlarged_no_more_than_needed() {
        assert_eq!(covering((30, 20), (64, 64)), (20, 20));
        assert_eq!(centered((30, 20), (64, 64)), Rect::new(5, 0, 20, 20));
        assert!(is_always_whole((20, 20), (64, 64)));
        assert!(is_always_whole((64, 64), (64, 64)));
        assert!(!is_always_whole((30, 20), (64, 64)));
        assert!(!is_always_whole((65, 65), (64, 64)));
    }
}
