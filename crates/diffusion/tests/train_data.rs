//! Training sets from files: what is refused, and what is drawn.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use diffusion::train::data::{
    Condition, CropPolicy, DataOptions, MaskedImage, Sample, TrainingSet, TripletPaths,
};
use diffusion::{DiffusionError, Result, Tensor};
use imaging::damage::DamageKind;
use imaging::fill::{FillMethod, FillOptions};
use imaging::io::{WriteOptions, write_image, write_mask};
use imaging::{ColorType, Image, Mask, Observer, Samples, Silent};
use tempfile::TempDir;

/// A picture whose every pixel differs from its neighbours'.
fn picture(width: usize, height: usize, color: ColorType, shift: usize) -> Image {
    let values = (0..width * height * color.channels()).map(|at| ((at * 7 + shift) % 200) as u8);
    Image::new(width, height, color, Samples::U8(values.collect())).expect("a picture")
}

fn save(path: &Path, image: &Image) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary folder");
    let options = WriteOptions { force: true, ..WriteOptions::default() };
    write_image(path, image, &options).expect("a temporary file");
}

/// A triplet whose mask is a block in the lower right; the damaged picture is inverted.
fn save_triplet(root: &Path, name: &str, (width, height): (usize, usize)) {
    let clean = picture(width, height, ColorType::Rgb, name.len());
    let Samples::U8(values) = clean.samples() else { unreachable!("8 bits") };
    let inverted = Samples::U8(values.iter().map(|value| 255 - value).collect());
    let damaged = Image::new(width, height, ColorType::Rgb, inverted).expect("a picture");
    save(&root.join("clean").join(name), &clean);
    save(&root.join("damaged").join(name), &damaged);
    let mask = Mask::from_fn(width, height, |x, y| x > width * 2 / 3 && y > height * 3 / 4);
    let path = root.join("mask").join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary folder");
    write_mask(&path, &mask, &WriteOptions { force: true, ..WriteOptions::default() })
        .expect("a temporary file");
}

fn triplets(sizes: &[(usize, usize)]) -> (TempDir, DataOptions) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (index, &size) in sizes.iter().enumerate() {
        save_triplet(folder.path(), &format!("{index}.png"), size);
    }
    let options = DataOptions {
        triplets: Some(folder.path().to_path_buf()),
        resolution: 40,
        ..DataOptions::default()
    };
    (folder, options)
}

fn photographs(sizes: &[(usize, usize)]) -> (TempDir, DataOptions) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (index, &(width, height)) in sizes.iter().enumerate() {
        let image = picture(width, height, ColorType::Rgb, index);
        save(&folder.path().join(format!("{index}.png")), &image);
    }
    let options = DataOptions {
        clean: Some(folder.path().to_path_buf()),
        resolution: 64,
        ..DataOptions::default()
    };
    (folder, options)
}

fn open(options: &DataOptions) -> TrainingSet {
    TrainingSet::open(options, &Silent).expect("a sound set")
}

fn sample(set: &TrainingSet, index: usize, epoch: u64) -> Sample {
    set.sample(index, epoch, 11).expect("a sound picture")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|all| all.to_vec1()).expect("f32 on the CPU")
}

/// All that a sample shows.
fn shown(sample: &Sample) -> [Vec<f32>; 3] {
    [&sample.clean, &sample.masked_image, &sample.mask].map(values)
}

fn refusal(result: Result<TrainingSet>) -> String {
    result.expect_err("a refusal").to_string()
}

