//! Marks of something dragged over the surface.
//!
//! Mostly thin, nearly straight and broken where the surface dips; alone, in parallel sets, or as short nicks.
//! Deep ones plough the emulsion up: a gouge with two ragged white edges.

use super::canvas::{Canvas, Layer};
use super::exposed::{exposed, scuffed};
use super::material::Material;
use super::random::{Noise, Random, lerp, rotated, smoothstep};
use super::stroke::{Brush, Knot, stroke};

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let unit = canvas.unit;
    let (width, height) = (canvas.width(), canvas.height());
    let mut light = Layer::new(Material::Paper { age: random.skewed(0.0, 0.8) }, 0.12);
    let black = random.range(0.02, 0.12);
    let mut dark = Layer::new(Material::Flat { color: [black; 3], grain: 0.2 }, 0.0);
    // What a point scrapes off shows layers of any tone; what slides only dulls the surface.
    let mut other = Layer::new(exposed(canvas, random), 0.05);
    let mut faint = Layer::new(scuffed(random), 0.0);
    let noise = Noise::new(random);
    let thin = Brush { fray: 0.3, ..Brush::plain(canvas, noise) };
    // Handling scratches a print along a few directions; some prints were dragged along one.
    let grain = random.unit();
    let aligned = random.chance(0.35);
    let dark_share = if random.chance(0.3) { 0.6 } else { 0.12 };
    let base = lerp(0.38, 0.62, severity) * random.range(0.85, 1.3);

    // 1. Long scratches, some of them in parallel sets.
    for set in 0..random.count(lerp(2.0, 13.0, severity)) + 1 {
        let turn = if aligned { grain + 0.02 * random.normal() } else { random.unit() };
        let heading = rotated((1.0, 0.0), turn);
        let length = unit * random.skewed(40.0, 200.0 + 380.0 * severity);
        // At most a gentle arc, whatever the length.
        let bend = 0.022 * random.normal() * unit / length;
        let center = (random.unit() * width, random.unit() * height);
        let members = if random.chance(0.25) { 2 + random.below(4) } else { 1 };
        let layer = match random.unit() {
            sort if sort < 0.15 => &mut faint,
            sort if sort < 0.30 => &mut other,
            _ if random.chance(dark_share) => &mut dark,
            _ => &mut light,
        };
        let wide = if random.chance(0.1) { random.range(1.5, 4.0) } else { 1.0 };
        let sway = if random.chance(0.2) { random.range(2.0, 14.0) } else { 1.0 };
        let dashes = if random.chance(0.12) { random.range(6.0, 30.0) } else { 0.0 };
        let opacity = random.range(0.35, 1.0);
        for member in 0..members {
            let apart = unit * random.range(1.5, 9.0) * member as f32;
            let start = (
                center.0 - apart * heading.1 + unit * 14.0 * random.normal() * heading.0,
                center.1 + apart * heading.0 + unit * 14.0 * random.normal() * heading.1,
            );
            let scratch = Scratch {
                start,
                heading: rotated(heading, 0.004 * random.normal()),
                length: length * random.range(0.6, 1.1),
                bend,
                half: base * random.range(0.55, 1.5) * wide,
                opacity: opacity * random.range(0.6, 1.0),
                broken: random.range(-0.3, 0.55),
                sway,
                dashes,
                noise: noise.other(1000 * set as u32 + member as u32 + 1),
            };
            stroke(layer, canvas, &scratch.knots(canvas), thin);
        }
    }

    // 2. Nicks.
    for index in 0..random.count(lerp(5.0, 70.0, severity)) as u32 {
        let layer = if random.chance(dark_share) { &mut dark } else { &mut light };
        let nick = Scratch {
            start: (random.unit() * width, random.unit() * height),
            heading: if aligned {
                rotated((1.0, 0.0), grain + 0.05 * random.normal())
            } else {
                random.direction()
            },
            length: unit * random.skewed(3.0, 34.0),
            bend: random.normal() * 0.006,
            half: base * random.range(0.5, 1.2),
            opacity: random.skewed(0.2, 0.95),
            broken: -0.6,
            sway: 1.0,
            dashes: 0.0,
            noise: noise.other(50_000 + index),
        };
        stroke(layer, canvas, &nick.knots(canvas), thin);
    }

    // 3. Bundles of hairlines, as a cloth with grit or a projector leaves them.
    if random.chance(0.12 + 0.2 * severity) {
        let layer = if random.chance(0.5) { &mut faint } else { &mut light };
        bundle(canvas, random, layer, thin, noise.other(70_000));
    }

    // 4. Gouges: two edges of torn emulsion, rubbed paper between them.
    for index in 0..random.count(2.6 * severity * severity + 0.25) as u32 {
        let start = (random.unit() * width, random.unit() * height);
        let heading = random.direction();
        let length = unit * random.range(16.0, 50.0 + 60.0 * severity);
        let half = random.range(1.2, 2.4 + 1.6 * severity);
        let noise = noise.other(80_000 + index);
        let bend = random.normal() * 0.001;
        let rubbed = random.range(0.2, 0.7);
        let gouge = |offset: f32, half: f32, opacity: f32, noise: Noise| Scratch {
            start: (start.0 - offset * heading.1, start.1 + offset * heading.0),
            heading,
            length,
            bend,
            half,
            opacity,
            broken: -0.7,
            sway: 1.0,
            dashes: 0.0,
            noise,
        };
        let ragged = Brush { fray: 0.6, tooth: (3.2 * unit).max(1.2), noise, ..thin };
        let inner = Brush { islands: 0.12, ..ragged };
        for (offset, half, opacity, brush) in [
            (0.0, half, rubbed, inner),
            (-half * unit * 0.9, half * 0.5, 1.0, ragged),
            (half * unit * 0.9, half * 0.3, 0.8, ragged),
        ] {
            let knots = gouge(offset, half, opacity, noise).knots(canvas);
            stroke(&mut light, canvas, &knots, brush);
        }
    }
    for layer in [faint, dark, other, light] {
        canvas.paint(&layer);
    }
}

