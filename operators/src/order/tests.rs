//! The order of rows against plain tuples, and what breaks ties.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field};
use proptest::prelude::*;
use riverrun_dataflow::schema::with_hidden;

use super::*;

/// `(time, id, split, position, word, number)`
type Row = (i64, Option<&'static str>, u32, u64, &'static str, Option<i64>);

fn batch(rows: &[Row], hidden: &[Hidden]) -> RecordBatch {
    let columns = [Field::new("word", DataType::Utf8, true), Field::new("number", DataType::Int64, true)];
    let schema = with_hidden(&columns, hidden);
    let column = |name: &str| -> ArrayRef {
        match name {
            "word" => Arc::new(rows.iter().map(|r| Some(r.4)).collect::<StringArray>()),
            "number" => Arc::new(rows.iter().map(|r| r.5).collect::<Int64Array>()),
            "__time" => Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
            "__id" => Arc::new(rows.iter().map(|r| r.1).collect::<StringArray>()),
            "__split" => Arc::new(rows.iter().map(|r| r.2).collect::<UInt32Array>()),
            _ => Arc::new(rows.iter().map(|r| r.3).collect::<UInt64Array>()),
        }
    };
    let arrays = schema.fields().iter().map(|f| column(f.name())).collect();
    RecordBatch::try_new(schema, arrays).unwrap()
}

const FULL: [Hidden; 4] = [Hidden::Time, Hidden::Id, Hidden::Split, Hidden::Position];

/// Sorts the rows, cut into batches of `width`, and returns them in order.
fn sorted(rows: &[Row], hidden: &[Hidden], width: usize) -> Vec<Row> {
    let batches: Vec<RecordBatch> = rows.chunks(width).map(|chunk| batch(chunk, hidden)).collect();
    let order = KeyOrder::of(&batch(&[], hidden).schema()).unwrap();
    let columns = order.columns_of(&batches);
    let mut refs = all_rows(&columns);
    sort(&columns, &mut refs);
    assert!(refs.is_sorted_by(|a, b| compare(&columns, *a, *b) != Ordering::Greater));
    refs.iter().map(|r| rows[r.batch as usize * width + r.row as usize]).collect()
}

#[test]
fn time_comes_before_id_before_split_before_position() {
    let wanted = [
        (i64::MIN, Some("z"), 9, 9, "", None),
        (1, None, 9, 9, "", None),
        (1, Some("a"), 2, 9, "", None),
        (1, Some("b"), 1, 8, "", None),
        (1, Some("b"), 1, 9, "", None),
        (1, Some("b"), 2, 1, "", None),
        (1, Some("ä"), 0, 0, "", None),
        (i64::MAX, None, 0, 0, "", None),
    ];
    let mut shuffled = wanted;
    shuffled.reverse();
    assert_eq!(sorted(&shuffled, &FULL, 3), wanted);
}

#[test]
fn one_record_that_came_twice_is_ordered_by_content() {
    let rows = [(5, Some("x"), 1, 1, "b", None), (5, Some("x"), 1, 1, "a", Some(2)), (5, Some("x"), 1, 1, "a", None)];
    assert_eq!(sorted(&rows, &FULL, 1), [rows[2], rows[1], rows[0]]);
}

#[test]
fn rows_without_event_time_have_no_order() {
    assert!(matches!(KeyOrder::of(&batch(&[], &[]).schema()), Err(StepError::Internal(_))));
}

#[test]
fn floats_of_any_kind_can_break_a_tie() {
    let schema = with_hidden(&[Field::new("f", DataType::Float64, true)], &[Hidden::Time]);
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(0.0), Some(-0.0), None]));
    let rows = RecordBatch::try_new(schema.clone(), vec![floats, Arc::new(Int64Array::from(vec![0; 4]))]).unwrap();
    let columns = KeyOrder::of(&schema).unwrap().columns_of(&[rows]);
    let mut refs = all_rows(&columns);
    sort(&columns, &mut refs);
    assert_eq!(refs.iter().map(|r| r.row).collect::<Vec<_>>(), [3, 2, 1, 0]);
}

fn row() -> impl Strategy<Value = Row> {
    let word = || prop::sample::select(vec!["", "a", "b", "ä", "𝄞", "a\0"]);
    (0i64..3, prop::option::of(word()), 0u32..2, 0u64..2, word(), prop::option::of(-1i64..2))
}

proptest! {
    #[test]
    fn the_order_depends_neither_on_arrival_nor_on_batches(
        rows in prop::collection::vec(row(), 1..40),
        shuffle in any::<u64>(),
        width in 1usize..9,
        origin in any::<bool>(),
    ) {
        let hidden: &[Hidden] = if origin { &FULL } else { &[Hidden::Time, Hidden::Id] };
        let mut naive = rows.clone();
        naive.sort_by(|a, b| {
            let place = |r: &Row| if origin { (r.2, r.3) } else { (0, 0) };
            (a.0, a.1, place(a), a.4, a.5).cmp(&(b.0, b.1, place(b), b.4, b.5))
        });
        let mut permuted = rows.clone();
        let mut state = shuffle;
        for i in (1..permuted.len()).rev() {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            permuted.swap(i, (state >> 33) as usize % (i + 1));
        }
        let visible = |rows: &[Row]| -> Vec<Row> {
            rows.iter().map(|r| if origin { *r } else { (r.0, r.1, 0, 0, r.4, r.5) }).collect()
        };
        prop_assert_eq!(visible(&sorted(&permuted, hidden, width)), visible(&naive));
    }
}
