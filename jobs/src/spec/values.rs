//! How single values are written: durations, sizes, times, names, references.

use std::time::Duration;

use chrono::{DateTime, NaiveDate};
use riverrun_dataflow::EventTime;

/// Units of durations, in microseconds.
const DURATIONS: [(&str, u64); 6] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];
/// Units of sizes, in bytes.
const SIZES: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Reads a duration such as `5s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    quantity(text, &DURATIONS)
        .map(Duration::from_micros)
        .ok_or_else(|| "a duration is a whole number and one of us, ms, s, m, h, d, such as `5s` or `30m`".to_owned())
}

/// Reads a size such as `64MiB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    quantity(text, &SIZES)
        .ok_or_else(|| "a size is a whole number and one of B, KiB, MiB, GiB, TiB, such as `64MiB`".to_owned())
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, size) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*size)
}

/// Returns `span` as it would be written.
pub fn write_duration(span: Duration) -> String {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    if micros == 0 {
        return "0s".to_owned();
    }
    let (unit, size) =
        DURATIONS.iter().rev().find(|(_, size)| micros.is_multiple_of(*size)).expect("1us divides everything");
    format!("{}{unit}", micros / size)
}

/// Returns `bytes` as they would be written.
pub fn write_bytes(bytes: u64) -> String {
    let (unit, size) =
        SIZES.iter().rev().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size)).unwrap_or(&SIZES[0]);
    format!("{}{unit}", bytes / size)
}

/// Reads a date (its beginning, UTC) or a time with its zone.
pub fn time(text: &str) -> Result<EventTime, String> {
    let micros = match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(date) => Some(date.and_hms_opt(0, 0, 0).expect("midnight exists").and_utc().timestamp_micros()),
        Err(_) => DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros()),
    };
    micros.map(EventTime).ok_or_else(|| {
        "a time is a date such as `2026-01-31` or a date and time with its zone such as `2026-01-31T12:00:00Z`"
            .to_owned()
    })
}

/// Checks the name of a job.
pub fn job_name(name: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match (1..=63).contains(&name.len()) && name.chars().all(allowed) {
        true => Ok(()),
        false => Err("a job's name is 1 to 63 of a-z, 0-9 and `-`"),
    }
}

/// Checks the name of a source, step or sink.
pub fn part_name(name: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(allowed) {
        true => Ok(()),
        false => Err("a name begins with a letter and has at most 63 of letters, digits, `_` and `-`"),
    }
}

/// Checks the name of a column.
pub fn column_name(name: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.starts_with("__") {
        return Err("names that begin with `__` are taken");
    }
    match !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(allowed) {
        true => Ok(()),
        false => Err("a column's name is made of letters, digits and `_`, and does not begin with a digit"),
    }
}

/// Checks the name of a topic.
pub fn topic_name(name: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match (1..=200).contains(&name.len()) && !name.starts_with('.') && name.chars().all(allowed) {
        true => Ok(()),
        false => Err("a topic's name is 1 to 200 of letters, digits, `.`, `_` and `-`, and does not begin with `.`"),
    }
}

/// A piece of a text that may hold references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As written.
    Text(&'a str),
    /// `${env:NAME}`.
    Env(&'a str),
    /// `${file:PATH}`.
    File(&'a str),
}

/// Splits a text into what is written out and what is referred to. An error says what is wrong and at which byte.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, (usize, String)> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("${") {
        let start = at + found;
        if start > at {
            pieces.push(Piece::Text(&text[at..start]));
        }
        let Some(length) = text[start..].find('}') else {
            return Err((start, "the reference has no closing `}`".to_owned()));
        };
        at = start + length + 1;
        pieces.push(match text[start + 2..at - 1].split_once(':') {
            Some(("env", name)) if !name.is_empty() => Piece::Env(name),
            Some(("file", path)) if !path.is_empty() => Piece::File(path),
            _ => return Err((start, format!("`{}` is no reference", crate::fault::shorten(&text[start..at])))),
        });
    }
    if at < text.len() {
        pieces.push(Piece::Text(&text[at..]));
    }
    Ok(pieces)
}

/// Puts in what the references of `text` stand for. The values reach nothing but the connector.
pub fn resolve(text: &str) -> Result<String, String> {
    let mut out = String::new();
    for piece in pieces(text).map_err(|(_, reason)| reason)? {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Env(name) => {
                out.push_str(&std::env::var(name).map_err(|_| format!("the environment has no `{name}`"))?);
            }
            Piece::File(path) => {
                let read = std::fs::read_to_string(path).map_err(|error| format!("cannot read `{path}`: {error}"))?;
                out.push_str(read.trim_end_matches(['\r', '\n']));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_they_are_written() {
        for text in ["0s", "1us", "500ms", "5s", "90s", "30m", "25h", "7d"] {
            assert_eq!(write_duration(duration(text).unwrap()), text);
        }
        assert_eq!(write_duration(duration("24h").unwrap()), "1d");
        for text in ["1B", "3KiB", "64MiB", "1GiB", "1TiB"] {
            assert_eq!(write_bytes(bytes(text).unwrap()), text);
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "5", "s", "5 s", "-5s", "1.5h", "5S", "5min", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "64", "64MB", "64 MiB", "20000000TiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_need_their_zone() {
        assert_eq!(time("1970-01-02").unwrap(), EventTime(86_400_000_000));
        assert_eq!(time("1970-01-01T01:00:00+01:00").unwrap(), EventTime(0));
        assert!(time("1970-01-01T00:00:00").is_err());
        assert!(time("yesterday").is_err());
    }

    #[test]
    fn references_are_found_and_resolved() {
        assert_eq!(pieces("a").unwrap(), [Piece::Text("a")]);
        assert_eq!(pieces("${env:A}/x${file:b}").unwrap(), [Piece::Env("A"), Piece::Text("/x"), Piece::File("b")]);
        assert_eq!(pieces("x${vault:A}").unwrap_err().0, 1);
        assert!(pieces("${env:A").is_err() && pieces("${env:}").is_err() && pieces("${}").is_err());
        assert!(resolve("${env:RIVERRUN_TEST_IS_NOT_SET}").unwrap_err().contains("RIVERRUN_TEST_IS_NOT_SET"));
        assert_eq!(resolve("in/*.jsonl").unwrap(), "in/*.jsonl");
    }
}
