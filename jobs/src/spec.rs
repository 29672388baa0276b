//! The job as written: the file and its overrides, read key by key, with the places where everything stands.
//!
//! What a name refers to, which types an expression has, whether steps fit together: all that is [`crate::plan`]'s.

pub(crate) mod attribution;
pub(crate) mod behaviour;
pub mod fields;
mod formats;
pub(crate) mod funnel;
pub(crate) mod lake;
mod overrides;
mod parts;
pub mod reader;
pub(crate) mod reusable;
mod scalars;
pub mod values;

use std::ops::RangeInclusive;
use std::time::Duration;

use riverrun_connectors::format::{Column, EncodeSpec, FormatSpec, OpAs};
use riverrun_connectors::kafka::{Delivery, Manners};
use riverrun_connectors::start::Start;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::{OnBadRow, TickSettings};
use riverrun_dataflow::partitioner::Partitioner;
use riverrun_operators::attribute::AttributeBounds;

use crate::fault::{Fault, Report, Text, codes};
use crate::yaml::{self, Span, Spanned};

/// A job as written. What is at fault in it is left out; [`JobSpec::broken`] names such parts.
#[derive(Clone, Debug)]
pub(crate) struct JobSpec {
    pub name: Spanned<String>,
    pub description: Option<String>,
    pub sources: Vec<SourceSpec>,
    pub steps: Vec<StepSpec>,
    pub sinks: Vec<SinkSpec>,
    /// Sources and steps that could not be read: what refers to them is not at fault.
    pub broken: Vec<String>,
    pub settings: Settings,
}

/// The job-wide knobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where ticks are cut.
    pub ticks: TickSettings,
    /// Shards, fixed when the job is created.
    pub shards: u16,
    /// The least time between two checkpoints.
    pub checkpoint_every: Duration,
    /// The time between two commits of a sink.
    pub commit_every: Duration,
    /// How much of the recorded past is kept.
    pub journal_keep: Keep,
}

/// How much of the recorded past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// What recovery needs.
    Needed,
    /// Everything.
    All,
}

#[derive(Clone, Debug)]
pub(crate) struct SourceSpec {
    pub name: Spanned<String>,
    /// `None`: at fault.
    pub place: Option<SourcePlace>,
    pub format: FormatSpec,
    pub columns: Vec<Spanned<Column>>,
    pub event_time: Option<Spanned<String>>,
    /// How it is found where a record has none.
    pub clocks: Option<Spanned<ClocksSpec>>,
    pub id: Option<Spanned<String>>,
    pub max_disorder: Duration,
    pub max_future: Duration,
    pub idle_after: Duration,
    pub event_times: RangeInclusive<EventTime>,
    pub on_bad_row: OnBadRow,
    /// Records that say that their key is gone are left out.
    pub drop_tombstones: bool,
    /// The number of a registered schema may stand before a record of JSON.
    pub framed: bool,
}

/// The clocks by which event time is found, as columns.
#[derive(Clone, Debug)]
pub(crate) struct ClocksSpec {
    pub client: Spanned<String>,
    /// `None`: there is no such column.
    pub sent: Option<Spanned<String>>,
    pub received: Spanned<String>,
    /// `None`: there is no such column.
    pub flag: Option<Spanned<String>>,
    pub max_ahead: Duration,
    pub max_past: Duration,
}

#[derive(Clone, Debug)]
pub(crate) enum SourcePlace {
    Topic { name: Spanned<String>, start: Start, manners: Manners },
    File(Spanned<String>),
}

#[derive(Clone, Debug)]
pub(crate) struct StepSpec {
    pub name: Spanned<String>,
    /// Its former name.
    pub was: Option<String>,
    pub operator: OperatorSpec,
}

#[derive(Clone, Debug)]
pub(crate) enum OperatorSpec {
    Select(SelectSpec),
    Union(Vec<Spanned<String>>),
    Window(WindowSpec),
    Attribute(AttributeSpec),
    Deduplicate(DeduplicateSpec),
    Join(JoinSpec),
    Sessionize(Box<SessionizeSpec>),
    Frustration(behaviour::FrustrationSpec),
    Incidents(behaviour::IncidentsSpec),
    Problems(behaviour::ProblemsSpec),
    ScrollBaseline(behaviour::ScrollBaselineSpec),
    Funnel(Box<funnel::FunnelSpec>),
}

#[derive(Clone, Debug)]
pub(crate) struct SelectSpec {
    pub from: Spanned<String>,
    pub condition: Option<Spanned<String>>,
    pub columns: Option<Vec<Spanned<String>>>,
}

