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
    // Shard 0 is below its base; what the deltas earned, less what the first base cost, pays for shard 2 and not for 1 with it.
    assert_eq!(ledger.take_due("s", "t", |_| true), [2]);
    assert!(ledger.take_due("s", "t", |_| true).is_empty());
    assert!(ledger.take_due("s", "other", |_| true).is_empty());
}

/// What happens to the keys of a job between two checkpoints.
#[derive(Clone, Copy, Debug)]
enum Life {
    /// All shards change alike.
    Even,
    /// Shards differ in size.
    Uneven,
    /// An eighth of the shards has most of the changes.
    Hot,
    /// For a while much changes, then little.
    Bursts,
    /// Keys come and stay.
    Growing,
}

/// Rows of shards that change by a seed, and what the checkpoints of that write.
struct Job {
    dice: Dice,
    life: Life,
    /// Of all rows, how many change between checkpoints.
    rate: f64,
    /// Bytes of a row in a delta, and in a base.
    row: (f64, f64),
    rows: Vec<f64>,
    /// Of a shard whose keys come and stay, so many and their rate.
    new_rows: f64,
    ledger: Ledger,
    deltas: u64,
    bases: u64,
}

/// Numbers from a seed (xorshift64).
struct Dice(u64);

impl Dice {
    /// Returns a number from 0 to 1.
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

const SHARDS: u16 = 128;

impl Job {
    fn new(seed: u64, life: Life) -> Job {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let rate = 0.002 * 100f64.powf(dice.share());
        // Bases are compressed better.
        let delta = 30.0 + 20.0 * dice.share();
        let row = (delta, delta * (0.4 + 0.6 * dice.share()));
        let all = 1e4 * 100f64.powf(dice.share());
        let rows = (0..SHARDS).map(|_| match life {
            Life::Uneven => all * (0.25 + 1.5 * dice.share()) / f64::from(SHARDS),
            Life::Growing => 0.01 * all / f64::from(SHARDS),
            _ => all / f64::from(SHARDS),
        });
        let rows = rows.collect();
        let new_rows = all / f64::from(SHARDS);
        Job { dice, life, rate, row, rows, new_rows, ledger: Ledger::default(), deltas: 0, bases: 0 }
    }

    /// Returns how many rows of a shard change before the checkpoint at `tick`.
    fn changed(&mut self, tick: Tick, shard: u16) -> f64 {
        let rows = &mut self.rows[usize::from(shard)];
        if tick == 1 {
            return *rows;
        }
        let rate = match self.life {
            Life::Hot if shard.is_multiple_of(8) => self.rate * 7.0,
            Life::Hot => self.rate / 7.0,
            Life::Bursts if (tick / 20).is_multiple_of(10) => self.rate * 5.0,
            Life::Bursts => self.rate / 5.0,
            _ => self.rate,
        };
        let share = (rate * (0.5 + self.dice.share())).min(1.0);
        if matches!(self.life, Life::Growing) {
            let more = self.new_rows * share;
            *rows += more;
            return more;
        }
        *rows * share
    }

    /// Takes the checkpoint at `tick`. Returns the bytes of its deltas, and of what a restart from it needs.
    fn checkpoint(&mut self, tick: Tick) -> (u64, u64) {
        let due = self.ledger.take_due("s", "t", |_| true);
        let (mut delta, mut base) = (BTreeMap::new(), BTreeMap::new());
        for shard in 0..SHARDS {
            let changed = self.changed(tick, shard);
            if due.contains(&shard) {
                base.insert(shard, (self.rows[usize::from(shard)] * self.row.1) as u64);
            } else if changed >= 1.0 {
                delta.insert(shard, (changed * self.row.0) as u64);
            }
        }
        let bytes = |shards: &BTreeMap<u16, u64>| shards.values().sum::<u64>();
        let (deltas, bases) = (bytes(&delta), bytes(&base));
        self.deltas += deltas;
        self.bases += bases;
        for (kind, shards) in [(FileKind::Delta, delta), (FileKind::Base, base)] {
            if !shards.is_empty() {
                let names: Vec<u16> = shards.keys().copied().collect();
                let file = file(kind, tick, &names, bytes(&shards));
                // Rows stand for bytes here: the weight of a shard is its part of them.
                self.ledger.enter(Written { file, columns: vec![], rows: shards });
            }
        }
        self.ledger.publish(tick, &[]);
        let weights = self.ledger.weights.values().flat_map(BTreeMap::values);
        (deltas, weights.map(|weight| weight.base + weight.delta).sum::<f64>() as u64)
    }

