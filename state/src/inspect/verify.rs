//! Verification: every record, every live file, and what must hold between them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int8Type;
use bytes::Bytes;
use riverrun_dataflow::journal::{FileKind, LaneToken, StateFile};
use riverrun_dataflow::operator::TableSpec;
use riverrun_dataflow::tick::Tick;
use serde::{Deserialize, Serialize};

use crate::error::StateError;
use crate::file::{About, decode_all, load, name_of};
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
    /// The tick of the newest checkpoint with which nothing is wrong, nor with the log since: a start goes on from it, if no sink went
    /// back behind it. `None`: there is none.
    pub newest_usable: Option<Tick>,
    /// What is wrong; empty if all is well.
    pub findings: Vec<StateFinding>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFinding {
    /// With what: a log record, a state file, a savepoint.
    pub object: String,
    /// What.
    pub reason: String,
    /// The ticks of the checkpoints that cannot be used because of it, ascending.
    pub checkpoints: Vec<Tick>,
}

impl StateFinding {
    fn new(object: impl Into<String>, reason: impl Into<String>) -> StateFinding {
        StateFinding { object: object.into(), reason: reason.into(), checkpoints: Vec::new() }
    }

    /// Returns what an error found. How to mend a job that does not start is left out: this one may.
    pub(crate) fn of(error: &StateError) -> StateFinding {
        let (object, reason) = match error {
            StateError::Damaged { what, reason } => (what.clone(), reason.clone()),
            StateError::Storage { act, what, reason } => (what.clone(), format!("cannot {act} it: {reason}")),
            StateError::Newer { what, found, known } => {
                (what.clone(), format!("it has format version {found}, this build knows up to {known}"))
            }
            other => ("state".to_owned(), other.to_string()),
        };
        StateFinding::new(object, reason.split("\n  hint:").next().unwrap_or_default())
    }

    fn at(self, tick: Tick) -> StateFinding {
        StateFinding { checkpoints: vec![tick], ..self }
    }
}

impl fmt::Display for StateFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
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
        read: BTreeMap::new(),
        begins: Vec::new(),
        breaks: Vec::new(),
    };
    for seq in bounds.floor + 1..=bounds.last {
        match reader.read(seq) {
            Ok(record) => check.record(&reader, &record),
            Err(error) => {
                // A running job may have collected it meanwhile.
                if reader.floor()? < seq {
                    check.breaks(seq, StateFinding::of(&error));
                    check.prev = None;
                    check.last = None;
                }
            }
        }
    }
    check.conclude();
    let (savepoints, unreadable) = savepoint::readable(&check.folder)?;
    savepoints.iter().for_each(|savepoint| check.savepoint(&reader, savepoint));
    unreadable.iter().for_each(|error| check.find(StateFinding::of(error)));
    Ok(check.report)
}

/// A checkpoint from which a start may go on.
struct Begins {
    tick: Tick,
    /// The first record that is read for it.
    first: u64,
    /// Nothing is wrong with it.
    is_whole: bool,
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
    /// Files that were read, each with what is wrong with it.
    read: BTreeMap<String, Option<StateFinding>>,
    /// Oldest first.
    begins: Vec<Begins>,
    /// The records that cannot be read back from the end of the log, each with what is wrong with it.
    breaks: Vec<(u64, StateFinding)>,
}

impl Check {
    fn find(&mut self, finding: StateFinding) {
        let is_same = |known: &&mut StateFinding| known.object == finding.object && known.reason == finding.reason;
        // Several checkpoints may stand on what is broken once.
        match self.report.findings.iter_mut().find(is_same) {
            Some(known) => {
                known.checkpoints.extend(finding.checkpoints);
                known.checkpoints.sort_unstable();
                known.checkpoints.dedup();
            }
            None => self.report.findings.push(finding),
        }
    }

    /// Who reads the log from its end does not come past record `seq`.
    fn breaks(&mut self, seq: u64, finding: StateFinding) {
        self.breaks.push((seq, finding.clone()));
        self.find(finding);
    }

