//! Values of rows that come and rows that are expected, in one form in which they can be compared.

use arrow::datatypes::{DataType, Field};
use riverrun_connectors::format::schema::is_json;

use super::moment::{self, NoMoment, Style};
use super::rows::Cell;

/// A value. What is equal as the column's type sees it is equal here: `1.50` and `1.5` as decimals, two spellings of a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Null.
    Null,
    /// True or false.
    Bool(bool),
    /// A point in time, in microseconds since 1970.
    Time(i64),
    /// A whole number or a decimal, without idle zeros.
    Number(String),
    /// A floating number, as its bits; both zeros are one.
    Float(u64),
    /// A text.
    Text(String),
    /// A list, an object or any JSON, its keys in order.
    Json(String),
    /// What was expected is no value of the column: it equals nothing.
    Unfit(String),
}

/// What a column holds, as far as comparing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Truth values.
    Bool,
    /// Times, written as text or as milliseconds.
    Time,
    /// Whole numbers and decimals.
    Number,
    /// Floating numbers.
    Float,
    /// Texts.
    Text,
    /// Lists, objects, JSON.
    Json,
}

/// A column of a stream.
#[derive(Clone, Debug)]
pub struct ColumnOf {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub holds: Holds,
}

impl ColumnOf {
    /// Returns the column of an Arrow field.
    pub fn of(field: &Field) -> ColumnOf {
        let holds = match field.data_type() {
            DataType::Boolean => Holds::Bool,
            DataType::Timestamp(..) => Holds::Time,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Holds::Float,
            data_type if data_type.is_integer() => Holds::Number,
            DataType::Decimal128(..) => Holds::Number,
            DataType::List(_) | DataType::Struct(_) => Holds::Json,
            _ if is_json(field) => Holds::Json,
            _ => Holds::Text,
        };
        ColumnOf { name: field.name().clone(), holds }
    }
}

/// Returns the value of a cell of a table. `Err`: it counts from a start, and there is none.
pub fn of_cell(holds: Holds, cell: &Cell, start: Option<i64>) -> Result<Value, NoMoment> {
    let (word, quoted) = match cell {
        Cell::Null => return Ok(Value::Null),
        Cell::Text(text) => (text.as_str(), true),
        Cell::Word(word) => (word.as_str(), false),
    };
    Ok(match holds {
        Holds::Text => Value::Text(word.to_owned()),
        Holds::Json if quoted => Value::Json(serde_json::Value::String(word.to_owned()).to_string()),
        Holds::Json => json(word),
        Holds::Time => return time(word, start),
        Holds::Bool => match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => Value::Unfit(word.to_owned()),
        },
        Holds::Number => number(word).unwrap_or_else(|| Value::Unfit(word.to_owned())),
        Holds::Float => float(word).unwrap_or_else(|| Value::Unfit(word.to_owned())),
    })
}

/// Returns the value that the JSON text `raw` stands for; in what is expected, times may count from `start`.
pub fn of_json(holds: Holds, raw: &str, start: Option<i64>) -> Result<Value, NoMoment> {
    if raw == "null" {
        return Ok(Value::Null);
    }
    let text: Option<String> = raw.starts_with('"').then(|| serde_json::from_str(raw).ok()).flatten();
    Ok(match (holds, text) {
        (Holds::Json, _) => json(raw),
        (Holds::Time, Some(text)) => return time(&text, start),
        (Holds::Time, None) => match raw.parse::<i64>() {
            Ok(millis) => Value::Time(millis.saturating_mul(1000)),
            Err(_) => Value::Unfit(raw.to_owned()),
        },
        (Holds::Text | Holds::Number | Holds::Float, Some(text)) => Value::Text(text),
        (Holds::Bool, None) => match raw {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => Value::Unfit(raw.to_owned()),
        },
        (Holds::Number, None) => number(raw).unwrap_or_else(|| Value::Unfit(raw.to_owned())),
        (Holds::Float, None) => float(raw).unwrap_or_else(|| Value::Unfit(raw.to_owned())),
        (Holds::Text | Holds::Bool, _) => Value::Unfit(raw.to_owned()),
    })
}

