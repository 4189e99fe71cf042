//! The help texts and usage errors, as transcripts in `tests/cmd/`.
//!
//! `TRYCMD=overwrite cargo test -p photomend --test cli transcripts` renews them.

#[test]
fn transcripts() {
    trycmd::TestCases::new()
        .env("COLUMNS", "100")
        .env("RUST_BACKTRACE", "0")
        .case("tests/cmd/*.trycmd");
}
