//! What rearranging, letting go and freezing must not change, and what they must cost.

use arrow::array::{Int8Array, Int64Array};
use riverrun_dataflow::schema::with_hidden;

use super::*;

fn schema() -> SchemaRef {
    with_hidden(&[Field::new("key", DataType::Utf8, true), Field::new("text", DataType::Utf8, true)], &[Hidden::Time])
}

fn batch(times: std::ops::Range<i64>) -> RecordBatch {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(times.clone().map(|t| format!("k{}", t % 100))));
    let text: ArrayRef = Arc::new(StringArray::from_iter_values(times.clone().map(|t| format!("text of {t}"))));
    let time: ArrayRef = Arc::new(Int64Array::from_iter_values(times));
    RecordBatch::try_new(schema(), vec![keys, text, time]).unwrap()
}

fn rows(span: Duration) -> KeptRows {
    let layout = Layout::new(&schema(), vec![0, 1, 2], &[0]).unwrap();
    KeptRows::new(layout, ShardRange { worker: 0, workers: 1, shards: 16 }, span)
}

fn is_row(kept: &KeptRows, slot: Slot, time: i64) {
    assert_eq!(kept.time(slot), time);
    assert_eq!(&kept.key(slot)[5..], format!("k{}", time % 100).as_bytes());
    let text = kept.gather(&[slot, NO_ROW], 1..2).unwrap().remove(0);
    assert_eq!(text.as_string::<i32>().iter().collect::<Vec<_>>(), [Some(&*format!("text of {time}")), None]);
}

#[test]
fn a_slot_keeps_its_row_while_segments_are_merged_and_rewritten() {
    let mut kept = rows(Duration::from_secs(1));
    let mut slots: Vec<(i64, Slot)> = Vec::new();
    let mut time = 0;
    for tick in 0..400 {
        let many = 1 + (tick * 7) % 60;
        slots.extend((time..).zip(kept.add(&batch(time..time + many)).unwrap()));
        time += many;
        // Every third row that is older than a while goes, later all that are older still.
        slots.retain(|(of, slot)| {
            let gone = (of % 3 == 0 && *of < time - 500) || *of < time - 2000;
            if gone {
                kept.remove(*slot);
            }
            !gone
        });
        kept.tidy().unwrap();
        assert_eq!(kept.len(), slots.len());
        let segments: Vec<&Segment> = kept.segments.iter().flatten().collect();
        assert!(segments.len() <= 4 * 8, "{} segments after tick {tick}", segments.len());
        assert!(segments.iter().all(|s| s.live * 2 >= s.slots.len()));
        assert!(kept.places.len() <= 2600, "{} slots for {} rows", kept.places.len(), kept.len());
    }
    slots.iter().for_each(|(time, slot)| is_row(&kept, *slot, *time));
}

#[test]
fn a_slice_does_not_hold_on_to_the_batch_it_was_cut_from() {
    let whole = batch(0..50_000);
    let mut kept = rows(Duration::from_secs(1));
    let slots = kept.add(&whole.slice(20_000, 5)).unwrap();
    is_row(&kept, slots[4], 20_004);
    assert!(kept.bytes() < 10_000, "{} bytes for 5 rows", kept.bytes());
    let all = kept.add(&whole).unwrap();
    assert!(kept.bytes() <= 2 * whole.get_array_memory_size() + 50_000 * 60);
    all.into_iter().chain(slots).for_each(|slot| kept.remove(slot));
    kept.tidy().unwrap();
    assert!(kept.is_empty() && kept.bytes() < 10_000);
}

#[test]
fn rows_that_are_old_are_counted_without_a_look_at_them() {
    let step = 1 << 23;
    let mut kept = rows(Duration::from_secs(640));
    let slots = kept.add(&batch(0..100)).unwrap();
    kept.add(&batch(20 * step..20 * step + 700)).unwrap();
    assert!(!kept.is_due(EventTime::MIN));
    assert!(!kept.is_due(EventTime(step - 1)), "the first step, of eight seconds, is not over");
    assert!(kept.is_due(EventTime(step)), "one row in eight is old");
    kept.remove(slots[0]);
    assert!(!kept.is_due(EventTime(step)));
    kept.add(&batch(5..7)).unwrap();
    assert!(kept.is_due(EventTime(step)), "rows that come old are counted too");
    assert!(kept.is_due(EventTime::MAX));
}

#[test]
fn what_is_frozen_can_be_restored_and_is_not_frozen_again() {
    let mut kept = rows(Duration::from_secs(1));
    let slots = kept.add(&batch(0..20_000)).unwrap();
    slots[..10_000].iter().for_each(|slot| kept.remove(*slot));
    kept.tidy().unwrap();
    let frozen = kept.freeze(&[3, 9]).gather().unwrap();
    let shards = |batches: &[RecordBatch]| -> Vec<u16> {
        batches.iter().flat_map(|b| b.column(0).as_primitive::<UInt16Type>().values().to_vec()).collect()
    };
    let (delta, base) = (shards(&frozen.delta), shards(&frozen.base));
    assert_eq!(delta.len() + base.len(), 10_000);
    assert!(base.iter().all(|shard| [3, 9].contains(shard)) && !delta.iter().any(|shard| [3, 9].contains(shard)));
    assert!(frozen.delta.iter().all(|b| b.schema() == kept.layout().state_schema()));
    let again = kept.freeze(&[]).gather().unwrap();
    assert!(again.delta.is_empty() && again.base.is_empty());

    let mut other = rows(Duration::from_secs(1));
    let mut times: Vec<i64> = Vec::new();
    for batch in frozen.delta.iter().chain(&frozen.base) {
        times.extend(other.restore(batch).unwrap().iter().map(|slot| other.time(*slot)));
    }
    times.sort_unstable();
    assert_eq!(times, (10_000..20_000).collect::<Vec<_>>());
    assert!(other.freeze(&[]).gather().unwrap().delta.is_empty(), "what was restored is in the checkpoint already");
}

#[test]
fn a_deleted_row_in_a_checkpoint_is_refused() {
    let mut kept = rows(Duration::from_secs(1));
    kept.add(&batch(0..1)).unwrap();
    let rows_of = kept.freeze(&[]).gather().unwrap().delta.remove(0);
    let mut columns = rows_of.columns().to_vec();
    columns[1] = Arc::new(Int8Array::from(vec![0]));
    let deleted = RecordBatch::try_new(rows_of.schema(), columns).unwrap();
    assert!(matches!(rows(Duration::ZERO).restore(&deleted), Err(StepError::State(_))));
}