#[test]
fn all_problems_are_named_at_once() {
    let (folder, options) = triplets(&[(40, 40); 8]);
    let at = |path: &str| folder.path().join(path);
    std::fs::remove_file(at("mask/0.png")).expect("a file");
    std::fs::remove_file(at("clean/1.png")).expect("a file");
    save(&at("damaged/2.png"), &picture(40, 39, ColorType::Rgb, 0));
    let faint = Mask::from_plane(imaging::Plane::filled(40, 40, 127));
    write_mask(&at("mask/3.png"), &faint, &WriteOptions { force: true, ..Default::default() })
        .expect("a file");
    let whole = std::fs::read(at("clean/4.png")).expect("a file");
    std::fs::write(at("clean/4.png"), &whole[..whole.len() / 2]).expect("a file");
    save_triplet(folder.path(), "5.png", (40, 7));
    std::fs::write(at("damaged/6.png"), b"").expect("a file");
    save(&at("clean/7.tif"), &picture(40, 40, ColorType::Rgb, 0));

    let error = refusal(TrainingSet::open(&options, &Silent));
    assert!(error.contains("8 problems: "), "{error}");
    for problem in [
        "clean/0.png: expected a file of this name in mask/, found none",
        "1.png: expected a file of this name in clean/, found none",
        "damaged/2.png: expected 40×40 pixels as the clean picture, found 40×39",
        "mask/3.png: expected damaged pixels",
        "clean/4.png: cannot decode",
        "clean/5.png: expected at least 8×8 pixels, found 40×7",
        "damaged/6.png: cannot decode",
        "7.tif: expected one picture called 7",
    ] {
        assert!(error.replace('\\', "/").contains(problem), "{problem}: {error}");
    }
    // Only what is used is looked at.
    let error = refusal(TrainingSet::open(&DataOptions { limit: Some(1), ..options }, &Silent));
    assert!(error.contains("1 problem: "), "{error}");
}

#[test]
fn folders_that_are_missing_or_empty_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let of = |path: &str| DataOptions {
        triplets: Some(folder.path().join(path)),
        ..DataOptions::default()
    };
    let error = refusal(TrainingSet::open(&of("none"), &Silent));
    assert!(error.contains("found nothing"), "{error}");
    std::fs::create_dir(folder.path().join("clean")).expect("a folder");
    let error = refusal(TrainingSet::open(&of(""), &Silent));
    assert!(error.contains("found no damaged/ and no mask/"), "{error}");
    let clean = DataOptions { clean: Some(folder.path().into()), ..DataOptions::default() };
    let error = refusal(TrainingSet::open(&clean, &Silent));
    assert!(error.contains("found none"), "{error}");
}

#[test]
fn opening_tells_its_progress_and_stops_when_asked() {
    struct Counter(AtomicU64, u64);
    impl Observer for Counter {
        fn progress(&self, stage: &'static str, done: u64, total: u64) {
            assert!(stage == "check" && done <= total);
            self.0.fetch_max(done, Ordering::Relaxed);
        }
        fn cancelled(&self) -> bool {
            self.0.load(Ordering::Relaxed) >= self.1
        }
    }
    let (_folder, options) = triplets(&[(40, 40); 9]);
    let counter = Counter(AtomicU64::new(0), u64::MAX);
    let set = TrainingSet::open(&options, &counter).expect("a sound set");
    assert_eq!((counter.0.into_inner(), set.len(), set.is_empty()), (9, 9, false));
    let stopped = TrainingSet::open(&options, &Counter(AtomicU64::new(0), 0));
    assert!(stopped.is_err_and(|error| error.is_cancelled()));
}

#[test]
fn folders_inside_are_taken_along_and_name_their_pictures() {
    let (folder, options) = triplets(&[(40, 40)]);
    save_triplet(folder.path(), "album/page.1/b.png", (30, 40));
    let set = open(&options);
    assert_eq!(set.names().collect::<Vec<_>>(), ["0.png", "album/page.1/b.png"]);
    let at = |kind: &str| folder.path().join(kind).join("0.png");
    let paths = TripletPaths { clean: at("clean"), damaged: at("damaged"), mask: at("mask") };
    assert_eq!(set.triplet(0), Some(&paths));
    assert_eq!(set.triplet(2), None);
}

