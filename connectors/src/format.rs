//! Formats: bytes to rows and back, typed by a declared schema.
//!
//! [`decoder`] and [`encoder`] are the two ways in. Decoding is strict and forgiving at once: fields outside the schema are
//! ignored, missing ones are null, and a row that does not fit is set aside alone, never with its batch.

mod avro;
mod calendar;
mod cell;
pub mod clocks;
mod column;
pub(crate) mod csv;
mod decimal;
mod envelope;
mod fields;
mod framing;
mod json;
pub(crate) mod parquet;
mod protobuf;
mod records;
pub(crate) mod rows;
#[cfg(test)]
pub(crate) mod samples;
pub mod schema;
mod surround;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use riverrun_dataflow::graph::Make;
use riverrun_dataflow::sink::Encoder;
use riverrun_dataflow::source::Decoder;

use avro::AvroRows;
pub use avro::AvroText;
pub(crate) use calendar::push_date;
pub use envelope::{Envelope, Meta};
pub use framing::unframed;
use records::RecordDecoder;
use rows::Rows;
pub use schema::{Column, ColumnType, RowSchema};
use surround::SurroundEncoder;
pub use surround::{OP, OpAs, SurroundSpec};

use crate::lake::LakeEncoder;
use crate::registry::Registry;

/// How the rows of a source are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatSpec {
    /// One JSON object per record.
    Json,
    /// Comma-separated values.
    Csv(CsvOptions),
    /// Parquet files; rows come as columns.
    Parquet,
    /// One Avro datum per record.
    Avro(WrittenBy),
    /// One Protobuf message per record: of this name, if one is given.
    Protobuf(WrittenBy, Option<String>),
}

impl FormatSpec {
    /// Returns whether each record names its schema by the number that it has in a registry.
    pub fn names_schemas(&self) -> bool {
        matches!(self, FormatSpec::Avro(WrittenBy::Registry) | FormatSpec::Protobuf(WrittenBy::Registry, _))
    }
}

/// Where the schema is with which records were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrittenBy {
    /// Each record names its own by the number it has in the registry of the deployment.
    Registry,
    /// All have the one in this file.
    File(SchemaFile),
}

/// A file with a schema, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFile {
    /// The path, as it is written in the job file.
    pub path: String,
    /// What is in it.
    pub bytes: Arc<[u8]>,
}

/// A schema file is smaller than this.
const SCHEMA_FILE_MAX: u64 = 16 << 20;

impl SchemaFile {
    /// Reads the file.
    pub fn read(path: &str) -> Result<SchemaFile, String> {
        let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
        if length > SCHEMA_FILE_MAX {
            return Err(format!("it has {length} bytes, and no schema is so long"));
        }
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        Ok(SchemaFile { path: path.to_owned(), bytes: bytes.into() })
    }
}

/// What a decoder may need besides the records.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Knows the schemas of records that name theirs by a number.
    pub registry: Option<Registry>,
    /// What surrounds the value of a record.
    pub envelope: Envelope,
}

/// How comma-separated values are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// The first record of a file names its columns; without it columns follow the order of the schema.
    pub header: bool,
    /// What stands between two fields.
    pub delimiter: u8,
    /// An unquoted field with this text is null.
    pub null: String,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions { header: true, delimiter: b',', null: String::new() }
    }
}

/// How the rows of a sink are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncodeSpec {
    /// One JSON object per row.
    Json {
        /// How timestamps are written.
        timestamps: Timestamps,
    },
    /// Comma-separated values.
    Csv(CsvOptions),
    /// Columns of Parquet files, which only a lake can write.
    Parquet,
    /// One Avro datum per row.
    Avro(AvroSink),
}

/// How rows are written as Avro.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvroSink {
    /// The name of the record that rows are.
    pub name: String,
    /// The number that its schema has in the registry; known once the sink is opened.
    pub id: Option<u32>,
}

impl AvroSink {
    /// Returns how rows are written to a topic.
    pub fn of(topic: &str) -> AvroSink {
        AvroSink { name: avro::encode::record_name(topic), id: None }
    }

