//! The picture that decoys are drawn on: its colours, its sharpness and its grain.

use crate::damage::canvas::{Canvas, Layer};
use crate::damage::material::{Color, Material};
use crate::damage::pixel::{Sample, luma, read};
use crate::damage::random::{Random, lerp};
use crate::image::{Image, Samples};

/// Places at which the picture is measured.
const PROBES: usize = 3000;

/// Pixels of the lines along which edges are measured.
const REACH: usize = 9;

/// A picture on its way.
pub(super) struct Scene<'a> {
    /// Where decoys are painted.
    pub(super) canvas: Canvas,
    clean: &'a Image,
    /// Standard deviation of the picture's noise, of a range of 1.
    sigma: f32,
    /// Width of the picture's sharpest edges, in pixels.
    sharpness: f32,
}

impl<'a> Scene<'a> {
    /// Measures `clean`.
    pub(super) fn new(clean: &'a Image, seed: u64) -> Self {
        let mut random = Random::new(seed, "decoys/scene");
        let sigma = noise(clean, &mut random);
        let sharpness = edge_width(clean, &mut random, sigma);
        Self { canvas: Canvas::new(clean.clone(), seed), clean, sigma, sharpness }
    }

    /// The picture with its decoys.
    pub(super) fn finish(self) -> Image {
        self.canvas.finish().0
    }

    /// Draws how sharp the next decoy is: as the picture, or behind or before the plane of focus.
    pub(super) fn focus(&mut self, random: &mut Random) {
        let blurred = if random.chance(0.2) { random.range(1.5, 4.0) } else { 1.0 };
        let softness = self.sharpness * random.range(0.85, 1.35) * blurred;
        self.canvas.set_softness(softness);
    }

    /// A place within the picture, in pixels.
    pub(super) fn place(&self, random: &mut Random) -> (f32, f32) {
        (random.unit() * self.canvas.width(), random.unit() * self.canvas.height())
    }

    /// The shorter side, in pixels.
    pub(super) fn side(&self) -> f32 {
        self.canvas.width().min(self.canvas.height())
    }

    /// The mean colour of the clean picture around a place.
    pub(super) fn color_at(&self, (x, y): (f32, f32)) -> Color {
        let (width, height) = self.clean.size();
        let mut sum = [0.0; 3];
        for (dx, dy) in [(0.0, 0.0), (-2.0, 1.0), (2.0, -1.0), (1.0, 2.0)] {
            // Casts saturate.
            let (x, y) = ((x + dx) as usize, (y + dy) as usize);
            let color = pixel(self.clean, x.min(width - 1), y.min(height - 1));
            for (sum, value) in sum.iter_mut().zip(color) {
                *sum += 0.25 * value;
            }
        }
        sum
    }

    /// A colour of the scene.
    pub(super) fn color(&self, random: &mut Random) -> Color {
        let place = self.place(random);
        self.color_at(place)
    }

    /// A colour of the scene as it is in shadow: the darkest of three, darkened.
    pub(super) fn dark(&self, random: &mut Random) -> Color {
        let picks = [0; 3].map(|_| self.color(random));
        let color = picks.into_iter().min_by(|a, b| luma(*a).total_cmp(&luma(*b)));
        let shade = random.range(0.25, 1.0);
        color.unwrap_or_default().map(|value| value * shade)
    }

    /// A colour of the scene as it is in the light: the brightest of three, lightened.
    pub(super) fn light(&self, random: &mut Random) -> Color {
        let picks = [0; 3].map(|_| self.color(random));
        let color = picks.into_iter().max_by(|a, b| luma(*a).total_cmp(&luma(*b)));
        let lit = random.skewed(0.0, 0.9);
        color.unwrap_or_default().map(|value| lerp(value, 1.0, lit))
    }

    /// A colour of the scene, made darker or lighter or left as it is.
    pub(super) fn tone(&self, random: &mut Random) -> Color {
        match random.below(5) {
            0 | 1 => self.dark(random),
            2 | 3 => self.light(random),
            _ => self.color(random),
        }
    }

