//! How often somebody may ask: so many requests at once, and so many a second after that.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::moment::Moment;

/// Requests at once.
const AT_ONCE: f64 = 400.0;
/// Requests a second.
const A_SECOND: f64 = 100.0;
/// Callers that are remembered; beyond that, those who have not asked for long are forgotten.
const CALLERS_MAX: usize = 10_000;

/// What is left to each caller.
#[derive(Default)]
pub struct Buckets {
    left: Mutex<BTreeMap<String, (f64, Moment)>>,
}

impl Buckets {
    /// Takes a request of `caller` down, and returns whether it may be made.
    pub fn take(&self, caller: &str, now: Moment) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() >= CALLERS_MAX && !left.contains_key(caller) {
            left.retain(|_, (tokens, at)| filled(*tokens, *at, now) < AT_ONCE);
        }
        if left.len() >= CALLERS_MAX && !left.contains_key(caller) {
            return false;
        }
        let (tokens, at) = left.entry(caller.to_owned()).or_insert((AT_ONCE, now));
        *tokens = filled(*tokens, *at, now);
        *at = now;
        let may = *tokens >= 1.0;
        if may {
            *tokens -= 1.0;
        }
        may
    }
}

fn filled(tokens: f64, at: Moment, now: Moment) -> f64 {
    (tokens + now.since(at).as_secs_f64() * A_SECOND).min(AT_ONCE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_asks_too_often_waits_and_nobody_else_does() {
        let buckets = Buckets::default();
        let now = Moment(0);
        let made = (0..500).filter(|_| buckets.take("a", now)).count();
        assert_eq!(made, 400);
        assert!(buckets.take("b", now));
        let later = now.after(Duration::from_millis(100));
        assert_eq!((0..50).filter(|_| buckets.take("a", later)).count(), 10);
    }

    #[test]
    fn so_many_callers_are_remembered_and_no_more() {
        let buckets = Buckets::default();
        (0..CALLERS_MAX).for_each(|caller| assert!(buckets.take(&caller.to_string(), Moment(0))));
        assert!(!buckets.take("one more", Moment(0)));
        assert!(buckets.take("one more", Moment(1000)), "the others have not asked for long");
    }
}
