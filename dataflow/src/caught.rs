//! Calls of libraries that panic on bytes from outside, where those bytes cannot be looked at before.
//!
//! Everywhere else a panic is a fault of ours, and ends the process.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

thread_local! {
    static CATCHES: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic was, if a hook said so.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Returns whether this panic is caught and told as an error, with the place where it was, so that nobody need hear of it otherwise. For the
/// panic hook of a process.
pub fn catches(panic: &PanicHookInfo<'_>) -> bool {
    let catches = CATCHES.get();
    if catches {
        PLACE.set(panic.location().map(|at| format!("{}:{}", at.file(), at.line())));
    }
    catches
}

/// Makes a call and returns what it gives, or what it said when it panicked. Whatever it changed is not to be used after that.
pub fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let before = CATCHES.replace(true);
    let called = catch_unwind(AssertUnwindSafe(call));
    CATCHES.set(before);
    called.map_err(|panic| match PLACE.take() {
        Some(place) => format!("{} ({place})", panic_message(panic.as_ref())),
        None => panic_message(panic.as_ref()),
    })
}

/// Returns what a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_what_it_said() {
        assert_eq!(caught(|| 1), Ok(1));
        assert_eq!(caught(|| panic!("{} is none", "that")), Err::<(), _>("that is none".to_owned()));
        assert_eq!(caught(|| std::panic::panic_any(1)), Err::<(), _>("a panic without a message".to_owned()));
    }

    #[test]
    fn it_is_caught_for_as_long_as_the_call_lasts() {
        let catches = || CATCHES.get();
        assert!(!catches());
        assert_eq!(caught(|| (caught(catches), catches())), Ok((Ok(true), true)));
        drop(caught(|| panic!("over")));
        assert!(!catches());
    }
}
