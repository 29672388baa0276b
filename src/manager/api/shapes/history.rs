//! Documents about what happened to a job.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::manager::history::{Exception, Scale, Start, StartOutcome};
use crate::manager::moment::Moment;

/// Starts of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rescales {
    /// The newest first.
    pub rescales: Vec<RescaleView>,
}

/// A start of a job: after a rescale, or for another reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RescaleView {
    /// The generation that was started.
    pub generation: u64,
    /// The revision of the job that it runs.
    pub revision: u64,
    /// Why: `rescale`, `upgrade`, `settings`, `requested`, `submit`, `resume`, `rollback`, or how the former one ended: `killed`,
    /// `oom`, `panic`, `sink`, `mesh`, `stopped`.
    pub reason: String,
    /// When the former one was to end or was seen to have ended; of the first start, when it was decided.
    pub at: Moment,
    /// Over what the job was spread before; none: it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Scale>,
    /// Over what it is spread since.
    pub to: Scale,
    /// How far the start came.
    pub outcome: StartOutcome,
    /// What it ended with, if it did not come to its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When rows came out last before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_row: Option<Moment>,
    /// When none of the former processes lived any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Moment>,
    /// When the start was decided.
    pub launched: Moment,
    /// When its first new tick was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub went_on: Option<Moment>,
    /// When rows came out first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_row: Option<Moment>,
    /// For how long no rows came out; none as long as none have come again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// For how long no rows of a job came out, and what of it was for what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// From the last row to the first one after it: all of what follows.
    pub seconds: f64,
    /// From the last row until no process lived any more: what was read is finished, the state is saved.
    pub ending_seconds: f64,
    /// Until the start was decided: the state is upgraded, or it is waited before the next attempt. Starts that failed in between
    /// are in here.
    pub waiting_seconds: f64,
    /// Until the first new tick was complete: processes start, take up the state, derive again what was recorded.
    pub starting_seconds: f64,
    /// Until rows came out.
    pub first_row_seconds: f64,
}

impl RescaleView {
    /// Returns a start as it is shown.
    pub fn of(start: &Start) -> RescaleView {
        let Start { generation, revision, reason, to, away, launched, went_on, first_row, outcome, message } =
            start.clone();
        RescaleView {
            generation,
            revision,
            reason,
            at: away.as_ref().map_or(launched, |away| away.at),
            from: away.as_ref().map(|away| away.from),
            to,
            outcome,
            message,
            last_row: away.as_ref().and_then(|away| away.last_row),
            stopped: away.as_ref().and_then(|away| away.stopped),
            launched,
            went_on,
            first_row,
            pause: Pause::of(start),
        }
    }
}

impl Pause {
    /// Returns the pause before a start, if rows came out before and after it.
    fn of(start: &Start) -> Option<Pause> {
        let away = start.away.as_ref()?;
        let (last, first) = (away.last_row?, start.first_row?);
        let stopped = away.stopped.unwrap_or(start.launched);
        // Each begins where the one before ends, so that they add up whatever clocks say.
        let mut at = last;
        let mut part = |end: Moment| {
            let end = end.clamp(at, first.max(at));
            end.since(std::mem::replace(&mut at, end))
        };
        let parts = [stopped, start.launched, start.went_on.unwrap_or(first), first].map(|end| seconds(part(end)));
        let [ending_seconds, waiting_seconds, starting_seconds, first_row_seconds] = parts;
        let seconds = seconds(first.since(last));
        Some(Pause { seconds, ending_seconds, waiting_seconds, starting_seconds, first_row_seconds })
    }
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

/// What processes of a job ended with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exceptions {
    /// Why the job ended last though nobody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<ExceptionView>,
    /// All that are kept, the one that was seen last first.
    pub exceptions: Vec<ExceptionView>,
}

/// What a process of a job ended with, once or again and again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExceptionView {
    /// It is why the generation ended; others only followed.
    pub root: bool,
    /// The process; none if it was none: the job could not be started, or did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u16>,
    /// Its exit code; none if it was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The source, step or sink that the message names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// What it said at last, of the last time.
    pub message: String,
    /// The generation, of the last time.
    pub generation: u64,
    /// How often.
    pub count: u64,
    /// When it was seen first.
    pub first_seen: Moment,
    /// When it was seen last.
    pub last_seen: Moment,
}

impl ExceptionView {
    /// Returns an exception as it is shown.
    pub fn of(exception: &Exception) -> ExceptionView {
        let Exception { process, code, message, root, generation, count, first_seen, last_seen } = exception.clone();
        let operator = operator(&message).map(str::to_owned);
        ExceptionView { root, process, code, operator, message, generation, count, first_seen, last_seen }
    }
}

/// Returns the source, step or sink that a message names first.
fn operator(message: &str) -> Option<&str> {
    let named = |kind: &str| {
        let at = message.find(kind)? + kind.len();
        let name = message[at..].split_once('`')?.0;
        let is_one = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        is_one.then_some((at, name))
    };
    ["source `", "step `", "sink `"].into_iter().filter_map(named).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::history::Away;

    fn start() -> Start {
        let (from, to) = (Scale { processes: 1, workers: 1 }, Scale { processes: 3, workers: 1 });
        let (last_row, stopped) = (Some(Moment(10_500)), Some(Moment(11_000)));
        let away = Away { reason: "rescale".to_owned(), generation: 1, from, at: Moment(10_000), last_row, stopped };
        Start {
            generation: 2,
            revision: 2,
            reason: "rescale".to_owned(),
            to,
            away: Some(away),
            launched: Moment(11_200),
            went_on: Some(Moment(12_000)),
            first_row: Some(Moment(12_050)),
            outcome: StartOutcome::Running,
            message: None,
        }
    }

    #[test]
    fn a_pause_is_from_row_to_row_and_its_parts_add_up() {
        let pause = RescaleView::of(&start()).pause.unwrap();
        assert_eq!(
            pause,
            Pause {
                seconds: 1.55,
                ending_seconds: 0.5,
                waiting_seconds: 0.2,
                starting_seconds: 0.8,
                first_row_seconds: 0.05
            }
        );
        // Rows that did not come yet, or never came, make no pause.
        assert!(RescaleView::of(&Start { first_row: None, ..start() }).pause.is_none());
        assert!(RescaleView::of(&Start { away: None, ..start() }).pause.is_none());
        // Whatever clocks say.
        for (went_on, launched) in [(None, 11_200), (Some(Moment(99_000)), 5), (Some(Moment(1)), 99_000)] {
            let odd = Start { went_on, launched: Moment(launched), ..start() };
            let Pause { seconds, ending_seconds, waiting_seconds, starting_seconds, first_row_seconds } =
                RescaleView::of(&odd).pause.unwrap();
            let sum = ending_seconds + waiting_seconds + starting_seconds + first_row_seconds;
            assert!((sum - seconds).abs() < 1e-9, "{sum} {seconds}");
        }
    }

    #[test]
    fn the_part_that_a_message_names_first_is_the_one() {
        for (message, expected) in [
            ("error: job `j`, process 1: sink `out`: source `x` is full", Some("out")),
            ("step `a.late` failed", Some("a.late")),
            ("step `", None),
            ("step `no such\nthing`", None),
            ("nothing is named", None),
        ] {
            assert_eq!(operator(message), expected, "{message}");
        }
    }
}
