//! Verification: every record, every live file, and what must hold between them.

use std::collections::{BTreeMap, BTreeSet};

use riverrun_dataflow::journal::{LaneToken, StateFile};
use riverrun_dataflow::tick::Tick;
use serde::Serialize;

use crate::error::StateError;
use crate::file::{decode, load};
use crate::folder::Folder;
use crate::inspect::Look;
use crate::ledger::overlaps;
use crate::log::{Bounds, LogReader};
use crate::record::{Body, Checkpoint, Digest, Record, Ticks};
use crate::rows::shards_of;
use crate::store::Store;

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The job.
    pub job: String,
    /// Records read.
    pub records: u64,
    /// Ticks in them.
    pub ticks: u64,
    /// Checkpoints among them.
    pub checkpoints: u64,
    /// State files read.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, each a sentence that names its object; empty if all is well.
    pub findings: Vec<String>,
}

/// Reads everything that `job` has written and holds it against its checksums and against each other. Needs no more memory
/// than the largest file.
pub fn verify(store: Store, job: &str) -> Result<Report, StateError> {
    let Look { folder, file, reader } = Look::at(store, job)?;
    let bounds = reader.bounds()?;
    let mut check = Check {
        report: Report { job: job.to_string(), ..Report::default() },
        folder,
        shards: file.shards,
        plan: (bounds.floor == 0).then_some(file.plan),
        prev: None,
        generation: 0,
        last: None,
        rows: BTreeMap::new(),
        ticks_at: BTreeMap::new(),
        read: BTreeSet::new(),
    };
    for seq in bounds.floor + 1..=bounds.last {
        match reader.read(seq) {
            Ok(record) => check.record(&reader, bounds, &record),
            Err(error) => {
                // A running job may have collected it meanwhile.
                if reader.floor()? < seq {
                    check.find(error.to_string());
                    check.prev = None;
                    check.last = None;
                }
            }
        }
    }
    Ok(check.report)
}

struct Check {
    report: Report,
    folder: Folder,
    shards: u16,
    /// The plan that runs; `None` while only a missing record says which.
    plan: Option<String>,
    /// Hash of the record before.
    prev: Option<Digest>,
    generation: u64,
    /// The last tick of the journal, unless a record before is missing.
    last: Option<Tick>,
    /// Ticks in which each lane had rows.
    rows: BTreeMap<(u32, u32), BTreeSet<Tick>>,
    /// The record of each tick.
    ticks_at: BTreeMap<Tick, u64>,
    /// Files that were read.
    read: BTreeSet<String>,
}

impl Check {
    fn find(&mut self, finding: impl Into<String>) {
        self.report.findings.push(finding.into());
    }

    fn record(&mut self, reader: &LogReader, bounds: Bounds, record: &Record) {
        let (seq, name) = (record.header.seq, reader.name(record.header.seq));
        self.report.records += 1;
        let chained = match self.prev {
            Some(prev) => prev == record.header.prev_xxh3,
            None => seq != 1 || record.header.prev_xxh3 == reader.root(),
        };
        if !chained {
            self.find(format!("{name} does not follow the record before it: the log was forked or edited"));
        }
        self.prev = Some(record.xxh3);
        if record.header.generation < self.generation {
            self.find(format!("{name} is of generation {}, after {}", record.header.generation, self.generation));
        }
        self.generation = self.generation.max(record.header.generation);
        let plan = &record.header.plan;
        let before = match &record.body {
            Body::Upgrade(upgrade) => &upgrade.from_plan,
            _ => plan,
        };
        if let Some(known) = self.plan.as_ref().filter(|known| *known != before) {
            self.find(format!("{name} follows plan {before}, the job has plan {known}"));
        }
        self.plan = Some(plan.clone());
        match &record.body {
            Body::Ticks(ticks) => self.ticks(&name, seq, ticks),
            body => {
                let Some(checkpoint) = body.checkpoint() else { return };
                if let Body::Upgrade(_) = body {
                    // Sinks have other numbers from here on.
                    self.rows.clear();
                }
                let before = self.report.findings.len();
                self.checkpoint(reader, bounds, &name, seq, checkpoint);
                // The files of an old checkpoint go before its record does, perhaps while they were looked at.
                match reader.oldest_kept() {
                    Ok(oldest) if seq < oldest => self.report.findings.truncate(before),
                    Ok(_) => {}
                    Err(error) => self.find(error.to_string()),
                }
            }
        }
    }

