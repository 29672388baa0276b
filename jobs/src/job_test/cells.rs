//! From cells to the records that a source would bring: JSON objects or CSV, for the real decoder to decode.
//!
//! A cell that is no value of its column becomes a value that is none either: what the decoder makes of it, a bad row, is
//! what would have come of it in a file.

use riverrun_connectors::format::{Column, ColumnType, CsvOptions};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

use super::moment::{self, NoMoment};
use super::rows::Cell;

/// A value as a record has it.
enum Encoded {
    /// None.
    Null,
    /// Literally so: a number, `true`, an object.
    Bare(String),
    /// As a text.
    Text(String),
}

fn encode(column_type: &ColumnType, cell: &Cell, start: Option<i64>) -> Result<Encoded, NoMoment> {
    let word = match cell {
        Cell::Null => return Ok(Encoded::Null),
        Cell::Text(text) => return Ok(Encoded::Text(text.clone())),
        Cell::Word(word) => word,
    };
    let bare_if = |sound: bool| if sound { Encoded::Bare(word.clone()) } else { Encoded::Text(word.clone()) };
    Ok(match column_type {
        ColumnType::String | ColumnType::Date => Encoded::Text(word.clone()),
        ColumnType::Bool => bare_if(matches!(word.as_str(), "true" | "false")),
        ColumnType::Int64 | ColumnType::Float64 | ColumnType::Decimal { .. } => {
            bare_if(serde_json::from_str::<serde_json::Number>(word).is_ok())
        }
        ColumnType::Json | ColumnType::List(_) | ColumnType::Struct(_) => {
            bare_if(serde_json::from_str::<&RawValue>(word).is_ok())
        }
        ColumnType::Timestamp
        | ColumnType::TimestampSeconds
        | ColumnType::TimestampMillis
        | ColumnType::TimestampMicros => match moment::read(word, start) {
            Ok(micros) => encode_time(column_type, micros),
            Err(NoMoment::NoStart) => return Err(NoMoment::NoStart),
            Err(NoMoment::NotOne) => bare_if(word.parse::<i64>().is_ok()),
        },
    })
}

fn encode_time(column_type: &ColumnType, micros: i64) -> Encoded {
    match column_type {
        ColumnType::TimestampSeconds => Encoded::Bare(micros.div_euclid(1_000_000).to_string()),
        ColumnType::TimestampMillis => Encoded::Bare(micros.div_euclid(1_000).to_string()),
        ColumnType::TimestampMicros => Encoded::Bare(micros.to_string()),
        _ => Encoded::Text(moment::write(micros, moment::Style::Absolute, None)),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// An object in the making: nested columns stand in objects of their own.
#[derive(Default)]
struct Object(Vec<(String, Member)>);

enum Member {
    Value(String),
    Object(Object),
}

impl Object {
    fn put(&mut self, path: &[String], value: String) {
        let Some((name, below)) = path.split_first() else { return };
        let at = self.0.iter().position(|(known, _)| known == name);
        match (below, at) {
            ([], Some(at)) => self.0[at].1 = Member::Value(value),
            ([], None) => self.0.push((name.clone(), Member::Value(value))),
            (below, Some(at)) => match &mut self.0[at].1 {
                Member::Object(inner) => inner.put(below, value),
                Member::Value(_) => {}
            },
            (below, None) => {
                let mut inner = Object::default();
                inner.put(below, value);
                self.0.push((name.clone(), Member::Object(inner)));
            }
        }
    }

    fn write(&self) -> String {
        let member = |(name, member): &(String, Member)| match member {
            Member::Value(value) => format!("{}:{value}", quoted(name)),
            Member::Object(inner) => format!("{}:{}", quoted(name), inner.write()),
        };
        format!("{{{}}}", self.0.iter().map(member).collect::<Vec<_>>().join(","))
    }
}

/// Returns the JSON object of a row: `cells` are those of `columns`.
pub fn json_record<'c>(
    cells: impl IntoIterator<Item = (&'c Column, &'c Cell)>,
    start: Option<i64>,
) -> Result<String, NoMoment> {
    let mut object = Object::default();
    for (column, cell) in cells {
        match encode(&column.column_type, cell, start)? {
            Encoded::Null => {}
            Encoded::Bare(text) => object.put(&column.path, text),
            Encoded::Text(text) => object.put(&column.path, quoted(&text)),
        }
    }
    Ok(object.write())
}

/// Returns the CSV record of a row: a field for each of `columns`, of which `cell` gives the cells.
pub fn csv_record<'c>(
    columns: &[Column],
    cell: impl Fn(&str) -> Option<&'c Cell>,
    options: &CsvOptions,
    start: Option<i64>,
) -> Result<String, NoMoment> {
    let mut fields = Vec::new();
    let mut paths: Vec<&[String]> = Vec::new();
    for column in columns {
        // Columns at one path are one field.
        if paths.contains(&column.path.as_slice()) {
            continue;
        }
        paths.push(&column.path);
        let encoded = encode(&column.column_type, cell(&column.name).unwrap_or(&Cell::Null), start)?;
        let delimiter = char::from(options.delimiter);
        let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        fields.push(match encoded {
            Encoded::Null => options.null.clone(),
            Encoded::Bare(text) | Encoded::Text(text)
                if text == options.null || text.contains(['"', '\r', '\n', delimiter]) =>
            {
                quote(&text)
            }
            Encoded::Bare(text) | Encoded::Text(text) => text,
        });
    }
    Ok(fields.join(&char::from(options.delimiter).to_string()))
}

