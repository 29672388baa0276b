//! What the connector logs, one type per event.

use std::time::Duration;

use tracing::{debug, info, warn};

/// The cluster cannot be reached.
pub(crate) struct OutOfReach<'a> {
    /// The cluster.
    pub cluster: &'a str,
    /// What librdkafka said.
    pub reason: &'a str,
}

impl OutOfReach<'_> {
    /// Logs the event.
    pub fn log(&self) {
        let OutOfReach { cluster, reason } = *self;
        warn!(target: "riverrun", cluster, reason, "no broker of the cluster can be reached; riverrun keeps trying");
    }
}

/// The cluster answers again.
pub(crate) struct InReach<'a>(pub &'a str);

impl InReach<'_> {
    /// Logs the event.
    pub fn log(&self) {
        info!(target: "riverrun", cluster = self.0, "the cluster answers again");
    }
}

/// A call is repeated.
pub(crate) struct Repeated<'a> {
    /// What was asked of the cluster.
    pub what: &'a str,
    /// How often it failed.
    pub tries: u32,
    /// For how long it has failed.
    pub spent: Duration,
    /// What it said last.
    pub reason: &'a str,
    /// It is to be said aloud now.
    pub aloud: bool,
}

impl Repeated<'_> {
    /// Logs the event.
    pub fn log(&self) {
        let Repeated { what, tries, spent, reason, aloud } = *self;
        let seconds = spent.as_secs();
        match aloud {
            true => warn!(target: "riverrun", what, tries, seconds, reason, "kafka fails; it is asked again"),
            false => debug!(target: "riverrun", what, tries, seconds, reason, "kafka failed; it is asked again"),
        }
    }
}

/// Records that were still to be read are gone, and the source says to go on without them.
pub(crate) struct Skipped<'a> {
    /// The partition.
    pub what: &'a str,
    /// The first offset that is skipped.
    pub from: u64,
    /// The first that is read.
    pub to: u64,
}

impl Skipped<'_> {
    /// Logs the event.
    pub fn log(&self) {
        let Skipped { what, from, to } = *self;
        warn!(target: "riverrun", what, from, to, offsets = to - from, "records were deleted before they were read; they are skipped, as `on_lost: skip` says");
    }
}

/// A partition that was read is no more, and the source says that it ends then.
pub(crate) struct Gone<'a>(pub &'a str);

impl Gone<'_> {
    /// Logs the event.
    pub fn log(&self) {
        warn!(target: "riverrun", what = self.0, "it was deleted while the job was reading it, and ends there, as `on_missing: end` says");
    }
}

/// The offsets that a job has reached cannot be told to its group.
pub(crate) struct NotMirrored<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Why.
    pub reason: &'a str,
}

impl NotMirrored<'_> {
    /// Logs the event. The job does not need it.
    pub fn log(&self) {
        let NotMirrored { topic, reason } = *self;
        info!(target: "riverrun", topic, reason, "the offsets of the job's group, which tools show, cannot be written; `mirror_offsets: false` says that they are not to be");
    }
}

/// Nothing can be said of a topic at the moment, for whoever watches.
pub(crate) struct NotSeen<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Why.
    pub reason: &'a str,
}

impl NotSeen<'_> {
    /// Logs the event.
    pub fn log(&self) {
        let NotSeen { topic, reason } = *self;
        debug!(target: "riverrun", topic, reason, "how old the records are that a restart may need cannot be asked");
    }
}

/// The settings of a topic cannot be seen: an account that may not, or a cluster that cannot show them.
pub(crate) struct Unseen<'a> {
    /// The topic.
    pub topic: &'a str,
}

impl Unseen<'_> {
    /// Logs the event.
    pub fn log(&self) {
        let Unseen { topic } = *self;
        info!(target: "riverrun", topic, "the settings of the topic cannot be seen, so they are taken to be those that brokers have by themselves; allow the account to describe its configs if they are others");
    }
}

/// Records that a restart may need will be deleted soon.
pub(crate) struct SoonGone<'a> {
    /// The partition.
    pub what: &'a str,
    /// For how long they will be there.
    pub seconds: u64,
    /// For how long the topic keeps records.
    pub kept: u64,
}

impl SoonGone<'_> {
    /// Logs the event.
    pub fn log(&self) {
        let SoonGone { what, seconds, kept } = *self;
        warn!(target: "riverrun", what, seconds, kept, "more than half of the topic's retention has passed for records that a restart would read again: once they are deleted the job cannot be restarted from its oldest checkpoint; see why checkpoints or commits are behind, or raise `retention.ms`");
    }
}

/// A row was too large for its topic.
pub(crate) struct TooLarge<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Where the row went instead.
    pub dead_letters: &'a str,
    /// Its length.
    pub bytes: usize,
    /// What the topic takes.
    pub limit: usize,
}

impl TooLarge<'_> {
    /// Logs the event.
    pub fn log(&self) {
        let TooLarge { topic, dead_letters, bytes, limit } = *self;
        warn!(target: "riverrun", topic, dead_letters, bytes, limit, "a row is too large for its topic and goes to the dead letters");
    }
}

/// A row is older than its topic keeps records.
pub(crate) struct TooOld<'a> {
    /// The topic.
    pub topic: &'a str,
    /// For how long it keeps them, in milliseconds.
    pub retention_ms: i64,
}

impl TooOld<'_> {
    /// Logs the event.
    pub fn log(&self) {
        let TooOld { topic, retention_ms } = *self;
        warn!(target: "riverrun", topic, retention_ms, "rows happened longer ago than the topic keeps records: brokers will delete them; raise its `retention.ms`, or set it to -1");
    }
}

/// What librdkafka logs.
pub(crate) struct Library<'a> {
    /// Of which part.
    pub facility: &'a str,
    /// What it says.
    pub message: &'a str,
}

impl Library<'_> {
    /// Logs the event. Its warnings are about single connections, of which it has many and makes new ones.
    pub fn log(&self) {
        let Library { facility, message } = *self;
        debug!(target: "riverrun::librdkafka", facility, message, "librdkafka");
    }
}
