//! The page in a real browser: what a person does with it, on a desk and on a phone, in light and in the dark.
//!
//! Skipped with one line where there is no Chromium. `PHOTOMEND_SCREENSHOTS=DIR` keeps what was on the screen.

mod cdp;
#[path = "../support/mod.rs"]
mod support;

use std::io::Write;
use std::path::{Path, PathBuf};

use imaging::{ColorType, Image, Samples};
use serde_json::{Value, json};

use cdp::{Browser, browser};
use support::{
    Site, assert_only_masked_pixels_differ, decoded, decoded_mask, encoded, eventually, id, sample,
};

fn url(site: &Site) -> String {
    format!("http://127.0.0.1:{}/", site.client.port)
}

fn path_of(name: &str) -> PathBuf {
    // Browsers do not take files from paths with dots.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").join(name);
    path.canonicalize().expect("a sample")
}

/// Keeps the screen, if somebody wants to look at it.
fn keep(browser: &mut Browser, name: &str) {
    let shot = browser.screenshot();
    assert!(shot.len() > 5_000, "{name}: an empty screen");
    if let Some(folder) = std::env::var_os("PHOTOMEND_SCREENSHOTS") {
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(Path::new(&folder).join(format!("{name}.jpg")), shot).expect("written");
    }
}

/// Keeps what the screen of a phone in the dark shows of the same, where all of it must fit; then goes back to the desk.
fn keep_on_a_dark_phone(browser: &mut Browser, name: &str) {
    browser.screen(360, 740, true);
    browser.theme("dark");
    browser.settle();
    keep(browser, &format!("{name}-phone-dark"));
    assert_eq!(browser.eval(FITS), true, "{name}");
    browser.screen(1280, 800, false);
    browser.theme("light");
}

/// True on a page that needs no scrolling.
const FITS: &str = "document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight";

/// Left, top, width and height of an element on the screen.
fn place(browser: &mut Browser, id: &str) -> [f64; 4] {
    let script = format!(
        "(() => {{ const b = document.getElementById('{id}').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; }})()"
    );
    let found = browser.eval(&script);
    [0, 1, 2, 3].map(|at| found[at].as_f64().expect("a number"))
}

/// A point of the picture, given as shares of its sides, on the screen.
fn on_picture(browser: &mut Browser, x: f64, y: f64) -> (f64, f64) {
    let [left, top, width, height] = place(browser, "before");
    (left + x * width, top + y * height)
}

