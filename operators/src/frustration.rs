//! Frustration: finds in the events of each session the signs of a person who does not get on.
//!
//! In:       one input of behaviour events ([`crate::events`]), routed by `tenant_id` (where the input has one) and `session_id`,
//!           or else `anonymous_id`, with event time. Rows name their session; or sessions are those of a device, told apart by
//!           silence, length and account, with the ids that sessions of the same keys have elsewhere. An event waits until the
//!           watermark less the lateness has passed it; then those of a key are looked at in the total order (event time, rank of
//!           the type, id, split, position). Left out, and counted as filtered: rows without a key, of an unknown type, and
//!           those that bear the sign of a bot. A passive event of a device outside of any session says nothing, unless it is
//!           an order.
//! Out:      the rows of signals, see [`columns`]. A row replaces the one of the same `signal_id` with a lower `rev`. Its event
//!           time is that at which the rule had decided, never before the signal's end; so it is never behind the watermark.
//!           Of a session with signals, more rows tell what became of it: `goal` when its person got where they wanted, `bot`
//!           when no person can have done what was done (then nothing more is told of it), and `session_end` when nothing was
//!           done for `gap`; and, where they are asked for, `page_end` when any page was left. They have no `signal_id`.
//! Twice:    an event that waits is the same as another of its id, type and time: one of them counts, the other is a duplicate.
//! Late:     a row with `time < W(t-1) - lateness` goes to the `late` output as it came.
//! Retract:  none; what came right in the end is told again, with 0 points.
//! Keeps:    one visit per session, with at most 32 tabs, from its first event until `gap` after its last and, if there were
//!           signals, for as long as an order can make them good; the events that wait. More than `sessions_max` sessions or
//!           `waiting_max` events stop the job. A session has at most 200 signals, and 50 of a kind; one `capped` marks the place.
//! Restart:  a checkpoint has the sessions that changed, whole; the rest is the same rows.

mod rows;
mod sitting;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use riverrun_behaviour::event::kind::Kind;
use riverrun_behaviour::session::fold::Rules;
use riverrun_behaviour::signals::settings::Enabled;
use riverrun_behaviour::signals::{Preset, Settings, SignalKind};
use riverrun_behaviour::target::StepWords;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::operator::{Operator, Outputs, StepError};
use riverrun_dataflow::schema::{Hidden, with_hidden};
use riverrun_dataflow::time::micros_of;

use self::sitting::{Arrived, Sitting};
use crate::events::{EventReader, columns_in};
use crate::keyed::{KeyedState, Left, Slot};
use crate::waiting::only;
use crate::watch::{Moment, Watch, Watching};

pub use riverrun_behaviour::signals::settings;
pub use rows::{BOT, GOAL, PAGE_END, SESSION_END, columns};
pub(crate) use rows::{Builder, texts};
pub(crate) use sitting::{Told, What};

/// The names of the signals.
pub const SIGNALS: &[&str] = match SignalKind::NAMES.split_last() {
    // The last one marks that there were too many.
    Some((_, signals)) => signals,
    None => &[],
};
/// The types of events.
pub const EVENTS: &[&str] = Kind::NAMES;

/// The version of what the step keeps. State of another version has another meaning, whatever its columns: raise it with every
/// change to what the columns hold, and teach upgrades the way from the one before.
pub const STATE_VERSION: u32 = 1;

/// The column of the tenant, which a stream may have.
const TENANT: &str = "tenant_id";
/// The column of the session.
const SESSION: &str = "session_id";
/// The column of the device.
const DEVICE: &str = "anonymous_id";

/// Columns of behaviour events that say nothing to the rules.
const NOT_USED: [&str; 20] = [
    "source",
    "event_time",
    "clock_future",
    "sent_at",
    "received_at",
    "seq",
    "api_key_id",
    "campaign_source",
    "campaign_medium",
    "campaign_name",
    "campaign_term",
    "campaign_content",
    "click_id_kind",
    "click_id",
    "referrer",
    "device_type",
    "bot_reason",
    "order_id",
    "amount_minor",
    "currency",
];

