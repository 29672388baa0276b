//! Files as splits: what is found, what is refused, and that packing changes nothing.

use std::fs::{create_dir_all, write};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Float32Array, Int32Array, LargeStringArray, ListArray, RecordBatch, StringArray,
    StructArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Int32Type, Int64Type};
use riverrun_dataflow::schema::Hidden;
use riverrun_dataflow::source::{ReadLimits, Source, SourceError, SplitReader};
use serde_json::json;
use tempfile::tempdir;

use super::super::{Compression, FileSource, FileSourceConfig};
use super::{ALL, bytes, decode_all, read_all, records, rows_of, source, write_parquet};
use crate::format::samples::{codes, schema, values};
use crate::format::{CsvOptions, FormatSpec};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn lines(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| format!("{{\"n\":{i},\"s\":\"{}\"}}\n", "ä".repeat(i % 50)).into_bytes()).collect()
}

fn names(source: &FileSource) -> Vec<String> {
    source.splits(true).unwrap().into_iter().map(|split| split.name).collect()
}

fn error_of<T>(result: Result<T, SourceError>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn packed_files_give_the_same_bytes_from_every_position() {
    let dir = tempdir().unwrap();
    let plain = lines(30_000);
    let (first, second) = plain.split_at(plain.len() / 3);
    write(dir.path().join("a.jsonl"), &plain).unwrap();
    write(dir.path().join("a.jsonl.gz"), [gzip(first), gzip(second)].concat()).unwrap();
    let frames = [zstd::encode_all(first, 1).unwrap(), zstd::encode_all(second, 1).unwrap()];
    write(dir.path().join("a.jsonl.zst"), frames.concat()).unwrap();
    for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
        let source = source(&dir.path().join(name), FormatSpec::Json, &schema(&["n: int64"]));
        let split = &source.splits(true).unwrap()[0];
        assert_eq!((split.name.as_str(), split.end), (name, (name == "a.jsonl").then_some(plain.len() as u64)));
        let chunks = read_all(&mut *source.open(split, 0).unwrap(), &ReadLimits { rows: 700, ..ALL });
        assert_eq!(bytes(&chunks), plain);
        assert_eq!(records(&chunks).len(), 30_000);
        for position in [chunks[0].to, chunks[20].to, plain.len() as u64] {
            let rest = read_all(&mut *source.open(split, position).unwrap(), &ALL);
            assert_eq!(bytes(&rest), plain[position as usize..]);
        }
    }
}

#[test]
fn a_packed_file_that_is_cut_or_broken_is_told_by_name() {
    let dir = tempdir().unwrap();
    let (gz, zst) = (gzip(&lines(20_000)), zstd::encode_all(&lines(20_000)[..], 1).unwrap());
    let mut broken = gz.clone();
    let middle = broken.len() / 2;
    broken[middle..middle + 64].fill(0xa5);
    for (name, content) in [
        ("cut.gz", &gz[..gz.len() - 9]),
        ("half.gz", &gz[..gz.len() / 2]),
        ("head.gz", &gz[..5]),
        ("broken.gz", &broken[..]),
        ("cut.zst", &zst[..zst.len() - 5]),
        ("none.zst", b"no such thing"),
    ] {
        write(dir.path().join(name), content).unwrap();
        let source = source(&dir.path().join(name), FormatSpec::Json, &schema(&["n: int64"]));
        let split = &source.splits(true).unwrap()[0];
        let read = || {
            let mut reader = source.open(split, 0)?;
            while reader.read(&ALL)?.is_some() {}
            Ok(reader.ended())
        };
        let error: SourceError = read().expect_err(name);
        assert!(matches!(error, SourceError::Damaged { .. }) && error.to_string().contains(name), "{name}: {error}");
    }
}

#[test]
fn a_glob_finds_files_below_its_root() {
    let dir = tempdir().unwrap();
    for name in ["in/b.jsonl", "in/a.jsonl", "in/x/c.jsonl", "in/x/d.csv", "in/[odd].jsonl", "z.jsonl"] {
        create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        write(dir.path().join(name), "{}\n").unwrap();
    }
    let found = |pattern: &str| names(&source(&dir.path().join(pattern), FormatSpec::Json, &schema(&["n: int64"])));
    assert_eq!(found("in/*.jsonl"), ["[odd].jsonl", "a.jsonl", "b.jsonl"]);
    assert_eq!(found("in/**/*.jsonl"), ["[odd].jsonl", "a.jsonl", "b.jsonl", "x/c.jsonl"]);
    assert_eq!(found("in/{a,b}.jsonl"), ["a.jsonl", "b.jsonl"]);
    assert_eq!(found("i?/x/c.jsonl"), ["in/x/c.jsonl"]);
    assert_eq!(found("in/x/c.jsonl"), ["c.jsonl"]);
    assert_eq!(found("in/[odd].jsonl"), ["[odd].jsonl"]);
}