/// Many fine lines of one direction within a strip.
fn bundle(canvas: &Canvas, random: &mut Random, layer: &mut Layer, thin: Brush, noise: Noise) {
    let unit = canvas.unit;
    let heading = random.direction();
    let center = (random.unit() * canvas.width(), random.unit() * canvas.height());
    let (wide, long) = (unit * random.range(10.0, 90.0), unit * random.range(40.0, 260.0));
    let bend = 0.15 * random.normal() / (long / unit);
    let opacity = random.range(0.25, 0.9);
    for index in 0..random.range(8.0, 45.0) as u32 {
        let (along, across) = (0.3 * long * random.normal(), wide * random.normal() * 0.6);
        let length = long * random.range(0.3, 1.0);
        let along = along - 0.5 * length;
        let line = Scratch {
            start: (
                center.0 + along * heading.0 - across * heading.1,
                center.1 + along * heading.1 + across * heading.0,
            ),
            heading: rotated(heading, 0.006 * random.normal()),
            length,
            bend,
            half: random.range(0.22, 0.5),
            opacity: opacity * random.range(0.4, 1.0),
            broken: random.range(-0.4, 0.5),
            sway: 1.0,
            dashes: 0.0,
            noise: noise.other(index),
        };
        stroke(layer, canvas, &line.knots(canvas), thin);
    }
}

/// One mark.
struct Scratch {
    start: (f32, f32),
    heading: (f32, f32),
    /// In pixels.
    length: f32,
    /// Turns a unit of length.
    bend: f32,
    /// Half the width in units.
    half: f32,
    opacity: f32,
    /// Above 0 more of it is interrupted.
    broken: f32,
    /// How far the hand strays, 1 for a little.
    sway: f32,
    /// Units from one dash to the next; 0 for none.
    dashes: f32,
    noise: Noise,
}

impl Scratch {
    fn knots(&self, canvas: &Canvas) -> Vec<Knot> {
        let unit = canvas.unit;
        let step = 3.0 * unit;
        let steps = (self.length / step).ceil().max(2.0) as usize;
        let step = self.length / steps as f32;
        let (mut position, mut heading) = (self.start, self.heading);
        (0..=steps)
            .map(|index| {
                let t = index as f32 / steps as f32;
                let along = index as f32 * step / unit;
                let slow = self.noise.along(along / 40.0);
                let quick = self.noise.other(1).along(along / 6.0);
                // The hand trembles a little.
                let wander = 22.0 * (0.5 + 0.5 * self.sway);
                let sway = 0.35 * unit * self.sway * self.noise.other(2).along(along / wander);
                let press = smoothstep(0.0, 0.18, t) * smoothstep(0.0, 0.3, 1.0 - t);
                let mut touch =
                    smoothstep(self.broken - 0.35, self.broken + 0.2, slow + 0.35 * quick + 0.25);
                if self.dashes > 0.0 {
                    // Jumps over the surface: off for the last two fifths of each stretch.
                    let dash = along / self.dashes;
                    touch *= if dash - dash.floor() < 0.6 { 1.0 } else { 0.0 };
                }
                let knot = Knot {
                    x: position.0 - sway * heading.1,
                    y: position.1 + sway * heading.0,
                    half_width: (self.half * unit * (0.5 + 0.5 * press) * (1.0 + 0.3 * quick))
                        .max(0.25),
                    strength: self.opacity * press.max(0.15) * touch,
                };
                heading = rotated(heading, self.bend * step / unit);
                position = (position.0 + step * heading.0, position.1 + step * heading.1);
                knot
            })
            .collect()
    }
}
