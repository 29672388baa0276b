//! Rows of sources: JSON and CSV records, as a topic gives them.

use std::sync::Arc;

use riverrun_connectors::format::{Column, ColumnType, CsvOptions, FormatSpec, RowSchema, decoder};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::schema::Hidden;
use riverrun_dataflow::source::{Chunk, DecodeContext, Decoded, Decoder, Numbering, Payload, Records};
use riverrun_fuzz::hold::Target;

use crate::{as_it_is, hold};

/// Records that are decoded at once: a decoder is never given more than a chunk.
const CHUNK: usize = 512;

/// A schema with every type there is.
pub(crate) fn schema() -> Arc<RowSchema> {
    let columns = [
        ("id", "string", "id"),
        ("n", "int64", "n"),
        ("price", "decimal(12,2)", "price"),
        ("amount", "float64", "price"),
        ("ok", "bool", "ok"),
        ("ts", "timestamp_ms", "ts"),
        ("at", "timestamp", "at"),
        ("day", "date", "day"),
        ("seconds", "timestamp_s", "seconds"),
        ("note", "json", "note"),
        ("list", "list<list<int64>>", "list"),
        ("inner", "struct{a: int64, b: list<string>, c: struct{d: decimal(38,10)}}", "inner"),
        ("deep", "string", "inner.c.text"),
    ];
    let column = |(name, column_type, path): &(&str, &str, &str)| {
        let (column_type, required) = ColumnType::parse(column_type).expect("a type");
        Column { required, ..Column::new(name, column_type).at(path) }
    };
    Arc::new(RowSchema {
        columns: columns.iter().map(column).collect(),
        event_time: Some("ts".into()),
        clocks: None,
        id: Some("id".into()),
        hidden: vec![Hidden::Time, Hidden::Id],
        ..RowSchema::default()
    })
}

/// Decodes a chunk and goes through what came out: every record is a row or a bad row.
pub(crate) fn decode(decoder: &mut dyn Decoder, chunk: &Chunk) {
    let context = DecodeContext { split: 7, name: "0".into(), accept: EventTime(0)..=EventTime(4_102_444_800_000_000) };
    let mut out = Decoded::default();
    decoder.decode(chunk, &context, &mut out);
    let rows: usize = out.batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows + out.bad.len(), chunk.rows(), "no row vanishes unseen");
}

/// Decodes lines, chunk by chunk.
fn decode_lines(decoder: &mut dyn Decoder, bytes: &[u8]) {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    for (number, lines) in lines.chunks(CHUNK).enumerate() {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for line in lines {
            let from = bytes.len() as u32;
            bytes.extend_from_slice(line);
            ranges.push((from, bytes.len() as u32));
        }
        let from = (number * CHUNK) as u64;
        let records = Records { bytes: Arc::new(bytes), ranges, numbering: Numbering::Ordinal };
        decode(decoder, &Chunk { from, to: from + lines.len() as u64, payload: Payload::Records(records) });
    }
}

pub(crate) const JSON: &str = r#"{"id":"a","n":-7,"price":"12.50","ok":true,"ts":1767225600000,"at":"2026-01-01T00:00:00.123Z","day":"2026-01-31"}
{"id":"b\u00e4\n","n":9223372036854775807,"price":12.5,"ok":false,"ts":1767225600001,"seconds":1767225600,"note":{"x":[1, 2, {"y":null}]}}
{"id":"c","ts":1767225600002,"list":[[1,2],[],null,[3]],"inner":{"a":1,"b":["x","y"],"c":{"d":"1.5","text":"deep"}}}
{"ts":1767225600003,"note":"\ud83d\ude00","inner":null,"unknown":[{"a":{"b":[]}}], "id" : null , "n":1}
"#;

pub(crate) const CSV: &str = r#"a,-7,12.50,true,1767225600000,2026-01-01T00:00:00.123Z,2026-01-31,,"{""x"":[1,2]}","[[1,2],[]]","{""a"":1}",x
"b, ""quoted""",1,0.01,false,1767225600001,2026-01-01T00:00:00+02:00,1969-12-31,1767225600,null,,,
,,,,1767225600002,,,,,,,
"#;

#[test]
fn json_rows() {
    let make = decoder(&FormatSpec::Json, schema()).expect("the schema fits");
    hold(&Target {
        name: "json-rows",
        samples: JSON.lines().map(|line| line.as_bytes().to_vec()).chain([JSON.as_bytes().to_vec()]).collect(),
        mend: as_it_is(),
        spare: 8 << 20,
        cases: 1200,
        read: Box::new(|bytes| decode_lines(make().as_mut(), bytes)),
    });
}

#[test]
fn csv_rows() {
    let options = CsvOptions { header: false, ..CsvOptions::default() };
    let make = decoder(&FormatSpec::Csv(options), schema()).expect("the schema fits");
    hold(&Target {
        name: "csv-rows",
        samples: CSV.lines().map(|line| line.as_bytes().to_vec()).chain([CSV.as_bytes().to_vec()]).collect(),
        mend: as_it_is(),
        spare: 8 << 20,
        cases: 1200,
        read: Box::new(|bytes| decode_lines(make().as_mut(), bytes)),
    });
}
