//! A job's state as a process sees it that does not lead: it reads the checkpoint that it is told to, and writes the state files of
//! its own workers. The log and the lock are those of the process that leads.

use std::sync::Arc;

use riverrun_dataflow::journal::StateStore;
use serde::{Deserialize, Serialize};

use crate::error::StateError;
use crate::folder::{Folder, JobFile};
use crate::ledger::Ledger;
use crate::log::Writer;
use crate::states::{SharedLedger, States};
use crate::store::Store;

/// Whom a process follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// The job.
    pub job: String,
    /// Its incarnation.
    pub incarnation: String,
    /// The generation that the leading process has become.
    pub generation: u64,
    pub(crate) attempt: String,
    pub(crate) build: String,
    pub(crate) plan: String,
}

/// A job's folder, as a process that follows has it open.
#[derive(Debug)]
pub struct Following {
    folder: Folder,
    file: JobFile,
    writer: Writer,
}

impl Following {
    /// Opens the folder of the job, which must be the one that the leading process has open.
    pub fn open(store: Store, followed: &Followed) -> Result<Following, StateError> {
        let folder = Folder::of(Arc::new(store), &followed.job)?;
        let elsewhere = |reason: &str| StateError::OtherJob {
            folder: folder.store().name(folder.path()),
            job: followed.job.clone(),
            reason: format!(
                "{reason}\n  hint: all processes of a job have the same --state, on storage that they share"
            ),
        };
        let file = folder.read()?.ok_or_else(|| elsewhere("it is empty, but process 0 has just begun the job"))?;
        if file.incarnation != followed.incarnation {
            return Err(elsewhere("it is not the folder that process 0 has open"));
        }
        let writer = Writer {
            generation: followed.generation,
            attempt: followed.attempt.clone(),
            build: followed.build.clone(),
            plan: followed.plan.clone(),
        };
        Ok(Following { folder, file, writer })
    }

    /// Returns the store of checkpoints of a job that is restored from the record `checkpoint`; `None`: it begins at tick 1.
    pub fn states(self, checkpoint: Option<u64>) -> Result<Arc<dyn StateStore>, StateError> {
        let mut ledger = Ledger::default();
        if let Some(seq) = checkpoint {
            let reader = self.folder.log(&self.file);
            let record = reader.read(seq)?;
            let Some(checkpoint) = record.body.checkpoint() else {
                return Err(StateError::damaged(reader.name(seq), "it is no checkpoint, but process 0 restores it"));
            };
            ledger = Ledger::of(checkpoint);
        }
        let states = States::new(self.folder, self.file.shards, self.writer, SharedLedger::new(ledger), None);
        Ok(Arc::new(states))
    }
}

#[cfg(test)]
mod tests;
