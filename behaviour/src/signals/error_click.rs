//! Error clicks: a click that is followed by an error.
//!
//! Only the newest click of the page is looked at: an error within 2000 ms of it (closed) is its doing, unless another error was
//! that already. Older clicks are never considered. An error that also came in the 10 s before the click is background noise,
//! and what says nothing about the page (cross-origin, extensions, the resize observer) is no error.

use serde::{Deserialize, Serialize};

use super::scene::name_mark;
use super::settings::ErrorClick;

/// Errors that are remembered as possible noise; the one that was not seen for longest is forgotten first.
pub const ERRORS_MAX: usize = 64;

/// What errors there were lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    known: Vec<Known>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    name: u64,
    last_us: i64,
    /// When it last came before the newest click.
    before_us: Option<i64>,
}

impl Errors {
    /// A click comes: what was seen so far is before it.
    pub fn click(&mut self) {
        for known in &mut self.known {
            known.before_us = Some(known.last_us);
        }
    }

    /// An error comes at `at_us`. Returns whether it may be the doing of the newest click, at `click_us`.
    pub fn error(&mut self, error_fp: &str, at_us: i64, click_us: Option<i64>, settings: &ErrorClick) -> bool {
        let name = name_mark(error_fp);
        let before_us = match self.known.iter_mut().find(|known| known.name == name) {
            Some(known) => {
                known.last_us = at_us;
                known.before_us
            }
            None => {
                self.remember(Known { name, last_us: at_us, before_us: None });
                None
            }
        };
        let Some(click_us) = click_us else { return false };
        let noise_us = settings.noise_ms.saturating_mul(1000);
        let is_noise = before_us.is_some_and(|before| before >= click_us.saturating_sub(noise_us));
        settings.window.holds(at_us.saturating_sub(click_us)) && !is_noise
    }

    fn remember(&mut self, error: Known) {
        if self.known.len() == ERRORS_MAX {
            let oldest = (0..self.known.len()).min_by_key(|&at| self.known[at].last_us).unwrap_or(0);
            self.known.remove(oldest);
        }
        self.known.push(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn an_error_of_the_last_ten_seconds_is_noise() {
        let settings = ErrorClick::default();
        for (before, counts) in [(0, true), (1, false)] {
            let mut errors = Errors::default();
            errors.error("x", before, None, &settings);
            errors.click();
            let click = 10 * SECOND + 1;
            assert_eq!(errors.error("x", click + SECOND, Some(click), &settings), counts, "{before}");
            assert!(errors.error("y", click + SECOND, Some(click), &settings), "another error is none");
        }
    }

    #[test]
    fn an_error_after_the_click_is_no_noise_of_that_click() {
        let settings = ErrorClick::default();
        let mut errors = Errors::default();
        errors.click();
        assert!(errors.error("x", 100, Some(0), &settings));
        assert!(errors.error("x", 200, Some(0), &settings));
        errors.click();
        assert!(!errors.error("x", 400, Some(300), &settings));
    }

    #[test]
    fn few_errors_are_remembered() {
        let mut errors = Errors::default();
        for number in 0..1000 {
            errors.error(&number.to_string(), number, None, &ErrorClick::default());
        }
        assert_eq!(errors.known.len(), ERRORS_MAX);
    }
}
