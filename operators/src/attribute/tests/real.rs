//! Real purchases and the views before them (diginetica, not ours to give away: read where it is laid out).

use std::fs::File;
use std::path::PathBuf;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;

fn data() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let root = std::env::var_os("RIVERRUN_TEST_DATA").map_or(beside, PathBuf::from).join("diginetica");
    root.join("views.parquet").exists().then_some(root)
}

/// Reads a table with the step's hidden columns: times of `ts_ms`, one split, positions counted.
fn read(root: &std::path::Path, file: &str, keys: [&str; 2]) -> (Vec<RecordBatch>, Vec<usize>) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(root.join(file)).unwrap()).unwrap();
    let mut position = 0;
    let mut indices = Vec::new();
    let batches = reader.with_batch_size(500).build().unwrap().map(|batch| {
        let batch = batch.unwrap();
        indices = keys.map(|key| batch.schema().index_of(key).unwrap()).to_vec();
        let hidden = [Hidden::Time, Hidden::Split, Hidden::Position, Hidden::Hash];
        let times = batch.column_by_name("ts_ms").unwrap().as_primitive::<Int64Type>();
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(times.iter().map(|time| time.map(|ms| ms * 1000)).collect::<Int64Array>()));
        columns.push(Arc::new(UInt32Array::from(vec![0; batch.num_rows()])));
        columns.push(Arc::new(UInt64Array::from_iter_values(position..position + batch.num_rows() as u64)));
        columns.push(Arc::new(UInt64Array::from(Keys::of(&batch, &indices).unwrap().hashes)));
        position += batch.num_rows() as u64;
        RecordBatch::try_new(with_hidden(&visible_of(&batch.schema()), &hidden), columns).unwrap()
    });
    let batches = batches.collect();
    (batches, indices)
}

#[test]
fn of_157_real_purchases_42_find_a_view_within_half_an_hour_and_65_within_a_day() {
    let Some(root) = data() else {
        eprintln!("SKIPPED: no diginetica data; set RIVERRUN_TEST_DATA to the folder that has it");
        return;
    };
    let (purchases, conversion_keys) = read(&root, "purchases.parquet", ["session_id", "item_id"]);
    let (views, touch_keys) = read(&root, "views.parquet", ["session_id", "item_id"]);
    for (hours, wanted) in [(0.5, 42), (24.0, 65)] {
        for model in Model::ALL {
            let settings = AttributeSettings {
                conversion_keys: conversion_keys.clone(),
                touch_keys: touch_keys.clone(),
                window: Duration::from_secs_f64(hours * 3600.0),
                model,
                dedupe_for: None,
                bounds: AttributeBounds::default(),
            };
            let attribute = Attribute::new(settings, &purchases[0].schema(), &views[0].schema()).unwrap();
            let mut state = attribute.on(ShardRange { worker: 0, workers: 1, shards: 128 });
            let mut out = Outputs::default();
            // One batch a tick; purchases are read before the views, and time stands still until all are in.
            let inputs = purchases.iter().map(|batch| vec![vec![batch.clone()], vec![]]);
            let inputs = inputs.chain(views.iter().map(|batch| vec![vec![], vec![batch.clone()]]));
            for (tick, input) in (1..).zip(inputs) {
                state
                    .step(
                        input,
                        &step_tick(tick, i64::MIN, &TestTick { watermark: i64::MIN, ..TestTick::default() }),
                        &mut out,
                    )
                    .unwrap();
            }
            let end = TestTick { watermark: i64::MAX, last: true, ..TestTick::default() };
            state.step(vec![vec![], vec![]], &step_tick(1000, i64::MIN, &end), &mut out).unwrap();
            let attributed =
                |batch: &RecordBatch| batch.column_by_name("attributed").unwrap().as_boolean().true_count();
            assert_eq!(out.rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 157);
            assert_eq!(out.rows.iter().map(attributed).sum::<usize>(), wanted, "{hours} h, {model:?}");
            assert_eq!(out.counts, Counts { input: 6358 + 157, taken: 6358 + 157, ..Counts::default() });
        }
    }
}
