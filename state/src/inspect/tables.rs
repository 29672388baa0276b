//! The tables of a checkpoint: their rows, put together from the live files, and what changed between two checkpoints.
//!
//! A shard's rows are those of its newest base and of the deltas after it. Of a table with a key the newest row of each key
//! counts, a deletion too; a table without one is the sum of its files. Rows of such a table leave by a rule of their step,
//! and may be in the files for a while after they left; who knows the rule hands it in as [`Kept`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int8Type, Int64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::journal::StateFile;
use riverrun_dataflow::operator::STATE_COLUMNS;
use riverrun_dataflow::schema::Hidden;
use riverrun_dataflow::tick::{Floor, Tick};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Look;
use crate::error::StateError;
use crate::file::{About, decode_all, load};
use crate::folder::Folder;
use crate::ledger::Ledger;
use crate::record::{Checkpoint, Record};
use crate::rows::shards_of;
use crate::store::Store;

/// Rows that are put together at once, about.
const ROWS_AT_ONCE: u64 = 1 << 20;

/// From which event time on the rows of a table without a key are still kept, by step and table.
pub type Kept = BTreeMap<(String, String), EventTime>;

/// The tables of a checkpoint.
#[derive(Clone, Debug)]
pub struct Tables {
    /// The job.
    pub job: String,
    /// The state is the one after this tick.
    pub tick: Tick,
    /// Hash of the plan that made it.
    pub plan: String,
    /// The watermark of each source.
    pub watermarks: BTreeMap<String, EventTime>,
    /// By step: how far it had come when the job was upgraded.
    pub floors: BTreeMap<String, Floor>,
    /// Those with a file, by step and table.
    pub tables: Vec<Table>,
    folder: Folder,
    /// Where copies of the files lie, if there are any.
    copies: Option<PathBuf>,
    shards: u16,
}

/// A table of a checkpoint.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its step.
    pub step: String,
    /// Its name.
    pub table: String,
    /// Its columns, `shard` and `op` first.
    pub schema: SchemaRef,
    /// How many columns after those two are the key; 0: rows are only added, and leave by rule.
    pub key_columns: usize,
    /// Its live files, oldest first.
    pub files: Vec<Live>,
}

/// A live file of a table.
#[derive(Clone, Debug)]
pub struct Live {
    /// The file.
    pub file: StateFile,
    /// The shards for which it is needed.
    pub needed: BTreeSet<u16>,
}

/// Reads which tables the newest checkpoint of `job` has, or the newest one at `tick`; `None` if there is no such checkpoint.
pub fn tables(store: Store, job: &str, tick: Option<Tick>) -> Result<Option<Tables>, StateError> {
    let look = Look::at(store, job)?;
    let (_, found) = look.reader.settled(|bounds| {
        for record in look.reader.backwards(bounds) {
            let record = record?;
            if let Some(checkpoint) = record.body.checkpoint()
                && tick.is_none_or(|tick| tick == checkpoint.tick)
            {
                return look.tables(&record, checkpoint).map(Some);
            }
        }
        Ok(None)
    })?;
    Ok(found)
}

impl Look {
    fn tables(&self, record: &Record, checkpoint: &Checkpoint) -> Result<Tables, StateError> {
        let ledger = Ledger::of(checkpoint);
        let mut tables = Vec::new();
        for entry in &checkpoint.tables {
            let needed = ledger.needed(&entry.step, &entry.table);
            let files: Vec<Live> = needed.into_iter().map(|(file, needed)| Live { file, needed }).collect();
            let Some(newest) = files.last() else { continue };
            let damaged = |reason| StateError::damaged(format!("state file {}", newest.file.path), reason);
            let about = About::of(load(&self.folder, &newest.file)?).map_err(damaged)?;
            tables.push(Table {
                step: entry.step.clone(),
                table: entry.table.clone(),
                key_columns: about.key_columns().map_err(damaged)?,
                schema: about.schema,
                files,
            });
        }
        let foundation = super::foundation_of(&self.reader, record)?;
        let (sources, floors) = foundation.map(|it| (it.inputs.sources, it.floors)).unwrap_or_default();
        let after = checkpoint.clone().into_parts().after();
        Ok(Tables {
            job: self.file.job.clone(),
            tick: checkpoint.tick,
            plan: record.header.plan.clone(),
            floors,
            watermarks: sources.into_iter().zip(after.watermarks).collect(),
            tables,
            folder: self.folder.clone(),
            copies: None,
            shards: self.file.shards,
        })
    }
}

