//! Lines in pieces: even, tapering, bent.

use super::scene::Scene;
use crate::damage::canvas::Layer;
use crate::damage::random::{Noise, Random, rotated};
use crate::damage::stroke::{Brush, Knot, stroke};

/// A line that tapers and bends.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) start: (f32, f32),
    /// Unit vector.
    pub(super) heading: (f32, f32),
    /// In pixels.
    pub(super) length: f32,
    /// Half the width at the start and at the end, in pixels.
    pub(super) half: (f32, f32),
    /// Turns from the start to the end.
    pub(super) bend: f32,
    /// Further turns that come with noise along it.
    pub(super) sway: f32,
    /// Opacity.
    pub(super) strength: f32,
}

impl Line {
    /// Its points with their widths. What would be narrower than a pixel is a pixel wide and paler instead.
    pub(super) fn knots(&self, random: &mut Random, pieces: usize) -> Vec<Knot> {
        let noise = Noise::new(random);
        let step = self.length / pieces as f32;
        let (mut x, mut y) = self.start;
        let mut heading = self.heading;
        (0..=pieces)
            .map(|index| {
                let t = index as f32 / pieces as f32;
                let half = self.half.0 + (self.half.1 - self.half.0) * t;
                let knot = knot((x, y), half, self.strength);
                let turn = (self.bend + self.sway * noise.along(t * 3.0)) / pieces as f32;
                heading = rotated(heading, turn);
                (x, y) = (x + step * heading.0, y + step * heading.1);
                knot
            })
            .collect()
    }
}

/// A point of a line, in pixels; below half a pixel the width stays and the strength falls.
pub(super) fn knot((x, y): (f32, f32), half: f32, strength: f32) -> Knot {
    let half_width = half.max(0.5);
    Knot { x, y, half_width, strength: strength * (half / half_width).clamp(0.0, 1.0) }
}

/// Adds a line with a clean edge.
pub(super) fn clean(scene: &Scene<'_>, layer: &mut Layer, random: &mut Random, knots: &[Knot]) {
    let noise = Noise::new(random);
    stroke(layer, &scene.canvas, knots, Brush { fray: 0.0, ..Brush::plain(&scene.canvas, noise) });
}

/// Adds a straight line from one point to another, cut into pieces so that each has little around it.
pub(super) fn straight(
    scene: &Scene<'_>,
    layer: &mut Layer,
    random: &mut Random,
    (from, to): ((f32, f32), (f32, f32)),
    half: f32,
    strength: f32,
) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let pieces = ((dx.abs().max(dy.abs()) / 40.0).ceil() as usize).clamp(1, 1000);
    let knots: Vec<Knot> = (0..=pieces)
        .map(|index| {
            let t = index as f32 / pieces as f32;
            knot((from.0 + t * dx, from.1 + t * dy), half, strength)
        })
        .collect();
    clean(scene, layer, random, &knots);
}
