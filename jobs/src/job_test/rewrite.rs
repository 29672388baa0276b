//! Rewrites expectations in place with what came. Comments, the form of the rows, the way times are written and the rows that were
//! right stay as they are.

use super::compare::{Seen, in_order, match_rows};
use super::expect::Expectation;
use super::file::{Case, TestFile};
use super::play::Played;
use super::rows::{self, Form};
use super::show::aligned;
use super::value::Value;
use super::{CaseResult, expect};
use crate::fault::Place;
use crate::yaml::Span;

/// What came where something else was expected.
#[derive(Clone, Debug)]
pub enum Came {
    /// Rows of the expectation with this index.
    Rows(usize, Vec<Vec<Value>>),
    /// The number of the count with this index.
    Count(usize, u64),
}

/// A test file with other expectations.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// Its text.
    pub text: String,
    /// How many expectations are other ones.
    pub changed: usize,
    /// Expectations that cannot be rewritten where they stand, and why.
    pub refused: Vec<(Place, String)>,
}

/// Returns what came where it is not what `case` expects.
pub fn came(case: &Case, played: &Played, seen: &[Vec<Seen>]) -> Vec<Came> {
    let mut all = Vec::new();
    for (index, (expectation, seen)) in case.expected.iter().zip(seen).enumerate() {
        let wanted: Vec<Vec<Value>> = expectation.rows.iter().map(|(cells, _)| cells.clone()).collect();
        let project = |row: &Seen| expectation.compared.iter().map(|at| row.cells[*at].clone()).collect::<Vec<_>>();
        let rows: Vec<Vec<Value>> = seen.iter().map(project).collect();
        let whole = match_rows(&wanted, &rows).is_whole();
        if !whole || (expectation.ordered && !in_order(&wanted, &rows, seen)) {
            // Rows that come in no order among themselves are written in that of their cells.
            let mut ordered: Vec<(_, Vec<Value>)> = seen.iter().map(|row| row.group).zip(rows).collect();
            ordered.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
            all.push(Came::Rows(index, ordered.into_iter().map(|(_, row)| row).collect()));
        }
    }
    for (index, wanted) in case.counts.iter().enumerate() {
        let came = wanted.of.of(&played.balance.get(&wanted.name).copied().unwrap_or_default());
        if came != wanted.number.value {
            all.push(Came::Count(index, came));
        }
    }
    all
}

/// Puts what came in the place of what was expected.
pub fn rewrite(file: &TestFile, text: &str, results: &[CaseResult]) -> Rewritten {
    let mut edits: Vec<(std::ops::Range<usize>, String)> = Vec::new();
    let mut refused = Vec::new();
    for result in results {
        let Some(case) = file.cases.iter().find(|case| case.name.value == result.name) else { continue };
        for came in &result.came {
            match came {
                Came::Count(index, number) => {
                    let span = case.counts[*index].number.span;
                    edits.push((span.start..span.end, number.to_string()));
                }
                Came::Rows(index, rows) => {
                    let expectation = &case.expected[*index];
                    match edit(text, expectation, rows, case.start) {
                        Ok(edit) => edits.push(edit),
                        Err(reason) => refused.push((file.place(expectation.stream.span), reason)),
                    }
                }
            }
        }
    }
    edits.sort_by_key(|(range, _)| range.start);
    let changed = edits.len();
    let mut out = text.to_owned();
    for (range, with) in edits.into_iter().rev() {
        out.replace_range(range, &with);
    }
    Rewritten { text: out, changed, refused }
}

