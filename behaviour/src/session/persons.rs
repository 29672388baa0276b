//! Persons: which account an event of a device belongs to.
//!
//! A device may be used by several accounts one after the other; two accounts are never one person.

use serde::{Deserialize, Serialize};

/// The most signings-in that are kept of one device; beyond them the oldest is forgotten.
pub const IDENTIFIES_MAX: usize = 64;

/// A signing-in: from here on the device is known to be used by an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Identify {
    time: i64,
    id: String,
    user: String,
}

/// The signings-in of one device, in total order. They may be pushed in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identifies {
    list: Vec<Identify>,
}

impl Identifies {
    /// Takes in a signing-in of `user` by the event `id`. A repetition changes nothing.
    pub fn push(&mut self, time: i64, id: &str, user: &str) {
        let new = Identify { time, id: id.to_owned(), user: user.to_owned() };
        if let Err(at) = self.list.binary_search(&new) {
            self.list.insert(at, new);
        }
        if self.list.len() > IDENTIFIES_MAX {
            self.list.remove(0);
        }
    }

    /// Returns the account that an event at `time` belongs to: that of the first signing-in at or after it up to `until`, the
    /// end of its session; else that of the last one before it; else none.
    pub fn person(&self, time: i64, until: i64) -> Option<&str> {
        let at = self.list.partition_point(|identify| identify.time < time);
        let after = self.list.get(at).filter(|identify| identify.time <= until);
        let before = at.checked_sub(1).and_then(|at| self.list.get(at));
        after.or(before).map(|identify| identify.user.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_belongs_to_who_signs_in_after_it_in_its_session_else_to_who_did_before() {
        let mut device = Identifies::default();
        assert_eq!(device.person(5, 100), None);
        device.push(50, "e2", "u2");
        device.push(10, "e1", "u1");
        device.push(10, "e1", "u1");
        assert_eq!(device.person(5, 100), Some("u1"));
        assert_eq!(device.person(10, 100), Some("u1"), "at the same millisecond is at or after");
        assert_eq!(device.person(11, 100), Some("u2"));
        assert_eq!(device.person(11, 50), Some("u2"));
        assert_eq!(device.person(11, 49), Some("u1"), "the next one is of another session");
        assert_eq!(device.person(60, 100), Some("u2"));
        assert_eq!(device.person(5, 9), None, "two accounts are never merged, nor is the future guessed");
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_bound() {
        let mut device = Identifies::default();
        for n in 0..=IDENTIFIES_MAX as i64 {
            device.push(n, "e", &n.to_string());
        }
        assert_eq!(device.list.len(), IDENTIFIES_MAX);
        assert_eq!(device.person(0, 0), None);
        assert_eq!(device.person(1, 1), Some("1"));
    }
}
