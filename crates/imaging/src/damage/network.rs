//! Growth of cracks that end where they meet another, as cracks in a brittle layer do.
//!
//! A crack relieves the stress across it, so the next one runs into it and stops: the patterns that result are
//! those of a Gilbert tessellation (E. N. Gilbert, 1967) with wandering lines. Branches and T-junctions need
//! no rule of their own beyond that.

use super::random::{Noise, Random, rotated};

/// How one crack grows.
#[derive(Clone, Copy)]
pub(super) struct Growth {
    /// Pixels a step.
    pub(super) step: f32,
    /// Longest length, in pixels.
    pub(super) length: f32,
    /// Random turn off the course a step, in turns (standard deviation); it dies away over some seven steps.
    pub(super) jitter: f32,
    /// Slow wander of the course: turns a step at most, from a smooth field.
    pub(super) wander: f32,
    /// Probability of a sharp kink a step.
    pub(super) kinks: f32,
}

/// A crack: its points from the start on.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    pub(super) points: Vec<(f32, f32)>,
    /// True if it ran into another crack.
    pub(super) met: bool,
}

impl Path {
    /// Length in pixels.
    pub(super) fn length(&self) -> f32 {
        let pieces = self.points.windows(2);
        pieces.map(|pair| distance(pair[0], pair[1])).sum()
    }
}

/// Euclidean distance.
pub(super) fn distance(a: (f32, f32), b: (f32, f32)) -> f32 {
    let (x, y) = (a.0 - b.0, a.1 - b.1);
    (x * x + y * y).sqrt()
}

/// Cracks on a picture, and where they are.
pub(super) struct Network {
    cell: f32,
    columns: usize,
    rows: usize,
    /// For each cell the crack that passed last (its number + 1; 0 for none) and where.
    cells: Vec<(u32, f32, f32)>,
    paths: u32,
    wander: Noise,
    scale: f32,
}

impl Network {
    /// Nothing on `width × height` pixels yet; cracks closer than `cell` pixels meet.
    pub(super) fn new(width: f32, height: f32, cell: f32, random: &mut Random) -> Self {
        let columns = (width / cell).ceil() as usize + 1;
        let rows = (height / cell).ceil() as usize + 1;
        Self {
            cell,
            columns,
            rows,
            cells: vec![(0, 0.0, 0.0); columns * rows],
            paths: 0,
            wander: Noise::new(random),
            scale: 1.0 / (cell * 16.0),
        }
    }

    fn index(&self, x: f32, y: f32) -> Option<usize> {
        let (column, row) = ((x / self.cell).floor(), (y / self.cell).floor());
        let inside = column >= 0.0
            && row >= 0.0
            && (column as usize) < self.columns
            && (row as usize) < self.rows;
        inside.then(|| row as usize * self.columns + column as usize)
    }

    /// True if a crack passes within about `radius` pixels of the point.
    pub(super) fn occupied(&self, (x, y): (f32, f32), radius: f32) -> bool {
        let range = |center: f32, cells: usize| {
            let first = ((center - radius) / self.cell).floor().max(0.0) as usize;
            let last = ((center + radius) / self.cell).floor().max(0.0) as usize;
            first.min(cells)..(last + 1).min(cells)
        };
        range(y, self.rows).any(|row| {
            range(x, self.columns).any(|column| {
                let (path, px, py) = self.cells[row * self.columns + column];
                path != 0 && distance((px, py), (x, y)) <= radius
            })
        })
    }