/// Where sessions come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// Rows name theirs in `session_id`.
    Named,
    /// They are those of a device, `anonymous_id`, by these rules.
    Device(Rules),
}

impl Sessions {
    /// Returns the sessions of a device that are told apart by so much silence, by so much length, and by the account.
    pub fn of_device(gap: Duration, max_duration: Duration) -> Sessions {
        let (idle_timeout_ms, max_duration_ms) = (millis(gap), millis(max_duration));
        Sessions::Device(Rules { idle_timeout_ms, max_duration_ms, ..Rules::default() })
    }

    /// Returns the column by which sessions are told apart.
    fn column(&self) -> &'static str {
        match self {
            Sessions::Named => SESSION,
            Sessions::Device(_) => DEVICE,
        }
    }
}

/// What the job's author chooses, already checked.
#[derive(Clone, Debug)]
pub struct FrustrationSettings {
    /// Where sessions come from.
    pub sessions: Sessions,
    /// The key columns, as indices into the input's schema.
    pub by: Vec<usize>,
    /// The numbers behind the rules.
    pub rules: Settings,
    /// A session in which nothing was done for longer than this has ended.
    pub gap: Duration,
    /// How long after the watermark an event is still taken.
    pub lateness: Duration,
    /// What a person comes for.
    pub goals: Vec<Kind>,
    /// How much may be kept.
    pub bounds: FrustrationBounds,
}

/// Returns the settings of a preset, for these signals; all of them if none are named.
pub fn preset(name: &str, signals: Option<&[String]>) -> Option<Settings> {
    let mut settings = Preset::parse(name)?.settings();
    if let Some(signals) = signals {
        let chosen = |kind: &&SignalKind| signals.iter().any(|name| name == kind.name());
        let kinds: Vec<SignalKind> = SignalKind::ALL.iter().filter(chosen).copied().collect();
        settings.enabled = Enabled::only(&kinds);
    }
    Some(settings)
}

/// Returns the kinds of events of these types.
pub fn kinds(types: &[String]) -> Vec<Kind> {
    types.iter().filter_map(|name| Kind::parse(name)).collect()
}

/// How much one worker may keep of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrustrationBounds {
    /// Sessions.
    pub sessions_max: usize,
    /// Events that wait for the watermark.
    pub waiting_max: usize,
}

impl Default for FrustrationBounds {
    fn default() -> Self {
        FrustrationBounds { sessions_max: 2_000_000, waiting_max: 5_000_000 }
    }
}

/// Returns the key columns of events that a stream has.
pub fn keys_in(schema: &Schema, sessions: &Sessions) -> Vec<String> {
    let names = [TENANT, sessions.column()];
    names.into_iter().filter(|name| schema.column_with_name(name).is_some()).map(str::to_owned).collect()
}

/// Returns the key columns of signals that a stream has.
pub fn signal_keys_in(schema: &Schema) -> Vec<String> {
    keys_in(schema, &Sessions::Named)
}

/// Returns the columns of a stream that the step reads.
pub fn columns_used(schema: &Schema) -> Vec<&'static str> {
    columns_in(schema).into_iter().filter(|name| !NOT_USED.contains(name)).collect()
}

/// Says what is wrong with a stream as input of the step, if anything is.
pub fn misfit(schema: &Schema, sessions: &Sessions) -> Option<String> {
    if let Err(reason) = EventReader::of(schema) {
        return Some(reason);
    }
    let missing = ["event_id", sessions.column()].into_iter().find(|name| schema.column_with_name(name).is_none());
    missing.map(|name| format!("it has no `{name}`"))
}

/// The step, checked.
#[derive(Clone, Debug)]
pub struct Frustration {
    settings: FrustrationSettings,
    keys: Vec<Field>,
    reader: EventReader,
    words: StepWords,
    schema: SchemaRef,
}

