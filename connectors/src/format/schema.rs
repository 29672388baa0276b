//! The declared schema of a source: its columns, their types, and where each is found in a record.

use std::collections::HashMap;
use std::fmt;

use arrow::datatypes::{DataType, Field, Fields, SchemaRef, TimeUnit};
use riverrun_dataflow::schema::{Hidden, is_hidden, with_hidden};

use super::FormatError;
use super::clocks::Clocks;
use super::envelope::{Envelope, Meta};

/// The type of a column, as a job file writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// `string`: UTF-8 text.
    String,
    /// `bool`.
    Bool,
    /// `int64`.
    Int64,
    /// `float64`.
    Float64,
    /// `decimal(precision,scale)`: exact.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: i8,
    },
    /// `timestamp`: RFC 3339 text, in microseconds.
    Timestamp,
    /// `timestamp_s`: whole seconds since the epoch.
    TimestampSeconds,
    /// `timestamp_ms`: whole milliseconds since the epoch.
    TimestampMillis,
    /// `timestamp_us`: whole microseconds since the epoch.
    TimestampMicros,
    /// `date`: text such as `2026-01-31`.
    Date,
    /// `json`: any JSON value, kept as compact JSON text.
    Json,
    /// `list<T>`.
    List(Box<ColumnType>),
    /// `struct{name: T, ...}`.
    Struct(Vec<(String, ColumnType)>),
}

/// Types as the message for an unknown one lists them.
const TYPES: &str = "string, bool, int64, float64, decimal(precision,scale), timestamp (RFC 3339), timestamp_s, \
    timestamp_ms, timestamp_us, date, json, list<T>, struct{name: T, ...}";
/// Names with which a mistyped one is compared.
const NAMES: [&str; 13] = [
    "string",
    "bool",
    "int64",
    "float64",
    "decimal",
    "timestamp",
    "timestamp_s",
    "timestamp_ms",
    "timestamp_us",
    "date",
    "json",
    "list",
    "struct",
];
/// What other systems call our types.
const FOREIGN: [(&str, &str); 25] = [
    ("text", "string"),
    ("str", "string"),
    ("utf8", "string"),
    ("varchar", "string"),
    ("uuid", "string"),
    ("boolean", "bool"),
    ("int", "int64"),
    ("integer", "int64"),
    ("bigint", "int64"),
    ("long", "int64"),
    ("int32", "int64"),
    ("uint64", "int64"),
    ("i64", "int64"),
    ("number", "float64"),
    ("float", "float64"),
    ("double", "float64"),
    ("float32", "float64"),
    ("f64", "float64"),
    ("real", "float64"),
    ("numeric", "decimal"),
    ("datetime", "timestamp"),
    ("time", "timestamp"),
    ("object", "struct"),
    ("array", "list"),
    ("any", "json"),
];
/// Types may stand this deep in each other.
const DEPTH_MAX: usize = 16;
/// The metadata that marks a text column as JSON: Arrow's own name for it.
const EXTENSION: (&str, &str) = ("ARROW:extension:name", "arrow.json");

impl ColumnType {
    /// Parses a type, and whether a trailing `!` makes its column required.
    pub fn parse(text: &str) -> Result<(ColumnType, bool), String> {
        let trimmed = text.trim();
        let (body, required) = match trimmed.strip_suffix('!') {
            Some(body) => (body, true),
            None => (trimmed, false),
        };
        let mut parser = Parser { whole: trimmed, rest: body };
        let column_type = parser.column_type(0)?;
        parser.skip_blanks();
        if !parser.rest.is_empty() {
            return Err(parser.unexpected("the end"));
        }
        Ok((column_type, required))
    }

