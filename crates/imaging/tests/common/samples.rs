//! The sample photographs, which nothing is trained or tuned on.

use std::path::Path;

use imaging::Image;
use imaging::io::{ReadOptions, list_images, read_image};

/// Each with its name.
pub(crate) fn photographs() -> Vec<(String, Image)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/photos");
    list_images(&folder, false)
        .expect("the sample photographs are in the repository")
        .iter()
        .map(|path| {
            let image = read_image(path, &ReadOptions::default()).expect("a sample decodes");
            (path.file_stem().expect("a file name").to_string_lossy().into_owned(), image)
        })
        .collect()
}