/// The rows of some shards of a table: of each the key as bytes, its value as bytes, or how often it is there if it has no key.
type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

impl Tables {
    /// Returns where the state files lie in the store.
    pub fn place(&self, file: &StateFile) -> String {
        self.folder.inside(&file.path)
    }

    /// Returns where the file lies on this machine, itself or a copy of it.
    pub fn local(&self, file: &StateFile) -> Option<PathBuf> {
        let root = self.copies.as_deref().or_else(|| self.folder.store().local())?;
        Some(root.join(self.place(file)))
    }

    /// Returns the file's address, if its store has addresses.
    pub fn address(&self, file: &StateFile) -> Option<String> {
        self.folder.store().address(&self.place(file))
    }

    /// Returns whether the files lie on this machine.
    pub fn is_local(&self) -> bool {
        self.copies.is_some() || self.folder.store().local().is_some()
    }

    /// Copies the files whose rows are needed to the local folder `to`, and takes them from there from now on.
    pub fn copy_to(&mut self, to: &Path) -> Result<(), StateError> {
        let needed = self.tables.iter().flat_map(|table| &table.files).filter(|live| !live.needed.is_empty());
        for Live { file, .. } in needed {
            let bytes = load(&self.folder, file)?;
            let path = to.join(self.place(file));
            let folder = path.parent().expect("a state file lies in a folder");
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&path, &bytes))
                .map_err(|error| StateError::storage("write", path.display().to_string(), &error))?;
        }
        self.copies = Some(to.to_owned());
        Ok(())
    }

    /// Takes the files from the local folder `folder` from now on, where somebody else puts them.
    pub fn in_folder(&mut self, folder: &Path) {
        self.copies = Some(folder.to_owned());
    }

    /// Returns the files whose rows are needed, each with its place in the store.
    pub fn needed(&self) -> impl Iterator<Item = (String, &StateFile)> {
        let files = self.tables.iter().flat_map(|table| &table.files).filter(|live| !live.needed.is_empty());
        files.map(|live| (self.place(&live.file), &live.file))
    }

    /// Reads a file, and holds it against its checksum.
    pub fn read(&self, file: &StateFile) -> Result<Bytes, StateError> {
        load(&self.folder, file)
    }

    /// Counts the rows of `table`, those that have left by rule not among them.
    pub fn count(&self, table: &Table, kept: &Kept) -> Result<u64, StateError> {
        let mut rows = 0;
        for shards in self.portions(&[table]) {
            let contents = self.contents(table, &Form::of(table)?, kept, &shards)?;
            rows += match table.key_columns {
                0 => contents.values().map(|times| times_of(times)).sum(),
                _ => contents.len() as u64,
            };
        }
        Ok(rows)
    }

    /// Returns ranges of shards that hold so few rows of `tables` that they may be put together at once.
    fn portions(&self, tables: &[&Table]) -> Vec<std::ops::Range<u16>> {
        let rows: u64 = tables.iter().flat_map(|table| &table.files).map(|live| live.file.rows).sum();
        let portions = rows.div_ceil(ROWS_AT_ONCE).clamp(1, u64::from(self.shards).max(1));
        let size = u64::from(self.shards).div_ceil(portions) as usize;
        (0..self.shards).step_by(size.max(1)).map(|first| first..self.shards.min(first + size as u16)).collect()
    }

    /// Puts the rows of some shards together.
    fn contents(
        &self,
        table: &Table,
        form: &Form,
        kept: &Kept,
        shards: &std::ops::Range<u16>,
    ) -> Result<Contents, StateError> {
        let from = kept.get(&(table.step.clone(), table.table.clone())).copied();
        let mut contents = Contents::new();
        for live in &table.files {
            let wanted = |shard: u16| shards.contains(&shard) && live.needed.contains(&shard);
            if !live.needed.iter().any(|shard| wanted(*shard)) {
                continue;
            }
            let damaged = |reason| StateError::damaged(format!("state file {}", live.file.path), reason);
            let batches = decode_all(load(&self.folder, &live.file)?, &wanted).map_err(damaged)?;
            for batch in batches {
                let batch = still_kept(batch, from).map_err(damaged)?;
                form.add(&batch, &mut contents).map_err(damaged)?;
            }
        }
        Ok(contents)
    }
}

