use std::sync::Arc;

use riverrun_dataflow::source::{Chunk, Decoded, Numbering, Payload, Records};

use super::super::json::{JsonDecoder, JsonEncoder};
use super::super::samples::{anything, codes, decode, schema, values};
use super::super::{EncodeSpec, Envelope, Meta, RowSchema, encoder_with};
use super::*;
use crate::format::{Column, ColumnType};

fn rows() -> RecordBatch {
    let columns = ["op: string", "id: string", "n: int64", "trace: string"];
    let records = [
        r#"{"op":"+","id":"a","n":1,"trace":"t1"}"#,
        r#"{"op":"-","id":"a","n":1,"trace":null}"#,
        r#"{"op":null,"id":"b","n":null,"trace":"t3"}"#,
    ];
    decode(&mut JsonDecoder::new(&schema(&columns)), &records).batches.remove(0)
}

/// Encodes the rows and returns of each: key, headers, whether it is a tombstone, value.
fn encoded(spec: &SurroundSpec, key: Option<Vec<usize>>) -> Vec<(String, String, bool, String)> {
    let batch = rows();
    let json = EncodeSpec::Json { timestamps: Timestamps::default() };
    let make = encoder_with(&json, batch.schema(), key, spec).unwrap();
    let mut out = EncodedRows::default();
    make().encode(&batch, &mut out).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let of = |row: usize| {
        let ((key, value), surround) = (out.key_value(row), out.surround(row));
        let header = |(name, value): (&str, Option<&[u8]>)| format!("{name}={}", text(value.unwrap()));
        let headers: Vec<String> = surround.headers().map(header).collect();
        (text(key.unwrap_or_default()), headers.join(","), surround.is_tombstone(), text(value))
    };
    (0..out.len()).map(of).collect()
}

fn row(key: &str, headers: &str, gone: bool, value: &str) -> (String, String, bool, String) {
    (key.into(), headers.into(), gone, value.into())
}

