//! Upgrades: a drained job goes on as another plan.
//!
//! ```text
//! Standing::of (what is there) -> JobState::upgrade -> Upgrading -> (ask the sinks) -> finish(Next)
//! ```
//! A job is drained when its newest checkpoint is at the last tick of the journal and no lane is behind: nothing is left that
//! only the old plan, or the old build, could derive again. From there the whole upgrade is one record of the log. Before it
//! is created nothing has changed but a generation number; state files that were written anew for it are orphans like
//! those of any process that died. After it, nothing before it is needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::fail_point::reach;
use riverrun_dataflow::journal::{FileKind, LaneToken, StateFile};
use riverrun_dataflow::operator::{STATE_COLUMNS, TableSpec};
use riverrun_dataflow::tick::{Floor, Tick, Timeline};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::StateError;
use crate::file::{Notes, decode_all, encode, load};
use crate::folder::{Folder, Holder, JobFile, Lock, Opened, SinkLanes, random_id};
use crate::job::{ATTEMPTS, JobState};
use crate::log::{Bounds, Log, LogReader, Writer};
use crate::record::{Body, Checkpoint, FileEntry, Foundation, Generation, Inputs, Record, TableFiles, Upgrade};
use crate::rows::Sorted;
use crate::store::Store;

/// How a job stands: what an upgrade begins with.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What was fixed when the job was created.
    pub file: JobFile,
    /// The plan that it ran last.
    pub plan: String,
    /// The build that wrote its newest record of ticks or state.
    pub build: String,
    /// The lanes of each sink of that plan.
    pub lanes: Vec<SinkLanes>,
    /// What that plan reads; `None` if nothing was resolved yet.
    pub inputs: Option<Inputs>,
    /// By step: how far it had come at the last upgrade.
    pub floors: BTreeMap<String, Floor>,
    /// The newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The last tick of the journal.
    pub last: Tick,
    newest: Option<Record>,
    generation: u64,
}

impl Standing {
    /// Looks at the job from outside; it may be running. `None` if it never ran here.
    pub fn look(store: Arc<Store>, job: &str) -> Result<Option<Standing>, StateError> {
        let folder = Folder::of(store, job)?;
        let Some(file) = folder.read()? else { return Ok(None) };
        let reader = folder.log(&file);
        Standing::of(&reader, reader.bounds()?, file).map(Some)
    }

    /// Returns how the job in `folder` stood when `record`, a checkpoint of it, was published.
    pub(crate) fn at(folder: &Folder, mut file: JobFile, record: &Record) -> Result<Option<Standing>, StateError> {
        let Some(checkpoint) = record.body.checkpoint().cloned() else { return Ok(None) };
        if let Body::Upgrade(upgrade) = &record.body {
            file.shards = upgrade.shards.unwrap_or(file.shards);
        }
        let header = record.header.clone();
        let foundation = match (record.foundation(), checkpoint.inputs) {
            (None, Some(at)) => folder.log(&file).read_at(at)?.foundation(),
            (own, _) => own,
        };
        let lanes = foundation.as_ref().and_then(|it| it.lanes.clone()).unwrap_or_else(|| file.lanes.clone());
        Ok(Some(Standing {
            file,
            plan: header.plan,
            build: header.build,
            lanes,
            inputs: foundation.as_ref().map(|it| it.inputs.clone()),
            floors: foundation.map(|it| it.floors).unwrap_or_default(),
            last: checkpoint.tick,
            checkpoint: Some(checkpoint),
            newest: None,
            generation: header.generation,
        }))
    }

    fn of(reader: &LogReader, bounds: Bounds, file: JobFile) -> Result<Standing, StateError> {
        let (plan, build, lanes) = (file.plan.clone(), file.build.clone(), file.lanes.clone());
        let mut standing = Standing {
            file,
            plan,
            build,
            lanes,
            inputs: None,
            floors: BTreeMap::new(),
            checkpoint: None,
            last: 0,
            newest: None,
            generation: 0,
        };
        let mut foundation: Option<Foundation> = None;
        let mut after = 0;
        for record in reader.backwards(bounds) {
            let record = record?;
            let header = &record.header;
            standing.generation = standing.generation.max(header.generation);
            if let Body::Ticks(ticks) = &record.body {
                standing.last = standing.last.max(ticks.last);
            }
            if standing.checkpoint.is_none() {
                foundation = foundation.or_else(|| record.foundation());
                if let Some(checkpoint) = record.body.checkpoint() {
                    standing.build.clone_from(&header.build);
                    standing.last = standing.last.max(checkpoint.tick);
                    after = checkpoint.after;
                    standing.checkpoint = Some(checkpoint.clone());
                    if let (None, Some(at)) = (&foundation, checkpoint.inputs) {
                        foundation = reader.read_at(at)?.foundation();
                    }
                }
            }
            let seq = header.seq;
            standing.newest.get_or_insert(record);
            if standing.checkpoint.is_some() && seq <= after {
                break;
            }
        }
        if let Some(Foundation { plan, lanes, inputs, floors, .. }) = foundation {
            standing.plan = plan;
            standing.lanes = lanes.unwrap_or(standing.lanes);
            standing.inputs = Some(inputs);
            standing.floors = floors;
        }
        Ok(standing)
    }

