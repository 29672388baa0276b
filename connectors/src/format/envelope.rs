//! What surrounds the value of a record in a topic: its key, its headers, when and where it was written. All of it lies before the
//! value in the bytes of a chunk, in the layout of the source.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use riverrun_dataflow::source::{Chunk, DecodeContext, Records};

use super::FormatError;
use super::cell::push_escaped;
use super::column::{GrowingColumn, Misfit};
use super::json::push_json_text;
use super::schema::ColumnType;
use crate::kafka::wire;
use crate::topic::{NO_TIME, Record};

/// How records lie in the chunks of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Envelope {
    /// There is nothing around them.
    #[default]
    None,
    /// As in embedded topics: time and key.
    Topic,
    /// As in Kafka: time, key and headers.
    Kafka,
}

/// A column that is not in the value of a record, but around it, or the value as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meta {
    /// The key: of a `string` column its text, of any other its JSON value.
    Key,
    /// The key in base64 if it is no text; [`Meta::Key`] of the same source is null then, where it would be a misfit otherwise.
    KeyBase64,
    /// The whole value as it came, likewise.
    Value,
    /// The whole value in base64 if it is no text, likewise.
    ValueBase64,
    /// All headers in their order, as a list of objects: `name`, and `value` or, if that is no text, `value_base64`.
    Headers,
    /// The last header of this name: of a `string` column its text, of any other its JSON value.
    Header(String),
    /// The time that it carries.
    Timestamp,
    /// The number of its partition.
    Partition,
    /// Its offset.
    Offset,
}

impl Meta {
    /// The words for all but headers.
    pub const WORDS: [&'static str; 8] =
        ["key", "key_base64", "value", "value_base64", "headers", "timestamp", "partition", "offset"];

    /// Returns what a word stands for.
    pub fn of(word: &str) -> Option<Meta> {
        Some(match word {
            "key" => Meta::Key,
            "key_base64" => Meta::KeyBase64,
            "value" => Meta::Value,
            "value_base64" => Meta::ValueBase64,
            "headers" => Meta::Headers,
            "timestamp" => Meta::Timestamp,
            "partition" => Meta::Partition,
            "offset" => Meta::Offset,
            _ => return None,
        })
    }

    /// Checks that a column of this type can hold it.
    pub fn check(&self, name: &str, column_type: &ColumnType) -> Result<(), FormatError> {
        let (fits, wanted) = match self {
            Meta::Key | Meta::Value | Meta::Header(_) => (true, ""),
            Meta::KeyBase64 | Meta::ValueBase64 => (*column_type == ColumnType::String, "a string"),
            Meta::Headers => (matches!(column_type, ColumnType::Json | ColumnType::List(_)), "json or a list"),
            Meta::Timestamp => (column_type.is_timestamp(), "a timestamp"),
            Meta::Partition | Meta::Offset => (*column_type == ColumnType::Int64, "an int64"),
        };
        match fits {
            true => Ok(()),
            false => {
                let are = if *self == Meta::Headers { "are" } else { "is" };
                Err(FormatError(format!("column `{name}` is {column_type}, but the {self} {are} {wanted}")))
            }
        }
    }

    /// Returns the column that has it, beside this one, where it is no text.
    pub(crate) fn in_base64(&self) -> Option<Meta> {
        match self {
            Meta::Key => Some(Meta::KeyBase64),
            Meta::Value => Some(Meta::ValueBase64),
            _ => None,
        }
    }
}

/// What becomes of a key or a value that is no text, in a column of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoText {
    /// It does not fit.
    Misfit,
    /// Null: another column has it.
    Null,
}

impl std::fmt::Display for Meta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Meta::Key => f.write_str("key"),
            Meta::KeyBase64 => f.write_str("key_base64"),
            Meta::Value => f.write_str("value"),
            Meta::ValueBase64 => f.write_str("value_base64"),
            Meta::Headers => f.write_str("headers"),
            Meta::Header(name) => write!(f, "header {name}"),
            Meta::Timestamp => f.write_str("timestamp"),
            Meta::Partition => f.write_str("partition"),
            Meta::Offset => f.write_str("offset"),
        }
    }
}

/// What surrounds a record.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Surrounding<'a> {
    key: Option<&'a [u8]>,
    value: &'a [u8],
    time_micros: Option<i64>,
    headers: &'a [u8],
    /// It has a value, if it be an empty one.
    pub has_value: bool,
}