fn text(browser: &mut Browser, id: &str) -> String {
    browser
        .eval(&format!("document.getElementById('{id}').textContent"))
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn first_picture(site: &Site) -> Value {
    site.client.get("/api/pictures").json()["pictures"][0].clone()
}

#[test]
fn a_person_repairs_a_photograph() {
    let Some(mut browser) = browser() else { return };
    let site = Site::new();
    let downloads = tempfile::tempdir().expect("a folder");
    browser.download_to(downloads.path());
    browser.screen(1280, 800, false);
    browser.theme("light");
    browser.open(&url(&site));
    keep(&mut browser, "welcome-desktop-light");

    // 1. a photograph, and what is found on it
    browser.choose("files", &[&path_of("damaged/astronaut.png")]);
    browser.wait("document.body.dataset.finding === 'done'");
    assert!(!text(&mut browser, "coverage").starts_with('0'), "nothing was found");
    let picture = first_picture(&site);
    let file = sample("damaged/astronaut.png");
    let before = decoded(&file);
    let detection = format!("/api/pictures/{}/detection", id(&picture));
    let found = decoded_mask(&site.client.get(&detection).body);
    keep(&mut browser, "damage-desktop-light");

    // 2. a stroke with the brush, which the server then knows
    let (x0, y0) = on_picture(&mut browser, 0.30, 0.85);
    let (x1, y1) = on_picture(&mut browser, 0.45, 0.90);
    browser.drag(&[(x0, y0), ((x0 + x1) / 2.0, (y0 + y1) / 2.0), (x1, y1)]);
    let own = format!("/api/pictures/{}/mask", id(&picture));
    eventually(|| site.client.get(&own).status == 200);
    let drawn = decoded_mask(&site.client.get(&own).body);
    let at = |mask: &imaging::Mask, x: f64, y: f64| {
        mask.plane()
            .get((x * before.width() as f64) as usize, (y * before.height() as f64) as usize)
    };
    assert_eq!(at(&found, 0.375, 0.875), 0, "damage where the test draws");
    assert_eq!(at(&drawn, 0.375, 0.875), 255);
    assert!(drawn.count() > found.count());
    browser.key("z", 2);
    assert_eq!(browser.eval("document.getElementById('redo').disabled"), false);
    browser.key("Z", 2 + 8);
    assert_eq!(browser.eval("document.getElementById('redo').disabled"), true);

    // 3. restored, and compared
    browser.click("restore");
    browser
        .wait("document.body.dataset.job === 'done' && !document.getElementById('after').hidden");
    browser.settle();
    assert_eq!(browser.eval("document.body.dataset.mode"), "compare");
    keep(&mut browser, "compare-desktop-light");
    let [left, top, width, height] = place(&mut browser, "stage");
    let middle = top + height / 2.0;
    browser.drag(&[
        (left + width / 2.0, middle),
        (left + width * 0.4, middle),
        (left + width * 0.25, middle),
    ]);
    assert_eq!(
        browser.eval("document.getElementById('divider').getAttribute('aria-valuenow')"),
        "25"
    );
    browser.eval("document.getElementById('divider').focus()");
    browser.key("ArrowRight", 0);
    assert_eq!(
        browser.eval("document.getElementById('divider').getAttribute('aria-valuenow')"),
        "27"
    );
    browser.theme("dark");
    keep(&mut browser, "compare-desktop-dark");

    // 4. every pixel
    browser.wheel(left + width / 2.0, middle, -400.0);
    let zoomed = text(&mut browser, "zoom-value");
    browser.key("1", 0);
    assert_eq!(text(&mut browser, "zoom-value"), "100 %");
    assert_ne!(zoomed, "100 %");
    browser.key("0", 0);

    // 5. downloaded: outside the mask every pixel is as it was
    browser.click("result-original");
    let saved = downloads.path().join("astronaut.restored.png");
    eventually(|| saved.exists());
    let after = decoded(&std::fs::read(&saved).expect("a file"));
    let job = first_picture(&site)["jobs"][0]["id"].as_str().expect("an id").to_owned();
    let used = decoded_mask(&site.client.get(&format!("/api/jobs/{job}/mask")).body);
    assert_only_masked_pixels_differ(&before, &after, &used);
    assert_eq!(at(&used, 0.375, 0.875), 255, "the stroke was repaired");

    // 6. the same after a reload, mask and all
    browser.open(&url(&site));
    browser
        .wait("document.body.dataset.finding === 'done' && document.body.dataset.job === 'done'");
    assert_eq!(browser.eval("document.getElementById('as-found').disabled"), false);
    browser.click("mode-mask");
    browser.settle();
    keep(&mut browser, "damage-desktop-dark");
    browser.eval("document.querySelector('.choices').open = true");
    browser.wait("document.getElementById('command').textContent.startsWith('photomend restore')");
    assert_eq!(browser.nameless(), Vec::<String>::new());
    browser.key("?", 0);
    assert_eq!(browser.eval("document.getElementById('help').open"), true);
    keep(&mut browser, "help-desktop-dark");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn a_phone_has_room_for_all_of_it() {
    let Some(mut browser) = browser() else { return };
    let site = Site::new();
    browser.screen(360, 740, true);
    browser.theme("light");
    browser.open(&url(&site));
    keep(&mut browser, "welcome-phone-light");
    assert_eq!(browser.eval(FITS), true);

    // 1. two photographs; the first is open
    browser.choose("files", &[&path_of("damaged/rocks.png"), &path_of("damaged/cat.png")]);
    browser.wait("document.body.dataset.finding === 'done' && document.querySelectorAll('.picture-remove').length === 2");
    browser.settle();
    keep(&mut browser, "damage-phone-light");
    assert_eq!(text(&mut browser, "picture-name"), "rocks.png");
    assert_eq!(browser.eval(FITS), true);

    // 2. one finger draws, two zoom and draw nothing
    let marked = text(&mut browser, "coverage");
    let (x, y) = on_picture(&mut browser, 0.2, 0.3);
    browser.touch(&[&[(x, y)], &[(x + 30.0, y + 5.0)], &[(x + 60.0, y + 10.0)]]);
    let drawn = text(&mut browser, "coverage");
    assert_ne!(drawn, marked);
    let zoom = text(&mut browser, "zoom-value");
    let (x, y) = on_picture(&mut browser, 0.5, 0.5);
    browser.touch(&[
        &[(x, y)],
        &[(x, y), (x + 20.0, y)],
        &[(x - 20.0, y), (x + 40.0, y)],
        &[(x - 40.0, y), (x + 60.0, y)],
    ]);
    assert_ne!(text(&mut browser, "zoom-value"), zoom);
    assert_eq!(text(&mut browser, "coverage"), drawn);

    // 3. both restored
    browser.click("restore-all");
    browser.wait("document.querySelectorAll('.picture[data-state=done]').length === 2");
    browser.wait("!document.getElementById('after').hidden");
    browser.theme("dark");
    keep(&mut browser, "compare-phone-dark");
    assert_eq!(browser.eval(FITS), true);
    assert_eq!(browser.nameless(), Vec::<String>::new());
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn waiting_failing_and_stopping_are_told() {
    let Some(mut browser) = browser() else { return };
    let site = Site::new();
    browser.screen(1280, 800, false);
    browser.open(&url(&site));

    // 1. a file that is no picture; then dropped and pasted ones
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("broken.png");
    std::fs::write(&broken, b"\x89PNG\r\n\x1a\nand no more").expect("written");
    browser.choose("files", &[&broken]);
    browser
        .wait("document.querySelector('.toast.error p')?.textContent.startsWith('broken.png: ')");
    browser.eval("document.querySelector('.toast button').click()");
    let picture = site.upload("cat.png", &sample("damaged/cat.png"));
    for (event, name, kind, carrier) in [
        ("drop", "dropped", "DragEvent", "dataTransfer"),
        ("paste", "pasted", "ClipboardEvent", "clipboardData"),
    ] {
        browser.eval(&format!(
            "(async () => {{
                const blob = await (await fetch('/api/pictures/{}/original')).blob();
                const data = new DataTransfer();
                data.items.add(new File([blob], '{name}.png', {{ type: 'image/png' }}));
                dispatchEvent(new {kind}('{event}', {{ {carrier}: data, bubbles: true, cancelable: true }}));
            }})()",
            id(&picture)
        ));
        browser
            .wait(&format!("document.getElementById('picture-name').textContent === '{name}.png'"));
        browser.wait("document.body.dataset.finding === 'done'");
    }

    // 2. a restoration that takes its time: how far it is, a preview, stopped
    let choose = |browser: &mut Browser, method: &str| {
        browser.eval(&format!(
            "(() => {{ const m = document.getElementById('method'); m.value = '{method}'; m.dispatchEvent(new Event('input')); }})()"
        ));
    };
    choose(&mut browser, "slow");
    browser.eval("document.querySelector('.choices').open = true");
    assert_eq!(browser.eval("document.getElementById('model-choices').hidden"), false);
    browser.settle();
    keep(&mut browser, "choices-desktop-light");
    browser.eval("document.querySelector('.choices').open = false");
    browser.click("restore");
    browser.wait("document.getElementById('stage-detail').textContent.includes('window 1 of 2 · step 3 of 10')");
    browser.wait("!document.getElementById('after').hidden");
    browser.settle();
    keep(&mut browser, "running-desktop-light");
    keep_on_a_dark_phone(&mut browser, "running");
    browser.click("cancel");
    browser.wait("document.getElementById('outcome').textContent.startsWith('Cancelled')");
    browser.settle();
    keep(&mut browser, "cancelled-desktop-light");

    // 3. one that fails
    choose(&mut browser, "fails");
    browser.click("restore");
    browser
        .wait("document.getElementById('outcome').textContent === 'It did not work: no such luck'");
    browser.settle();
    keep(&mut browser, "failed-desktop-light");

    // 4. masks in and out
    choose(&mut browser, "telea");
    let mask = folder.path().join("mask.png");
    std::fs::write(&mask, sample("mask/cat.png")).expect("written");
    browser.choose("mask-file", &[&mask]);
    browser.wait("document.querySelector('.toast p')?.textContent === 'mask.png is the mask now.'");
    browser.download_to(folder.path());
    browser.click("export-mask");
    let exported = folder.path().join("pasted.mask.png");
    eventually(|| exported.exists());
    let (given, back) =
        (decoded_mask(&sample("mask/cat.png")), std::fs::read(&exported).expect("a file"));
    assert_eq!(decoded_mask(&back), given);

    // 5. the server goes away
    site.stop();
    browser.click("restore");
    browser.wait("[...document.querySelectorAll('.toast.error p')].some((p) => p.textContent.includes('does not answer'))");
    browser.settle();
    keep(&mut browser, "no-server-desktop-light");
}

