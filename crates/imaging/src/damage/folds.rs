//! Creases where the print was folded.
//!
//! A fold runs straight from border to border. Along it the emulsion is broken for stretches and shows paper;
//! the paper stays bent, so that one side of the line catches the light and the other turns away. Short cracks
//! leave it sideways, and where two folds cross a piece is usually gone.

use super::blob::Blob;
use super::canvas::{Canvas, Layer};
use super::cracks::border_start;
use super::exposed::exposed;
use super::material::Material;
use super::network::distance;
use super::random::{Noise, Random, lerp, rotated, smoothstep};
use super::stroke::{Brush, Knot, stroke};

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let unit = canvas.unit;
    let noise = Noise::new(random);
    let age = random.skewed(0.1, 0.9);
    let broken = if random.chance(0.8) { Material::Paper { age } } else { exposed(canvas, random) };
    let mut layer = Layer::new(broken, random.range(0.12, 0.3));
    // Dirt and rubbed-off emulsion gather beside some folds: a dark rim around the bright core.
    let mut dirt = Layer::new(Material::Tint([0.42, 0.38, 0.33]), 0.0);
    let dirty = random.chance(0.35);
    let mut bends = Layer::new(Material::Paper { age }, 0.0);
    let lines = fold_lines(canvas, random, severity);

    for (index, &(from, to)) in lines.iter().enumerate() {
        let noise = noise.other(100 * index as u32 + 100);
        let worn = random.range(0.15, 0.5) + 0.45 * severity;
        let half = random.range(0.55, 0.9) + random.range(0.3, 1.3) * severity;
        let knots = crease(canvas, from, to, noise, half, worn);
        // 1. The bend itself, unbroken from end to end.
        let bend = Brush {
            relief: unit.max(0.7) * random.range(3.5, 5.5 + 3.5 * severity),
            slope: random.range(0.16, 0.3 + 0.25 * severity),
            ..Brush::plain(canvas, noise)
        };
        let hidden: Vec<Knot> = knots.iter().map(|&knot| Knot { strength: 0.0, ..knot }).collect();
        stroke(&mut bends, canvas, &hidden, bend);
        // 2. Broken emulsion along it.
        let brush = Brush {
            fray: random.range(0.4, 0.65),
            tooth: (2.2 * unit).max(1.1),
            islands: random.range(0.05, 0.2),
            ..Brush::plain(canvas, noise)
        };
        stroke(&mut layer, canvas, &knots, brush);
        if dirty {
            let spread = random.range(1.6, 3.2);
            let wider = |knot: &Knot| Knot {
                half_width: knot.half_width * spread + 0.6 * unit,
                strength: 0.55 * knot.strength + 0.1,
                ..*knot
            };
            let rim: Vec<Knot> = knots.iter().map(wider).collect();
            stroke(&mut dirt, canvas, &rim, Brush { islands: 0.1, ..brush });
        }
        // 3. Short cracks that leave it, and flakes that fell off beside it.
        for (at, knot) in knots.iter().enumerate() {
            if random.chance(0.012 + 0.035 * severity * knot.strength) {
                let side = knots[(at + 1).min(knots.len() - 1)];
                let long = distance((knot.x, knot.y), (side.x, side.y)).max(1e-3);
                let along = ((side.x - knot.x) / long, (side.y - knot.y) / long);
                let heading = rotated(along, random.sign() * random.range(0.12, 0.3));
                let spur = spur(canvas, (knot.x, knot.y), heading, random);
                stroke(&mut layer, canvas, &spur, brush);
            }
            if random.chance(0.010 + 0.03 * severity * knot.strength) {
                let radius = (unit * half * random.range(0.9, 2.6)).max(0.5);
                layer.push(Blob {
                    rough: 0.7,
                    flaky: 0.5,
                    islands: 0.12,
                    ..Blob::new(canvas, (knot.x, knot.y), radius, noise.other(at as u32))
                });
            }
        }
        // 4. The gap where it crosses an earlier fold.
        for &other in &lines[..index] {
            if let Some(center) = crossing((from, to), other) {
                let radius = unit * half * random.range(2.0, 4.0 + 3.0 * severity);
                let axis = random.direction();
                layer.push(Blob {
                    radii: (radius.max(0.5), (0.6 * radius).max(0.5)),
                    axis,
                    rough: 0.75,
                    flaky: 0.5,
                    islands: 0.15,
                    ..Blob::new(canvas, center, radius.max(0.5), noise.other(77))
                });
            }
        }
    }
    canvas.paint(&bends);
    canvas.paint(&dirt);
    canvas.paint(&layer);
}

type Line = ((f32, f32), (f32, f32));