/// Returns the rows with an event time from `from` on; +inf: nothing is kept.
fn still_kept(batch: RecordBatch, from: Option<EventTime>) -> Result<RecordBatch, String> {
    let (Some(from), Some(times)) = (from, batch.column_by_name(Hidden::Time.name())) else { return Ok(batch) };
    if from == EventTime::MAX {
        return Ok(batch.slice(0, 0));
    }
    let times = times.as_primitive_opt::<Int64Type>().ok_or("its event times are no numbers")?;
    let keep: BooleanArray = times.values().iter().map(|time| Some(*time >= from.0)).collect();
    filter_record_batch(&batch, &keep).map_err(|e| e.to_string())
}

fn times_of(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// How the rows of a table become bytes that order and compare as they do.
struct Form {
    key_columns: usize,
    keys: RowConverter,
    values: RowConverter,
    names: Vec<String>,
}

impl Form {
    fn of(table: &Table) -> Result<Form, StateError> {
        let fields = table.schema.fields();
        let first = STATE_COLUMNS.len();
        // Without a key the whole row is one.
        let keys = if table.key_columns == 0 { fields.len() } else { first + table.key_columns };
        let converter = |columns: std::ops::Range<usize>| {
            let sort = fields[columns].iter().map(|field| SortField::new(field.data_type().clone()));
            let what = format!("table {}.{}", table.step, table.table);
            RowConverter::new(sort.collect()).map_err(|e| StateError::damaged(what, e.to_string()))
        };
        let names = fields[first..].iter().map(|field| field.name().clone()).collect();
        let (keys_form, values) = (converter(first..keys)?, converter(keys..fields.len())?);
        Ok(Form { key_columns: table.key_columns, keys: keys_form, values, names })
    }

    /// Adds the rows of a batch, which come after those that are there.
    fn add(&self, batch: &RecordBatch, contents: &mut Contents) -> Result<(), String> {
        let first = STATE_COLUMNS.len();
        let columns: &[ArrayRef] = batch.columns();
        let split = if self.key_columns == 0 { columns.len() } else { first + self.key_columns };
        let keys = self.keys.convert_columns(&columns[first..split]).map_err(|e| e.to_string())?;
        let shards = shards_of(batch);
        let key = |row: usize| [&shards.value(row).to_be_bytes()[..], keys.row(row).as_ref()].concat();
        if self.key_columns == 0 {
            for row in 0..batch.num_rows() {
                let times = contents.entry(key(row)).or_default();
                *times = (times_of(times) + 1).to_le_bytes().to_vec();
            }
            return Ok(());
        }
        let values = match split < columns.len() {
            true => Some(self.values.convert_columns(&columns[split..]).map_err(|e| e.to_string())?),
            false => None,
        };
        for (row, op) in batch.column(1).as_primitive::<Int8Type>().values().iter().enumerate() {
            match op {
                0 => drop(contents.remove(&key(row))),
                _ => drop(contents.insert(
                    key(row),
                    values.as_ref().map_or_else(Vec::new, |values| values.row(row).as_ref().to_vec()),
                )),
            }
        }
        Ok(())
    }

    /// Returns a key as names and values.
    fn key(&self, key: &[u8]) -> Result<Map<String, Value>, String> {
        named(&self.keys, &key[2..], &self.names)
    }

    /// Returns a value as names and values.
    fn value(&self, value: &[u8]) -> Result<Map<String, Value>, String> {
        match self.names.get(self.key_columns..).filter(|names| self.key_columns > 0 && !names.is_empty()) {
            Some(names) => named(&self.values, value, names),
            None => Ok(Map::new()),
        }
    }
}

fn named(converter: &RowConverter, bytes: &[u8], names: &[String]) -> Result<Map<String, Value>, String> {
    let parser = converter.parser();
    let columns = converter.convert_rows([parser.parse(bytes)]).map_err(|e| e.to_string())?;
    names.iter().zip(&columns).map(|(name, column)| Ok((name.clone(), json(column)?))).collect()
}

/// Returns the first value of a column: numbers and truth as such, all else as text.
fn json(column: &ArrayRef) -> Result<Value, String> {
    if column.is_null(0) {
        return Ok(Value::Null);
    }
    let text = array_value_to_string(column, 0).map_err(|e| e.to_string())?;
    let is_plain =
        column.data_type().is_integer() || matches!(column.data_type(), DataType::Boolean | DataType::Float64);
    let plain = is_plain.then(|| serde_json::from_str(&text).ok()).flatten();
    Ok(plain.unwrap_or(Value::String(text)))
}

/// What is different between two checkpoints.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The job.
    pub job: String,
    /// The tick of the first.
    pub from: Tick,
    /// The tick of the second.
    pub to: Tick,
    /// By table.
    pub tables: Vec<TableDifference>,
}