    fn ticks(&mut self, name: &str, seq: u64, ticks: &Ticks) {
        for entry in &ticks.entries {
            let tick = entry.record.tick;
            if self.last.is_some_and(|last| tick != last + 1) {
                self.find(format!("{name} holds tick {tick} after {}", self.last.unwrap_or_default()));
            }
            self.last = Some(tick);
            self.report.ticks += 1;
            self.ticks_at.insert(tick, seq);
            for lane in entry.lanes.iter().filter(|lane| lane.rows > 0) {
                self.rows.entry((lane.sink, lane.lane)).or_default().insert(tick);
            }
            for (step, counts) in entry.balance.iter().filter(|(_, counts)| !counts.balances()) {
                self.find(format!("{name}: the rows of `{step}` in tick {tick} do not balance: {counts:?}"));
            }
        }
    }

    fn checkpoint(&mut self, reader: &LogReader, bounds: Bounds, name: &str, seq: u64, checkpoint: &Checkpoint) {
        self.report.checkpoints += 1;
        let tick = checkpoint.tick;
        if self.last.is_some_and(|last| last < tick) {
            self.find(format!("{name} is a checkpoint at tick {tick}, which the log does not cover"));
        }
        let first_after = self.ticks_at.range(tick + 1..).next().map(|(_, seq)| *seq);
        if first_after.is_some_and(|first| first < checkpoint.after) || checkpoint.after > seq {
            self.find(format!("{name} says that the ticks after it begin in record {}, they do not", checkpoint.after));
        }
        let behind: Vec<LaneToken> = checkpoint.tokens.iter().filter(|it| self.is_behind(it, tick)).cloned().collect();
        for LaneToken { sink, lane, tick: token } in behind {
            self.find(format!(
                "{name} is at tick {tick}, but lane {lane} of sink {sink} had rows after its token {token}"
            ));
        }
        for (step, counts) in checkpoint.balance.iter().filter(|(_, counts)| !counts.balances()) {
            self.find(format!("{name}: the rows of `{step}` do not balance: {counts:?}"));
        }
        if let Some(at) = checkpoint.inputs.filter(|at| at.seq <= bounds.floor)
            && let Err(error) = reader.read_at(at)
        {
            self.find(error.to_string());
        }
        let files: Vec<StateFile> = checkpoint.files().collect();
        for overlap in overlaps(&files) {
            self.find(format!("{name}: {overlap}"));
        }
        for file in files {
            self.file(name, &file, tick);
        }
    }

    /// Returns whether the lane had rows between its token and the checkpoint.
    fn is_behind(&self, token: &LaneToken, tick: Tick) -> bool {
        let rows = self.rows.get(&(token.sink, token.lane));
        token.tick < tick && rows.is_some_and(|rows| rows.range(token.tick + 1..=tick).next().is_some())
    }

    fn file(&mut self, name: &str, file: &StateFile, tick: Tick) {
        if file.tick > tick || file.shards.iter().any(|shard| *shard >= self.shards) {
            self.find(format!("{name} names {} with a tick or shards that cannot be", file.path));
        }
        if !self.read.insert(file.path.clone()) {
            return;
        }
        self.report.files += 1;
        self.report.bytes += file.bytes;
        match self.rows_of(file) {
            Ok(rows) => self.report.rows += rows,
            Err(reason) => self.find(reason),
        }
    }

    fn rows_of(&self, file: &StateFile) -> Result<u64, String> {
        let bytes = load(&self.folder, file).map_err(|e| e.to_string())?;
        let batches = decode(bytes, &|_| true).map_err(|e| format!("state file {}: {e}", file.path))?;
        let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        if rows != file.rows {
            return Err(format!("state file {} has {rows} rows instead of {}", file.path, file.rows));
        }
        let named: BTreeSet<u16> = file.shards.iter().copied().collect();
        let shards = || batches.iter().flat_map(|batch| shards_of(batch).values().iter().copied());
        match shards().find(|shard| !named.contains(shard)) {
            Some(shard) => Err(format!("state file {} has rows of shard {shard}, which it does not name", file.path)),
            None if !shards().is_sorted() => Err(format!("state file {} is not sorted by shard", file.path)),
            None => Ok(rows),
        }
    }
}
