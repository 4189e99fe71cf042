//! One picture as training sees it.

use candle_core::Tensor;
use imaging::Repainter;

use super::key::SampleKey;
use super::loaded::Store;
use super::options::{DataOptions, MaskedImage};
use super::picture::Picture;
use super::prompt;
use super::view::View;
use crate::error::Result;
use crate::random::SplitMix64;

/// One picture as training sees it: f32 on the CPU, `h` and `w` those of its bucket.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The undamaged picture, `(1, 3, h, w)`, sRGB in [-1, 1]; grey three times, alpha ignored.
    pub clean: Tensor,
    /// What the network sees beside the mask, `(1, 3, h, w)`, sRGB in [-1, 1]; hidden pixels are 0, mid-grey, as in
    /// diffusers, if they are not filled.
    pub masked_image: Tensor,
    /// `(1, 1, h, w)`, 1 = repaint, 0 = keep; at least one pixel is 1.
    pub mask: Tensor,
    /// What the network is told to paint.
    pub prompt: String,
    /// Names of the two pictures, if they can come again in another epoch.
    pub key: Option<SampleKey>,
}

impl Sample {
    /// The sample of a picture in an epoch; `fill` fills masked pixels, where the options ask for that.
    ///
    /// # Errors
    /// [`imaging::ImagingError::Dataset`] if the files changed since they were checked and can no longer be used.
    pub(super) fn new(
        picture: &Picture,
        options: &DataOptions,
        store: &Store,
        fill: &dyn Repainter,
        epoch: u64,
        seed: u64,
    ) -> Result<Self> {
        // Each choice has its own stream, so that making one does not change the others.
        let stream = |choice: &str| {
            SplitMix64::named(seed, &format!("{choice} of {} in epoch {epoch}", picture.name))
        };

        // 1. where to look
        let loaded = picture.load(options, store)?;
        let size = picture.bucket;
        let (rect, comes_again) = picture.crop(&loaded, options.crop, &mut stream("crop"));

        // 2. what is there
        let mut view = match &loaded.damaged {
            Some((damaged, damage)) => {
                View::of_triplet(&loaded.clean, damaged, damage, rect, size)?
            }
            None => {
                let seed = stream("damage").next();
                View::of_clean(&loaded.clean, &options.recipe(), seed, rect, size)?
            }
        };

        // 3. more holes
        let mut extra = stream("extra mask");
        let has_holes = !view.everywhere && extra.chance(options.extra_masks);
        if has_holes {
            view.add_holes(options.severity, extra.next())?;
        }

        // 4. mirrored or not
        let flipped = options.flip && stream("flip").chance(0.5);
        if flipped {
            view.flip()?;
        }

        // 5. what to show of it
        let kept = |shown: &Tensor| shown.broadcast_mul(&view.mask.affine(-1.0, 1.0)?);
        let masked_image = match options.masked_image {
            _ if view.everywhere => view.damaged.clone(),
            MaskedImage::Whole => view.damaged.clone(),
            MaskedImage::Filled => view.filled(fill)?,
            MaskedImage::Damaged => kept(&view.damaged)?,
            MaskedImage::Clean => kept(&view.clean)?,
        };

        // 6. what to say about it, and what to call it
        let words: Vec<_> = options
            .conditions
            .iter()
            .filter(|one| options.condition_words && view.kinds.contains(&one.kind))
            .map(|one| one.words.as_str())
            .collect();
        let key = if comes_again && !has_holes {
            let shown = options.masked_image;
            SampleKey::new(&picture.hashes, rect, size, flipped, shown, fill.name())
        } else {
            None
        };
        Ok(Self {
            clean: view.clean,
            masked_image,
            mask: view.mask,
            prompt: prompt::with_conditions(&picture.prompt, &words),
            key,
        })
    }
}
