//! The decision where to begin, over logs made by hand.

use riverrun_dataflow::EventTime;
use riverrun_dataflow::tick::{TickRecord, Timeline};

use super::*;
use crate::record::{Digest, Header, Ticks, VERSION};

fn record(seq: u64, generation: u64, build: &str, body: Body) -> Record {
    let header = Header {
        v: VERSION,
        seq,
        prev_xxh3: Digest(0),
        generation,
        attempt: "a".into(),
        build: build.into(),
        plan: "p".into(),
        at: String::new(),
        kind: body.kind(),
    };
    Record { header, body, xxh3: Digest(0) }
}

fn ticks(seq: u64, build: &str, range: std::ops::RangeInclusive<Tick>) -> Record {
    let entries = range.clone().map(|tick| JournalEntry {
        record: TickRecord {
            tick,
            now: 0,
            watermarks: vec![EventTime(0)],
            splits: vec![],
            last: false,
            checkpoint: false,
        },
        lanes: vec![],
        balance: BTreeMap::new(),
    });
    let body = Body::Ticks(Ticks { first: *range.start(), last: *range.end(), entries: entries.collect() });
    record(seq, 1, build, body)
}

fn checkpoint(seq: u64, tick: Tick, after: u64, token: Tick) -> Record {
    let tokens = vec![LaneToken { sink: 0, lane: 0, tick: token }];
    let body = Checkpoint {
        tick,
        after,
        inputs: None,
        finished: false,
        pause_micros: 0,
        cpu_micros: 0,
        before: Timeline::default(),
        recent: vec![],
        tokens,
        balance: BTreeMap::new(),
        tables: vec![],
    };
    record(seq, 1, "b", Body::Checkpoint(Box::new(body)))
}

fn token(tick: Tick) -> Vec<LaneToken> {
    vec![LaneToken { sink: 0, lane: 0, tick }]
}

/// Decides over `log`, oldest first; returns the checkpoint's tick, the ticks after it, and how many records were read.
fn decided(log: &[Record], tokens: &[LaneToken]) -> Result<(Option<Tick>, Vec<Tick>, usize), StateError> {
    let mut read = 0;
    let records = log.iter().rev().cloned().map(|record| {
        read += 1;
        Ok(record)
    });
    let asked = Asked { job: "j", plan: "p", build: "b", tokens };
    let recovery = decide(records, &asked, |_| Ok(()))?.into_recovery();
    let base = recovery.checkpoint.map(|it| it.parts.tick);
    Ok((base, recovery.entries.iter().map(|entry| entry.record.tick).collect(), read))
}

#[test]
fn no_more_of_the_log_is_read_than_needed() {
    let log = [
        ticks(1, "b", 1..=4),
        checkpoint(2, 4, 3, 4),
        ticks(3, "b", 5..=7),
        checkpoint(4, 6, 3, 7),
        ticks(5, "b", 8..=8),
    ];
    assert_eq!(decided(&log, &token(8)).unwrap(), (Some(6), vec![7, 8], 3));
}

#[test]
fn ticks_before_the_checkpoint_record_but_after_its_tick_count() {
    let log = [ticks(1, "b", 1..=2), ticks(2, "b", 3..=5), ticks(3, "b", 6..=6), checkpoint(4, 3, 2, 3)];
    assert_eq!(decided(&log, &token(3)).unwrap(), (Some(3), vec![4, 5, 6], 3));
}

#[test]
fn a_later_record_of_an_earlier_tick_wins() {
    // The job fell back to tick 4 and published a checkpoint at 6 again.
    let log = [ticks(1, "b", 1..=9), checkpoint(2, 8, 1, 9), checkpoint(3, 6, 1, 9)];
    assert_eq!(decided(&log, &token(9)).unwrap(), (Some(6), vec![7, 8, 9], 3));
}

#[test]
fn a_gap_in_the_ticks_is_damage() {
    let log = [ticks(1, "b", 1..=2), ticks(2, "b", 4..=4)];
    assert!(matches!(decided(&log, &[]).unwrap_err(), StateError::Damaged { reason, .. } if reason.contains("tick 3")));
}

#[test]
fn no_checkpoint_and_no_first_tick_names_every_reason() {
    let log = [ticks(7, "b", 5..=6), checkpoint(8, 6, 9, 6), ticks(9, "b", 7..=7)];
    let StateError::NoCheckpoint { reasons, .. } = decided(&log, &token(5)).unwrap_err() else { panic!() };
    assert_eq!(reasons.len(), 2);
    assert!(reasons[0].contains("lane 0 of sink 0 is at tick 5 now and was at 6 then"), "{reasons:?}");
    assert!(reasons[1].contains("does not reach back to the first tick"), "{reasons:?}");
}

#[test]
fn a_lane_that_covers_the_checkpoint_may_have_gone_back_to_it() {
    let log = [ticks(1, "b", 1..=9), checkpoint(2, 6, 1, 9)];
    assert_eq!(decided(&log, &token(6)).unwrap().0, Some(6));
    assert_eq!(decided(&log, &token(5)).unwrap().0, None);
}

#[test]
fn a_tail_of_another_build_is_refused_wherever_it_stands() {
    let log = [ticks(1, "old", 1..=2), checkpoint(2, 2, 3, 2), ticks(3, "b", 3..=3)];
    assert_eq!(decided(&log, &token(3)).unwrap().1, [3]);
    let error = decided(&log, &token(1)).unwrap_err();
    assert!(matches!(error, StateError::BuildChanged { stored, first: 1, last: 3, .. } if stored == "old"));
}
