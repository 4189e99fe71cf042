//! Areas with an irregular outline.

use super::canvas::{Bounds, Canvas, Cover, Shape};
use super::random::{Noise, floor, smoothstep};

/// An irregular area: an ellipse whose outline strays with noise, whole or hollow, crisp or soft.
#[derive(Clone, Copy)]
pub(super) struct Blob {
    /// Centre, in pixels.
    pub(super) center: (f32, f32),
    /// Mean half axes, in pixels.
    pub(super) radii: (f32, f32),
    /// The direction of the first axis, a unit vector.
    pub(super) axis: (f32, f32),
    /// How far the outline strays, relative to the radius.
    pub(super) rough: f32,
    /// Length of the outline's features relative to the radius.
    pub(super) feature: f32,
    /// Octaves of the outline's noise: 1 is rounded, 5 frayed.
    pub(super) octaves: u32,
    /// Angular flakes rather than a smooth outline, in `[0, 1]`.
    pub(super) flaky: f32,
    /// Width over which the edge fades, in pixels.
    pub(super) softness: f32,
    /// Opacity inside, in `[0, 1]`.
    pub(super) strength: f32,
    /// Opacity added along the rim (a tide line), in `[0, 1]`.
    pub(super) rim: f32,
    /// Share of the inside left as islands, in `[0, 1)`.
    pub(super) islands: f32,
    /// Size of the islands, in pixels.
    pub(super) island_size: f32,
    /// The noise of the outline.
    pub(super) noise: Noise,
}

impl Blob {
    /// An opaque blob with a slightly rough outline.
    pub(super) fn new(canvas: &Canvas, center: (f32, f32), radius: f32, noise: Noise) -> Self {
        Self {
            center,
            radii: (radius, radius),
            axis: (1.0, 0.0),
            rough: 0.45,
            feature: 0.7,
            octaves: 3,
            flaky: 0.0,
            softness: canvas.softness(),
            strength: 1.0,
            rim: 0.0,
            islands: 0.0,
            island_size: (3.0 * canvas.unit).max(1.0),
            noise,
        }
    }
}

impl Shape for Blob {
    fn bounds(&self) -> Bounds {
        let reach = self.radii.0.max(self.radii.1) * (1.0 + self.rough) + self.softness + 1.0;
        let (x, y) = self.center;
        [x - reach, y - reach, x + reach, y + reach]
    }

    fn cover(&self, x: f32, y: f32) -> Cover {
        if self.flaky == 0.0 {
            return Cover { alpha: self.alpha(x, y), height: 0.0 };
        }
        // Flakes end abruptly: four samples a pixel smooth their edges.
        let quarter = 0.25;
        let alpha = self.alpha(x - quarter, y - quarter)
            + self.alpha(x + quarter, y - quarter)
            + self.alpha(x - quarter, y + quarter)
            + self.alpha(x + quarter, y + quarter);
        Cover { alpha: 0.25 * alpha, height: 0.0 }
    }
}

impl Blob {
    fn alpha(&self, x: f32, y: f32) -> f32 {
        let (px, py) = (x - self.center.0, y - self.center.1);
        let (ax, ay) = self.axis;
        let (px, py) = (px * ax + py * ay, py * ax - px * ay);
        let (qx, qy) = (px / self.radii.0, py / self.radii.1);
        let norm = (qx * qx + qy * qy).sqrt();
        let mean = 0.5 * (self.radii.0 + self.radii.1);
        // Outside the farthest that the outline strays there is nothing to compute.
        if norm > 1.0 + self.rough + self.softness / mean {
            return 0.0;
        }
        // Nor where the outline does not come so far inwards, unless rim or islands need the distance.
        let plain = self.rim == 0.0 && self.islands == 0.0;
        let sure = 0.501 * self.softness / mean;
        if plain && norm < 1.0 - self.rough - sure {
            return self.strength.min(1.0);
        }
        let scale = 1.0 / (mean * self.feature);
        let smooth = self.noise.fractal(x * scale, y * scale, self.octaves, 0.5) * 1.6;
        let mut stray = smooth;
        if self.flaky > 0.0 {
            // Flakes move the outline by so much at most: often that decides it.
            let (held, span) = (smooth * (1.0 - self.flaky), self.flaky);
            let reach = |stray: f32| 1.0 + self.rough * stray.clamp(-1.0, 1.0) - norm;
            if reach(held + span) < -sure {
                return 0.0;
            }
            if plain && reach(held - span) > sure {
                return self.strength.min(1.0);
            }
            let flakes = flake(self.noise, x * scale * 1.7, y * scale * 1.7);
            stray += self.flaky * (flakes - smooth);
        }
        // Distance to the outline in pixels, positive inside; exact enough near the outline.
        let edge = (1.0 + self.rough * stray.clamp(-1.0, 1.0) - norm) * mean;
        let inside = smoothstep(-0.5 * self.softness, 0.5 * self.softness, edge);
        let mut alpha = inside * self.strength;
        if self.rim > 0.0 {
            let width = (0.07 * mean).max(self.softness);
            let t = (edge - 0.6 * width) / width;
            alpha += inside * self.rim * (1.0 - t * t).max(0.0);
        }
        if self.islands > 0.0 && alpha > 0.0 {
            let scale = 1.0 / self.island_size;
            let noise = self.noise.other(5).fractal(x * scale, y * scale, 3, 0.6);
            // More islands towards the edge, where the surface still holds.
            let near = 1.0 - smoothstep(0.0, 0.55 * mean, edge);
            let threshold = 2.0 * self.islands * (0.5 + 0.9 * near) - 1.0;
            let intact = (threshold - 1.5 * noise) * self.island_size / self.softness;
            alpha *= 1.0 - intact.clamp(0.0, 1.0);
        }
        alpha.min(1.0)
    }
}

/// A value in `[-1, 1]` constant over each cell of a Voronoi diagram with unit spacing: flakes hold or fall whole.
pub(super) fn flake(noise: Noise, x: f32, y: f32) -> f32 {
    let ((cx, _), (cy, _)) = (floor(x), floor(y));
    let (shift_x, shift_y) = (noise.other(11), noise.other(12));
    let (mut best, mut cell) = (f32::MAX, (cx, cy));
    // The own cell first, as most others are then too far away to be looked at. A centre is at most 0.45 away from
    // the middle of its cell.
    let nearest = |middle: f32| (middle.abs() - 0.45).max(0.0);
    for iy in [cy, cy - 1, cy + 1] {
        let middle_y = iy as f32 + 0.5 - y;
        let low = nearest(middle_y);
        for ix in [cx, cx - 1, cx + 1] {
            let middle_x = ix as f32 + 0.5 - x;
            let near = nearest(middle_x);
            if near * near + low * low >= best {
                continue;
            }
            let dx = middle_x + 0.45 * shift_x.lattice(ix, iy);
            let dy = middle_y + 0.45 * shift_y.lattice(ix, iy);
            let square = dx * dx + dy * dy;
            if square < best {
                (best, cell) = (square, (ix, iy));
            }
        }
    }
    noise.other(13).lattice(cell.0, cell.1)
}