impl Envelope {
    /// Returns what surrounds record `index`.
    pub(crate) fn around(self, records: &Records, index: usize) -> Surrounding<'_> {
        let begin = if index == 0 { 0 } else { records.ranges[index - 1].1 };
        let (value_begin, end) = records.ranges[index];
        let whole = &records.bytes[begin as usize..end as usize];
        let bare = Surrounding { value: &records.bytes[value_begin as usize..end as usize], ..Surrounding::default() };
        match self {
            Envelope::None => Surrounding { has_value: true, ..bare },
            Envelope::Topic => Record::parse(whole).map_or(bare, |record| Surrounding {
                key: record.key,
                time_micros: Some(record.timestamp).filter(|time| *time != NO_TIME),
                // An embedded topic knows no null: what is empty stands for it.
                has_value: !record.value.is_empty(),
                ..bare
            }),
            Envelope::Kafka => wire::parse(whole).map_or(bare, |record| Surrounding {
                key: record.key,
                time_micros: record.timestamp_ms.and_then(|time| time.checked_mul(1000)),
                headers: record.headers,
                has_value: record.has_value,
                ..bare
            }),
        }
    }
}

impl Surrounding<'_> {
    /// Puts what `meta` names into a new cell.
    pub fn push(
        &self,
        (meta, no_text): (&Meta, NoText),
        cells: &mut GrowingColumn,
        (chunk, index, context): (&Chunk, usize, &DecodeContext),
        scratch: &mut String,
    ) -> Result<(), Misfit> {
        let value = Some(self.value).filter(|_| self.has_value);
        let number = match meta {
            Meta::Key => return push_bytes(cells, self.key, no_text, scratch),
            Meta::Value => return push_bytes(cells, value, no_text, scratch),
            Meta::KeyBase64 => return push_base64(cells, self.key),
            Meta::ValueBase64 => return push_base64(cells, value),
            Meta::Header(name) => {
                let last = wire::headers(self.headers).filter(|(found, _)| *found == name.as_bytes()).last();
                return push_bytes(cells, last.and_then(|(_, value)| value), no_text, scratch);
            }
            Meta::Headers => {
                let listed = (!self.headers.is_empty()).then(|| listed(self.headers));
                return push_bytes(cells, listed.as_deref(), no_text, scratch);
            }
            Meta::Timestamp => match self.time_micros {
                Some(micros) => return cells.push_time(micros, 6),
                None => None,
            },
            Meta::Partition => context.name.parse().ok(),
            Meta::Offset => i64::try_from(chunk.position(index)).ok(),
        };
        match number {
            Some(number) => cells.push_integer(number),
            None => {
                cells.push_null();
                Ok(())
            }
        }
    }
}

/// Appends bytes as what a sink writes into keys: text, or a JSON value.
fn push_bytes(
    cells: &mut GrowingColumn,
    bytes: Option<&[u8]>,
    no_text: NoText,
    scratch: &mut String,
) -> Result<(), Misfit> {
    let text = match bytes.map(std::str::from_utf8) {
        Some(Ok(text)) => text,
        Some(Err(_)) if no_text == NoText::Misfit => return Err(Misfit::Value("its bytes are not UTF-8")),
        Some(Err(_)) | None => {
            cells.push_null();
            return Ok(());
        }
    };
    match cells.column_type() {
        ColumnType::String => cells.push_text(text),
        _ => push_json_text(cells, text, scratch),
    }
}

/// Appends bytes that are no text, in base64.
fn push_base64(cells: &mut GrowingColumn, bytes: Option<&[u8]>) -> Result<(), Misfit> {
    match bytes.filter(|bytes| std::str::from_utf8(bytes).is_err()) {
        Some(bytes) => cells.push_text(&STANDARD.encode(bytes)),
        None => {
            cells.push_null();
            Ok(())
        }
    }
}

/// Returns headers as a JSON list of objects.
fn listed(headers: &[u8]) -> Vec<u8> {
    let mut out = vec![b'['];
    for (name, value) in wire::headers(headers) {
        out.extend_from_slice(if out.len() > 1 { b",{\"name\":" } else { b"{\"name\":" });
        push_escaped(&mut out, &String::from_utf8_lossy(name));
        match value.map(|value| std::str::from_utf8(value).map_err(|_| value)) {
            None => {}
            Some(Ok(text)) => {
                out.extend_from_slice(b",\"value\":");
                push_escaped(&mut out, text);
            }
            Some(Err(bytes)) => {
                out.extend_from_slice(b",\"value_base64\":");
                push_escaped(&mut out, &STANDARD.encode(bytes));
            }
        }
        out.push(b'}');
    }
    out.push(b']');
    out
}
