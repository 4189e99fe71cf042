//! Convex quadrilaterals: rectangles as a camera sees them.

use crate::damage::canvas::{Bounds, Cover, Shape};
use crate::damage::random::Random;

/// Four corners, clockwise on the screen (y down).
pub(super) type Corners = [(f32, f32); 4];

/// A filled quadrilateral with soft edges.
pub(super) struct Quad {
    corners: Corners,
    /// For each side the unit vector inwards and its product with a corner on the side.
    sides: [(f32, f32, f32); 4],
    softness: f32,
    strength: f32,
}

impl Quad {
    /// The quadrilateral with these corners, edges blurred over `softness` pixels.
    pub(super) fn new(corners: Corners, softness: f32, strength: f32) -> Self {
        let sides = std::array::from_fn(|index| {
            let (from, to) = (corners[index], corners[(index + 1) % 4]);
            let (dx, dy) = (to.0 - from.0, to.1 - from.1);
            let long = (dx * dx + dy * dy).sqrt().max(1e-6);
            // Clockwise with y down: the inside lies to the right of the way along a side.
            let (nx, ny) = (-dy / long, dx / long);
            (nx, ny, nx * from.0 + ny * from.1)
        });
        Self { corners, sides, softness, strength }
    }
}

impl Shape for Quad {
    fn bounds(&self) -> Bounds {
        let margin = self.softness + 1.0;
        self.corners.iter().fold([f32::MAX, f32::MAX, f32::MIN, f32::MIN], |bounds, &(x, y)| {
            [
                bounds[0].min(x - margin),
                bounds[1].min(y - margin),
                bounds[2].max(x + margin),
                bounds[3].max(y + margin),
            ]
        })
    }

    #[inline]
    fn cover(&self, x: f32, y: f32) -> Cover {
        let inside = self.sides.iter().map(|&(nx, ny, at)| nx * x + ny * y - at);
        let edge = inside.fold(f32::MAX, f32::min);
        let alpha = (edge / self.softness + 0.5).clamp(0.0, 1.0) * self.strength;
        Cover { alpha, height: 0.0 }
    }
}

/// A rectangle around `center` with half sides `half` in pixels, turned, and slanted by perspective: a share
/// `slant` of its size.
pub(super) fn corners(
    random: &mut Random,
    center: (f32, f32),
    half: (f32, f32),
    axis: (f32, f32),
    slant: f32,
) -> Corners {
    let squeeze = [0; 4].map(|_| 1.0 + slant * (random.unit() - 0.5));
    [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)].map(|(u, v): (f32, f32)| {
        let at = |u: f32, v: f32| {
            let high = if u < 0.0 { squeeze[0] } else { squeeze[1] };
            let wide = if v < 0.0 { squeeze[2] } else { squeeze[3] };
            (u * half.0 * wide, v * half.1 * high)
        };
        let (x, y) = at(u, v);
        (center.0 + x * axis.0 - y * axis.1, center.1 + x * axis.1 + y * axis.0)
    })
}

/// The point at `(u, v)` in `[0, 1]²` between the corners, bilinear.
pub(super) fn inside(corners: &Corners, u: f32, v: f32) -> (f32, f32) {
    let mix = |a: (f32, f32), b: (f32, f32), t: f32| (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1));
    mix(mix(corners[0], corners[1], u), mix(corners[3], corners[2], u), v)
}
