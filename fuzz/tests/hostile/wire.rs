//! What travels between processes.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type};
use riverrun_dataflow::mesh::{Hello, Purpose};
use riverrun_dataflow::source::{Chunk, Numbering, Payload, Records};
use riverrun_dataflow::testing::mesh::{control_bytes, hello_bytes, read_control, read_hello};
use riverrun_dataflow::testing::wire::{batch_bytes, chunk_bytes, read_batch, read_chunk};
use riverrun_fuzz::hold::Target;

use crate::{as_it_is, hold};

fn rows() -> RecordBatch {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("käse"), None, Some("")]));
    let inner = StructArray::from(vec![(Arc::new(Field::new("a", DataType::Utf8, true)), texts.clone())]);
    let prices = Decimal128Array::from(vec![Some(1250), None, Some(-1)]).with_precision_and_scale(12, 2);
    RecordBatch::try_from_iter_with_nullable([
        ("n", Arc::new(Int64Array::from(vec![Some(-7), None, Some(i64::MAX)])) as ArrayRef, true),
        ("s", texts, true),
        ("ok", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), true),
        ("list", Arc::new(list), true),
        ("inner", Arc::new(inner), true),
        ("price", Arc::new(prices.expect("a decimal")), true),
        ("ts", Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3])), false),
    ])
    .expect("columns of one length")
}

#[test]
fn wire_batch() {
    let one = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]);
    hold(&Target {
        name: "wire-batch",
        samples: vec![batch_bytes(&rows()), batch_bytes(&one.expect("a column"))],
        mend: as_it_is(),
        spare: 256 << 10,
        cases: 3000,
        read: Box::new(|bytes| {
            if let Ok(Some(batch)) = read_batch(bytes) {
                // As it is sent on.
                assert!(batch.num_rows() <= 8 * bytes.len());
                drop(read_batch(&batch_bytes(&batch)).expect("what was read can be sent"));
            }
        }),
    });
}

#[test]
fn wire_chunk() {
    let text = b"{\"a\":1}\n{\"b\":2}\n".to_vec();
    let records = Records { bytes: Arc::new(text), ranges: vec![(0, 7), (8, 15)], numbering: Numbering::Offset };
    let lines = Chunk { from: 5, to: 21, payload: Payload::Records(records) };
    let columns = Chunk { from: 7, to: 10, payload: Payload::Columns(rows()) };
    hold(&Target {
        name: "wire-chunk",
        samples: vec![chunk_bytes(lines), chunk_bytes(columns)],
        mend: as_it_is(),
        spare: 256 << 10,
        cases: 3000,
        read: Box::new(|bytes| {
            let Ok(Some(chunk)) = read_chunk(bytes) else { return };
            for index in 0..chunk.rows().min(1000) {
                chunk.position(index);
                if let Payload::Records(records) = &chunk.payload {
                    let (from, to) = records.ranges[index];
                    drop(records.bytes[from as usize..to as usize].to_vec());
                }
            }
            drop(read_chunk(&chunk_bytes(chunk)).expect("what was read can be sent"));
        }),
    });
}

#[test]
fn mesh_hello() {
    let who = Hello {
        job: "attribution".into(),
        plan: "0123456789abcdef".into(),
        build: "riverrun-1".into(),
        generation: 7,
        process: 2,
        processes: 3,
        workers: 4,
        purpose: Purpose::Control,
        instance: u64::MAX,
    };
    hold(&Target {
        name: "mesh-hello",
        samples: vec![hello_bytes(&who), hello_bytes(&Hello { purpose: Purpose::Data, ..who.clone() })],
        mend: as_it_is(),
        spare: 64 << 10,
        cases: 3000,
        read: Box::new(|bytes| match read_hello(bytes) {
            Ok(caller) => drop(who.judge(&caller)),
            Err(refusal) => assert!(!refusal.to_string().is_empty() && !refusal.word().is_empty()),
        }),
    });
}

#[test]
fn mesh_control() {
    hold(&Target {
        name: "mesh-control",
        samples: vec![control_bytes(b"{\"opened\":7}", &[7; 300], "the disk is full"), control_bytes(b"", b"", "")],
        mend: as_it_is(),
        spare: 256 << 10,
        cases: 3000,
        read: Box::new(|bytes| {
            if let Ok(bodies) = read_control(bytes) {
                assert!(bodies.iter().map(Vec::len).sum::<usize>() <= bytes.len());
            }
        }),
    });
}
