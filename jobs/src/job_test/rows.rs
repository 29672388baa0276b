//! Rows as people write them: a table, or records one a line, with the place of every cell.
//!
//! The first line of a table names its columns; cells stand between `|`, and a `|` at both ends of a line is as good. A line that
//! begins with `{` is a record as it stands, in a table too; so is what follows `raw:`, whatever it is. A line that begins with `#`
//! is a comment. A cell in quotes is a JSON string; `null` and nothing are null.

use serde::de::IgnoredAny;

use crate::fault::{Fault, codes, shorten};
use crate::yaml::{Span, Spanned};

/// Rows as written.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The columns of the table, if there is one.
    pub header: Vec<Spanned<String>>,
    /// The rows, in order.
    pub lines: Vec<Line>,
}

/// A row as written.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its line without the blanks around it.
    pub span: Span,
    /// What it is.
    pub form: Form,
}

/// The ways to write a row.
#[derive(Clone, Debug)]
pub enum Form {
    /// A row of the table: a cell for each of its columns.
    Cells(Vec<Spanned<Cell>>),
    /// A record as it stands.
    Record(String),
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Null.
    Null,
    /// What stands there, to be understood by the type of its column.
    Word(String),
    /// A text in quotes.
    Text(String),
}

/// A line of a text, with where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'t> {
    /// What it says, without the blanks around it.
    pub text: &'t str,
    /// Where.
    pub at: Span,
}

/// Returns the lines of the scalar `value`, which stands at `span` of `source`.
pub fn lines<'t>(source: &str, span: Span, value: &'t str) -> Vec<Placed<'t>> {
    let Some(first) = value.lines().position(|line| !line.trim().is_empty()) else { return Vec::new() };
    // A block's span begins with its first line that is not blank.
    let line_start = source[..span.start.min(source.len())].rfind('\n').map_or(0, |at| at + 1);
    let mut below = source[line_start..].split_inclusive('\n');
    let mut at = line_start;
    let mut placed = Vec::new();
    for line in value.lines().skip(first) {
        let whole = below.next().unwrap_or_default();
        let text = line.trim();
        let start = whole.find(text).map_or(span.start, |offset| at + offset);
        placed.push(Placed { text, at: Span { start, end: start + text.len(), ..span } });
        at += whole.len();
    }
    placed
}

/// Reads rows.
pub fn read(lines: &[Placed<'_>], faults: &mut Vec<Fault>) -> Written {
    let mut written = Written::default();
    for line in lines.iter().filter(|line| !line.text.is_empty() && !line.text.starts_with('#')) {
        if let Some(record) = record(line.text) {
            written.lines.push(Line { span: line.at, form: Form::Record(record.to_owned()) });
            continue;
        }
        if is_rule(line.text) {
            continue;
        }
        let cells = cells(*line);
        if written.header.is_empty() {
            written.header = header(cells, faults);
            continue;
        }
        let (found, wanted) = (cells.len(), written.header.len());
        match found == wanted {
            true => written.lines.push(Line { span: line.at, form: Form::Cells(cells) }),
            false => {
                let message = format!("the row has {found} cells, and its table {wanted} columns");
                let hint =
                    "a `|` within a cell stands in quotes: `\"a|b\"`; a row that is no row of the table: `raw: ...`";
                faults.push(Fault::error(codes::BAD_ROWS, line.at, message).hint(hint));
            }
        }
    }
    written
}

/// Returns the record that a line is, as it stands.
pub fn record(text: &str) -> Option<&str> {
    match text.strip_prefix("raw:") {
        Some(raw) => Some(raw.strip_prefix(' ').unwrap_or(raw)),
        None => text.starts_with('{').then_some(text),
    }
}

/// Returns whether a line is the rule under the header of a Markdown table.
pub fn is_rule(text: &str) -> bool {
    text.contains("--") && text.bytes().all(|byte| matches!(byte, b'|' | b'-' | b':' | b'+' | b' '))
}

fn header(cells: Vec<Spanned<Cell>>, faults: &mut Vec<Fault>) -> Vec<Spanned<String>> {
    let mut names: Vec<Spanned<String>> = Vec::new();
    for cell in cells {
        let name = match cell.value {
            Cell::Word(name) | Cell::Text(name) => name,
            Cell::Null => String::new(),
        };
        if name.is_empty() {
            faults.push(Fault::error(codes::BAD_ROWS, cell.span, "a column of the table has no name"));
        } else if names.iter().any(|other| other.value == name) {
            let message = format!("the table has the column `{}` twice", shorten(&name));
            faults.push(Fault::error(codes::BAD_ROWS, cell.span, message).hint("keep one of them"));
        }
        names.push(Spanned { value: name, span: cell.span });
    }
    names
}

/// Splits a line into cells.
pub fn cells(line: Placed<'_>) -> Vec<Spanned<Cell>> {
    let (mut text, mut start) = (line.text, line.at.start);
    if let Some(inner) = text.strip_prefix('|') {
        // Only who opens a line with `|` closes it with one: elsewhere the last cell is empty.
        (text, start) = (inner.strip_suffix('|').unwrap_or(inner), start + 1);
    }
    let mut cells = Vec::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let length = json_end(rest).or_else(|| rest.find('|')).unwrap_or(rest.len());
        let raw = &rest[..length];
        let word = raw.trim();
        let begin = start + at + (raw.len() - raw.trim_start().len());
        let span = Span { start: begin, end: begin + word.len(), ..line.at };
        cells.push(Spanned { value: cell(word), span });
        at += length;
        if at >= text.len() {
            return cells;
        }
        at += 1;
    }
}

