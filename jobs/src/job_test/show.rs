//! Differences as tables for people, and as data.

use super::compare::Matching;
use super::expect::Expectation;
use super::value::Value;
use super::{CellDifference, DifferenceKind, Failure, RowDifference};
use crate::fault::Place;

/// Rows beyond these are only counted.
const ROWS_MAX: usize = 40;
/// A cell longer than this is cut.
const CELL_CHARS_MAX: usize = 60;

/// The rows that are compared.
pub struct Rows<'a> {
    /// Those that were expected.
    pub wanted: &'a [Vec<Value>],
    /// Those that came.
    pub came: &'a [Vec<Value>],
    /// The lines of the former in the test file.
    pub lines: &'a [Option<usize>],
}

/// Returns the failure of rows that are not as expected.
pub fn failure(
    play: &str,
    place: Option<Place>,
    start: Option<i64>,
    expectation: &Expectation,
    rows: &Rows<'_>,
    matching: &Matching,
) -> Failure {
    let differences = differences(start, expectation, rows, matching);
    let counts = [
        (matching.missing.len(), "missing"),
        (matching.unexpected.len(), "unexpected"),
        (matching.changed.len(), "changed"),
    ];
    let said: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let message = format!(
        "`{}`: {} of {} rows",
        expectation.stream.value,
        said.join(", "),
        rows.wanted.len().max(rows.came.len())
    );
    let table = table(&differences);
    let (play, about) = (play.to_owned(), Some(expectation.stream.value.clone()));
    Failure { play, about, place, message, rows: differences, table }
}

/// Returns the rows in which the lists differ, in the order in which they were expected, then those that nobody expected.
fn differences(
    start: Option<i64>,
    expectation: &Expectation,
    rows: &Rows<'_>,
    matching: &Matching,
) -> Vec<RowDifference> {
    let cells = |wanted: Option<&Vec<Value>>, came: Option<&Vec<Value>>| {
        let cell = |(at, column): (usize, &usize)| {
            let style = expectation.styles.get(at).copied().unwrap_or_default();
            let text = |row: &Vec<Value>| row.get(at).map(|value| value.show(style, start));
            let column = expectation.all[*column].name.clone();
            CellDifference { column, expected: wanted.and_then(text), came: came.and_then(text) }
        };
        expectation.compared.iter().enumerate().map(cell).collect()
    };
    let mut all: Vec<(usize, RowDifference)> = Vec::new();
    for at in &matching.missing {
        let (kind, line) = (DifferenceKind::Missing, rows.lines[*at]);
        all.push((*at, RowDifference { kind, line, cells: cells(Some(&rows.wanted[*at]), None) }));
    }
    for (at, came) in &matching.changed {
        let (kind, line) = (DifferenceKind::Changed, rows.lines[*at]);
        all.push((*at, RowDifference { kind, line, cells: cells(Some(&rows.wanted[*at]), Some(&rows.came[*came])) }));
    }
    all.sort_by_key(|(at, _)| *at);
    let mut rest: Vec<RowDifference> = all.into_iter().map(|(_, row)| row).collect();
    for at in &matching.unexpected {
        let cells = cells(None, Some(&rows.came[*at]));
        rest.push(RowDifference { kind: DifferenceKind::Unexpected, line: None, cells });
    }
    rest
}

/// Returns the differences as a table: a mark, the line in the test file, and the cells.
fn table(differences: &[RowDifference]) -> String {
    let Some(first) = differences.first() else { return String::new() };
    let mut lines = vec![vec![String::new(), "line".to_owned()]];
    lines[0].extend(first.cells.iter().map(|cell| cell.column.clone()));
    for row in differences.iter().take(ROWS_MAX) {
        let mark = match row.kind {
            DifferenceKind::Missing => "- missing",
            DifferenceKind::Unexpected => "+ unexpected",
            DifferenceKind::Changed => "~ changed",
        };
        let mut line = vec![mark.to_owned(), row.line.map(|line| line.to_string()).unwrap_or_default()];
        line.extend(row.cells.iter().map(|cell| match (&cell.expected, &cell.came) {
            (Some(expected), Some(came)) if expected != came => format!("{} => {}", cut(expected), cut(came)),
            (Some(text), _) | (None, Some(text)) => cut(text),
            (None, None) => String::new(),
        }));
        lines.push(line);
    }
    if differences.iter().all(|row| row.line.is_none()) {
        lines.iter_mut().for_each(|line| drop(line.remove(1)));
    }
    let mut out = aligned(&lines);
    if differences.len() > ROWS_MAX {
        out.push_str(&format!("... and {} more\n", differences.len() - ROWS_MAX));
    }
    out
}

/// Returns rows as they came, in their order.
pub fn order(start: Option<i64>, expectation: &Expectation, came: &[Vec<Value>]) -> String {
    let mut lines = vec![vec!["came as".to_owned()]];
    lines[0].extend(expectation.compared.iter().map(|at| expectation.all[*at].name.clone()));
    for (number, row) in came.iter().enumerate().take(ROWS_MAX) {
        let mut line = vec![(number + 1).to_string()];
        line.extend(row.iter().zip(&expectation.styles).map(|(value, style)| cut(&value.show(*style, start))));
        lines.push(line);
    }
    aligned(&lines)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}

/// Returns lines of cells with `|` between them, columns as wide as their widest cell.
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    let mut out = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        out.push_str(cells.join(" | ").trim_end());
        out.push('\n');
    }
    out
}
