//! The decoder against a naive reading of the same records, and the encoder against `serde_json`.

use arrow::array::{AsArray, Decimal128Array, Float32Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use proptest::prelude::*;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::schema::Hidden;
use riverrun_dataflow::sink::{EncodedRows, Encoder};
use riverrun_dataflow::source::{BadRow, DecodeContext, Decoded, Decoder};
use serde_json::{Value, json};

use super::super::samples::{chunk, codes, decode, schema, texts, values};
use super::super::schema::{ColumnType, RowSchema};
use super::super::{Timestamps, calendar, decimal};
use super::{JsonDecoder, JsonEncoder};

fn decoder(columns: &[&str]) -> JsonDecoder {
    JsonDecoder::new(&schema(columns))
}

/// Decodes `{"v": text}` as one column of `column_type` and returns the value or the fault's code.
fn cell(column_type: &str, text: &str) -> Result<String, String> {
    let record = format!("{{\"v\":{text}}}");
    let decoded = decode(&mut decoder(&[&format!("v: {column_type}")]), &[&record]);
    let mut slow = decoder(&[&format!("v: {column_type}")]);
    slow.flat.usable = false;
    let slowly = decode(&mut slow, &[&record]);
    assert_eq!((&decoded.batches, &decoded.bad), (&slowly.batches, &slowly.bad), "{record}");
    match decoded.bad.first() {
        Some(bad) => Err(bad.code.clone()),
        None => {
            Ok(texts(&decoded.batches[0])[0].strip_prefix("{\"v\":").unwrap().strip_suffix('}').unwrap().to_owned())
        }
    }
}

#[test]
fn every_type_takes_what_it_should_and_nothing_else() {
    let good = [
        ("string", r#""a\u00e9\n\"ü""#, r#""aé\n\"ü""#),
        ("string", r#""""#, r#""""#),
        ("string", r#""\ud83d\ude00""#, "\"😀\""),
        ("bool", "true", "true"),
        ("bool", "false", "false"),
        ("int64", "-9223372036854775808", "-9223372036854775808"),
        ("int64", "9223372036854775807", "9223372036854775807"),
        ("int64", "-0", "0"),
        ("float64", "1", "1.0"),
        ("float64", "-1.5e3", "-1500.0"),
        ("float64", "0.1", "0.1"),
        ("float64", "123456789012345678901234567890", "1.2345678901234568e29"),
        ("float64", "1e-400", "0.0"),
        ("decimal(12,2)", "12.10", "12.10"),
        ("decimal(12,2)", "\"12.1\"", "12.10"),
        ("decimal(12,2)", "-3", "-3.00"),
        ("decimal(38,0)", "99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
        ("timestamp", r#""2026-01-01T01:00:00.1234567+01:00""#, r#""2026-01-01T00:00:00.123456Z""#),
        ("timestamp_s", "1767225600", r#""2026-01-01T00:00:00Z""#),
        ("timestamp_ms", "1767225600123", r#""2026-01-01T00:00:00.123Z""#),
        ("timestamp_us", "1767225600123456", r#""2026-01-01T00:00:00.123456Z""#),
        ("date", r#""2024-02-29""#, r#""2024-02-29""#),
        ("json", "{ \"a\" : [1, 2.50 , \" x \\\" y \"] }", r#"{"a":[1,2.50," x \" y "]}"#),
        ("json", "\"x\"", "\"x\""),
        ("json", "true", "true"),
        ("json", "1e999", "1e999"),
        ("list<int64>", "[1, null,3]", "[1,null,3]"),
        ("list<list<string>>", r#"[[],["a"],null]"#, r#"[[],["a"],null]"#),
        ("struct{a: int64, b: struct{c: bool}}", r#"{"b":{"c":true,"z":[1]},"a":1}"#, r#"{"a":1,"b":{"c":true}}"#),
        ("struct{a: int64}", r#"{"a":1,"a":2,"x":{}}"#, r#"{"a":2}"#),
        ("list<struct{a: int64}>", r#"[{},{"a":1},null]"#, r#"[{"a":null},{"a":1},null]"#),
    ];
    for (column_type, text, expected) in good {
        assert_eq!(cell(column_type, text).as_deref(), Ok(expected), "{column_type} {text}");
        assert_eq!(cell(column_type, "null").as_deref(), Ok("null"), "{column_type} null");
    }
    let bad = [
        ("string", "1 true [] {}"),
        ("bool", "\"true\" 0 1 [] {}"),
        ("int64", "\"1\" 1.5 1.0 1e3 9223372036854775808 -9223372036854775809 1e999 true [] {}"),
        ("float64", "\"1\" 1e999 true [] {}"),
        ("decimal(4,2)", "100 1.234 \"x\" \"\" true [] {}"),
        ("timestamp", "1767225600 \"2026-01-01\" \"\" true"),
        ("timestamp_ms", "\"2026-01-01T00:00:00Z\" 1.5 true 99999999999999999999"),
        ("date", "\"2026-02-30\" 20484 true"),
        ("list<int64>", "1 {} [1.5] [\"a\"] [[1]] \"[]\""),
        ("struct{a:int64}", "1 [] {\"a\":\"x\"} {\"a\":1,\"a\":\"x\"} \"{}\""),
    ];
    for (column_type, texts) in bad {
        for text in texts.split(' ') {
            assert_eq!(cell(column_type, text), Err("type".to_owned()), "{column_type} {text}");
        }
    }
}

#[test]
fn what_is_not_json_is_malformed_whatever_else_is_wrong() {
    for record in [
        "",
        "{",
        "{\"v\":1",
        "{\"v\":1}}",
        "{\"v\":1,}",
        "{\"v\" 1}",
        "{v:1}",
        "{\"v\":01}",
        "{\"v\":1.}",
        "{\"v\":+1}",
        "{\"v\":nul}",
        "{\"v\":\"a\nb\"}",
        "{\"v\":\"\\x\"}",
        "{\"v\":\"\\ud800\"}",
        "nonsense",
        "{\"v\":\"x\",\"w\":}",
        "{\"v\":.5}",
        "{\"v\":1e}",
        "{\"v\":-}",
        "[1,2",
        "{\"v\":1} {\"v\":2}",
        "\u{feff}{\"v\":1}",
    ] {
        let column = if record.contains("\\u") { "v: string" } else { "v: int64" };
        let decoded = decode(&mut decoder(&[column]), &[record]);
        assert_eq!(codes(&decoded), ["malformed"], "{record}: {:?}", decoded.bad);
    }
    for record in ["[]", "1", "\"x\"", "null", " [ {\"v\":1} ] "] {
        assert_eq!(codes(&decode(&mut decoder(&["v: int64"]), &[record])), ["type"], "{record}");
    }
}

#[test]
fn deep_nesting_exhausts_no_stack() {
    let deep = |levels: usize| format!("{{\"v\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(codes(&decode(&mut decoder(&["v: json"]), &[deep(1_000_000)])), ["malformed"]);
    assert_eq!(codes(&decode(&mut decoder(&["v: json"]), &[deep(128)])), [""; 0]);
    assert_eq!(codes(&decode(&mut decoder(&["v: list<list<int64>>"]), &[deep(1_000_000)])), ["type"]);
    let unclosed = "{\"v\":".repeat(300_000);
    assert_eq!(codes(&decode(&mut decoder(&["v: int64", "w: int64 @ v.v.v.v.w"]), &[unclosed])), ["malformed"]);
    // A field that nothing reads is only skipped.
    assert_eq!(values(&decode(&mut decoder(&["w: int64"]), &[deep(1_000_000)])), [json!({"w": null})]);
}

#[test]
fn bytes_that_are_no_text_are_kept() {
    let records: [&[u8]; 3] = [b"{\"v\":\"a\"}", b"{\"v\":\"\xff\"}", "{\"v\":\"ü\"}".as_bytes()];
    let decoded = decode(&mut decoder(&["v: string"]), &records);
    assert_eq!(values(&decoded), [json!({"v": "a"}), json!({"v": "ü"})]);
    assert_eq!((codes(&decoded), &decoded.bad[0].raw), (vec!["utf8"], &b"{\"v\":\"\xff\"}".to_vec()));
    assert_eq!(decoded.bad[0].position, 10);
}

#[test]
fn a_bad_row_leaves_nothing_behind() {
    let mut decoder = decoder(&["a: string", "l: list<string>", "s: struct{x: string, y: int64}", "n: int64!"]);
    let decoded = decode(
        &mut decoder,
        &[
            r#"{"a":"one","l":["p"],"s":{"x":"u","y":1},"n":1}"#,
            r#"{"a":"lost","l":["lost",7],"n":2}"#,
            r#"{"a":"lost","l":["lost"],"s":{"x":"lost","y":"no"},"n":2}"#,
            r#"{"a":"lost","l":["lost"],"s":{"x":"lost","y":3}}"#,
            r#"{"a":"lost","n":null}"#,
            r#"{"a":"lost","l":["lost"],"n":3"#,
            r#"{"l":null,"n":4}"#,
        ],
    );
    assert_eq!(codes(&decoded), ["type", "type", "missing", "missing", "malformed"]);
    assert_eq!(decoded.bad[0].reason, "column `l` is list<string>, found a number");
    assert_eq!(
        values(&decoded),
        [
            json!({"a": "one", "l": ["p"], "s": {"x": "u", "y": 1}, "n": 1}),
            json!({"a": null, "l": null, "s": null, "n": 4}),
        ]
    );
}

#[test]
fn paths_lead_into_objects() {
    let columns = ["id: int64 @ user.id", "name: string @ user.name.first", "user: json", "again: int64 @ user.id"];
    let decoded = decode(
        &mut decoder(&columns),
        &[
            r#"{"user":{"id":1,"name":{"first":"A"}}}"#,
            r#"{"user":null}"#,
            r#"{"user":{"name":null,"id":2}}"#,
            r#"{}"#,
            r#"{"user":{"id":9,"name":{"first":"gone"}},"user":{"id":3}}"#,
            r#"{"user":5}"#,
            r#"{"user":{"name":"A"}}"#,
        ],
    );
    let row = |id: Value, name: Value, user: Value| json!({"id": id, "name": name, "user": user, "again": id});
    assert_eq!(
        values(&decoded),
        [
            row(json!(1), json!("A"), json!({"id": 1, "name": {"first": "A"}})),
            row(Value::Null, Value::Null, Value::Null),
            row(json!(2), Value::Null, json!({"id": 2, "name": null})),
            row(Value::Null, Value::Null, Value::Null),
            row(json!(3), Value::Null, json!({"id": 3})),
        ]
    );
    assert_eq!(codes(&decoded), ["type", "type"]);
    assert_eq!(decoded.bad[0].reason, "`user.id` leads through a number, not an object");
}

fn clicks() -> RowSchema {
    RowSchema {
        event_time: Some("ts".to_owned()),
        id: Some("id".to_owned()),
        hidden: vec![Hidden::Time, Hidden::Id, Hidden::Split, Hidden::Position],
        projected: Some(vec!["item".to_owned()]),
        ..schema(&["id: int64", "ts: timestamp_s", "item: string", "who: string!"])
    }
}

#[test]
fn hidden_columns_come_from_columns_that_are_not_in_use() {
    let mut out = Decoded::default();
    let records = [
        r#"{"id":-5,"ts":10,"item":"a","who":"x"}"#,
        r#"{"ts":10,"item":"b"}"#,
        r#"{"ts":12,"item":"c","who":"y"}"#,
        r#"{"ts":11,"item":"d","who":null}"#,
        r#"{"id":6,"item":"e","who":"x"}"#,
        r#"{"id":6,"ts":9999999999999999,"item":"f","who":"x"}"#,
        r#"{"id":6,"ts":13,"item":"g","who":"x"}"#,
        r#"{"id":"6","ts":11,"item":"h","who":7}"#,
    ];
    let context = DecodeContext { split: 7, name: "7".into(), accept: EventTime(0)..=EventTime(12_000_000) };
    JsonDecoder::new(&clicks()).decode(&chunk(1000, &records), &context, &mut out);
    let batch = &out.batches[0];
    let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["item", "__time", "__id", "__split", "__position"]);
    assert_eq!(batch["item"].as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(batch["__time"].as_primitive::<Int64Type>().values(), &[10_000_000, 12_000_000]);
    assert_eq!(batch["__id"].as_string::<i32>().iter().collect::<Vec<_>>(), [Some("-5"), None]);
    assert_eq!(batch["__split"].as_primitive::<UInt32Type>().values(), &[7, 7]);
    assert_eq!(
        batch["__position"].as_primitive::<UInt64Type>().values(),
        &[1000, 1000 + records[0].len() as u64 + records[1].len() as u64 + 2]
    );
    assert_eq!(codes(&out), ["missing", "missing", "missing", "event_time", "event_time", "type"]);
    assert_eq!(out.greatest, Some(EventTime(12_000_000)));
    assert!(out.bad[4].reason.contains("1970-01-01T00:00:13.000000Z, accepted are"), "{}", out.bad[4].reason);
    assert_eq!(out.bad[2].raw_length, records[4].len() as u64);
}

#[test]
fn many_rows_come_in_batches_in_order() {
    let records: Vec<String> =
        (0..20_000).map(|i| format!("{{\"v\":{}}}", if i % 7 == 0 { "x".into() } else { i.to_string() })).collect();
    let decoded = decode(&mut decoder(&["v: int64"]), &records);
    let expected: Vec<i64> = (0..20_000).filter(|i| i % 7 != 0).collect();
    let found: Vec<i64> =
        decoded.batches.iter().flat_map(|b| b["v"].as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!((found, decoded.bad.len()), (expected, 2858));
    assert!(decoded.batches.iter().all(|batch| batch.num_rows() <= 8192) && decoded.batches.len() == 3);
    assert!(decoded.bad.is_sorted_by_key(|bad| bad.position));
}

#[test]
fn the_raw_text_of_a_bad_row_is_cut() {
    let record = format!("{{\"v\":\"{}\"}}", "x".repeat(100_000));
    let decoded = decode(&mut decoder(&["v: int64"]), &[&record]);
    let bad = &decoded.bad[0];
    assert_eq!((bad.raw.len(), bad.raw_length), (BadRow::RAW_MAX, record.len() as u64));
}

/// A JSON value as it is written, fields given twice included.
#[derive(Clone, Debug)]
enum Written {
    Plain(String),
    Text(String),
    List(Vec<Written>),
    Object(Vec<(&'static str, Written)>),
}

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "user", "x", "ts"];

fn written() -> impl Strategy<Value = Written> {
    let plain = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|v| v.to_string()),
        any::<i64>().prop_map(|v| v.to_string()),
        (-1000_i64..1000).prop_map(|v| v.to_string()),
        // The oracle reads texts with `serde_json`, which takes some floats one bit off: those say nothing about our reader.
        any::<f64>()
            .prop_filter("read exactly", |v| v.is_finite()
                && serde_json::to_string(v).is_ok_and(|text| as_read(&text).as_f64() == Some(*v)))
            .prop_map(|v| serde_json::to_string(&v).unwrap()),
        (-99_999_i64..99_999).prop_map(|v| format!("{}.{:02}", v / 100, v.abs() % 100)),
    ];
    let texts = prop_oneof![
        ".{0,12}".prop_map(Written::Text),
        (-60_000_000_000_i64..250_000_000_000).prop_map(|s| {
            let mut out = Vec::new();
            calendar::push_time(&mut out, s, 0);
            Written::Text(String::from_utf8(out).unwrap())
        }),
    ];
    let leaf = prop_oneof![plain.prop_map(Written::Plain), texts];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Written::List),
            prop::collection::vec((prop::sample::select(&NAMES[..]), inner), 0..6).prop_map(Written::Object),
        ]
    })
}

fn record() -> impl Strategy<Value = Written> {
    prop::collection::vec((prop::sample::select(&NAMES[..]), written()), 0..9).prop_map(Written::Object)
}

/// Prints a value with the blanks and escapes that `style` chooses.
fn print(value: &Written, style: &mut dyn FnMut() -> u8, out: &mut String) {
    let blank = |style: &mut dyn FnMut() -> u8, out: &mut String| {
        out.push_str(["", "", "", "", "", " ", "\t", "\r\n "][usize::from(style() % 8)]);
    };
    let separate = |first: bool, style: &mut dyn FnMut() -> u8, out: &mut String| {
        out.push_str(if first { "" } else { "," });
        blank(style, out);
    };
    match value {
        Written::Plain(text) => out.push_str(text),
        Written::Text(text) => {
            let escaped = serde_json::to_string(text).unwrap();
            match style() % 4 {
                0 => {
                    let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
                    out.push_str(&format!("\"{}\"", units.concat()));
                }
                _ => out.push_str(&escaped),
            }
        }
        Written::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                separate(i == 0, style, out);
                print(item, style, out);
            }
            out.push(']');
        }
        Written::Object(fields) => {
            out.push('{');
            for (i, (name, field)) in fields.iter().enumerate() {
                separate(i == 0, style, out);
                out.push_str(&format!("\"{name}\""));
                blank(style, out);
                out.push(':');
                blank(style, out);
                print(field, style, out);
                blank(style, out);
            }
            out.push('}');
        }
    }
}

/// What a column should hold, by the rules as they are written; `Err`: its row is bad.
fn expected(value: &Written, column_type: &ColumnType) -> Result<Value, ()> {
    let micros = |text: &str, unit: i64| {
        let number: i64 = text.parse().map_err(|_| ())?;
        let mut out = Vec::new();
        let decimals = [(1_000_000, 0), (1000, 3), (1, 6)].iter().find(|(u, _)| *u == unit).unwrap().1;
        calendar::push_time(&mut out, number, decimals);
        Ok(Value::String(String::from_utf8(out).unwrap()))
    };
    match (value, column_type) {
        (Written::Plain(text), _) if text == "null" => Ok(Value::Null),
        (_, ColumnType::Json) => {
            let mut text = String::new();
            print(value, &mut || 1, &mut text);
            Ok(serde_json::from_str(&text).unwrap())
        }
        (Written::Plain(text), ColumnType::Bool) if text == "true" || text == "false" => Ok(json!(text == "true")),
        (Written::Plain(text), _) if text == "true" || text == "false" => Err(()),
        (Written::Text(text), ColumnType::String) => Ok(json!(text)),
        (Written::Plain(text), ColumnType::Int64) => text.parse::<i64>().map(Value::from).map_err(|_| ()),
        (Written::Plain(text), ColumnType::Float64) => Ok(json!(text.parse::<f64>().unwrap())),
        (Written::Plain(text) | Written::Text(text), ColumnType::Decimal { precision, scale }) => {
            let unscaled = decimal::parse_decimal(text, *precision, *scale).map_err(|_| ())?;
            let mut out = Vec::new();
            decimal::push_decimal(&mut out, unscaled, *scale);
            Ok(serde_json::from_slice(&out).unwrap())
        }
        (Written::Plain(text), ColumnType::TimestampSeconds) => micros(text, 1_000_000),
        (Written::Plain(text), ColumnType::TimestampMillis) => micros(text, 1000),
        (Written::Plain(text), ColumnType::TimestampMicros) => micros(text, 1),
        (Written::Text(text), ColumnType::Timestamp) => micros(&calendar::parse_time(text).ok_or(())?.to_string(), 1),
        (Written::List(items), ColumnType::List(item)) => {
            items.iter().map(|value| expected(value, item)).collect::<Result<Vec<_>, ()>>().map(Value::from)
        }
        (Written::Object(given), ColumnType::Struct(fields)) => fields
            .iter()
            .map(|(name, column_type)| Ok((name.clone(), last_of(given, name, column_type)?)))
            .collect::<Result<serde_json::Map<_, _>, ()>>()
            .map(Value::from),
        _ => Err(()),
    }
}

/// All values of a field must fit, the last counts.
fn last_of(given: &[(&str, Written)], name: &str, column_type: &ColumnType) -> Result<Value, ()> {
    let values = given.iter().filter(|(n, _)| *n == name).map(|(_, value)| expected(value, column_type));
    Ok(values.collect::<Result<Vec<_>, ()>>()?.pop().unwrap_or(Value::Null))
}

const COLUMNS: [&str; 8] = [
    "a: string",
    "b: int64",
    "c: float64",
    "d: decimal(20,2)",
    "e: list<struct{a: int64, x: string}>",
    "user: struct{a: json, b: timestamp, c: bool}",
    "x: json",
    "ts: timestamp_ms",
];

fn expected_row(record: &Written, columns: &[&str]) -> Option<Value> {
    let Written::Object(given) = record else { return None };
    let schema = schema(columns);
    let cells = schema.columns.iter().map(|c| Ok((c.name.clone(), last_of(given, &c.name, &c.column_type)?)));
    cells.collect::<Result<serde_json::Map<_, _>, ()>>().ok().map(Value::from)
}

/// Numbers compare as they are written: a `json` column keeps its text, a float its value.
fn as_read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn check_against_oracle(records: &[Written], style: &[u8], columns: &[&str]) -> Result<(), TestCaseError> {
    let mut turn = 0;
    let mut style = || {
        turn += 1;
        style[turn % style.len()]
    };
    let printed: Vec<String> = records
        .iter()
        .map(|record| {
            let mut text = String::new();
            print(record, &mut style, &mut text);
            text
        })
        .collect();
    let decoded = decode(&mut decoder(columns), &printed);
    let mut slow = decoder(columns);
    slow.flat.usable = false;
    let slowly = decode(&mut slow, &printed);
    prop_assert_eq!((&decoded.batches, &decoded.bad), (&slowly.batches, &slowly.bad));
    // Read as what was found is: the reader may miss the last digit of a float.
    let expected = records.iter().filter_map(|record| expected_row(record, columns));
    let expected: Vec<Value> = expected.map(|row| as_read(&row.to_string())).collect();
    let found: Vec<Value> = decoded.batches.iter().flat_map(texts).map(|text| as_read(&text)).collect();
    prop_assert_eq!(&found, &expected, "{:?} {:?}", printed, decoded.bad);
    prop_assert_eq!(decoded.bad.len(), records.len() - expected.len());
    prop_assert!(decoded.bad.iter().all(|bad| bad.code == "type"), "{:?}", decoded.bad);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn decoding_equals_a_naive_reading(
        records in prop::collection::vec(record(), 1..6),
        style in prop::collection::vec(any::<u8>(), 1..40),
        first in 0_usize..8,
        count in 1_usize..8,
    ) {
        // Fewer columns let more rows be good.
        let columns: Vec<&str> = COLUMNS.iter().cycle().skip(first).take(count).copied().collect();
        check_against_oracle(&records, &style, &columns)?;
    }

    #[test]
    fn both_readers_agree_on_damaged_records(
        record in record(),
        style in prop::collection::vec(any::<u8>(), 1..40),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&b"{}[]:,\"\\0-.eE1ntf \x01u\xc3"[..]), 0_u8..3), 0..3),
    ) {
        let (mut text, mut turn) = (String::new(), 0);
        print(&record, &mut || { turn += 1; style[turn % style.len()] }, &mut text);
        let mut bytes = text.into_bytes();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => { bytes.remove(at); }
                _ => {}
            }
        }
        let fast = decode(&mut decoder(&COLUMNS), &[&bytes]);
        let mut slow = decoder(&COLUMNS);
        slow.flat.usable = false;
        let slow = decode(&mut slow, &[&bytes]);
        prop_assert_eq!((&fast.batches, &fast.bad), (&slow.batches, &slow.bad));
        let reference = serde_json::from_slice::<Value>(&bytes);
        let code = fast.bad.first().map(|bad| bad.code.as_str());
        match (std::str::from_utf8(&bytes), reference) {
            (Err(_), _) => prop_assert_eq!(code, Some("utf8")),
            (_, Ok(_)) => prop_assert!(code != Some("malformed"), "{:?}", fast.bad),
            // `serde_json` reads every value, we only those in use, and no number into a double that is not one.
            (_, Err(error)) if error.to_string().contains("out of range") || error.to_string().contains("hex escape") => {}
            (_, Err(error)) => prop_assert_eq!(code, Some("malformed"), "{}", error),
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let decoded = decode(&mut decoder(&COLUMNS), &[&bytes]);
        prop_assert_eq!(decoded.bad.len() + decoded.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    }

    #[test]
    fn encoded_text_is_read_back(texts in prop::collection::vec(prop::option::of(any::<String>()), 1..5), floats: Vec<f64>) {
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("te\"xt", std::sync::Arc::new(StringArray::from(texts.clone())) as _, true),
        ]).unwrap();
        for (line, text) in super::super::samples::texts(&rows).iter().zip(&texts) {
            prop_assert_eq!(serde_json::from_str::<Value>(line).unwrap(), json!({"te\"xt": text}));
        }
        for float in floats {
            let array = arrow::array::Float64Array::from(vec![float]);
            let rows = RecordBatch::try_from_iter_with_nullable([("f", std::sync::Arc::new(array) as _, true)]).unwrap();
            let line = &super::super::samples::texts(&rows)[0];
            let back = line[5..line.len() - 1].parse::<f64>();
            prop_assert_eq!(back.ok(), Some(float).filter(|f| f.is_finite()));
        }
    }
}

#[test]
fn foreign_types_have_a_text_form_too() {
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("f", std::sync::Arc::new(Float32Array::from(vec![0.1, f32::NAN])) as _, true),
        (
            "d",
            std::sync::Arc::new(Decimal128Array::from(vec![5, -1205]).with_precision_and_scale(9, 2).unwrap()) as _,
            true,
        ),
        ("t", std::sync::Arc::new(TimestampNanosecondArray::from(vec![Some(-1), None])) as _, true),
        ("u", std::sync::Arc::new(arrow::array::UInt64Array::from(vec![u64::MAX, 0])) as _, true),
        ("v", std::sync::Arc::new(arrow::array::StringViewArray::from(vec!["a", "b"])) as _, true),
        ("__time", std::sync::Arc::new(arrow::array::Int64Array::from(vec![1, 2])) as _, true),
    ])
    .unwrap();
    assert_eq!(
        texts(&rows),
        [
            r#"{"f":0.1,"d":0.05,"t":"1969-12-31T23:59:59.999999999Z","u":18446744073709551615,"v":"a"}"#,
            r#"{"f":null,"d":-12.05,"t":null,"u":0,"v":"b"}"#,
        ]
    );
}

#[test]
fn keys_stand_before_the_rows() {
    let decoded =
        decode(&mut decoder(&["s: string", "n: int64", "t: timestamp_ms"]), &[r#"{"s":"k\n","n":1,"t":5}"#, "{}"]);
    let rows = &decoded.batches[0];
    let keyed = |columns: Vec<usize>| {
        let mut out = EncodedRows::default();
        let mut encoder = JsonEncoder::new(&rows.schema(), Timestamps::EpochMillis, Some(columns)).unwrap();
        encoder.encode(rows, &mut out).unwrap();
        assert_eq!(out.key_value(0).1, b"{\"s\":\"k\\n\",\"n\":1,\"t\":5}");
        [0, 1].map(|row| String::from_utf8(out.key_value(row).0.unwrap().to_vec()).unwrap())
    };
    assert_eq!(keyed(vec![0]), ["k\n", ""]);
    assert_eq!(keyed(vec![1]), ["1", ""]);
    assert_eq!(keyed(vec![0, 1]), ["[\"k\\n\",1]", "[null,null]"]);
    assert!(JsonEncoder::new(&rows.schema(), Timestamps::Rfc3339, Some(vec![9])).is_err());
}