#[test]
fn samples_depend_on_their_arguments_alone() {
    let (_folder, options) = triplets(&[(90, 60), (60, 90), (50, 50)]);
    let (_other_folder, other) = photographs(&[(90, 60), (60, 90), (50, 50)]);
    for options in [options, DataOptions { extra_masks: 0.5, ..other }] {
        let (set, again) = (open(&options), open(&options));
        for index in 0..3 {
            let first = sample(&set, index, 0);
            let (width, height) = set.bucket(index).expect("a picture");
            assert_eq!(first.clean.dims(), [1, 3, height, width]);
            assert_eq!(first.masked_image.dims(), [1, 3, height, width]);
            assert_eq!(first.mask.dims(), [1, 1, height, width]);
            assert_eq!(shown(&first), shown(&sample(&again, index, 0)));
            assert_eq!(first.prompt, sample(&again, index, 0).prompt);
            assert_ne!(shown(&first), shown(&sample(&set, index, 1)), "{index}");
            let reseeded = set.sample(index, 0, 12).expect("a sound picture");
            assert_ne!(shown(&first), shown(&reseeded), "{index}");
            assert!(values(&first.clean).iter().all(|value| (-1.0..=1.0).contains(value)));
            let mask = values(&first.mask);
            assert!(mask.iter().all(|&value| value == 0.0 || value == 1.0));
            assert!(mask.contains(&1.0));
        }
    }
}

#[test]
fn a_picture_that_is_added_changes_no_other() {
    let (folder, options) = photographs(&[(90, 60), (60, 90)]);
    let before = open(&options);
    save(&folder.path().join("00.png"), &picture(70, 70, ColorType::Rgb, 9));
    let after = open(&options);
    assert_eq!(after.names().collect::<Vec<_>>(), ["0.png", "00.png", "1.png"]);
    assert_eq!(shown(&sample(&before, 1, 4)), shown(&sample(&after, 2, 4)));
    assert_ne!(before.fingerprint(), after.fingerprint());
}

#[test]
fn what_is_hidden_is_zero_and_the_rest_is_the_picture() {
    let (_folder, options) = triplets(&[(60, 45)]);
    let options = DataOptions { flip: false, ..options };
    let of = |masked_image| sample(&open(&DataOptions { masked_image, ..options.clone() }), 0, 3);
    let (damaged, clean, whole) =
        (of(MaskedImage::Damaged), of(MaskedImage::Clean), of(MaskedImage::Whole));
    let hidden = values(&damaged.mask).repeat(3);
    let pictures = [(&damaged, values(&whole.masked_image)), (&clean, values(&clean.clean))];
    for (sample, picture) in pictures {
        for ((seen, full), hidden) in values(&sample.masked_image).iter().zip(picture).zip(&hidden)
        {
            assert_eq!(*seen, if *hidden == 1.0 { 0.0 } else { full });
        }
    }
    // The damaged picture is the clean one's negative.
    let sums =
        values(&whole.masked_image).into_iter().zip(values(&whole.clean)).map(|(a, b)| a + b);
    assert!(sums.fold(0.0_f32, |most, sum| most.max(sum.abs())) < 1e-5);
}

#[test]
fn what_is_filled_does_not_depend_on_the_damage() {
    let (folder, options) = triplets(&[(60, 45)]);
    let options =
        DataOptions { masked_image: MaskedImage::Filled, crop: CropPolicy::Fixed, ..options };
    let set = open(&options);
    let filled = sample(&set, 0, 3);
    let whole =
        sample(&open(&DataOptions { masked_image: MaskedImage::Whole, ..options.clone() }), 0, 3);
    let mask = values(&filled.mask).repeat(3);
    let pairs = values(&filled.masked_image).into_iter().zip(values(&whole.masked_image));
    let mut changed = 0;
    for ((filled, damaged), masked) in pairs.zip(mask) {
        // Kept pixels went through 16 bits.
        assert!(masked == 1.0 || (filled - damaged).abs() < 1e-4, "{filled} {damaged}");
        changed += usize::from(masked == 1.0 && (filled - damaged).abs() > 0.01);
    }
    assert!(changed > 0);
    assert!(filled.key.is_some());
    assert_ne!(filled.key, whole.key);

    // Another fill fills otherwise, and is another set.
    let telea = FillOptions { method: FillMethod::Telea, ..FillOptions::default() };
    let other = set.clone().with_fill(Arc::new(telea));
    assert_ne!(values(&sample(&other, 0, 3).masked_image), values(&filled.masked_image));
    assert_ne!(other.fingerprint(), set.fingerprint());
    drop(folder);
}

