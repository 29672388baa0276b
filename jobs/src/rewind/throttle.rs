//! How fast a replay reads: as fast as it can, so many rows a second, or so many times as fast as it happened.
//!
//! A reader that is held back says that it waits, as one does whose broker has not answered: the tick stays open until it goes on. What
//! belongs to a tick is not decided here, so no byte of the output depends on the pace.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use riverrun_dataflow::engine::{Control, Observer};
use riverrun_dataflow::source::{Chunk, Outlook, ReadLimits, Source, SourceError, SplitReader, SplitSpec, Standing};

use crate::connect::Connected;

/// What was not read in this time is not made up for: a job that cannot keep the pace does not race afterwards.
const BURST: Duration = Duration::from_millis(100);
/// How often it is looked how far the job has come.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How fast is read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Throttle {
    /// Rows a second, of all sources together.
    pub rows_per_second: Option<f64>,
    /// Event time that goes by in a second, in seconds.
    pub speed: Option<f64>,
}

impl Throttle {
    /// Reads a rate: `50k/s`, `2M/s`, `500/s`.
    pub fn rate(text: &str) -> Result<f64, String> {
        let number = text.strip_suffix("/s").unwrap_or(text);
        let (number, unit) = match number.as_bytes().last() {
            Some(b'k') => (&number[..number.len() - 1], 1e3),
            Some(b'M') => (&number[..number.len() - 1], 1e6),
            _ => (number, 1.0),
        };
        positive(number).map(|number| number * unit).ok_or_else(|| "is rows a second, such as `50k/s`".to_owned())
    }

    /// Reads a speed: `10x`, `0.5x`.
    pub fn times(text: &str) -> Result<f64, String> {
        positive(text.strip_suffix('x').unwrap_or(text))
            .ok_or_else(|| "is how many times as fast as it happened, such as `10x`".to_owned())
    }

    /// Begins to hold back what reads a job that `observer` observes.
    pub(super) fn start(self, control: &Arc<Control>, observer: Arc<Observer>) -> Brake {
        let now = control.pace().now();
        let state = State { filled: now, rows: 0.0, looked: now, anchor: None, is_ahead: false };
        let (control, state) = (control.clone(), Mutex::new(state));
        Brake(Arc::new(Held { throttle: self, control, observer, state, released: AtomicBool::new(false) }))
    }
}

/// Reads a number above zero, with at most two digits behind its point or so: no infinity, no exponent.
fn positive(text: &str) -> Option<f64> {
    let is_plain =
        text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.parse::<f64>().ok().filter(|number| is_plain && *number > 0.0 && *number <= 1e12)
}

/// Holds all readers of a job back together.
#[derive(Clone)]
pub(super) struct Brake(Arc<Held>);

struct Held {
    throttle: Throttle,
    control: Arc<Control>,
    observer: Arc<Observer>,
    state: Mutex<State>,
    released: AtomicBool,
}

struct State {
    /// When rows were last allowed, and how many may be read at once now.
    filled: Instant,
    rows: f64,
    looked: Instant,
    /// When the first row was through, and its event time.
    anchor: Option<(Instant, i64)>,
    /// More event time has gone by than should have.
    is_ahead: bool,
}

impl Brake {
    /// Has the readers of all sources held back.
    pub(super) fn hold_back(&self, connected: &mut Connected) {
        if self.0.throttle == Throttle::default() {
            return;
        }
        for open in &mut connected.sources {
            open.source = Arc::new(SlowSource { source: open.source.clone(), brake: self.clone() });
        }
    }

    /// Holds nobody back any more.
    pub(super) fn release(&self) {
        self.0.released.store(true, Ordering::Relaxed);
    }

    /// Returns how many of `rows` may be read now.
    fn allows(&self, rows: usize) -> usize {
        let Held { throttle, control, observer, state, released } = &*self.0;
        // A job that is to stop finishes its tick first: what belongs to that is read at once.
        if released.load(Ordering::Relaxed) || control.stopping() {
            return rows;
        }
        let now = control.pace().now();
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(speed) = throttle.speed
            && state.is_ahead(now, speed, observer)
        {
            return 0;
        }
        match throttle.rows_per_second {
            Some(rate) => state.fill(now, rate).min(rows),
            None => rows,
        }
    }

