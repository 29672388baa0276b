//! Times as tests write them: with a date, or counted from the test's `start`.

use chrono::{DateTime, SecondsFormat};

use crate::spec::values;

/// How a time is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// RFC 3339.
    #[default]
    Absolute,
    /// `+5m`, counted from the start.
    Offset,
    /// `00:05:00`, counted from the start.
    Clock,
}

/// Why a text is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMoment {
    /// It is none.
    NotOne,
    /// It counts from a start, and there is none.
    NoStart,
}

/// Units of offsets, the longest first, in microseconds.
const UNITS: [(&str, i64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// Returns the style in which `text` is written, if it is a moment at all.
pub fn style(text: &str) -> Option<Style> {
    match () {
        () if offset(text).is_some() => Some(Style::Offset),
        () if clock(text).is_some() => Some(Style::Clock),
        () if values::time(text).is_ok() => Some(Style::Absolute),
        () => None,
    }
}

/// Reads a moment, in microseconds since 1970.
pub fn read(text: &str, start: Option<i64>) -> Result<i64, NoMoment> {
    let since = match offset(text).or_else(|| clock(text)) {
        Some(since) => since,
        None => return values::time(text).map(|time| time.0).map_err(|_| NoMoment::NotOne),
    };
    start.ok_or(NoMoment::NoStart)?.checked_add(since).ok_or(NoMoment::NotOne)
}

/// Reads `+1h30m` or `-5s`.
fn offset(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let mut sum: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let letters = &rest[digits..];
        let end = letters.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(letters.len());
        let (_, size) = UNITS.iter().find(|(unit, _)| *unit == &letters[..end])?;
        sum = sum.checked_add(number.checked_mul(*size)?)?;
        rest = &letters[end..];
    }
    (text.len() > 1).then_some(sign * sum)
}

/// Reads `00:05:00`, with a fraction or without.
fn clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let number = |text: &str, digits: std::ops::RangeInclusive<usize>| -> Option<i64> {
        (digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (hours, minutes, seconds) = (number(hours, 2..=4)?, number(minutes, 2..=2)?, number(seconds, 2..=2)?);
    let micros = match fraction {
        "" => 0,
        _ => number(&format!("{fraction:0<6}"), 6..=6)?,
    };
    let sound = parts.next().is_none() && minutes < 60 && seconds < 60;
    sound.then_some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros)
}

/// Writes a moment.
pub fn write(micros: i64, style: Style, start: Option<i64>) -> String {
    match (style, start.and_then(|start| micros.checked_sub(start))) {
        (Style::Offset, Some(since)) => write_offset(since),
        (Style::Clock, Some(since)) if since >= 0 => write_clock(since),
        _ => write_absolute(micros),
    }
}

fn write_absolute(micros: i64) -> String {
    let Some(time) = DateTime::from_timestamp_micros(micros) else { return micros.to_string() };
    let digits = match () {
        () if micros % 1_000_000 == 0 => SecondsFormat::Secs,
        () if micros % 1_000 == 0 => SecondsFormat::Millis,
        () => SecondsFormat::Micros,
    };
    time.to_rfc3339_opts(digits, true)
}

fn write_offset(since: i64) -> String {
    let mut text = String::from(if since < 0 { "-" } else { "+" });
    let mut left = since.unsigned_abs();
    for (unit, size) in UNITS {
        let size = size.unsigned_abs();
        if left >= size {
            text.push_str(&format!("{}{unit}", left / size));
            left %= size;
        }
    }
    if since == 0 {
        text.push_str("0s");
    }
    text
}

fn write_clock(since: i64) -> String {
    let (seconds, fraction) = (since / 1_000_000, since % 1_000_000);
    let whole = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match fraction {
        0 => whole,
        _ => format!("{whole}.{:06}", fraction).trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_written() {
        let start = values::time("2026-01-01T10:00:00Z").unwrap().0;
        for text in
            ["+0s", "+5m", "-5m", "+1h30m", "+2d3ms", "00:10:00", "100:00:00", "00:00:01.5", "2026-01-01T10:00:00.123Z"]
        {
            let micros = read(text, Some(start)).unwrap();
            assert_eq!(write(micros, style(text).unwrap(), Some(start)), text);
        }
        assert_eq!(read("+1m", Some(7)), Ok(60_000_007));
        assert_eq!(read("2026-01-01", None).unwrap(), start - 36_000_000_000);
    }

    #[test]
    fn what_is_no_moment_is_not_taken_for_one() {
        for text in ["", "+", "-", "5m", "+5", "+5q", "10:00", "00:61:00", "1:00:00", "yesterday", "17", "+5m "] {
            assert_eq!(read(text, Some(0)), Err(NoMoment::NotOne), "{text}");
            assert_eq!(style(text), None);
        }
        assert_eq!(read("+5m", None), Err(NoMoment::NoStart));
        assert_eq!(write(-5, Style::Clock, Some(0)), "1969-12-31T23:59:59.999995Z");
    }
}