#[test]
fn a_flip_mirrors_all_three_alike() {
    for (_folder, options) in [triplets(&[(60, 45)]), photographs(&[(60, 45)])] {
        let flipping = open(&options);
        let still = open(&DataOptions { flip: false, ..options });
        let mut flipped = 0;
        for epoch in 0..12 {
            let (one, other) = (sample(&flipping, 0, epoch), sample(&still, 0, epoch));
            let mirrored = |tensor: &Tensor| values(&tensor.flip(&[3]).expect("four dimensions"));
            if shown(&one) != shown(&other) {
                flipped += 1;
                let expected = [&other.clean, &other.masked_image, &other.mask].map(mirrored);
                assert!(shown(&one) == expected, "{epoch}");
            }
        }
        assert!((1..12).contains(&flipped), "{flipped}");
    }
}

#[test]
fn views_that_come_again_have_names() {
    let (folder, options) = triplets(&[(90, 60), (40, 40)]);
    let key = |options: &DataOptions, index, epoch| sample(&open(options), index, epoch).key;
    // A random crop has none, unless the picture is no larger than the bucket.
    assert_eq!(key(&options, 0, 0), None);
    assert!(key(&options, 1, 0).is_some());
    let fixed = DataOptions { crop: CropPolicy::Fixed, flip: false, ..options };
    let first = key(&fixed, 0, 0).expect("a view that comes again");
    assert_eq!(key(&fixed, 0, 5), Some(first.clone()));
    assert_ne!(key(&fixed, 1, 0), Some(first.clone()));
    assert_eq!(shown(&sample(&open(&fixed), 0, 0)), shown(&sample(&open(&fixed), 0, 5)));
    // With flips a picture has two names.
    let flipping = open(&DataOptions { flip: true, ..fixed.clone() });
    let names: std::collections::HashSet<_> =
        (0..20).map(|epoch| sample(&flipping, 0, epoch).key.expect("a name")).collect();
    assert!(names.len() == 2 && names.contains(&first));
    // Holes are new each time.
    assert_eq!(key(&DataOptions { extra_masks: 1.0, ..fixed.clone() }, 0, 0), None);
    // Other contents, other names.
    save(&folder.path().join("damaged/0.png"), &picture(90, 60, ColorType::Rgb, 77));
    let changed = key(&fixed, 0, 0).expect("a view that comes again");
    assert_eq!(changed.clean, first.clean);
    assert_ne!(changed.masked_image, first.masked_image);
    let (_folder, clean) = photographs(&[(64, 64)]);
    assert_eq!(key(&DataOptions { crop: CropPolicy::Center, ..clean }, 0, 0), None);
}

#[test]
fn every_crop_of_every_policy_sees_damage_at_any_resolution() {
    let (_folder, options) = triplets(&[(200, 30), (30, 200), (9, 9), (120, 100)]);
    for resolution in [8, 16, 40, 104] {
        for (crop, buckets) in
            [(CropPolicy::Damage, true), (CropPolicy::Damage, false), (CropPolicy::Fixed, false)]
        {
            let options = DataOptions { resolution, crop, buckets, ..options.clone() };
            let set = open(&options);
            for (index, epoch) in (0..4).flat_map(|index| (0..6).map(move |epoch| (index, epoch))) {
                let sample = sample(&set, index, epoch);
                assert!(values(&sample.mask).contains(&1.0), "{resolution} {crop:?} {index}");
                let (_, _, height, width) = sample.mask.dims4().expect("four dimensions");
                assert!(width % 8 == 0 && height % 8 == 0);
                assert!(buckets || (width, height) == (resolution, resolution));
            }
        }
    }
    // The long pictures' damage is at the end.
    let center = DataOptions { crop: CropPolicy::Center, buckets: false, ..options };
    let error = refusal(TrainingSet::open(&center, &Silent));
    assert!(error.contains("2 problems") && error.contains("in the middle"), "{error}");
}

