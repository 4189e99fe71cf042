//! Times one fill: `time_fill IMAGE MASK METHOD REPEAT [OUTPUT]` prints the seconds of each repetition as JSON.
//!
//! METHOD is `telea` or `biharmonic`. With OUTPUT the filled picture is written there. `peak_mib` is the most memory
//! that the process held (Linux only), of which `before_mib` before the first repetition.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use imaging::Silent;
use imaging::fill::{FillMethod, FillOptions, fill};
use imaging::io::{ReadOptions, WriteOptions, read_image, read_mask, write_image};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [picture, mask, method, repeat, output @ ..] = arguments.as_slice() else {
        return Err("expected IMAGE MASK METHOD REPEAT [OUTPUT]".into());
    };
    let method = match method.as_str() {
        "telea" => FillMethod::Telea,
        "biharmonic" => FillMethod::Biharmonic,
        other => return Err(format!("method: expected telea or biharmonic, found {other}").into()),
    };
    let picture = read_image(Path::new(picture), &ReadOptions::default())?;
    let mask = read_mask(Path::new(mask), &ReadOptions::default())?;
    let options = FillOptions { method, ..FillOptions::default() };

    let mut filled = Some(picture.clone());
    let before = peak_mib();
    let (mut seconds, mut report) = (Vec::new(), None);
    for _ in 0..repeat.parse::<usize>()? {
        // The old copy goes first, so that what the peak adds is the fill's own.
        drop(filled.take());
        let filled = filled.insert(picture.clone());
        let started = Instant::now();
        report = Some(fill(filled, &mask, &options, &Silent)?);
        seconds.push(started.elapsed().as_secs_f64());
    }
    let result = serde_json::json!({
        "seconds": seconds, "report": report, "before_mib": before, "peak_mib": peak_mib(),
    });
    if let ([output, ..], Some(filled)) = (output, &filled) {
        write_image(
            Path::new(output),
            filled,
            &WriteOptions { force: true, ..Default::default() },
        )?;
    }
    println!("{result}");
    Ok(())
}

/// The most memory that this process has held, where the system tells.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}
