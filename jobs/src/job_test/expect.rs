//! What a test expects: rows by stream, and numbers of the balance.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::schema::visible_of;
use serde_json::value::RawValue;

use super::fields::EXPECTED;
use super::given::{no_start, unknown_column, written_rows};
use super::moment::{self, NoMoment, Style};
use super::rows::{Cell, Form, Line, Written};
use super::value::{self, ColumnOf, Holds, Value};
use crate::fault::{Fault, codes, list, shorten};
use crate::spec::reader::Reader;
use crate::yaml::{self, Node, Span, Spanned};

/// What is expected of a stream, as written.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The stream, or a sink.
    pub stream: Spanned<String>,
    /// Its rows.
    pub rows: Written,
    /// Where the key stands whose value the rows are.
    pub at: Span,
    columns: Option<Vec<Spanned<String>>>,
    key: Option<Vec<Spanned<String>>>,
    unordered: bool,
}

/// What is expected of a stream whose columns are known.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// The stream, or a sink, and where it is named.
    pub stream: Spanned<String>,
    /// The tap that has its rows.
    pub tap: usize,
    /// All columns of the stream.
    pub all: Vec<ColumnOf>,
    /// The columns that are compared, in the order written.
    pub compared: Vec<usize>,
    /// The columns that name a row, of a stream whose rows are corrected by `rev`.
    pub key: Vec<usize>,
    /// The order matters.
    pub ordered: bool,
    /// The rows, with their places.
    pub rows: Vec<(Vec<Value>, Span)>,
    /// How times are written, by compared column.
    pub styles: Vec<Style>,
    /// As written.
    pub wanted: Wanted,
}

/// Reads `expect`.
pub fn read(source_text: &str, node: &Node, streams: &[String], reader: &mut Reader) -> Vec<Wanted> {
    let entries = match &node.value {
        yaml::Value::Map(entries) => entries.as_slice(),
        yaml::Value::Null => &[],
        other => {
            let message = format!("`expect` is {}, not a map of streams", other.describe());
            let fault = Fault::error(codes::WRONG_KIND, node.span, message);
            reader.faults.push(fault.hint("name a step, a source, a side output or a sink: `expect: { STREAM: ... }`"));
            &[]
        }
    };
    let mut all: Vec<Wanted> = Vec::new();
    for entry in entries {
        let stream = &entry.key;
        if all.iter().any(|wanted| wanted.stream.value == stream.value) {
            let message = format!("`expect` has the stream `{}` twice", shorten(&stream.value));
            reader.faults.push(Fault::error(codes::REPEATED_KEY, stream.span, message).hint("keep one of them"));
        } else if !streams.contains(&stream.value) {
            reader.faults.push(unknown_stream(stream, streams));
        } else {
            all.push(wanted(source_text, stream, &entry.value, reader));
        }
    }
    all
}

fn unknown_stream(stream: &Spanned<String>, streams: &[String]) -> Fault {
    let message = format!("rows are expected of `{}`, which is no stream of the job", shorten(&stream.value));
    let like = streams.iter().filter(|name| name.contains('.') == stream.value.contains('.'));
    Fault::error(codes::UNKNOWN_STREAM, stream.span, message)
        .note(format!("there are {}", list(streams)))
        .did_you_mean(&stream.value, like.map(String::as_str))
}

fn wanted(source_text: &str, stream: &Spanned<String>, node: &Node, reader: &mut Reader) -> Wanted {
    let who = format!("`{}` of `expect`", stream.value);
    let mut wanted = Wanted {
        stream: stream.clone(),
        rows: Written::default(),
        at: stream.span,
        columns: None,
        key: None,
        unordered: false,
    };
    if let yaml::Value::Map(entries) = &node.value {
        let form = reader.form(&EXPECTED, node, &who, stream.span);
        let names = |key: &str| form.list(key).map(|list| list.value);
        (wanted.columns, wanted.key) = (names("columns"), names("key"));
        wanted.unordered = form.flag("unordered").is_some_and(|flag| flag.value);
        if let Some(rows) = entries.iter().find(|entry| entry.key.value == "rows") {
            wanted.at = rows.key.span;
            wanted.rows = written_rows(source_text, &rows.value, &who, &mut reader.faults);
        }
    } else {
        wanted.rows = written_rows(source_text, node, &who, &mut reader.faults);
    }
    wanted
}

