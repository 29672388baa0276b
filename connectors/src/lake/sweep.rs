//! What keeps a lake small: snapshots of what its records amount to, and the removal of records and files that nobody needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use riverrun_dataflow::objects::Objects;
use serde::{Deserialize, Serialize};

use super::compact::remove_replaced;
use super::error::LakeError;
use super::files::{STAGING, settle_staging};
use super::log::{COMMITS, FLOOR, Log, number_of, numbers, path_of};
use super::partition::PartitionBy;
use super::record::{LakeColumn, LakeFile, Layout, VERSION, Writer};
use super::table::{Gone, LaneState, LiveFile, Table};

const SNAPSHOTS: &str = "_snapshots";
/// Records after which a writer writes the next snapshot: so many, and those of one more such stretch, are read at a start.
pub(super) const SNAPSHOT_EVERY: u64 = 128;
/// A file that never counted may be on its way, if it is younger.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);
/// How long a lake remembers a file that counts no more, if no sweep takes it away before.
const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);

/// A lake after some record, as it is stored.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    version: u32,
    number: u64,
    checksum: String,
    layout: Layout,
    partition_by: PartitionBy,
    writers: Vec<SnapshotWriter>,
    files: Vec<SnapshotFile>,
    gone: Vec<(String, u64, Option<u64>)>,
}

#[derive(Serialize, Deserialize)]
struct SnapshotWriter {
    #[serde(flatten)]
    writer: Writer,
    columns: Vec<LakeColumn>,
    lanes: Vec<(u32, u64, Option<u64>)>,
}

#[derive(Serialize, Deserialize)]
struct SnapshotFile {
    #[serde(flatten)]
    writer: Writer,
    #[serde(flatten)]
    file: LakeFile,
}

impl Snapshot {
    fn of(table: &Table) -> Snapshot {
        let lane = |(lane, state): (&u32, &LaneState)| (*lane, state.generation, state.tick);
        let writer = |(writer, lanes): (&Writer, &super::table::Lanes)| SnapshotWriter {
            writer: writer.clone(),
            columns: table.columns.get(writer).cloned().unwrap_or_default(),
            lanes: lanes.iter().map(lane).collect(),
        };
        let file = |live: &LiveFile| SnapshotFile { writer: live.writer.clone(), file: live.file.clone() };
        Snapshot {
            version: VERSION,
            number: table.number,
            checksum: table.checksum.clone(),
            layout: table.layout,
            partition_by: table.partition_by,
            writers: table.writers.iter().map(writer).collect(),
            files: table.files.values().map(file).collect(),
            gone: table.gone.iter().map(|(path, gone)| (path.clone(), gone.number, gone.since)).collect(),
        }
    }

    fn table(self) -> Table {
        let lane = |(lane, generation, tick)| (lane, LaneState { generation, tick });
        let columns = self.writers.iter().map(|known| (known.writer.clone(), known.columns.clone())).collect();
        let writer = |known: SnapshotWriter| (known.writer, known.lanes.into_iter().map(lane).collect());
        let file = |known: SnapshotFile| (known.file.path.clone(), LiveFile { file: known.file, writer: known.writer });
        Table {
            number: self.number,
            checksum: self.checksum,
            layout: self.layout,
            partition_by: self.partition_by,
            columns,
            writers: self.writers.into_iter().map(writer).collect(),
            files: self.files.into_iter().map(file).collect(),
            gone: self.gone.into_iter().map(|(path, number, since)| (path, Gone { number, since })).collect(),
        }
    }
}

fn snapshot_path(number: u64) -> String {
    format!("{SNAPSHOTS}/{number:020}.json")
}

/// Returns the number up to which records may be gone.
pub(super) fn floor(objects: &dyn Objects) -> Result<u64, LakeError> {
    Ok(numbers(objects, FLOOR)?.last().copied().unwrap_or_default())
}

/// Reads the newest snapshot, if there is one.
pub(super) fn newest_snapshot(objects: &dyn Objects) -> Result<Option<Table>, LakeError> {
    for number in numbers(objects, SNAPSHOTS)?.into_iter().rev() {
        // One that is gone by now was replaced by a newer one, which the next start finds; an older one does as well.
        let Some(bytes) = objects.get(&snapshot_path(number))? else { continue };
        let read: Result<Snapshot, _> = serde_json::from_slice(&bytes);
        match read {
            Ok(snapshot) if snapshot.version == VERSION => return Ok(Some(snapshot.table())),
            Ok(snapshot) => {
                let reason = format!("its version is {}, this build knows {VERSION}", snapshot.version);
                return Err(LakeError::Damaged { what: objects.name(&snapshot_path(number)), reason });
            }
            Err(error) => {
                let reason = error.to_string();
                return Err(LakeError::Damaged { what: objects.name(&snapshot_path(number)), reason });
            }
        }
    }
    Ok(None)
}

/// Writes a snapshot if enough records came since the last one, and removes the records that two snapshots stand for.
pub(super) fn now_and_then(log: &mut Log) -> Result<(), LakeError> {
    if log.table().number - log.snapshot() < SNAPSHOT_EVERY {
        return Ok(());
    }
    // Another lane may have written one since.
    let newest = numbers(log.objects().as_ref(), SNAPSHOTS)?.last().copied().unwrap_or_default();
    log.snapshot_at(newest.max(log.snapshot()).min(log.table().number));
    match log.table().number - log.snapshot() >= SNAPSHOT_EVERY {
        true => fold(log).map(|_| ()),
        false => Ok(()),
    }
}

