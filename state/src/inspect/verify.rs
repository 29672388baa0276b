//! Verification: every record, every live file, and what must hold between them.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int8Type;
use bytes::Bytes;
use riverrun_dataflow::journal::{FileKind, LaneToken, StateFile};
use riverrun_dataflow::operator::TableSpec;
use riverrun_dataflow::tick::Tick;
use serde::{Deserialize, Serialize};

use crate::error::StateError;
use crate::file::{About, decode_all, load};
use crate::folder::Folder;
use crate::inspect::Look;
use crate::ledger::overlaps;
use crate::log::LogReader;
use crate::record::{Body, Checkpoint, Digest, Record, Ticks};
use crate::rows::{Sorted, shards_of};
use crate::savepoint::{self, Savepoint};
use crate::store::Store;

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The job.
    pub job: String,
    /// Records read.
    pub records: u64,
    /// Ticks in them.
    pub ticks: u64,
    /// Checkpoints among them.
    pub checkpoints: u64,
    /// Savepoints.
    pub savepoints: u64,
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
        job_shards: file.shards,
        plan: (bounds.floor == 0 && file.savepoint.is_none()).then_some(file.plan),
        prev: None,
        generation: 0,
        last: None,
        rows: BTreeMap::new(),
        ticks_at: BTreeMap::new(),
        read: BTreeSet::new(),
    };
    for seq in bounds.floor + 1..=bounds.last {
        match reader.read(seq) {
            Ok(record) => check.record(&reader, &record),
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
    match savepoint::all(&check.folder) {
        Ok(savepoints) => savepoints.iter().for_each(|savepoint| check.savepoint(&reader, savepoint)),
        Err(error) => check.find(error.to_string()),
    }
    Ok(check.report)
}

struct Check {
    report: Report,
    folder: Folder,
    /// The shards of what is looked at.
    shards: u16,
    job_shards: u16,
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
        let finding = finding.into();
        // Several checkpoints may stand on what is broken once.
        if !self.report.findings.contains(&finding) {
            self.report.findings.push(finding);
        }
    }

    fn record(&mut self, reader: &LogReader, record: &Record) {
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
                self.checkpoint(reader, &name, seq, checkpoint);
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

    fn checkpoint(&mut self, reader: &LogReader, name: &str, seq: u64, checkpoint: &Checkpoint) {
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
        // One above the floor was read with the others; that it is the one that is named is seen only here.
        if let Some(at) = checkpoint.inputs
            && let Err(error) = reader.read_at(at)
        {
            self.find(error.to_string());
        }
        let files: Vec<StateFile> = checkpoint.files().collect();
        for overlap in overlaps(&files) {
            self.find(format!("{name}: {overlap}"));
        }
        for table in &checkpoint.tables {
            for entry in &table.files {
                self.file(name, &entry.expand(&table.step, &table.table), tick, &table.columns);
            }
        }
    }

    /// A savepoint may be older than the log: its own record, the inputs record that it names and its files must be whole.
    fn savepoint(&mut self, reader: &LogReader, savepoint: &Savepoint) {
        self.report.savepoints += 1;
        self.shards = savepoint.shards.unwrap_or(self.job_shards);
        let (name, tick) = (format!("savepoint `{}`", savepoint.name), savepoint.checkpoint.tick);
        if let Some(at) = savepoint.checkpoint.inputs {
            match reader.read_at(at).map(|record| record.foundation()) {
                Ok(Some(_)) => {}
                Ok(None) => self.find(format!("{name} names {}, which is no inputs record", reader.name(at.seq))),
                Err(error) => self.find(format!("{name}: {error}")),
            }
        }
        let files: Vec<StateFile> = savepoint.checkpoint.files().collect();
        for overlap in overlaps(&files) {
            self.find(format!("{name}: {overlap}"));
        }
        for table in &savepoint.checkpoint.tables {
            for entry in &table.files {
                self.file(&name, &entry.expand(&table.step, &table.table), tick, &table.columns);
            }
        }
    }

    /// Returns whether the lane had rows between its token and the checkpoint.
    fn is_behind(&self, token: &LaneToken, tick: Tick) -> bool {
        let rows = self.rows.get(&(token.sink, token.lane));
        token.tick < tick && rows.is_some_and(|rows| rows.range(token.tick + 1..=tick).next().is_some())
    }

    fn file(&mut self, name: &str, file: &StateFile, tick: Tick, columns: &[String]) {
        if file.tick > tick || file.shards.iter().any(|shard| *shard >= self.shards) {
            self.find(format!("{name} names {} with a tick or shards that cannot be", file.path));
        }
        if !self.read.insert(file.path.clone()) {
            return;
        }
        self.report.files += 1;
        self.report.bytes += file.bytes;
        match self.rows_of(file, columns) {
            Ok(rows) => self.report.rows += rows,
            Err(reason) => self.find(reason),
        }
    }

    fn rows_of(&self, file: &StateFile, columns: &[String]) -> Result<u64, String> {
        let bytes = load(&self.folder, file).map_err(|e| e.to_string())?;
        check_content(file, columns, bytes).map_err(|reason| format!("state file {}: {reason}", file.path))
    }
}

/// Holds the content of a file against what a checkpoint says of it; returns its rows.
fn check_content(file: &StateFile, columns: &[String], bytes: Bytes) -> Result<u64, String> {
    let about = About::of(bytes.clone())?;
    let found: Vec<String> =
        about.schema.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect();
    if found != columns {
        return Err(format!("it has the columns {found:?} instead of {columns:?}"));
    }
    let batches = decode_all(bytes, &|_| true)?;
    let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    if rows != file.rows {
        return Err(format!("it has {rows} rows instead of {}", file.rows));
    }
    let named: BTreeSet<u16> = file.shards.iter().copied().collect();
    let mut shards = batches.iter().flat_map(|batch| shards_of(batch).values().iter().copied());
    if let Some(shard) = shards.find(|shard| !named.contains(shard)) {
        return Err(format!("it has rows of shard {shard}, which it does not name"));
    }
    let deletes = |batch: &RecordBatch| batch.column(1).as_primitive::<Int8Type>().values().contains(&0);
    if file.kind == FileKind::Base && batches.iter().any(deletes) {
        return Err("it is a base and deletes rows".into());
    }
    let spec = TableSpec { name: "", key_columns: about.key_columns()?, schema: about.schema };
    match Sorted::of(&batches, &spec)?.was_in_order() {
        true => Ok(rows),
        false => Err("its rows are not in the order of shard and key".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Notes, encode};
    use crate::tests::model::{batch, table_spec};

    const COLUMNS: [&str; 4] = ["shard: UInt16", "op: Int8", "key: Int64", "value: Utf8"];

    /// Checks a file with these rows as they are, of which the first `rows` are said to be there, in shards 0 to 2.
    fn checked(kind: FileKind, rows: &[(u16, i8, i64)], columns: &[&str]) -> Result<u64, String> {
        let rows: Vec<_> = rows.iter().map(|(shard, op, key)| (*shard, *op, *key, None)).collect();
        let batches = [batch(&rows)];
        // Without a key to sort by, and all in one shard's place, rows stay as they are given.
        let as_given = TableSpec { key_columns: 0, ..table_spec() };
        let sorted = Sorted::of(&batches, &as_given)?;
        let notes = Notes { step: "s", table: "t", key_columns: 1, tick: 3, generation: 1, build: "b" };
        let bytes = encode(&sorted, table_spec().schema, kind, &notes)?;
        let file = StateFile {
            path: "p".into(),
            step: "s".into(),
            table: "t".into(),
            kind,
            tick: 3,
            shards: vec![0, 1, 2],
            rows: 2,
            bytes: bytes.len() as u64,
            xxh3: 0,
        };
        let columns: Vec<String> = columns.iter().map(|column| column.to_string()).collect();
        check_content(&file, &columns, bytes.into())
    }

    #[test]
    fn the_content_of_a_file_is_what_the_checkpoint_says() {
        let whole = [(0, 1, 7), (2, 1, 3)];
        assert_eq!(checked(FileKind::Base, &whole, &COLUMNS), Ok(2));
        assert_eq!(checked(FileKind::Delta, &[(1, 0, 3), (1, 1, 3)], &COLUMNS), Ok(2));
        let wrong = [
            (checked(FileKind::Base, &whole, &COLUMNS[..3]), "instead of"),
            (checked(FileKind::Base, &whole[..1], &COLUMNS), "1 rows instead of 2"),
            (checked(FileKind::Base, &[(0, 1, 7), (3, 1, 3)], &COLUMNS), "shard 3"),
            (checked(FileKind::Base, &[(0, 1, 7), (2, 0, 3)], &COLUMNS), "deletes"),
            (checked(FileKind::Delta, &[(1, 1, 7), (1, 1, 3)], &COLUMNS), "not in the order"),
        ];
        for (found, says) in wrong {
            let reason = found.unwrap_err();
            assert!(reason.contains(says), "{says}: {reason}");
        }
    }
}
