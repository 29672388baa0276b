//! Collection: deletes the log records and state files that no kept checkpoint needs.

use std::time::Duration;

use crate::error::StateError;
use crate::record::Checkpoint;
use crate::states::SharedLedger;

/// Which checkpoints are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The last so many.
    pub checkpoints: usize,
    /// And all that are younger than this.
    pub keep_for: Duration,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { checkpoints: 3, keep_for: Duration::from_secs(3600) }
    }
}

/// Collects after each checkpoint.
#[derive(Debug)]
pub struct Collector {}

impl Collector {
    /// Notes that `checkpoint` was published as record `seq`, and deletes what is no longer needed.
    pub fn published(&mut self, _seq: u64, _checkpoint: &Checkpoint, _ledger: &SharedLedger) -> Result<(), StateError> {
        Ok(())
    }
}
