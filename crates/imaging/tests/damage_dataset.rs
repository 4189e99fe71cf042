//! Data sets of triplets: aligned files, a manifest that tells the truth, seeds that stay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use imaging::damage::{DamageRecipe, DatasetOptions, damage, make_dataset};
use imaging::io::{ReadOptions, WriteOptions, read_image, read_mask, write_image};
use imaging::{ColorType, Image, ImagingError, Observer, Samples, Silent};

fn write_photograph(path: &Path, width: usize, height: usize, shift: usize) {
    let values = (0..width * height * 3).map(|i| ((i * 7 + shift * 31) % 211) as u8).collect();
    let image = Image::new(width, height, ColorType::Rgb, Samples::U8(values)).expect("sizes fit");
    std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("can be made");
    write_image(path, &image, &WriteOptions::default()).expect("can be written");
}

/// Every file below `folder` with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in next.read_dir().expect("can be listed") {
            let path = entry.expect("can be listed").path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below it").to_path_buf();
                found.insert(name, std::fs::read(&path).expect("can be read"));
            }
        }
    }
    found
}

#[test]
fn triplets_are_aligned_and_the_manifest_makes_them_again() {
    let folder = tempfile::tempdir().unwrap();
    let (clean, out) = (folder.path().join("in"), folder.path().join("out"));
    write_photograph(&clean.join("a.png"), 70, 50, 1);
    write_photograph(&clean.join("deep/b.png"), 40, 61, 2);
    let options = DatasetOptions {
        recipe: DamageRecipe::mixed(),
        seed: 7,
        count: 2,
        size: Some(48),
        recursive: true,
        ..DatasetOptions::default()
    };
    let made = make_dataset(&clean, &out, &options, &Silent).unwrap();
    assert_eq!((made.planned, made.failures.len(), made.cancelled), (4, 0, false));

    let mut rows = csv::Reader::from_path(out.join("manifest.csv")).unwrap();
    let rows: Vec<BTreeMap<String, String>> = rows.deserialize().map(Result::unwrap).collect();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["a-1.png", "a-2.png", "deep/b-1.png", "deep/b-2.png"]);
    for row in &rows {
        let path = |kind: &str| out.join(kind).join(&row["name"]);
        let read = |kind: &str| read_image(&path(kind), &ReadOptions::default()).unwrap();
        let (clean, damaged) = (read("clean"), read("damaged"));
        let mask = read_mask(&path("mask"), &ReadOptions::default()).unwrap();
        assert_eq!(clean.size(), damaged.size());
        assert_eq!(clean.size(), mask.size());
        assert!(clean.width() % 8 == 0 && clean.height() % 8 == 0);
        assert_eq!(row["width"], clean.width().to_string());
        let again = damage(&clean, &options.recipe, row["seed"].parse().unwrap()).unwrap();
        assert_eq!(again.image.samples(), damaged.samples());
        assert_eq!(again.mask, mask);
        assert_eq!(row["coverage"].parse::<f64>().unwrap(), mask.coverage());
        let kinds: Vec<_> = again.applied.iter().map(|(kind, _)| kind.to_string()).collect();
        assert_eq!(row["kinds"], kinds.join(";"));
    }
}

#[test]
fn other_pictures_and_threads_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clean = folder.path().join("in");
    write_photograph(&clean.join("b.png"), 64, 40, 1);
    write_photograph(&clean.join("c.png"), 33, 35, 2);
    let options = DatasetOptions { seed: 3, ..DatasetOptions::default() };
    let make = |name: &str, threads: usize| {
        let out = folder.path().join(name);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| make_dataset(&clean, &out, &options, &Silent)).unwrap();
        contents(&out)
    };
    let (one, three) = (make("one", 1), make("three", 3));
    assert_eq!(one, three);
    write_photograph(&clean.join("a.png"), 20, 20, 3);
    let more = make("more", 2);
    for (name, bytes) in one.iter().filter(|(name, _)| *name != Path::new("manifest.csv")) {
        assert!(more.get(name) == Some(bytes), "{}", name.display());
    }
    assert_eq!(more.len(), 10);
}

#[test]
fn nothing_is_replaced_unasked_and_a_bad_file_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (clean, out) = (folder.path().join("in"), folder.path().join("in/out"));
    write_photograph(&clean.join("good.png"), 30, 30, 1);
    std::fs::write(clean.join("bad.png"), "not a picture").unwrap();
    let mut options = DatasetOptions { recursive: true, ..DatasetOptions::default() };
    let made = make_dataset(&clean, &out, &options, &Silent).unwrap();
    assert_eq!((made.triplets.len(), made.failures.len()), (1, 1));
    assert!(made.failures[0].0.ends_with("bad.png"));

    let error = make_dataset(&clean, &out, &options, &Silent).unwrap_err().to_string();
    assert!(error.contains("manifest.csv") && error.contains("exists"), "{error}");
    options.force = true;
    // The earlier output lies inside the folder and is not taken for more photographs.
    let made = make_dataset(&clean, &out, &options, &Silent).unwrap();
    assert_eq!(made.planned, 2);
}

#[test]
fn wrong_folders_and_options_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (clean, out) = (folder.path().join("in"), folder.path().join("out"));
    let options = DatasetOptions::default();
    assert!(make_dataset(&clean, &out, &options, &Silent).is_err());
    std::fs::create_dir(&clean).unwrap();
    let error = make_dataset(&clean, &out, &options, &Silent).unwrap_err().to_string();
    assert!(error.contains("clean pictures"), "{error}");
    write_photograph(&clean.join("a.png"), 9, 9, 1);
    write_photograph(&clean.join("a.tif"), 9, 9, 1);
    let error = make_dataset(&clean, &out, &options, &Silent).unwrap_err().to_string();
    assert!(error.contains("a.png") && error.contains("a.tif"), "{error}");
    let none = DatasetOptions { count: 0, ..DatasetOptions::default() };
    assert!(make_dataset(&clean, &out, &none, &Silent).is_err());
    assert!(!out.exists());
}

/// Stops after the first triplet.
#[derive(Default)]
struct StopsEarly(AtomicU64);

impl Observer for StopsEarly {
    fn progress(&self, _: &'static str, done: u64, _: u64) {
        self.0.fetch_max(done, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

#[test]
fn what_was_finished_before_a_stop_is_kept_and_listed() -> Result<(), ImagingError> {
    let folder = tempfile::tempdir().unwrap();
    let (clean, out) = (folder.path().join("in"), folder.path().join("out"));
    for index in 0..6 {
        write_photograph(&clean.join(format!("{index}.png")), 24, 24, index);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let options = DatasetOptions { count: 3, ..DatasetOptions::default() };
    let made = pool.install(|| make_dataset(&clean, &out, &options, &StopsEarly::default()))?;
    assert!(made.cancelled);
    assert_eq!((made.planned, made.triplets.len()), (18, 1));
    // Three files and the manifest.
    assert_eq!(contents(&out).len(), 4);
    Ok(())
}