/// Returns which part of the text becomes what.
fn edit(
    text: &str,
    expectation: &Expectation,
    came: &[Vec<Value>],
    start: Option<i64>,
) -> Result<(std::ops::Range<usize>, String), String> {
    let key = expectation.wanted.at;
    let line_start = text[..key.start].rfind('\n').map_or(0, |at| at + 1);
    let from = text[key.end..].find('\n').map_or(text.len(), |length| key.end + length + 1);
    let Some(opening) = block_opening(&text[key.end..from]) else {
        return Err(
            "its rows stand in one line with others; write them as a block (`|` behind the colon) once".to_owned()
        );
    };
    let key_indent = key.start - line_start;
    let block = block(text, from, key_indent);
    let indent = block.first().map_or(key_indent + 2, |line| line.len() - line.trim_start().len());
    let (begin, mut with) = match opening {
        Opening::Block if text[..from].ends_with('\n') => (from, String::new()),
        Opening::Block => (from, "\n".to_owned()),
        Opening::Nothing => (key.end, ": |\n".to_owned()),
    };
    for line in written(expectation, &block, came, start) {
        with.push_str(format!("{}{line}", " ".repeat(indent)).trim_end());
        with.push('\n');
    }
    let to = from + block.iter().map(|line| line.len()).sum::<usize>();
    Ok((begin..to, with))
}

/// What stands behind the key of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// A block begins.
    Block,
    /// Nothing, or an empty list.
    Nothing,
}

fn block_opening(behind: &str) -> Option<Opening> {
    let rest = behind.strip_prefix(':')?.trim();
    let rest = rest.split(" #").next().unwrap_or_default().trim();
    match rest {
        "|" | "|-" | "|+" => Some(Opening::Block),
        "" | "[]" | "~" | "null" | "\"\"" | "''" => Some(Opening::Nothing),
        _ => None,
    }
}

/// Returns the lines of the block below a key, blank lines at its end left out.
fn block(text: &str, from: usize, key_indent: usize) -> Vec<&str> {
    let inside = |line: &&str| line.trim().is_empty() || line.len() - line.trim_start().len() > key_indent;
    let mut lines: Vec<&str> = text[from..].split_inclusive('\n').take_while(inside).collect();
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    lines
}

/// Returns the lines of the new block: comments keep their place before the row that they stood before.
fn written(expectation: &Expectation, block: &[&str], came: &[Vec<Value>], start: Option<i64>) -> Vec<String> {
    let wanted: Vec<Vec<Value>> = expectation.rows.iter().map(|(cells, _)| cells.clone()).collect();
    let matching = match_rows(&wanted, came);
    // Which expected row each row that came stands for.
    let mut stands_for: Vec<Option<usize>> = vec![None; came.len()];
    matching.equal.iter().for_each(|(wanted, came)| stands_for[*came] = Some(*wanted));
    matching.changed.iter().for_each(|(wanted, came)| stands_for[*came] = Some(*wanted));
    let equal: Vec<bool> = (0..came.len()).map(|at| matching.equal.iter().any(|(_, came)| *came == at)).collect();
    let parts = Parts::of(block);
    let tabular = !expectation.wanted.rows.header.is_empty() || expectation.rows.is_empty();
    let names: Vec<String> = match expectation.wanted.rows.header.is_empty() {
        false => expectation.wanted.rows.header.iter().map(|name| name.value.clone()).collect(),
        true => expectation.compared.iter().map(|at| expectation.all[*at].name.clone()).collect(),
    };
    let mut lines: Vec<Made> = parts.head.iter().map(|comment| Made::Same((*comment).to_owned())).collect();
    if tabular {
        lines.push(Made::Cells(names.clone()));
    }
    for (at, row) in came.iter().enumerate() {
        if let Some(comments) = stands_for[at].and_then(|wanted| parts.rows.get(wanted)) {
            lines.extend(comments.comments.iter().map(|comment| Made::Same((*comment).to_owned())));
        }
        let old = stands_for[at].filter(|_| equal[at]).map(|wanted| &expectation.wanted.rows.lines[wanted]);
        lines.push(match old.map(|line| (&line.form, line.span)) {
            Some((Form::Record(_), _)) => Made::Same(parts.rows[stands_for[at].unwrap_or(0)].line.to_owned()),
            Some((Form::Cells(_), _)) => Made::Cells(old_cells(parts.rows[stands_for[at].unwrap_or(0)].line)),
            None if tabular => Made::Cells(new_cells(expectation, &names, row, start)),
            None => Made::Same(new_record(expectation, row, start)),
        });
    }
    lines.extend(parts.tail.iter().map(|comment| Made::Same((*comment).to_owned())));
    aligned_tables(lines)
}

