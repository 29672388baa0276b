//! What happened to a job: each start of it, with how long it was away before, and what its processes ended with. Kept beside the job's
//! record, bounded, and never looked at when it is decided what becomes of the job.
//!
//! ```text
//! rows come out ... last row | stopped | launched | goes on | first row ... rows come out
//!                            '------------ the job is away ------------'
//! ```
//! These types are a file format: fields are added with a default, and never given another meaning.

use serde::{Deserialize, Serialize};

use super::moment::Moment;
use super::record::Launch;

/// So many starts of a job are kept.
pub const STARTS_MAX: usize = 100;
/// So many different exceptions of a job are kept.
pub const EXCEPTIONS_MAX: usize = 50;
/// Of what a process said at last so much is kept.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Over what a job is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scale {
    /// Processes.
    pub processes: u16,
    /// Workers of each.
    pub workers: u16,
}

impl Scale {
    /// Returns that of a launch.
    pub fn of(launch: &Launch) -> Scale {
        Scale { processes: launch.processes, workers: launch.workers }
    }
}

/// A job that is away: what ran is being ended or has ended, and what follows does not run yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Away {
    /// Why: what was asked for, or how it ended.
    pub reason: String,
    /// The generation that ran.
    pub generation: u64,
    /// Over what it was spread.
    pub from: Scale,
    /// When it was to end, or was seen to have ended.
    pub at: Moment,
    /// When rows came out last, of this generation or of one before it.
    pub last_row: Option<Moment>,
    /// When none of its processes lived any more.
    pub stopped: Option<Moment>,
}

/// A start of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// The generation that was started.
    pub generation: u64,
    /// The revision of the job that it runs.
    pub revision: u64,
    /// Why: `submit`, `resume`, `rollback`, or the reason of the restart.
    pub reason: String,
    /// Over what it is spread.
    pub to: Scale,
    /// What was before it; none: the job never ran.
    pub away: Option<Away>,
    /// When it was decided.
    pub launched: Moment,
    /// When the first tick was complete that no start before had recorded.
    pub went_on: Option<Moment>,
    /// When rows came out first.
    pub first_row: Option<Moment>,
    /// How far it came.
    pub outcome: StartOutcome,
    /// What it ended with, if it did not come to its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far a start of a job came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartOutcome {
    /// It is not at its work yet.
    Starting,
    /// It came to its work.
    Running,
    /// It ended before it did.
    Ended,
}

/// Something that a process of a job ended with, once or again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exception {
    /// The process; none: there was none yet, the job could not be started.
    pub process: Option<u16>,
    /// Its exit code; none: it was killed.
    pub code: Option<i32>,
    /// What it said at last, or what was seen of it.
    pub message: String,
    /// It is why the generation ended; others only followed.
    pub root: bool,
    /// The generation, of the last time.
    pub generation: u64,
    /// How often.
    pub count: u64,
    /// When it was seen first.
    pub first_seen: Moment,
    /// When it was seen last.
    pub last_seen: Moment,
}

impl Exception {
    /// Returns one that is seen now.
    pub fn now(process: Option<u16>, code: Option<i32>, message: &str, generation: u64, now: Moment) -> Exception {
        let message = cut(message.trim_end(), MESSAGE_BYTES_MAX).to_owned();
        Exception { process, code, message, root: false, generation, count: 1, first_seen: now, last_seen: now }
    }

    /// Returns whether another one is the same again: numbers in what was said may differ.
    fn is_like(&self, other: &Exception) -> bool {
        let same = (self.process, self.code, self.root) == (other.process, other.code, other.root);
        same && self.message.split(digit).filter(some).eq(other.message.split(digit).filter(some))
    }
}

fn digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn some(text: &&str) -> bool {
    !text.is_empty()
}

/// Returns so much of the beginning of a text as can be kept of it.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// What happened to a job, or what is to be added to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct History {
    /// Starts that are over, the newest last.
    pub starts: Vec<Start>,
    /// Exceptions, the one that was seen last at the end.
    pub exceptions: Vec<Exception>,
}

impl History {
    /// Returns whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty() && self.exceptions.is_empty()
    }

    /// Takes in what happened; what is oldest is forgotten.
    pub fn add(&mut self, more: History) {
        self.starts.extend(more.starts);
        let old = self.starts.len().saturating_sub(STARTS_MAX);
        self.starts.drain(..old);
        for mut new in more.exceptions {
            if let Some(at) = self.exceptions.iter().position(|known| known.is_like(&new)) {
                let known = self.exceptions.remove(at);
                new.count = known.count.saturating_add(new.count);
                new.first_seen = known.first_seen;
            }
            self.exceptions.push(new);
        }
        let old = self.exceptions.len().saturating_sub(EXCEPTIONS_MAX);
        self.exceptions.drain(..old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(message: &str, at: i64) -> History {
        let exceptions = vec![Exception::now(Some(0), Some(74), message, 1, Moment(at))];
        History { starts: Vec::new(), exceptions }
    }

    #[test]
    fn the_same_again_is_counted_and_what_is_oldest_is_forgotten() {
        let mut history = History::default();
        history.add(exception("tick 12: sink `out` failed", 1));
        history.add(exception("something else", 2));
        history.add(exception("tick 9177: sink `out` failed", 3));
        let counted: Vec<(u64, i64, i64)> =
            history.exceptions.iter().map(|it| (it.count, it.first_seen.0, it.last_seen.0)).collect();
        assert_eq!(counted, [(1, 2, 2), (2, 1, 3)]);
        assert!(history.exceptions[1].message.contains("9177"), "what was said last is shown");
        for number in 0..100 {
            history.add(exception(&"x".repeat(number), 4));
        }
        assert_eq!(history.exceptions.len(), EXCEPTIONS_MAX);
    }

    #[test]
    fn of_a_long_message_its_beginning_is_kept() {
        let long = "ä".repeat(MESSAGE_BYTES_MAX);
        let kept = Exception::now(None, None, &format!("x{long}"), 1, Moment(0)).message;
        assert!(kept.len() == MESSAGE_BYTES_MAX - 1 && kept.starts_with("xä"), "{}", kept.len());
    }
}
