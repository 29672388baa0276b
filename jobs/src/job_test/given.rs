//! What a test gives: records by source, made of tables and lines.

use riverrun_connectors::format::FormatSpec;

use super::cells::{csv_record, json_record, with_moments};
use super::moment::{NoMoment, Style, style};
use super::rows::{self, Cell, Form, Line, Written};
use crate::fault::{Fault, codes, list, shorten};
use crate::spec::SourceSpec;
use crate::yaml::{Node, Spanned, Value};

/// The records of a source, in the order in which they arrive.
#[derive(Clone, Debug)]
pub struct Given {
    /// The source.
    pub source: String,
    /// The records.
    pub records: Vec<String>,
}

/// Reads what is given; a source that is not named is given nothing.
pub fn read(
    source_text: &str,
    node: &Node,
    sources: &[SourceSpec],
    start: Option<i64>,
    faults: &mut Vec<Fault>,
) -> Vec<Given> {
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        Value::Null => &[],
        other => {
            let message = format!("`given` is {}, not a map of sources", other.describe());
            faults.push(Fault::error(codes::WRONG_KIND, node.span, message).hint("write `given: { clicks: ... }`"));
            &[]
        }
    };
    let mut all: Vec<Given> = Vec::new();
    for entry in entries {
        let name = &entry.key;
        if all.iter().any(|given| given.source == name.value) {
            let message = format!("`given` has the source `{}` twice", shorten(&name.value));
            faults.push(Fault::error(codes::REPEATED_KEY, name.span, message).hint("keep one of them"));
            continue;
        }
        let Some(source) = sources.iter().find(|source| source.name.value == name.value) else {
            let known = || sources.iter().map(|source| source.name.value.as_str());
            let message = format!("rows are given to `{}`, which is no source of the job", shorten(&name.value));
            let fault = Fault::error(codes::UNKNOWN_STREAM, name.span, message);
            faults.push(fault.note(format!("its sources are {}", list(known()))).did_you_mean(&name.value, known()));
            continue;
        };
        let written = written_rows(source_text, &entry.value, &format!("`{}` of `given`", name.value), faults);
        all.push(Given { source: name.value.clone(), records: records(source, &written, start, faults) });
    }
    all
}

/// Returns the rows that stand at `node`: text, or nothing.
pub fn written_rows(source_text: &str, node: &Node, who: &str, faults: &mut Vec<Fault>) -> Written {
    match &node.value {
        Value::Scalar(scalar) => rows::read(&rows::lines(source_text, node.span, &scalar.text), faults),
        Value::Null => Written::default(),
        Value::List(items) if items.is_empty() => Written::default(),
        other => {
            let message = format!("{who} is {}, not rows", other.describe());
            let hint = "write a table or JSON lines in a block: `|` behind the colon, the rows below";
            faults.push(Fault::error(codes::BAD_ROWS, node.span, message).hint(hint));
            Written::default()
        }
    }
}

/// Adds the fault of a time in `line` that counts from a start which is not there; one such fault speaks for all.
pub fn no_start(line: &Line, faults: &mut Vec<Fault>) {
    if faults.iter().any(|fault| fault.code == codes::NO_START) {
        return;
    }
    let relative = |word: &str| matches!(style(word), Some(Style::Offset | Style::Clock));
    let cell = |cell: &Spanned<Cell>| match &cell.value {
        Cell::Word(word) if relative(word) => Some((word.clone(), cell.span)),
        _ => None,
    };
    let (word, span) = match &line.form {
        Form::Cells(cells) => cells.iter().find_map(cell).unwrap_or((String::new(), line.span)),
        Form::Record(record) => (record.clone(), line.span),
    };
    let message = format!("`{}` counts from `start`, which the test does not have", shorten(&word));
    let hint = "give `start: 2026-01-01T10:00:00Z` in the file or the test, or write times with their date";
    faults.push(Fault::error(codes::NO_START, span, message).hint(hint));
}

fn records(source: &SourceSpec, written: &Written, start: Option<i64>, faults: &mut Vec<Fault>) -> Vec<String> {
    let columns: Vec<_> = source.columns.iter().map(|column| column.value.clone()).collect();
    for name in &written.header {
        if !columns.iter().any(|column| column.name == name.value) {
            faults.push(unknown_column(&source.name.value, name, columns.iter().map(|column| column.name.as_str())));
        }
    }
    let mut records = Vec::new();
    for line in &written.lines {
        let record = match &line.form {
            Form::Record(record) => match source.format {
                FormatSpec::Csv(_) => Ok(record.clone()),
                _ => with_moments(record, &columns, start),
            },
            Form::Cells(cells) => {
                let cell = |name: &str| {
                    let at = written.header.iter().position(|column| column.value == name)?;
                    Some(&cells[at].value)
                };
                match &source.format {
                    FormatSpec::Csv(options) => csv_record(&columns, cell, options, start),
                    _ => {
                        let placed = columns.iter().filter_map(|column| Some((column, cell(&column.name)?)));
                        json_record(placed, start)
                    }
                }
            }
        };
        match record {
            Ok(record) => records.push(record),
            Err(NoMoment::NoStart | NoMoment::NotOne) => no_start(line, faults),
        }
    }
    records
}

/// Returns the fault of a column that `stream` does not have.
pub fn unknown_column<'n>(stream: &str, name: &Spanned<String>, known: impl Iterator<Item = &'n str> + Clone) -> Fault {
    let message = format!("the rows of `{stream}` have the column `{}`, which it does not have", shorten(&name.value));
    Fault::error(codes::UNKNOWN_COLUMN, name.span, message)
        .note(format!("`{stream}` has the columns {}", list(known.clone())))
        .did_you_mean(&name.value, known)
}