#[test]
fn what_cannot_be_found_is_told() {
    let dir = tempdir().unwrap();
    create_dir_all(dir.path().join("in")).unwrap();
    let error = |pattern: &str| {
        error_of(source(&dir.path().join(pattern), FormatSpec::Json, &schema(&["n: int64"])).splits(true))
    };
    assert!(error("in/*.jsonl").ends_with("in` matches the pattern"), "{}", error("in/*.jsonl"));
    assert!(error("out/*.jsonl").contains("there is no folder"), "{}", error("out/*.jsonl"));
    assert!(error("a.jsonl").contains("there is no such file"));
    assert!(error("in").contains("it is a folder; name its files, such as"), "{}", error("in"));
    let config = |path: &str, format| FileSourceConfig {
        path: path.to_owned(),
        format,
        compression: Compression::Auto,
        schema: Arc::new(schema(&["n: int64"])),
    };
    assert!(FileSource::new(config("a[", FormatSpec::Json)).unwrap_err().0.contains("no path pattern"));
    let odd = CsvOptions { delimiter: b'"', ..CsvOptions::default() };
    assert!(FileSource::new(config("a", FormatSpec::Csv(odd))).unwrap_err().0.contains("delimiter"));
}

#[test]
fn a_file_that_changed_is_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    write(&path, lines(10)).unwrap();
    let source = source(&path, FormatSpec::Json, &schema(&["n: int64"]));
    let split = source.splits(true).unwrap().remove(0);
    let opened = |says: &str| {
        let error = source.open(&split, 0).err().unwrap();
        assert!(matches!(error, SourceError::Changed { .. }) && error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains("a.jsonl"), "{error}");
    };
    write(&path, lines(11)).unwrap();
    opened("riverrun topic import");
    let mut other = lines(10);
    other[5] = b'7';
    write(&path, &other).unwrap();
    opened("its content is another");
    write(&path, &lines(10)[..50]).unwrap();
    opened("now 50");
    std::fs::remove_file(&path).unwrap();
    opened("it is gone");
    write(&path, lines(10)).unwrap();
    assert!(source.open(&split, 0).is_ok());
}

#[test]
fn csv_is_read_by_the_names_in_its_header() {
    let dir = tempdir().unwrap();
    let header = "when;what ;n;\"ok\";amount;tags";
    let body = [
        "2026-01-01T00:00:00Z;\"a;\"\"b\"\"\nc\";1;true;1.50;\"[1,2]\"",
        "2026-01-01T00:00:01Z;NA;NA;NA;NA;NA",
        "2026-01-01T00:00:02Z;\"NA\";\"2\";\"NA\";-3;[]",
        "2026-01-01T00:00:03Z;x;1.5;true;1;[]",
        "2026-01-01T00:00:03Z;x;1;True;1;[]",
        "2026-01-01T00:00:03Z;x;1;true;1.555;[]",
        "2026-01-01T00:00:03Z;x;1;true;1;[",
        "2026-01-01T00:00:03Z;x;1;true;1",
        "2026-01-01T00:00:03Z;x;1;true;1;[];",
        "NA;x;1;true;1;[]",
        "2026-01-01T00:00:04Z;;3;false;0.01;[null]",
    ];
    write(dir.path().join("a.csv"), format!("{header}\r\n{}", body.join("\r\n"))).unwrap();
    write(dir.path().join("b.csv"), format!("\u{feff}{header}\n")).unwrap();
    let options = CsvOptions { header: true, delimiter: b';', null: "NA".to_owned() };
    let mut schema = schema(&[
        "ts: timestamp @ when",
        "what: string",
        "ok: bool",
        "n: int64",
        "amount: decimal(9,2)",
        "tags: list<int64>",
        "gone: string",
    ]);
    schema.event_time = Some("ts".to_owned());
    let decoded = decode_all(&source(&dir.path().join("*.csv"), FormatSpec::Csv(options.clone()), &schema));
    let row = |second: u8, what, ok, n, amount, tags| {
        let ts = format!("2026-01-01T00:00:0{second}.000000Z");
        json!({"ts": ts, "what": what, "ok": ok, "n": n, "amount": amount, "tags": tags, "gone": null})
    };
    let none: Option<i64> = None;
    assert_eq!(
        values(&decoded),
        [
            row(0, Some("a;\"b\"\nc"), Some(true), Some(1), Some(1.5), Some(vec![Some(1), Some(2)])),
            row(1, None, None, none, None, None),
            row(2, Some("NA"), None, Some(2), Some(-3.0), Some(vec![])),
            row(4, Some(""), Some(false), Some(3), Some(0.01), Some(vec![None])),
        ]
    );
    assert_eq!(codes(&decoded), ["type", "type", "type", "malformed", "malformed", "malformed", "missing"]);
    assert_eq!(decoded.bad[4].reason, "the record has 5 fields, not 6");

    write(dir.path().join("b.csv"), "when;n;what;ok;amount;tags\n").unwrap();
    let mixed = source(&dir.path().join("*.csv"), FormatSpec::Csv(options.clone()), &schema);
    let splits = mixed.splits(true).unwrap();
    assert!(mixed.open(&splits[0], 0).is_ok());
    assert!(error_of(mixed.open(&splits[1], 0)).contains("all must have one"));
    write(dir.path().join("b.csv"), "n;what\n").unwrap();
    let lacking = source(&dir.path().join("b.csv"), FormatSpec::Csv(options), &schema);
    let error = error_of(lacking.open(&lacking.splits(true).unwrap()[0], 0));
    assert!(error.contains("its header has no column `when`; it has n, what"), "{error}");
}