    /// Says which checkpoints cannot be used because of the log, and which is the newest that can.
    fn conclude(&mut self) {
        for (seq, finding) in std::mem::take(&mut self.breaks) {
            let mut before: Vec<Tick> = Vec::new();
            for begins in self.begins.iter_mut().filter(|begins| begins.first <= seq) {
                begins.is_whole = false;
                before.push(begins.tick);
            }
            self.find(StateFinding { checkpoints: before, ..finding });
        }
        self.report.newest_usable = self.begins.iter().rfind(|begins| begins.is_whole).map(|begins| begins.tick);
    }

    fn record(&mut self, reader: &LogReader, record: &Record) {
        let (seq, name) = (record.header.seq, reader.name(record.header.seq));
        self.report.records += 1;
        let chained = match self.prev {
            Some(prev) => prev == record.header.prev_xxh3,
            None => seq != 1 || record.header.prev_xxh3 == reader.root(),
        };
        if !chained {
            let finding =
                StateFinding::new(&name, "it does not follow the record before it: the log was forked or edited");
            // The first record follows the job itself.
            self.breaks(seq.saturating_sub(1).max(1), finding);
        }
        self.prev = Some(record.xxh3);
        if record.header.generation < self.generation {
            let reason = format!("it is of generation {}, after {}", record.header.generation, self.generation);
            self.find(StateFinding::new(&name, reason));
        }
        self.generation = self.generation.max(record.header.generation);
        let plan = &record.header.plan;
        let before = match &record.body {
            Body::Upgrade(upgrade) => &upgrade.from_plan,
            _ => plan,
        };
        if let Some(known) = self.plan.as_ref().filter(|known| *known != before) {
            let reason = format!("it follows plan {before}, the job has plan {known}");
            self.find(StateFinding::new(&name, reason));
        }
        self.plan = Some(plan.clone());
        match &record.body {
            Body::Ticks(ticks) => self.ticks(&name, seq, ticks),
            body => {
                let Some(checkpoint) = body.checkpoint() else { return };
                if let Body::Upgrade(_) = body {
                    // Sinks have other numbers from here on, and no restart looks behind it.
                    self.rows.clear();
                    self.begins.clear();
                }
                let found = self.checkpoint(reader, &name, seq, checkpoint);
                let tick = checkpoint.tick;
                // The files of an old checkpoint go before its record does, perhaps while they were looked at.
                match reader.oldest_kept() {
                    Ok(oldest) if seq < oldest => return,
                    Ok(_) => {}
                    Err(error) => self.find(StateFinding::of(&error)),
                }
                self.begins.push(Begins { tick, first: seq.min(checkpoint.after), is_whole: found.is_empty() });
                found.into_iter().for_each(|finding| self.find(finding.at(tick)));
            }
        }
    }

    fn ticks(&mut self, name: &str, seq: u64, ticks: &Ticks) {
        for entry in &ticks.entries {
            let tick = entry.record.tick;
            if self.last.is_some_and(|last| tick != last + 1) {
                let reason = format!("it holds tick {tick} after {}", self.last.unwrap_or_default());
                self.find(StateFinding::new(name, reason));
            }
            self.last = Some(tick);
            self.report.ticks += 1;
            self.ticks_at.insert(tick, seq);
            for lane in entry.lanes.iter().filter(|lane| lane.rows > 0) {
                self.rows.entry((lane.sink, lane.lane)).or_default().insert(tick);
            }
            for (step, counts) in entry.balance.iter().filter(|(_, counts)| !counts.balances()) {
                let reason = format!("the rows of `{step}` in tick {tick} do not balance: {counts:?}");
                self.find(StateFinding::new(name, reason));
            }
        }
    }

