//! Files that are no pictures, or were some once.

use crate::support::{Site, id, sample};

/// A file with something wrong in it, the same each time.
fn broken(file: &[u8], how: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(how as u64 + 1);
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let mut broken = file.to_vec();
    match how % 5 {
        // Cut off in the header, or before half of it has come.
        0 => broken.truncate(random(64)),
        1 => broken.truncate(file.len() / 8 + random(file.len() / 4)),
        // Zeros, or noise, over everything after the signature.
        2 => broken[16..].fill(0),
        3 => broken[16..].iter_mut().for_each(|byte| *byte = random(256) as u8),
        // The right signature, the wrong rest.
        _ => {
            let signature = broken[..16].to_vec();
            broken = signature;
            broken.extend((0..random(5000)).map(|_| random(256) as u8));
        }
    }
    broken
}

#[test]
fn two_hundred_malformed_uploads_are_refused_and_the_server_lives() {
    let site = Site::new();
    let files = ["damaged/cat.png", "photos/cat.jpg", "photos/rocks.jpg"].map(sample);
    let image = crate::support::decoded(&files[0]);
    let more = ["tif", "webp"].map(|extension| crate::support::encoded(&image, extension));
    let whole = site.upload("cat.png", &files[0]);
    let mask = format!("/api/pictures/{}/mask", id(&whole));
    let files: Vec<_> = files.into_iter().chain(more).collect();
    for how in 0..200 {
        let file = broken(&files[how / 5 % files.len()], how);
        for answer in [
            site.client.post(&format!("/api/pictures?name=scan{how}.png"), &file),
            site.client.put(&mask, &file),
        ] {
            assert!(
                (400..500).contains(&answer.status),
                "{how}: {} {}",
                answer.status,
                answer.text()
            );
            assert!(!answer.message().is_empty());
        }
    }
    assert_eq!(
        site.client.get("/api/pictures").json()["pictures"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(std::fs::read_dir(site.data.join("incoming")).expect("a folder").count(), 0);
    assert_eq!(site.client.get(&mask).status, 404, "no mask was taken");
}
