//! What the state of a job logs, one type per event.

use tracing::warn;

use crate::error::StateError;

/// Collection failed: nothing is lost, but old records and files stay.
pub struct CollectionFailed<'a>(pub &'a StateError);

impl CollectionFailed<'_> {
    /// Logs the event.
    pub fn log(&self) {
        warn!(error = %self.0, "old log records and state files could not be deleted; they stay until the next start");
    }
}