    /// Returns the Arrow type in which the column's values are held.
    pub fn arrow(&self) -> DataType {
        match self {
            ColumnType::String | ColumnType::Json => DataType::Utf8,
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Int64 => DataType::Int64,
            ColumnType::Float64 => DataType::Float64,
            ColumnType::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            ColumnType::Timestamp | ColumnType::TimestampMicros => DataType::Timestamp(TimeUnit::Microsecond, None),
            ColumnType::TimestampSeconds => DataType::Timestamp(TimeUnit::Second, None),
            ColumnType::TimestampMillis => DataType::Timestamp(TimeUnit::Millisecond, None),
            ColumnType::Date => DataType::Date32,
            ColumnType::List(item) => DataType::List(item.field("item", true).into()),
            ColumnType::Struct(fields) => DataType::Struct(struct_fields(fields)),
        }
    }

    /// Returns an Arrow field of this type; that of a `json` column is marked as such.
    pub fn field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.arrow(), nullable);
        if *self != ColumnType::Json {
            return field;
        }
        field.with_metadata(HashMap::from([(EXTENSION.0.to_owned(), EXTENSION.1.to_owned())]))
    }

    /// Returns whether the type is one of the timestamps.
    pub fn is_timestamp(&self) -> bool {
        use ColumnType::{Timestamp, TimestampMicros, TimestampMillis, TimestampSeconds};
        matches!(self, Timestamp | TimestampSeconds | TimestampMillis | TimestampMicros)
    }
}

/// Returns whether `field` holds JSON text, to be written as it stands.
pub fn is_json(field: &Field) -> bool {
    field.metadata().get(EXTENSION.0).is_some_and(|name| name == EXTENSION.1)
}

