//! Acts on the disk that fail on demand: what a dying disk does to a whole process.
//!
//! Only in debug builds; in a release build nothing of this is left. `RIVERRUN_FAIL_ACT=sync:out.jsonl$:2` has the second `sync`
//! of a file whose path ends in `out.jsonl` fail with EIO before anything is done; without `$` the path only has to contain
//! the text; `2+` has all from the second on fail. `RIVERRUN_ACTS=FILE` notes every act in a file, so that it can be seen what
//! is still tried after one has failed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

/// The variable that names an act, a part of its path, and which time it fails.
pub const VARIABLE: &str = "RIVERRUN_FAIL_ACT";
/// The variable that names the file in which acts are noted.
pub const NOTED_IN: &str = "RIVERRUN_ACTS";

/// What the system says when a disk fails.
const EIO: i32 = 5;

/// An act that fails.
#[derive(Debug)]
struct Armed {
    act: String,
    part: String,
    /// From this time on ...
    from: u64,
    /// ... and up to this one.
    until: u64,
    times: AtomicU64,
}

impl Armed {
    fn parse(text: &str) -> Option<Armed> {
        let (act, rest) = text.split_once(':')?;
        let (part, nth) = rest.rsplit_once(':')?;
        let from: u64 = nth.trim_end_matches('+').parse().ok()?;
        let until = if nth.ends_with('+') { u64::MAX } else { from };
        Some(Armed { act: act.to_owned(), part: part.to_owned(), from, until, times: AtomicU64::new(0) })
    }

    fn is_due(&self, act: &str, path: &str) -> bool {
        let meant = match self.part.strip_suffix('$') {
            Some(end) => path.ends_with(end),
            None => path.contains(&self.part),
        };
        act == self.act && meant && (self.from..=self.until).contains(&(self.times.fetch_add(1, Ordering::Relaxed) + 1))
    }
}

/// Tries an act on `path`: an error if it is to fail.
pub fn attempt(act: &str, path: &Path) -> io::Result<()> {
    if !cfg!(debug_assertions) {
        return Ok(());
    }
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    static NOTES: OnceLock<Option<Mutex<File>>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| Armed::parse(&std::env::var(VARIABLE).ok()?));
    let notes = NOTES.get_or_init(|| {
        let file = OpenOptions::new().create(true).append(true).open(std::env::var_os(NOTED_IN)?).ok()?;
        Some(Mutex::new(file))
    });
    if armed.is_none() && notes.is_none() {
        return Ok(());
    }
    let path = path.to_string_lossy();
    let fails = armed.as_ref().is_some_and(|armed| armed.is_due(act, &path));
    if let Some(notes) = notes {
        let mut file = notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A note that cannot be made is missed by the test that reads it.
        let _ = writeln!(file, "{} {act} {path}", if fails { "failed" } else { "done" });
    }
    if fails { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_act_on_a_path_is_due_and_with_a_plus_all_after_it() {
        let once = Armed::parse("sync:out.jsonl$:2").unwrap();
        let tried =
            [("sync", "a/out.jsonl"), ("write", "a/out.jsonl"), ("sync", "out.jsonl.x"), ("sync", "b/out.jsonl")];
        assert_eq!(tried.map(|(act, path)| once.is_due(act, path)), [false, false, false, true]);
        assert!(!once.is_due("sync", "a/out.jsonl"), "once is once");
        let always = Armed::parse("put:/log/:1+").unwrap();
        assert!(always.is_due("put", "jobs/j/log/1.json") && always.is_due("put", "jobs/j/log/2.json"));
        assert!(Armed::parse("sync").is_none() && Armed::parse("sync:x:often").is_none());
    }

    #[test]
    fn an_act_that_is_not_armed_is_done() {
        attempt("sync", Path::new("x")).unwrap();
    }
}
