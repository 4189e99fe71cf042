//! A second damage generator, kept apart from `imaging::damage` on purpose.
//!
//! Detection must hold on damage that it was not tuned on. This one shares no code, no shapes and no colours with
//! the product's generator: marks are capsules and thresholded value noise, drawn with analytic coverage. It is
//! for measuring: nothing is trained or fitted on it. The learned detector's thresholds, a few numbers, were
//! chosen with its marks in sight, on other photographs than the samples (`docs/models.md`).

use imaging::{ColorType, Image, Mask, Samples};

/// What is drawn on the photograph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Wandering, branching dark lines, 1 to 4 px wide.
    DarkCracks,
    /// Bright lines, some straight and some curved, 1 to 4 px wide.
    BrightScratches,
    /// Irregular blobs of paper, ground colour or nothing, some at the border.
    WideLosses,
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.next() >> 40) as f32 / (1u64 << 24) as f32)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Coverage in `[0, 1]` and the colour to paint, accumulated over all marks.
struct Layer {
    width: usize,
    height: usize,
    coverage: Vec<f32>,
    color: Vec<[f32; 3]>,
}

impl Layer {
    fn paint(&mut self, x: usize, y: usize, coverage: f32, color: [f32; 3]) {
        let i = y * self.width + x;
        if coverage > self.coverage[i] {
            self.coverage[i] = coverage;
            self.color[i] = color;
        }
    }

    /// A line segment with round ends: coverage falls from 1 to 0 over one pixel at distance `radius`.
    fn capsule(
        &mut self,
        a: (f32, f32),
        b: (f32, f32),
        radius: f32,
        opacity: f32,
        color: [f32; 3],
    ) {
        let reach = radius + 1.0;
        let (width, height) = (self.width as f32, self.height as f32);
        let x0 = (a.0.min(b.0) - reach).clamp(0.0, width) as usize;
        let x1 = (a.0.max(b.0) + reach).clamp(0.0, width) as usize;
        let y0 = (a.1.min(b.1) - reach).clamp(0.0, height) as usize;
        let y1 = (a.1.max(b.1) + reach).clamp(0.0, height) as usize;
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length2 = (dx * dx + dy * dy).max(1e-6);
        for y in y0..y1 {
            for x in x0..x1 {
                let (px, py) = (x as f32 - a.0, y as f32 - a.1);
                let t = ((px * dx + py * dy) / length2).clamp(0.0, 1.0);
                let distance = (px - t * dx).hypot(py - t * dy);
                let coverage = (radius + 0.5 - distance).clamp(0.0, 1.0) * opacity;
                if coverage > 0.0 {
                    self.paint(x, y, coverage, color);
                }
            }
        }
    }
}

fn crack(
    layer: &mut Layer,
    random: &mut Random,
    start: (f32, f32),
    heading: f32,
    length: f32,
    depth: u32,
) {
    let tone = random.uniform(8.0, 55.0);
    let color = [tone, tone * random.uniform(0.8, 1.0), tone * random.uniform(0.7, 1.0)];
    let opacity = random.uniform(0.7, 1.0);
    let (mut at, mut heading) = (start, heading);
    let mut radius = random.uniform(0.5, 1.6);
    let mut gone = 0.0;
    while gone < length {
        let step = random.uniform(3.0, 9.0);
        heading += random.uniform(-0.55, 0.55);
        radius = (radius + random.uniform(-0.15, 0.15)).clamp(0.45, 1.8);
        let to = (at.0 + step * heading.cos(), at.1 + step * heading.sin());
        layer.capsule(at, to, radius, opacity, color);
        if depth > 0 && random.below(14) == 0 {
            let side = if random.below(2) == 0 { 0.9 } else { -0.9 };
            crack(layer, random, to, heading + side, length * 0.35, depth - 1);
        }
        at = to;
        gone += step;
    }
}

fn scratch(layer: &mut Layer, random: &mut Random, side: f32) {
    let tone = random.uniform(195.0, 252.0);
    let color = [tone, tone * random.uniform(0.95, 1.0), tone * random.uniform(0.82, 1.0)];
    let opacity = random.uniform(0.65, 1.0);
    let radius = random.uniform(0.5, 1.7);
    let bend = if random.below(2) == 0 { 0.0 } else { random.uniform(-0.02, 0.02) };
    let mut heading = random.uniform(0.0, std::f32::consts::TAU);
    let mut at =
        (random.uniform(0.0, layer.width as f32), random.uniform(0.0, layer.height as f32));
    let length = random.uniform(0.15, 0.8) * side;
    let mut gone = 0.0;
    while gone < length {
        heading += bend + random.uniform(-0.01, 0.01);
        let to = (at.0 + 5.0 * heading.cos(), at.1 + 5.0 * heading.sin());
        // A needle skips: about one step in twelve leaves no mark.
        if random.below(12) != 0 {
            layer.capsule(at, to, radius, opacity, color);
        }
        at = to;
        gone += 5.0;
    }
}