fn parquet_rows() -> RecordBatch {
    let ids: ArrayRef = Arc::new(UInt64Array::from(vec![Some(1), Some(2), None, Some(u64::MAX)]));
    let inner: ArrayRef = Arc::new(LargeStringArray::from(vec!["a", "b", "c", "d"]));
    let user = StructArray::from(vec![(
        Arc::new(arrow::datatypes::Field::new("name", inner.data_type().clone(), true)),
        inner,
    )]);
    let user =
        StructArray::new(user.fields().clone(), user.columns().to_vec(), Some(vec![true, false, true, true].into()));
    let kinds: DictionaryArray<Int32Type> = vec![Some("x"), Some("y"), Some("x"), None].into_iter().collect();
    let times = TimestampNanosecondArray::from(vec![1_999, 2_000_000_000, 3_000_000_000, 4_000_000_000]);
    let tags = ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
        Some(vec![Some(2)]),
    ]);
    RecordBatch::try_from_iter_with_nullable([
        ("id", ids, true),
        ("user", Arc::new(user) as ArrayRef, true),
        ("kind", Arc::new(kinds), true),
        ("ts", Arc::new(times.with_timezone("UTC")), true),
        ("tags", Arc::new(tags), true),
        ("f", Arc::new(Float32Array::from(vec![0.5, 1.5, f32::NAN, 2.0])), true),
        ("small", Arc::new(Int32Array::from(vec![Some(5), None, Some(7), Some(8)])), true),
        ("doc", Arc::new(StringArray::from(vec![Some("{ \"a\": 1 }"), None, Some("[2]"), Some("{")])), true),
    ])
    .unwrap()
}

#[test]
fn parquet_types_become_the_declared_ones() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    write_parquet(&path, &[parquet_rows()], 3);
    let mut schema = schema(&[
        "id: int64",
        "name: string @ user.name",
        "user: json",
        "kind: string",
        "ts: timestamp_us",
        "tags: list<int64>",
        "f: float64",
        "n: decimal(9,2) @ small",
        "doc: json",
        "gone: date",
    ]);
    schema.event_time = Some("ts".to_owned());
    schema.hidden = vec![Hidden::Position, Hidden::Time];
    let decoded = decode_all(&source(&path, FormatSpec::Parquet, &schema));
    let row = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(
        values(&decoded),
        [
            row(
                r#"{"id":1,"name":"a","user":{"name":"a"},"kind":"x","ts":"1970-01-01T00:00:00.000001Z","tags":[1,null],"f":0.5,"n":5.00,"doc":{"a":1},"gone":null}"#
            ),
            row(
                r#"{"id":2,"name":null,"user":null,"kind":"y","ts":"1970-01-01T00:00:02.000000Z","tags":null,"f":1.5,"n":null,"doc":null,"gone":null}"#
            ),
            row(
                r#"{"id":null,"name":"c","user":{"name":"c"},"kind":"x","ts":"1970-01-01T00:00:03.000000Z","tags":[],"f":null,"n":7.00,"doc":[2],"gone":null}"#
            ),
        ]
    );
    assert_eq!((codes(&decoded), decoded.bad[0].position), (vec!["type"], 3));
    assert!(decoded.bad[0].reason.contains("`id` is int64"), "{}", decoded.bad[0].reason);
    let raw: serde_json::Value = serde_json::from_slice(&decoded.bad[0].raw).unwrap();
    assert_eq!((&raw["id"], &raw["kind"]), (&json!(u64::MAX), &json!(null)));
}

