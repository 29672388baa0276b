//! What surrounds the value of a record in a topic: its key, its headers, when and where it was written. All of it lies before the
//! value in the bytes of a chunk, in the layout of the source.

use riverrun_dataflow::source::{Chunk, DecodeContext, Records};

use super::FormatError;
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

/// A column that is not in the value of a record, but around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meta {
    /// The key: of a `string` column its text, of any other its JSON value.
    Key,
    /// The last header of this name, likewise.
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
    pub const WORDS: [&'static str; 4] = ["key", "timestamp", "partition", "offset"];

    /// Returns what a word stands for.
    pub fn of(word: &str) -> Option<Meta> {
        Some(match word {
            "key" => Meta::Key,
            "timestamp" => Meta::Timestamp,
            "partition" => Meta::Partition,
            "offset" => Meta::Offset,
            _ => return None,
        })
    }

    /// Checks that a column of this type can hold it.
    pub fn check(&self, name: &str, column_type: &ColumnType) -> Result<(), FormatError> {
        let (fits, wanted) = match self {
            Meta::Key | Meta::Header(_) => (true, ""),
            Meta::Timestamp => (column_type.is_timestamp(), "a timestamp"),
            Meta::Partition | Meta::Offset => (*column_type == ColumnType::Int64, "an int64"),
        };
        match fits {
            true => Ok(()),
            false => Err(FormatError(format!("column `{name}` is {column_type}, but the {self} is {wanted}"))),
        }
    }
}

impl std::fmt::Display for Meta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Meta::Key => f.write_str("key"),
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
    time_micros: Option<i64>,
    headers: &'a [u8],
    /// It has a value, if it be an empty one.
    pub has_value: bool,
}

impl Envelope {
    /// Returns what surrounds record `index`.
    pub(crate) fn around(self, records: &Records, index: usize) -> Surrounding<'_> {
        let begin = if index == 0 { 0 } else { records.ranges[index - 1].1 };
        let whole = &records.bytes[begin as usize..records.ranges[index].1 as usize];
        match self {
            Envelope::None => Surrounding { has_value: true, ..Surrounding::default() },
            Envelope::Topic => Record::parse(whole).map_or_else(Surrounding::default, |record| Surrounding {
                key: record.key,
                time_micros: Some(record.timestamp).filter(|time| *time != NO_TIME),
                headers: &[],
                // An embedded topic knows no null: what is empty stands for it.
                has_value: !record.value.is_empty(),
            }),
            Envelope::Kafka => wire::parse(whole).map_or_else(Surrounding::default, |record| Surrounding {
                key: record.key,
                time_micros: record.timestamp_ms.and_then(|time| time.checked_mul(1000)),
                headers: record.headers,
                has_value: record.has_value,
            }),
        }
    }
}

impl Surrounding<'_> {
    /// Puts what `meta` names into a new cell.
    pub fn push(
        &self,
        meta: &Meta,
        cells: &mut GrowingColumn,
        (chunk, index, context): (&Chunk, usize, &DecodeContext),
        scratch: &mut String,
    ) -> Result<(), Misfit> {
        let number = match meta {
            Meta::Key => return push_bytes(cells, self.key, scratch),
            Meta::Header(name) => {
                let last = wire::headers(self.headers).filter(|(found, _)| *found == name.as_bytes()).last();
                return push_bytes(cells, last.and_then(|(_, value)| value), scratch);
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
fn push_bytes(cells: &mut GrowingColumn, bytes: Option<&[u8]>, scratch: &mut String) -> Result<(), Misfit> {
    let Some(bytes) = bytes else {
        cells.push_null();
        return Ok(());
    };
    let text = std::str::from_utf8(bytes).map_err(|_| Misfit::Value("its bytes are not UTF-8"))?;
    match cells.column_type() {
        ColumnType::String => cells.push_text(text),
        _ => push_json_text(cells, text, scratch),
    }
}
