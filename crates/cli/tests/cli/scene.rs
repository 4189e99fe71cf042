//! Pictures made on the spot, a folder to work in, and ways to run the program and look at what it left.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use imaging::io::{ReadOptions, WriteOptions, read_image, write_image, write_mask};
use imaging::{ColorType, Image, Mask, Samples};
use tempfile::TempDir;

/// A folder that goes away, and the program run inside it.
pub(crate) struct Scene {
    folder: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `photomend` with arguments separated by spaces.
    pub(crate) fn run(&self, arguments: &str) -> Run {
        self.run_with(arguments, &[])
    }

    /// [`Scene::run`] with environment variables.
    pub(crate) fn run_with(&self, arguments: &str, variables: &[(&str, &str)]) -> Run {
        let output = Command::new(env!("CARGO_BIN_EXE_photomend"))
            .current_dir(self.folder.path())
            .args(arguments.split_whitespace())
            .env_remove("RUST_BACKTRACE")
            .envs(variables.iter().copied())
            .output()
            .expect("the program starts");
        Run {
            code: output.status.code().expect("the program was not killed"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Writes a file of any content, and the folders above it.
    pub(crate) fn file(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("inside the scene")).expect("a folder");
        std::fs::write(path, content).expect("a file");
    }

    pub(crate) fn image(&self, name: &str, image: &Image) {
        self.file(name, b""); // makes the folders
        write_image(&self.path(name), image, &replacing()).expect("an image is written");
    }

    pub(crate) fn mask(&self, name: &str, mask: &Mask) {
        self.file(name, b"");
        write_mask(&self.path(name), mask, &replacing()).expect("a mask is written");
    }

    pub(crate) fn read(&self, name: &str) -> Image {
        read_image(&self.path(name), &ReadOptions::default()).expect("a whole image")
    }

    /// Every file in the scene, sorted, with `/` between folders.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut names = Vec::new();
        collect(self.folder.path(), self.folder.path(), &mut names);
        names.sort();
        names
    }
}

fn replacing() -> WriteOptions {
    WriteOptions { force: true, ..WriteOptions::default() }
}

fn collect(root: &Path, folder: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, names);
        } else {
            let relative = path.strip_prefix(root).expect("below the root");
            let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
            names.push(parts.join("/"));
        }
    }
}

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Expects exit code 0 and nothing on stderr.
    #[track_caller]
    pub(crate) fn silent(self) -> Self {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        self
    }

    /// Expects exit code 0.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Expects an exit code, nothing on stdout, and these lines on stderr.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, stderr: &[&str]) {
        let lines: Vec<_> = self.stderr.lines().collect();
        assert_eq!((self.code, lines.as_slice()), (code, stderr), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
    }

    /// stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).expect("stdout is JSON and nothing else")
    }
}

/// A smooth 8-bit colour picture.
pub(crate) fn photo(width: usize, height: usize) -> Image {
    let mut values = Vec::new();
    for y in 0..height {
        for x in 0..width {
            values.extend([
                (40 + 150 * x / width) as u8,
                (60 + 120 * y / height) as u8,
                (90 + (x + y) % 7) as u8,
            ]);
        }
    }
    Image::new(width, height, ColorType::Rgb, Samples::U8(values)).expect("a picture")
}

/// A smooth 16-bit grey picture whose low bytes matter.
pub(crate) fn scan16(width: usize, height: usize) -> Image {
    let values = (0..width * height)
        .map(|at| (20_000 + 97 * (at % width) + 31 * (at / width)) as u16)
        .collect();
    Image::new(width, height, ColorType::Gray, Samples::U16(values)).expect("a picture")
}

/// A diagonal crack, three pixels wide, across the middle half.
pub(crate) fn crack(width: usize, height: usize) -> Mask {
    Mask::from_fn(width, height, |x, y| {
        let inside = (height / 4..3 * height / 4).contains(&y);
        inside && (x * height).abs_diff(y * width) <= height + height / 2
    })
}

/// The picture with its masked pixels painted black.
pub(crate) fn damaged(mut image: Image, mask: &Mask) -> Image {
    let channels = image.color().channels();
    let hit = |at: usize| mask.plane().data()[at / channels] > 0;
    match image.samples_mut() {
        Samples::U8(values) => {
            values.iter_mut().enumerate().filter(|(at, _)| hit(*at)).for_each(|(_, v)| *v = 0);
        }
        Samples::U16(values) => {
            values.iter_mut().enumerate().filter(|(at, _)| hit(*at)).for_each(|(_, v)| *v = 0);
        }
    }
    image
}

/// All samples as `u16`, whatever the depth.
pub(crate) fn values(image: &Image) -> Vec<u16> {
    match image.samples() {
        Samples::U8(values) => values.iter().copied().map(u16::from).collect(),
        Samples::U16(values) => values.clone(),
    }
}

/// Checks that every sample under a mask weight of 0 is the same in both, and that some other has changed.
#[track_caller]
pub(crate) fn assert_only_masked_pixels_differ(before: &Image, after: &Image, mask: &Mask) {
    assert_eq!((before.size(), before.color()), (after.size(), after.color()));
    assert_eq!(before.samples().bits(), after.samples().bits());
    let channels = before.color().channels();
    let (old, new) = (values(before), values(after));
    let mut changed = 0;
    for (at, (old, new)) in old.iter().zip(&new).enumerate() {
        let weight = mask.plane().data()[at / channels];
        assert!(weight > 0 || old == new, "sample {at}: {old} became {new}");
        changed += usize::from(old != new);
    }
    assert!(changed > 0, "nothing was repaired");
}