    fn state_bytes(&self) -> u64 {
        (self.rows.iter().sum::<f64>() * self.row.1) as u64
    }
}

/// How many seeds: at the gate some, by hand any number.
fn seeds() -> u64 {
    std::env::var("RIVERRUN_REBASE_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(2)
}

/// Over a long life, whatever changes: bases cost no more than deltas, a restart needs no more than twice the state (and the deltas that a
/// checkpoint may be behind with), and no checkpoint pays for all.
#[test]
fn at_most_twice_is_written_and_twice_is_read_whatever_changes() {
    for seed in 0..seeds() {
        for life in [Life::Even, Life::Uneven, Life::Hot, Life::Bursts, Life::Growing] {
            let mut job = Job::new(seed, life);
            let (mut largest, mut before, mut most) = (0, 0, 0.0f64);
            for tick in 1..=400 {
                let bases = job.bases;
                let (deltas, needed) = job.checkpoint(tick);
                largest = deltas.max(largest);
                let (written, state) = (job.bases - bases, job.state_bytes());
                let case = format!("seed {seed}, {life:?}, rate {:.4}, tick {tick}", job.rate);
                // What a base weighs is known when it is written: shards may turn out twice as heavy as they were.
                let budget = 2 * (2 * before).max(BUDGET_MIN) + 2 * state / u64::from(SHARDS);
                assert!(written <= budget, "{case}: bases of {written} bytes after deltas of {before}");
                let ahead = job.bases.saturating_sub(job.deltas);
                assert!(ahead <= budget / 2, "{case}: bases {}, deltas {}", job.bases, job.deltas);
                if tick > 1 {
                    most = most.max(needed as f64 / (2 * state + 2 * deltas.max(before)) as f64);
                }
                before = deltas;
            }
            assert!(job.bases > 0 || job.deltas == 0, "seed {seed}, {life:?}: nothing was ever renewed");
            assert!(most <= 1.05, "seed {seed}, {life:?}, rate {:.4}: {most:.2} times what may be needed", job.rate);
        }
    }
}

/// To write a base of some shards, a step looks at all of its rows: that is done for a 64th of them at least, not for a shard each time.
#[test]
fn a_large_state_is_looked_through_seldom() {
    const SHARD_BYTES: u64 = 2 << 20;
    let all: Vec<u16> = (0..SHARDS).collect();
    let mut ledger = Ledger::default();
    ledger.enter(written(FileKind::Delta, 1, &all, SHARD_BYTES * u64::from(SHARDS)));
    ledger.enter(written(FileKind::Base, 2, &all, SHARD_BYTES * u64::from(SHARDS)));
    ledger.publish(2, &[]);
    let (mut passes, mut renewed) = (0, 0);
    for tick in 3..3000 {
        let due = ledger.take_due("s", "t", |_| true);
        let rest: Vec<u16> = all.iter().copied().filter(|shard| !due.contains(shard)).collect();
        ledger.enter(written(FileKind::Delta, tick, &rest, SHARD_BYTES / 5));
        if !due.is_empty() {
            ledger.enter(written(FileKind::Base, tick, &due, SHARD_BYTES * due.len() as u64));
            (passes, renewed) = (passes + 1, renewed + due.len());
        }
        ledger.publish(tick, &[]);
    }
    assert!(renewed > 300, "{renewed} shards were renewed");
    assert!(renewed >= 2 * passes, "{renewed} shards in {passes} passes");
}
