//! Types on their way through a lake.

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, ListArray, StructArray,
    TimestampMillisecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{Int64Type, TimeUnit};

use super::*;

fn every_type() -> RecordBatch {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let inner: Vec<(Arc<Field>, ArrayRef)> = vec![
        (
            Arc::new(Field::new("at", DataType::Timestamp(TimeUnit::Second, None), true)),
            Arc::new(TimestampSecondArray::from(vec![Some(5), None, Some(-1)])),
        ),
        (
            Arc::new(Field::new("text", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![Some(""), None, Some("ä")])),
        ),
    ];
    let price = Decimal128Array::from(vec![Some(1999), None, Some(-5)]).with_precision_and_scale(12, 2).unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "text",
            Arc::new(StringArray::from(vec![Some("long enough to need more than one block of bytes"), None, Some("")])),
        ),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("count", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
        ("large", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0)]))),
        ("share", Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::INFINITY)]))),
        ("price", Arc::new(price)),
        ("day", Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000)]))),
        ("second", Arc::new(TimestampSecondArray::from(vec![Some(-1), None, Some(1_700_000_000)]))),
        ("milli", Arc::new(TimestampMillisecondArray::from(vec![Some(-1), None, Some(1_700_000_000_000)]))),
        ("list", Arc::new(list)),
        ("user", Arc::new(StructArray::from(inner))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

#[test]
fn every_type_comes_back_as_it_went() {
    let batch = every_type();
    let mut rows = EncodedRows::default();
    LakeEncoder::new(&batch.schema()).unwrap().encode(&batch, &mut rows).unwrap();
    let decoder = LakeRows::new(&batch.schema()).unwrap();
    let back = decoder.decode(&rows, 0..3).unwrap();
    for (index, field) in back.schema().fields().iter().enumerate() {
        let expected = arrow::compute::cast(batch.column(index), field.data_type()).unwrap();
        assert_eq!(back.column(index), &expected, "{field}");
    }
    assert_eq!(back.schema().field_with_name("price").unwrap().data_type(), &DataType::Decimal128(12, 2));
    let utc = |unit| DataType::Timestamp(unit, Some("UTC".into()));
    assert_eq!(back.schema().field_with_name("milli").unwrap().data_type(), &utc(TimeUnit::Millisecond));
    assert_eq!(back.schema().field_with_name("second").unwrap().data_type(), &utc(TimeUnit::Millisecond));
    let picked = decoder.decode(&rows, [2, 0]).unwrap();
    assert_eq!(picked.column(2).as_primitive::<Int64Type>().values(), &[i64::MAX, i64::MIN]);
}

#[test]
fn rows_without_columns_are_refused() {
    let nothing = with_hidden(&[], &[Hidden::Time]);
    assert!(LakeEncoder::new(&nothing).is_err());
}

#[test]
fn files_say_which_times_they_hold() {
    let objects = Arc::new(MemoryObjects::default());
    let (mut lane, _) = sink_on(objects.clone(), Layout::default()).open(0, &claim(1)).unwrap();
    lane.take(1, &[tick(1, 0..10)], Urgency::Now).unwrap();
    let files = Lake::read(objects).unwrap().unwrap().files().unwrap();
    let of = |folder: &str| {
        let file = files.iter().map(|placed| &placed.file).find(|file| file.path.starts_with(folder)).unwrap();
        (file.rows, file.time_min_us, file.time_max_us)
    };
    // Ids 2, 4, 6, 8; then 1, 3, 5, 9; 0 and 7 have no event time.
    assert_eq!(of("date=1970-01-01/hour=0/"), (4, Some(2), Some(8)));
    assert_eq!(of("date=1970-01-01/hour=1/"), (4, Some(HOUR + 1), Some(HOUR + 9)));
    assert_eq!(of("date=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__/"), (2, None, None));
}