#[derive(Clone, Debug)]
pub(crate) struct WindowSpec {
    pub from: Spanned<String>,
    /// Length of a window, and time between two beginnings.
    pub size: Spanned<Duration>,
    pub every: Spanned<Duration>,
    pub by: Vec<Spanned<String>>,
    pub aggregates: Vec<(Spanned<String>, Spanned<String>)>,
    pub lateness: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct AttributeSpec {
    pub conversions: Spanned<String>,
    pub touches: Spanned<String>,
    pub by: Vec<Spanned<String>>,
    pub window: Duration,
    pub model: String,
    pub dedupe_for: Duration,
    /// Where `dedupe_for` was written, if it was.
    pub dedupe_written: Option<Span>,
    /// How much one worker may keep, if no ledger does.
    pub bounds: AttributeBounds,
    /// It keeps a ledger.
    pub ledger: Option<Box<attribution::LedgerSpec>>,
}

#[derive(Clone, Debug)]
pub(crate) struct DeduplicateSpec {
    pub from: Spanned<String>,
    /// Empty: the id that the source names.
    pub by: Vec<Spanned<String>>,
    pub within: Duration,
    pub compare: Vec<Spanned<String>>,
    pub lateness: Duration,
    pub max_keys: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct JoinSpec {
    pub left: Spanned<String>,
    pub right: Spanned<String>,
    /// The columns of the key, of the left and of the right stream.
    pub on: Vec<(Spanned<String>, Spanned<String>)>,
    pub before: Duration,
    pub after: Duration,
    pub is_left: bool,
    pub prefix: Spanned<String>,
    pub max_per_key: usize,
    pub max_rows: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct SessionizeSpec {
    pub from: Spanned<String>,
    pub by: Vec<Spanned<String>>,
    pub tenant: Option<Spanned<String>>,
    pub gap: Duration,
    pub max_duration: Duration,
    /// Rows are behaviour events; where that was written.
    pub behaviour: Option<Span>,
    pub extend_when: Option<Spanned<String>>,
    pub leave_when: Option<Spanned<String>>,
    pub user_switch: Option<Spanned<String>>,
    pub campaign: Option<Spanned<String>>,
    pub referrer: Option<Spanned<String>>,
    pub midnight: Option<Spanned<String>>,
    pub lateness: Duration,
    /// Sessions are given at once and corrected.
    pub live: bool,
    pub aggregates: Vec<(Spanned<String>, Spanned<String>)>,
}

impl SessionizeSpec {
    /// The word for no column at all.
    const OFF: &str = "off";
    /// The account of behaviour events.
    const ACCOUNT: &str = "user_id";

    /// Returns the column of the account whose change ends a session, on an input that `has` columns: that of behaviour events
    /// unless another one is named, or none.
    pub fn user_switch(&self, has: impl Fn(&str) -> bool) -> Option<Spanned<String>> {
        match &self.user_switch {
            Some(written) => Some(written.clone()).filter(|written| written.value != Self::OFF),
            None => {
                let is_key = self.by.iter().any(|key| key.value == Self::ACCOUNT);
                let span = self.behaviour.filter(|_| has(Self::ACCOUNT) && !is_key)?;
                Some(Spanned { value: Self::ACCOUNT.to_owned(), span })
            }
        }
    }

    /// Returns the columns whose change ends a session, with the words for it, on an input that `has` columns.
    pub fn splits(&self, has: impl Fn(&str) -> bool) -> [(&'static str, Option<Spanned<String>>); 3] {
        [
            ("user_switch", self.user_switch(has)),
            ("campaign", self.campaign.clone()),
            ("referrer", self.referrer.clone()),
        ]
    }
}

#[derive(Clone, Debug)]
pub(crate) struct SinkSpec {
    pub name: Spanned<String>,
    pub from: Spanned<String>,
    /// `None`: at fault.
    pub place: Option<SinkPlace>,
    pub format: EncodeSpec,
    pub key: Option<Vec<Spanned<String>>>,
    /// How the key chooses a partition.
    pub partitioner: Partitioner,
    /// Headers by name, with their columns.
    pub headers: Vec<(Spanned<String>, Spanned<String>)>,
    /// How `op` is written; where that was said, if it was.
    pub op: Spanned<OpAs>,
}

#[derive(Clone, Debug)]
pub(crate) enum SinkPlace {
    Topic {
        name: Spanned<String>,
        partitions: Option<u32>,
        delivery: Delivery,
        /// Where rows go that are too large for the topic.
        dead_letters: Option<Spanned<String>>,
    },
    File(Spanned<String>),
    Lake(lake::LakeSpec),
    Console,
}

/// Bytes that a job file may have. Its parser takes a hundred times as much while it is at what stands on one line within braces.
const BYTES_MAX: usize = 1 << 20;

/// Reads a job: the text of its file under `name`, and overrides as given to `--set`.
pub(crate) fn read(name: &str, text: &str, overrides: &[String]) -> (Option<JobSpec>, Report) {
    let mut texts = vec![Text { name: name.to_owned(), text: text.to_owned() }];
    texts.extend(overrides.iter().map(|written| overrides::text_of(written)));
    let mut report = Report::new(texts);
    if text.len() > BYTES_MAX {
        let message = format!("the job file has {} bytes, and may have {BYTES_MAX}", text.len());
        report.push(Fault::elsewhere(codes::TOO_MANY, message));
        return (None, report);
    }
    let mut root = match yaml::parse(text, 0) {
        Ok(root) => root,
        Err(error) => {
            let fault = Fault::error(codes::SYNTAX, error.span, format!("the job file is not read: {}", error.message));
            report.push(match error.hint {
                Some(hint) => fault.hint(hint),
                None => fault,
            });
            return (None, report);
        }
    };
    for (index, written) in overrides.iter().enumerate() {
        if let Err(fault) = overrides::apply(&mut root, written, index + 1) {
            report.push(fault);
        }
    }
    let mut reader = reader::Reader::default();
    let form = reader.form(&fields::JOB, &root, "the job", root.span.head());
    let spec = parts::job(&form, &mut reader.faults);
    report.extend(reader.faults);
    (spec, report)
}

/// Reads a job as a tree, overrides applied, whatever faults it has; `None` if it is no YAML.
pub(crate) fn tree(text: &str, overrides: &[String]) -> Option<yaml::Node> {
    let mut root = yaml::parse(text, 0).ok()?;
    for (index, written) in overrides.iter().enumerate() {
        // One that cannot be applied changes nothing, and is a fault of the job.
        let _ = overrides::apply(&mut root, written, index + 1);
    }
    Some(root)
}

#[cfg(test)]
mod tests;