#[test]
fn extra_masks_hide_more() {
    let (_folder, options) = triplets(&[(40, 40)]);
    let options = DataOptions { flip: false, ..options };
    let (plain, more) = (open(&options), open(&DataOptions { extra_masks: 1.0, ..options }));
    let (plain, more) = (sample(&plain, 0, 0), sample(&more, 0, 0));
    let (before, after) = (values(&plain.mask), values(&more.mask));
    assert!(before.iter().zip(&after).all(|(before, after)| after >= before));
    assert!(after.iter().sum::<f32>() > before.iter().sum());
    assert_eq!(values(&plain.clean), values(&more.clean));
}

#[test]
fn structural_damage_stays_under_the_mask() {
    let (_folder, options) = photographs(&[(90, 60), (60, 90)]);
    let conditions = Condition::parse_list("cracks,scratches,losses").expect("three kinds");
    let options = DataOptions { conditions, masked_image: MaskedImage::Whole, ..options };
    let set = open(&options);
    for epoch in 0..6 {
        let sample = sample(&set, 0, epoch);
        let mask = values(&sample.mask).repeat(3);
        let pairs = values(&sample.clean).into_iter().zip(values(&sample.masked_image));
        for ((clean, damaged), masked) in pairs.zip(mask) {
            assert!(clean == damaged || masked == 1.0);
        }
    }
}

#[test]
fn what_blurs_the_whole_picture_is_shown_and_repainted_whole() {
    let (_folder, options) = photographs(&[(90, 60)]);
    let conditions = Condition::parse_list("blur").expect("one kind");
    for masked_image in
        [MaskedImage::Damaged, MaskedImage::Clean, MaskedImage::Whole, MaskedImage::Filled]
    {
        let options =
            DataOptions { conditions: conditions.clone(), masked_image, ..options.clone() };
        let sample = sample(&open(&options), 0, 0);
        assert!(values(&sample.mask).iter().all(|&masked| masked == 1.0));
        let seen = values(&sample.masked_image);
        assert!(seen.iter().any(|&value| value != 0.0));
        assert_ne!(seen, values(&sample.clean));
        assert!(sample.prompt.ends_with(", restored from motion blur"), "{}", sample.prompt);
    }
}

#[test]
fn prompts_come_from_captions_and_name_the_conditions() {
    let (folder, options) = photographs(&[(64, 64), (64, 64)]);
    std::fs::write(folder.path().join("0.txt"), " two sisters,\n1911\n").expect("a file");
    std::fs::write(folder.path().join("1.txt"), "\n").expect("a file");
    let conditions = ["cracks", "folds"]
        .map(|kind| Condition::new(kind.parse::<DamageKind>().expect("a kind")))
        .to_vec();
    let options = DataOptions {
        conditions,
        mix: [2, 2],
        prompt: "a photograph".into(),
        captions: true,
        ..options
    };
    let set = open(&options);
    let prompt = |set: &TrainingSet, index| sample(set, index, 0).prompt;
    assert_eq!(prompt(&set, 0), "two sisters, 1911, restored from cracks and folds");
    assert_eq!(prompt(&set, 1), "a photograph, restored from cracks and folds");
    let silent = open(&DataOptions { condition_words: false, ..options.clone() });
    assert_eq!(prompt(&silent, 0), "two sisters, 1911");
    // A caption that is no text is refused with the rest.
    std::fs::write(folder.path().join("1.txt"), [0xff, 0xfe, 0xff]).expect("a file");
    let error = refusal(TrainingSet::open(&options, &Silent));
    assert!(error.contains("1.txt: cannot read"), "{error}");
}

#[test]
fn grey_pictures_and_deep_ones_are_seen_in_three_channels() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    save(&folder.path().join("grey.png"), &picture(64, 64, ColorType::GrayAlpha, 0));
    let deep = Samples::U16((0..64 * 64 * 3).map(|at| (at * 5) as u16).collect());
    let deep = Image::new(64, 64, ColorType::Rgb, deep).expect("a picture");
    save(&folder.path().join("deep.png"), &deep);
    let options = DataOptions {
        clean: Some(folder.path().into()),
        resolution: 64,
        flip: false,
        ..DataOptions::default()
    };
    let set = open(&options);
    for index in 0..2 {
        assert_eq!(sample(&set, index, 0).clean.dims(), [1, 3, 64, 64]);
    }
    let grey = values(&sample(&set, 1, 0).clean);
    assert!(grey[..64 * 64] == grey[64 * 64..2 * 64 * 64]);
}

