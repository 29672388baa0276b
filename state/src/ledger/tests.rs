//! What is live, what is rebased, and that both stay within their bounds.

use super::*;

fn file(kind: FileKind, tick: Tick, shards: &[u16], bytes: u64) -> StateFile {
    let word = if kind == FileKind::Base { "base" } else { "delta" };
    StateFile {
        path: format!("{tick}.{word}"),
        step: "s".into(),
        table: "t".into(),
        kind,
        tick,
        shards: shards.to_vec(),
        rows: 1,
        bytes,
        xxh3: 0,
    }
}

fn written(kind: FileKind, tick: Tick, shards: &[u16], bytes: u64) -> Written {
    let rows = shards.iter().map(|shard| (*shard, 1)).collect();
    Written { file: file(kind, tick, shards, bytes), columns: vec![], rows }
}

fn live(tables: &[TableFiles]) -> Vec<&str> {
    tables.iter().flat_map(|table| table.files.iter().map(|file| file.path.as_str())).collect()
}

#[test]
fn a_file_lives_while_any_shard_needs_it() {
    use FileKind::{Base, Delta};
    let mut ledger = Ledger::default();
    ledger.enter(written(Delta, 1, &[0, 1], 10));
    assert_eq!(live(&ledger.publish(1, &[])), ["1.delta"]);
    ledger.enter(written(Base, 2, &[0], 10));
    ledger.enter(written(Delta, 2, &[1], 10));
    assert_eq!(live(&ledger.publish(2, &[])), ["1.delta", "2.delta", "2.base"]);
    ledger.enter(written(Base, 3, &[1], 10));
    assert_eq!(live(&ledger.publish(3, &[])), ["2.base", "3.base"]);
    assert_eq!(ledger.needed("s", "t")[0].1, BTreeSet::from([0]));
}

#[test]
fn files_of_an_unpublished_checkpoint_stay_in_order() {
    use FileKind::{Base, Delta};
    let mut ledger = Ledger::default();
    ledger.enter(written(Delta, 1, &[0], 10));
    ledger.enter(written(Base, 2, &[0], 10));
    ledger.enter(written(Delta, 3, &[0], 10));
    ledger.enter(written(Delta, 4, &[0], 10));
    assert_eq!(live(&ledger.publish(3, &[file(Delta, 3, &[0], 10)])), ["2.base", "3.delta"]);
    assert!(ledger.paths().contains("4.delta"), "what is not published yet is not collected");
    assert_eq!(live(&ledger.publish(4, &[])), ["2.base", "3.delta", "4.delta"]);
}

#[test]
fn files_of_other_processes_arrive_with_the_checkpoint() {
    let mut ledger = Ledger::default();
    let theirs = file(FileKind::Delta, 1, &[7], 10);
    assert_eq!(live(&ledger.publish(1, std::slice::from_ref(&theirs))), ["1.delta"]);
    assert_eq!(ledger.take_due("s", "t", |_| true), [7]);
}

#[test]
fn the_worst_shards_are_rebased_first_and_once() {
    let mut ledger = Ledger::default();
    ledger.enter(written(FileKind::Base, 1, &[0, 1, 2], 3 * BUDGET_MIN));
    ledger.publish(1, &[]);
    assert!(ledger.take_due("s", "t", |_| true).is_empty(), "a base alone needs no renewal");
    for (tick, shard, share) in [(2, 0, 9), (3, 1, 12), (4, 2, 20)] {
        ledger.enter(written(FileKind::Delta, tick, &[shard], BUDGET_MIN / 10 * share));
    }
    ledger.publish(4, &[]);
    // Shard 0 is below its base; the budget, the last deltas' bytes, holds shard 2 and not shard 1 with it.
    assert_eq!(ledger.take_due("s", "t", |_| true), [2]);
    assert!(ledger.take_due("s", "t", |_| true).is_empty());
    assert!(ledger.take_due("s", "other", |_| true).is_empty());
}

/// A state of 256 shards of 64 KiB each, of which a tenth changes between checkpoints: bases cost about as much as deltas, a
/// restart reads a small multiple of the state, and no checkpoint is a spike.
#[test]
fn cost_follows_change_not_size() {
    let shards: Vec<u16> = (0..256).collect();
    let (size, changed) = (64 << 10, 6 << 10);
    let mut ledger = Ledger::default();
    ledger.enter(written(FileKind::Base, 1, &shards, 256 * size));
    ledger.publish(1, &[]);
    let (mut deltas, mut bases, mut largest, mut most) = (0, 0, 0, 0);
    for tick in 2..300 {
        let due = ledger.take_due("s", "t", |_| true);
        let rest: Vec<u16> = shards.iter().copied().filter(|shard| !due.contains(shard)).collect();
        let (delta, base) = (rest.len() as u64 * changed, due.len() as u64 * size);
        ledger.enter(written(FileKind::Delta, tick, &rest, delta));
        if !due.is_empty() {
            ledger.enter(written(FileKind::Base, tick, &due, base));
        }
        let read: u64 = ledger.publish(tick, &[]).iter().flat_map(|table| &table.files).map(|file| file.bytes).sum();
        assert!(read < 256 * size * 4, "a restart at {tick} reads {read} bytes");
        // Until the first base of all shards is superseded as a whole, it is read beside its successors.
        most = if tick < 50 { 0 } else { read.max(most) };
        (deltas, bases, largest) = (deltas + delta, bases + base, base.max(largest));
    }
    assert!(most < 256 * size * 5 / 2, "a restart reads {most} bytes");
    assert!(bases <= deltas * 11 / 10, "bases {bases}, deltas {deltas}");
    assert!(largest <= 256 * changed + size, "one checkpoint wrote {largest} bytes of bases");
}