    fn took(&self, rows: usize) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).rows -= rows as f64;
    }
}

impl State {
    /// Returns how many rows may be read at this rate.
    fn fill(&mut self, now: Instant, rate: f64) -> usize {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        let most = (rate * BURST.as_secs_f64()).max(1.0);
        self.rows = (self.rows + since * rate).min(most);
        self.filled = now;
        self.rows.max(0.0) as usize
    }

    /// Returns whether more event time has gone by since the first row than `speed` allows.
    fn is_ahead(&mut self, now: Instant, speed: f64, observer: &Observer) -> bool {
        if now.saturating_duration_since(self.looked) < LOOK_EVERY {
            return self.is_ahead;
        }
        self.looked = now;
        let Some(reached) = observer.reached() else { return false };
        let (begun, first) = *self.anchor.get_or_insert((now, reached));
        let should = now.saturating_duration_since(begun).as_secs_f64() * speed * 1e6;
        self.is_ahead = (reached.saturating_sub(first)) as f64 > should;
        self.is_ahead
    }
}

/// A source that is held back.
struct SlowSource {
    source: Arc<dyn Source>,
    brake: Brake,
}

impl Source for SlowSource {
    fn splits(&self, is_bounded: bool) -> Result<Vec<SplitSpec>, SourceError> {
        self.source.splits(is_bounded)
    }

    fn ends(&self) -> Result<BTreeMap<String, u64>, SourceError> {
        self.source.ends()
    }

    fn discover_every(&self) -> Option<Duration> {
        self.source.discover_every()
    }

    fn grown(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, SourceError> {
        self.source.grown(known)
    }

    fn outlook(&self, read: &BTreeMap<String, u64>) -> BTreeMap<String, Outlook> {
        self.source.outlook(read)
    }

    fn hear(&self, standing: &Standing) {
        self.source.hear(standing);
    }

    fn open(&self, split: &SplitSpec, position: u64) -> Result<Box<dyn SplitReader>, SourceError> {
        let reader = self.source.open(split, position)?;
        Ok(Box::new(SlowReader { reader, brake: self.brake.clone(), is_held: false }))
    }
}

struct SlowReader {
    reader: Box<dyn SplitReader>,
    brake: Brake,
    is_held: bool,
}

impl SplitReader for SlowReader {
    fn read(&mut self, limits: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        let rows = self.brake.allows(limits.rows);
        self.is_held = rows == 0;
        if self.is_held {
            return Ok(None);
        }
        let chunk = self.reader.read(&ReadLimits { rows, ..*limits })?;
        if let Some(chunk) = &chunk {
            self.brake.took(chunk.rows());
        }
        Ok(chunk)
    }

    fn waits(&self) -> bool {
        self.is_held || self.reader.waits()
    }

    fn is_paced(&self) -> bool {
        self.is_held
    }

    fn ended(&self) -> bool {
        self.reader.ended()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_speeds_are_plain_numbers() {
        assert_eq!(Throttle::rate("50k/s"), Ok(50_000.0));
        assert_eq!(Throttle::rate("2.5M/s"), Ok(2_500_000.0));
        assert_eq!(Throttle::rate("7"), Ok(7.0));
        assert_eq!(Throttle::times("10x"), Ok(10.0));
        assert_eq!(Throttle::times("0.5"), Ok(0.5));
        for wrong in ["", "k", "/s", "0", "-1", "inf", "1e3", "x", "10 x", "nan", "1.2.3"] {
            assert!(Throttle::rate(wrong).is_err() && Throttle::times(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn what_was_not_read_in_time_is_not_made_up_for() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut state = State { filled: begin, rows: 0.0, looked: begin, anchor: None, is_ahead: false };
        assert_eq!(state.fill(at(0), 1000.0), 0);
        assert_eq!(state.fill(at(30), 1000.0), 30);
        state.rows -= 30.0;
        assert_eq!(state.fill(at(40), 1000.0), 10);
        assert_eq!(state.fill(at(10_000), 1000.0), 100, "a tenth of a second at most");
        let mut slow = State { filled: begin, rows: 0.0, looked: begin, anchor: None, is_ahead: false };
        assert_eq!((slow.fill(at(500), 1.0), slow.fill(at(1000), 1.0)), (0, 1), "however slow, a row in the end");
    }
}
