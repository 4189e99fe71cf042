//! Film grain: strongest in the mid tones, mostly the same in all channels.

use super::canvas::{Canvas, luma};
use super::random::{Noise, Random, lerp};

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let noise = Noise::new(random);
    let clump = (canvas.unit * random.range(0.7, 1.3)).max(1.15);
    let strength = lerp(0.025, 0.17, severity) * random.range(0.85, 1.15);
    let colored = random.range(0.0, 0.35);
    let scale = 1.0 / clump;
    canvas.recolor(|x, y, color| {
        let tone = luma(color);
        // Little grain shows where the film is clear or full.
        let seen = strength * (0.35 + 2.6 * (tone * (1.0 - tone)).max(0.0));
        let (u, v) = (x * scale, y * scale);
        let shared = 0.75 * noise.at(u, v) + 0.45 * noise.other(1).at(1.9 * u, 1.9 * v);
        if colored == 0.0 {
            return color.map(|value| value + seen * shared);
        }
        [0, 1, 2].map(|channel| {
            let own = noise.other(2 + channel as u32).at(u, v);
            color[channel] + seen * (shared + colored * own)
        })
    });
}
