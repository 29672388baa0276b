//! The lake: rows as immutable Parquet files in folders by date and hour of event time, in a local folder or a bucket.
//!
//! **Layout**, relative to the lake:
//! ```text
//! date=2026-03-01/hour=13/{file}.parquet             rows; a file is never changed
//! _commits/{number:020}.json                         what happened to the lake, one record after the other
//! _snapshots/{number:020}.json                       what all records up to that number amount to
//! _floor/{number:020}                                records up to the greatest such number may be gone
//! _staging/date=2026-03-01/hour=13/{file}.staged     files on their way into their folder (`layout: visible_after_commit`)
//! ```
//!
//! **Commits are records of one sequence**, each created, if absent, at exactly the last number + 1, and chained to the one before
//! it by a checksum. A record that adds files makes them count, all at once, and is the token of its lane: job, sink, lane,
//! incarnation, generation and tick. Who loses the race for a number reads what came in between, and either goes on after it or
//! finds that a later start of the job has opened its lane: then it is fenced, and touches nothing any more.
//!
//! **Readers** that go by the records ([`Lake::files`]) see every row exactly once, at every moment, whatever crashes. Readers that list the
//! folders see every row once too with `layout: visible_after_commit`, where a file gets its place only after its record: rows
//! may come a moment late, and a compaction shows some of them twice for as long as it takes to put files in their places.
//!
//! **Crash points.** Before the record: the files are orphans, which no reader counts and the next start or a sweep removes; their rows are derived
//! again. After the record: the rows are out; a file that did not get its place gets it at the next start. A record whose answer was lost is found
//! to be its own when it is created again. A paused process that wakes up finds its number taken; should that number have been swept
//! away meanwhile, the floor tells it so.

mod compact;
mod error;
mod files;
mod lane;
mod log;
mod partition;
mod record;
mod rows;
mod sink;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use riverrun_dataflow::objects::Objects;

pub use compact::{CompactOptions, Compacted, compact};
pub use error::LakeError;
pub use partition::PartitionBy;
pub use record::{LakeFile, Layout, Writer};
pub use rows::{LakeEncoder, LakeRows};
pub use sink::{LakeSink, LakeSinkConfig};
pub use sweep::{Swept, sweep};
pub use verify::{Finding, Verified, verify};

use log::Log;

/// A lake, as its records say it is.
#[derive(Debug)]
pub struct Lake {
    log: Log,
}

/// A file that counts, and where it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedFile {
    /// The file.
    pub file: LakeFile,
    /// Its path below the lake, which is not yet its own if it was not put there yet.
    pub at: String,
    /// Who wrote it.
    pub writer: Writer,
}

impl Lake {
    /// Reads the lake that is at `objects`, if there is one.
    pub fn read(objects: Arc<dyn Objects>) -> Result<Option<Lake>, LakeError> {
        Ok(Log::read(objects)?.map(|log| Lake { log }))
    }

    /// Returns all files that count, by path.
    pub fn files(&self) -> Result<Vec<PlacedFile>, LakeError> {
        let staged = files::staged(self.log.objects().as_ref(), self.log.table())?;
        let live = self.log.table().files.iter();
        Ok(live
            .map(|(path, live)| {
                let at = if staged.contains(path) { files::staging(path) } else { path.clone() };
                PlacedFile { file: live.file.clone(), at, writer: live.writer.clone() }
            })
            .collect())
    }

    /// Returns where files are put, and when.
    pub fn layout(&self) -> Layout {
        self.log.table().layout
    }

    /// Returns how rows are divided into folders.
    pub fn partition_by(&self) -> PartitionBy {
        self.log.table().partition_by
    }

    /// Returns the number of the last record.
    pub fn number(&self) -> u64 {
        self.log.table().number
    }

    /// Returns the lanes that write to the lake, each with its generation and its token.
    pub fn lanes(&self) -> Vec<(Writer, u32, u64, Option<u64>)> {
        let of = |(writer, lanes): (&Writer, &table::Lanes)| {
            let lane = |(lane, state): (&u32, &table::LaneState)| (writer.clone(), *lane, state.generation, state.tick);
            lanes.iter().map(lane).collect::<Vec<_>>()
        };
        self.log.table().writers.iter().flat_map(of).collect()
    }

    /// Returns how a person finds the object `path`.
    pub fn name(&self, path: &str) -> String {
        self.log.objects().name(path)
    }
}
