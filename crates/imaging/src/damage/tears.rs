//! Tears from the border inwards.
//!
//! Photographic paper tears through its layers at a slant: beside the line the emulsion is gone and the white
//! fibrous core shows, broad on one side and narrow on the other. Near the border the two halves have moved
//! apart, and whatever lies behind shows in the gap, under the shadow of the edge.

use super::canvas::{Canvas, Layer};
use super::cracks::border_start;
use super::material::Material;
use super::network::{distance, roughened};
use super::random::{Noise, Random, lerp, rotated, smoothstep};
use super::stroke::{Brush, Knot, stroke};

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let unit = canvas.unit;
    let noise = Noise::new(random);
    let mut core = Layer::new(Material::Paper { age: random.skewed(0.0, 0.5) }, 0.22);
    let backing = canvas.medium.backing;
    let mut gap = Layer::new(Material::Flat { color: backing, grain: 0.03 }, 0.35);
    for index in 0..random.count(lerp(0.0, 2.3, severity)) as u32 + 1 {
        let noise = noise.other(10 * index + 1);
        let (start, heading) = border_start(canvas, random);
        let side = canvas.width().min(canvas.height());
        let length = side * random.range(0.08, 0.18 + 0.45 * severity);
        let points = tear_line(start, heading, length, unit, random);

        // 1. Widths along it: the gap closes towards the tip, the core thins out.
        let fibre = unit * random.range(1.6, 3.0 + 2.5 * severity);
        let open =
            if random.chance(0.75) { unit * random.range(0.8, 1.5 + 6.0 * severity) } else { 0.0 };
        let slant = random.sign() * random.range(0.45, 0.95);
        let total: f32 = points.windows(2).map(|pair| distance(pair[0], pair[1])).sum();
        let mut walked = 0.0;
        let (mut edges, mut gaps) = (Vec::new(), Vec::new());
        for (at, &(x, y)) in points.iter().enumerate() {
            let last = points[at.saturating_sub(1)];
            let next = points[(at + 1).min(points.len() - 1)];
            walked += distance(last, (x, y));
            let left = 1.0 - walked / total.max(1e-3);
            let long = distance(last, next).max(1e-3);
            let normal = ((last.1 - next.1) / long, (next.0 - last.0) / long);
            let along = walked / unit;
            let uneven = noise.along(along / 26.0) + 0.7 * noise.other(1).along(along / 5.0);
            let gap = 0.5 * open * left;
            let core = fibre
                * (1.0 + 0.55 * uneven).max(0.12)
                * (0.25 + 0.75 * smoothstep(0.0, 0.5, left));
            // The slant shifts the core to one side of the gap and lets it change sides now and then.
            let lean = slant * (0.75 + 0.5 * noise.other(2).along(along / 55.0));
            let shift = core * lean * 0.7;
            edges.push(Knot {
                x: x + shift * normal.0,
                y: y + shift * normal.1,
                half_width: (gap + core).max(0.3),
                strength: smoothstep(0.0, 0.1, left),
            });
            gaps.push(Knot { x, y, half_width: gap, strength: smoothstep(0.0, 0.05, left) });
        }

        // 2. The core, with fibres that stand out of its edge, and the gap over it.
        let brush = Brush {
            fray: random.range(0.2, 0.38),
            tooth: (2.4 * unit).max(1.2),
            relief: fibre * 2.2,
            slope: random.range(0.08, 0.18),
            islands: 0.03,
            noise,
        };
        stroke(&mut core, canvas, &edges, brush);
        if open > 0.0 {
            let brush = Brush { fray: 0.3, ..Brush::plain(canvas, noise.other(3)) };
            stroke(&mut gap, canvas, &gaps, brush);
        }
    }
    canvas.paint(&core);
    canvas.paint(&gap);
}

/// A line that runs inwards in arcs, as a tear follows the hand that pulls.
fn tear_line(
    start: (f32, f32),
    heading: (f32, f32),
    length: f32,
    unit: f32,
    random: &mut Random,
) -> Vec<(f32, f32)> {
    let step = 7.0 * unit;
    // It starts outside, so that the border itself is torn.
    let outside = (start.0 - step * heading.0, start.1 - step * heading.1);
    let mut points = vec![outside];
    let (mut position, mut course, mut stray) = (outside, heading, 0.0);
    let bend = 0.006 * random.normal();
    for _ in 0..((length / step).ceil() as usize).clamp(2, 400) {
        course = rotated(course, bend);
        stray = 0.8 * stray + 0.035 * random.normal();
        if random.chance(0.1) {
            stray += random.sign() * random.range(0.05, 0.16);
        }
        let way = rotated(course, stray);
        position = (position.0 + step * way.0, position.1 + step * way.1);
        points.push(position);
    }
    roughened(&points, 2, 0.28, random)
}
