//! Missing emulsion or paint.
//!
//! Flakes that fell off down to the paper or ground, patches rubbed thin, chips along the border, and corners
//! torn off with a band of bare fibres along the break.

use super::blob::Blob;
use super::canvas::{Bounds, Canvas, Cover, Layer, Shape};
use super::cracks::border_start;
use super::exposed::exposed;
use super::material::Material;
use super::random::{Noise, Random, lerp, rotated, smoothstep};
use super::stroke::{Brush, Knot, stroke};

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let unit = canvas.unit;
    let (width, height) = (canvas.width(), canvas.height());
    let noise = Noise::new(random);
    let age = random.skewed(0.0, 0.9);
    let mut layer = Layer::new(ground(canvas, random, age), random.range(0.15, 0.4));
    let flaky = random.range(0.25, 0.9);

    // 1. Flakes, the large ones with satellites. Some reach another layer than the rest.
    let share = if random.chance(0.4) { random.range(0.2, 0.8) } else { 0.0 };
    let mut deeper = Layer::new(exposed(canvas, random), random.range(0.0, 0.3));
    let vast = random.chance(0.04 + 0.16 * severity);
    for index in 0..random.count(lerp(1.5, 6.0, severity)) as u32 + 1 {
        let noise = noise.other(50 * index + 1);
        let center = (random.unit() * width, random.unit() * height);
        let mut radius = unit * random.skewed(4.0, 14.0 + 34.0 * severity);
        if vast && index == 0 {
            radius = unit * random.range(40.0, 100.0);
        }
        let layer = if random.chance(share) { &mut deeper } else { &mut layer };
        let stretch = random.range(0.55, 1.0);
        let blob = Blob {
            radii: ((radius / stretch).max(0.5), (radius * stretch).max(0.5)),
            axis: random.direction(),
            rough: random.range(0.5, 0.8),
            feature: random.range(0.5, 1.0),
            octaves: 2 + random.below(3) as u32,
            flaky: flaky * random.range(0.5, 1.0),
            islands: if random.chance(0.4) { random.range(0.05, 0.22) } else { 0.0 },
            island_size: (unit * random.range(3.0, 8.0)).max(1.0),
            ..Blob::new(canvas, center, radius, noise)
        };
        layer.push(blob);
        for satellite in 0..random.count(2.0 + 5.0 * severity) as u32 {
            let (dx, dy) = random.direction();
            let away = radius * random.range(1.1, 2.4);
            let center = (center.0 + away * dx, center.1 + away * dy);
            let radius = (radius * random.skewed(0.06, 0.3)).max(0.5);
            let noise = noise.other(satellite + 1);
            layer.push(Blob { rough: 0.7, flaky, ..Blob::new(canvas, center, radius, noise) });
        }
    }

    // 2. Chips along the border.
    for index in 0..random.count(lerp(2.0, 16.0, severity)) as u32 {
        let (center, _) = border_start(canvas, random);
        let radius = (unit * random.skewed(1.5, 6.0 + 8.0 * severity)).max(0.5);
        let noise = noise.other(5000 + index);
        let stretch = random.range(0.5, 1.0);
        layer.push(Blob {
            radii: (radius / stretch, radius * stretch),
            axis: if random.chance(0.5) { (1.0, 0.0) } else { (0.0, 1.0) },
            rough: 0.75,
            flaky: 0.4,
            ..Blob::new(canvas, center, radius, noise)
        });
    }
    canvas.paint(&layer);
    canvas.paint(&deeper);

    // 3. Rubbed patches: a swarm of short scuffs along one direction, with specks between them.
    if random.chance(0.3 + 0.4 * severity) {
        let mut rubbed = Layer::new(Material::Paper { age }, 0.06);
        for index in 0..1 + random.below(3) as u32 {
            let center = (random.unit() * width, random.unit() * height);
            let radius = unit * random.range(9.0, 20.0 + 30.0 * severity);
            let heading = random.direction();
            scuffs(
                &mut rubbed,
                canvas,
                random,
                (center, heading, radius),
                noise.other(7000 + index),
            );
        }
        canvas.paint(&rubbed);
    }

    // 4. Corners torn off.
    for corner in 0..4_u32 {
        if random.chance(0.03 + 0.2 * severity) {
            torn_corner(canvas, random, severity, corner, noise.other(8000 + corner));
        }
    }
}