impl Wanted {
    /// Fits what is wanted to the columns of the stream, which `tap` gives.
    pub fn fit(
        &self,
        tap: usize,
        schema: &SchemaRef,
        start: Option<i64>,
        shuffled: bool,
        faults: &mut Vec<Fault>,
    ) -> Expectation {
        let all: Vec<ColumnOf> = visible_of(schema).iter().map(ColumnOf::of).collect();
        let mut columns = self.columns.clone().unwrap_or_default();
        if self.columns.is_none() {
            columns.clone_from(&self.rows.header);
            for name in self.rows.lines.iter().flat_map(record_columns) {
                if !columns.iter().any(|column| column.value == name.value) {
                    columns.push(name);
                }
            }
        }
        let mut find = |names: &[Spanned<String>]| -> Vec<usize> {
            let known = all.iter().map(|column| column.name.as_str());
            let at = |name: &Spanned<String>| {
                let at = all.iter().position(|column| column.name == name.value);
                if at.is_none() {
                    faults.push(unknown_column(&self.stream.value, name, known.clone()));
                }
                at
            };
            names.iter().filter_map(at).collect()
        };
        let mut compared = find(&columns);
        find(&self.rows.header);
        let key = find(self.key.as_deref().unwrap_or_default());
        if columns.is_empty() {
            compared = (0..all.len()).collect();
        }
        let has = |name: &str| all.iter().any(|column| column.name == name);
        if shuffled && has("rev") && !has("op") && key.is_empty() {
            let message = format!("the rows of `{}` are corrected, and no `key` says which", self.stream.value);
            let fault = Fault::error(codes::NO_ROW_KEY, self.stream.span, message);
            let hint = format!(
                "write `{}: {{ key: [...], rows: ... }}` with the columns that name a row, or `shuffle: false`",
                self.stream.value
            );
            faults.push(fault.note("rows with a `rev` replace those of the same key").hint(hint));
        }
        let chosen: Vec<&ColumnOf> = compared.iter().map(|at| &all[*at]).collect();
        let styles = chosen.iter().map(|column| self.style_of(&column.name, start)).collect();
        let mut rows = Vec::new();
        for line in &self.rows.lines {
            match self.values(line, &chosen, start) {
                Ok(values) => rows.push((values, line.span)),
                Err(_) => no_start(line, faults),
            }
        }
        let (stream, ordered) = (self.stream.clone(), !self.unordered);
        Expectation { stream, tap, all, compared, key, ordered, rows, styles, wanted: self.clone() }
    }

    fn values(&self, line: &Line, chosen: &[&ColumnOf], start: Option<i64>) -> Result<Vec<Value>, NoMoment> {
        match &line.form {
            Form::Cells(cells) => {
                let cell = |column: &&ColumnOf| {
                    let at = self.rows.header.iter().position(|name| name.value == column.name);
                    value::of_cell(column.holds, at.map_or(&Cell::Null, |at| &cells[at].value), start)
                };
                chosen.iter().map(cell).collect()
            }
            Form::Record(record) => {
                let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(record) else {
                    return Ok(chosen.iter().map(|_| Value::Unfit(shorten(record))).collect());
                };
                let member = |column: &&ColumnOf| {
                    let raw = members.get(&column.name).map_or("null", |raw| raw.get());
                    value::of_json(column.holds, raw, start)
                };
                chosen.iter().map(member).collect()
            }
        }
    }

    /// Returns how the times of a column are written in the expectation, or else how they should be.
    fn style_of(&self, column: &str, start: Option<i64>) -> Style {
        let at = self.rows.header.iter().position(|name| name.value == column);
        let word = |line: &Line| match (&line.form, at) {
            (Form::Cells(cells), Some(at)) => match &cells[at].value {
                Cell::Word(word) => Some(word.clone()),
                _ => None,
            },
            (Form::Record(record), _) => {
                serde_json::from_str::<serde_json::Value>(record).ok()?.get(column)?.as_str().map(str::to_owned)
            }
            _ => None,
        };
        let known = self.rows.lines.iter().filter_map(word).find_map(|word| moment::style(&word));
        known.unwrap_or(if start.is_some() { Style::Offset } else { Style::Absolute })
    }
}

/// Returns the columns that a record has, in the order written.
fn record_columns(line: &Line) -> Vec<Spanned<String>> {
    let Form::Record(record) = &line.form else { return Vec::new() };
    let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(record) else { return Vec::new() };
    let place = |name: &String| record.find(&format!("\"{name}\"")).unwrap_or(usize::MAX);
    let mut names: Vec<String> = members.into_keys().collect();
    names.sort_by_key(place);
    names.into_iter().map(|value| Spanned { value, span: line.span }).collect()
}

