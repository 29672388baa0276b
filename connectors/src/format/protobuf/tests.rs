//! Messages made by hand; the end to end tests read what other libraries write.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::super::records::RecordDecoder;
use super::super::rows::Rows;
use super::super::samples::{codes, decode, schema, values};
use super::*;

const ORDERS: &str = r#"
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message Click { string id = 1; }
message Order {
  enum Kind { WEB = 0; SHOP = 1; }
  message Item { string sku = 1; int32 qty = 2; optional string note = 3; }
  string id = 1;
  optional int64 n = 2;
  google.protobuf.Timestamp at = 3;
  repeated Item items = 4;
  map<string, int32> tags = 5;
  Kind kind = 6;
  google.protobuf.StringValue coupon = 7;
  Item gift = 8;
  double weight = 9;
  uint64 big = 10;
  repeated sint32 packed = 11;
}
"#;

const COLUMNS: [&str; 13] = [
    "id: string!",
    "n: int64",
    "at: timestamp_ms",
    "items: list<struct{qty: int64, sku: string, note: string}>",
    "tags: list<struct{key: string, value: int64}>",
    "b: int64 @ tags.b",
    "kind: string",
    "coupon: string",
    "gift: string @ gift.sku",
    "weight: float64",
    "big: decimal(20,0)",
    "packed: list<int64>",
    "all: json @ items",
];

fn file(text: &str) -> SchemaFile {
    SchemaFile { path: "orders.proto".to_owned(), bytes: Arc::from(text.as_bytes()) }
}

fn decoder(columns: &[&str], written: Written) -> RecordDecoder<ProtobufRows> {
    let rows = Rows::new(&schema(columns));
    let fill = ProtobufRows::new(&rows, written);
    RecordDecoder::new(rows, fill)
}

fn orders() -> RecordDecoder<ProtobufRows> {
    decoder(&COLUMNS, Written::Alike(parse_alone(&file(ORDERS), Some("shop.Order")).unwrap()))
}

/// A field with a length.
fn sized(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2, bytes.len() as u8], bytes.to_vec()].concat()
}