/// What is different in a table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TableDifference {
    /// The step.
    pub step: String,
    /// The table.
    pub table: String,
    /// Rows that only the second has.
    pub added: u64,
    /// Rows that only the first has.
    pub removed: u64,
    /// Rows with another value; none in tables without a key.
    pub changed: u64,
    /// Rows that are the same.
    pub same: u64,
    /// Why its rows cannot be compared, if they cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_columns: Option<String>,
    /// The first differences, in the order of (shard, key).
    pub rows: Vec<Change>,
}

/// A row that is different.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// How.
    pub change: Kind,
    /// The shard.
    pub shard: u16,
    /// The key; the whole row of a table without one.
    pub key: Map<String, Value>,
    /// Its value in the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Map<String, Value>>,
    /// Its value in the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Map<String, Value>>,
}

/// How a row is different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Its value is another.
    Changed,
}

/// Compares two checkpoints of a job, with the rows that they keep; of each table, at most `limit` rows are shown.
pub fn diff(
    (a, kept_a): (&Tables, &Kept),
    (b, kept_b): (&Tables, &Kept),
    limit: usize,
) -> Result<Difference, StateError> {
    let places: BTreeSet<(&str, &str)> =
        a.tables.iter().chain(&b.tables).map(|table| (table.step.as_str(), table.table.as_str())).collect();
    let mut found = Vec::new();
    for (step, name) in places {
        let of = |tables: &'_ Tables| tables.tables.iter().position(|it| it.step == step && it.table == name);
        let (first, second) = (of(a).map(|at| &a.tables[at]), of(b).map(|at| &b.tables[at]));
        let mut difference = TableDifference { step: step.into(), table: name.into(), ..TableDifference::default() };
        if let (Some(first), Some(second)) = (first, second)
            && (first.schema.fields() != second.schema.fields() || first.key_columns != second.key_columns)
        {
            difference.other_columns = Some(format!("{} and then {}", columns(first), columns(second)));
            found.push(difference);
            continue;
        }
        let table = first.or(second).expect("one of the two has it");
        let form = Form::of(table)?;
        let both: Vec<&Table> = first.into_iter().chain(second).collect();
        for shards in a.portions(&both) {
            let before = first.map(|it| a.contents(it, &form, kept_a, &shards)).transpose()?.unwrap_or_default();
            let after = second.map(|it| b.contents(it, &form, kept_b, &shards)).transpose()?.unwrap_or_default();
            let damaged = |reason| StateError::damaged(format!("table {step}.{name}"), reason);
            difference.compare(&form, &before, &after, limit).map_err(damaged)?;
        }
        found.push(difference);
    }
    Ok(Difference { job: a.job.clone(), from: a.tick, to: b.tick, tables: found })
}

/// Returns the columns of a table, `shard` and `op` left out.
pub fn columns(table: &Table) -> String {
    let fields = table.schema.fields()[STATE_COLUMNS.len()..].iter();
    fields.map(|field| format!("{} {}", field.name(), field.data_type())).collect::<Vec<_>>().join(", ")
}

impl TableDifference {
    fn compare(&mut self, form: &Form, before: &Contents, after: &Contents, limit: usize) -> Result<(), String> {
        let keys: BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
        for key in keys {
            let (old, new) = (before.get(key), after.get(key));
            let kind = match (old, new) {
                _ if form.key_columns == 0 => {
                    let (old, new) = (old.map_or(0, |it| times_of(it)), new.map_or(0, |it| times_of(it)));
                    self.added += new.saturating_sub(old);
                    self.removed += old.saturating_sub(new);
                    self.same += old.min(new);
                    match old.cmp(&new) {
                        std::cmp::Ordering::Less => Kind::Added,
                        std::cmp::Ordering::Equal => continue,
                        std::cmp::Ordering::Greater => Kind::Removed,
                    }
                }
                (Some(old), Some(new)) if old == new => {
                    self.same += 1;
                    continue;
                }
                (Some(_), Some(_)) => {
                    self.changed += 1;
                    Kind::Changed
                }
                (Some(_), None) => {
                    self.removed += 1;
                    Kind::Removed
                }
                (None, _) => {
                    self.added += 1;
                    Kind::Added
                }
            };
            if self.rows.len() < limit {
                let value = |value: Option<&Vec<u8>>| value.map(|value| form.value(value)).transpose();
                let has_values = form.key_columns > 0;
                self.rows.push(Change {
                    change: kind,
                    shard: u16::from_be_bytes([key[0], key[1]]),
                    key: form.key(key)?,
                    before: value(old.filter(|_| has_values))?,
                    after: value(new.filter(|_| has_values))?,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
