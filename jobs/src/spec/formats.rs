//! The format of a source or sink, and the keys that go with it.

use riverrun_connectors::format::{
    AvroSink, CsvOptions, EncodeSpec, FormatSpec, SchemaFile, Timestamps, WrittenBy, check_schema,
};

use super::parts::{refuse, word};
use super::reader::Form;
use crate::fault::{Fault, codes};

const CSV: [&str; 3] = ["header", "delimiter", "null"];

fn csv_of(form: &Form) -> CsvOptions {
    CsvOptions {
        header: form.flag("header").is_none_or(|flag| flag.value),
        delimiter: word(form, "delimiter").bytes().next().unwrap_or(b','),
        null: word(form, "null"),
    }
}

/// Returns how a source's records are written. `chosen`: its connector.
pub(super) fn source_format(form: &Form, chosen: Option<&str>, who: &str, faults: &mut Vec<Fault>) -> FormatSpec {
    let format = word(form, "format");
    let with = format!("the format `{format}`");
    if format != "csv" {
        refuse(form, &CSV, who, &with, faults);
    }
    if format != "json" {
        refuse(form, &["framing"], who, &with, faults);
    }
    if !matches!(format.as_str(), "avro" | "protobuf") {
        refuse(form, &["schema_file"], who, &with, faults);
    }
    if format != "protobuf" {
        refuse(form, &["message"], who, &with, faults);
    }
    let only_from = |place: &str, faults: &mut Vec<Fault>| {
        if let Some(other) = chosen.filter(|chosen| *chosen != place) {
            let span = form.get("format").map_or(form.span, |format| format.span);
            let message = format!("{who} reads {with} from a `{other}`");
            let hint = format!("read it from a `{place}`");
            faults.push(Fault::error(codes::DOES_NOT_FIT, span, message).hint(hint));
        }
    };
    match format.as_str() {
        "csv" => {
            let options = csv_of(form);
            if chosen == Some("topic") {
                refuse(form, &["header"], who, "`topic`, whose records are rows", faults);
            }
            FormatSpec::Csv(CsvOptions { header: options.header && chosen != Some("topic"), ..options })
        }
        "parquet" => {
            only_from("file", faults);
            FormatSpec::Parquet
        }
        "avro" => {
            only_from("topic", faults);
            checked(FormatSpec::Avro(written_by(form, who, faults)), form, who, faults)
        }
        "protobuf" => {
            only_from("topic", faults);
            let message = form.text("message").map(|message| message.value);
            checked(FormatSpec::Protobuf(written_by(form, who, faults), message), form, who, faults)
        }
        _ => FormatSpec::Json,
    }
}

/// Returns where the schema of records is: in a file, if one is named, which is read here.
fn written_by(form: &Form, who: &str, faults: &mut Vec<Fault>) -> WrittenBy {
    let Some(path) = form.text("schema_file") else { return WrittenBy::Registry };
    match SchemaFile::read(&path.value) {
        Ok(file) => WrittenBy::File(file),
        Err(reason) => {
            let message = format!("the schema file of {who} cannot be read: {reason}");
            faults.push(Fault::error(codes::BAD_SCHEMA_FILE, path.span, message));
            WrittenBy::Registry
        }
    }
}

/// Adds a fault if the schema that is at hand is none.
fn checked(format: FormatSpec, form: &Form, who: &str, faults: &mut Vec<Fault>) -> FormatSpec {
    if let (Err(error), Some(path)) = (check_schema(&format), form.text("schema_file")) {
        let reason = error.to_string();
        let mut lines = reason.lines();
        let message = format!("the schema file of {who} cannot be used: {}", lines.next().unwrap_or_default());
        let fault = Fault::error(codes::BAD_SCHEMA_FILE, path.span, message);
        faults.push(lines.fold(fault, |fault, line| match line.strip_prefix("hint: ") {
            Some(hint) => fault.hint(hint),
            None => fault.note(line),
        }));
    }
    format
}

/// Returns how a sink writes its rows.
pub(super) fn sink_format(form: &Form, chosen: Option<&str>, who: &str, faults: &mut Vec<Fault>) -> EncodeSpec {
    if chosen == Some("lake") {
        refuse(form, &["format", "timestamps"], who, "`lake`, which is Parquet", faults);
        refuse(form, &CSV, who, "`lake`, which is Parquet", faults);
        return EncodeSpec::Parquet;
    }
    match word(form, "format").as_str() {
        "csv" => {
            refuse(form, &["timestamps"], who, "the format `csv`", faults);
            if chosen == Some("topic") {
                refuse(form, &["header"], who, "`topic`, whose records are rows", faults);
            }
            let options = csv_of(form);
            EncodeSpec::Csv(CsvOptions { header: options.header && chosen != Some("topic"), ..options })
        }
        "avro" => {
            refuse(form, &[&CSV[..], &["timestamps"]].concat(), who, "the format `avro`", faults);
            if let Some(other) = chosen.filter(|chosen| *chosen != "topic") {
                let span = form.get("format").map_or(form.span, |format| format.span);
                let message = format!("{who} writes the format `avro` to a `{other}`");
                faults.push(Fault::error(codes::DOES_NOT_FIT, span, message).hint("write it to a `topic`"));
            }
            EncodeSpec::Avro(AvroSink::of(&word(form, "topic")))
        }
        other => {
            refuse(form, &CSV, who, &format!("the format `{other}`"), faults);
            let timestamps = match word(form, "timestamps").as_str() {
                "epoch_ms" => Timestamps::EpochMillis,
                _ => Timestamps::Rfc3339,
            };
            EncodeSpec::Json { timestamps }
        }
    }
}
