//! What the state of a job logs, one type per event.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{debug, warn};

use crate::error::StateError;

/// Collection failed: nothing is lost, but old records and files stay.
pub struct CollectionFailed<'a>(pub &'a StateError);

impl CollectionFailed<'_> {
    /// Logs the event.
    pub fn log(&self) {
        warn!(error = %self.0, "old log records and state files could not be deleted; it is tried again after each checkpoint");
    }
}

/// An old log record is damaged or gone: the job does not need it, but cannot be restored from any checkpoint before it.
pub struct OldRecordDamaged<'a>(pub &'a StateError);

impl OldRecordDamaged<'_> {
    /// Logs the event.
    pub fn log(&self) {
        warn!(
            error = %self.0,
            "an old log record cannot be read: no start can go back past it, so checkpoints before it are lost and their files are deleted; \
             those after it are kept as ever"
        );
    }
}

/// The newest checkpoint cannot be used, and to read an older one may take a while.
pub struct OlderSought<'a> {
    /// Its tick.
    pub tick: u64,
    /// Why.
    pub reason: &'a str,
}

impl OlderSought<'_> {
    /// Logs the event.
    pub fn log(&self) {
        let OlderSought { tick, reason } = *self;
        warn!(tick, reason, "a checkpoint cannot be used; reading older ones");
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

/// The methods by which a store is asked; the others do not occur.
const METHODS: [&str; 5] = ["DELETE", "GET", "HEAD", "POST", "PUT"];
/// How many requests of each failed in this process.
static FAILED: [AtomicU64; METHODS.len()] = [const { AtomicU64::new(0) }; METHODS.len()];

/// Returns how many requests to stores of state have failed in this process, by method; whether they succeeded when they were asked
/// again or not.
pub fn failed_requests() -> impl Iterator<Item = (&'static str, u64)> {
    METHODS.into_iter().zip(FAILED.iter().map(|count| count.load(Ordering::Relaxed)))
}

impl StoreFailing<'_> {
    /// Logs the event and counts it. A single failure is every day's business for a store behind a network.
    pub fn log(&self) {
        let StoreFailing { method, path, tries, failure } = *self;
        if let Some(index) = METHODS.iter().position(|known| *known == method) {
            FAILED[index].fetch_add(1, Ordering::Relaxed);
        }
        if tries == LOUD_FROM {
            warn!(method, path, tries, failure, "the store of the state fails; it is asked again");
        } else {
            debug!(method, path, tries, failure, "the store of the state failed; it is asked again");
        }
    }
}

/// From so many failures of one request in a row it is said aloud, once.
const LOUD_FROM: u32 = 4;
