//! The metrics there are: name, type, labels and meaning, once. The page of the guide is made from this.

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows while the process lives.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Durations, counted by length.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, unit included.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// Its labels, beside `job_name`.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// Declares metrics as constants, and the list of them in the same order.
macro_rules! metrics {
    ($($constant:ident = $metric:expr;)*) => {
        $(pub const $constant: Metric = $metric;)*
        /// All metrics, in the order in which they are shown.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

const OPERATOR: &[&str] = &["operator", "operator_kind"];

#[rustfmt::skip]
metrics! {
    BUILD = gauge("riverrun_build_info", &["version", "build"], "Always 1; the labels say which build runs: its version, and the name of what it writes.");
    JOB = gauge("riverrun_job_info", &["incarnation", "plan_hash"], "Always 1; the labels say which life of the job this is, and name what it writes.");
    JOB_STATE = gauge("riverrun_job_state", &["state"], "1 for the state the job is in, 0 for the others: starting, recovering, running, stopping, finished.");
    JOB_READY = gauge("riverrun_job_ready", &[], "1 if /readyz answers 200.");
    JOB_STARTED = gauge("riverrun_job_start_time_seconds", &[], "When the job began to run in this process, since the epoch.");
    JOB_GENERATION = gauge("riverrun_job_generation", &[], "Which start of the job this is.");
    JOB_RESTARTS = counter("riverrun_job_restarts_total", &[], "Starts of the job before this one.");
    JOB_TICK = gauge("riverrun_job_tick", &[], "The newest complete tick.");
    JOB_TO_REPEAT = gauge("riverrun_job_ticks_to_repeat", &[], "Recorded ticks that must still be derived again before new ones come.");
    JOB_REPEATED = counter("riverrun_job_repeated_ticks_total", &[], "Recorded ticks that this process derived again.");
    JOB_NOW = gauge("riverrun_job_clock_timestamp_seconds", &[], "The recorded clock of the newest complete tick, since the epoch.");
    JOB_STILL = gauge("riverrun_job_still_seconds", &[], "For how long no tick has become complete although one has begun; the watchdog ends the job at its limit, unless something gets on meanwhile.");
    JOB_BALANCE = gauge("riverrun_job_balance_records", &["operator", "operator_kind", "outcome"], "The balance since the job began, over all its processes: in = taken + filtered + late + bad + duplicate; out is counted apart.");
    IN = counter("riverrun_operator_records_in_total", OPERATOR, "Rows that came in, in ticks that this process was the first to complete.");
    OUT = counter("riverrun_operator_records_out_total", OPERATOR, "Rows that went out, in ticks that this process was the first to complete; of a sink, rows committed.");
    TAKEN = counter("riverrun_operator_taken_records_total", OPERATOR, "Rows that the operator went on with.");
    LATE = counter("riverrun_operator_late_records_total", &["operator", "operator_kind", "action"], "Rows that came after their time: to a side output that is read, or dropped.");
    BAD = counter("riverrun_operator_dead_letter_records_total", &["operator", "operator_kind", "reason"], "Bad rows: undecodable ones at a source, at a step those on which an expression failed.");
    DISCARDED = counter("riverrun_operator_discarded_records_total", &["operator", "operator_kind", "intentional", "reason"], "Rows left out by the job's own rules: filtered by a where, or duplicates.");
    OPERATOR_BUSY = counter("riverrun_operator_busy_seconds_total", &["operator", "operator_kind", "stage", "worker"], "Time a worker spent in this part of the job.");
    INPUT_WATERMARK = gauge("riverrun_operator_input_watermark_timestamp_seconds", OPERATOR, "Up to where event time has come at a step, since the epoch; absent before the first row and after the last.");
    WATERMARK_SKEW = gauge("riverrun_operator_watermark_skew_seconds", OPERATOR, "How much further the source that is ahead most has come in event time than the one that holds the step back; absent where one source alone counts, has no row yet or has ended.");
    OUTPUT_WATERMARK = gauge("riverrun_operator_output_watermark_timestamp_seconds", OPERATOR, "The watermark of a source, since the epoch; absent before the first row and after the last.");
    STATE_ROWS = gauge("riverrun_operator_state_rows", &["operator", "table"], "Rows that a step keeps, as of its last checkpoint.");
    STATE_BYTES = gauge("riverrun_operator_state_bytes", &["operator", "table"], "Memory that these rows take, about; absent where a step does not know.");
    LAG_RECORDS = gauge("riverrun_source_lag_records", &["operator", "partition"], "Records of a live partition that are not read yet.");
    LAG_SECONDS = gauge("riverrun_source_lag_seconds", &["operator"], "How far the watermark of a live source is behind the recorded clock.");
    READ_LAG = gauge("riverrun_source_read_lag_seconds", &["operator", "partition"], "The age of the oldest record of a live partition that is not read yet, by the time that the record has; 0 if all are read. Of Kafka, while that record has not come from the broker, the age of the last one read, which is a little more.");
    HEADROOM = gauge("riverrun_source_replay_headroom_seconds", &["operator", "partition"], "Kafka: for how long records will still be there that a restart from the oldest checkpoint reads again, by the topic's retention.ms, asked once a minute; 0 if they are gone; absent where records are not deleted by their age.");
    SKIPPED = counter("riverrun_source_skipped_offsets_total", &["operator", "partition"], "Offsets that were passed over because Kafka had deleted their records before they were read, as on_lost: skip says.");
    OFFSET = gauge("riverrun_source_offset", &["operator", "partition"], "The position up to which a live partition is read.");
    END_OFFSET = gauge("riverrun_source_end_offset", &["operator", "partition"], "Where a live partition ends now.");
    LAST_RECORD = gauge("riverrun_source_last_record_timestamp_seconds", &["operator"], "The greatest event time read from a source, since the epoch.");
    READ_RATIO = gauge("riverrun_source_read_ratio", &[], "The part of bounded input that is read, 0 to 1; absent on live input.");
    COMMIT_DURATION = histogram("riverrun_sink_commit_duration_seconds", &["operator"], "How long the outside took for a commit.");
    COMMIT_AGE = gauge("riverrun_sink_commit_age_seconds", &["operator"], "For how long the oldest row that is not committed has been in the job; 0 if there is none.");
    COMMITTED = gauge("riverrun_sink_last_commit_timestamp_seconds", &["operator"], "When the last commit ended, since the epoch; absent before the first.");
    SINK_PENDING = gauge("riverrun_sink_pending_bytes", &["operator"], "Encoded rows that wait for their commit; at 64 MiB a worker, reading stops.");
    SINK_BYTES = counter("riverrun_sink_committed_bytes_total", &["operator"], "Encoded rows that were committed, in bytes.");
    LATENCY = histogram("riverrun_end_to_end_latency_seconds", &["sink"], "From the first row read of a tick to its commit, counted once per tick and lane that had rows.");
    APPEND_DURATION = histogram("riverrun_log_append_duration_seconds", &[], "How long an append of ticks to the log took.");
    APPENDED = counter("riverrun_log_appended_ticks_total", &[], "Ticks appended to the log by this process.");
    OUTSIDE_AGE = gauge("riverrun_outside_under_way_seconds", &["act", "operator", "worker"], "For how long an act on the outside has been under way: append, publish, write, commit; 0 if none is.");
    CHECKPOINTS = counter("riverrun_checkpoint_completed_total", &[], "Checkpoints published by this process.");
    CHECKPOINTS_OPEN = gauge("riverrun_checkpoint_in_progress", &[], "Checkpoints begun and not yet published.");
    CHECKPOINT_DURATION = histogram("riverrun_checkpoint_duration_seconds", &[], "From freezing the state to the checkpoint's record in the log.");
    CHECKPOINT_PHASE = histogram("riverrun_checkpoint_phase_duration_seconds", &["phase"], "The parts of that: freeze (per step and worker), write (the same), publish (the record).");
    CHECKPOINT_LAST = gauge("riverrun_checkpoint_last_duration_seconds", &[], "How long the last checkpoint took; this and the next three are absent before the first.");
    CHECKPOINT_SIZE = gauge("riverrun_checkpoint_last_size_bytes", &[], "Bytes written for the last checkpoint.");
    CHECKPOINT_TIME = gauge("riverrun_checkpoint_last_completed_timestamp_seconds", &[], "When the last checkpoint was published, since the epoch.");
    CHECKPOINT_TICK = gauge("riverrun_checkpoint_last_tick", &[], "The tick of the last checkpoint.");
    CHECKPOINT_WRITTEN = counter("riverrun_checkpoint_written_bytes_total", &[], "Bytes written for all checkpoints of this process.");
    CHECKPOINT_INTERVAL = gauge("riverrun_checkpoint_interval_seconds", &[], "Least time between checkpoints, as the job says.");
    STORE_ERRORS = counter("riverrun_checkpoint_storage_errors_total", &["op"], "Requests to a bucket that holds state, checkpoints and log, that failed or were turned away, by method; each is asked again for --state-patience.");
    STATE_FILES = gauge("riverrun_state_files", &[], "Files in the job's state folder, looked at every ten seconds at most; absent where state is not in a folder.");
    STATE_DISK = gauge("riverrun_state_disk_bytes", &[], "Bytes of these files.");
    MESH_PEERS = gauge("riverrun_mesh_peers", &[], "Other processes of the job that this one is connected with; this and what follows of the mesh is there if the job runs in several.");
    MESH_EXPECTED = gauge("riverrun_mesh_peers_expected", &[], "Other processes of the job that there should be.");
    MESH_BYTES = counter("riverrun_mesh_bytes_total", &["direction", "peer"], "Bytes of rows and progress exchanged with another process: received, sent.");
    MESH_MESSAGES = counter("riverrun_mesh_messages_total", &["direction", "peer"], "Messages on the connection of control with another process, heartbeats included: received, sent.");
    MESH_AGE = gauge("riverrun_mesh_heartbeat_age_seconds", &["peer"], "How long ago another process was heard last; at --mesh-dead-after it counts as lost.");
    MESH_REJECTED = counter("riverrun_mesh_rejected_connections_total", &["reason"], "Connections to the mesh that were turned away: strangers, and processes that do not belong to it.");
    WORKER_BUSY = counter("riverrun_worker_busy_seconds_total", &["worker"], "Time a worker spent at work; busy, backpressured and idle add up to the time it has run.");
    WORKER_BACKPRESSURED = counter("riverrun_worker_backpressured_seconds_total", &["worker"], "Time a worker slept because it may not read: too many ticks incomplete, or a sink too far behind.");
    WORKER_IDLE = counter("riverrun_worker_idle_seconds_total", &["worker"], "Time a worker slept because there was nothing to read.");
    WORKER_TURNS = counter("riverrun_worker_turns_total", &["worker"], "Turns of a worker's loop; it stands still only while the worker is stuck.");
    PROCESS_CPU = counter("process_cpu_seconds_total", &[], "CPU time of the process.");
    PROCESS_RESIDENT = gauge("process_resident_memory_bytes", &[], "Resident memory of the process.");
    PROCESS_VIRTUAL = gauge("process_virtual_memory_bytes", &[], "Virtual memory of the process.");
    PROCESS_FDS = gauge("process_open_fds", &[], "Open file descriptors.");
    PROCESS_FDS_MAX = gauge("process_max_fds", &[], "The most there may be.");
    PROCESS_THREADS = gauge("process_threads", &[], "Threads of the process.");
    PROCESS_STARTED = gauge("process_start_time_seconds", &[], "When the process started, since the epoch.");
}

impl Metric {
    /// Returns whether every series of it says which job it is about.
    pub fn names_job(&self) -> bool {
        self.name.starts_with("riverrun_") && self.name != BUILD.name
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    /// The page, relative to the root, and what stands around the table in it.
    const PAGE: &str = "docs/guide/metrics.md";
    const BEGIN: &str = "<!-- metrics: made by a test, UPDATE=1 -->\n";
    const END: &str = "<!-- end -->\n";

    fn table() -> String {
        let row = |metric: &Metric| {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let kind = format!("{:?}", metric.kind).to_lowercase();
            format!("| `{}` | {kind} | {} | {} |\n", metric.name, labels.join(", "), metric.help)
        };
        let rows: String = ALL.iter().map(row).collect();
        format!("| name | type | labels | says |\n|---|---|---|---|\n{rows}")
    }

    #[test]
    fn the_page_of_the_guide_lists_every_metric() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
        let page = fs::read_to_string(&path).unwrap();
        let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the table");
        let (_, after) = rest.split_once(END).expect("the table ends");
        let want = format!("{before}{BEGIN}{}{END}{after}", table());
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &want).unwrap();
        }
        assert!(fs::read_to_string(&path).unwrap() == want, "{PAGE} is stale: run this test with UPDATE=1");
    }

    #[test]
    fn names_and_labels_follow_the_rules() {
        const LABELS: &[&str] = &[
            "version",
            "build",
            "incarnation",
            "plan_hash",
            "state",
            "operator",
            "operator_kind",
            "outcome",
            "action",
            "reason",
            "intentional",
            "stage",
            "worker",
            "table",
            "partition",
            "sink",
            "act",
            "phase",
            "direction",
            "op",
            "peer",
        ];
        let mut names = BTreeSet::new();
        for Metric { name, kind, labels, help } in ALL {
            assert!(names.insert(*name), "{name} is there twice");
            assert!(name.starts_with("riverrun_") || name.starts_with("process_"), "{name}");
            assert_eq!(
                name.ends_with("_total"),
                *kind == Kind::Counter,
                "{name}: counters end in _total, nothing else does"
            );
            assert!(*kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(labels.iter().all(|label| LABELS.contains(label)), "{name}: {labels:?}");
            assert!(help.ends_with('.') && help.len() > 10, "{name}: {help}");
        }
    }
}
