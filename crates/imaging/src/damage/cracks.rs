//! Branching cracks of the emulsion.
//!
//! A print that was bent or crumpled breaks along wandering lines which run into one another. The wide ones
//! have lost their edges and show paper, the narrow ones are broken into pieces, the finest are creases that
//! only the light shows. They crowd around the places that were handled.

use super::blob::Blob;
use super::canvas::{Canvas, Layer};
use super::exposed::{exposed, scuffed};
use super::material::Material;
use super::network::{Growth, Network, Path, distance, roughened};
use super::random::{Noise, Random, lerp, rotated, smoothstep};
use super::stroke::{Brush, Knot, stroke};

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let unit = canvas.unit;
    let (width, height) = (canvas.width(), canvas.height());
    // Most emulsions crack to the paper; some cracks are full of dirt, show another layer, or are but scuffs.
    let (material, thickness) = match random.unit() {
        sort if sort < 0.58 => {
            (Material::Paper { age: random.skewed(0.0, 1.0) }, random.range(0.16, 0.36))
        }
        sort if sort < 0.78 => {
            let black = random.range(0.03, 0.14);
            (Material::Flat { color: [black * 1.15, black, black * 0.85], grain: 0.25 }, 0.05)
        }
        sort if sort < 0.90 => (exposed(canvas, random), random.range(0.0, 0.25)),
        _ => (scuffed(random), 0.0),
    };
    let mut layer = Layer::new(material, thickness);
    let mut creases = Layer::new(Material::Paper { age: 0.3 }, 0.0);

    let focus = (random.range(-0.05, 1.05) * width, random.range(-0.05, 1.05) * height);
    let spread = random.range(140.0, 420.0) * unit;
    let noise = Noise::new(random);
    let mut network = Network::new(width, height, 4.0 * unit, random);
    let growth = Growth {
        step: 4.0 * unit,
        length: 0.0,
        jitter: random.range(0.012, 0.028),
        wander: random.range(0.001, 0.007),
        kinks: random.range(0.06, 0.16),
    };
    let mut base = random.range(0.42, 0.7) + severity * random.range(0.1, 0.75);
    // Now and then the edges have crumbled and the cracks gape.
    if random.chance(0.12) {
        base *= random.range(1.4, 2.4);
    }

    // 1. Main cracks, from the border inwards or through the middle.
    let mut paths: Vec<(Path, f32)> = Vec::new();
    for _ in 0..random.count(lerp(1.6, 9.0, severity)) + 1 {
        let (start, heading) = if random.chance(0.6) {
            border_start(canvas, random)
        } else {
            let start = near(focus, spread, canvas, random);
            (start, random.direction())
        };
        let length = unit * random.range(90.0, 240.0 + 380.0 * severity);
        let weight = random.range(0.55, 1.25);
        let path = network.grow(random, start, heading, &Growth { length, ..growth });
        // A crack that starts inside runs both ways.
        if !at_border(start, canvas) {
            let opposite = rotated(heading, 0.5 + 0.04 * random.normal());
            let rest = Growth { length: length * random.range(0.2, 0.9), ..growth };
            let back = network.grow(random, start, opposite, &rest);
            paths.push((back, weight * 0.9));
        }
        paths.push((path, weight));
    }

    // 2. Branches, thinner than what they leave.
    let mut first = 0;
    for generation in 0..2 {
        let end = paths.len();
        for parent in first..end {
            let (length, weight) = (paths[parent].0.length(), paths[parent].1);
            let rate = lerp(0.9, 2.6, severity) * if generation == 0 { 1.0 } else { 0.6 };
            for _ in 0..random.count(rate * length / (150.0 * unit)) {
                let points = &paths[parent].0.points;
                if points.len() < 3 {
                    break;
                }
                let at = 1 + random.below(points.len() - 2);
                let (start, next) = (points[at], points[at + 1]);
                let long = distance(start, next).max(1e-6);
                let along = ((next.0 - start.0) / long, (next.1 - start.1) / long);
                let turn = random.sign() * random.range(0.09, 0.24);
                let heading = rotated(along, turn);
                let length = unit * random.range(18.0, 60.0 + 130.0 * severity);
                let path = network.grow(random, start, heading, &Growth { length, ..growth });
                paths.push((path, weight * random.range(0.4, 0.8)));
            }
        }
        first = end;
    }

    // 3. Around the focus, where it was crumpled, a web of thin cracks that end at one another.
    let mesh = unit * random.range(11.0, 26.0);
    let crumpled = spread * random.range(0.25, 0.3 + 0.5 * severity);
    let area = (crumpled / mesh) * (crumpled / mesh);
    let density = random.range(0.0, 1.8) * severity;
    for _ in 0..random.count((area * density).min(600.0)) {
        let start = near(focus, crumpled, canvas, random);
        if network.occupied(start, 0.5 * mesh) {
            continue;
        }
        let heading = random.direction();
        let growth = Growth { length: mesh * random.range(2.0, 7.0), ..growth };
        let weight = random.range(0.1, 0.55);
        for way in [heading, (-heading.0, -heading.1)] {
            paths.push((network.grow(random, start, way, &growth), weight));
        }
    }

    // 4. Paint them.
    let brush = Brush {
        fray: random.range(0.35, 0.65),
        tooth: (1.9 * unit).max(1.1),
        relief: 2.3 * unit.max(0.7),
        // Flat prints under glass show no relief.
        slope: if random.chance(0.25) { 0.0 } else { random.range(0.10, 0.32) },
        islands: random.range(0.0, 0.16),
        noise,
    };
    for (index, (path, weight)) in paths.iter().enumerate() {
        let half = base * weight;
        let look = Look { half, noise: noise.other(100 + index as u32), focus, spread };
        let knots = knots(canvas, path, &look, random);
        stroke(&mut layer, canvas, &knots, brush);
        // Where cracks meet, the corner between them breaks off.
        let Some(&end) = path.points.last() else { continue };
        if path.met && random.chance(0.35 + 0.3 * severity) {
            let radius = unit * half * random.range(1.2, 3.4);
            let blob = Blob {
                flaky: 0.35,
                rough: 0.7,
                softness: canvas.softness(),
                ..Blob::new(canvas, end, radius.max(0.5), noise.other(900 + index as u32))
            };
            layer.push(blob);
        }
    }

    // 5. Creases that only the light shows, with a broken spot here and there.
    for index in 0..random.count(lerp(6.0, 46.0, severity)) as u32 {
        let start = if random.chance(0.7) {
            near(focus, spread * 1.4, canvas, random)
        } else {
            (random.unit() * width, random.unit() * height)
        };
        let length = unit * random.range(14.0, 80.0);
        let heading = random.direction();
        let path = network.grow(random, start, heading, &Growth { length, ..growth });
        let points = roughened(&path.points, 1, 0.35, random);
        let noise = noise.other(2000 + index);
        let total = points.len().max(2) as f32 - 1.0;
        let glint = random.range(0.0, 0.55);
        let knots: Vec<Knot> = points
            .iter()
            .enumerate()
            .map(|(at, &(x, y))| {
                let t = at as f32 / total;
                let taper = (4.0 * t * (1.0 - t)).sqrt();
                let broken = smoothstep(0.15, 0.6, noise.along(at as f32 * 0.31));
                Knot { x, y, half_width: 0.45 * unit.max(0.8), strength: glint * taper * broken }
            })
            .collect();
        let slope = random.range(0.10, 0.36);
        let relief = unit.max(0.8) * random.range(1.6, 2.8);
        stroke(&mut creases, canvas, &knots, Brush { relief, slope, islands: 0.0, ..brush });
    }

    canvas.paint(&creases);
    canvas.paint(&layer);
}

