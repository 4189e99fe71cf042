//! Letters and numbers: a word, a number, lines of text, in several sizes, upright or turned.
//!
//! The glyphs are those of the embedded DejaVu Sans, drawn once into an atlas and looked up at any size.

use std::sync::{Arc, OnceLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

use super::scene::Scene;
use crate::damage::canvas::{Bounds, Cover, Shape};
use crate::damage::random::{Random, rotated};

const FONTS: [&[u8]; 2] = [
    include_bytes!("../../../assets/fonts/DejaVuSans-subset.ttf"),
    include_bytes!("../../../assets/fonts/DejaVuSans-Bold-subset.ttf"),
];

const GLYPHS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,-&:";

/// Pixels of a cell of the atlas, and of the font's size within it.
const CELL: usize = 64;
const EM: f32 = 44.0;

pub(super) fn draw(scene: &mut Scene<'_>, random: &mut Random) {
    let unit = scene.canvas.unit;
    let turn = if random.chance(0.7) { 0.012 * random.normal() } else { random.unit() };
    let axis = rotated((1.0, 0.0), turn);
    let rows = if random.chance(0.5) { 1 } else { 2 + random.below(8) };
    let size = if rows == 1 { random.skewed(10.0, 110.0) } else { random.skewed(7.0, 26.0) };
    let size = (unit * size).max(4.0);
    let words = if rows == 1 { 1 + random.below(3) } else { 2 + random.below(6) };
    let start = (
        random.range(-0.05, 0.75) * scene.canvas.width(),
        random.range(0.05, 0.95) * scene.canvas.height(),
    );
    let color = scene.contrast(random, (start.0.max(0.0) + 2.0 * size, start.1));
    let mut layer = scene.layer(color, 0.06);
    let bold = random.chance(0.4);
    let slant = if random.chance(0.25) { random.range(0.1, 0.3) } else { 0.0 };
    let capitals = random.chance(0.4);
    let strength = random.range(0.7, 1.0);
    for row in 0..rows {
        let down = 1.35 * size * row as f32;
        let mut pen = 0.0;
        for _ in 0..words {
            let digits = random.chance(0.25);
            for letter in 0..2 + random.below(8) {
                let index = if digits {
                    52 + random.below(10)
                } else if capitals || letter == 0 && random.chance(0.3) {
                    random.below(26)
                } else {
                    26 + random.below(26)
                };
                let glyph = Glyph {
                    cell: index + if bold { GLYPHS.len() } else { 0 },
                    origin: (
                        start.0 + pen * axis.0 - down * axis.1,
                        start.1 + pen * axis.1 + down * axis.0,
                    ),
                    axis,
                    slant,
                    size,
                    strength,
                };
                pen += size * (atlas().widths[glyph.cell] + 0.1);
                layer.push(glyph);
            }
            pen += 0.35 * size;
        }
    }
    scene.canvas.paint(&layer);
}

/// One letter.
struct Glyph {
    cell: usize,
    /// Where its ink starts on the base line, in pixels.
    origin: (f32, f32),
    /// Along the line, a unit vector.
    axis: (f32, f32),
    /// How far it leans, in em a em.
    slant: f32,
    /// Of the font, in pixels.
    size: f32,
    strength: f32,
}

impl Shape for Glyph {
    fn bounds(&self) -> Bounds {
        let reach = 1.5 * self.size;
        let (x, y) = self.origin;
        // Turned text needs all of it, upright text only what is right of and above the origin.
        if self.axis.0 > 0.99 {
            return [x - 0.4 * self.size, y - 1.1 * self.size, x + reach, y + 0.5 * self.size];
        }
        [x - reach, y - reach, x + reach, y + reach]
    }

    fn cover(&self, x: f32, y: f32) -> Cover {
        let (px, py) = (x - self.origin.0, y - self.origin.1);
        let (u, v) = (px * self.axis.0 + py * self.axis.1, py * self.axis.0 - px * self.axis.1);
        let u = u + self.slant * v;
        let alpha = atlas().sample(self.cell, u / self.size, v / self.size, EM / self.size);
        Cover { alpha: alpha * self.strength, height: 0.0 }
    }
}

/// All glyphs, regular then bold, and each of them half and a quarter as large for small text.
struct Atlas {
    levels: Vec<(usize, Vec<f32>)>,
    /// Left end of the ink, in em from the left of the cell.
    lefts: Vec<f32>,
    /// Width of the ink, in em.
    widths: Vec<f32>,
}

impl Atlas {
    /// Ink at `(u, v)` em from the glyph's origin, v down; `step` pixels of the atlas to one of the picture.
    fn sample(&self, cell: usize, u: f32, v: f32, step: f32) -> f32 {
        let level = if step > 3.0 { 2 } else { usize::from(step > 1.5) };
        let (side, data) = &self.levels[level];
        let scale = EM * *side as f32 / CELL as f32;
        // The base line lies at three quarters of the cell.
        let x = (u + self.lefts[cell]) * scale - 0.5;
        let y = v * scale + 0.75 * *side as f32 - 0.5;
        let limit = *side as f32 - 1.0;
        if !(x > 0.0 && y > 0.0 && x < limit && y < limit) {
            return 0.0;
        }
        let (ix, iy) = (x as usize, y as usize);
        let (tx, ty) = (x - ix as f32, y - iy as f32);
        let at = |dx: usize, dy: usize| data[(cell * side + iy + dy) * side + ix + dx];
        let top = at(0, 0) + tx * (at(1, 0) - at(0, 0));
        let bottom = at(0, 1) + tx * (at(1, 1) - at(0, 1));
        top + ty * (bottom - top)
    }
}

/// A constant that is too long to write down: the atlas follows from the font alone.
fn atlas() -> &'static Atlas {
    static ATLAS: OnceLock<Atlas> = OnceLock::new();
    ATLAS.get_or_init(|| {
        let count = 2 * GLYPHS.len();
        let fine = glyphs().unwrap_or_else(|| vec![0.0; count * CELL * CELL]);
        // 1. Where the ink is.
        let (mut lefts, mut widths) = (Vec::new(), Vec::new());
        for cell in fine.chunks_exact(CELL * CELL) {
            let inked = |x: &usize| cell.iter().skip(*x).step_by(CELL).any(|&ink| ink > 0.1);
            let left = (0..CELL).find(inked).unwrap_or(0);
            let right = (0..CELL).rev().find(inked).unwrap_or(0);
            lefts.push(left as f32 / EM);
            widths.push((right + 1).saturating_sub(left) as f32 / EM);
        }
        // 2. Smaller copies.
        let mut levels = vec![(CELL, fine)];
        for side in [CELL / 2, CELL / 4] {
            let (_, finer) = &levels[levels.len() - 1];
            let half = (0..count * side * side).map(|at| {
                let (x, y) = (at % side, at / side);
                let sum = |y: usize| finer[y * 2 * side + 2 * x] + finer[y * 2 * side + 2 * x + 1];
                0.25 * (sum(2 * y) + sum(2 * y + 1))
            });
            let half = half.collect();
            levels.push((side, half));
        }
        Atlas { levels, lefts, widths }
    })
}

/// The glyphs' ink, cell below cell.
fn glyphs() -> Option<Vec<f32>> {
    let mut fonts = usvg::fontdb::Database::new();
    FONTS.iter().for_each(|font| fonts.load_font_data(font.to_vec()));
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let count = 2 * GLYPHS.chars().count();
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{CELL}" height="{}" font-family="DejaVu Sans">"#,
        count * CELL
    );
    for (index, glyph) in GLYPHS.chars().chain(GLYPHS.chars()).enumerate() {
        let weight = if 2 * index < count { "normal" } else { "bold" };
        let glyph = if glyph == '&' { "&amp;".to_owned() } else { glyph.to_string() };
        let y = index * CELL + CELL * 3 / 4;
        svg += &format!(
            r#"<text x="8" y="{y}" font-size="{EM}" font-weight="{weight}">{glyph}</text>"#
        );
    }
    svg += "</svg>";
    let tree = usvg::Tree::from_str(&svg, &options).ok()?;
    let mut pixmap = Pixmap::new(CELL as u32, (count * CELL) as u32)?;
    resvg::render(&tree, Transform::identity(), &mut pixmap.as_mut());
    Some(pixmap.pixels().iter().map(|pixel| f32::from(pixel.alpha()) / 255.0).collect())
}
