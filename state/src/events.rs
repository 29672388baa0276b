//! What the state of a job logs, one type per event.

use tracing::{debug, warn};

use crate::error::StateError;

/// Collection failed: nothing is lost, but old records and files stay.
pub struct CollectionFailed<'a>(pub &'a StateError);

impl CollectionFailed<'_> {
    /// Logs the event.
    pub fn log(&self) {
        warn!(error = %self.0, "old log records and state files could not be deleted; they stay until the next start");
    }
}

/// A store behind a network failed, and is asked again.
pub struct StoreFailing<'a> {
    /// What it was asked: the method of the request.
    pub method: &'a str,
    /// Of which object.
    pub path: &'a str,
    /// How often.
    pub tries: u32,
    /// What came of it.
    pub failure: &'a str,
}

impl StoreFailing<'_> {
    /// Logs the event. A single failure is every day's business for a store behind a network.
    pub fn log(&self) {
        let StoreFailing { method, path, tries, failure } = *self;
        if tries == LOUD_FROM {
            warn!(method, path, tries, failure, "the store of the state fails; it is asked again");
        } else {
            debug!(method, path, tries, failure, "the store of the state failed; it is asked again");
        }
    }
}

/// From so many failures of one request in a row it is said aloud, once.
const LOUD_FROM: u32 = 4;