    /// Grows a crack from `start` towards `heading` (a unit vector) until it is long enough, leaves the
    /// picture, or meets another.
    pub(super) fn grow(
        &mut self,
        random: &mut Random,
        start: (f32, f32),
        heading: (f32, f32),
        growth: &Growth,
    ) -> Path {
        self.paths += 1;
        let number = self.paths;
        let mut path = Path { points: vec![start], met: false };
        let (mut position, mut course) = (start, heading);
        let (mut grown, mut stray) = (0.0, 0.0);
        while grown < growth.length {
            let field =
                self.wander.fractal(position.0 * self.scale, position.1 * self.scale, 2, 0.5);
            course = rotated(course, growth.wander * field);
            // A crack strays from its course and comes back to it: it does not curl up.
            stray = 0.86 * stray + growth.jitter * random.normal();
            if random.chance(growth.kinks) {
                stray += random.sign() * random.range(0.05, 0.13);
            }
            let heading = rotated(course, stray);
            let stride = growth.step * random.range(0.6, 1.4);
            grown += stride;
            // Cells are looked at every half cell, so that no crack is stepped over.
            let looks = (2.0 * stride / self.cell).ceil().max(1.0);
            let (dx, dy) = (stride / looks * heading.0, stride / looks * heading.1);
            for _ in 0..looks as usize {
                position = (position.0 + dx, position.1 + dy);
                let Some(index) = self.index(position.0, position.1) else {
                    // Beyond the picture: the last piece crosses its edge.
                    path.points.push(position);
                    return path;
                };
                let (other, x, y) = self.cells[index];
                // At its start a branch is still beside the crack that it left.
                let clear = grown > 2.5 * self.cell || distance(start, (x, y)) > 2.0 * self.cell;
                if other != 0 && other != number && clear {
                    path.points.push((x, y));
                    path.met = true;
                    return path;
                }
                self.cells[index] = (number, position.0, position.1);
            }
            path.points.push(position);
        }
        path
    }
}

/// `points` with each piece halved `times` times, new points straying sideways by about `rough` of the piece.
pub(super) fn roughened(
    points: &[(f32, f32)],
    times: u32,
    rough: f32,
    random: &mut Random,
) -> Vec<(f32, f32)> {
    let mut points = points.to_vec();
    for _ in 0..times {
        let mut finer = Vec::with_capacity(points.len() * 2);
        for pair in points.windows(2) {
            let [(ax, ay), (bx, by)] = [pair[0], pair[1]];
            let stray = rough * random.normal() * 0.5;
            finer.push((ax, ay));
            finer.push((0.5 * (ax + bx) - stray * (by - ay), 0.5 * (ay + by) + stray * (bx - ax)));
        }
        finer.extend(points.last());
        points = finer;
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROWTH: Growth =
        Growth { step: 4.0, length: 300.0, jitter: 0.01, wander: 0.01, kinks: 0.05 };

    #[test]
    fn a_crack_stops_at_another() {
        let mut random = Random::new(5, "network");
        let mut network = Network::new(200.0, 200.0, 4.0, &mut random);
        let straight = Growth { jitter: 0.0, wander: 0.0, kinks: 0.0, ..GROWTH };
        let first = network.grow(&mut random, (0.0, 100.0), (1.0, 0.0), &straight);
        assert!(!first.met && first.length() >= 200.0);
        let second = network.grow(&mut random, (100.0, 10.0), (0.0, 1.0), &straight);
        assert!(second.met);
        let end = second.points[second.points.len() - 1];
        assert!((end.1 - 100.0).abs() < 0.5, "{end:?}");
        assert!(network.occupied((50.0, 103.0), 6.0) && !network.occupied((50.0, 150.0), 6.0));
    }

    #[test]
    fn growth_ends_on_the_smallest_picture() {
        let mut random = Random::new(6, "network");
        let mut network = Network::new(1.0, 1.0, 0.5, &mut random);
        for _ in 0..20 {
            let heading = random.direction();
            let path = network.grow(&mut random, (0.5, 0.5), heading, &GROWTH);
            assert!(path.points.len() < 100);
        }
    }

    #[test]
    fn roughening_keeps_the_ends() {
        let mut random = Random::new(7, "rough");
        let points = roughened(&[(0.0, 0.0), (8.0, 0.0)], 3, 0.3, &mut random);
        assert_eq!(points.len(), 9);
        assert_eq!((points[0], points[8]), ((0.0, 0.0), (8.0, 0.0)));
    }
}