    /// Returns the schema of rows of `schema` as they are written, without the column `op` unless that is a field.
    pub fn schema(&self, schema: &SchemaRef, surround: &SurroundSpec) -> Result<String, FormatError> {
        let written = match surround.kept(schema)? {
            Some(kept) => Arc::new(schema.project(&kept).map_err(|error| FormatError(error.to_string()))?),
            None => schema.clone(),
        };
        avro::encode::schema_of(&written, &self.name)
    }
}

/// How JSON output writes timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamps {
    /// Text such as `2026-01-01T00:00:00.123Z`.
    #[default]
    Rfc3339,
    /// Whole milliseconds since 1970-01-01T00:00:00Z.
    EpochMillis,
}

/// A schema and a format do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

/// Returns what makes decoders for rows of `schema` written in `format`, for records that stand alone and name no schema.
pub fn decoder(format: &FormatSpec, schema: Arc<RowSchema>) -> Result<Make<dyn Decoder>, FormatError> {
    decoder_in(format, schema, &Surroundings::default())
}

/// Returns what makes decoders for rows of `schema` written in `format`, for records that stand alone.
///
/// Files are decoded by what [`crate::file::FileSource::decoder`] returns: a CSV file may have a header, which no record of a topic has.
pub fn decoder_in(
    format: &FormatSpec,
    schema: Arc<RowSchema>,
    around: &Surroundings,
) -> Result<Make<dyn Decoder>, FormatError> {
    let schema = Arc::new(RowSchema { envelope: around.envelope, ..(*schema).clone() });
    let header = csv::Header::default();
    match format {
        FormatSpec::Avro(written) => {
            schema.check()?;
            return avro_decoder(written, schema, around);
        }
        FormatSpec::Protobuf(written, message) => {
            schema.check()?;
            return protobuf_decoder(written, message.as_deref(), schema, around);
        }
        _ => {}
    }
    if let FormatSpec::Csv(options) = format {
        if options.header {
            return Err(FormatError("records that stand alone have no header: set `header: false`".to_owned()));
        }
        header.set(csv::declared_names(&schema)).expect("the header is new");
    }
    file_decoder(format, schema, header)
}

/// Returns what makes decoders for rows of files whose header, if they are CSV, is `header`.
pub(crate) fn file_decoder(
    format: &FormatSpec,
    schema: Arc<RowSchema>,
    header: csv::Header,
) -> Result<Make<dyn Decoder>, FormatError> {
    schema.check()?;
    Ok(match format.clone() {
        FormatSpec::Json => Arc::new(move || Box::new(json::JsonDecoder::new(&schema))),
        FormatSpec::Csv(options) => Arc::new(move || Box::new(csv::CsvDecoder::new(&schema, &options, header.clone()))),
        FormatSpec::Parquet => Arc::new(move || Box::new(parquet::ColumnsDecoder::new(&schema))),
        FormatSpec::Avro(_) | FormatSpec::Protobuf(..) => {
            return Err(FormatError("such records are read from topics".to_owned()));
        }
    })
}

fn avro_decoder(
    written: &WrittenBy,
    schema: Arc<RowSchema>,
    around: &Surroundings,
) -> Result<Make<dyn Decoder>, FormatError> {
    let written = match written {
        WrittenBy::Registry => {
            avro::Written::Registered(around.registry.clone().ok_or_else(no_registry)?, HashMap::new())
        }
        WrittenBy::File(file) => avro::Written::Alike(Arc::new(avro::parse_alone(&file.bytes)?)),
    };
    Ok(Arc::new(move || {
        let rows = Rows::new(&schema);
        let fill = AvroRows::new(&rows, written.clone());
        Box::new(RecordDecoder::new(rows, fill))
    }))
}

fn protobuf_decoder(
    written: &WrittenBy,
    message: Option<&str>,
    schema: Arc<RowSchema>,
    around: &Surroundings,
) -> Result<Make<dyn Decoder>, FormatError> {
    let written = match written {
        WrittenBy::Registry => protobuf::Written::registered(around.registry.clone().ok_or_else(no_registry)?, message),
        WrittenBy::File(file) => protobuf::Written::Alike(protobuf::parse_alone(file, message)?),
    };
    Ok(Arc::new(move || {
        let rows = Rows::new(&schema);
        let fill = protobuf::ProtobufRows::new(&rows, written.clone());
        Box::new(RecordDecoder::new(rows, fill))
    }))
}