/// Returns the length of a cell that begins with a JSON text, list or object: `|` may stand in those.
fn json_end(rest: &str) -> Option<usize> {
    let blanks = rest.len() - rest.trim_start().len();
    let value = &rest[blanks..];
    if !value.starts_with(['"', '{', '[']) {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(value).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    let end = blanks + values.byte_offset();
    let behind = rest[end..].find('|').map_or(rest.len(), |at| end + at);
    rest[end..behind].trim().is_empty().then_some(behind)
}

fn cell(word: &str) -> Cell {
    match word {
        "" | "null" => Cell::Null,
        _ if word.starts_with('"') => match serde_json::from_str(word) {
            Ok(text) => Cell::Text(text),
            Err(_) => Cell::Word(word.to_owned()),
        },
        _ => Cell::Word(word.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Written, Vec<Fault>) {
        let span = Span { text: 0, start: 0, end: text.len() };
        let mut faults = Vec::new();
        let written = read(&lines(text, span, text), &mut faults);
        (written, faults)
    }

    fn words(line: &Line) -> Vec<String> {
        match &line.form {
            Form::Record(record) => vec![record.clone()],
            Form::Cells(cells) => cells.iter().map(|cell| format!("{:?}", cell.value)).collect(),
        }
    }

    #[test]
    fn tables_have_words_texts_nulls_and_json() {
        let (written, faults) = read_text(
            "a | b | c\n# a comment\nx y | \"p|q\" |\n| null | [1, \"|\"] | {\"k\": \"|\"} |\n|---|---|---|\n1 |  | \"\"\n",
        );
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(written.header.iter().map(|name| name.value.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let rows: Vec<Vec<String>> = written.lines.iter().map(words).collect();
        assert_eq!(rows[0], ["Word(\"x y\")", "Text(\"p|q\")", "Null"]);
        assert_eq!(rows[1], ["Null", "Word(\"[1, \\\"|\\\"]\")", "Word(\"{\\\"k\\\": \\\"|\\\"}\")"]);
        assert_eq!(rows[2], ["Word(\"1\")", "Null", "Text(\"\")"]);
    }

    #[test]
    fn records_stand_as_they_are() {
        let (written, faults) = read_text("{\"a\": 1}\nraw: a | b\nraw:  x\n");
        assert!(faults.is_empty() && written.header.is_empty());
        let rows: Vec<Vec<String>> = written.lines.iter().map(words).collect();
        assert_eq!(rows, [["{\"a\": 1}"], ["a | b"], [" x"]]);
    }

    #[test]
    fn cells_know_where_they_stand() {
        let text = "a  |  b\n  1 | two \n";
        let (written, _) = read_text(text);
        let Form::Cells(cells) = &written.lines[0].form else { panic!("it is a row") };
        let placed: Vec<&str> = cells.iter().map(|cell| &text[cell.span.start..cell.span.end]).collect();
        assert_eq!(placed, ["1", "two"]);
    }

    #[test]
    fn what_is_no_table_is_at_fault() {
        let (_, faults) = read_text("a | a | \n1 | 2\n1 | 2 | 3 | 4\n");
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
