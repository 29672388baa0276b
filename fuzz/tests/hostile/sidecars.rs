//! The sidecar of an output file.

use std::fs;

use riverrun_connectors::file::{FileSink, FileSinkConfig, committed_length};
use riverrun_dataflow::sink::{Claim, EncodedRows, Sink, SinkError, TickRows};
use riverrun_fuzz::hold::Target;
use xxhash_rust::xxh3::xxh3_64;

use crate::{files_below, hold, kept_jobs, quick_dir};

/// Puts the checksum right, if the fields stand as they are written.
fn mend(bytes: &mut Vec<u8>) {
    let before = b"\"crc\":\"";
    let Some(at) = bytes.windows(before.len()).rposition(|window| window == before) else { return };
    bytes.truncate(at + before.len());
    bytes.extend_from_slice(b"\"}");
    let crc = format!("{:016x}", xxh3_64(bytes));
    bytes.splice(at + before.len()..at + before.len(), crc.into_bytes());
}

#[test]
fn sidecar() {
    let folder = quick_dir();
    let path = folder.path().join("out.jsonl");
    let kept = kept_jobs();
    let job = kept.iter().find(|job| job.ends_with("window")).expect("the fixture is there");
    let rows = fs::read(job.join("out.jsonl")).expect("the fixture is there");
    let side = fs::read(job.join("out.jsonl.riverrun.json")).expect("the fixture is there");
    let side: serde_json::Value = serde_json::from_slice(&side).expect("a sidecar is JSON");
    let claim = Claim {
        job: "fixture-window".into(),
        incarnation: side["incarnation"].as_str().expect("a text").into(),
        sink: "out".into(),
        generation: 2,
        fresh: false,
        append: false,
    };
    let committed = usize::try_from(side["length"].as_u64().expect("a number")).expect("a length");
    hold(&Target {
        name: "sidecar",
        samples: kept.iter().flat_map(|job| files_below(job, ".riverrun.json")).collect(),
        mend: Box::new(mend),
        // The end of what is committed is read and kept.
        spare: 512 << 10,
        cases: 1500,
        read: Box::new(|bytes| {
            fs::write(&path, &rows).expect("the test can write");
            fs::write(folder.path().join("out.jsonl.riverrun.json"), bytes).expect("the test can write");
            drop(committed_length(&path));
            let sink = FileSink::new(FileSinkConfig { path: path.clone(), preamble: Vec::new() });
            match sink.open(0, &claim) {
                Ok((mut lane, token)) => {
                    let next = token.map_or(0, |token| token.tick);
                    let mut row = TickRows { tick: 1, rows: EncodedRows::default(), times: vec![0] };
                    row.rows.bytes.extend_from_slice(b"{}");
                    row.rows.end_row(None);
                    if next < u64::MAX {
                        lane.commit(next + 1, &[row]).expect("there is room");
                    }
                }
                Err(SinkError::Damaged { what, .. }) => assert!(what.contains("out.jsonl"), "{what}"),
                Err(_) => {}
            }
            // Whatever it says: who cannot be sure touches no row.
            let left = fs::read(&path).expect("the file stays");
            assert!(left.starts_with(&rows[..committed.min(left.len())]), "other rows");
        }),
    });
}
