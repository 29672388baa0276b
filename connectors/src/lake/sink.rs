//! A lake as the sink of a job.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::{FieldRef, SchemaRef};
use parquet::file::metadata::KeyValue;
use riverrun_dataflow::objects::{Objects, ObjectsError};
use riverrun_dataflow::sink::{Claim, Lane, Sink, SinkError, Token};

use super::compact::remove_replaced;
use super::error::LakeError;
use super::files::{Gathered, STAGING, settle_staging};
use super::lane::{LakeLane, fenced, prefix_of};
use super::log::{Appended, Log};
use super::partition::PartitionBy;
use super::record::{Body, LakeColumn, Layout, Writer};
use super::rows::{LakeRows, lake_schema, type_name};
use super::table::Table;

/// How a lake is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeSinkConfig {
    /// The rows; hidden columns are not written.
    pub schema: SchemaRef,
    /// Where files are put, and when.
    pub layout: Layout,
    /// How rows are divided into folders.
    pub partition_by: PartitionBy,
    /// A lane commits once it has gathered so much, about.
    pub file_size: u64,
    /// A lane of a job that reads live input commits at least so often, if it has rows.
    pub every: Duration,
    /// The number of lanes.
    pub lanes: u32,
}

/// Opens the place of a lake.
pub type OpenObjects = Arc<dyn Fn() -> Result<Arc<dyn Objects>, ObjectsError> + Send + Sync>;

/// Writes a lake.
pub struct LakeSink {
    config: LakeSinkConfig,
    open: OpenObjects,
    opened: Mutex<Option<Arc<dyn Objects>>>,
}

impl fmt::Debug for LakeSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeSink").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What is to be done with a lake that is there.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    /// It is the job's own, or is added to.
    Join,
    /// It is the job's own, and begins anew: what its earlier lives wrote counts no more.
    Replace,
}

impl LakeSink {
    /// Returns the sink. `open` is called when the first lane is opened.
    pub fn new(config: LakeSinkConfig, open: OpenObjects) -> LakeSink {
        LakeSink { config, open, opened: Mutex::default() }
    }

    fn objects(&self) -> Result<Arc<dyn Objects>, LakeError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.is_none() {
            *opened = Some((self.open)()?);
        }
        Ok(opened.clone().expect("just opened"))
    }

    /// Returns the lake's records; begins them where there is nothing yet.
    fn log(&self, claim: &Claim) -> Result<Log, LakeError> {
        let objects = self.objects()?;
        if let Some(log) = Log::read(objects.clone())? {
            let table = log.table();
            let (layout, partition_by) = (self.config.layout, self.config.partition_by);
            if (table.layout, table.partition_by) != (layout, partition_by) {
                return Err(LakeError::Refused(format!(
                    "lake {} was begun with `layout: {}` and `partition_by: {}`, and the sink says `layout: {}` and `partition_by: {}`\n  \
                     hint: write what it was begun with, or write to another path",
                    objects.name(""),
                    table.layout.word(),
                    table.partition_by.word(),
                    layout.word(),
                    partition_by.word(),
                )));
            }
            return Ok(log);
        }
        let found = objects.list("")?;
        // What is in staging is no one's: another start may just be trying out the place.
        let foreign = found.iter().find(|it| !it.path.starts_with(STAGING));
        if let (Some(first), false) = (foreign, claim.append) {
            return Err(LakeError::Refused(format!(
                "{} is no lake and is not empty: there is `{}`; job `{}` does not touch it: write to another path, move it away, or add to it with `--append`",
                objects.name(""),
                first.path,
                claim.job
            )));
        }
        let body = Body::Lake { layout: self.config.layout, partition_by: self.config.partition_by };
        Log::begin(objects, body)
    }

    /// Takes the lane: from then on no earlier generation commits to it.
    fn take(&self, log: &mut Log, lane: u32, claim: &Claim, writer: &Writer) -> Result<(), LakeError> {
        let column =
            |field: &FieldRef| LakeColumn { name: field.name().clone(), type_name: type_name(field.data_type()) };
        let columns: Vec<LakeColumn> = lake_schema(&self.config.schema).fields().iter().map(column).collect();
        loop {
            let name = log.objects().name("");
            let entry = enter(log.table(), lane, claim, writer, &name)?;
            if let Some((column, other)) = log.table().clash(writer, &columns, entry == Entry::Replace) {
                let LakeColumn { name: column, type_name } = column;
                return Err(LakeError::Refused(format!(
                    "lake {name} has files with a column `{column}` of type {other}, and the rows of sink `{}` have it as {type_name}: no reader could read both\n  \
                     hint: give the column another name in a `select`, write to another path, or replace what the job wrote with --fresh",
                    claim.sink
                )));
            }
            let body = Body::Open {
                writer: writer.clone(),
                lane,
                generation: claim.generation,
                replace: entry == Entry::Replace,
                columns: columns.clone(),
            };
            let gone: Vec<String> = match entry {
                Entry::Join => Vec::new(),
                Entry::Replace => {
                    let old =
                        |live: &&super::table::LiveFile| live.writer.job == claim.job && live.writer.sink == claim.sink;
                    log.table().files.values().filter(old).map(|live| live.file.path.clone()).collect()
                }
            };
            if log.append(body)? == Appended::Done {
                return Ok(log.objects().delete(&gone)?);
            }
        }
    }
}

