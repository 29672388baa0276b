//! Positions: a drained job goes on as it is, from other positions of its topics.
//!
//! Like any upgrade it is one record of the log: state, tick, clock, watermarks and lanes go on, and where each split goes on stands in the
//! record. So what follows is a function of state, log and input as ever, and a restart repeats it. What was read before is not taken
//! back: a split that goes on further on skips records, which no balance counts; one that goes back reads records again that the state has
//! seen already.

use std::collections::BTreeMap;

use riverrun_dataflow::tick::SplitMark;
use serde::Serialize;

use super::*;
use crate::connect::OpenSource;

/// Where a split is to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Its source.
    pub source: String,
    /// Its name.
    pub split: String,
    /// The position.
    pub position: u64,
}

/// A split that goes on elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Its source.
    pub source: String,
    /// Its name.
    pub split: String,
    /// Where it would have gone on.
    pub from: u64,
    /// Where it goes on.
    pub to: u64,
}

/// Whether records may be read again that the state has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// They may: whoever asks says so.
    Allowed,
    /// They may not.
    Refused,
}

impl Position {
    /// Reads `SOURCE:SPLIT=POSITION`.
    pub fn parse(text: &str) -> Result<Position, String> {
        let parts = text.split_once('=').and_then(|(split, position)| Some((split.rsplit_once(':')?, position)));
        let wrong =
            || format!("`{text}` is no position: one is written SOURCE:SPLIT=POSITION, for example `clicks:0=17`");
        let ((source, split), position) = parts.ok_or_else(wrong)?;
        let position = position.parse().map_err(|_| wrong())?;
        Ok(Position { source: source.to_owned(), split: split.to_owned(), position })
    }
}

/// Has a drained job go on from other positions, or tells what that would do.
pub fn reposition(
    plan: &Plan,
    environment: &Environment,
    options: &UpgradeOptions,
    (wanted, repeats): (&[Position], Repeats),
) -> Result<Vec<Moved>, RunError> {
    let refused = |reason: String| RunError::Upgrade(format!("the offsets of job `{}` stay: {reason}", plan.name()));
    let standing = match options.state.open_existing()? {
        Some(store) => Standing::look(Arc::new(store), plan.name())?,
        None => None,
    };
    let Some(standing) = standing else {
        return Err(refused(
            "it never ran\n  hint: say in the job file where it starts, `start` of its sources".into(),
        ));
    };
    if standing.plan != plan.hash() || standing.build != BUILD_ID {
        let reason = "its state is that of another version\n  hint: upgrade it first, or give the job file that it ran";
        return Err(refused(reason.into()));
    }
    check(plan, &standing)?;
    let connected = plan.connect(environment)?;
    let moved = moves(&connected, &standing, wanted, repeats).map_err(refused)?;
    if options.dry_run || moved.is_empty() {
        return Ok(moved);
    }
    let upgrading = JobState::open(options.state.open()?, spec(plan, Begin::Continue))?.upgrade()?;
    // What was looked at is what our generation follows, or another process has come in between.
    if moves(&connected, upgrading.standing(), wanted, repeats).map_err(refused)? != moved {
        return Err(refused("somebody else has moved them meanwhile\n  hint: look at them again".into()));
    }
    let sinks = Sinks::GoOn(upgrading.generation());
    let mut next = Transition::of(plan, &connected, upgrading.standing(), sinks)?.next()?;
    for it in &moved {
        let input =
            next.inputs.splits.iter().find(|split| (&split.source, &split.spec.name) == (&it.source, &it.split));
        let id = input.expect("it was looked up among them").id;
        let known = next.before.splits.get(&id);
        let greatest = known.map_or(EventTime::MIN, |mark| mark.greatest);
        next.before.splits.insert(id, at(id, it.to, greatest));
        next.parts.insert(format!("split {}:{}", it.source, it.split), format!("moved from {} to {}", it.from, it.to));
    }
    upgrading.finish(next)?;
    Ok(moved)
}