    /// Returns what is wrong with a checkpoint.
    fn checkpoint(&mut self, reader: &LogReader, name: &str, seq: u64, checkpoint: &Checkpoint) -> Vec<StateFinding> {
        self.report.checkpoints += 1;
        let tick = checkpoint.tick;
        let mut found = Vec::new();
        let mut find = |reason: String| found.push(StateFinding::new(name, reason));
        if self.last.is_some_and(|last| last < tick) {
            find(format!("it is a checkpoint at tick {tick}, which the log does not cover"));
        }
        let first_after = self.ticks_at.range(tick + 1..).next().map(|(_, seq)| *seq);
        if first_after.is_some_and(|first| first < checkpoint.after) || checkpoint.after > seq {
            find(format!("it says that the ticks after it begin in record {}, they do not", checkpoint.after));
        }
        for LaneToken { sink, lane, tick: token } in checkpoint.tokens.iter().filter(|it| self.is_behind(it, tick)) {
            find(format!("it is at tick {tick}, but lane {lane} of sink {sink} had rows after its token {token}"));
        }
        for (step, counts) in checkpoint.balance.iter().filter(|(_, counts)| !counts.balances()) {
            find(format!("the rows of `{step}` do not balance: {counts:?}"));
        }
        // One above the floor was read with the others; that it is the one that is named is seen only here.
        if let Some(at) = checkpoint.inputs
            && let Err(error) = reader.read_at(at)
        {
            found.push(StateFinding::of(&error));
        }
        found.extend(self.files(name, checkpoint));
        found
    }

    /// Returns what is wrong with the files of a checkpoint.
    fn files(&mut self, name: &str, checkpoint: &Checkpoint) -> Vec<StateFinding> {
        let files: Vec<StateFile> = checkpoint.files().collect();
        let overlaps = overlaps(&files).into_iter().map(|overlap| StateFinding::new(name, overlap.to_string()));
        let mut found: Vec<StateFinding> = overlaps.collect();
        for table in &checkpoint.tables {
            for entry in &table.files {
                self.file(name, &entry.expand(&table.step, &table.table), checkpoint.tick, &table.columns, &mut found);
            }
        }
        found
    }

    /// A savepoint may be older than the log: its own record, the inputs record that it names and its files must be whole.
    fn savepoint(&mut self, reader: &LogReader, savepoint: &Savepoint) {
        self.report.savepoints += 1;
        self.shards = savepoint.shards.unwrap_or(self.job_shards);
        let name = format!("savepoint `{}`", savepoint.name);
        if let Some(at) = savepoint.checkpoint.inputs {
            match reader.read_at(at).map(|record| record.foundation()) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let reason = format!("it names {}, which is no inputs record", reader.name(at.seq));
                    self.find(StateFinding::new(&name, reason));
                }
                Err(error) => self.find(StateFinding::new(&name, StateFinding::of(&error).to_string())),
            }
        }
        for finding in self.files(&name, &savepoint.checkpoint) {
            let finding = match finding.object == name {
                true => finding,
                false => StateFinding::new(&name, finding.to_string()),
            };
            self.find(finding);
        }
    }

    /// Returns whether the lane had rows between its token and the checkpoint.
    fn is_behind(&self, token: &LaneToken, tick: Tick) -> bool {
        let rows = self.rows.get(&(token.sink, token.lane));
        token.tick < tick && rows.is_some_and(|rows| rows.range(token.tick + 1..=tick).next().is_some())
    }

    fn file(&mut self, name: &str, file: &StateFile, tick: Tick, columns: &[String], found: &mut Vec<StateFinding>) {
        if file.tick > tick || file.shards.iter().any(|shard| *shard >= self.shards) {
            found.push(StateFinding::new(name, format!("it names {} with a tick or shards that cannot be", file.path)));
        }
        if let Some(known) = self.read.get(&file.path) {
            found.extend(known.clone());
            return;
        }
        self.report.files += 1;
        self.report.bytes += file.bytes;
        let wrong = match self.rows_of(file, columns) {
            Ok(rows) => {
                self.report.rows += rows;
                None
            }
            Err(finding) => Some(finding),
        };
        found.extend(wrong.clone());
        self.read.insert(file.path.clone(), wrong);
    }

    fn rows_of(&self, file: &StateFile, columns: &[String]) -> Result<u64, StateFinding> {
        let bytes = load(&self.folder, file).map_err(|error| StateFinding::of(&error))?;
        check_content(file, columns, bytes).map_err(|reason| StateFinding::new(name_of(&self.folder, file), reason))
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
