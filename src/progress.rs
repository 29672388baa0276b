//! Progress of a run on stderr: one line that is drawn again on a terminal, a line now and then elsewhere.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use riverrun_dataflow::engine::{Observer, Snapshot};

use crate::exit::{Exit, Failure, OrExit};
use crate::output::{grouped, stderr_is_lively};

/// How often the line is drawn on a terminal, and written elsewhere.
const DRAWN_EVERY: Duration = Duration::from_millis(250);
const WRITTEN_EVERY: Duration = Duration::from_secs(10);

/// Shows how a run is doing until it is told to end.
pub struct Progress {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

impl Progress {
    /// Starts showing.
    pub fn start(job: &str, observer: Arc<Observer>) -> Result<Progress, Failure> {
        let (end, ended) = mpsc::channel();
        let lively = stderr_is_lively();
        let every = if lively { DRAWN_EVERY } else { WRITTEN_EVERY };
        let job = job.to_owned();
        let show = move || {
            let mut before = Seen::now(observer.snapshot());
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let seen = Seen::now(observer.snapshot());
                draw(&line(&job, &before, &seen), lively);
                before = seen;
            }
            if lively {
                erase();
            }
        };
        let thread = thread::Builder::new()
            .name("progress".to_owned())
            .spawn(show)
            .or_exit(Exit::Internal, || "cannot start the thread that shows progress".to_owned())?;
        Ok(Progress { end, thread })
    }

    /// Ends, and takes the line away.
    pub fn end(self) {
        // The thread may be gone only because it panicked, which has ended the process.
        let _ = self.end.send(());
        let _ = self.thread.join();
    }
}

/// A snapshot and when it was taken.
struct Seen {
    at: Instant,
    snapshot: Snapshot,
}

impl Seen {
    #[expect(clippy::disallowed_methods, reason = "a rate for a person; reaches no output")]
    fn now(snapshot: Snapshot) -> Seen {
        Seen { at: Instant::now(), snapshot }
    }
}

fn line(job: &str, before: &Seen, seen: &Seen) -> String {
    let Snapshot { decoded, tick, repeated_to, now, watermark, share, .. } = &seen.snapshot;
    let seconds = (seen.at - before.at).as_secs_f64().max(0.001);
    let rate = (decoded.saturating_sub(before.snapshot.decoded)) as f64 / seconds;
    let mut line = format!("{job}: {} rows/s", grouped(rate as u64));
    if let Some(share) = share {
        line.push_str(&format!(", {:.0} % read", share * 100.0));
    }
    if *watermark > i64::MIN && *watermark < i64::MAX {
        line.push_str(&format!(", watermark {}", clock(*watermark)));
        // On bounded input the recorded clock is event time itself: there is no lag to speak of.
        if share.is_none() {
            line.push_str(&format!(", {:.1} s behind", now.saturating_sub(*watermark).max(0) as f64 / 1e6));
        }
    }
    if tick < repeated_to {
        line.push_str(&format!(", catching up: tick {tick} of {repeated_to}"));
    }
    line
}

/// Returns a time of day with its date, UTC.
pub fn clock(micros: i64) -> String {
    let seconds = micros.div_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Returns year, month and day of a number of days since 1970-01-01, by the calendar that repeats every 400 years.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn draw(line: &str, lively: bool) {
    let text = if lively { format!("\r\x1b[2K{line}") } else { format!("{line}\n") };
    // Nothing can be done about a stderr that is gone.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn erase() {
    let _ = io::stderr().write_all(b"\r\x1b[2K");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(clock(0), "1970-01-01T00:00:00Z");
        assert_eq!(clock(1_767_225_600_000_000), "2026-01-01T00:00:00Z");
        assert_eq!(clock(1_709_210_096_000_000), "2024-02-29T12:34:56Z");
        assert_eq!(clock(-1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn bounded_input_has_a_share_and_no_lag() {
        let at = |decoded, share| Snapshot { decoded, share, watermark: 0, now: 5_000_000, ..Snapshot::default() };
        let seen = |snapshot| Seen::now(snapshot);
        let text = line("j", &seen(at(0, Some(0.0))), &seen(at(1000, Some(0.5))));
        assert!(text.contains("50 % read") && !text.contains("behind"), "{text}");
        let text = line("j", &seen(at(0, None)), &seen(at(1000, None)));
        assert!(text.contains("5.0 s behind"), "{text}");
    }
}
