//! Avro and Protobuf with a real schema registry, written and read by Confluent's own client.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    // No schema has this number; no schema at all; cut off. Other tests have schemas here too, so this one's number is any.
    let cut_off = format!("00{:08x}", registry.number(&format!("{topic}-value")));
    registry.write_bytes(topic, &["00000fffff02", "7b7d", "", &cut_off]);
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
    let without = place.riverrun(&["run", "job.yaml", "--topics"]).arg(registry.brokers.address());
    without.fail(78, &["J042", "--schema-registry"]);
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
    // Whoever listens there hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counts = asked.clone();
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            counts.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut running = run(&format!("http://{address}")).start();
    running.until("it has asked again and again", || asked.load(Ordering::SeqCst) >= 6);
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

/// Live sessions as a table: tombstones for what leaves it, headers, keys.
const SESSIONS: &str = r#"
job: table-copy
sources:
  clicks:
    topic: table.clicks
    schema:
      user: { meta: key, type: string! }
      trace: { header: trace, type: string }
      n: int64
      offset: { meta: offset, type: int64 }
      part: { meta: partition, type: int64 }
      at: { meta: timestamp, type: timestamp_ms }
      ts: timestamp_ms
    event_time: ts
    id: n
    max_disorder: 1h
    tombstones: drop
steps:
  visits: { sessionize: { from: clicks, by: [user], gap: 30m, mode: live } }
sinks:
  seen: { from: clicks, file: { path: seen.jsonl } }
  table: { from: visits, topic: table.visits, key: [session_id], op: tombstone, headers: { x-user: user } }
  log: { from: visits, topic: table.log, key: [session_id], op: header }
"#;