fn time(word: &str, start: Option<i64>) -> Result<Value, NoMoment> {
    match moment::read(word, start) {
        Ok(micros) => Ok(Value::Time(micros)),
        Err(NoMoment::NoStart) => Err(NoMoment::NoStart),
        // A bare number counts milliseconds, as `epoch_ms` does.
        Err(NoMoment::NotOne) => Ok(match word.parse::<i64>() {
            Ok(millis) => Value::Time(millis.saturating_mul(1000)),
            Err(_) => Value::Unfit(word.to_owned()),
        }),
    }
}

fn json(text: &str) -> Value {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => Value::Json(value.to_string()),
        Err(_) => Value::Unfit(text.to_owned()),
    }
}

/// Takes idle zeros off a whole number or a decimal.
fn number(text: &str) -> Option<Value> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    let text = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
    Some(Value::Number(if text == "0" { text } else { format!("{sign}{text}") }))
}

fn float(text: &str) -> Option<Value> {
    let value: f64 = text.parse().ok()?;
    Some(Value::Float(if value == 0.0 { 0 } else { value.to_bits() }))
}

impl Value {
    /// Returns the value as a cell of a table.
    pub fn show(&self, style: Style, start: Option<i64>) -> String {
        match self {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Time(micros) => moment::write(*micros, style, start),
            Value::Number(text) | Value::Json(text) | Value::Unfit(text) => text.clone(),
            Value::Float(bits) => f64::from_bits(*bits).to_string(),
            Value::Text(text) => show_text(text),
        }
    }

    /// Returns the value as JSON.
    pub fn show_json(&self, style: Style, start: Option<i64>) -> String {
        match self {
            Value::Text(text) | Value::Unfit(text) => quoted(text),
            Value::Time(_) => quoted(&self.show(style, start)),
            _ => self.show(style, start),
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// Writes a text bare where it reads back as it is.
fn show_text(text: &str) -> String {
    let begins_otherwise = text.starts_with(['"', '{', '[', '#', '|']) || text.starts_with("raw:");
    let bare = !text.is_empty() && text == text.trim() && text != "null" && !begins_otherwise;
    let plain = bare && !text.contains('|') && !text.contains(char::is_control);
    if plain { text.to_owned() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_equal_as_their_column_sees_it() {
        let cell = |holds, word: &str| of_cell(holds, &Cell::Word(word.into()), Some(0)).unwrap();
        let came = |holds, raw: &str| of_json(holds, raw, None).unwrap();
        for (holds, word, raw) in [
            (Holds::Number, "10", "10.00"),
            (Holds::Number, "-0.50", "-0.5"),
            (Holds::Number, "0", "-0.00"),
            (Holds::Float, "0.10", "0.1"),
            (Holds::Time, "+5m", "\"1970-01-01T00:05:00.000Z\""),
            (Holds::Time, "300000", "300000"),
            (Holds::Text, "a b", "\"a b\""),
            (Holds::Bool, "true", "true"),
            (Holds::Json, "{\"b\": 1, \"a\": [2]}", "{\"a\":[2],\"b\":1}"),
            (Holds::Text, "2026-01-31", "\"2026-01-31\""),
        ] {
            assert_eq!(cell(holds, word), came(holds, raw), "{word}");
        }
        for (holds, word, raw) in [(Holds::Number, "1", "2"), (Holds::Number, "x", "1"), (Holds::Text, "1", "null")] {
            assert_ne!(cell(holds, word), came(holds, raw), "{word}");
        }
        assert_eq!(of_cell(Holds::Time, &Cell::Word("+1s".into()), None), Err(NoMoment::NoStart));
    }

    #[test]
    fn texts_are_shown_so_that_they_read_back() {
        for text in ["a b", "", " a", "null", "a|b", "\"", "{", "#x", "raw: x", "a\nb", "|"] {
            let shown = Value::Text(text.into()).show(Style::Absolute, None);
            let at = crate::yaml::Span { text: 0, start: 0, end: shown.len() };
            let line = super::super::rows::Placed { text: &shown, at };
            assert!(super::super::rows::record(&shown).is_none() && !shown.starts_with('#'), "{shown}");
            let cells = super::super::rows::cells(line);
            let [cell] = cells.as_slice() else { panic!("{shown} is one cell") };
            assert_eq!(of_cell(Holds::Text, &cell.value, None).unwrap(), Value::Text(text.into()), "{shown}");
        }
    }
}