impl Frustration {
    /// Returns the step on rows of `input`, or what does not fit.
    pub fn new(settings: FrustrationSettings, input: &Schema) -> Result<Frustration, String> {
        if let Some(reason) = misfit(input, &settings.sessions) {
            return Err(reason);
        }
        if input.column_with_name(Hidden::Time.name()).is_none() {
            return Err("it has no event time".into());
        }
        let keys: Vec<Field> = settings.by.iter().map(|column| input.field(*column).clone()).collect();
        if keys.iter().any(|key| key.data_type() != &DataType::Utf8) {
            return Err("tenant and session are texts".into());
        }
        let reader = EventReader::of(input)?;
        let words = &settings.rules.rage.words;
        let words = StepWords { contained: words.contained.clone(), whole: words.whole.clone() };
        let schema = with_hidden(&columns(input), &[Hidden::Time, Hidden::Hash]);
        Ok(Frustration { settings, keys, reader, words, schema })
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

impl Watching for Frustration {
    type Machine = Sitting;
    type Said = Told;
    const TABLE: &'static str = "sessions";

    fn keys(&self) -> &[Field] {
        &self.keys
    }

    fn lateness(&self) -> Duration {
        self.settings.lateness
    }

    fn take(&self, batch: RecordBatch, state: &mut KeyedState<Sitting>, out: &mut Outputs) -> Result<(), StepError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let rows = self.reader.rows(&batch)?;
        let settings = &self.settings;
        let key_of = |row: usize| match settings.sessions {
            Sessions::Named => rows.session(row),
            Sessions::Device(_) => rows.anonymous(row),
        };
        let is_taken = |row: usize| key_of(row).is_some() && rows.kinds[row].is_some() && rows.bot(row).is_none();
        let places: Vec<usize> = (0..batch.num_rows()).filter(|row| is_taken(*row)).collect();
        let taken = only(batch.clone(), is_taken, out)?;
        let slots = state.slots(&taken, &settings.by)?;
        let mut duplicates = 0;
        for (row, slot) in places.into_iter().zip(slots) {
            let Some(arrived) = Arrived::read(&rows, row, &self.words, settings) else { continue };
            let (tenant, key) = (rows.tenant(row), key_of(row).unwrap_or_default());
            let due = state.due(slot);
            let take =
                |sitting: &mut Sitting| sitting.take((tenant, key), arrived, rows.person(row), due, &mut duplicates);
            state.update(slot, |sitting| Ok::<_, StepError>(take(sitting)))?;
        }
        out.counts.taken -= duplicates;
        out.counts.duplicate += duplicates;
        Ok(())
    }

    fn advance(&self, sitting: &mut Sitting, moment: Moment, say: &mut dyn FnMut(Told)) -> Left {
        sitting.advance(moment.limit, &self.settings, say)
    }

    fn rows(&self, told: &[(Slot, Told)], mut keys: Vec<ArrayRef>, hashes: Vec<u64>) -> Result<RecordBatch, StepError> {
        let mut builder = Builder::default();
        told.iter().for_each(|(_, said)| builder.push(said));
        // The last key column is the session, or the device of several.
        keys.pop();
        builder.finish(&self.schema, keys, hashes)
    }

    fn check(&self, sessions: usize, waiting: usize) -> Result<(), StepError> {
        let FrustrationBounds { sessions_max, waiting_max } = self.settings.bounds;
        if sessions > sessions_max {
            return Err(StepError::Bound(format!(
                "it keeps {sessions} sessions, and {sessions_max} are allowed on one worker: a shorter `gap` or more workers \
                 need fewer"
            )));
        }
        if waiting > waiting_max {
            return Err(StepError::Bound(format!(
                "{waiting} events wait for the watermark, and {waiting_max} may on one worker: look for a source that holds it \
                 back, or take less `lateness`"
            )));
        }
        Ok(())
    }
}

/// Returns a duration in whole milliseconds.
fn millis(span: Duration) -> i64 {
    micros_of(span).div_euclid(1000)
}
