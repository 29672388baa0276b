//! Scroll baseline: knows how often visitors of each page turn while they scroll, and takes excessive scrolling back where it is
//! usual.
//!
//! In:       one input of the rows that [`crate::frustration`] gives, with its rows `page_end`, routed by `tenant_id` (where the
//!           input has one) and `page_key`, with event time. A row waits until the watermark has passed it; then those of a page are
//!           taken in the order of event time. Counted as filtered: all but `page_end` and signals of `excessive_scroll`.
//! Out:      for a signal of `excessive_scroll` that is not above the page's usual, the row that replaces it: the same, with `rev` one
//!           higher and 0 points, at the same event time. In a `union` with the signals, whoever goes by them hears both at once.
//! Late:     a row with `time < W(t-1)` goes to the `late` output as it came.
//! Retract:  none.
//! Keeps:    three numbers per page, until none of its views has ended for `forget_after`; the rows that wait. More than `pages_max`
//!           pages, or `waiting_max` rows that wait, stop the job.
//! Restart:  a checkpoint has the pages that changed; the rest is the same rows.

use std::cmp::Ordering;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use riverrun_behaviour::identity::Id;
use riverrun_behaviour::signals::usual_scroll::UsualScroll;
use riverrun_behaviour::signals::{Signal, SignalKind};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::operator::{Operator, Outputs, StepError};
use riverrun_dataflow::schema::{Hidden, with_hidden};
use riverrun_dataflow::time::micros_of;
use serde::{Deserialize, Serialize};

use crate::frustration::{self, Builder, PAGE_END, Told};
use crate::incidents::{self, WANTED};
use crate::keyed::{KeyedState, Left, Slot};
use crate::named::{self, Cells};
use crate::waiting::{Waiting, Waits, only, passed, times_of};
use crate::watch::{Moment, Watch, Watching};

pub use riverrun_behaviour::signals::usual_scroll::UsualSettings;

/// The version of what the step keeps. State of another version has another meaning, whatever its columns: raise it with every
/// change to what the columns hold, and teach upgrades the way from the one before.
pub const STATE_VERSION: u32 = 1;

/// The column of the tenant, which a stream may have, and that of the page.
const KEYS: [&str; 2] = ["tenant_id", "page_key"];

/// What the job's author chooses, already checked.
#[derive(Clone, Debug)]
pub struct ScrollBaselineSettings {
    /// The key columns, as indices into the input's schema.
    pub by: Vec<usize>,
    /// What is usual.
    pub usual: UsualSettings,
    /// A page of which no view has ended for longer is forgotten.
    pub forget_after: Duration,
    /// How much may be kept.
    pub bounds: ScrollBaselineBounds,
}

/// How much one worker may keep of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrollBaselineBounds {
    /// Pages.
    pub pages_max: usize,
    /// Rows that wait for the watermark.
    pub waiting_max: usize,
}

impl Default for ScrollBaselineBounds {
    fn default() -> Self {
        ScrollBaselineBounds { pages_max: 1_000_000, waiting_max: 2_000_000 }
    }
}

/// Returns the key columns of a stream.
pub fn keys_in(schema: &Schema) -> Vec<String> {
    KEYS.into_iter().filter(|name| schema.column_with_name(name).is_some()).map(str::to_owned).collect()
}

/// Returns the columns of a stream that the step reads.
pub fn columns_used(schema: &Schema) -> Vec<&'static str> {
    named::names_in(schema, &WANTED)
}

/// Says what is wrong with a stream as input of the step, if anything is.
pub fn misfit(schema: &Schema) -> Option<String> {
    named::misfit(schema, &WANTED)
}

/// The step, checked.
#[derive(Clone, Debug)]
pub struct ScrollBaseline {
    settings: ScrollBaselineSettings,
    keys: Vec<Field>,
    schema: SchemaRef,
}

impl ScrollBaseline {
    /// Returns the step on rows of `input`, or what does not fit.
    pub fn new(settings: ScrollBaselineSettings, input: &Schema) -> Result<ScrollBaseline, String> {
        if let Some(reason) = misfit(input) {
            return Err(reason);
        }
        if input.column_with_name(Hidden::Time.name()).is_none() {
            return Err("it has no event time".into());
        }
        let keys: Vec<Field> = settings.by.iter().map(|column| input.field(*column).clone()).collect();
        let schema = with_hidden(&frustration::columns(input), &[Hidden::Time, Hidden::Hash]);
        Ok(ScrollBaseline { settings, keys, schema })
    }

    /// Returns the schema of its rows, hidden columns included.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the step on the shards of one worker; it keeps nothing yet.
    pub fn on(&self, shards: ShardRange) -> impl Operator + use<> {
        Watch::new(self.clone(), shards)
    }
}

/// What was heard of a page.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Heard {
    time_us: i64,
    what: What,
}

/// What it is. In the order in which it counts at one time: a view is not part of the usual that it is held against.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum What {
    Signal(Box<OfSession>),
    /// A view has ended, with so many reversals.
    Ended(u64),
}

/// A signal, and whose it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct OfSession {
    signal: Signal,
    session: String,
    person: Option<Id>,
    release: Option<String>,
}

