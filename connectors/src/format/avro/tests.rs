//! Records made by hand, byte by byte, as the specification writes them; the end to end tests read what other libraries write.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::json;

use super::super::records::RecordDecoder;
use super::super::rows::Rows;
use super::super::samples::{codes, decode, schema, values};
use super::*;
use crate::registry::RegisteredSchema;

/// Returns a record schema of fields written as `name: type`, where the type is JSON.
fn written(fields: &[(&str, &str)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, of)| format!(r#"{{"name": "{name}", "type": {of}}}"#)).collect();
    format!(r#"{{"type": "record", "name": "R", "fields": [{}]}}"#, fields.join(", "))
}

fn alike(columns: &[&str], written: &str) -> RecordDecoder<AvroRows> {
    let rows = Rows::new(&schema(columns));
    let fill = AvroRows::new(&rows, Written::Alike(Arc::new(AvroSchema::parse(written, &[]).unwrap())));
    RecordDecoder::new(rows, fill)
}

/// Decodes one record and returns it as a JSON value, or what is wrong with it.
fn one(columns: &[&str], fields: &[(&str, &str)], record: &[u8]) -> Result<serde_json::Value, String> {
    let decoded = decode(&mut alike(columns, &written(fields)), &[record]);
    match decoded.bad.first() {
        Some(bad) => Err(format!("{}: {}", bad.code, bad.reason)),
        None => Ok(values(&decoded).remove(0)),
    }
}

fn long(value: i64) -> Vec<u8> {
    let mut left = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
    let mut out = Vec::new();
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
    out
}

fn text(text: &str) -> Vec<u8> {
    [long(text.len() as i64), text.as_bytes().to_vec()].concat()
}

#[test]
fn types_become_columns_as_the_specification_promotes_them() {
    let fields = |of| [("x", of)];
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#;
    let fixed = r#"{"type": "fixed", "name": "F", "size": 3, "logicalType": "decimal", "precision": 6, "scale": 1}"#;
    let colour = r#"{"type": "enum", "name": "E", "symbols": ["red", "blue"]}"#;
    let millis = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;
    let nanos = r#"{"type": "long", "logicalType": "timestamp-nanos"}"#;
    let local = r#"{"type": "long", "logicalType": "local-timestamp-micros"}"#;
    let date = r#"{"type": "int", "logicalType": "date"}"#;
    let uuid = r#"{"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}"#;
    let sixteen: Vec<u8> = (0..16).collect();
    for (column, of, record, value) in [
        ("x: bool", "\"boolean\"", vec![1], json!(true)),
        ("x: int64", "\"int\"", long(-7), json!(-7)),
        ("x: int64", "\"long\"", long(i64::MIN), json!(i64::MIN)),
        ("x: float64", "\"int\"", long(3), json!(3.0)),
        ("x: float64", "\"float\"", 1.5_f32.to_le_bytes().to_vec(), json!(1.5)),
        ("x: float64", "\"double\"", 0.1_f64.to_le_bytes().to_vec(), json!(0.1)),
        ("x: float64", "\"double\"", f64::NAN.to_le_bytes().to_vec(), json!(null)),
        ("x: decimal(9,2)", "\"long\"", long(12), json!(12.00)),
        ("x: decimal(9,2)", decimal, vec![4, 0x04, 0xe2], json!(12.50)),
        ("x: decimal(9,3)", decimal, vec![2, 0xff], json!(-0.010)),
        ("x: decimal(9,2)", fixed, vec![0xff, 0xff, 0x85], json!(-12.30)),
        ("x: decimal(9,2)", "\"string\"", text("1.5"), json!(1.50)),
        ("x: string", "\"string\"", text("käse"), json!("käse")),
        ("x: string", "\"bytes\"", text("käse"), json!("käse")),
        ("x: string", colour, long(1), json!("blue")),
        ("x: string", uuid, sixteen, json!("00010203-0405-0607-0809-0a0b0c0d0e0f")),
        ("x: timestamp_ms", millis, long(1_767_225_600_123), json!("2026-01-01T00:00:00.123Z")),
        ("x: timestamp", millis, long(-1), json!("1969-12-31T23:59:59.999000Z")),
        ("x: timestamp_s", millis, long(-1), json!("1969-12-31T23:59:59Z")),
        ("x: timestamp_us", nanos, long(1_999), json!("1970-01-01T00:00:00.000001Z")),
        ("x: timestamp_ms", local, long(5_000), json!("1970-01-01T00:00:00.005Z")),
        ("x: timestamp_ms", "\"long\"", long(5), json!("1970-01-01T00:00:00.005Z")),
        ("x: int64", millis, long(5), json!(5)),
        ("x: timestamp", "\"string\"", text("2026-01-01T00:00:00Z"), json!("2026-01-01T00:00:00.000000Z")),
        ("x: date", date, long(1), json!("1970-01-02")),
        ("x: date", "\"string\"", text("2026-01-31"), json!("2026-01-31")),
        ("x: string", "[\"null\", \"string\"]", vec![0], json!(null)),
        ("x: string", "[\"null\", \"string\"]", vec![2, 2, b'a'], json!("a")),
        ("x: float64", "[\"int\", \"double\"]", vec![0, 4], json!(2.0)),
    ] {
        assert_eq!(one(&[column], &fields(of), &record).map(|row| row["x"].clone()), Ok(value), "{column} of {of}");
    }
}

#[test]
fn what_does_not_fit_is_a_bad_row_that_says_why() {
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#;
    let wide = [vec![34, 1], vec![0; 16]].concat();
    for (column, of, record, says) in [
        ("x: int64", "\"string\"", text("1"), "type: column `x` is int64, found a string"),
        ("x: string", "\"long\"", long(1), "type: column `x` is string, found a long"),
        ("x: int64", "\"double\"", vec![0; 8], "type: column `x` is int64, found a double"),
        ("x: bool", "\"int\"", long(1), "found an int"),
        ("x: date", "\"int\"", long(1), "found an int"),
        ("x: timestamp", "\"long\"", long(1), "found a long"),
        ("x: string", "\"bytes\"", vec![2, 0xff], "not UTF-8"),
        ("x: string", decimal, vec![2, 1], "found a decimal"),
        ("x: decimal(9,1)", decimal, vec![2, 1], "too many digits after the point"),
        ("x: decimal(9,2)", decimal, wide, "too many digits"),
        ("x: string!", "[\"null\", \"string\"]", vec![0], "missing: column `x` is required"),
        ("x: string", "\"string\"", vec![10, b'a'], "malformed: it ends within a value"),
        ("x: string", "\"string\"", vec![1], "malformed: a length is negative"),
        ("x: string", "\"string\"", vec![2, 0xff], "malformed: a string is not UTF-8"),
        ("x: int64", "\"int\"", long(1 << 40), "malformed: an int has more than 32 bits"),
        ("x: bool", "\"boolean\"", vec![2], "malformed: a boolean"),
        ("x: string", "[\"null\", \"string\"]", vec![4], "malformed: branch 2 is named, of which there are 2"),
        ("x: int64", "\"int\"", vec![2, 2], "malformed: 1 bytes follow"),
        ("x: string @ x.y", "\"int\"", long(1), "`x.y` leads through an int"),
    ] {
        let error = one(&[column], &[("x", of)], &record).unwrap_err();
        assert!(error.contains(says), "{column} of {of}: {error}");
    }
}

#[test]
fn nested_values_become_lists_structs_and_json() {
    let item = r#"{"type": "record", "name": "I", "fields": [{"name": "sku", "type": "string"}, {"name": "extra", "type": "bytes"}, {"name": "n", "type": "int"}]}"#;
    let (items, tags) = (format!(r#"{{"type": "array", "items": {item}}}"#), r#"{"type": "map", "values": "int"}"#);
    let fields = [("items", items.as_str()), ("tags", tags), ("inner", "[\"null\", \"I\"]")];
    let record = [
        // Two items, in blocks of which one says its length in bytes.
        long(1),
        text("a"),
        vec![0],
        long(1),
        long(-1),
        long(5),
        text("b"),
        vec![2, 7],
        long(2),
        long(0),
        long(2),
        text("x"),
        long(1),
        text("y"),
        long(2),
        long(0),
        vec![2],
        text("c"),
        vec![0],
        long(3),
    ]
    .concat();
    let columns = [
        "items: list<struct{n: int64, sku: string, other: string}>",
        "tags: list<struct{key: string, value: int64}>",
        "y: int64 @ tags.y",
        "z: int64 @ tags.z",
        "sku: string @ inner.sku",
        "all: json @ items",
        "map: json @ tags",
        "inner: json",
    ];
    let row = one(&columns, &fields, &record).unwrap();
    let expected = json!({
        "items": [{"n": 1, "sku": "a", "other": null}, {"n": 2, "sku": "b", "other": null}],
        "tags": [{"key": "x", "value": 1}, {"key": "y", "value": 2}],
        "y": 2, "z": null, "sku": "c",
        "all": [{"sku": "a", "extra": "", "n": 1}, {"sku": "b", "extra": "Bw==", "n": 2}],
        "map": {"x": 1, "y": 2},
        "inner": {"sku": "c", "extra": "", "n": 3},
    });
    assert_eq!(row, expected);
    // A path through null is null.
    let short = [long(0), long(0), vec![0]].concat();
    let row = one(&columns, &fields, &short).unwrap();
    assert_eq!((&row["sku"], &row["inner"], &row["items"]), (&json!(null), &json!(null), &json!([])));
}

/// A list that breaks off leaves nothing behind, neither in its own row nor in the next.
#[test]
fn a_bad_record_never_spoils_its_batch() {
    let fields = [("list", r#"{"type": "array", "items": "string"}"#), ("n", "\"int\"")];
    let good = |n: i64| [long(2), text("a"), text("b"), long(0), long(n)].concat();
    let broken = [long(2), text("a"), long(70)].concat();
    let records = [good(1), broken.clone(), good(2), broken, good(3)];
    let decoded = decode(&mut alike(&["list: list<string>", "n: int64"], &written(&fields)), &records);
    assert_eq!(codes(&decoded), ["malformed", "malformed"]);
    let rows = values(&decoded);
    assert_eq!(rows, [1, 2, 3].map(|n| json!({"list": ["a", "b"], "n": n})));
}

#[test]
fn records_name_their_schemas_and_versions_stand_side_by_side() {
    let first = written(&[("id", "\"string\""), ("n", "\"int\"")]);
    let second = written(&[("note", "\"string\""), ("n", "[\"null\", \"long\"]"), ("id", "\"string\"")]);
    let avro = |text: &str| RegisteredSchema { kind: SchemaKind::Avro, text: text.to_owned(), references: Vec::new() };
    let proto = RegisteredSchema { kind: SchemaKind::Protobuf, ..avro("syntax = \"proto3\";") };
    let known = [(1, avro(&first)), (2, avro(&second)), (3, avro("\"int\"")), (4, avro("{")), (5, proto)];
    let rows = Rows::new(&schema(&["id: string", "n: int64", "note: string"]));
    let fill = AvroRows::new(&rows, Written::Registered(Registry::fixed(known), HashMap::new()));
    let frame = |id: u8, datum: Vec<u8>| [vec![0, 0, 0, 0, id], datum].concat();
    let records = [
        frame(1, [text("a"), long(1)].concat()),
        frame(2, [text("new"), vec![2, 4], text("b")].concat()),
        frame(9, vec![]),
        frame(3, vec![2]),
        frame(4, vec![]),
        frame(5, vec![]),
        b"{}".to_vec(),
        vec![],
        frame(1, [text("c"), long(3)].concat()),
    ];
    let decoded = decode(&mut RecordDecoder::new(rows, fill), &records);
    assert_eq!(
        values(&decoded),
        [
            json!({"id": "a", "n": 1, "note": null}),
            json!({"id": "b", "n": 2, "note": "new"}),
            json!({"id": "c", "n": 3, "note": null})
        ]
    );
    let unknown = "unknown_schema";
    assert_eq!(codes(&decoded), [unknown, unknown, unknown, unknown, "malformed", "malformed"]);
    for (bad, says) in decoded.bad.iter().zip(["no schema 9", "not a record", "no JSON", "no AVRO", "0x7b", "empty"]) {
        assert!(bad.reason.contains(says), "{}", bad.reason);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(record in proptest::collection::vec(any::<u8>(), 0..60)) {
        let fields = [
            ("a", r#"["null", "string", {"type": "array", "items": ["null", "R"]}]"#),
            ("b", r#"{"type": "map", "values": {"type": "bytes", "logicalType": "decimal", "precision": 50}}"#),
            ("c", r#"{"type": "long", "logicalType": "timestamp-nanos"}"#),
        ];
        let columns = ["a: json", "b: list<struct{key: string, value: decimal(38,0)}>", "c: timestamp"];
        let decoded = decode(&mut alike(&columns, &written(&fields)), &[record]);
        prop_assert_eq!(decoded.bad.len() + decoded.batches.len(), 1);
    }
}

/// What is written is read back, by the schema that is registered for it.
#[test]
fn what_is_written_reads_back_the_same() {
    let columns = [
        "a: string!",
        "b: bool",
        "c: int64",
        "d: float64",
        "e: decimal(38,9)",
        "f: timestamp",
        "g: timestamp_ms",
        "h: date",
        "i: list<decimal(9,2)>",
        "j: struct{x: int64, y: list<struct{z: string}>}",
    ];
    let records = [
        r#"{"a":"käse","b":true,"c":-9223372036854775808,"d":0.1,"e":-0.000000001,"f":"2026-01-01T00:00:00.123456Z","g":1767225600123,"h":"1969-12-31","i":[1.28,-1.28,null],"j":{"x":1,"y":[{"z":"q"},{"z":null}]}}"#,
        r#"{"a":"","b":false,"c":127,"d":-1e300,"e":99999999999999999999999999999.999999999,"i":[],"j":{}}"#,
        r#"{"a":"nulls"}"#,
    ];
    let mut from_json = crate::format::json::JsonDecoder::new(&schema(&columns));
    let decoded = decode(&mut from_json, &records);
    assert!(decoded.bad.is_empty(), "{:?}", decoded.bad);
    let batch = &decoded.batches[0];
    let text = encode::schema_of(&batch.schema(), "Row").unwrap();
    let mut encoded = riverrun_dataflow::sink::EncodedRows::default();
    let mut encoder = encode::AvroEncoder::new(&batch.schema(), "Row", Some(258), Some(vec![0])).unwrap();
    riverrun_dataflow::sink::Encoder::encode(&mut encoder, batch, &mut encoded).unwrap();
    let records: Vec<&[u8]> = (0..encoded.len()).map(|row| encoded.key_value(row).1).collect();
    assert_eq!((encoded.key_value(0).0, &records[0][..5]), (Some("käse".as_bytes()), &[0, 0, 0, 1, 2][..]));
    let known = RegisteredSchema { kind: SchemaKind::Avro, text, references: Vec::new() };
    let rows = Rows::new(&schema(&columns));
    let fill = AvroRows::new(&rows, Written::Registered(Registry::fixed([(258, known)]), HashMap::new()));
    let back = decode(&mut RecordDecoder::new(rows, fill), &records);
    assert!(back.bad.is_empty(), "{:?}", back.bad);
    assert_eq!(back.batches, decoded.batches);
}

#[test]
fn what_avro_cannot_hold_is_refused() {
    let fields = |name: &str, of: arrow::datatypes::DataType| {
        Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(name, of, true)]))
    };
    let binary = encode::schema_of(&fields("x", arrow::datatypes::DataType::Binary), "R").unwrap_err();
    assert!(binary.0.contains("which Avro does not have"), "{binary}");
    let name = encode::schema_of(&fields("a-b", arrow::datatypes::DataType::Utf8), "R").unwrap_err();
    assert!(name.0.contains("`a-b` cannot be"), "{name}");
    assert_eq!(encode::record_name("1.orders-v1"), "_1_orders_v1");
}

#[test]
fn a_record_that_would_become_a_huge_text_is_bad() {
    let long_name = "x".repeat(100_000);
    let colour =
        format!(r#"{{"type": "array", "items": {{"type": "enum", "name": "E", "symbols": ["{long_name}"]}}}}"#);
    let named = format!(
        r#"{{"type": "array", "items": {{"type": "record", "name": "Item", "fields": [{{"name": "{long_name}", "type": "null"}}]}}}}"#
    );
    for (of, item) in [(colour, &[0_u8][..]), (named, &[])] {
        let record = [long(50_000), item.repeat(50_000), long(0)].concat();
        let bad = one(&["x: json"], &[("x", &of)], &record).unwrap_err();
        assert!(bad.contains("longer than 16 MiB"), "{bad}");
    }
}
