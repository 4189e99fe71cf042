//! Comparison sheets: the same picture at several stages side by side under headings, and below them its worst
//! damage enlarged.

use super::panel::{Panel, fitted};
use super::svg::{Anchor, Color, Svg, TextStyle, rasterize, shortened, text_width};
use crate::error::{ImagingError, Result};
use crate::geometry::Rect;
use crate::image::{ColorType, Image, Samples};
use crate::mask::Mask;

const MARGIN: usize = 28;
const GAP: usize = 28;
/// The outline of the enlarged part: orange shows on dark and light, and to any kind of colour vision.
const OUTLINE: &str = "#e69f00";

/// How a comparison sheet looks.
#[derive(Clone, Debug)]
pub struct SheetOptions {
    /// The longer side of a panel in pixels. Default: 640.
    pub panel: usize,
    /// A line above everything, such as the file's name. Default: none.
    pub title: Option<String>,
    /// A short note for each panel, in their order, such as its score; may be shorter than the panels. Default: none.
    pub notes: Vec<String>,
    /// The part of the picture that a second row shows enlarged; see [`worst_damage`]. Default: none.
    pub focus: Option<Rect>,
}

impl Default for SheetOptions {
    fn default() -> Self {
        Self { panel: 640, title: None, notes: Vec::new(), focus: None }
    }
}

/// Draws pictures of one size side by side, each under its heading: `[("Damaged", &image), …]`.
///
/// The sheet is 8-bit RGB whatever the pictures are.
///
/// # Errors
/// [`ImagingError::Argument`] for no panels, a panel size outside `16 ..= 4096` or a focus outside the picture;
/// [`ImagingError::Size`] if the pictures differ in size.
pub fn comparison(panels: &[(&str, &Image)], options: &SheetOptions) -> Result<Image> {
    let sheet = draw(panels, options)?;
    Image::new(sheet.width, sheet.height, ColorType::Rgb, Samples::U8(sheet.rgb))
}

/// [`comparison`], as a panel.
pub(crate) fn draw(panels: &[(&str, &Image)], options: &SheetOptions) -> Result<Panel> {
    let Some((_, first)) = panels.first() else {
        return Err(ImagingError::argument("panels", "at least one picture", "none"));
    };
    for (heading, image) in panels {
        ImagingError::check_size(heading, first.size(), image.size())?;
    }
    if !(16..=4096).contains(&options.panel) {
        return Err(ImagingError::argument("panel size", "16 to 4096 pixels", options.panel));
    }
    if let Some(focus) = options.focus
        && (focus.right() > first.width() || focus.bottom() > first.height() || focus.area() == 0)
    {
        return Err(ImagingError::argument(
            "focus",
            format!("a part of the {}×{} pixels", first.width(), first.height()),
            format!("{focus:?}"),
        ));
    }

    // 1. the layout
    let (width, height) = fitted(first.size(), options.panel);
    let size = (width as f64 / 26.0).clamp(13.0, 21.0);
    let headings = panels.iter().map(|(heading, _)| text_width(heading, size) as usize + 20);
    let column = width.max(headings.max().unwrap_or(0));
    let title_height = if options.title.is_some() { (size * 2.2) as usize } else { 0 };
    let top = MARGIN + title_height + (size * 1.7) as usize;
    let below = top + height + GAP / 2;
    let zoomed = options.focus.map(|focus| {
        let scale = (width as f64 / focus.width as f64).min(height as f64 / focus.height as f64);
        let side = |length: usize| ((length as f64 * scale).round() as usize).max(1);
        (side(focus.width), side(focus.height))
    });
    let bottom = zoomed.map_or(top + height, |(_, zoomed)| below + zoomed) + MARGIN;
    let across = 2 * MARGIN + panels.len() * column + (panels.len() - 1) * GAP;

    // 2. the pictures
    let mut sheet = Panel { width: across, height: bottom, rgb: vec![255; across * bottom * 3] };
    let mut words = Svg::new(across as f64, bottom as f64);
    if let Some(title) = &options.title {
        let title_size = size * 1.15;
        let style = TextStyle::new(title_size, Color::Ink).bold();
        let text = shortened(title, title_size, (across - 2 * MARGIN) as f64);
        words.text([MARGIN as f64, MARGIN as f64 + title_size], style, &text);
    }
    for (i, (heading, image)) in panels.iter().enumerate() {
        let x = MARGIN + i * (column + GAP);
        sheet.paste(x, top, &Panel::new(image, image.bounds(), (width, height)));
        if let (Some(focus), Some(size)) = (options.focus, zoomed) {
            sheet.paste(x, below, &Panel::new(image, focus, size));
            let scale = width as f64 / image.width() as f64;
            let part = [
                x as f64 + focus.x as f64 * scale,
                top as f64 + focus.y as f64 * scale,
                focus.width as f64 * scale,
                focus.height as f64 * scale,
            ];
            words.outline(part, 2.0, OUTLINE);
            let frame =
                [x as f64 + 1.0, below as f64 + 1.0, size.0 as f64 - 2.0, size.1 as f64 - 2.0];
            words.outline(frame, 2.0, OUTLINE);
        }

        // 3. the words
        let baseline = top as f64 - size * 0.6;
        words.text([x as f64, baseline], TextStyle::new(size, Color::Ink).bold(), heading);
        if let Some(note) = options.notes.get(i).filter(|note| !note.is_empty()) {
            let style = TextStyle::new(size * 0.85, Color::Soft).anchored(Anchor::End);
            let room = column as f64 - text_width(heading, size) - 10.0;
            let text = shortened(note, size * 0.85, room.max(0.0));
            words.text([(x + width.max(column)) as f64, baseline], style, &text);
        }
        if i + 1 < panels.len() {
            let style = TextStyle::new(size, Color::Soft).anchored(Anchor::Middle);
            let middle = top as f64 + height as f64 / 2.0 + size * 0.35;
            words.text([(x + column) as f64 + GAP as f64 / 2.0, middle], style, "→");
        }
    }
    draw_over(&mut sheet, &words.finish())?;
    Ok(sheet)
}