#[test]
fn parquet_is_cut_and_read_again_by_row_number() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let rows = |from: i64, to: i64| {
        let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(from..to));
        RecordBatch::try_from_iter([("n", numbers.clone()), ("other", numbers)]).unwrap()
    };
    write_parquet(&path, &[rows(0, 9000), rows(9000, 20_000)], 3000);
    let source = source(&path, FormatSpec::Parquet, &schema(&["n: int64"]));
    let split = source.splits(true).unwrap().remove(0);
    assert_eq!(split.end, Some(20_000));
    let numbers = |reader: &mut dyn SplitReader, limits: &ReadLimits| -> Vec<i64> {
        let chunks = read_all(reader, limits);
        let mut found = Vec::new();
        for chunk in chunks {
            let riverrun_dataflow::source::Payload::Columns(rows) = &chunk.payload else { panic!() };
            assert_eq!(rows.num_columns(), 1, "only the column in use is read");
            assert_eq!(chunk.to - chunk.from, rows.num_rows() as u64);
            let values = arrow::array::AsArray::as_primitive::<Int64Type>(rows.column(0)).values().to_vec();
            assert_eq!(values[0] as u64, chunk.from);
            found.extend(values);
        }
        found
    };
    for position in [0, 1, 2999, 3000, 8192, 19_999, 20_000] {
        for rows in [37, 8192, usize::MAX] {
            let mut reader = source.open(&split, position).unwrap();
            assert_eq!(reader.ended(), position == 20_000);
            let found = numbers(&mut *reader, &ReadLimits { rows, ..ALL });
            assert_eq!(found, (position as i64..20_000).collect::<Vec<_>>());
        }
        let limits = ReadLimits { until: Some(position + 5), ..ALL };
        assert_eq!(
            numbers(&mut *source.open(&split, position).unwrap(), &limits).len() as u64,
            5.min(20_000 - position)
        );
    }
}

#[test]
fn what_of_parquet_fits_a_limit_of_bytes_does_not_depend_on_where_reading_began() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..20_000));
    write_parquet(&path, &[RecordBatch::try_from_iter([("n", numbers)]).unwrap()], 3000);
    let source = source(&path, FormatSpec::Parquet, &schema(&["n: int64"]));
    let split = source.splits(true).unwrap().remove(0);
    let read = |reader: &mut dyn SplitReader, rows: usize, bytes: usize| {
        reader.read(&ReadLimits::at_most(rows, bytes)).unwrap().unwrap().rows()
    };
    let mut calm = source.open(&split, 0).unwrap();
    assert_eq!(read(&mut *calm, 5000, usize::MAX), 5000);
    let mut again = source.open(&split, 5000).unwrap();
    assert_eq!(read(&mut *calm, 5000, 1000 * 64), 1000);
    assert_eq!(read(&mut *again, 5000, 1000 * 64), 1000);
}

#[test]
fn parquet_that_does_not_fit_is_refused_when_it_is_opened() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    write_parquet(&path, &[parquet_rows()], 100);
    let opened = |columns: &[&str]| {
        let source = source(&path, FormatSpec::Parquet, &schema(columns));
        error_of(source.open(&source.splits(true).unwrap()[0], 0))
    };
    assert!(opened(&["id: string"]).contains("column `id` is string, which UInt64 in the file cannot become"));
    assert!(opened(&["kind: int64"]).contains("cannot become"));
    assert!(opened(&["tags: list<string>"]).contains("cannot become"));
    assert!(opened(&["u: struct{name: int64} @ user"]).contains("cannot become"));
    assert!(opened(&["n: decimal(9,2) @ f"]).contains("cannot become"));
    let missing = opened(&["nothing: int64!"]);
    assert!(missing.contains("it has no column `nothing`; it has id, user, kind"), "{missing}");
    write(&path, "PAR1 this is no Parquet file PAR1").unwrap();
    let broken = source(&path, FormatSpec::Parquet, &schema(&["n: int64"]));
    assert!(matches!(broken.splits(true), Err(SourceError::Damaged { .. })));
}

#[test]
fn empty_files_end_at_once() {
    let dir = tempdir().unwrap();
    for name in ["a.jsonl", "b.csv", "c.jsonl.gz", "d.jsonl.zst"] {
        let path = dir.path().join(name);
        let content = match name {
            "c.jsonl.gz" => gzip(b""),
            "d.jsonl.zst" => zstd::encode_all(&b""[..], 1).unwrap(),
            _ => Vec::new(),
        };
        write(&path, content).unwrap();
        let format = if name == "b.csv" { FormatSpec::Csv(CsvOptions::default()) } else { FormatSpec::Json };
        let source = source(Path::new(&path), format, &schema(&["n: int64"]));
        assert!(source.open(&source.splits(true).unwrap()[0], 0).unwrap().ended());
        assert_eq!(rows_of(&source), [] as [serde_json::Value; 0]);
    }
}