fn struct_fields(fields: &[(String, ColumnType)]) -> Fields {
    fields.iter().map(|(name, column_type)| column_type.field(name, true)).collect()
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::String => f.write_str("string"),
            ColumnType::Bool => f.write_str("bool"),
            ColumnType::Int64 => f.write_str("int64"),
            ColumnType::Float64 => f.write_str("float64"),
            ColumnType::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            ColumnType::Timestamp => f.write_str("timestamp"),
            ColumnType::TimestampSeconds => f.write_str("timestamp_s"),
            ColumnType::TimestampMillis => f.write_str("timestamp_ms"),
            ColumnType::TimestampMicros => f.write_str("timestamp_us"),
            ColumnType::Date => f.write_str("date"),
            ColumnType::Json => f.write_str("json"),
            ColumnType::List(item) => write!(f, "list<{item}>"),
            ColumnType::Struct(fields) => {
                f.write_str("struct{")?;
                for (i, (name, column_type)) in fields.iter().enumerate() {
                    write!(f, "{}{name}: {column_type}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// A column of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Where it is found in a record, from the outermost field inwards.
    pub path: Vec<String>,
    /// Its type.
    pub column_type: ColumnType,
    /// A row without a value for it is bad.
    pub required: bool,
    /// It is not in the value of a record, but around it.
    pub meta: Option<Meta>,
}

impl Column {
    /// Returns a column that is found under its own name.
    pub fn new(name: &str, column_type: ColumnType) -> Column {
        Column { name: name.to_owned(), path: vec![name.to_owned()], column_type, required: false, meta: None }
    }

    /// Returns the column, found at `path`, in which dots separate the levels.
    pub fn at(self, path: &str) -> Column {
        Column { path: path.split('.').map(str::to_owned).collect(), ..self }
    }

    /// Returns the column, found around the value of a record.
    pub fn around(self, meta: Meta) -> Column {
        Column { meta: Some(meta), ..self }
    }

    /// Returns the column, made required.
    pub fn required(self) -> Column {
        Column { required: true, ..self }
    }
}

/// What a source's rows look like, and what of it is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSchema {
    /// All declared columns.
    pub columns: Vec<Column>,
    /// The column that holds event time; a row without it is bad.
    pub event_time: Option<String>,
    /// How event time is found in a row whose record has none.
    pub clocks: Option<Clocks>,
    /// The column that names a row.
    pub id: Option<String>,
    /// The hidden columns that are wanted.
    pub hidden: Vec<Hidden>,
    /// The columns in use; `None`: all. Only these appear in batches. Event time and id are decoded for their hidden
    /// columns in any case, and required columns are checked for presence.
    pub projected: Option<Vec<String>>,
    /// What surrounds records where they come from.
    pub envelope: Envelope,
    /// Records that say that their key is gone are left out.
    pub drop_tombstones: bool,
    /// The number of a registered schema may stand before a record of JSON.
    pub framed: bool,
}

impl RowSchema {
    /// Returns the schema of decoded batches: the columns in use in declared order, then the hidden ones.
    pub fn arrow(&self) -> SchemaRef {
        let visible: Vec<Field> =
            self.used().map(|column| column.column_type.field(&column.name, !column.required)).collect();
        with_hidden(&visible, &self.hidden)
    }

    /// Returns the columns in use, in declared order.
    pub fn used(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| self.is_used(&column.name))
    }

    /// Returns whether the column `name` appears in batches.
    pub fn is_used(&self, name: &str) -> bool {
        self.projected.as_ref().is_none_or(|names| names.iter().any(|n| n == name))
    }

    /// Returns whether the values of `column` are decoded: it is in use, or event time or id follow from it.
    pub(super) fn is_decoded(&self, column: &Column) -> bool {
        let is = |name: &Option<String>| name.as_ref() == Some(&column.name);
        let is_clock = || self.clocks.as_ref().is_some_and(|clocks| clocks.times().any(|name| *name == column.name));
        let is_id = || is(&self.id) && self.hidden.contains(&Hidden::Id);
        self.is_used(&column.name) || is(&self.event_time) || is_id() || is_clock()
    }

    /// Returns whether `column` is event time that is found by clocks where a record does not have it.
    pub(super) fn is_found_by_clocks(&self, column: &Column) -> bool {
        self.clocks.is_some() && self.event_time.as_ref() == Some(&column.name)
    }

    /// Returns a column without which every row would be bad, if `has` has it not.
    pub(super) fn lacking(&self, has: impl Fn(&Column) -> bool) -> Option<&Column> {
        let tells = |name: &String| self.column(name).is_some_and(&has);
        let told = self.clocks.as_ref().is_some_and(|clocks| tells(&clocks.client) || tells(&clocks.received));
        let is_time = |column: &Column| self.event_time.as_ref() == Some(&column.name);
        let needed = |column: &&Column| if is_time(column) { !told } else { column.required };
        self.columns.iter().filter(needed).find(|column| !has(column))
    }

    /// Returns the declared column `name`.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Checks what any format needs: names that are free and used once, an event time that is one, an id that is text.
    pub fn check(&self) -> Result<(), FormatError> {
        for (i, column) in self.columns.iter().enumerate() {
            let name = &column.name;
            if is_hidden(name) || name.is_empty() {
                return Err(FormatError(format!("`{name}` is no column name: names starting with `__` are reserved")));
            }
            if self.columns[..i].iter().any(|other| other.name == *name) {
                return Err(FormatError(format!("column `{name}` is declared twice")));
            }
            if column.path.is_empty() || column.path.iter().any(String::is_empty) {
                return Err(FormatError(format!("the path of column `{name}` has an empty part")));
            }
            if let Some(meta) = &column.meta {
                meta.check(name, &column.column_type)?;
            }
        }
        self.check_event_time()?;
        self.check_id()?;
        if let Some(clocks) = &self.clocks {
            clocks.check(self)?;
        }
        match self.hidden.contains(&Hidden::Hash) {
            true => Err(FormatError("a source has no key, hence no key hash".to_owned())),
            false => Ok(()),
        }
    }

    fn check_event_time(&self) -> Result<(), FormatError> {
        let Some(name) = &self.event_time else {
            return match self.hidden.contains(&Hidden::Time) {
                true => Err(FormatError("the source names no `event_time`".to_owned())),
                false => Ok(()),
            };
        };
        match self.column(name) {
            Some(column) if column.column_type.is_timestamp() => Ok(()),
            Some(column) => {
                Err(FormatError(format!("event time `{name}` is a {}, not a timestamp", column.column_type)))
            }
            None => Err(FormatError(format!("event time `{name}` is not a column of the schema"))),
        }
    }

    fn check_id(&self) -> Result<(), FormatError> {
        let Some(name) = &self.id else { return Ok(()) };
        match self.column(name).map(|column| &column.column_type) {
            Some(ColumnType::String | ColumnType::Int64) => Ok(()),
            Some(other) => Err(FormatError(format!("id `{name}` is a {other}; an id is a string or an int64"))),
            None => Err(FormatError(format!("id `{name}` is not a column of the schema"))),
        }
    }
}

struct Parser<'a> {
    whole: &'a str,
    rest: &'a str,
}

