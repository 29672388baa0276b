//! `rows` in the folder of a process: when its job went on with new ticks, when rows came out first and last, how many were saved.
//! Whoever supervises the job knows by that how long it was away and whether it gets on, and the file is there after a kill, too.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use riverrun_dataflow::engine::Observer;

use super::FOLDER;
use crate::exit::{Exit, Failure, OrExit};

/// The name of the file.
const ROWS: &str = "rows";
/// How often it is looked whether the job goes on, which is dated by when it is seen; so often, and then no more than after that.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A minute.
const LOOKS_MAX: usize = 6000;
/// How often it is looked from then on. What came out or was saved in this time before a kill is not known of.
const LOOK_SELDOM: Duration = Duration::from_millis(100);

/// How far a process came with rows; moments are microseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// When a tick was complete that no process before had journalled.
    pub went_on: Option<u64>,
    /// When rows were committed first.
    pub first: Option<u64>,
    /// When rows were committed last.
    pub last: Option<u64>,
    /// How many rows that went into sources and steps its newest checkpoint has saved, those of former processes included.
    pub saved: Option<u64>,
}

impl Rows {
    /// Reads what the process in `folder` tells; nothing if it told nothing yet.
    pub fn read(folder: &Path) -> Rows {
        let text = std::fs::read_to_string(folder.join(ROWS)).unwrap_or_default();
        let mut numbers = text.split_whitespace().map(|number| number.parse().ok().filter(|number| *number > 0));
        let mut next = || numbers.next().flatten();
        Rows { went_on: next(), first: next(), last: next(), saved: next() }
    }

    /// Takes in what is known now; what was first stays.
    fn see(self, observer: &Observer) -> Rows {
        let out = observer.rows_out();
        let now = || observer.goes_on().then(wall_micros);
        Rows {
            went_on: self.went_on.or_else(now),
            first: self.first.or(out.map(|(first, _)| first)),
            last: out.map(|(_, last)| last).or(self.last),
            saved: observer.rows_saved().or(self.saved),
        }
    }

    /// Always as long as before, so that it is written over as one piece.
    fn text(self) -> String {
        let numbers = [self.went_on, self.first, self.last, self.saved].map(Option::unwrap_or_default);
        let [went_on, first, last, saved] = numbers;
        format!("{went_on:020} {first:020} {last:020} {saved:020}\n")
    }
}

/// Tells as long as it lives.
pub struct Telling {
    end: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Telling {
    /// Begins to tell of the job that `observer` sees, if somebody supervises this process.
    pub fn start(observer: Arc<Observer>) -> Result<Option<Telling>, Failure> {
        let Some(folder) = FOLDER.get() else { return Ok(None) };
        let attempt = || format!("cannot tell in {} when rows come out", folder.display());
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(ROWS));
        let file = open.or_exit(Exit::Storage, attempt)?;
        let known = Rows::read(folder);
        let (end, ended) = channel();
        let tell = move || {
            let mut known = known;
            for look in 0.. {
                let waits = known.went_on.is_none() && look < LOOKS_MAX;
                let every = if waits { LOOK_EVERY } else { LOOK_SELDOM };
                let goes_on = ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout);
                known = told(known, &observer, &file);
                if !goes_on {
                    break;
                }
            }
        };
        let thread =
            std::thread::Builder::new().name("rows".to_owned()).spawn(tell).or_exit(Exit::Internal, attempt)?;
        Ok(Some(Telling { end, thread: Some(thread) }))
    }
}

fn told(known: Rows, observer: &Observer, file: &File) -> Rows {
    let now = known.see(observer);
    // A supervisor that is told nothing knows less of how long the job was away, and nothing else.
    if now != known && file.write_all_at(now.text().as_bytes(), 0).is_err() {
        return known;
    }
    now
}

#[expect(clippy::disallowed_methods, reason = "for people; reaches no output")]
fn wall_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Drop for Telling {
    fn drop(&mut self) {
        // The thread may be gone only because it panicked, which has ended the process.
        self.end.send(()).ok();
        self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_not_there_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Rows::read(folder.path()), Rows::default());
        let rows = Rows { went_on: Some(5), first: None, last: Some(u64::MAX), saved: Some(7) };
        std::fs::write(folder.path().join(ROWS), rows.text()).unwrap();
        assert_eq!(Rows::read(folder.path()), rows);
        assert_eq!(rows.text().len(), Rows::default().text().len());
        for damaged in ["", "x", "1 y", "-1 2 3", "99999999999999999999999 1 1"] {
            std::fs::write(folder.path().join(ROWS), damaged).unwrap();
            assert_eq!(Rows::read(folder.path()).last.filter(|last| *last > 3), None, "{damaged}");
        }
    }
}