    /// Returns the checkpoint of a drained job, or why it is not drained and what to do.
    pub fn drained(&self) -> Result<&Checkpoint, StateError> {
        let not = |reason: String| StateError::NotDrained { job: self.file.job.clone(), reason };
        let Some(checkpoint) = &self.checkpoint else {
            return Err(not(match self.last {
                0 => "it has not done anything yet, so --fresh loses nothing".into(),
                last => format!("it has no checkpoint, and ticks 1 to {last} are in its journal"),
            }));
        };
        let tick = checkpoint.tick;
        match self.last > tick {
            true => Err(not(format!(
                "its newest checkpoint is at tick {tick}, and ticks {} to {} come after it",
                tick + 1,
                self.last
            ))),
            false => Ok(checkpoint),
        }
    }
}

/// A table of the old state that becomes one of the new.
#[derive(Clone, Debug)]
pub struct Move {
    /// Step and table as they were called.
    pub from: (String, String),
    /// The step as it is called.
    pub step: String,
    /// The table as it is.
    pub table: TableSpec,
    /// Where each of its columns, after `shard` and `op`, comes from: `None` is null in all rows. Without this the files are
    /// used as they are.
    pub columns: Option<Vec<Option<String>>>,
}

/// What a drained job becomes.
#[derive(Clone, Debug)]
pub struct Next {
    /// Hash of the plan.
    pub plan: String,
    /// The lanes of its sinks, in the order of its graph.
    pub lanes: Vec<SinkLanes>,
    /// What it reads.
    pub inputs: Inputs,
    /// How far each of its steps had come.
    pub floors: BTreeMap<String, Floor>,
    /// What became of each part, for people.
    pub parts: BTreeMap<String, String>,
    /// Where it stands.
    pub before: Timeline,
    /// The committed tick of the lanes that go on.
    pub tokens: Vec<LaneToken>,
    /// The balance, as far as it goes on.
    pub balance: BTreeMap<String, Counts>,
    /// The state that goes on.
    pub tables: Vec<Move>,
}

/// A drained job of which this process is the newest generation.
#[derive(Debug)]
pub struct Upgrading {
    folder: Folder,
    standing: Standing,
    log: Log,
    _lock: Option<Lock>,
}

impl JobState {
    /// Becomes the newest generation of a job that is drained, to make another plan of it.
    pub fn upgrade(self) -> Result<Upgrading, StateError> {
        let (Opened { folder, file, lock }, holder, build) = self.into_opened();
        let reader = folder.log(&file);
        let attempt = random_id();
        for _ in 0..ATTEMPTS {
            let standing = Standing::of(&reader, reader.bounds()?, file.clone())?;
            standing.drained()?;
            // Until the upgrade is written the job is what it was.
            let writer = Writer {
                generation: standing.generation + 1,
                attempt: attempt.clone(),
                build: build.clone(),
                plan: standing.plan.clone(),
            };
            let mut log = Log::after(reader.clone(), writer, standing.newest.as_ref());
            let Holder { host, pid, workers } = holder.clone();
            match log.append(&Body::Generation(Generation { host, pid, workers, base: None })) {
                Ok(_) => return Ok(Upgrading { folder, standing, log, _lock: lock }),
                Err(StateError::Fenced(_)) => continue,
                Err(error) => return Err(error),
            }
        }
        Err(StateError::Fenced(format!("other processes keep taking over job `{}`; this one gives way", folder.job())))
    }
}

impl Upgrading {
    /// Returns our generation.
    pub fn generation(&self) -> u64 {
        self.log.writer().generation
    }

    /// Returns how the job stood before.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Makes the job what `next` says, in one record. Returns its number.
    pub fn finish(mut self, next: Next) -> Result<u64, StateError> {
        let writer = self.log.writer();
        let place = format!("state/g{:06}/c{:012}/upgrade/", writer.generation, self.standing.last);
        let moving =
            Moving { folder: &self.folder, standing: &self.standing, place, build: &writer.build, copy: false };
        let plan = next.plan.clone();
        let upgrade = moving.upgrade(next, self.log.last() + 1)?;
        self.log.become_plan(plan);
        Ok(self.log.append(&Body::Upgrade(Box::new(upgrade)))?.seq)
    }
}

/// State on its way from one plan to another.
pub(crate) struct Moving<'a> {
    pub folder: &'a Folder,
    pub standing: &'a Standing,
    /// Where new files are written, in the job's folder.
    pub place: String,
    pub build: &'a str,
    /// All files are written anew, those too that could stay where they are.
    pub copy: bool,
}

