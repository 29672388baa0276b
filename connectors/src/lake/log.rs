//! The sequence of a lake's records: read, followed, and appended to.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use riverrun_dataflow::objects::{Created, Objects};

use super::error::LakeError;
use super::record::{Body, Record, VERSION, checksum};
use super::table::{Gone, Table};

/// Where records are.
pub(super) const COMMITS: &str = "_commits";
/// Below which number records may be gone.
pub(super) const FLOOR: &str = "_floor";

/// How often in a row reading is begun again because records were swept away meanwhile.
const SWEPT_MAX: u32 = 10;

/// The records of a lake, as far as they are known.
#[derive(Debug)]
pub(super) struct Log {
    objects: Arc<dyn Objects>,
    table: Table,
    /// The number of the newest snapshot that is known; 0 for none.
    snapshot: u64,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// It is in the sequence.
    Done,
    /// Others were there first; the log has read on, and the record must be thought over.
    Lost,
}

pub(super) fn path_of(number: u64) -> String {
    format!("{COMMITS}/{number:020}.json")
}

/// Returns the numbers in the names below `folder`, ascending.
pub(super) fn numbers(objects: &dyn Objects, folder: &str) -> Result<Vec<u64>, LakeError> {
    let mut found: Vec<u64> = objects.list(folder)?.iter().filter_map(|it| number_of(&it.path)).collect();
    found.sort_unstable();
    Ok(found)
}

/// Returns the number in the name of an object such as `_commits/00000000000000000012.json`.
pub(super) fn number_of(path: &str) -> Option<u64> {
    let name = path.rsplit('/').next()?;
    let digits = name.split('.').next()?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

impl Log {
    /// Reads all records, if there are any.
    pub(super) fn read(objects: Arc<dyn Objects>) -> Result<Option<Log>, LakeError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let Some(table) = Log::begun(objects.as_ref())? else { return Ok(None) };
            let snapshot = table.number;
            let mut log = Log { objects: objects.clone(), table, snapshot };
            log.follow()?;
            let last = numbers(objects.as_ref(), COMMITS)?.last().copied().unwrap_or_default();
            log.follow()?;
            if last <= log.table.number {
                return Ok(Some(log));
            }
            // A record that is missing among others is a loss, unless they were swept away while they were read.
            if tries > SWEPT_MAX || super::sweep::floor(objects.as_ref())? <= log.table.number {
                let reason = format!("it is missing, and there are records up to {last}");
                return Err(damaged(objects.as_ref(), log.table.number + 1, reason));
            }
        }
    }

    /// Returns the newest snapshot, or what the first record begins.
    fn begun(objects: &dyn Objects) -> Result<Option<Table>, LakeError> {
        if let Some(table) = super::sweep::newest_snapshot(objects)? {
            return Ok(Some(table));
        }
        if let Some(bytes) = objects.get(&path_of(1))? {
            let begun = Record::read(&bytes).and_then(|first| Table::begun(&first, checksum(&bytes)));
            return begun.map(Some).map_err(|reason| damaged(objects, 1, reason));
        }
        // Looked for last: whoever sweeps writes a snapshot before the first record goes.
        match numbers(objects, COMMITS)?.first().copied() {
            None | Some(1) => super::sweep::newest_snapshot(objects),
            Some(first) => match super::sweep::newest_snapshot(objects)? {
                Some(table) => Ok(Some(table)),
                None => {
                    let reason =
                        format!("it is missing, and so is a snapshot; the first record that is there is {first}");
                    Err(damaged(objects, 1, reason))
                }
            },
        }
    }

    /// Begins a lake, unless someone else did.
    pub(super) fn begin(objects: Arc<dyn Objects>, body: Body) -> Result<Log, LakeError> {
        let record = Record { version: VERSION, number: 1, previous: String::new(), body };
        objects.create(&path_of(1), Bytes::from(record.to_bytes()))?;
        let reason = || "it was just created, and is not there".to_owned();
        let missing = damaged(objects.as_ref(), 1, reason());
        Log::read(objects)?.ok_or(missing)
    }

    /// Returns the place of the lake.
    pub(super) fn objects(&self) -> &Arc<dyn Objects> {
        &self.objects
    }

    /// Returns what the records amount to.
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Returns the number of the newest snapshot that is known.
    pub(super) fn snapshot(&self) -> u64 {
        self.snapshot
    }

    /// There is a snapshot with this number.
    pub(super) fn snapshot_at(&mut self, number: u64) {
        self.snapshot = number;
    }

    /// Returns the files that count no more, to be remembered otherwise.
    pub(super) fn gone(&mut self) -> &mut BTreeMap<String, Gone> {
        &mut self.table.gone
    }

    /// Reads the records that came since.
    pub(super) fn follow(&mut self) -> Result<(), LakeError> {
        while let Some(bytes) = self.objects.get(&path_of(self.table.number + 1))? {
            self.apply(&bytes)?;
        }
        Ok(())
    }

    fn apply(&mut self, bytes: &[u8]) -> Result<(), LakeError> {
        let number = self.table.number + 1;
        let applied = Record::read(bytes).and_then(|record| self.table.apply(record, checksum(bytes)));
        applied.map_err(|reason| damaged(self.objects.as_ref(), number, reason))
    }

    /// Creates the next record.
    pub(super) fn append(&mut self, body: Body) -> Result<Appended, LakeError> {
        let number = self.table.number + 1;
        let record = Record { version: VERSION, number, previous: self.table.checksum.clone(), body };
        let bytes = Bytes::from(record.to_bytes());
        match self.objects.create(&path_of(number), bytes.clone())? {
            Created::Ours => {
                // A number that was swept is free again: others wrote while this one looked away. What it knows is read anew.
                if super::sweep::floor(self.objects.as_ref())? >= number {
                    self.objects.delete(&[path_of(number)])?;
                    let missing = damaged(self.objects.as_ref(), 1, "it was there, and is gone".to_owned());
                    *self = Log::read(self.objects.clone())?.ok_or(missing)?;
                    return Ok(Appended::Lost);
                }
                self.apply(&bytes)?;
                Ok(Appended::Done)
            }
            Created::Taken(_) => {
                self.follow()?;
                Ok(Appended::Lost)
            }
        }
    }
}

pub(super) fn damaged(objects: &dyn Objects, number: u64, reason: String) -> LakeError {
    LakeError::Damaged { what: objects.name(&path_of(number)), reason }
}
