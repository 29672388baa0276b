//! How much CPU time does a row take from JSON bytes to columns, and back to bytes?
//!
//! `cargo run --release -p riverrun-connectors --example decode_speed [rows]`, on click lines as the peers of `benches/` read them.

use std::sync::Arc;
use std::time::Instant;

use riverrun_connectors::format::{
    Column, ColumnType, EncodeSpec, FormatSpec, RowSchema, Timestamps, decoder, encoder,
};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::schema::Hidden;
use riverrun_dataflow::sink::EncodedRows;
use riverrun_dataflow::source::{Chunk, DecodeContext, Decoded, Numbering, Payload, Records};

const KINDS: [&str; 4] = ["click", "view", "impression", "click"];

fn clicks(rows: usize, escaped: bool) -> Chunk {
    let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
    for i in 0..rows {
        let start = bytes.len();
        let (user, item) = (i * 7919 % 100_000, i * 104_729 % 10_000);
        let slash = if escaped { "\\/" } else { "-" };
        bytes.extend_from_slice(
            format!(
                "{{\"event_id\":\"ev-{i:010}\",\"ts\":{},\"user_id\":\"u{slash}{user:07}\",\"session_id\":\"s-{:08}\",\
                 \"item_id\":\"i-{item:06}\",\"event_type\":\"{}\",\"page\":\"/home/p/{item:06}\",\"x\":{},\"y\":{}}}",
                1_767_225_600_000_u64 + i as u64,
                i / 9,
                KINDS[i % 4],
                i % 1280,
                i % 720,
            )
            .as_bytes(),
        );
        ranges.push((start as u32, bytes.len() as u32));
        bytes.push(b'\n');
    }
    let to = bytes.len() as u64;
    Chunk {
        from: 0,
        to,
        payload: Payload::Records(Records { bytes: Arc::new(bytes), ranges, numbering: Numbering::Offset }),
    }
}

fn schema() -> RowSchema {
    let text = |name: &str| Column::new(name, ColumnType::String);
    let names = ["event_id", "user_id", "item_id", "event_type"];
    let mut columns: Vec<Column> = names.iter().map(|name| text(name)).collect();
    columns.push(Column::new("ts", ColumnType::TimestampMillis));
    RowSchema {
        columns,
        event_time: Some("ts".to_owned()),
        clocks: None,
        id: Some("event_id".to_owned()),
        hidden: vec![Hidden::Time, Hidden::Id, Hidden::Split, Hidden::Position],
        ..RowSchema::default()
    }
}

/// Returns the CPU time of this thread in seconds, or the time on the clock where the system does not tell.
#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
fn seconds(begin: Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanos.map_or_else(|| Instant::now().duration_since(begin).as_secs_f64(), |nanos| nanos / 1e9)
}

/// Prints the best CPU time per row of several runs of `work` over `rows` rows.
#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
fn measure(name: &str, rows: usize, mut work: impl FnMut()) {
    let begin = Instant::now();
    let mut best = f64::MAX;
    for _ in 0..15 {
        let start = seconds(begin);
        work();
        best = best.min(seconds(begin) - start);
    }
    println!("{name:40} {:7.3} us/row", best * 1e6 / rows as f64);
}

fn main() {
    let rows: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(65_536);
    let context = DecodeContext { split: 0, name: String::new(), accept: EventTime(0)..=EventTime(i64::MAX) };
    let schema = Arc::new(schema());
    let make = decoder(&FormatSpec::Json, schema.clone()).expect("the schema is sound");
    let mut decoded = Decoded::default();
    for (name, escaped) in [("flat objects", false), ("objects with an escape (serde_json)", true)] {
        let (chunk, mut decoder) = (clicks(rows, escaped), make());
        measure(name, rows, || {
            decoded = Decoded::default();
            decoder.decode(&chunk, &context, &mut decoded);
            assert!(decoded.bad.is_empty());
        });
    }
    let spec = EncodeSpec::Json { timestamps: Timestamps::Rfc3339 };
    let mut encoder = encoder(&spec, schema.arrow(), None).expect("all types have a text form")();
    measure("encode", rows, || {
        for batch in &decoded.batches {
            let mut out = EncodedRows::default();
            encoder.encode(batch, &mut out).expect("rows are encodable");
            std::hint::black_box(out);
        }
    });
}