#[test]
fn a_server_with_a_token_asks_for_it() {
    let Some(mut browser) = browser() else { return };
    let site = Site::with(|config| config.token = Some("correct-horse".to_owned()));
    site.upload("cat.png", &sample("damaged/cat.png"));
    browser.screen(1280, 800, false);
    browser.call("Page.navigate", &json!({ "url": url(&site) }));
    browser.wait("document.getElementById('token-dialog')?.open");
    keep(&mut browser, "token-desktop-light");
    keep_on_a_dark_phone(&mut browser, "token");
    browser.eval("document.getElementById('token').value = 'wrong'");
    browser.eval("document.querySelector('#token-dialog button').click()");
    browser.wait("document.getElementById('token-dialog').open && !document.getElementById('token-wrong').hidden");
    browser.eval("document.getElementById('token').value = 'correct-horse'");
    browser.eval("document.querySelector('#token-dialog button').click()");
    browser.wait("document.body.dataset.finding === 'done'");

    // In the address that was printed, it is taken and put out of sight.
    let mut fresh = cdp::browser().expect("it was there before");
    fresh.open(&format!("{}#token=correct-horse", url(&site)));
    fresh.wait("document.body.dataset.finding === 'done'");
    assert_eq!(fresh.eval("location.hash"), "");
    assert_eq!(fresh.complaints, Vec::<String>::new());
}

