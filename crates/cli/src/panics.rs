//! Panics are defects; the user still gets one line, and the developer its place.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// Where the latest panic of any thread was.
static PLACE: Mutex<String> = Mutex::new(String::new());

/// Replaces the message that a panic prints at once: decoders of broken files may panic inside the library,
/// which tells that as an ordinary error. With `RUST_BACKTRACE` set, the message is printed too.
pub(crate) fn install_hook() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place;
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            default(panic);
        }
    }));
}

/// Runs `work`; a panic in it becomes an error.
pub(crate) fn caught<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(anyhow::anyhow!("internal error, please report it: {} ({place})", message(&*payload)))
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let error = caught::<()>(|| panic!("index {} out of bounds", 3)).expect_err("it panicked");
        let text = error.to_string();
        assert!(
            text.starts_with("internal error, please report it: index 3 out of bounds"),
            "{text}"
        );
    }
}