/// A restoration: Damaged → Mask → Restored, and below the part with the most damage enlarged.
///
/// # Errors
/// [`ImagingError::Size`] if the three differ in size.
pub fn restoration(
    title: Option<&str>,
    before: &Image,
    mask: &Mask,
    after: &Image,
) -> Result<Image> {
    let options = SheetOptions {
        title: title.map(str::to_owned),
        focus: worst_damage(mask),
        ..SheetOptions::default()
    };
    comparison(&[("Damaged", before), ("Mask", &mask.to_image()?), ("Restored", after)], &options)
}

/// The window that holds the most damage, for [`SheetOptions::focus`]; `None` for an empty mask.
///
/// It is about a third of the picture each way, smaller on large pictures so that single pixels can be told apart
/// on a sheet of the default size.
#[must_use]
pub fn worst_damage(mask: &Mask) -> Option<Rect> {
    let box_of_all = mask.bounding_box()?;
    let side = |length: usize| (length / 3).clamp(24, 260).min(length);
    let longer = mask.width().max(mask.height());
    let shrink = (side(longer) as f64 / longer as f64).min(1.0);
    let (width, height) = (
        ((mask.width() as f64 * shrink).round() as usize).clamp(1, mask.width()),
        ((mask.height() as f64 * shrink).round() as usize).clamp(1, mask.height()),
    );
    // Windows are tried at eighths of their size; the damage in a row of cells is summed once for each row.
    let (step_x, step_y) = ((width / 8).max(1), (height / 8).max(1));
    let last = |start: usize, length: usize, limit: usize| start.min(limit - length);
    let positions = |from: usize, to: usize, step: usize, length: usize, limit: usize| {
        (from.saturating_sub(length)..to).step_by(step).map(move |start| last(start, length, limit))
    };
    let cells = Cells::new(mask, step_x, step_y);
    let mut best: Option<(usize, Rect)> = None;
    for y in positions(box_of_all.y, box_of_all.bottom(), step_y, height, mask.height()) {
        for x in positions(box_of_all.x, box_of_all.right(), step_x, width, mask.width()) {
            let rect = Rect::new(x, y, width, height);
            let damage = cells.count(rect);
            if best.is_none_or(|(most, _)| damage > most) {
                best = Some((damage, rect));
            }
        }
    }
    // Of several equally good windows the first was kept: one around the middle of its damage shows more of the rest.
    let (most, found) = best?;
    let centered = around_middle(mask, found);
    Some(if cells.count(centered) * 10 >= most * 9 { centered } else { found })
}

/// `rect` moved so that the damage inside it is around its centre, as far as the picture goes.
fn around_middle(mask: &Mask, rect: Rect) -> Rect {
    let (mut count, mut sum_x, mut sum_y) = (0, 0, 0);
    for y in rect.y..rect.bottom() {
        let weights = &mask.plane().row(y)[rect.x..rect.right()];
        for (x, _) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
            count += 1;
            sum_x += rect.x + x;
            sum_y += y;
        }
    }
    if count == 0 {
        return rect;
    }
    let moved = |middle: usize, length: usize, limit: usize| {
        middle.saturating_sub(length / 2).min(limit - length)
    };
    Rect {
        x: moved(sum_x / count, rect.width, mask.width()),
        y: moved(sum_y / count, rect.height, mask.height()),
        ..rect
    }
}