impl Parser<'_> {
    fn column_type(&mut self, depth: usize) -> Result<ColumnType, String> {
        if depth > DEPTH_MAX {
            return Err(format!("the type is nested more than {DEPTH_MAX} deep"));
        }
        let name = self.word().to_lowercase();
        let column_type = match name.as_str() {
            "string" => ColumnType::String,
            "bool" => ColumnType::Bool,
            "int64" => ColumnType::Int64,
            "float64" => ColumnType::Float64,
            "decimal" => return self.decimal(),
            "timestamp" => ColumnType::Timestamp,
            "timestamp_s" => ColumnType::TimestampSeconds,
            "timestamp_ms" => ColumnType::TimestampMillis,
            "timestamp_us" => ColumnType::TimestampMicros,
            "date" => ColumnType::Date,
            "json" => ColumnType::Json,
            "list" => {
                self.expect('<')?;
                let item = self.column_type(depth + 1)?;
                self.expect('>')?;
                ColumnType::List(Box::new(item))
            }
            "struct" => ColumnType::Struct(self.fields(depth)?),
            _ => return Err(unknown(&name)),
        };
        Ok(column_type)
    }

    fn decimal(&mut self) -> Result<ColumnType, String> {
        let wrong = || "a decimal is written `decimal(precision,scale)` with 1 to 38 digits, such as decimal(12,2)";
        if self.expect('(').is_err() {
            return Err(wrong().to_owned());
        }
        let precision = self.word().parse::<u8>().map_err(|_| wrong())?;
        self.expect(',').map_err(|_| wrong())?;
        let scale = self.word().parse::<i8>().map_err(|_| wrong())?;
        self.expect(')').map_err(|_| wrong())?;
        if !(1..=38).contains(&precision) || i16::from(scale) > i16::from(precision) || scale < 0 {
            return Err(wrong().to_owned());
        }
        Ok(ColumnType::Decimal { precision, scale })
    }

    fn fields(&mut self, depth: usize) -> Result<Vec<(String, ColumnType)>, String> {
        self.expect('{')?;
        let mut fields: Vec<(String, ColumnType)> = Vec::new();
        loop {
            let name = self.word().to_owned();
            if name.is_empty() {
                return Err(self.unexpected("a field's name"));
            }
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(format!("the struct has two fields `{name}`"));
            }
            self.expect(':')?;
            fields.push((name, self.column_type(depth + 1)?));
            self.skip_blanks();
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => break,
            }
        }
        self.expect('}')?;
        Ok(fields)
    }

    fn word(&mut self) -> &str {
        self.skip_blanks();
        let length = self.rest.find(|c: char| !c.is_alphanumeric() && !"_-$@".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        word
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        self.skip_blanks();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.unexpected(&format!("`{wanted}`"))),
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn unexpected(&self, wanted: &str) -> String {
        match self.rest.chars().next() {
            Some(found) => format!("`{}`: found `{found}` where {wanted} should be", self.whole),
            None => format!("`{}` ends where {wanted} should be", self.whole),
        }
    }
}