impl Heard {
    /// Reads a row; none if it says nothing about how a page is scrolled.
    fn read(cells: &Cells, row: usize, time_us: i64) -> Option<Heard> {
        let text = |name: &str| cells.text(name, row);
        text("page_key")?;
        let kind = text("kind")?;
        let what = if kind == PAGE_END {
            What::Ended(u64::from(cells.count("count", row)))
        } else if kind == SignalKind::ExcessiveScroll.name() {
            let signal = incidents::signal(cells, row, SignalKind::ExcessiveScroll, cells.millis("end_time", row)?)?;
            // What is worth nothing need not be taken back.
            if signal.points == 0 {
                return None;
            }
            What::Signal(Box::new(OfSession {
                signal,
                session: text("session_id")?.to_owned(),
                person: text("person").and_then(|id| id.parse().ok()),
                release: text("release").map(str::to_owned),
            }))
        } else {
            return None;
        };
        Some(Heard { time_us, what })
    }
}

impl Waits for Heard {
    fn time_us(&self) -> i64 {
        self.time_us
    }

    fn order(&self, other: &Self) -> Ordering {
        let place = |one: &Self| match &one.what {
            What::Signal(of) => (one.time_us, 0, Some((of.signal.signal_id, of.signal.rev)), 0),
            What::Ended(reversals) => (one.time_us, 1, None, *reversals),
        };
        place(self).cmp(&place(other)).then_with(|| {
            let text = |one: &Self| serde_json::to_string(one).unwrap_or_default();
            text(self).cmp(&text(other))
        })
    }
}

/// One page. Begins without a view.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Page {
    waiting: Waiting<Heard>,
    usual: UsualScroll,
    /// When a view ended last, in microseconds.
    ended_us: i64,
}

impl Page {
    fn left(&self, settings: &ScrollBaselineSettings) -> Left {
        let size = self.waiting.len() + usize::from(self.usual.views() > 0 || self.waiting.len() > 0);
        let over_us = Some(self.over_us(settings)).filter(|_| self.usual.views() > 0);
        Left { size, due: self.waiting.first_us().into_iter().chain(over_us).min() }
    }

    /// Returns from when on it is forgotten, if no view ends before.
    fn over_us(&self, settings: &ScrollBaselineSettings) -> i64 {
        self.ended_us.saturating_add(micros_of(settings.forget_after)).saturating_add(1)
    }

    /// Takes in what lies before `limit`; says which signals tell of what is usual.
    fn advance(&mut self, limit: EventTime, settings: &ScrollBaselineSettings, say: &mut dyn FnMut(Told)) -> Left {
        loop {
            let next_us = self.waiting.first_us().filter(|next| passed(*next, limit));
            let is_over = self.usual.views() > 0
                && passed(self.over_us(settings), limit)
                && next_us.is_none_or(|next| next >= self.over_us(settings));
            if is_over {
                self.usual = UsualScroll::default();
            }
            let Some(heard) = next_us.and_then(|_| self.waiting.pop()) else { break };
            match heard.what {
                What::Ended(reversals) => {
                    self.usual.ended(reversals);
                    self.ended_us = heard.time_us;
                }
                What::Signal(of) => self.judge(heard.time_us, *of, settings, say),
            }
        }
        self.left(settings)
    }

    fn judge(&self, time_us: i64, of: OfSession, settings: &ScrollBaselineSettings, say: &mut dyn FnMut(Told)) {
        if self.usual.is_unusual(u64::from(of.signal.count), settings.usual) {
            return;
        }
        let OfSession { signal, session, person, release } = of;
        let signal = Signal { rev: signal.rev.saturating_add(1), points: 0, ..signal };
        say(Told { time_us, session, person, release, what: frustration::What::Signal(signal) });
    }
}

impl Watching for ScrollBaseline {
    type Machine = Page;
    type Said = Told;
    const TABLE: &'static str = "pages";

    fn keys(&self) -> &[Field] {
        &self.keys
    }

    fn take(&self, batch: RecordBatch, state: &mut KeyedState<Page>, out: &mut Outputs) -> Result<(), StepError> {
        let cells = Cells::of(&batch, &WANTED)?;
        let times = times_of(&batch)?;
        let heard: Vec<Option<Heard>> = (0..).zip(times).map(|(row, time)| Heard::read(&cells, row, *time)).collect();
        let taken = only(batch.clone(), |row| heard[row].is_some(), out)?;
        let slots = state.slots(&taken, &self.settings.by)?;
        for (slot, heard) in slots.into_iter().zip(heard.into_iter().flatten()) {
            state.update(slot, |page| {
                page.waiting.push(heard);
                Ok::<_, StepError>(page.left(&self.settings))
            })?;
        }
        Ok(())
    }

    fn advance(&self, page: &mut Page, moment: Moment, say: &mut dyn FnMut(Told)) -> Left {
        page.advance(moment.limit, &self.settings, say)
    }

    fn rows(&self, said: &[(Slot, Told)], mut keys: Vec<ArrayRef>, hashes: Vec<u64>) -> Result<RecordBatch, StepError> {
        let mut builder = Builder::default();
        said.iter().for_each(|(_, told)| builder.push(told));
        // The last key column is the page, which the signal has.
        keys.pop();
        builder.finish(&self.schema, keys, hashes)
    }

    fn check(&self, pages: usize, waiting: usize) -> Result<(), StepError> {
        let ScrollBaselineBounds { pages_max, waiting_max } = self.settings.bounds;
        if pages > pages_max {
            return Err(StepError::Bound(format!(
                "it keeps {pages} pages, and {pages_max} are allowed on one worker: less `forget_after` or more workers need fewer; \
                 a `page_key` is the template of a route, `/product/:id`, not an address"
            )));
        }
        if waiting > waiting_max {
            return Err(StepError::Bound(format!(
                "{waiting} rows wait for the watermark, and {waiting_max} may on one worker: look for a source that holds it back"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
