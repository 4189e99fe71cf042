//! Reads an image and writes it again, in the format that the second name asks for.
//!
//! `cargo run --release -p photomend-imaging --example convert -- scan.tif scan.png`

use std::path::Path;
use std::time::Instant;

use imaging::io::{ReadOptions, WriteOptions, read_image, write_image};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = &arguments[..] else {
        return Err("expected an input and an output file".into());
    };
    let started = Instant::now();
    let image = read_image(Path::new(from), &ReadOptions::default())?;
    let (width, height) = image.size();
    println!("{width}×{height} pixels read in {:.2} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    write_image(Path::new(to), &image, &WriteOptions { force: true, jpeg_quality: None })?;
    println!("written in {:.2} s", started.elapsed().as_secs_f64());
    Ok(())
}
