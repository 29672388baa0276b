//! Records with a schema, and schemas themselves: Avro and Protobuf, by themselves and as a registry names them.

use std::sync::Arc;

use riverrun_connectors::format::{FormatSpec, SchemaFile, Surroundings, WrittenBy, check_schema, decoder_in};
use riverrun_connectors::registry::{RegisteredSchema, Registry, SchemaKind};
use riverrun_dataflow::source::{Chunk, Decoder, Numbering, Payload, Records};
use riverrun_fuzz::hold::Target;

use crate::rows::{decode, schema};
use crate::{as_it_is, hold};

/// A schema whose fields are those of the columns, by types that are promoted and nested.
const AVRO: &str = r#"{"type": "record", "name": "R", "fields": [
    {"name": "id", "type": ["null", "string", {"type": "enum", "name": "E", "symbols": ["a", "b"]}]},
    {"name": "skipped", "type": {"type": "map", "values": {"type": "array", "items": ["null", "R"]}}},
    {"name": "n", "type": "int"},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": 3}},
    {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
    {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    {"name": "note", "type": ["null", "R"]},
    {"name": "list", "type": {"type": "array", "items": {"type": "array", "items": ["null", "long"]}}},
    {"name": "inner", "type": ["null", {"type": "record", "name": "I", "fields": [
        {"name": "a", "type": "null"}, {"name": "b", "type": {"type": "array", "items": "bytes"}},
        {"name": "c", "type": {"type": "map", "values": "double"}}]}]}]}"#;

const PROTOBUF: &str = r#"syntax = "proto3"; package p; import "google/protobuf/timestamp.proto";
message R {
  message L { repeated sint64 item = 1; }
  message C { string d = 1; optional string text = 2; }
  message I { uint64 a = 1; repeated bytes b = 2; C c = 3; }
  enum E { X = 0; Y = 1; }
  string id = 1; int64 n = 2; string price = 3; bool ok = 4; google.protobuf.Timestamp ts = 5; E day = 6;
  map<string, R> note = 7; repeated L list = 8; I inner = 9; repeated double other = 10;
}"#;

fn registered() -> Surroundings {
    let of = |kind, text: &str| RegisteredSchema { kind, text: text.to_owned(), references: Vec::new() };
    let known =
        [(1, of(SchemaKind::Avro, AVRO)), (2, of(SchemaKind::Protobuf, PROTOBUF)), (3, of(SchemaKind::Json, "{}"))];
    Surroundings { registry: Some(Registry::fixed(known)), ..Surroundings::default() }
}

/// Decodes the bytes as one record.
fn decode_one(decoder: &mut dyn Decoder, bytes: &[u8]) {
    let ranges = vec![(0, bytes.len() as u32)];
    let records = Records { bytes: Arc::new(bytes.to_vec()), ranges, numbering: Numbering::Ordinal };
    decode(decoder, &Chunk { from: 0, to: 1, payload: Payload::Records(records) });
}

/// Holds the decoder of records that name the schema in `head`.
fn hold_records(name: &'static str, format: &FormatSpec, head: &[u8], samples: &[&[u8]]) {
    let make = decoder_in(format, schema(), &registered()).expect("the schema fits");
    hold(&Target {
        name,
        samples: samples.iter().map(|sample| [head, *sample].concat()).collect(),
        mend: as_it_is(),
        spare: 8 << 20,
        cases: 1200,
        read: Box::new(|bytes| decode_one(make().as_mut(), bytes)),
    });
}

#[test]
fn avro_rows() {
    let whole: &[u8] = &[
        2, 2, b'a', // id: a string
        2, 2, b'k', 2, 0, 0, 0, // skipped: one key with a list of one null
        13, 4, 0x30, 0xd4, // n, price
        0x80, 0x80, 0xb8, 0xc1, 0xc4, 0xef, 0xb8, 0xb7, 0x31, // ts
        2, 0, // day, note
        2, 4, 2, 2, 0, 0, 0, // list
        2, 2, 2, b'x', 0, 2, 2, b'd', 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, // inner
    ];
    let bare: &[u8] = &[0, 0, 2, 0, 0, 2, 0, 0, 0];
    hold_records("avro-rows", &FormatSpec::Avro(WrittenBy::Registry), &[0, 0, 0, 0, 1], &[whole, bare]);
}

#[test]
fn protobuf_rows() {
    let whole: &[u8] = &[
        0, 0x0a, 1, b'a', 0x10, 7, 0x1a, 4, b'1', b'2', b'.', b'5', 0x20, 1, // which message, id, n, price, ok
        0x2a, 6, 0x08, 0x80, 0xf2, 0xd6, 0xca, 0x06, 0x30, 1, // ts, day
        0x3a, 7, 0x0a, 1, b'k', 0x12, 2, 0x10, 1, // note
        0x42, 4, 0x0a, 2, 1, 2, // list
        0x4a, 10, 0x08, 5, 0x12, 1, b'x', 0x1a, 3, 0x0a, 1, b'9', // inner
        0x52, 8, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, // other
    ];
    let nested: &[u8] = &[4, 0, 2, 0x0a, 1, b'1'];
    let format = FormatSpec::Protobuf(WrittenBy::Registry, None);
    hold_records("protobuf-rows", &format, &[0, 0, 0, 0, 2], &[whole, nested]);
}

/// Reads the bytes as a schema file.
fn hold_schema(name: &'static str, path: &'static str, samples: &[&str], format: fn(WrittenBy) -> FormatSpec) {
    hold(&Target {
        name,
        samples: samples.iter().map(|sample| sample.as_bytes().to_vec()).collect(),
        mend: as_it_is(),
        spare: 16 << 20,
        cases: 200,
        read: Box::new(move |bytes| {
            let file = SchemaFile { path: path.to_owned(), bytes: bytes.into() };
            drop(check_schema(&format(WrittenBy::File(file))));
        }),
    });
}

#[test]
fn avro_schema() {
    hold_schema(
        "avro-schema",
        "x.avsc",
        &[AVRO, r#"{"type": "record", "name": "a.B", "fields": []}"#],
        FormatSpec::Avro,
    );
}

#[test]
fn protobuf_schema() {
    let format = |written| FormatSpec::Protobuf(written, Some("p.R".to_owned()));
    hold_schema("protobuf-schema", "x.proto", &[PROTOBUF, "syntax = \"proto3\"; message R { int32 a = 1; }"], format);
}