/// Short marks around a place, in pixels, along a direction; most where it was rubbed hardest.
fn scuffs(
    layer: &mut Layer,
    canvas: &Canvas,
    random: &mut Random,
    (center, heading, radius): ((f32, f32), (f32, f32), f32),
    noise: Noise,
) {
    let unit = canvas.unit;
    let area = radius * radius / (unit * unit);
    let brush = Brush { fray: 0.5, ..Brush::plain(canvas, noise) };
    let density = random.range(0.18, 0.45);
    for _ in 0..random.count((area * density).min(1500.0)) {
        let (u, v) = (1.1 * radius * random.normal() * 0.6, radius * random.normal() * 0.4);
        let start =
            (center.0 + u * heading.0 - v * heading.1, center.1 + u * heading.1 + v * heading.0);
        let (dx, dy) = rotated(heading, 0.035 * random.normal());
        let length = unit * random.skewed(0.6, 8.0);
        let half_width = (unit * random.range(0.2, 0.6)).max(0.25);
        let strength = random.skewed(0.12, 1.0);
        let end = (start.0 + length * dx, start.1 + length * dy);
        let knot = |(x, y), strength| Knot { x, y, half_width, strength };
        stroke(layer, canvas, &[knot(start, strength), knot(end, 0.6 * strength)], brush);
    }
}

/// What shows under the lost surface: mostly paper, else anything from a dark ground to bare glue.
fn ground(canvas: &Canvas, random: &mut Random, age: f32) -> Material {
    if random.chance(0.7) { Material::Paper { age } } else { exposed(canvas, random) }
}

fn torn_corner(canvas: &mut Canvas, random: &mut Random, severity: f32, corner: u32, noise: Noise) {
    let (width, height) = (canvas.width(), canvas.height());
    let side = width.min(height);
    let corner = (if corner & 1 == 0 { 0.0 } else { width }, if corner < 2 { 0.0 } else { height });
    let reach = side * random.range(0.05, 0.10 + 0.2 * severity);
    // From the picture towards the corner, with some slant.
    let x = if corner.0 == 0.0 { -1.0 } else { 1.0 } * random.range(0.5, 1.0);
    let y = if corner.1 == 0.0 { -1.0 } else { 1.0 } * random.range(0.5, 1.0);
    let long = f32::sqrt(x * x + y * y);
    let cut = |offset: f32, rough: f32, softness: f32, noise: Noise| Cut {
        corner,
        towards: (x / long, y / long),
        reach: reach + offset,
        limit: reach * 3.0 + 30.0 * offset.abs(),
        rough,
        feature: 0.8 * reach,
        softness,
        noise,
    };
    let unit = canvas.unit;
    let band = unit * random.range(2.0, 5.0 + 5.0 * severity);
    let softness = canvas.softness();
    let mut core = Layer::new(Material::Paper { age: random.skewed(0.1, 0.8) }, 0.25);
    core.push(cut(band, 0.16 * reach + 1.2 * band, softness, noise));
    canvas.paint(&core);
    let color = canvas.medium.backing;
    let mut hole = Layer::new(Material::Flat { color, grain: 0.02 }, 0.3);
    hole.push(cut(-0.5 * band, 0.16 * reach + 0.4 * band, softness, noise));
    canvas.paint(&hole);
}

/// Everything beyond a rough line near a corner.
struct Cut {
    corner: (f32, f32),
    /// Unit vector from the picture to the corner.
    towards: (f32, f32),
    /// Distance of the line from the corner, in pixels.
    reach: f32,
    /// Nothing is cut farther than this from the corner, in pixels.
    limit: f32,
    /// How far the line strays, in pixels.
    rough: f32,
    /// Length of its features, in pixels.
    feature: f32,
    softness: f32,
    noise: Noise,
}

impl Shape for Cut {
    fn bounds(&self) -> Bounds {
        let (x, y) = self.corner;
        [x - self.limit, y - self.limit, x + self.limit, y + self.limit]
    }

    fn cover(&self, x: f32, y: f32) -> Cover {
        let (px, py) = (x - self.corner.0, y - self.corner.1);
        let inwards = -(px * self.towards.0 + py * self.towards.1);
        if inwards > self.reach + self.rough + self.softness {
            return Cover::default();
        }
        let scale = 1.0 / self.feature;
        let stray = self.noise.fractal(x * scale, y * scale, 6, 0.55) * 1.5;
        let edge = self.reach + self.rough * stray.clamp(-1.0, 1.0) - inwards;
        let alpha = smoothstep(-0.5 * self.softness, 0.5 * self.softness, edge);
        Cover { alpha, height: 0.0 }
    }
}
