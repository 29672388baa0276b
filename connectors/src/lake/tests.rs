//! What the tests of a lake stand on: a job that feeds a lane, dies anywhere and starts again, and two kinds of readers.

mod crash;
mod entry;
mod merge;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use riverrun_dataflow::objects::Objects;
use riverrun_dataflow::schema::{Hidden, with_hidden};
use riverrun_dataflow::sink::{Claim, EncodedRows, Encoder, Sink, SinkError, TickRows, Urgency};
use riverrun_dataflow::testing::objects::MemoryObjects;
use riverrun_dataflow::tick::Tick;

use super::*;

const HOUR: i64 = 3_600_000_000;

fn schema() -> SchemaRef {
    let columns = [Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)];
    with_hidden(&columns, &[Hidden::Time])
}

/// Rows with these ids. Rows of one tick lie in two hours; every seventh has no event time.
fn tick(tick: Tick, ids: std::ops::Range<i64>) -> TickRows {
    let names: StringArray = ids.clone().map(|id| (id % 5 > 0).then(|| format!("name {id}"))).collect();
    let times: Vec<i64> = ids.clone().map(|id| if id % 7 == 0 { i64::MIN } else { id % 2 * HOUR + id }).collect();
    let batch = RecordBatch::try_new(
        schema(),
        vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(names), Arc::new(Int64Array::from(times.clone()))],
    )
    .unwrap();
    let mut rows = EncodedRows::default();
    LakeEncoder::new(&schema()).unwrap().encode(&batch, &mut rows).unwrap();
    TickRows { tick, rows, times }
}

/// Ticks of ten rows each.
fn ticks(numbers: std::ops::RangeInclusive<Tick>) -> Vec<TickRows> {
    numbers.map(|number| tick(number, number as i64 * 10..number as i64 * 10 + 10)).collect()
}

fn ids(numbers: std::ops::RangeInclusive<Tick>) -> Vec<i64> {
    (*numbers.start() as i64 * 10..*numbers.end() as i64 * 10 + 10).collect()
}

fn config() -> LakeSinkConfig {
    LakeSinkConfig {
        schema: schema(),
        layout: Layout::default(),
        partition_by: PartitionBy::Hour,
        file_size: 2000,
        every: Duration::from_secs(60),
        lanes: 1,
    }
}

fn sink_on(objects: Arc<dyn Objects>, layout: Layout) -> LakeSink {
    let config = LakeSinkConfig { layout, ..config() };
    LakeSink::new(config, Arc::new(move || Ok(objects.clone())))
}

fn claim(generation: u64) -> Claim {
    Claim {
        job: "shop".into(),
        incarnation: "1a2b3c4d5e6f".into(),
        sink: "rows".into(),
        generation,
        fresh: false,
        append: false,
    }
}

/// Opens a lane and feeds it all ticks after its token, some at a time, as the engine does.
fn feed(objects: Arc<dyn Objects>, layout: Layout, generation: u64, upto: Tick) -> Result<(), SinkError> {
    let (mut lane, token) = sink_on(objects, layout).open(0, &claim(generation))?;
    let first = token.map_or(1, |token| token.tick + 1);
    let left = ticks(first..=upto);
    for some in left.chunks(3) {
        lane.take(some.last().unwrap().tick, some, Urgency::Later)?;
    }
    let reached = lane.take(upto, &[], Urgency::Now)?;
    assert_eq!(reached.covers, upto, "all is out that was to be out");
    Ok(())
}

fn ids_in(objects: &dyn Objects, path: &str) -> Vec<i64> {
    let bytes = objects.get(path).unwrap().unwrap_or_else(|| panic!("`{path}` is not there"));
    let mut found = Vec::new();
    for rows in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
        found.extend_from_slice(rows.unwrap().column_by_name("id").unwrap().as_primitive::<Int64Type>().values());
    }
    found
}

/// The ids that a reader sees who goes by the records.
fn counted(objects: &Arc<MemoryObjects>) -> Vec<i64> {
    let Some(lake) = Lake::read(objects.clone()).unwrap() else { return Vec::new() };
    let mut found = Vec::new();
    for placed in lake.files().unwrap() {
        let ids = ids_in(objects.as_ref(), &placed.at);
        assert_eq!(ids.len() as u64, placed.file.rows);
        found.extend(ids);
    }
    found.sort_unstable();
    found
}

/// The ids that a reader sees who lists the folders.
fn listed(objects: &Arc<MemoryObjects>) -> Vec<i64> {
    let paths = objects.paths().into_iter().filter(|path| path.ends_with(".parquet"));
    let mut found: Vec<i64> = paths.flat_map(|path| ids_in(objects.as_ref(), &path)).collect();
    found.sort_unstable();
    found
}

fn contents(objects: &Arc<MemoryObjects>) -> BTreeMap<String, bytes::Bytes> {
    let paths = objects.paths().into_iter().filter(|path| path.ends_with(".parquet"));
    paths.map(|path| (path.clone(), objects.get(&path).unwrap().unwrap())).collect()
}