/// Damaged pixels counted in cells, summed up from the top left.
struct Cells {
    step_x: usize,
    step_y: usize,
    columns: usize,
    sums: Vec<usize>,
}

impl Cells {
    fn new(mask: &Mask, step_x: usize, step_y: usize) -> Self {
        let columns = mask.width().div_ceil(step_x) + 1;
        let rows = mask.height().div_ceil(step_y) + 1;
        let mut sums = vec![0; columns * rows];
        for (y, row) in mask.plane().rows().enumerate() {
            let start = (y / step_y + 1) * columns + 1;
            for (cell, weights) in row.chunks(step_x).enumerate() {
                sums[start + cell] += weights.iter().filter(|&&weight| weight > 0).count();
            }
        }
        for i in columns..sums.len() {
            if i % columns > 0 {
                sums[i] = sums[i] + sums[i - 1] + sums[i - columns] - sums[i - columns - 1];
            }
        }
        Self { step_x, step_y, columns, sums }
    }

    /// The damage in the cells that `rect` begins in up to the one that it ends in.
    fn count(&self, rect: Rect) -> usize {
        let (left, top) = (rect.x / self.step_x, rect.y / self.step_y);
        let right = (rect.right() / self.step_x).max(left + 1);
        let bottom = (rect.bottom() / self.step_y).max(top + 1);
        let at = |x: usize, y: usize| self.sums[y * self.columns + x];
        at(right, bottom) + at(left, top) - at(left, bottom) - at(right, top)
    }
}

/// Lays the drawing over the sheet.
fn draw_over(sheet: &mut Panel, svg: &str) -> Result<()> {
    let drawing = rasterize(svg, 1.0)?;
    for (pixel, over) in sheet.rgb.chunks_exact_mut(3).zip(drawing.pixels()) {
        let keep = 255 - u32::from(over.alpha());
        if keep == 255 {
            continue;
        }
        for (below, above) in pixel.iter_mut().zip([over.red(), over.green(), over.blue()]) {
            let sum = u32::from(above) + (u32::from(*below) * keep + 127) / 255;
            *below = sum.min(255) as u8;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: usize, height: usize, value: u8) -> Image {
        let samples = Samples::U8(vec![value; width * height]);
        Image::new(width, height, ColorType::Gray, samples).expect("valid size")
    }

    #[test]
    fn a_sheet_holds_its_panels() {
        let (a, b) = (gray(300, 200, 40), gray(300, 200, 200));
        let options = SheetOptions {
            panel: 150,
            title: Some("name".to_owned()),
            notes: vec![String::new(), "30.1 dB".to_owned()],
            focus: Some(Rect::new(10, 20, 100, 50)),
        };
        let sheet = comparison(&[("Damaged", &a), ("Restored", &b)], &options).expect("valid");
        assert!(sheet.width() >= 2 * 150 + 2 * MARGIN + GAP);
        let Samples::U8(samples) = sheet.samples() else { panic!("8 bits") };
        let share = |value: u8| {
            samples.iter().filter(|&&sample| sample == value).count() as f64 / samples.len() as f64
        };
        assert!(share(40) > 0.15 && share(200) > 0.15);
    }

    #[test]
    fn arguments_are_checked() {
        let (a, b) = (gray(30, 20, 40), gray(31, 20, 200));
        let options = SheetOptions::default();
        assert!(comparison(&[], &options).is_err());
        let error = comparison(&[("Damaged", &a), ("Clean", &b)], &options).expect_err("sizes");
        assert_eq!(error.to_string(), "Clean: expected 30×20 pixels, found 31×20");
        let focus = Some(Rect::new(20, 0, 20, 5));
        assert!(comparison(&[("Damaged", &a)], &SheetOptions { focus, ..options }).is_err());
        // a very long and narrow picture still has a sheet
        let line = gray(2000, 1, 9);
        assert!(comparison(&[("Damaged", &line)], &SheetOptions::default()).is_ok());
    }

    #[test]
    fn the_worst_damage_is_found() {
        let mask = Mask::from_fn(600, 400, |x, y| {
            (x == 5 && y < 100) || ((400..440).contains(&x) && (300..330).contains(&y))
        });
        let focus = worst_damage(&mask).expect("not empty");
        assert!(focus.x <= 400 && focus.right() >= 440, "{focus:?}");
        assert!(focus.y <= 300 && focus.bottom() >= 330, "{focus:?}");
        assert!(focus.right() <= 600 && focus.bottom() <= 400);
        assert_eq!(worst_damage(&Mask::empty(9, 9)), None);
        for (width, height) in [(1, 1), (1, 900), (30, 7)] {
            let all = Mask::from_fn(width, height, |_, _| true);
            let rect = worst_damage(&all).expect("not empty");
            assert!(rect.right() <= width && rect.bottom() <= height && rect.area() > 0);
        }
    }
}