/// Returns a JSON record in which times that count from `start` stand as their column has them.
///
/// A record without such times stays as it is, to the byte.
pub fn with_moments(record: &str, columns: &[Column], start: Option<i64>) -> Result<String, NoMoment> {
    let mut record = record.to_owned();
    for column in columns.iter().filter(|column| column.column_type.is_timestamp()) {
        if let Some(changed) = with_moment(&record, &column.path, &column.column_type, start)? {
            record = changed;
        }
    }
    Ok(record)
}

fn with_moment(
    record: &str,
    path: &[String],
    column_type: &ColumnType,
    start: Option<i64>,
) -> Result<Option<String>, NoMoment> {
    let Some((name, below)) = path.split_first() else { return Ok(None) };
    let Ok(mut members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(record) else { return Ok(None) };
    let Some(value) = members.get(name) else { return Ok(None) };
    let changed = if below.is_empty() {
        let Ok(text) = serde_json::from_str::<String>(value.get()) else { return Ok(None) };
        match moment::style(&text) {
            None | Some(moment::Style::Absolute) => return Ok(None),
            Some(_) => match encode_time(column_type, moment::read(&text, start)?) {
                Encoded::Text(text) => quoted(&text),
                Encoded::Bare(text) => text,
                Encoded::Null => return Ok(None),
            },
        }
    } else {
        match with_moment(value.get(), below, column_type, start)? {
            Some(changed) => changed,
            None => return Ok(None),
        }
    };
    let Ok(changed) = serde_json::from_str::<&RawValue>(&changed) else { return Ok(None) };
    members.insert(name.clone(), changed);
    Ok(serde_json::to_string(&members).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        let column = |name: &str, text: &str| Column::new(name, ColumnType::parse(text).unwrap().0);
        vec![
            column("id", "string"),
            column("n", "int64").at("deep.n"),
            column("m", "decimal(12,2)").at("deep.m"),
            column("ts", "timestamp_ms"),
            column("at", "timestamp"),
            column("extra", "json"),
        ]
    }

    fn record(words: [&str; 6]) -> String {
        let cells = words.map(|word| if word.is_empty() { Cell::Null } else { Cell::Word(word.to_owned()) });
        json_record(columns().iter().zip(&cells), Some(0)).unwrap()
    }

    #[test]
    fn cells_become_json_by_the_type_of_their_column() {
        assert_eq!(
            record(["a b", "7", "1.50", "+1s", "+1s", "[1]"]),
            r#"{"id":"a b","deep":{"n":7,"m":1.50},"ts":1000,"at":"1970-01-01T00:00:01Z","extra":[1]}"#
        );
        assert_eq!(record(["", "many", "", "never", "", "x"]), r#"{"deep":{"n":"many"},"ts":"never","extra":"x"}"#);
        assert_eq!(
            json_record(columns().iter().skip(3).zip(&[Cell::Word("+1s".into())]), None),
            Err(NoMoment::NoStart)
        );
    }

    #[test]
    fn cells_become_csv_in_the_order_of_the_schema() {
        let cells = [("id", Cell::Text("a,\"b".into())), ("ts", Cell::Word("+1s".into()))];
        let find = |name: &str| cells.iter().find(|(known, _)| *known == name).map(|(_, cell)| cell);
        let line = csv_record(&columns(), find, &CsvOptions::default(), Some(0)).unwrap();
        assert_eq!(line, "\"a,\"\"b\",,,1000,,");
    }

    #[test]
    fn records_keep_their_bytes_but_for_moments() {
        let same = r#"{"ts": 5,  "deep": {"m": 1.50}, "id": "+1s"}"#;
        assert_eq!(with_moments(same, &columns(), Some(0)).unwrap(), same);
        assert_eq!(with_moments("no json", &columns(), Some(0)).unwrap(), "no json");
        let moved = with_moments(r#"{"ts": "+1s", "id": "+1s", "deep": {"m": 1.50}}"#, &columns(), Some(0)).unwrap();
        assert_eq!(moved, r#"{"deep":{"m": 1.50},"id":"+1s","ts":1000}"#);
    }
}