#[test]
fn held_out_pictures_are_not_trained_on() {
    let sizes: Vec<_> = (0..10).map(|at| (40, 40 + at)).collect();
    let (folder, options) = triplets(&sizes);
    let set = open(&options);
    let (training, held_out) = set.with_held_out(3, 5).expect("fewer than all");
    assert_eq!((training.len(), held_out.len()), (7, 3));
    let mut names: Vec<_> = training.names().chain(held_out.names()).collect();
    names.sort_unstable();
    assert_eq!(names, set.names().collect::<Vec<_>>());
    assert!(training.names().is_sorted() && held_out.names().is_sorted());
    // A picture is the same in either.
    let index = set.names().position(|name| held_out.names().next() == Some(name));
    let (one, other) = (sample(&held_out, 0, 2), sample(&set, index.expect("one of all"), 2));
    assert_eq!(shown(&one), shown(&other));
    assert_ne!(training.fingerprint(), set.fingerprint());
    assert!(matches!(set.with_held_out(10, 5), Err(DiffusionError::Argument { .. })));

    // Conditions are for clean pictures only; the other options and the contents count.
    assert_eq!(set.fingerprint(), open(&options).fingerprint());
    let more_conditions = DataOptions { mix: [1, 3], ..options.clone() };
    assert_eq!(set.fingerprint(), open(&more_conditions).fingerprint());
    let still = DataOptions { flip: false, ..options.clone() };
    assert_ne!(set.fingerprint(), open(&still).fingerprint());
    save_triplet(folder.path(), "3.png", (40, 48));
    assert_ne!(set.fingerprint(), open(&options).fingerprint());
}

#[test]
fn one_picture_damaged_twice_is_never_on_both_sides() {
    // Two triplets each of five clean pictures.
    let sizes: Vec<_> = (0..10).map(|at| (40, 40 + at / 2)).collect();
    let (_folder, options) = triplets(&sizes);
    let set = open(&options);
    let source = |name: &str| name.trim_end_matches(".png").parse::<usize>().expect("a number") / 2;
    for (count, left) in [(1, 8), (2, 8), (3, 6)] {
        let (training, held_out) = set.with_held_out(count, 1).expect("fewer than all");
        assert_eq!((training.len(), held_out.len()), (left, count));
        for name in held_out.names() {
            assert!(training.names().all(|other| source(other) != source(name)), "{name}");
        }
    }
    let error = set.with_held_out(9, 1).expect_err("none is left").to_string();
    assert!(error.contains("5 clean ones"), "{error}");
}

#[test]
fn batches_hold_pictures_of_one_size() {
    let sizes: Vec<_> = (0..14).map(|at| if at % 3 == 0 { (60, 40) } else { (40, 60) }).collect();
    let (_folder, options) = triplets(&sizes);
    let set = open(&options);
    let batches = set.epoch_batches(0, 4, 1);
    for batch in &batches {
        assert!(batch.iter().all(|&index| set.bucket(index) == set.bucket(batch[0])));
    }
    // 5 wide pictures in 2 batches, 9 tall ones in 3.
    assert_eq!(batches.len(), 5);
    assert_ne!(batches, set.epoch_batches(1, 4, 1));
}

#[test]
fn small_sets_are_read_once() {
    let (folder, options) = triplets(&[(40, 40)]);
    let set = open(&options);
    std::fs::remove_dir_all(folder.path().join("clean")).expect("a folder");
    sample(&set, 0, 0);
    assert!(matches!(set.sample(1, 0, 0), Err(DiffusionError::Argument { .. })));
}

#[test]
fn sets_go_between_threads() {
    fn between_threads<T: Send + Sync>() {}
    between_threads::<TrainingSet>();
}