/// Decides whether the claim may enter, and how; a refusal says what to do.
fn enter(table: &Table, lane: u32, claim: &Claim, writer: &Writer, name: &str) -> Result<Entry, LakeError> {
    if let Some(state) = table.lane(writer, lane)
        && state.generation > claim.generation
    {
        return Err(LakeError::Fenced(format!(
            "lake {name} belongs to a later start of the job: generation {} has it, this is {}",
            state.generation, claim.generation
        )));
    }
    let refused = |why: String, out: &str| {
        LakeError::Refused(format!("lake {name} {why}; job `{}` does not touch it: {out}", claim.job))
    };
    match table.writer_of(&claim.job, &claim.sink) {
        Some(known) if known == writer => Ok(Entry::Join),
        // Its tokens went when the other one began: its rows would be derived again, and stand there twice.
        Some(_) if !claim.fresh && table.files.values().any(|live| live.writer == *writer) => {
            let why = "has rows of this state folder, and another one has gone on with it since".to_owned();
            Err(refused(why, "go on with that one, or replace all rows of the job with `--fresh`"))
        }
        Some(_) if claim.append => Ok(Entry::Join),
        Some(_) if claim.fresh => Ok(Entry::Replace),
        Some(_) => {
            let why = "was written by the same job with another state folder".to_owned();
            Err(refused(why, "to replace its rows start over with `--fresh`"))
        }
        None if table.writers.is_empty() || claim.append => Ok(Entry::Join),
        None => {
            let owner = table.writers.keys().next().expect("just seen");
            let why = format!("belongs to sink `{}` of job `{}`", owner.sink, owner.job);
            Err(refused(why, "write to another path, move it away, or add to it with `--append`"))
        }
    }
}

impl Sink for LakeSink {
    fn lanes(&self) -> Result<u32, SinkError> {
        Ok(self.config.lanes)
    }

    fn gathers(&self) -> Option<Duration> {
        Some(self.config.every)
    }

    fn open(&self, lane: u32, claim: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError> {
        let Claim { job, sink, incarnation, generation, .. } = claim.clone();
        let writer = Writer { job, sink, incarnation };
        let mut log = self.log(claim)?;
        self.take(&mut log, lane, claim, &writer)?;
        if log.table().lane(&writer, lane).is_none_or(|state| state.generation != generation) {
            return Err(fenced(&log, &writer).into());
        }
        let ours = prefix_of(&writer, lane, None);
        settle_staging(log.objects().as_ref(), log.table(), |name| name.starts_with(&ours))?;
        remove_replaced(&log)?;
        let rows = LakeRows::new(&self.config.schema).map_err(|error| SinkError::Refused(error.to_string()))?;
        let note = |key: &str, value: &str| KeyValue::new(format!("riverrun.{key}"), value.to_owned());
        let notes = vec![note("job", &writer.job), note("sink", &writer.sink)];
        let gathered = Gathered::new(rows, self.config.partition_by, self.config.file_size, notes);
        let opened = LakeLane::new(log, writer, lane, generation, gathered);
        let token = opened.token();
        Ok((Box::new(opened), token))
    }
}