/// A scan of 12 megapixels: smooth hills, grain, and scratches.
fn scan() -> Image {
    let (width, height) = (4000_usize, 3000_usize);
    let mut noise = 1_u32;
    let mut samples = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let hills = 110.0 + 60.0 * (x as f64 / 410.0).sin() * (y as f64 / 330.0).cos();
            let scratch = (x + y / 7) % 1300 < 4 && y % 900 > 200;
            let value = if scratch { 245.0 } else { hills + f64::from(noise >> 29) };
            samples.extend([value as u8, (value * 0.93) as u8, (value * 0.8) as u8]);
        }
    }
    Image::new(width, height, ColorType::Rgb, Samples::U8(samples)).expect("a picture")
}

#[test]
fn a_scan_of_12_megapixels_is_looked_at_pixel_by_pixel() {
    let Some(mut browser) = browser() else { return };
    let site = Site::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("scan.jpg");
    std::fs::write(&path, encoded(&scan(), "jpg")).expect("written");
    browser.screen(1280, 800, false);
    let mut paints: Vec<f64> = (0..7)
        .map(|_| {
            browser.open(&url(&site));
            browser.wait("performance.getEntriesByName('first-paint').length");
            let paint = browser.eval("performance.getEntriesByName('first-paint')[0].startTime");
            paint.as_f64().expect("a time")
        })
        .collect();
    paints.sort_by(f64::total_cmp);
    browser.choose("files", &[&path]);
    browser.wait("document.body.dataset.finding === 'done'");
    assert!(browser.eval("document.getElementById('before').naturalWidth").as_f64() < Some(1601.0));
    keep(&mut browser, "scan-desktop-light");

    // Figures for whoever looks; the machine may be busy.
    let mark = |name: &str| format!("performance.getEntriesByName('{name}')[0].startTime");
    let since = |name: &str| format!("Math.round({} - {})", mark(name), mark("sent"));
    let [known, draft, whole] =
        ["uploaded", "overlay-draft", "overlay"].map(|name| browser.eval(&since(name)));
    let _ = writeln!(
        std::io::stderr(),
        "first paint after {:.0} ms (median of 7, best {:.0}); 12 megapixels, from the last byte of the upload: decoded after \
         {known} ms, first overlay after {draft} ms, all of it after {whole} ms",
        paints[3],
        paints[0]
    );

    browser.key("1", 0);
    browser.wait("document.getElementById('before').naturalWidth === 4000");
    assert_eq!(text(&mut browser, "zoom-value"), "100 %");
    let marked = text(&mut browser, "coverage");
    let [left, top, width, height] = place(&mut browser, "stage");
    browser.drag(&[
        (left + width * 0.3, top + height * 0.3),
        (left + width * 0.7, top + height * 0.4),
        (left + width * 0.7, top + height * 0.7),
    ]);
    assert_ne!(text(&mut browser, "coverage"), marked);
    keep(&mut browser, "scan-pixels-desktop-light");
    assert_eq!(browser.complaints, Vec::<String>::new());
}