/// Checks the schema that comes with a format, if one does.
pub fn check_schema(format: &FormatSpec) -> Result<(), FormatError> {
    match format {
        FormatSpec::Avro(WrittenBy::File(file)) => avro::parse_alone(&file.bytes).map(drop),
        FormatSpec::Protobuf(WrittenBy::File(file), message) => {
            protobuf::parse_alone(file, message.as_deref()).map(drop)
        }
        _ => Ok(()),
    }
}

fn no_registry() -> FormatError {
    FormatError("its records name their schemas by number, and no registry is known".to_owned())
}

/// Returns the number of the registered schema that a record names, if it names one.
pub fn framed_id(record: &[u8]) -> Option<u32> {
    framing::unframed(record).map(|(id, _)| id)
}

/// Returns what makes encoders of rows of `schema` with headers, or with another form of `op`, around them. `key`: see [`encoder`].
pub fn encoder_with(
    spec: &EncodeSpec,
    schema: SchemaRef,
    key: Option<Vec<usize>>,
    surround: &SurroundSpec,
) -> Result<Make<dyn Encoder>, FormatError> {
    if *surround == SurroundSpec::default() {
        return encoder(spec, schema, key);
    }
    let kept = surround.kept(&schema)?;
    SurroundEncoder::check(surround, &schema)?;
    let at = |column: usize| match &kept {
        None => Some(column),
        Some(kept) => kept.iter().position(|index| *index == column),
    };
    let of_key = |column| {
        at(column).ok_or_else(|| FormatError(format!("its key is made of `{OP}`, which is no field any more")))
    };
    let key = key.map(|key| key.into_iter().map(of_key).collect::<Result<Vec<_>, _>>()).transpose()?;
    let inner_schema = match &kept {
        Some(kept) => Arc::new(schema.project(kept).map_err(|error| FormatError(error.to_string()))?),
        None => schema,
    };
    let inner = encoder(spec, inner_schema, key)?;
    let timestamps = match spec {
        EncodeSpec::Json { timestamps } => *timestamps,
        _ => Timestamps::Rfc3339,
    };
    let surround = surround.clone();
    Ok(Arc::new(move || Box::new(SurroundEncoder::new(inner(), surround.clone(), kept.clone(), timestamps))))
}

/// Returns what makes encoders of rows of `schema`. `key`: the columns whose values are the record's key. One text column gives
/// its text, one other column its JSON value, several a JSON array; a null alone gives an empty key.
pub fn encoder(
    spec: &EncodeSpec,
    schema: SchemaRef,
    key: Option<Vec<usize>>,
) -> Result<Make<dyn Encoder>, FormatError> {
    match spec.clone() {
        EncodeSpec::Json { timestamps } => {
            let encoder = json::JsonEncoder::new(&schema, timestamps, key)?;
            Ok(Arc::new(move || Box::new(encoder.clone())))
        }
        EncodeSpec::Avro(AvroSink { name, id }) => {
            let encoder = avro::encode::AvroEncoder::new(&schema, &name, id, key)?;
            Ok(Arc::new(move || Box::new(encoder.clone())))
        }
        EncodeSpec::Csv(options) => {
            let encoder = csv::CsvEncoder::new(&schema, &options, key)?;
            Ok(Arc::new(move || Box::new(encoder.clone())))
        }
        EncodeSpec::Parquet => {
            LakeEncoder::new(&schema)?;
            Ok(Arc::new(move || Box::new(LakeEncoder::new(&schema).expect("it was just tried"))))
        }
    }
}

/// Returns what a file of such rows begins with, line end included: the header of a CSV file.
pub fn preamble(spec: &EncodeSpec, schema: &SchemaRef) -> Vec<u8> {
    match spec {
        EncodeSpec::Csv(options) if options.header => {
            let mut line = csv::header_line(schema, options);
            line.push(b'\n');
            line
        }
        _ => Vec::new(),
    }
}