    /// A colour of the scene that can be told from what is at `place`, mostly.
    pub(super) fn contrast(&self, random: &mut Random, place: (f32, f32)) -> Color {
        let under = luma(self.color_at(place));
        let wanted = random.skewed(0.45, 0.06);
        let mut best = (0.0, [0.0; 3]);
        for _ in 0..6 {
            let color = self.tone(random);
            let away = (luma(color) - under).abs();
            if away >= best.0 {
                best = (away, color);
            }
            if away >= wanted {
                break;
            }
        }
        best.1
    }

    /// One of `colors` with the saturation that the picture has: nothing is brown in a black-and-white picture.
    pub(super) fn natural(&self, random: &mut Random, colors: &[Color]) -> Color {
        let color = colors[random.below(colors.len())];
        let picks = [0; 4].map(|_| self.color(random));
        let spread = |color: Color| {
            let high = color.into_iter().fold(0.0, f32::max);
            high - color.into_iter().fold(1.0, f32::min)
        };
        let colorful = picks.into_iter().map(spread).fold(0.0, f32::max);
        let cast = picks[0];
        let grey = luma(color);
        let tinted = cast.map(|value| (value - luma(cast)) * 0.8 + grey);
        let keep = (colorful * 6.0 - 0.6).clamp(0.0, 1.0);
        [0, 1, 2].map(|i| lerp(tinted[i], color[i], keep))
    }

    /// A layer of something solid in this colour with the picture's grain.
    pub(super) fn layer(&self, color: Color, mottle: f32) -> Layer {
        Layer::new(Material::Solid { color, mottle, sigma: self.sigma }, 0.0)
    }
}

fn pixel(image: &Image, x: usize, y: usize) -> Color {
    fn at<T: Sample>(samples: &[T], image: &Image, x: usize, y: usize) -> Color {
        let channels = image.color().channels();
        let index = (y * image.width() + x) * channels;
        read(&samples[index..index + channels], image.color().color_channels())
    }
    match image.samples() {
        Samples::U8(samples) => at(samples, image, x, y),
        Samples::U16(samples) => at(samples, image, x, y),
    }
}

/// The standard deviation of the noise, of a range of 1: the median absolute diagonal Haar coefficient, as
/// [`detect::noise_sigma`](crate::detect), of some pixels.
fn noise(image: &Image, random: &mut Random) -> f32 {
    let (width, height) = image.size();
    if width < 2 || height < 2 {
        return 0.0;
    }
    let mut found: Vec<f32> = (0..PROBES)
        .map(|_| {
            let (x, y) = (random.below(width - 1), random.below(height - 1));
            let at = |dx, dy| luma(pixel(image, x + dx, y + dy));
            (at(0, 0) - at(1, 0) - at(0, 1) + at(1, 1)).abs()
        })
        .collect();
    let middle = found.len() / 2;
    let (_, median, _) = found.select_nth_unstable_by(middle, f32::total_cmp);
    *median / 2.0 / 0.6745
}

/// The width of the sharpest edges in pixels, 1 to 5: how far their steepest slope takes to cross them.
fn edge_width(image: &Image, random: &mut Random, sigma: f32) -> f32 {
    let (width, height) = image.size();
    if width < REACH {
        return 1.0;
    }
    let mut found: Vec<f32> = Vec::new();
    for _ in 0..PROBES {
        let (x, y) = (random.below(width - REACH + 1), random.below(height));
        let values: [f32; REACH] = std::array::from_fn(|i| luma(pixel(image, x + i, y)));
        let low = values.into_iter().fold(f32::MAX, f32::min);
        let high = values.into_iter().fold(f32::MIN, f32::max);
        let steps = values.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        let steepest = steps.fold(0.0, f32::max);
        // Edges that stand out of the noise.
        if high - low > 0.08 + 6.0 * sigma {
            found.push((high - low) / steepest);
        }
    }
    if found.len() < 20 {
        return 1.5;
    }
    let sharp = found.len() / 4;
    let (_, width, _) = found.select_nth_unstable_by(sharp, f32::total_cmp);
    width.clamp(1.0, 5.0)
}
