//! What a comparison found, as lines of JSON while it goes on, or as a table with the first rows of each stream.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use riverrun_jobs::diff::{Change, Credits, Diff, Evidence, Stream, StreamDiff, Subject, Tally, Versions};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args::Global;
use crate::exit::Failure;
use crate::output::{self, Stdout, grouped};
use crate::run::failed;

/// Characters of a value that a table shows.
const VALUE_MAX: usize = 60;

/// Lines of JSON: one for each difference, whole rows among them, then what the first of them rest on, then the summary.
pub struct Lines<'o> {
    stdout: &'o mut Stdout,
    limit: usize,
}

#[derive(Serialize)]
struct Line<'a> {
    stream: &'a str,
    change: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    key: BTreeMap<&'a str, &'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<&'a RawValue>,
}

/// A record of the input that differing rows name, and where it is.
#[derive(Serialize)]
struct EvidenceLine<'a> {
    evidence: &'a str,
    at: &'a [String],
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    summary: Vec<Summary<'a>>,
    differs: bool,
    /// Sources in which the records that rows name were not looked for.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    not_searched: &'a BTreeSet<String>,
}

#[derive(Serialize)]
struct Summary<'a> {
    stream: &'a str,
    key: &'a [String],
    /// Rows that each version gave, corrections counted.
    rows: BTreeMap<&'static str, u64>,
    /// None if only one version has the stream.
    #[serde(flatten)]
    counts: Option<Counts<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credits: Option<CreditCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
}

#[derive(Serialize)]
struct Counts<'a> {
    same: u64,
    changed: u64,
    only_a: u64,
    only_b: u64,
    /// In how many of the changed rows a column differs.
    columns: BTreeMap<&'a str, u64>,
}

/// Orders that are credited otherwise: to another touch, to one and before to none, to none any more.
#[derive(Serialize)]
struct CreditCounts {
    moved: u64,
    gained: u64,
    lost: u64,
}

/// The first changes of each stream.
struct First {
    limit: usize,
    kept: BTreeMap<String, Vec<Change>>,
}

impl First {
    fn of_each(limit: usize) -> First {
        First { limit, kept: BTreeMap::new() }
    }

    fn take(&mut self, stream: &Stream, change: &Change) {
        let own = self.kept.entry(stream.name.clone()).or_default();
        if own.len() < self.limit {
            own.push(change.clone());
        }
    }

    /// Returns what they rest on.
    fn evidence(&self, versions: &Versions<'_>, global: &Global) -> Result<Evidence, Failure> {
        let shown: Vec<(usize, &str)> = self.kept.values().flatten().flat_map(rows_of).collect();
        match shown.is_empty() {
            true => Ok(Evidence::default()),
            false => versions.evidence(&shown).map_err(|error| failed(error, global)),
        }
    }
}

impl<'o> Lines<'o> {
    /// Returns what writes to `stdout`, with the evidence for at most `limit` rows of each stream.
    pub fn new(stdout: &'o mut Stdout, limit: usize) -> Lines<'o> {
        Lines { stdout, limit }
    }

    /// Compares and shows; returns whether anything differs.
    pub fn show(self, versions: &mut Versions<'_>, global: &Global) -> Result<bool, Failure> {
        let Lines { stdout, limit } = self;
        let (mut broken, mut first) = (None, First::of_each(limit));
        let compared = versions.compare(|stream, change| {
            first.take(stream, change);
            stdout.json_line(&line(stream, change)).map_err(|failure| {
                broken = Some(failure);
                io::Error::other("stdout was closed")
            })
        });
        if let Some(failure) = broken {
            return Err(failure);
        }
        let diff = compared.map_err(|error| failed(error, global))?;
        let evidence = first.evidence(versions, global)?;
        for (id, at) in evidence.all() {
            stdout.json_line(&EvidenceLine { evidence: id, at })?;
        }
        let summary = diff.streams.iter().map(summary).collect();
        stdout.json_line(&SummaryLine { summary, differs: diff.differs(), not_searched: evidence.not_searched() })?;
        Ok(diff.differs())
    }
}

fn line<'a>(stream: &'a Stream, change: &'a Change) -> Line<'a> {
    let (name, a, b, columns) = match change {
        Change::OnlyA(row) => ("only_a", raw(row), None, None),
        Change::OnlyB(row) => ("only_b", None, raw(row), None),
        Change::Changed { a, b, columns } => ("changed", raw(a), raw(b), Some(columns)),
    };
    let one = a.or(b).map(RawValue::get).unwrap_or_default();
    let columns = columns.map(|columns| columns.iter().map(|at| stream.columns[*at].as_str()).collect());
    let values = fields(one);
    let key = stream.key.iter().filter_map(|name| Some((name.as_str(), *values.get(name)?)));
    Line { stream: &stream.name, change: name, key: key.collect(), columns, a, b }
}

/// Returns a row as JSON. One that was taken back more often than given begins with a `-`, and is shown without.
fn raw(row: &str) -> Option<&RawValue> {
    serde_json::from_str(row.strip_prefix('-').unwrap_or(row)).ok()
}

fn fields(row: &str) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(row.strip_prefix('-').unwrap_or(row)).unwrap_or_default()
}

