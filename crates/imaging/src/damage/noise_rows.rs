//! Smooth noise for whole rows: the values of [`Noise::at`], of which neighbours share most of the work.
//!
//! The lattice is hashed once a cell rather than four times a pixel, and a lattice row serves every picture row
//! that lies beside it.

use super::random::{Noise, floor, lerp};

/// One noise field at one scale, over rows of one width.
pub(super) struct NoiseRows {
    noise: Noise,
    scale: f32,
    /// For each column the cell to its left and the weight of the one to its right.
    cells: Vec<u32>,
    weights: Vec<f32>,
    lattice: Vec<f32>,
    /// Two lattice rows, smoothed along the row, with their numbers.
    rows: [(i32, Vec<f32>); 2],
}

impl NoiseRows {
    /// The field with `scale` cells a pixel for rows of `width` pixels.
    pub(super) fn new(noise: Noise, scale: f32, width: usize) -> Self {
        let mut weights = Vec::with_capacity(width);
        let cells: Vec<u32> = (0..width)
            .map(|x| {
                let x = x as f32 * scale;
                let (cell, left) = floor(x);
                let t = x - left;
                weights.push(t * t * (3.0 - 2.0 * t));
                cell as u32
            })
            .collect();
        let count = cells.last().map_or(0, |&last| last as usize + 2);
        let row = || (i32::MIN, vec![0.0; width]);
        Self { noise, scale, cells, weights, lattice: vec![0.0; count], rows: [row(), row()] }
    }

    /// Adds `weight · noise(x · scale, y · scale)` to the value of each column `x`.
    #[inline(always)]
    pub(super) fn add(&mut self, y: usize, weight: f32, out: &mut [f32]) {
        let y = y as f32 * self.scale;
        let (line, t) = (y.floor() as i32, y - y.floor());
        let t = t * t * (3.0 - 2.0 * t);
        self.prepare(line);
        let [(_, top), (_, bottom)] = &self.rows;
        for ((out, &top), &bottom) in out.iter_mut().zip(top).zip(bottom) {
            *out += weight * lerp(top, bottom, t);
        }
    }

    /// Brings the lattice rows `line` and the next into place.
    #[inline(always)]
    fn prepare(&mut self, line: i32) {
        if self.rows[0].0 == line && self.rows[1].0 == line + 1 {
            return;
        }
        self.rows.swap(0, 1);
        for (index, wanted) in [line, line + 1].into_iter().enumerate() {
            if self.rows[index].0 == wanted {
                continue;
            }
            for (cell, value) in self.lattice.iter_mut().enumerate() {
                *value = self.noise.lattice(cell as i32, wanted);
            }
            let (number, row) = &mut self.rows[index];
            *number = wanted;
            for ((value, &cell), &t) in row.iter_mut().zip(&self.cells).zip(&self.weights) {
                let cell = cell as usize;
                *value = lerp(self.lattice[cell], self.lattice[cell + 1], t);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::random::Random;

    #[test]
    fn rows_have_the_values_of_points() {
        let noise = Noise::new(&mut Random::new(4, "rows"));
        for scale in [0.03, 0.7, 1.0, 2.6] {
            let mut rows = NoiseRows::new(noise, scale, 37);
            for y in [0, 1, 2, 9, 10, 40] {
                let mut row = vec![0.5; 37];
                rows.add(y, 2.0, &mut row);
                for (x, &value) in row.iter().enumerate() {
                    let expected = 0.5 + 2.0 * noise.at(x as f32 * scale, y as f32 * scale);
                    assert!((value - expected).abs() < 1e-5, "{scale} {x} {y}");
                }
            }
        }
    }
}
