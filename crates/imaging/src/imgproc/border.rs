//! What lies beyond the edge of a plane.

/// How pixels beyond the edge are made up, named as in OpenCV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Border {
    /// `dcb|abcd|cba`: mirrored about the edge pixel, which is not repeated.
    Reflect101,
    /// `aaa|abcd|ddd`: the edge pixel repeated.
    Replicate,
}

impl Border {
    /// The position inside `0 .. len` that stands for position `index`; `len` is at least 1.
    pub(super) fn index(self, index: isize, len: usize) -> usize {
        let last = len as isize - 1;
        if (0..=last).contains(&index) {
            return index as usize;
        }
        match self {
            Self::Replicate => index.clamp(0, last) as usize,
            Self::Reflect101 if last == 0 => 0,
            Self::Reflect101 => {
                let folded = index.rem_euclid(2 * last);
                folded.min(2 * last - folded) as usize
            }
        }
    }

    /// Writes `row` into `out` from position `radius` on, with `radius` made-up pixels on either side.
    ///
    /// `out` may be longer than `row.len() + 2 · radius`; what follows is left alone.
    pub(super) fn extend<S: Copy, T: From<S>>(self, row: &[S], radius: usize, out: &mut [T]) {
        for (out, &value) in out[radius..].iter_mut().zip(row) {
            *out = T::from(value);
        }
        for distance in 1..=radius {
            let left = self.index(-(distance as isize), row.len());
            let right = self.index((row.len() - 1 + distance) as isize, row.len());
            out[radius - distance] = T::from(row[left]);
            out[radius + row.len() - 1 + distance] = T::from(row[right]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflect_101_folds_as_often_as_needed() {
        // a b c, mirrored about both ends: ... c b | a b c | b a b c ...
        let expected = [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2];
        let found: Vec<_> = (-4..7).map(|i| Border::Reflect101.index(i, 3)).collect();
        assert_eq!(found, expected);
        assert_eq!(Border::Reflect101.index(-7, 1), 0);
    }

    #[test]
    fn extend_fills_both_sides() {
        let mut out = [9u16; 8];
        Border::Reflect101.extend(&[1u8, 2, 3], 2, &mut out);
        assert_eq!(out, [3, 2, 1, 2, 3, 2, 1, 9]);
        Border::Replicate.extend(&[1u8, 2, 3], 2, &mut out);
        assert_eq!(out, [1, 1, 1, 2, 3, 3, 3, 9]);
    }
}