fn order() -> Vec<u8> {
    [
        sized(1, b"o1"),
        vec![2 << 3, 7],
        // 1.5 s after the epoch.
        sized(3, &[8, 1, 16, 0x80, 0xca, 0xb5, 0xee, 1]),
        sized(4, &[sized(1, b"a"), vec![2 << 3, 2]].concat()),
        sized(5, &[sized(1, b"z"), vec![2 << 3, 1]].concat()),
        sized(5, &[sized(1, b"b"), vec![2 << 3, 2]].concat()),
        vec![6 << 3, 1],
        sized(7, &sized(1, b"C")),
        sized(4, &[sized(1, b"b"), sized(3, b"")].concat()),
        sized(8, &sized(1, b"g")),
        vec![9 << 3 | 1, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f],
        vec![10 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        sized(11, &[1, 2]),
        // A field that the schema does not know.
        sized(15, b"x"),
    ]
    .concat()
}

#[test]
fn fields_become_columns_and_what_is_not_set_is_null_or_its_default() {
    let decoded = decode(&mut orders(), &[order(), sized(1, b"o2"), vec![]]);
    assert!(decoded.bad.is_empty(), "{:?}", decoded.bad);
    let whole = json!({
        "id": "o1", "n": 7, "at": "1970-01-01T00:00:01.500Z",
        "items": [{"qty": 2, "sku": "a", "note": null}, {"qty": 0, "sku": "b", "note": ""}],
        "tags": [{"key": "b", "value": 2}, {"key": "z", "value": 1}],
        "b": 2, "kind": "SHOP", "coupon": "C", "gift": "g", "weight": 1.5, "big": 18_446_744_073_709_551_615_u64,
        "packed": [-1, 1],
        "all": [{"sku": "a", "qty": 2, "note": null}, {"sku": "b", "qty": 0, "note": ""}],
    });
    let plain = |id: &str| {
        json!({
            "id": id, "n": null, "at": null, "items": [], "tags": [], "b": null, "kind": "WEB", "coupon": null, "gift": null,
            "weight": 0.0, "big": 0, "packed": [], "all": [],
        })
    };
    // A field without presence has a value in every message, if it is the empty one.
    assert_eq!(values(&decoded), [whole, plain("o2"), plain("")]);
}

#[test]
fn a_bad_record_never_spoils_its_batch() {
    let broken = [order(), vec![4 << 3 | 2, 99]].concat();
    let huge = [sized(1, b"o3"), vec![2 << 3, 1]].concat();
    let decoded = decode(&mut orders(), &[order(), broken, huge]);
    assert_eq!(codes(&decoded), ["malformed"]);
    assert_eq!(values(&decoded).len(), 2);
    let message = parse_alone(&file(ORDERS), Some("shop.Order")).unwrap();
    let mut wrong = decoder(&["id: int64"], Written::Alike(message));
    let decoded = decode(&mut wrong, &[order()]);
    assert_eq!(decoded.bad[0].reason, "column `id` is int64, found a string");
}

#[test]
fn records_name_their_schema_and_their_message() {
    let registered = |kind, text: &str, references: &[(&str, &str)]| RegisteredSchema {
        kind,
        text: text.to_owned(),
        references: references.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
    };
    let money = "syntax = \"proto3\"; package common; message Money { int64 units = 1; }";
    let bill =
        "syntax = \"proto3\"; import \"common/money.proto\"; message Bill { string id = 1; common.Money sum = 2; }";
    let message = parse_alone(&file(ORDERS), Some("shop.Order")).unwrap();
    let mut bytes = Vec::new();
    message.parent_file().encode(&mut bytes).unwrap();
    // So do clients register that have no text.
    let described = base64::engine::general_purpose::STANDARD.encode(bytes);
    let known = [
        (1, registered(SchemaKind::Protobuf, ORDERS, &[])),
        (2, registered(SchemaKind::Protobuf, bill, &[("common/money.proto", money)])),
        (3, registered(SchemaKind::Protobuf, bill, &[])),
        (4, registered(SchemaKind::Avro, "\"string\"", &[])),
        (5, registered(SchemaKind::Protobuf, &described, &[])),
    ];
    let registry = Registry::fixed(known);
    let frame = |id: u8, indexes: &[u8], message: Vec<u8>| [vec![0, 0, 0, 0, id], indexes.to_vec(), message].concat();
    let mut any = decoder(&["id: string", "sum: int64 @ sum.units"], Written::registered(registry.clone(), None));
    let records = [
        // Click is the first message, which has a form of its own; Order the second; Item the second of Order's.
        frame(1, &[0], sized(1, b"click")),
        frame(1, &[2, 2], sized(1, b"order")),
        frame(2, &[2, 0], [sized(1, b"bill"), sized(2, &[8, 5])].concat()),
        frame(1, &[2, 18], vec![]),
        frame(1, &[1], vec![]),
        frame(3, &[0], vec![]),
        frame(4, &[0], vec![]),
        frame(9, &[0], vec![]),
        frame(1, &[0xff; 11], vec![]),
        frame(5, &[2, 2], sized(1, b"described")),
    ];
    let decoded = decode(&mut any, &records);
    let rows = [("click", json!(null)), ("order", json!(null)), ("bill", json!(5)), ("described", json!(null))];
    assert_eq!(values(&decoded), rows.map(|(id, sum)| json!({"id": id, "sum": sum})));
    let unknown = "unknown_schema";
    assert_eq!(codes(&decoded), ["malformed", "malformed", unknown, unknown, unknown, "malformed"]);
    let mut orders = decoder(&["id: string"], Written::registered(registry, Some("shop.Order")));
    let decoded = decode(&mut orders, &records[..2]);
    assert_eq!(decoded.bad[0].reason, "the record is a `shop.Click`, not a `shop.Order`");
}

#[test]
fn a_file_says_what_is_wrong_with_it() {
    for (text, message, says) in [
        ("message", None, "expected an identifier"),
        (ORDERS, None, "several messages"),
        (ORDERS, Some("shop.Orders"), "no message `shop.Orders`"),
        ("syntax = \"proto3\";", None, "no message"),
        ("syntax = \"proto3\"; import \"x.proto\";", None, "x.proto"),
    ] {
        let error = parse_alone(&file(text), message).unwrap_err().0;
        assert!(error.contains(says), "{text}: {error}");
    }
    let message = parse_alone(&file(ORDERS), Some("shop.Order")).unwrap();
    let set = SchemaFile { path: "orders.desc".into(), bytes: message.parent_pool().encode_to_vec().into() };
    assert_eq!(parse_alone(&set, Some("shop.Order")).unwrap().full_name(), "shop.Order");
    assert!(parse_alone(&SchemaFile { bytes: Arc::from(&b"\xff"[..]), ..set }, None).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(record in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..80) {
        let mut sample = order();
        let cut = at.min(sample.len());
        sample.truncate(cut);
        let decoded = decode(&mut orders(), &[record.clone(), [sample, record].concat()]);
        let rows: usize = decoded.batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
        prop_assert_eq!(decoded.bad.len() + rows, 2);
    }
}