fn unknown(name: &str) -> String {
    let foreign = FOREIGN.iter().find(|(other, _)| *other == name).map(|(_, ours)| *ours);
    let similar = || {
        let scored = NAMES.iter().map(|ours| (strsim::jaro_winkler(name, ours), *ours));
        scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, ours)| ours)
    };
    match foreign.or_else(similar) {
        Some(ours) => format!("unknown type `{name}`; did you mean `{ours}`? types are {TYPES}"),
        None => format!("unknown type `{name}`; types are {TYPES}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_written_as_it_is_read() {
        let all = "struct{a: list<string>, b: decimal(12,2), c: struct{d: timestamp, e: timestamp_s}, f: bool, g: int64, \
            h: float64, i: timestamp_ms, j: timestamp_us, k: date, l: json}";
        for text in [all, "string", "decimal(38,38)", "list<list<int64>>"] {
            let (parsed, required) = ColumnType::parse(text).unwrap();
            assert_eq!((parsed.to_string().as_str(), required), (text, false));
            assert_eq!(ColumnType::parse(&format!(" {text}! ")).unwrap(), (parsed, true));
        }
    }

    #[test]
    fn a_wrong_type_is_told_with_a_way_out() {
        for (text, says) in [
            ("strng", "did you mean `string`"),
            ("bigint", "did you mean `int64`"),
            ("timestamp_ns", "did you mean `timestamp"),
            ("qqq", "types are string, bool"),
            ("", "unknown type ``"),
            ("decimal", "decimal(precision,scale)"),
            ("decimal(39,1)", "1 to 38 digits"),
            ("decimal(3,4)", "1 to 38 digits"),
            ("decimal(3,-1)", "1 to 38 digits"),
            ("list<int64", "ends where `>` should be"),
            ("struct{a int64}", "found `i` where `:` should be"),
            ("struct{}", "found `}` where a field's name should be"),
            ("struct{a: int64, a: bool}", "two fields `a`"),
            ("int64 int64", "found `i` where the end should be"),
        ] {
            let message = ColumnType::parse(text).unwrap_err();
            assert!(message.contains(says), "{text}: {message}");
        }
        assert!(ColumnType::parse(&"list<".repeat(100_000)).is_err());
    }

    #[test]
    fn only_columns_in_use_appear_with_the_hidden_ones_after_them() {
        let schema = RowSchema {
            columns: vec![
                Column::new("a", ColumnType::Int64),
                Column::new("ts", ColumnType::TimestampMillis),
                Column::new("j", ColumnType::Json).required(),
            ],
            event_time: Some("ts".to_owned()),
            clocks: None,
            id: Some("a".to_owned()),
            hidden: vec![Hidden::Position, Hidden::Time],
            projected: Some(vec!["j".to_owned(), "a".to_owned()]),
            ..RowSchema::default()
        };
        schema.check().unwrap();
        let arrow = schema.arrow();
        let names: Vec<&str> = arrow.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["a", "j", "__time", "__position"]);
        assert!(is_json(arrow.field(1)) && !arrow.field(1).is_nullable() && !is_json(arrow.field(0)));
    }

    #[test]
    fn a_schema_that_cannot_work_is_refused() {
        let column = || Column::new("a", ColumnType::Bool);
        let bad = |columns: Vec<Column>, event_time: Option<&str>, id: Option<&str>| {
            let (event_time, id) = (event_time.map(str::to_owned), id.map(str::to_owned));
            RowSchema { columns, event_time, id, ..RowSchema::default() }.check().unwrap_err().0
        };
        assert!(bad(vec![column(), column()], None, None).contains("twice"));
        assert!(bad(vec![Column::new("__a", ColumnType::Bool)], None, None).contains("reserved"));
        assert!(bad(vec![column().at("x..y")], None, None).contains("empty part"));
        assert!(bad(vec![column()], Some("a"), None).contains("not a timestamp"));
        assert!(bad(vec![column()], Some("b"), None).contains("not a column"));
        assert!(bad(vec![column()], None, Some("a")).contains("string or an int64"));
    }
}
