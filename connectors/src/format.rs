//! Formats: bytes to rows and back, typed by a declared schema.
//!
//! [`decoder`] and [`encoder`] are the two ways in. Decoding is strict and forgiving at once: fields outside the schema are
//! ignored, missing ones are null, and a row that does not fit is set aside alone, never with its batch.

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

/// Returns what makes decoders for rows of `schema` written in `format`.
pub fn decoder(format: &FormatSpec, schema: Arc<RowSchema>) -> Result<Make<dyn Decoder>, FormatError> {
    schema.check()?;
    match format {
        FormatSpec::Json | FormatSpec::Csv(_) | FormatSpec::Parquet => Err(FormatError("no decoder".to_owned())),
    }
}

/// Returns what makes encoders of rows of `schema`. `key`: the columns whose values are the record's key: one text column gives
/// its text, anything else its JSON, several a JSON array.
pub fn encoder(
    spec: &EncodeSpec,
    schema: SchemaRef,
    key: Option<Vec<usize>>,
) -> Result<Make<dyn Encoder>, FormatError> {
    let _ = (schema, key);
    match spec {
        EncodeSpec::Json { .. } | EncodeSpec::Csv(_) => Err(FormatError("no encoder".to_owned())),
    }
}