/// A number of the balance that is expected.
#[derive(Clone, Debug)]
pub struct CountWanted {
    /// The source or step.
    pub name: String,
    /// Which number.
    pub of: CountOf,
    /// What it is expected to be, and where that stands.
    pub number: Spanned<u64>,
}

/// The numbers of a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountOf {
    /// Rows that came in.
    In,
    /// Rows the step went on with.
    Taken,
    /// Rows that a `where` refused.
    Filtered,
    /// Rows that came after their time.
    Late,
    /// Rows that could not be used.
    Bad,
    /// Rows seen before.
    Duplicate,
    /// Rows that went out.
    Out,
}

impl CountOf {
    const ALL: [(&str, CountOf); 7] = [
        ("in", CountOf::In),
        ("taken", CountOf::Taken),
        ("filtered", CountOf::Filtered),
        ("late", CountOf::Late),
        ("bad", CountOf::Bad),
        ("duplicate", CountOf::Duplicate),
        ("out", CountOf::Out),
    ];

    /// Returns all names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        CountOf::ALL.iter().map(|(name, _)| *name)
    }

    /// Returns the number's name.
    pub fn name(self) -> &'static str {
        CountOf::ALL.iter().find(|(_, of)| *of == self).expect("all are listed").0
    }

    /// Returns the number in `counts`.
    pub fn of(self, counts: &Counts) -> u64 {
        match self {
            CountOf::In => counts.input,
            CountOf::Taken => counts.taken,
            CountOf::Filtered => counts.filtered,
            CountOf::Late => counts.late,
            CountOf::Bad => counts.bad,
            CountOf::Duplicate => counts.duplicate,
            CountOf::Out => counts.out,
        }
    }
}

/// Reads `counts`; `names` are the sources and steps of the job.
pub fn read_counts(node: &Node, names: &[String], faults: &mut Vec<Fault>) -> Vec<CountWanted> {
    let mut all = Vec::new();
    let Some(entries) = map_of(node, "`counts`", faults) else { return all };
    for entry in entries {
        let name = &entry.key;
        if !names.contains(&name.value) {
            let message = format!("rows are counted at `{}`, which is no source or step", shorten(&name.value));
            let fault = Fault::error(codes::UNKNOWN_STREAM, name.span, message);
            faults.push(
                fault
                    .note(format!("there are {}", list(names)))
                    .did_you_mean(&name.value, names.iter().map(String::as_str)),
            );
            continue;
        }
        let who = format!("`{}` of `counts`", name.value);
        for count in map_of(&entry.value, &who, faults).unwrap_or_default() {
            let key = &count.key;
            let Some((_, of)) = CountOf::ALL.iter().find(|(known, _)| *known == key.value) else {
                let known = || CountOf::ALL.iter().map(|(known, _)| *known);
                let fault = Fault::error(codes::UNKNOWN_KEY, key.span, format!("{who} has no key `{}`", key.value));
                faults.push(fault.note(format!("it has the keys {}", list(known()))).did_you_mean(&key.value, known()));
                continue;
            };
            let number = match &count.value.value {
                yaml::Value::Scalar(scalar) => scalar.text.parse::<u64>().ok(),
                _ => None,
            };
            match number {
                Some(value) => {
                    let number = Spanned { value, span: count.value.span };
                    all.push(CountWanted { name: name.value.clone(), of: *of, number });
                }
                None => {
                    let message = format!("`{}` of {who} is {}", key.value, count.value.value.describe());
                    faults.push(
                        Fault::error(codes::BAD_QUANTITY, count.value.span, message).note("it is a whole number"),
                    );
                }
            }
        }
    }
    all
}

fn map_of<'n>(node: &'n Node, who: &str, faults: &mut Vec<Fault>) -> Option<&'n [yaml::Entry]> {
    match &node.value {
        yaml::Value::Map(entries) => Some(entries),
        yaml::Value::Null => Some(&[]),
        other => {
            let message = format!("{who} is {}, not a map", other.describe());
            faults.push(Fault::error(codes::WRONG_KIND, node.span, message));
            None
        }
    }
}

/// Returns whether a column holds times.
pub fn holds_time(column: &ColumnOf) -> bool {
    column.holds == Holds::Time
}
