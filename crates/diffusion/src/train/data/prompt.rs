//! What the network is told to paint.

use std::io::ErrorKind;
use std::path::Path;

use imaging::ImagingError;

/// The caption in `NAME.txt` beside `NAME.png`, white space evened out; `None` if there is none or it is blank.
///
/// # Errors
/// [`ImagingError::Io`] if the file is there and cannot be read as text.
pub(super) fn caption(picture: &Path) -> Result<Option<String>, ImagingError> {
    let path = picture.with_extension("txt");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let words: Vec<_> = text.split_whitespace().collect();
            Ok((!words.is_empty()).then(|| words.join(" ")))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ImagingError::io(path, "read", error)),
    }
}

/// `a photograph`, `[cracks, folds]` → `a photograph, restored from cracks and folds`. Empty words are left out.
pub(super) fn with_conditions(prompt: &str, words: &[&str]) -> String {
    let words: Vec<_> = words.iter().copied().filter(|words| !words.is_empty()).collect();
    let listed = match words.as_slice() {
        [] => return prompt.to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    };
    if prompt.is_empty() {
        return format!("restored from {listed}");
    }
    format!("{prompt}, restored from {listed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_listed_as_one_says_them() {
        let prompt = |words: &[&str]| with_conditions("a portrait", words);
        assert_eq!(prompt(&[]), "a portrait");
        assert_eq!(prompt(&["", "dust"]), "a portrait, restored from dust");
        assert_eq!(prompt(&["cracks", "folds"]), "a portrait, restored from cracks and folds");
        assert_eq!(
            prompt(&["motion blur", "cracks", "dust"]),
            "a portrait, restored from motion blur, cracks and dust"
        );
        assert_eq!(with_conditions("", &["dust"]), "restored from dust");
    }
}