fn summary(it: &StreamDiff) -> Summary<'_> {
    let counts = it.tally.as_ref().map(|tally| {
        let columns = it.stream.columns.iter().zip(&tally.columns).filter(|(_, count)| **count > 0);
        let columns = columns.map(|(name, count)| (name.as_str(), *count)).collect();
        Counts { same: tally.same, changed: tally.changed, only_a: tally.only_a, only_b: tally.only_b, columns }
    });
    Summary {
        stream: &it.stream.name,
        key: &it.stream.key,
        rows: BTreeMap::from([("a", it.rows[0]), ("b", it.rows[1])]),
        counts,
        credits: it.tally.as_ref().filter(|_| it.stream.subject == Subject::Credits).map(|tally| {
            let Credits { moved, gained, lost } = tally.credits;
            CreditCounts { moved, gained, lost }
        }),
        words: it.tally.as_ref().and_then(|tally| words(it.stream.subject, tally)),
        notes: &it.stream.notes,
    }
}

/// Returns what the numbers mean in the words of what the stream is about.
fn words(subject: Subject, tally: &Tally) -> Option<String> {
    let parts: Vec<(u64, &str)> = match subject {
        Subject::Credits => vec![
            (tally.credits.moved, "re-credited to another touch"),
            (tally.credits.gained, "credited that were not"),
            (tally.credits.lost, "not credited any more"),
            (tally.only_a, "rows lost"),
            (tally.only_b, "rows gained"),
        ],
        Subject::Incidents => {
            vec![
                (tally.only_b, "incidents gained"),
                (tally.only_a, "incidents lost"),
                (tally.changed, "incidents otherwise"),
            ]
        }
        Subject::Signals => {
            vec![(tally.only_b, "signals gained"), (tally.only_a, "signals lost"), (tally.changed, "signals otherwise")]
        }
        Subject::Rows => return None,
    };
    let told: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", grouped(count)))
        .collect();
    let of = if subject == Subject::Credits { "orders: " } else { "" };
    (!told.is_empty()).then(|| format!("{of}{}", told.join(", ")))
}

/// A table of all streams, and the first rows that differ of each.
pub struct Table<'o> {
    stdout: &'o mut Stdout,
    limit: usize,
}