/// Returns the mark of a split that goes on at a position.
fn at(split: u32, position: u64, greatest: EventTime) -> SplitMark {
    let (from, to) = (position, position);
    SplitMark { split, from, to, rows: 0, xxh3: 0, greatest, idle: false, at_end: false, ended: false }
}

/// Looks at each position that is wanted: that it is one, and what going there means.
fn moves(
    connected: &Connected,
    standing: &Standing,
    wanted: &[Position],
    repeats: Repeats,
) -> Result<Vec<Moved>, String> {
    let inputs = standing.inputs.as_ref().ok_or("it never read anything")?;
    let after = standing.checkpoint.as_ref().map(|checkpoint| checkpoint.clone().into_parts().after());
    let marks = after.map(|after| after.splits).unwrap_or_default();
    let mut moved: BTreeMap<(&str, &str), Moved> = BTreeMap::new();
    for Position { source, split, position } in wanted {
        let open = connected.sources.iter().find(|open| open.name == *source);
        let open = open.ok_or_else(|| {
            let known: Vec<&str> = connected.sources.iter().map(|open| open.name.as_str()).collect();
            format!("it has no source `{source}`\n  hint: there are {}", known.join(", "))
        })?;
        let own = || inputs.splits.iter().filter(|input| input.source == *source);
        let input = own().find(|input| input.spec.name == *split).ok_or_else(|| {
            let known: Vec<&str> = own().map(|input| input.spec.name.as_str()).collect();
            format!("source `{source}` has no split `{split}`\n  hint: there are {}", known.join(", "))
        })?;
        let mark = marks.get(&input.id);
        let from = mark.map_or(input.spec.start, |mark| mark.to);
        if mark.is_some_and(|mark| mark.ended) {
            return Err(format!("split `{split}` of source `{source}` has come to its end"));
        }
        fits(open, &input.spec, (from, *position), repeats)?;
        let it = Moved { source: source.clone(), split: split.clone(), from, to: *position };
        if moved.insert((source.as_str(), split.as_str()), it).is_some_and(|known| known.to != *position) {
            return Err(format!("split `{split}` of source `{source}` cannot go on at two places"));
        }
    }
    Ok(moved.into_values().filter(|it| it.from != it.to).collect())
}

/// Checks that a split can go on at `to`, and that it may.
fn fits(open: &OpenSource, split: &SplitSpec, (from, to): (u64, u64), repeats: Repeats) -> Result<(), String> {
    let name = format!("split `{}` of source `{}`", split.name, open.name);
    if open.fixed {
        return Err(format!(
            "{name} is a file, and its positions are places in it that only its reader knows\n  hint: `riverrun replay` reads files anew, beside the job"
        ));
    }
    if to < from && repeats == Repeats::Refused {
        return Err(format!(
            "{name} is read up to {from}, and records from {to} on would be read again: the state has seen them, so they would count twice or be late\n  hint: `riverrun replay --from` reads them beside the job; to have them read again all the same, say so: --repeat"
        ));
    }
    let end = open.source.ends().map_err(|error| error.to_string())?.get(&split.name).copied();
    if let Some(end) = split.end.or(end).filter(|end| to > *end) {
        return Err(format!("{name} ends at {end}, before {to}"));
    }
    // Whoever reads there says whether that is possible.
    open.source.open(split, to).map(drop).map_err(|error| format!("{name} cannot be read at {to}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_source_split_and_number() {
        let position = |source: &str, split: &str, position| {
            Ok(Position { source: source.to_owned(), split: split.to_owned(), position })
        };
        assert_eq!(Position::parse("clicks:0=17"), position("clicks", "0", 17));
        assert_eq!(Position::parse("a:b:c=0"), position("a:b", "c", 0));
        for wrong in ["", "clicks", "clicks=1", "clicks:0", "clicks:0=", "clicks:0=-1", "clicks:0=x"] {
            assert!(Position::parse(wrong).unwrap_err().contains("SOURCE:SPLIT=POSITION"), "{wrong}");
        }
    }
}