/// Value noise: random values on a lattice of `cell` pixels, smoothly interpolated, in `[0, 1]`.
fn value_noise(seed: u64, x: f32, y: f32, cell: f32) -> f32 {
    let (gx, gy) = (x / cell, y / cell);
    let (ix, iy) = (gx.floor(), gy.floor());
    let at = |dx: f32, dy: f32| {
        let key = seed
            ^ ((ix + dx) as i64 as u64).wrapping_mul(0x1F12_3BB5)
            ^ ((iy + dy) as i64 as u64).wrapping_mul(0x005E_2D58_D8B3);
        Random(key).uniform(0.0, 1.0)
    };
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (tx, ty) = (smooth(gx - ix), smooth(gy - iy));
    let top = at(0.0, 0.0) * (1.0 - tx) + at(1.0, 0.0) * tx;
    let bottom = at(0.0, 1.0) * (1.0 - tx) + at(1.0, 1.0) * tx;
    top * (1.0 - ty) + bottom * ty
}

fn loss(layer: &mut Layer, random: &mut Random, side: f32) {
    let center =
        (random.uniform(0.0, layer.width as f32), random.uniform(0.0, layer.height as f32));
    let radius = random.uniform(0.05, 0.13) * side;
    let stretch = random.uniform(0.6, 1.6);
    let base = match random.below(4) {
        0 => [238.0, 230.0, 212.0],
        1 => [250.0, 250.0, 250.0],
        2 => [120.0, 112.0, 100.0],
        _ => [22.0, 20.0, 20.0],
    };
    let grain = random.uniform(0.0, 5.0);
    let seed = random.next();
    for y in 0..layer.height {
        for x in 0..layer.width {
            let (dx, dy) = ((x as f32 - center.0) * stretch, (y as f32 - center.1) / stretch);
            let distance = dx.hypot(dy) / radius;
            if distance > 1.8 {
                continue;
            }
            let rough = value_noise(seed, x as f32, y as f32, radius * 0.7)
                + 0.4 * value_noise(seed ^ 1, x as f32, y as f32, radius * 0.2);
            let coverage = ((1.0 + (rough - 0.7) * 0.9 - distance) * radius).clamp(0.0, 1.0);
            if coverage > 0.0 {
                let noise = random.uniform(-grain, grain);
                layer.paint(x, y, coverage, base.map(|value| value + noise));
            }
        }
    }
}

/// Paints `mark` on an 8-bit RGB photograph; the mask holds the pixels covered by a quarter or more.
pub(crate) fn damage(clean: &Image, mark: Mark, seed: u64) -> (Image, Mask) {
    let (width, height) = clean.size();
    let side = width.min(height) as f32;
    let mut random = Random(seed);
    let mut layer = Layer {
        width,
        height,
        coverage: vec![0.0; width * height],
        color: vec![[0.0; 3]; width * height],
    };
    match mark {
        Mark::DarkCracks => {
            for _ in 0..9 + random.below(8) {
                let start = (random.uniform(0.0, width as f32), random.uniform(0.0, height as f32));
                let heading = random.uniform(0.0, std::f32::consts::TAU);
                let length = random.uniform(0.4, 1.2) * side;
                crack(&mut layer, &mut random, start, heading, length, 2);
            }
        }
        Mark::BrightScratches => {
            for _ in 0..20 + random.below(20) {
                scratch(&mut layer, &mut random, side);
            }
        }
        Mark::WideLosses => {
            for _ in 0..3 + random.below(4) {
                loss(&mut layer, &mut random, side);
            }
        }
    }

    let Samples::U8(samples) = clean.samples() else { panic!("expected an 8-bit photograph") };
    assert_eq!(clean.color(), ColorType::Rgb, "expected an RGB photograph");
    let painted = samples
        .chunks_exact(3)
        .zip(layer.coverage.iter().zip(&layer.color))
        .flat_map(|(pixel, (&coverage, color))| {
            [0, 1, 2].map(|c| {
                let kept = f32::from(pixel[c]);
                (kept + coverage * (color[c] - kept)).round().clamp(0.0, 255.0) as u8
            })
        })
        .collect();
    let image = Image::new(width, height, ColorType::Rgb, Samples::U8(painted))
        .expect("the photograph's own size");
    let mask = Mask::from_fn(width, height, |x, y| layer.coverage[y * width + x] >= 0.25);
    (image, mask)
}
