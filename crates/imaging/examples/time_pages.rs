//! Milliseconds that a training page takes, each stage by itself, on one thread.
//!
//! `cargo run --release -p photomend-imaging --example time_pages -- PHOTOGRAPH… [SEEDS]`

use std::time::Instant;

use imaging::Image;
use imaging::damage::{DamageRecipe, DecoyOptions, age, damage, draw_decoys};
use imaging::io::{ReadOptions, read_image};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seeds = arguments.last().and_then(|last| last.parse().ok()).unwrap_or(20_u64);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    pool.install(|| {
        for path in arguments.iter().filter(|argument| argument.parse::<u64>().is_err()) {
            let clean = read_image(path.as_ref(), &ReadOptions::default()).expect("a photograph");
            let megapixels = clean.bounds().area() as f64 / 1e6;
            let (recipe, decoys) = (DamageRecipe::mixed(), DecoyOptions::default());
            let mut spent = [0.0; 3];
            for seed in 0..seeds {
                let mut stage = 0;
                let mut timed = |make: &dyn Fn() -> Image| {
                    let start = Instant::now();
                    let made = make();
                    spent[stage] += start.elapsed().as_secs_f64();
                    stage += 1;
                    made
                };
                let aged = timed(&|| age(&clean, seed).expect("an aged picture"));
                let page = timed(&|| draw_decoys(&aged, &decoys, seed).expect("sound options"));
                timed(&|| damage(&page, &recipe, seed).expect("a sound recipe").image);
            }
            let [age, decoys, damage] =
                spent.map(|seconds| 1e3 * seconds / seeds as f64 / megapixels);
            let total = age + decoys + damage;
            println!(
                "{path}: {megapixels:.2} MP, ms/MP: age {age:.1}, decoys {decoys:.1}, \
                 damage {damage:.1}, total {total:.1}"
            );
        }
    });
}