#[test]
fn a_row_that_is_taken_back_is_its_key_without_a_value() {
    let spec = SurroundSpec { headers: Vec::new(), op: OpAs::Tombstone };
    let expected = [
        row("a", "", false, r#"{"id":"a","n":1,"trace":"t1"}"#),
        row("a", "", true, ""),
        row("b", "", false, r#"{"id":"b","n":null,"trace":"t3"}"#),
    ];
    assert_eq!(encoded(&spec, Some(vec![1])), expected);
}

#[test]
fn columns_become_headers_and_op_one_of_them() {
    let spec = SurroundSpec { headers: vec![("x-trace".into(), 3), ("n".into(), 2)], op: OpAs::Header };
    let expected = [
        row("", "op=+,x-trace=t1,n=1", false, r#"{"id":"a","n":1,"trace":"t1"}"#),
        row("", "op=-,n=1", false, r#"{"id":"a","n":1,"trace":null}"#),
        row("", "x-trace=t3", false, r#"{"id":"b","n":null,"trace":"t3"}"#),
    ];
    assert_eq!(encoded(&spec, None), expected);
    // Without any of that, nothing stands between key and value.
    let plain = encoded(&SurroundSpec::default(), Some(vec![1]));
    assert_eq!(plain[1], row("a", "", false, r#"{"op":"-","id":"a","n":1,"trace":null}"#));
}

#[test]
fn op_must_be_there_and_be_text() {
    let json = EncodeSpec::Json { timestamps: Timestamps::default() };
    let spec = SurroundSpec { headers: Vec::new(), op: OpAs::Header };
    let refused = |columns: &[&str], key| {
        encoder_with(&json, schema(columns).arrow(), key, &spec).err().expect("it is refused").0
    };
    assert!(refused(&["id: string"], None).contains("no column `op`"));
    assert!(refused(&["op: int64", "id: string"], None).contains("of text"));
    assert!(refused(&["op: string"], None).contains("besides `op`"));
    assert!(refused(&["op: string", "id: string"], Some(vec![0])).contains("key is made of `op`"));
    assert!(JsonEncoder::new(&schema(&["op: string"]).arrow(), Timestamps::default(), None).is_ok());
}

/// Key, headers and value of a record.
type Written<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], Option<&'a str>);

/// A chunk of records as a partition of Kafka gives them.
fn partition(records: &[Written<'_>]) -> Chunk {
    let mut written = Vec::new();
    for (key, headers, value) in records {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, Some(value.as_bytes()))).collect();
        written.push((key.map(str::as_bytes), headers, value.map(str::as_bytes)));
    }
    partition_of(&written)
}

/// The same of bytes.
type Bytes<'a> = (Option<&'a [u8]>, Vec<(&'a str, Option<&'a [u8]>)>, Option<&'a [u8]>);

fn partition_of(records: &[Bytes<'_>]) -> Chunk {
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage, Timestamp};
    let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
    for (offset, (key, headers, value)) in (40..).zip(records) {
        let headers =
            headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
        let owned = |bytes: &Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let time = Timestamp::CreateTime(1_767_225_600_000);
        let message = OwnedMessage::new(owned(value), owned(key), "t".into(), time, 7, offset, Some(headers));
        let (begin, end) = crate::kafka::wire::push(&message, &mut bytes);
        ranges.push((begin as u32, end as u32));
    }
    let (from, to) = (40, 40 + records.len() as u64);
    let records = Records { bytes: Arc::new(bytes), ranges, numbering: Numbering::Ordinal };
    Chunk { from, to, payload: Payload::Records(records) }
}

#[test]
fn what_is_around_a_record_becomes_columns() {
    let around = |name: &str, of: &str, meta: Meta| Column::new(name, ColumnType::parse(of).unwrap().0).around(meta);
    let columns = vec![
        Column::new("n", ColumnType::Int64),
        around("k", "string", Meta::Key),
        around("trace", "string", Meta::Header("trace".into())).required(),
        around("list", "list<int64>", Meta::Header("list".into())),
        around("part", "int64", Meta::Partition),
        around("off", "int64", Meta::Offset),
        around("at", "timestamp_ms", Meta::Timestamp),
    ];
    let schema = RowSchema {
        columns,
        event_time: Some("at".into()),
        envelope: Envelope::Kafka,
        drop_tombstones: true,
        ..RowSchema::default()
    };
    schema.check().unwrap();
    let chunk = partition(&[
        (Some("a"), &[("trace", "t0"), ("trace", "t1"), ("list", "[1,2]")], Some(r#"{"n":1,"k":"not it"}"#)),
        (None, &[("trace", "")], Some(r#"{"n":2}"#)),
        (Some("a"), &[], None),
        (Some("a"), &[], Some(r#"{"n":3}"#)),
        (Some("a"), &[("trace", "t"), ("list", "no list")], Some(r#"{"n":4}"#)),
        (Some("a"), &[("trace", "t")], Some("")),
    ]);
    let mut decoded = Decoded::default();
    let mut decoder = JsonDecoder::new(&schema);
    riverrun_dataflow::source::Decoder::decode(&mut decoder, &chunk, &anything(), &mut decoded);
    let at = "2026-01-01T00:00:00.000Z";
    let expected = [
        serde_json::json!({"n": 1, "k": "a", "trace": "t1", "list": [1, 2], "part": 7, "off": 40, "at": at}),
        serde_json::json!({"n": 2, "k": null, "trace": "", "list": null, "part": 7, "off": 41, "at": at}),
    ];
    assert_eq!(values(&decoded), expected);
    assert_eq!((decoded.filtered, codes(&decoded)), (1, vec!["missing", "malformed", "malformed"]));
    // The key is not wanted as a column, but must be there: it is looked at all the same.
    let projected = RowSchema { projected: Some(vec!["n".into()]), drop_tombstones: false, ..schema };
    let mut decoded = Decoded::default();
    riverrun_dataflow::source::Decoder::decode(&mut JsonDecoder::new(&projected), &chunk, &anything(), &mut decoded);
    assert_eq!(values(&decoded).len(), 3);
    assert_eq!(codes(&decoded), ["malformed", "missing", "malformed"]);
}

#[test]
fn the_whole_record_is_kept_to_the_byte_text_or_not() {
    let around = |name: &str, of: &str, meta: Meta| Column::new(name, ColumnType::parse(of).unwrap().0).around(meta);
    let json = |value: &str| serde_json::from_str::<serde_json::Value>(value).unwrap();
    let columns = vec![
        Column::new("n", ColumnType::Int64),
        around("raw", "string", Meta::Value),
        around("again", "json", Meta::Value),
        around("k", "string", Meta::Key),
        around("k64", "string", Meta::KeyBase64),
        around("v64", "string", Meta::ValueBase64),
        around("all", "json", Meta::Headers),
        around("listed", "list<struct{name: string, value: string, value_base64: string}>", Meta::Headers),
    ];
    let whole = RowSchema { columns, envelope: Envelope::Kafka, ..RowSchema::default() };
    whole.check().unwrap();
    let odd = vec![("a\"b", Some(&b"1"[..])), ("a\"b", None), ("\u{fc}", Some(&[0xff, 0][..]))];
    let first = br#" {"n" : 1, "unknown":{"x":"\u00e4"}} "#;
    let chunk = partition_of(&[
        (Some(&[0xff, 0xfe]), odd, Some(first)),
        (Some(b"text"), vec![], Some(br#"{"n":2}"#)),
        (None, vec![], Some(&[b"{\"n\":\"", &[0xff][..], b"\"}"].concat())),
    ]);
    let read = |schema: &RowSchema| {
        let mut decoded = Decoded::default();
        riverrun_dataflow::source::Decoder::decode(&mut JsonDecoder::new(schema), &chunk, &anything(), &mut decoded);
        decoded
    };
    let decoded = read(&whole);
    let all = json(r#"[{"name":"a\"b","value":"1"},{"name":"a\"b"},{"name":"ü","value_base64":"/wA="}]"#);
    let cell = |name: &str, value: Option<&str>, base64: Option<&str>| serde_json::json!({ "name": name, "value": value, "value_base64": base64 });
    let listed = [cell("a\"b", Some("1"), None), cell("a\"b", None, None), cell("ü", None, Some("/wA="))];
    let none = serde_json::Value::Null;
    let expected = [
        serde_json::json!({"n": 1, "raw": std::str::from_utf8(first).unwrap(), "again": json(std::str::from_utf8(first).unwrap()),
            "k": none, "k64": "//4=", "v64": none, "all": all, "listed": listed}),
        serde_json::json!({"n": 2, "raw": "{\"n\":2}", "again": {"n": 2}, "k": "text", "k64": none, "v64": none,
            "all": none, "listed": none}),
    ];
    assert_eq!(values(&decoded), expected);
    assert_eq!(codes(&decoded), ["utf8"]);
    // Which rows are bad does not hang on which columns are in use, but on which there are.
    let of = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(values(&read(&RowSchema { projected: of(&["k"]), ..whole.clone() })).len(), 2);
    let columns = whole.columns.iter().filter(|column| column.name != "k64").cloned().collect();
    let strict = read(&RowSchema { columns, ..whole });
    assert_eq!((values(&strict).len(), codes(&strict)), (1, vec!["type", "utf8"]));
}

#[test]
fn a_column_must_be_able_to_hold_what_is_around_a_record() {
    for (of, meta, says) in [
        ("json", Meta::ValueBase64, "the value_base64 is a string"),
        ("string", Meta::Headers, "the headers are json or a list"),
        ("string", Meta::Offset, "the offset is an int64"),
        ("string", Meta::Partition, "the partition is an int64"),
        ("int64", Meta::Timestamp, "the timestamp is a timestamp"),
    ] {
        let column = Column::new("x", ColumnType::parse(of).unwrap().0).around(meta);
        let schema = RowSchema { columns: vec![column], ..RowSchema::default() };
        assert!(schema.check().unwrap_err().0.contains(says), "{says}");
    }
}