#[test]
fn what_leaves_a_table_is_a_tombstone_and_what_is_around_a_record_are_columns() {
    let Some(registry) = shared() else { return };
    let topic = "table.clicks";
    registry.brokers.producer(topic, 1);
    let click = |n: u32, key: &str, minute: u32| {
        let ts = 1_767_225_600_000_u64 + u64::from(minute) * 60_000;
        let value: String = format!(r#"{{"n":{n},"ts":{ts}}}"#).bytes().map(|byte| format!("{byte:02x}")).collect();
        json!({"value": value, "key": key, "headers": {"trace": format!("t{n}")}})
    };
    // The third lies between the first two: two sessions become one.
    let clicks = [click(1, "ann", 0), click(2, "ann", 50), click(3, "ann", 25), json!({"value": null, "key": "ann"})];
    registry.write_records(topic, &clicks);
    let place = Place::new();
    place.write("job.yaml", SESSIONS);
    // One record a tick: what changes, changes after it was given.
    let run = registry.with(place.run("job.yaml")).args(&["--until-end", "--set", "tick.max_rows=1"]);
    let finished = run.succeed();
    let counts = finished.counts("clicks");
    assert_eq!((counts.input, counts.taken, counts.filtered), (4, 3, 1), "{finished}");

    let seen = place.rows("seen.jsonl");
    let told = |row: &Value| (row["user"].clone(), row["trace"].clone(), row["offset"].clone(), row["part"].clone());
    let expected: Vec<_> = [(1, 0), (3, 2), (2, 1)]
        .map(|(n, offset)| (json!("ann"), json!(format!("t{n}")), json!(offset), json!(0)))
        .into_iter()
        .collect();
    let mut told: Vec<_> = seen.iter().map(told).collect();
    told.sort_by_key(|row| ["t1", "t3", "t2"].iter().position(|trace| row.1 == *trace));
    assert_eq!(told, expected);
    assert!(seen.iter().all(|row| row["at"].is_string()));

    let table = registry.read_plain("table.visits");
    let log = registry.read_plain("table.log");
    assert_eq!(table.len(), log.len());
    let gone = log.iter().filter(|record| record["headers"]["op"] == "-").count();
    assert!(gone > 0, "sessions left the table: {log:?}");
    assert_eq!(table.iter().filter(|record| record["value"].is_null()).count(), gone);
    assert!(log.iter().all(|record| record["value"].get("op").is_none()), "{log:?}");
    assert!(table.iter().all(|record| record["headers"]["x-user"] == "ann"), "{table:?}");
    // What a compacted topic would keep is one session with three clicks.
    let mut kept: std::collections::BTreeMap<&str, &Value> = std::collections::BTreeMap::new();
    for record in &table {
        kept.insert(record["key"].as_str().unwrap(), &record["value"]);
    }
    kept.retain(|_, value| !value.is_null());
    assert_eq!(kept.len(), 1, "{table:?}");
    assert_eq!(kept.values().next().unwrap()["events"], 3);

    // Embedded topics have no headers: that is said before anything is read.
    place.riverrun(&["run", "job.yaml"]).fail(78, &["J028", "headers", "kafka://"]);
}

#[test]
fn avro_that_is_written_is_read_by_another_library_and_is_the_same_in_every_run() {
    let Some(registry) = shared() else { return };
    let topic = "rewrite.orders";
    registry.brokers.producer(topic, 1);
    registry.write(topic, "avro", &orders(&[], "int"), &(0..4).map(order).collect::<Vec<_>>());
    let place = Place::new();
    let rewritten =
        job("rewrite", "avro").replace("file: { path: out.jsonl }", "topic: rewrite.out, format: avro, key: [id]");
    place.write("job.yaml", &rewritten);
    for state in ["one", "two"] {
        let run = registry.with(place.run("job.yaml")).args(&["--until-end", "--state", state, "--append"]);
        run.set(format!("sinks.bad.file.path={state}.jsonl")).succeed();
    }
    let records = registry.brokers.settled("rewrite.out", 8);
    let values: Vec<_> = records.iter().map(|record| record.value.clone()).collect();
    assert_eq!(values[..4], values[4..], "the runs differ");
    let rows = registry.read("rewrite.out");
    let first = &rows[1];
    assert_eq!(first["key"], "o1");
    assert_eq!(first["value"]["price"], "1.50", "a decimal is one to the reader");
    assert_eq!(first["value"]["at"], "2026-01-01 00:00:01+00:00");
    assert_eq!(first["value"]["items"], json!([{"sku": "s", "qty": 1}]));
    assert_eq!((&first["value"]["city"], &first["value"]["coupon"]), (&json!(null), &json!(null)));

    // A column of another type: readers of the version before could not read it.
    registry.compatible("rewrite.out-value", "BACKWARD");
    place.write("changed.yaml", rewritten.replace("      n: int64\n", "      n: bool\n"));
    let refused = registry.with(place.riverrun(&["run", "changed.yaml"])).args(&["--until-end", "--fresh", "--append"]);
    refused.fail(78, &["rewrite.out-value", "does not take its schema"]);
}

#[test]
fn json_with_the_number_of_a_schema_is_read_if_so_chosen_and_else_told() {
    let Some(registry) = shared() else { return };
    let topic = "numbered.orders";
    registry.brokers.producer(topic, 1);
    let schema =
        json!({"title": "Order", "type": "object", "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}});
    let rows: Vec<Value> = (0..4).map(|n| json!({"id": format!("o{n}"), "n": n})).collect();
    registry.write(topic, "json", &schema, &rows);
    // Without a number; cut off in its number; a number, and no JSON behind it.
    registry.write_bytes(topic, &["7b226964223a2270222c226e223a397d", "000000", "0000000001ff"]);
    let place = Place::new();
    let job = "job: numbered\nsources:\n  orders: { topic: numbered.orders, schema: { id: string, n: int64 }, FRAMING }\n\
               sinks:\n  out: { from: orders, file: { path: out.jsonl } }\n  bad: { from: orders.bad, file: { path: bad.jsonl } }\n";
    let run = |framing: &str| {
        place.write("job.yaml", job.replace("FRAMING", framing));
        let run = registry.brokers.with(place.run("job.yaml")).args(&["--until-end", "--fresh"]);
        let finished = run.succeed();
        // Rows of one time stand in no order that could be told beforehand.
        let sorted = |file: &str, by: &str| {
            let mut rows = place.rows(file);
            rows.sort_by_key(|row| row[by].to_string());
            rows
        };
        (finished, sorted("out.jsonl", "id"), sorted("bad.jsonl", "code"))
    };
    let (finished, out, bad) = run("framing: registry");
    assert_eq!((finished.counts("orders").taken, finished.counts("orders").bad), (5, 2), "{finished}");
    assert_eq!(out[..4], rows, "as another library wrote them");
    assert_eq!(out[4]["id"], "p");
    let codes: Vec<&Value> = bad.iter().map(|row| &row["code"]).collect();
    assert_eq!(codes, ["malformed", "utf8"]);
    let (_, out, bad) = run("framing: none");
    assert_eq!((out.len(), bad.len()), (1, 6));
    let number = registry.number("numbered.orders-value");
    let says = format!("the number of a registered schema, {number}, stands before the record: `framing: registry`");
    let told = bad.iter().filter(|row| row["reason"].as_str().unwrap().contains(&says)).count();
    assert!(told >= 4, "{bad:?}");
}

#[test]
fn a_tail_shows_what_a_registry_knows_and_never_bytes_as_text() {
    let Some(registry) = shared() else { return };
    let topic = "tailed.orders";
    registry.brokers.producer(topic, 1);
    registry.write(topic, "avro", &orders(&[], "int"), &[order(1)]);
    registry.write_bytes(topic, &["7b226964223a2270227d", "ff1b5b324a", "00000fffff02"]);
    let place = Place::new();
    let tail = |format: &str| {
        let tail = ["topic", "tail", topic, "--from-start", "-o", format];
        place.riverrun(&tail)
    };
    let known = |format: &str| registry.with(tail(format)).succeed().stdout;
    let shown = crate::support::place::json_lines(&known("json"));
    let value = &shown[0]["value"];
    assert_eq!((&value["id"], &value["n"]), (&json!("o1"), &json!(1)), "{value}");
    assert_eq!((&value["at"], &value["items"]), (&json!("2026-01-01T00:00:01.000Z"), &json!([{"sku": "s", "qty": 1}])));
    assert_eq!(shown[1]["value"], json!({"id": "p"}));
    assert_eq!((&shown[2]["hex"], &shown[2]["what"]), (&json!("ff1b5b324a"), &json!("no text")));
    assert!(shown[3]["what"].as_str().unwrap().contains("of schema 1048575 of the registry"), "{shown:?}");
    let lines = String::from_utf8(known("table")).expect("all of it is text");
    assert!(lines.starts_with("{\"id\":\"o1\""), "{lines}");
    // Nobody is asked.
    let unknown = registry.brokers.with(tail("table")).succeed().stdout;
    let lines = String::from_utf8(unknown).expect("all of it is text");
    let number = registry.number("tailed.orders-value");
    assert!(
        lines.contains(&format!("bytes, of schema {number} of a registry, which `--schema-registry` would name] 00")),
        "{lines}"
    );
    assert!(lines.contains("[5 bytes, no text] ff1b5b324a") && !lines.contains('\u{1b}'), "{lines}");
}