impl Moving<'_> {
    /// Writes what is to be written, and returns the record `seq` of the upgrade to `next`.
    pub fn upgrade(&self, next: Next, seq: u64) -> Result<Upgrade, StateError> {
        let old = self.standing.drained()?;
        // No older checkpoint can help the new plan: what it begins with has to be whole.
        old.files().try_for_each(|file| load(self.folder, &file).map(|_| ()))?;
        let Next { plan: _, lanes, inputs, floors, parts, before, tokens, balance, tables } = next;
        let tables = self.moved(old, tables)?;
        let checkpoint = Checkpoint {
            tick: old.tick,
            after: seq,
            inputs: None,
            finished: false,
            pause_micros: 0,
            cpu_micros: 0,
            before,
            recent: Vec::new(),
            tokens,
            balance,
            tables,
        };
        let (from_plan, from_build) = (self.standing.plan.clone(), self.standing.build.clone());
        Ok(Upgrade { from_plan, from_build, lanes, inputs, floors, parts, checkpoint, shards: None })
    }

    /// Returns the tables of the new plan; writes the files anew whose columns are not what they were.
    fn moved(&self, old: &Checkpoint, moves: Vec<Move>) -> Result<Vec<TableFiles>, StateError> {
        let mut tables = Vec::new();
        let mut number = 0;
        for Move { from, step, table, columns } in moves {
            let Some(files) = old.tables.iter().find(|it| (&it.step, &it.table) == (&from.0, &from.1)) else {
                continue;
            };
            let mut entries = Vec::new();
            for entry in &files.files {
                number += 1;
                let file = entry.expand(&from.0, &from.1);
                let path = self.path(&file, &step, &table, number);
                entries.push(match &columns {
                    None if !self.copy => entry.clone(),
                    None => {
                        let bytes = load(self.folder, &file)?;
                        self.put(&path, bytes.to_vec())?;
                        FileEntry { path, ..entry.clone() }
                    }
                    Some(columns) => FileEntry::of(&self.rewrite(&file, path, &step, &table, columns)?),
                });
            }
            let columns = table.schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
            tables.push(TableFiles { step, table: table.name.to_string(), columns, files: entries });
        }
        tables.sort_by(|a, b| (&a.step, &a.table).cmp(&(&b.step, &b.table)));
        Ok(tables)
    }

    fn path(&self, file: &StateFile, step: &str, table: &TableSpec, number: usize) -> String {
        let word = match file.kind {
            FileKind::Delta => "delta",
            FileKind::Base => "base",
        };
        format!("{}{number:06}.{step}.{}.{word}.parquet", self.place, table.name)
    }

    fn rewrite(
        &self,
        file: &StateFile,
        path: String,
        step: &str,
        table: &TableSpec,
        columns: &[Option<String>],
    ) -> Result<StateFile, StateError> {
        let damaged = |reason: String| StateError::damaged(format!("state file {}", file.path), reason);
        let rows = decode_all(load(self.folder, file)?, &|_| true).map_err(damaged)?;
        let adapted = rows.iter().map(|batch| adapt(batch, table, columns));
        let adapted = adapted.collect::<Result<Vec<_>, _>>().map_err(damaged)?;
        let sorted = Sorted::of(&adapted, table).map_err(damaged)?;
        let (generation, key_columns) = (self.standing.generation + 1, table.key_columns);
        let notes = Notes { step, table: table.name, key_columns, tick: file.tick, generation, build: self.build };
        let bytes = encode(&sorted, table.schema.clone(), file.kind, &notes).map_err(damaged)?;
        let moved = StateFile {
            path,
            step: step.to_string(),
            table: table.name.to_string(),
            bytes: bytes.len() as u64,
            xxh3: xxh3_64(&bytes),
            ..file.clone()
        };
        self.put(&moved.path, bytes)?;
        Ok(moved)
    }

    fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), StateError> {
        reach("state.write");
        self.folder.store().put(&self.folder.inside(path), bytes)?;
        reach("state.written");
        Ok(())
    }
}

/// Returns rows of an old table as rows of `table`.
fn adapt(rows: &RecordBatch, table: &TableSpec, columns: &[Option<String>]) -> Result<RecordBatch, String> {
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    let own = STATE_COLUMNS.iter().map(|name| Some((*name).to_string()));
    let sources = own.chain(columns.iter().cloned());
    let columns = table.schema.fields().iter().zip(sources).map(|(field, source)| -> Result<ArrayRef, String> {
        let Some(source) = source else { return Ok(new_null_array(field.data_type(), rows.num_rows())) };
        let column = rows.column_by_name(&source).ok_or_else(|| format!("it has no column `{source}`"))?;
        match column.data_type() == field.data_type() {
            true => Ok(column.clone()),
            false => cast_with_options(column, field.data_type(), &exact).map_err(|error| error.to_string()),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(table.schema.clone(), columns).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
