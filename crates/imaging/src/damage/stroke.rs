//! Lines of varying width and strength, rendered with analytic coverage.

use super::canvas::{Bounds, Canvas, Cover, Layer, Shape};
use super::random::{Noise, lerp};

/// A point of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knot {
    pub(super) x: f32,
    pub(super) y: f32,
    /// Half the width here, in pixels.
    pub(super) half_width: f32,
    /// Opacity here, in `[0, 1]`.
    pub(super) strength: f32,
}

/// How the edges and the surroundings of a line look.
#[derive(Clone, Copy)]
pub(super) struct Brush {
    /// How far the edge strays in and out, relative to half the width.
    pub(super) fray: f32,
    /// Length of the edge's teeth, in pixels.
    pub(super) tooth: f32,
    /// Radius within which the surface is lifted, in pixels; 0 for none.
    pub(super) relief: f32,
    /// Shading that the lifted surface has at its steepest.
    pub(super) slope: f32,
    /// Share of the covered area left as islands of intact surface, in `[0, 1)`.
    pub(super) islands: f32,
    /// The noise of the edges.
    pub(super) noise: Noise,
}

impl Brush {
    /// A brush with a slightly uneven edge and no relief.
    pub(super) fn plain(canvas: &Canvas, noise: Noise) -> Self {
        Self {
            fray: 0.35,
            tooth: (1.6 * canvas.unit).max(1.2),
            relief: 0.0,
            slope: 0.0,
            islands: 0.0,
            noise,
        }
    }
}

/// One straight piece of a line.
struct Segment {
    start: Knot,
    end: Knot,
    brush: Brush,
    softness: f32,
    /// Height at the centre of the relief.
    peak: f32,
}

impl Shape for Segment {
    fn bounds(&self) -> Bounds {
        let half = self.start.half_width.max(self.end.half_width);
        let margin = (half * (1.0 + self.brush.fray) + self.softness).max(self.brush.relief) + 1.0;
        [
            self.start.x.min(self.end.x) - margin,
            self.start.y.min(self.end.y) - margin,
            self.start.x.max(self.end.x) + margin,
            self.start.y.max(self.end.y) + margin,
        ]
    }

    #[inline]
    fn cover(&self, x: f32, y: f32) -> Cover {
        let (ax, ay) = (self.end.x - self.start.x, self.end.y - self.start.y);
        let (px, py) = (x - self.start.x, y - self.start.y);
        let length = ax * ax + ay * ay;
        let t = if length > 0.0 { ((px * ax + py * ay) / length).clamp(0.0, 1.0) } else { 0.0 };
        let (dx, dy) = (px - t * ax, py - t * ay);
        let square = dx * dx + dy * dy;
        let mut half = lerp(self.start.half_width, self.end.half_width, t);
        let strength = lerp(self.start.strength, self.end.strength, t);
        let brush = &self.brush;
        let mut cover = Cover::default();
        if self.peak > 0.0 && square < brush.relief * brush.relief {
            let fall = 1.0 - square / (brush.relief * brush.relief);
            // A crease is as sharp as the break is strong.
            cover.height = self.peak * fall * fall * lerp(0.55, 1.0, strength);
        }
        let limit = half * (1.0 + brush.fray) + 0.5 * self.softness;
        if strength > 0.0 && square < limit * limit {
            let distance = square.sqrt();
            if brush.fray > 0.0 {
                let tooth = 1.0 / brush.tooth;
                let noise = brush.noise.fractal(x * tooth, y * tooth, 2, 0.6);
                half *= 1.0 + brush.fray * noise;
            }
            // The share of a box of the edge's softness that lies within the line.
            let soft = 0.5 * self.softness;
            let inside = (distance + soft).min(half) - (distance - soft).max(-half);
            cover.alpha = strength * (inside / self.softness).clamp(0.0, 1.0);
            if brush.islands > 0.0 {
                let scale = 0.45 / brush.tooth;
                let noise = brush.noise.other(7).fractal(x * scale, y * scale, 2, 0.6);
                // `noise` is below -1 + 2 · islands for about that share of the area.
                let intact = (2.0 * brush.islands - 1.0 - 1.3 * noise) * 3.0;
                cover.alpha *= 1.0 - intact.clamp(0.0, 1.0);
            }
        }
        cover
    }
}

/// Adds the line through `knots` to `layer`.
pub(super) fn stroke(layer: &mut Layer, canvas: &Canvas, knots: &[Knot], brush: Brush) {
    let softness = canvas.softness();
    // (1 - t²)² is steepest, 1.54 of its height a radius, at t = 0.58; shading takes the difference over
    // twice the reach.
    let peak = if brush.relief > 0.0 {
        brush.slope * brush.relief / (1.54 * 2.0 * canvas.reach())
    } else {
        0.0
    };
    for pair in knots.windows(2) {
        let [start, end] = [pair[0], pair[1]];
        if start.strength <= 0.0 && end.strength <= 0.0 && peak <= 0.0 {
            continue;
        }
        layer.push(Segment { start, end, brush, softness, peak });
    }
}