/// Where the print was folded: through the middle, twice, at a corner, or anyhow.
fn fold_lines(canvas: &Canvas, random: &mut Random, severity: f32) -> Vec<Line> {
    let (width, height) = (canvas.width(), canvas.height());
    let tilt = |random: &mut Random| 0.03 * random.normal();
    let mut lines = Vec::new();
    for _ in 0..random.count(lerp(0.2, 2.4, severity)) + 1 {
        lines.push(match random.below(5) {
            0 | 1 => {
                // Across.
                let y = random.range(0.15, 0.85);
                let (left, right) = (y + tilt(random), y + tilt(random));
                ((0.0, left * height), (width, right * height))
            }
            2 => {
                let x = random.range(0.15, 0.85);
                let (top, bottom) = (x + tilt(random), x + tilt(random));
                ((top * width, 0.0), (bottom * width, height))
            }
            3 => {
                // A dog-ear.
                let reach = 0.12 + 0.3 * random.unit();
                let other = reach * random.range(0.6, 1.4);
                let x = if random.chance(0.5) { 0.0 } else { width };
                let y = if random.chance(0.5) { 0.0 } else { height };
                let inwards = |from: f32, size: f32, reach: f32| {
                    if from == 0.0 { reach * size } else { size - reach * size }
                };
                ((x, inwards(y, height, other)), (inwards(x, width, reach), y))
            }
            _ => {
                let (start, heading) = border_start(canvas, random);
                let far = width + height;
                let end = (start.0 + far * heading.0, start.1 + far * heading.1);
                (start, end)
            }
        });
    }
    lines
}

/// The fold from one end to the other with widths.
fn crease(
    canvas: &Canvas,
    from: (f32, f32),
    to: (f32, f32),
    noise: Noise,
    half: f32,
    worn: f32,
) -> Vec<Knot> {
    let unit = canvas.unit;
    let length = distance(from, to).max(1e-3);
    let along = ((to.0 - from.0) / length, (to.1 - from.1) / length);
    let steps = ((length / (3.0 * unit)).ceil() as usize).clamp(1, 4000);
    (0..=steps)
        .map(|index| {
            let t = index as f32 / steps as f32;
            let distance = t * length / unit;
            let sway = unit
                * (2.6 * noise.other(1).along(distance / 90.0)
                    + 0.7 * noise.other(2).along(distance / 9.0)
                    + 0.35 * noise.other(3).along(distance / 3.5));
            let slow = noise.other(4).along(distance / 60.0);
            let quick = noise.other(5).along(distance / 8.0);
            Knot {
                x: from.0 + t * length * along.0 - sway * along.1,
                y: from.1 + t * length * along.1 + sway * along.0,
                half_width: (half * unit * (1.0 + 0.5 * slow + 0.5 * quick).max(0.15)).max(0.3),
                strength: smoothstep(-0.4, 0.25, slow + 0.55 * quick + 2.0 * worn - 1.0)
                    * (0.86 + 0.14 * noise.other(6).along(distance / 2.5)),
            }
        })
        .collect()
}

/// A short crack from `start`.
fn spur(canvas: &Canvas, start: (f32, f32), heading: (f32, f32), random: &mut Random) -> Vec<Knot> {
    let unit = canvas.unit;
    let (mut position, mut heading) = (start, heading);
    let steps = 3 + random.below(9);
    let half = random.range(0.35, 0.8);
    (0..=steps)
        .map(|index| {
            let left = 1.0 - index as f32 / steps as f32;
            let knot = Knot {
                x: position.0,
                y: position.1,
                half_width: (half * unit * (0.4 + 0.6 * left)).max(0.28),
                strength: 0.25 + 0.7 * left,
            };
            heading = rotated(heading, 0.03 * random.normal());
            position = (position.0 + 2.5 * unit * heading.0, position.1 + 2.5 * unit * heading.1);
            knot
        })
        .collect()
}

/// Where two lines cross, if they do between their ends.
fn crossing((a, b): Line, (c, d): Line) -> Option<(f32, f32)> {
    let (rx, ry, sx, sy) = (b.0 - a.0, b.1 - a.1, d.0 - c.0, d.1 - c.1);
    let cross = rx * sy - ry * sx;
    if cross == 0.0 {
        return None;
    }
    let t = ((c.0 - a.0) * sy - (c.1 - a.1) * sx) / cross;
    let u = ((c.0 - a.0) * ry - (c.1 - a.1) * rx) / cross;
    let within = (0.0..=1.0).contains(&t) && (0.0..=1.0).contains(&u);
    within.then_some((a.0 + t * rx, a.1 + t * ry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_cross_between_their_ends_only() {
        let cross = ((0.0, 0.0), (4.0, 4.0));
        assert_eq!(crossing(cross, ((0.0, 4.0), (4.0, 0.0))), Some((2.0, 2.0)));
        assert_eq!(crossing(cross, ((5.0, 0.0), (9.0, 4.0))), None);
        assert_eq!(crossing(cross, ((3.0, 0.0), (9.0, 1.0))), None);
    }
}
