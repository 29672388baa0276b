//! Avro and Protobuf with a real schema registry, written and read by Confluent's own client.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Place;
use crate::support::jobs::BUSY;
use crate::support::process::Stop;
use crate::support::registry::shared;

/// A row for the job, as Avro's serializer takes it.
fn order(n: u32) -> Value {
    let address = if n.is_multiple_of(2) { json!({"street": "Am Hof", "city": "Köln"}) } else { json!(null) };
    json!({
        "id": format!("o{n}"), "n": n, "price": {"decimal": format!("{n}.50")},
        "at": {"time": format!("2026-01-01T00:00:{n:02}+00:00")}, "day": {"date": "2026-01-31"}, "address": address,
        "tags": {"a": "1"}, "items": [{"sku": "s", "qty": n}], "kind": "web",
    })
}

fn orders(extra: &[Value], n: &str) -> Value {
    let mut fields = vec![
        json!({"name": "id", "type": {"type": "string"}}),
        json!({"name": "n", "type": n}),
        json!({"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}),
        json!({"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}),
        json!({"name": "day", "type": {"type": "int", "logicalType": "date"}}),
        json!({"name": "address", "default": null, "type": ["null", {"type": "record", "name": "Address", "fields": [
            {"name": "street", "type": "string"}, {"name": "city", "type": "string"}]}]}),
        json!({"name": "tags", "type": {"type": "map", "values": "string"}}),
        json!({"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "Item", "fields": [
            {"name": "sku", "type": "string"}, {"name": "qty", "type": "int"}]}}}),
        json!({"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["web", "shop"]}}),
    ];
    fields.extend_from_slice(extra);
    json!({"type": "record", "name": "Order", "namespace": "shop", "fields": fields})
}

const JOB: &str = r#"
job: PREFIX-copy
sources:
  orders:
    topic: PREFIX.orders
    format: FORMAT
    schema:
      id: string!
      n: int64
      price: decimal(12,2)
      at: timestamp_ms
      day: date
      city: { path: address.city, type: string }
      tags: json
      items: "list<struct{sku: string, qty: int64}>"
      kind: string
      coupon: string
    event_time: at
    id: id
sinks:
  out: { from: orders, file: { path: out.jsonl } }
  bad: { from: orders.bad, file: { path: bad.jsonl } }
"#;

fn job(prefix: &str, format: &str) -> String {
    JOB.replace("PREFIX", prefix).replace("FORMAT", format)
}

/// What the job makes of [`order`].
fn row(n: u32, coupon: Option<&str>) -> Value {
    let city = n.is_multiple_of(2).then_some("Köln");
    json!({
        "id": format!("o{n}"), "n": n, "price": serde_json::from_str::<Value>(&format!("{n}.50")).unwrap(),
        "at": format!("2026-01-01T00:00:{n:02}.000Z"), "day": "2026-01-31", "city": city, "tags": {"a": "1"},
        "items": [{"sku": "s", "qty": n}], "kind": "web", "coupon": coupon,
    })
}

#[test]
fn avro_of_another_library_is_read_through_versions_of_its_schema() {
    let Some(registry) = shared() else { return };
    let topic = "avro.orders";
    registry.brokers.producer(topic, 1);
    registry.write(topic, "avro", &orders(&[], "int"), &(0..5).map(order).collect::<Vec<_>>());
    // No schema has this number; no schema at all; cut off.
    registry.write_bytes(topic, &["00000fffff02", "7b7d", "", "0000000001"]);
    let coupon = json!({"name": "coupon", "type": ["null", "string"], "default": null});
    let second: Vec<Value> = (5..8)
        .map(|n| {
            let mut row = order(n);
            row["coupon"] = json!("C");
            row
        })
        .collect();
    registry.write(topic, "avro", &orders(&[coupon], "long"), &second);

    let place = Place::new();
    place.write("job.yaml", job("avro", "avro"));
    place.run("job.yaml").arg("--topics").arg(registry.brokers.address()).fail(78, &["J042", "--schema-registry"]);
    let mut written = Vec::new();
    for (workers, state) in [(1, "one"), (3, "two")] {
        let run = registry.with(place.run("job.yaml")).args(&["--until-end", "--fresh", "--state", state]);
        let finished = run.workers(workers).succeed();
        assert_eq!((finished.counts("orders").taken, finished.counts("orders").bad), (8, 4), "{finished}");
        written.push((place.read("out.jsonl"), place.read("bad.jsonl")));
    }
    assert!(written[0] == written[1], "the runs differ");
    let expected: Vec<Value> = (0..8).map(|n| row(n, (n >= 5).then_some("C"))).collect();
    assert_eq!(place.rows("out.jsonl"), expected);
    let mut codes: Vec<String> =
        place.rows("bad.jsonl").iter().map(|row| row["code"].as_str().unwrap().to_owned()).collect();
    codes.sort();
    assert_eq!(codes, ["malformed", "malformed", "malformed", "unknown_schema"]);
}

/// A schema of Protobuf as a descriptor in JSON.
fn message() -> Value {
    let field = |name: &str, number: u32, kind: &str| json!({"name": name, "number": number, "type": kind, "label": "LABEL_OPTIONAL"});
    let of = |name: &str, number: u32, of: &str, label: &str| json!({"name": name, "number": number, "type": "TYPE_MESSAGE", "typeName": of, "label": label});
    let tag = json!({"name": "TagsEntry", "options": {"mapEntry": true}, "field": [field("key", 1, "TYPE_STRING"), field("value", 2, "TYPE_STRING")]});
    let item = json!({"name": "Item", "field": [field("sku", 1, "TYPE_STRING"), field("qty", 2, "TYPE_INT32")]});
    let address =
        json!({"name": "Address", "field": [field("street", 1, "TYPE_STRING"), field("city", 2, "TYPE_STRING")]});
    let kind = json!({"name": "kind", "number": 9, "type": "TYPE_ENUM", "typeName": ".shop.Order.Kind", "label": "LABEL_OPTIONAL"});
    let kinds = json!({"name": "Kind", "value": [{"name": "web", "number": 0}, {"name": "shop", "number": 1}]});
    let order = json!({
        "name": "Order", "enumType": [kinds], "nestedType": [tag, item, address],
        "field": [
            field("id", 1, "TYPE_STRING"), field("n", 2, "TYPE_INT64"), field("price", 3, "TYPE_STRING"),
            of("at", 4, ".google.protobuf.Timestamp", "LABEL_OPTIONAL"), field("day", 5, "TYPE_STRING"),
            of("address", 6, ".shop.Order.Address", "LABEL_OPTIONAL"), of("tags", 7, ".shop.Order.TagsEntry", "LABEL_REPEATED"),
            of("items", 8, ".shop.Order.Item", "LABEL_REPEATED"), kind,
            of("coupon", 10, ".google.protobuf.StringValue", "LABEL_OPTIONAL"),
        ],
    });
    json!({
        "name": "orders.proto", "package": "shop", "syntax": "proto3",
        "dependency": ["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"],
        "messageType": [{"name": "Click", "field": [field("id", 1, "TYPE_STRING")]}, order],
    })
}

#[test]
fn protobuf_of_another_library_is_read_by_what_its_records_say_they_are() {
    let Some(registry) = shared() else { return };
    let topic = "protobuf.orders";
    registry.brokers.producer(topic, 1);
    let rows: Vec<Value> = (0..4)
        .map(|n| {
            let mut row = order(n);
            row["price"] = json!(format!("{n}.50"));
            row["at"] = json!(format!("2026-01-01T00:00:{n:02}Z"));
            row["day"] = json!("2026-01-31");
            if n == 3 {
                row["coupon"] = json!("C");
            }
            row
        })
        .collect();
    registry.write(topic, "protobuf", &message(), &rows);
    let place = Place::new();
    place.write("job.yaml", job("protobuf", "protobuf"));
    let finished = registry.with(place.run("job.yaml")).arg("--until-end").succeed();
    assert_eq!(finished.counts("orders").bad, 0, "{finished}");
    let expected: Vec<Value> = (0..4).map(|n| row(n, (n == 3).then_some("C"))).collect();
    assert_eq!(place.rows("out.jsonl"), expected);
}

#[test]
fn a_registry_that_does_not_answer_is_waited_for_and_no_row_is_bad() {
    let Some(registry) = shared() else { return };
    let topic = "waits.orders";
    registry.brokers.producer(topic, 1);
    registry.write(topic, "avro", &orders(&[], "int"), &(0..3).map(order).collect::<Vec<_>>());
    let place = Place::new();
    place.write("job.yaml", job("waits", "avro"));
    let run = |address: &str| {
        let command = place.run("job.yaml").arg("--topics").arg(registry.brokers.address());
        command.args(BUSY).arg("--schema-registry").arg(address.to_owned())
    };
    // Nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut running = run(&format!("http://{closed}")).start();
    assert!(!running.ends_within(Duration::from_secs(3)), "it does not give up: {}", running.finish());
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished}");
    assert!(finished.stderr.contains("the schema registry does not answer"), "{finished}");
    assert_eq!(place.read("out.jsonl"), b"");
    let mut running = registry.with(place.run("job.yaml")).args(BUSY).start();
    running.until("the rows", || place.read("out.jsonl").iter().filter(|byte| **byte == b'\n').count() == 3);
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert_eq!(finished.counts("orders").bad, 0, "{finished}");
}
