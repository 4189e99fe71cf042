//! Names for what a sample shows, by which a cache can find the autoencoder's latents of it.

use imaging::Rect;

use super::options::MaskedImage;
use super::picture::Hashes;
use crate::train::hash;

/// Names of the two pictures of a sample, by the contents of their files and what is seen of them: SHA-256 in
/// hexadecimal digits. Equal names mean equal pictures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SampleKey {
    /// Names [`Sample::clean`](super::Sample::clean).
    pub clean: String,
    /// Names [`Sample::masked_image`](super::Sample::masked_image).
    pub masked_image: String,
}

impl SampleKey {
    /// The names of a view of a triplet; `None` for a picture that is damaged while training. `fill` names what fills masked
    /// pixels, if anything does.
    pub(super) fn new(
        hashes: &Hashes,
        rect: Rect,
        size: (usize, usize),
        flipped: bool,
        shown: MaskedImage,
        fill: &str,
    ) -> Option<Self> {
        let [damaged, mask] = hashes.damaged.as_ref()?;
        let place = format!(
            "{}+{} {}×{} to {}×{}{}",
            rect.x,
            rect.y,
            rect.width,
            rect.height,
            size.0,
            size.1,
            if flipped { " flipped" } else { "" }
        );
        // Hashes of files all have one length, and the first word says how many follow.
        let masked_image = match shown {
            MaskedImage::Damaged => vec!["masked", damaged, mask],
            MaskedImage::Clean => vec!["masked", &hashes.clean, mask],
            MaskedImage::Whole => vec!["whole", damaged],
            MaskedImage::Filled => vec!["filled", fill, damaged, mask],
        };
        Some(Self {
            clean: hash::of_parts(["whole", &hashes.clean, &place]),
            masked_image: hash::of_parts(masked_image.into_iter().chain([place.as_str()])),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_where_pictures_do() {
        let hashes =
            |mask: &str| Hashes { clean: "c".into(), damaged: Some(["d".into(), mask.into()]) };
        let rect = Rect::new(1, 2, 30, 40);
        let key = |hashes: &Hashes, rect, flipped, shown| {
            SampleKey::new(hashes, rect, (64, 64), flipped, shown, "fill").expect("a triplet")
        };
        let shown = MaskedImage::Damaged;
        let first = key(&hashes("m"), rect, false, shown);
        assert_eq!(first, key(&hashes("m"), rect, false, shown));
        // Another mask hides something else of the same clean picture.
        let masked = key(&hashes("n"), rect, false, shown);
        assert_eq!(first.clean, masked.clean);
        assert_ne!(first.masked_image, masked.masked_image);
        for other in [
            key(&hashes("m"), rect, true, shown),
            key(&hashes("m"), Rect { x: 2, ..rect }, false, shown),
        ] {
            assert_ne!(first.clean, other.clean);
            assert_ne!(first.masked_image, other.masked_image);
        }
        for other in [MaskedImage::Clean, MaskedImage::Whole, MaskedImage::Filled] {
            assert_ne!(first.masked_image, key(&hashes("m"), rect, false, other).masked_image);
        }
        let clean = Hashes { clean: "c".into(), damaged: None };
        assert_eq!(SampleKey::new(&clean, rect, (64, 64), false, shown, "fill"), None);
    }
}
