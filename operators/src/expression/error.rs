//! What is wrong with an expression, in words for the person who wrote it.

use datafusion_common::DataFusionError;
use datafusion_sql::sqlparser::tokenizer::Location;

/// An expression that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    /// What is wrong.
    pub message: String,
    /// Where: a byte offset in the SQL text, if the fault has a place.
    pub offset: Option<usize>,
    /// What can be done.
    pub hint: Option<String>,
}

impl ExpressionError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        ExpressionError { message: message.into(), offset: None, hint: None }
    }

    pub(crate) fn at(mut self, offset: Option<usize>) -> Self {
        self.offset = offset;
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the error of the SQL parser, whose text ends with the place.
    pub(crate) fn parse(sql: &str, error: &str) -> Self {
        let error = error.trim_start_matches("sql parser error: ");
        let (text, place) = match error.rfind(" at Line: ") {
            Some(at) => (&error[..at], offset_of_text(sql, &error[at..])),
            None => (error, None),
        };
        let text = text.replace("Expected:", "expected").replace(", found: EOF", ", but the text ends here");
        let text = text.replace(", found:", ", found").replace(" end of expression", " the end of the expression");
        ExpressionError::new(lower_first(&text)).at(place)
    }

    /// Returns the error of DataFusion's planner.
    pub(crate) fn plan(error: &DataFusionError) -> Self {
        ExpressionError::new(words(&reason(error)))
    }
}

/// Returns the byte offset in `sql` of a parser location, which counts lines and characters from 1.
pub(crate) fn offset_of(sql: &str, location: Location) -> Option<usize> {
    let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(location.column).ok()?.checked_sub(1)?;
    let start: usize = sql.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = &sql[start..];
    Some(start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at))
}

/// Reads ` at Line: 1, Column: 7`.
fn offset_of_text(sql: &str, place: &str) -> Option<usize> {
    let mut numbers = place.split(|c: char| !c.is_ascii_digit()).filter(|s| !s.is_empty());
    let line = numbers.next()?.parse().ok()?;
    let column = numbers.next()?.parse().ok()?;
    offset_of(sql, Location { line, column })
}

/// Returns the innermost cause as one line, without the prefixes of the layers above it.
pub(crate) fn reason(error: &DataFusionError) -> String {
    let text = match error {
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            arrow::error::ArrowError::DivideByZero => "division by zero".to_owned(),
            arrow::error::ArrowError::ArithmeticOverflow(_) => "the number is too large for its type".to_owned(),
            arrow::error::ArrowError::ExternalError(inner) => inner.to_string(),
            other => match other.to_string().split_once("error: ") {
                Some((_, detail)) => detail.to_owned(),
                None => other.to_string(),
            },
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => return reason(inner),
        DataFusionError::Shared(inner) => return reason(inner),
        DataFusionError::Collection(all) if !all.is_empty() => return reason(&all[0]),
        other => other.strip_backtrace().split_once(": ").map_or_else(|| other.to_string(), |(_, m)| m.to_owned()),
    };
    lower_first(text.lines().next().unwrap_or_default().trim_end_matches('.'))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), text.chars().nth(1)) {
        // Not names such as `SQL`.
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// Returns `text` with Arrow's type names replaced by the job file's.
fn words(text: &str) -> String {
    const NAMES: [(&str, &str); 16] = [
        ("LargeUtf8", "string"),
        ("Utf8View", "string"),
        ("Utf8", "string"),
        ("Float64", "float64"),
        ("Int64", "int64"),
        ("Int32", "int32"),
        ("Boolean", "bool"),
        ("Date32", "date"),
        ("Decimal128", "decimal"),
        ("Timestamp(Nanosecond, None)", "timestamp_ns"),
        ("Timestamp(Microsecond, None)", "timestamp_us"),
        ("Timestamp(Millisecond, None)", "timestamp_ms"),
        ("Timestamp(Second, None)", "timestamp_s"),
        ("Timestamp(µs)", "timestamp_us"),
        ("Timestamp(ms)", "timestamp_ms"),
        ("Timestamp(ns)", "timestamp_ns"),
    ];
    let mut text = text.replace("Timestamp(s)", "timestamp_s");
    // `UInt64` holds `Int64`: the unsigned names go first.
    for unsigned in ["UInt64", "UInt32", "UInt16", "UInt8"] {
        text = text.replace(unsigned, &unsigned.to_lowercase());
    }
    for (arrow, ours) in NAMES {
        text = text.replace(arrow, ours);
    }
    text
}

/// Returns the word among `known` that is most like `word`, if one is like it.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_across_lines_and_wide_characters() {
        let sql = "a +\n 'käse' + b";
        assert_eq!(offset_of(sql, Location { line: 1, column: 3 }), Some(2));
        assert_eq!(offset_of(sql, Location { line: 2, column: 11 }), sql.find('b'));
        assert_eq!(offset_of(sql, Location { line: 9, column: 9 }), Some(sql.len()));
        assert_eq!(offset_of(sql, Location { line: 0, column: 0 }), None);
    }

    #[test]
    fn the_nearest_word_ignores_case_and_has_to_be_near() {
        assert_eq!(nearest("Evnt_Type", ["event_type", "price"]), Some("event_type"));
        assert_eq!(nearest("xyz", ["event_type", "price"]), None);
    }
}
