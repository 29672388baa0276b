//! Formats: bytes to rows and back, typed by a declared schema.
//!
//! [`decoder`] and [`encoder`] are the two ways in. Decoding is strict and forgiving at once: fields outside the schema are
//! ignored, missing ones are null, and a row that does not fit is set aside alone, never with its batch.

mod calendar;
mod cell;
pub mod clocks;
mod column;
pub(crate) mod csv;
mod decimal;
mod json;
pub(crate) mod parquet;
pub(crate) mod rows;
#[cfg(test)]
pub(crate) mod samples;
pub mod schema;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use riverrun_dataflow::graph::Make;
use riverrun_dataflow::sink::Encoder;
use riverrun_dataflow::source::Decoder;

pub use schema::{Column, ColumnType, RowSchema};

/// How the rows of a source are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatSpec {
    /// One JSON object per record.
    Json,
    /// Comma-separated values.
    Csv(CsvOptions),
    /// Parquet files; rows come as columns.
    Parquet,
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

/// Returns what makes decoders for rows of `schema` written in `format`, for records that stand alone.
///
/// Files are decoded by what [`crate::file::FileSource::decoder`] returns: a CSV file may have a header, which no record of a topic has.
pub fn decoder(format: &FormatSpec, schema: Arc<RowSchema>) -> Result<Make<dyn Decoder>, FormatError> {
    let header = csv::Header::default();
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
    })
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
        EncodeSpec::Csv(options) => {
            let encoder = csv::CsvEncoder::new(&schema, &options, key)?;
            Ok(Arc::new(move || Box::new(encoder.clone())))
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