/// Writes a snapshot, and removes the records that the snapshot before it stands for; returns how many. Who is just reading these
/// has the newer ones still, and begins again if not.
fn fold(log: &mut Log) -> Result<u64, LakeError> {
    let objects = log.objects().clone();
    remember_gone(log)?;
    let snapshot = Snapshot::of(log.table());
    let bytes = serde_json::to_vec(&snapshot).expect("a snapshot is plain data");
    objects.create(&snapshot_path(snapshot.number), Bytes::from(bytes))?;
    log.snapshot_at(snapshot.number);
    let snapshots = numbers(objects.as_ref(), SNAPSHOTS)?;
    let Some(upto) = snapshots.iter().rev().nth(1).copied() else { return Ok(0) };
    // First the floor, then the records: a number that is free again is known to have been used.
    objects.create(&format!("{FLOOR}/{upto:020}"), Bytes::new())?;
    let old = |folder: &str, path: fn(u64) -> String, below: u64| -> Result<Vec<String>, LakeError> {
        Ok(numbers(objects.as_ref(), folder)?.into_iter().filter(|number| *number < below).map(path).collect())
    };
    let records = old(COMMITS, path_of, upto + 1)?;
    objects.delete(&records)?;
    objects.delete(&old(SNAPSHOTS, snapshot_path, upto)?)?;
    objects.delete(&old(FLOOR, |number| format!("{FLOOR}/{number:020}"), upto)?)?;
    Ok(records.len() as u64)
}

/// Has the lake remember since when files count no more, before the records are gone that say so.
fn remember_gone(log: &mut Log) -> Result<(), LakeError> {
    if log.table().layout == Layout::VisibleAfterCommit {
        // Such files are removed at once.
        let number = log.table().number;
        log.gone().retain(|_, gone| gone.number + SNAPSHOT_EVERY > number);
        return Ok(());
    }
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let listed = log.objects().list(COMMITS)?;
    let written: BTreeMap<u64, u64> =
        listed.iter().filter_map(|it| Some((number_of(&it.path)?, seconds(it.modified)))).collect();
    let newest = written.values().max().copied().unwrap_or_default();
    log.gone().retain(|_, gone| {
        gone.since = gone.since.or_else(|| written.get(&gone.number).copied());
        gone.since.is_none_or(|since| since + REMEMBERED.as_secs() > newest)
    });
    Ok(())
}

/// What a sweep removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Files that count no more, or never did.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records for which a snapshot stands.
    pub records: u64,
}

/// Removes files that have not counted for as long as `keep`, files that never counted, what killed writers left unfinished, and records
/// for which a snapshot stands. Safe beside a running job. `dry`: only says what it would remove.
pub fn sweep(
    objects: Arc<dyn Objects>,
    now: SystemTime,
    keep: Duration,
    dry: bool,
) -> Result<Option<Swept>, LakeError> {
    let Some(mut log) = Log::read(objects.clone())? else { return Ok(None) };
    let mut swept = Swept::default();
    let age = |modified: SystemTime| now.duration_since(modified).unwrap_or_default();
    let records = objects.list(COMMITS)?;
    let record = |number: u64| records.iter().find(|it| number_of(&it.path) == Some(number));
    let since = |gone: &Gone| match gone.since {
        Some(since) => Some(SystemTime::UNIX_EPOCH + Duration::from_secs(since)),
        None => record(gone.number).map(|it| it.modified),
    };
    let mut old = Vec::new();
    for found in objects.list("")? {
        let is_data = found.path.ends_with(".parquet") || found.path.starts_with(STAGING);
        if !is_data || log.table().files.contains_key(&found.path) || !log.table().is_own(&found.path) {
            continue;
        }
        let is_old = match log.table().gone.get(&found.path) {
            // Who reads the folders must not find its rows a second time.
            Some(_) if log.table().layout == Layout::VisibleAfterCommit => true,
            // A record that is gone itself is old.
            Some(gone) => since(gone).is_none_or(|since| age(since) >= keep),
            None => age(found.modified) >= keep.max(ORPHAN_AGE),
        };
        if is_old && !is_waiting(log.table(), &found.path) {
            swept.files += 1;
            swept.bytes += found.bytes;
            old.push(found.path);
        }
    }
    if !dry {
        objects.delete(&old)?;
        settle_staging(objects.as_ref(), log.table(), |_| false)?;
        remove_replaced(&log)?;
        log.gone().retain(|path, _| !old.contains(path));
        swept.records = fold(&mut log)?;
        let before = now.checked_sub(ORPHAN_AGE).unwrap_or(SystemTime::UNIX_EPOCH);
        let is_folder = |path: &str| [STAGING, COMMITS, SNAPSHOTS, FLOOR].iter().any(|own| path.starts_with(own));
        objects.discard_unfinished(before, &|path| is_folder(path) || log.table().is_own(path))?;
    }
    Ok(Some(swept))
}

/// Returns whether a file in staging counts already and waits for its place.
fn is_waiting(table: &Table, path: &str) -> bool {
    super::files::unstaged(path).is_some_and(|path| table.files.contains_key(&path))
}