/// A line in the making.
enum Made {
    /// Stays as it is.
    Same(String),
    /// A line of the table.
    Cells(Vec<String>),
}

fn aligned_tables(lines: Vec<Made>) -> Vec<String> {
    let tables: Vec<Vec<String>> = lines
        .iter()
        .filter_map(|line| match line {
            Made::Cells(cells) => Some(cells.clone()),
            Made::Same(_) => None,
        })
        .collect();
    let aligned = aligned(&tables);
    let mut tables = aligned.lines();
    let line = |line: Made| match line {
        Made::Same(text) => text,
        Made::Cells(_) => tables.next().unwrap_or_default().to_owned(),
    };
    lines.into_iter().map(line).collect()
}

/// Returns the cells of a line as they were written, quotes and all.
fn old_cells(line: &str) -> Vec<String> {
    let at = Span { text: 0, start: 0, end: line.len() };
    rows::cells(rows::Placed { text: line, at })
        .iter()
        .map(|cell| line[cell.span.start..cell.span.end].to_owned())
        .collect()
}

fn new_cells(expectation: &Expectation, names: &[String], row: &[Value], start: Option<i64>) -> Vec<String> {
    let cell = |name: &String| {
        let at = expectation.compared.iter().position(|at| expectation.all[*at].name == *name);
        at.map_or(String::new(), |at| row[at].show(expectation.styles[at], start))
    };
    names.iter().map(cell).collect()
}

fn new_record(expectation: &Expectation, row: &[Value], start: Option<i64>) -> String {
    let member = |(at, column): (usize, &usize)| {
        let name = serde_json::Value::String(expectation.all[*column].name.clone());
        let style =
            if expect::holds_time(&expectation.all[*column]) { expectation.styles[at] } else { Default::default() };
        format!("{name}: {}", row[at].show_json(style, start))
    };
    format!("{{{}}}", expectation.compared.iter().enumerate().map(member).collect::<Vec<_>>().join(", "))
}

/// A block of rows, taken apart.
struct Parts<'t> {
    /// Comments before the header.
    head: Vec<&'t str>,
    rows: Vec<Part<'t>>,
    /// Comments behind the last row.
    tail: Vec<&'t str>,
}

/// A row with the comments before it.
struct Part<'t> {
    comments: Vec<&'t str>,
    line: &'t str,
}

impl<'t> Parts<'t> {
    fn of(block: &[&'t str]) -> Parts<'t> {
        let mut parts = Parts { head: Vec::new(), rows: Vec::new(), tail: Vec::new() };
        let mut has_header = false;
        for line in block.iter().map(|line| line.trim()) {
            let is_row = rows::record(line).is_some();
            match () {
                () if line.is_empty() || (!is_row && rows::is_rule(line)) => {}
                () if line.starts_with('#') => parts.tail.push(line),
                () if !is_row && !has_header => {
                    has_header = true;
                    parts.head.append(&mut parts.tail);
                }
                () => parts.rows.push(Part { comments: std::mem::take(&mut parts.tail), line }),
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_a_key_is_known() {
        assert_eq!(block_opening(": |\n"), Some(Opening::Block));
        assert_eq!(block_opening(": |  # none\n"), Some(Opening::Block));
        assert_eq!(block_opening(": []\n"), Some(Opening::Nothing));
        assert_eq!(block_opening(":"), Some(Opening::Nothing));
        assert_eq!(block_opening(": [], more: |\n"), None);
        assert_eq!(block_opening(": \"a | b\"\n"), None);
    }
}