/// How one crack looks.
struct Look {
    half: f32,
    noise: Noise,
    focus: (f32, f32),
    spread: f32,
}

/// The crack with widths: tapered, uneven, broken where it is thin, wider near the focus.
fn knots(canvas: &Canvas, path: &Path, look: &Look, random: &mut Random) -> Vec<Knot> {
    let unit = canvas.unit;
    let points = roughened(&path.points, 2, 0.30, random);
    let length = path.length().max(1e-3);
    let mut walked = 0.0;
    let mut last = points.first().copied().unwrap_or_default();
    points
        .iter()
        .map(|&point| {
            walked += distance(last, point);
            last = point;
            let t = walked / length;
            let tip = if path.met { 1.0 } else { smoothstep(0.0, 0.45, 1.0 - t) };
            let along = walked / unit;
            let slow = look.noise.along(along / 46.0);
            let quick = look.noise.other(1).along(along / 7.0);
            let close = 1.0 - smoothstep(0.2, 1.3, distance(point, look.focus) / look.spread);
            let swell = (1.0 + 0.6 * slow + 0.45 * quick).max(0.1) * (0.7 + 0.8 * close);
            let half = look.half * swell * (0.35 + 0.65 * tip);
            // Thin stretches close up: the emulsion there is creased but not broken.
            let open = slow + 0.5 * quick + 1.1 * (half - 0.35) + 0.35;
            Knot {
                x: point.0,
                y: point.1,
                half_width: (half * unit).max(0.3),
                // A scan blurs what is narrower than a pixel or two, so thin cracks are also paler.
                strength: smoothstep(-0.35, 0.25, open)
                    * (0.25 + 0.75 * tip)
                    * smoothstep(-0.5, 0.75, half),
            }
        })
        .collect()
}

/// A point on the border and a direction inwards.
pub(super) fn border_start(canvas: &Canvas, random: &mut Random) -> ((f32, f32), (f32, f32)) {
    let (width, height) = (canvas.width(), canvas.height());
    let along = random.unit();
    let (point, inwards) = match random.below(4) {
        0 => ((along * width, 0.0), (0.0, 1.0)),
        1 => ((width - 0.5, along * height), (-1.0, 0.0)),
        2 => ((along * width, height - 0.5), (0.0, -1.0)),
        _ => ((0.0, along * height), (1.0, 0.0)),
    };
    (point, rotated(inwards, random.range(-0.17, 0.17)))
}

/// True if the point lies on the outermost pixels.
fn at_border((x, y): (f32, f32), canvas: &Canvas) -> bool {
    x < 1.0 || y < 1.0 || x > canvas.width() - 1.5 || y > canvas.height() - 1.5
}

/// A point near `focus`, inside the picture.
fn near(focus: (f32, f32), spread: f32, canvas: &Canvas, random: &mut Random) -> (f32, f32) {
    (
        (focus.0 + spread * 0.6 * random.normal()).clamp(0.0, canvas.width() - 0.5),
        (focus.1 + spread * 0.6 * random.normal()).clamp(0.0, canvas.height() - 0.5),
    )
}
