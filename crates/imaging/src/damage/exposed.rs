//! What shows where the surface is broken, of any brightness and colour.

use super::canvas::Canvas;
use super::material::{Color, Material};
use super::pixel::luma;
use super::random::{Random, lerp};

/// Dyes of the lower layers of colour prints, dirt, glue, grounds.
const COLORS: [Color; 10] = [
    [0.62, 0.50, 0.36],
    [0.45, 0.30, 0.22],
    [0.25, 0.22, 0.20],
    [0.86, 0.83, 0.76],
    [0.92, 0.82, 0.42],
    [0.84, 0.45, 0.30],
    [0.42, 0.62, 0.50],
    [0.40, 0.48, 0.66],
    [0.76, 0.56, 0.60],
    [0.68, 0.62, 0.50],
];

/// Anything but paper: black, grey of any brightness, a colour, or two that mix in patches.
pub(super) fn exposed(canvas: &Canvas, random: &mut Random) -> Material {
    // Prints without dyes lose none: what shows in them is paper, dirt and glue, greyer.
    let keep = lerp(0.3, 1.0, canvas.medium.colorful);
    let colored = |random: &mut Random| {
        let color = COLORS[random.below(COLORS.len())];
        color.map(|value| lerp(luma(color), value, keep))
    };
    match random.below(6) {
        0 => {
            let black = random.range(0.01, 0.14);
            Material::Flat { color: [black * 1.1, black, black * 0.9], grain: 0.12 }
        }
        1 | 2 => {
            let grey = random.range(0.1, 0.98);
            let warm = random.range(0.0, 0.08);
            let color = [grey * (1.0 + 0.5 * warm), grey, grey * (1.0 - warm)];
            Material::Flat { color, grain: random.range(0.02, 0.12) }
        }
        3 | 4 => Material::Flat { color: colored(random), grain: 0.08 },
        _ => {
            let grey = random.range(0.1, 0.9);
            let first = colored(random);
            Material::Mottled { first, second: [grey; 3], size: random.range(1.5, 9.0) }
        }
    }
}

/// A surface that is scuffed but not broken: the picture shows through, lighter or darker.
pub(super) fn scuffed(random: &mut Random) -> Material {
    let amount = random.range(0.18, 0.6);
    let tone = if random.chance(0.7) { random.range(0.8, 1.0) } else { random.range(0.0, 0.3) };
    Material::Veil { color: [tone, tone * 0.98, tone * 0.95], amount }
}