impl<'o> Table<'o> {
    /// Returns what writes to `stdout` at most `limit` rows of each stream.
    pub fn new(stdout: &'o mut Stdout, limit: usize) -> Table<'o> {
        Table { stdout, limit }
    }

    /// Compares and shows; returns whether anything differs.
    pub fn show(self, versions: &mut Versions<'_>, global: &Global) -> Result<bool, Failure> {
        let Table { stdout, limit } = self;
        let mut first = First::of_each(limit);
        let diff = versions.compare(|stream, change| {
            first.take(stream, change);
            Ok(())
        });
        let diff = diff.map_err(|error| failed(error, global))?;
        stdout.line(&overview(&diff).to_string())?;
        let evidence = first.evidence(versions, global)?;
        for it in &diff.streams {
            let Some(tally) = &it.tally else {
                let side = if it.stream.is_in(0) { "A" } else { "B" };
                stdout.line(&format!("\n{} is only in {side}: it is not compared", it.stream.name))?;
                continue;
            };
            let changes = first.kept.get(&it.stream.name).map(Vec::as_slice).unwrap_or_default();
            if !changes.is_empty() {
                tell(stdout, it, tally, changes, &evidence)?;
            }
        }
        for source in evidence.not_searched() {
            stdout.line(&format!("\nwhat rows rest on was not looked for in `{source}`: its records are not JSON"))?;
        }
        if !diff.differs() && !global.quiet {
            stdout.flush()?;
            eprintln!("no row differs");
        }
        Ok(diff.differs())
    }
}

/// Returns the rows of a change, each with its version.
fn rows_of(change: &Change) -> Vec<(usize, &str)> {
    match change {
        Change::OnlyA(row) => vec![(0, row)],
        Change::OnlyB(row) => vec![(1, row)],
        Change::Changed { a, b, .. } => vec![(0, a), (1, b)],
    }
}

fn overview(diff: &Diff) -> impl std::fmt::Display {
    let row = |it: &StreamDiff| {
        let key = if it.stream.key.is_empty() { "whole rows".to_owned() } else { it.stream.key.join(", ") };
        let counts =
            it.tally.as_ref().map(|tally| [tally.same, tally.changed, tally.only_a, tally.only_b].map(grouped));
        let counts = counts.unwrap_or_default();
        [vec![it.stream.name.clone(), key], counts.to_vec()].concat()
    };
    let header = ["stream", "named by", "same", "changed", "only a", "only b"];
    output::table(&header, &[2, 3, 4, 5], diff.streams.iter().map(row).collect())
}

fn tell(
    stdout: &mut Stdout,
    it: &StreamDiff,
    tally: &Tally,
    changes: &[Change],
    evidence: &Evidence,
) -> Result<(), Failure> {
    let all = tally.changed + tally.only_a + tally.only_b;
    let first = if all > changes.len() as u64 {
        format!(", the first {} of {}", changes.len(), grouped(all))
    } else {
        String::new()
    };
    let words = words(it.stream.subject, tally).map(|words| format!(" ({words})")).unwrap_or_default();
    stdout.line(&format!("\n{}{first}{words}", it.stream.name))?;
    let columns = it.stream.columns.iter().zip(&tally.columns).filter(|(_, count)| **count > 0);
    let columns: Vec<String> = columns.map(|(name, count)| format!("{name} {}", grouped(*count))).collect();
    if !columns.is_empty() {
        stdout.line(&format!("  columns that changed: {}", columns.join(", ")))?;
    }
    changes.iter().try_for_each(|change| tell_change(stdout, &it.stream, change, evidence))
}

fn tell_change(stdout: &mut Stdout, stream: &Stream, change: &Change, evidence: &Evidence) -> Result<(), Failure> {
    let (sign, one) = match change {
        Change::OnlyA(row) => ('-', row),
        Change::OnlyB(row) => ('+', row),
        Change::Changed { a, .. } => ('~', a),
    };
    let values = fields(one);
    let shown = |name: &String| values.get(name).map(|value| format!("{name}={}", value_of(value)));
    let is_key = |name: &&String| stream.key.is_empty() || stream.key.contains(name);
    let named: Vec<String> = stream.columns.iter().filter(is_key).filter_map(shown).collect();
    let back = if one.starts_with('-') { " (taken back, never given)" } else { "" };
    stdout.line(&format!("  {sign} {}{back}", named.join(" ")))?;
    if !matches!(change, Change::Changed { .. }) {
        // What says nothing, or is told as evidence, would only be in the way.
        let tells = |name: &&String| {
            !is_key(name) && !name.starts_with("evidence") && values.get(*name).map(|it| it.get()) != Some("null")
        };
        let rest: Vec<String> = stream.columns.iter().filter(tells).filter_map(shown).collect();
        if !rest.is_empty() {
            stdout.line(&format!("      {}", rest.join(" ")))?;
        }
    }
    if let Change::Changed { b, columns, .. } = change {
        let others = fields(b);
        for column in columns.iter().map(|at| &stream.columns[*at]) {
            let of =
                |row: &BTreeMap<String, &RawValue>| row.get(column).map(|value| value_of(value)).unwrap_or_default();
            stdout.line(&format!("      {column}: {} -> {}", of(&values), of(&others)))?;
        }
    }
    let mut told: Vec<String> = Vec::new();
    for (_, row) in rows_of(change) {
        for (id, places) in evidence.of(row) {
            let line = format!("{id} at {}", places.join(", "));
            if !told.contains(&line) {
                told.push(line);
            }
        }
    }
    if told.is_empty() { Ok(()) } else { stdout.line(&format!("      rests on {}", told.join("; "))) }
}

/// Returns a value as a person reads it: texts without quotes, long ones cut.
fn value_of(value: &RawValue) -> String {
    let text = serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned());
    match text.char_indices().nth(VALUE_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}
