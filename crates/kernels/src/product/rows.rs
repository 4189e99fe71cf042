//! Where the rows of a product's left side start, and which row of the output each belongs to.

use std::ops::Range;

/// Of rows that are computed and dropped.
pub(crate) const NO_TARGET: usize = usize::MAX;

/// How a product's rows are numbered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows {
    /// Row `i` starts at `i · stride`; rows from `targets` on fill tiles.
    Plain { count: usize, targets: usize, stride: usize },
    /// Pixels of padded channels-last images.
    Pixels(Map),
}

/// Output pixels of a convolution, in the order that an engine takes them.
///
/// The matrix unit wants 16 rows at equal distances. Where 16 outputs are no part of one line of the picture, lines are
/// made longer: outputs beyond their end are computed from what lies there, and dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map {
    pub(crate) images: usize,
    pub(crate) out_height: usize,
    pub(crate) out_width: usize,
    /// Sides of the padded input.
    pub(crate) padded: (usize, usize),
    /// Numbers from one pixel of the padded input to the next.
    pub(crate) channels: usize,
    pub(crate) stride: usize,
    /// Rows in a line, outputs and others.
    line: usize,
    /// Rows in an image.
    per_image: usize,
}

impl Map {
    /// Rows are outputs, in order.
    pub(crate) const fn exact(
        images: usize,
        (out_height, out_width): (usize, usize),
        padded: (usize, usize),
        channels: usize,
        stride: usize,
    ) -> Self {
        let (line, per_image) = (out_width, out_height * out_width);
        Self { images, out_height, out_width, padded, channels, stride, line, per_image }
    }

    /// Every 16 rows from a multiple of 16 on are `stride` pixels apart.
    pub(crate) const fn in_tiles(mut self) -> Self {
        if !self.out_width.is_multiple_of(16) {
            if self.stride == 1 {
                self.line = self.padded.1;
                let rows = (self.out_height - 1) * self.line + self.out_width;
                self.per_image = rows.next_multiple_of(16);
            } else {
                self.line = self.out_width.next_multiple_of(16);
                self.per_image = self.out_height * self.line;
            }
        }
        self
    }

    /// Pixels behind the padded images that may be read under a kernel of `taps`.
    pub(crate) const fn slack(&self, taps: (usize, usize)) -> usize {
        16 * self.stride + taps.0 * self.padded.1 + taps.1
    }

    const fn place(&self, row: usize) -> (usize, usize, usize) {
        let (image, within) = (row / self.per_image, row % self.per_image);
        (image, within / self.line, within % self.line)
    }

    /// The places of rows from one on, without its divisions for each.
    fn places(&self, first: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut left = self.per_image - first % self.per_image;
        std::iter::successors(Some(self.place(first)), move |&(image, y, x)| {
            left -= 1;
            if left == 0 {
                left = self.per_image;
                return Some((image + 1, 0, 0));
            }
            Some(if x + 1 == self.line { (image, y + 1, 0) } else { (image, y, x + 1) })
        })
    }

    const fn offset(&self, (image, y, x): (usize, usize, usize)) -> usize {
        let (height, width) = self.padded;
        (image * height * width + (y * width + x) * self.stride) * self.channels
    }

    const fn target(&self, (image, y, x): (usize, usize, usize)) -> usize {
        if image < self.images && y < self.out_height && x < self.out_width {
            (image * self.out_height + y) * self.out_width + x
        } else {
            NO_TARGET
        }
    }
}

impl Rows {
    pub(crate) const fn count(&self) -> usize {
        match self {
            Self::Plain { count, .. } => *count,
            Self::Pixels(map) => map.images * map.per_image,
        }
    }

    /// Where a row starts.
    pub(crate) const fn offset(&self, row: usize) -> usize {
        match self {
            Self::Plain { stride, .. } => row * *stride,
            Self::Pixels(map) => map.offset(map.place(row)),
        }
    }

    /// Appends where neighbouring rows start.
    pub(crate) fn push_offsets(&self, rows: Range<usize>, to: &mut Vec<usize>) {
        match self {
            Self::Plain { stride, .. } => to.extend(rows.map(|row| row * stride)),
            Self::Pixels(map) => {
                let places = map.places(rows.start).take(rows.len());
                to.extend(places.map(|place| map.offset(place)));
            }
        }
    }

    /// Appends which rows of the output neighbouring rows are, or [`NO_TARGET`].
    pub(crate) fn push_targets(&self, rows: Range<usize>, to: &mut Vec<usize>) {
        match self {
            Self::Plain { targets, .. } => {
                to.extend(rows.map(|row| if row < *targets { row } else { NO_TARGET }));
            }
            Self::Pixels(map) => {
                let places = map.places(rows.start).take(rows.len());
                to.extend(places.map(|place| map.target(place)));
            }
        }
    }

    /// Numbers between neighbouring rows of a tile.
    pub(crate) const fn stride(&self) -> usize {
        match self {
            Self::Plain { stride, .. } => *stride,
            Self::Pixels(map) => map.stride * map.channels,
        }
    }
}
