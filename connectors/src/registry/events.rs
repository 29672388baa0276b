//! What the connector logs, one type per event.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::RegistryAddress;

/// The registry does not answer.
pub(super) struct Silent<'a> {
    /// Which one.
    pub registry: &'a RegistryAddress,
    /// What happened.
    pub reason: &'a str,
    /// For how long it has been asked in vain.
    pub since: Duration,
}

impl Silent<'_> {
    /// Logs the event: aloud when it does not go away by itself, and then once a minute.
    pub fn log(&self) {
        let Silent { registry, reason, since } = *self;
        let (seconds, before) = (since.as_secs(), since.saturating_sub(super::PAUSE_LAST).as_secs());
        let aloud = (before == 0 && seconds > 0) || seconds / 60 > before / 60;
        match aloud {
            true => {
                warn!(target: "riverrun", %registry, reason, seconds, "the schema registry does not answer; what needs it waits")
            }
            false => debug!(target: "riverrun", %registry, reason, "the schema registry does not answer"),
        }
    }
}

/// The registry answers again.
pub(super) struct Answers<'a>(pub &'a RegistryAddress);

impl Answers<'_> {
    /// Logs the event.
    pub fn log(&self) {
        info!(target: "riverrun", registry = %self.0, "the schema registry answers again");
    }
}
