//! The records of the log: readable JSON, chained by hash.
//!
//! ```text
//! {"v":1,"seq":7,"prev_xxh3":"...","gen":2,"attempt":"...","build":"...","plan":"...","at":"...","type":"ticks",...,"xxh3":"..."}
//! ```
//! `xxh3` is the xxh3_64 of all bytes before its own field; `prev_xxh3` is the one of the record before, of the job's
//! incarnation for the first record. A record that was cut, edited, or put into another log is therefore seen.

use std::collections::BTreeMap;

use chrono::{SecondsFormat, Utc};
use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::journal::{CheckpointParts, FileKind, JournalEntry, LaneToken, StateFile};
use riverrun_dataflow::source::{SplitId, SplitSpec};
use riverrun_dataflow::tick::{Floor, Tick, TickRecord, Timeline};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::StateError;
use crate::folder::SinkLanes;
use crate::shape::Shape;

/// The newest format version that this build writes and reads; see [`Kind::version`].
pub const VERSION: u64 = 2;

/// Stands before the hash at the end of every record.
const SEAL: &[u8] = b",\"xxh3\":\"";

/// A hash, written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(pub u64);

/// What every record begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The format version.
    pub v: u64,
    /// The record's number; the first is 1.
    pub seq: u64,
    /// Hash of the record before.
    pub prev_xxh3: Digest,
    /// The generation that wrote it.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// The process that wrote it.
    pub attempt: String,
    /// The build that wrote it.
    pub build: String,
    /// The plan it ran.
    pub plan: String,
    /// The wall clock, for people.
    pub at: String,
    /// What follows.
    #[serde(rename = "type")]
    pub kind: Kind,
}

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A process took the job over.
    Generation,
    /// What the job reads was resolved.
    Inputs,
    /// Ticks were made final.
    Ticks,
    /// A checkpoint was published.
    Checkpoint,
    /// The job goes on as another plan.
    Upgrade,
}

impl Kind {
    /// Returns the format version of such a record: the oldest build that understands it should read it.
    pub fn version(self) -> u64 {
        match self {
            Kind::Generation | Kind::Inputs | Kind::Ticks | Kind::Checkpoint => 1,
            Kind::Upgrade => 2,
        }
    }
}

/// A record, read and verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its header.
    pub header: Header,
    /// Its content.
    pub body: Body,
    /// Its hash.
    pub xxh3: Digest,
}

/// The content of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// See [`Kind::Generation`].
    Generation(Generation),
    /// See [`Kind::Inputs`].
    Inputs(Inputs),
    /// See [`Kind::Ticks`].
    Ticks(Ticks),
    /// See [`Kind::Checkpoint`].
    Checkpoint(Box<Checkpoint>),
    /// See [`Kind::Upgrade`].
    Upgrade(Box<Upgrade>),
}

/// A process took the job over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its host.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// How many workers it has.
    pub workers: usize,
    /// The newest checkpoint record before this one.
    pub base: Option<u64>,
}

/// What a job reads, resolved once before its first tick.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// The wall clock when they were resolved, in microseconds since the epoch: the recorded clock before tick 1.
    pub now: i64,
    /// The sources' names, in the order of the graph.
    pub sources: Vec<String>,
    /// The splits, by number.
    pub splits: Vec<InputSplit>,
    /// No split before it has this number or a greater one, not even of a source that is gone. Without upgrades: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub free_split: SplitId,
    /// The shape of the job that reads them; none in logs that were begun before shapes were written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// What a replay of the past was asked for, as it was written: its splits follow from that once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The ticks of another job that this one derives again; it reads nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Stretch>,
}

/// Recorded ticks of a job that another one derives again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// The incarnation that recorded them.
    pub incarnation: String,
    /// The first whose rows are written. Those before it are derived for the state alone.
    pub from: Tick,
    /// The last.
    pub to: Tick,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(split: &SplitId) -> bool {
    *split == 0
}

/// A split that a job reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputSplit {
    /// Its number.
    pub id: SplitId,
    /// The name of its source.
    pub source: String,
    /// What the source said of it.
    #[serde(flatten)]
    pub spec: SplitSpec,
}

/// Ticks that were made final together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticks {
    /// The first.
    pub first: Tick,
    /// The last.
    pub last: Tick,
    /// All of them.
    pub entries: Vec<JournalEntry>,
}

/// Where the inputs record of a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputsAt {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub xxh3: Digest,
}

/// A checkpoint, complete: with the records from `after` on it is all that a restart needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The state is the one after this tick.
    pub tick: Tick,
    /// Every tick after `tick` stands in a record with this number or a greater one.
    pub after: u64,
    /// The inputs record, which is kept as long as any checkpoint names it.
    pub inputs: Option<InputsAt>,
    /// The tick was the job's last.
    pub finished: bool,
    /// CPU time of the pause in which the state was frozen, all workers together, in microseconds. Not in older records.
    #[serde(default)]
    pub pause_micros: u64,
    /// CPU time of the pause and of writing the files beside the job, in microseconds. In older records the pause alone.
    pub cpu_micros: u64,
    /// Where the job stood before the first of `recent`.
    pub before: Timeline,
    /// The last tick records up to `tick`, oldest first.
    pub recent: Vec<TickRecord>,
    /// The committed tick of every lane when the checkpoint was published.
    pub tokens: Vec<LaneToken>,
    /// The balance since the job began.
    pub balance: BTreeMap<String, Counts>,
    /// The live files of every table.
    pub tables: Vec<TableFiles>,
}

/// The live files of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFiles {
    /// The step.
    pub step: String,
    /// The table.
    pub table: String,
    /// Its columns, each as `name: type`.
    pub columns: Vec<String>,
    /// Its files, oldest first.
    pub files: Vec<FileEntry>,
}

/// A live file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path relative to the job's folder.
    pub path: String,
    /// Changes or everything.
    pub kind: FileKind,
    /// The tick of the checkpoint it was written for.
    pub tick: Tick,
    /// The shards it is about, as closed ranges, ascending.
    #[serde(deserialize_with = "ascending")]
    pub shards: Vec<[u16; 2]>,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// xxh3_64 of the whole file.
    pub xxh3: Digest,
}

/// The job goes on as another plan, from where it was drained. Nothing before this record is needed, or may be used, to run
/// the plan of its header: it is a checkpoint and the inputs of that plan in one, so that one create is the whole upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// The plan that was drained.
    pub from_plan: String,
    /// The build that drained it.
    pub from_build: String,
    /// The lanes of each sink of the plan, in the order of its graph.
    pub lanes: Vec<SinkLanes>,
    /// What the plan reads.
    pub inputs: Inputs,
    /// By step: how far it had come.
    pub floors: BTreeMap<String, Floor>,
    /// What became of each source, step and sink, for people.
    pub parts: BTreeMap<String, String>,
    /// Where the plan begins.
    pub checkpoint: Checkpoint,
    /// The shards of the state, where this is a savepoint that went over from an incarnation which may have had others than
    /// the job has now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<u16>,
}

impl Checkpoint {
    /// Returns the checkpoint `parts`, of which `tables` are the live files.
    pub fn of(parts: CheckpointParts, tables: Vec<TableFiles>, after: u64, inputs: Option<InputsAt>) -> Checkpoint {
        let CheckpointParts { tick, before, recent, files: _, tokens, balance, finished, pause_micros, cpu_micros } =
            parts;
        Checkpoint { tick, after, inputs, finished, pause_micros, cpu_micros, before, recent, tokens, balance, tables }
    }

    /// Returns what the engine knew of it; `files` are all live files.
    pub fn into_parts(self) -> CheckpointParts {
        let files = self.files().collect();
        let Checkpoint { tick, before, recent, tokens, balance, finished, pause_micros, cpu_micros, .. } = self;
        CheckpointParts { tick, before, recent, files, tokens, balance, finished, pause_micros, cpu_micros }
    }

    /// Returns its live files, those of a table oldest first.
    pub fn files(&self) -> impl Iterator<Item = StateFile> + '_ {
        self.tables.iter().flat_map(|table| table.files.iter().map(|file| file.expand(&table.step, &table.table)))
    }
}

impl FileEntry {
    /// Returns `file` as it is written down.
    pub fn of(file: &StateFile) -> FileEntry {
        FileEntry {
            path: file.path.clone(),
            kind: file.kind,
            tick: file.tick,
            shards: ranges_of(&file.shards),
            rows: file.rows,
            bytes: file.bytes,
            xxh3: Digest(file.xxh3),
        }
    }

    /// Returns the file of `step` and `table` that was written down.
    pub fn expand(&self, step: &str, table: &str) -> StateFile {
        StateFile {
            path: self.path.clone(),
            step: step.to_string(),
            table: table.to_string(),
            kind: self.kind,
            tick: self.tick,
            shards: self.shards.iter().flat_map(|[first, last]| *first..=*last).collect(),
            rows: self.rows,
            bytes: self.bytes,
            xxh3: self.xxh3.0,
        }
    }
}

/// No job has more shards.
const SHARDS_MAX: u16 = 4096;

/// Reads ranges that name every shard once: what is written in a few bytes must not become a list without end.
fn ascending<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<[u16; 2]>, D::Error> {
    let ranges = Vec::<[u16; 2]>::deserialize(deserializer)?;
    let whole = ranges.iter().all(|[first, last]| first <= last && *last < SHARDS_MAX);
    match whole && ranges.windows(2).all(|pair| pair[0][1] < pair[1][0]) {
        true => Ok(ranges),
        false => Err(D::Error::custom(format!("shards are ascending ranges below {SHARDS_MAX}"))),
    }
}

fn ranges_of(shards: &[u16]) -> Vec<[u16; 2]> {
    let mut ranges: Vec<[u16; 2]> = Vec::new();
    for shard in shards {
        match ranges.last_mut() {
            Some([_, last]) if *last + 1 == *shard => *last = *shard,
            _ => ranges.push([*shard, *shard]),
        }
    }
    ranges
}

impl Body {
    /// Returns which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Body::Generation(_) => Kind::Generation,
            Body::Inputs(_) => Kind::Inputs,
            Body::Ticks(_) => Kind::Ticks,
            Body::Checkpoint(_) => Kind::Checkpoint,
            Body::Upgrade(_) => Kind::Upgrade,
        }
    }

    /// Returns the checkpoint that it is or holds.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        match self {
            Body::Checkpoint(checkpoint) => Some(checkpoint),
            Body::Upgrade(upgrade) => Some(&upgrade.checkpoint),
            Body::Generation(_) | Body::Inputs(_) | Body::Ticks(_) => None,
        }
    }
}

/// What an inputs record or an upgrade lays down for all that follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Foundation {
    /// The record that does.
    pub at: InputsAt,
    /// The plan.
    pub plan: String,
    /// The lanes of its sinks; `None`: those of `job.json`.
    pub lanes: Option<Vec<SinkLanes>>,
    /// What it reads.
    pub inputs: Inputs,
    /// By step: how far it had come.
    pub floors: BTreeMap<String, Floor>,
}

impl Record {
    /// Returns what the record lays down, if it does.
    pub fn foundation(&self) -> Option<Foundation> {
        let at = InputsAt { seq: self.header.seq, xxh3: self.xxh3 };
        let plan = self.header.plan.clone();
        match &self.body {
            Body::Inputs(inputs) => {
                Some(Foundation { at, plan, lanes: None, inputs: inputs.clone(), floors: BTreeMap::new() })
            }
            Body::Upgrade(it) => Some(Foundation {
                at,
                plan,
                lanes: Some(it.lanes.clone()),
                inputs: it.inputs.clone(),
                floors: it.floors.clone(),
            }),
            Body::Generation(_) | Body::Ticks(_) | Body::Checkpoint(_) => None,
        }
    }
}

/// Returns the wall clock as it stands in records.
#[expect(
    clippy::disallowed_methods,
    reason = "when something was written down is for people and retention; no row sees it"
)]
pub fn written_now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Returns the bytes of a record, and its hash.
pub fn seal(header: &Header, body: &Body) -> (Vec<u8>, Digest) {
    assert_eq!(header.kind, body.kind(), "a header names its body's kind");
    let mut bytes = serde_json::to_vec(header).expect("a header is always JSON");
    bytes.pop();
    let start = bytes.len();
    match body {
        Body::Generation(it) => serde_json::to_writer(&mut bytes, it),
        Body::Inputs(it) => serde_json::to_writer(&mut bytes, it),
        Body::Ticks(it) => serde_json::to_writer(&mut bytes, it),
        Body::Checkpoint(it) => serde_json::to_writer(&mut bytes, it),
        Body::Upgrade(it) => serde_json::to_writer(&mut bytes, it),
    }
    .expect("a record is always JSON");
    bytes[start] = b',';
    bytes.pop();
    let xxh3 = Digest(xxh3_64(&bytes));
    bytes.extend_from_slice(SEAL);
    bytes.extend_from_slice(format!("{:016x}\"}}\n", xxh3.0).as_bytes());
    (bytes, xxh3)
}

/// Reads the record `seq` from its bytes; `what` names it in errors.
pub fn unseal(bytes: &[u8], seq: u64, what: &str) -> Result<Record, StateError> {
    let record = unseal_copy(bytes, what)?;
    if record.header.seq != seq {
        return Err(damaged(what, format!("it says that it is record {}", record.header.seq)));
    }
    Ok(record)
}

/// Reads a record from its bytes, whatever its number; `what` names it in errors.
pub fn unseal_copy(bytes: &[u8], what: &str) -> Result<Record, StateError> {
    // The version is looked at first: a later format may be sealed in another way.
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    if let Ok(Version { v }) = serde_json::from_slice::<Version>(bytes)
        && v > VERSION
    {
        return Err(StateError::Newer { what: what.to_string(), found: v, known: VERSION });
    }
    let damaged = |reason: String| damaged(what, reason);
    let xxh3 = sealed(bytes).map_err(damaged)?;
    let header: Header = parse(bytes).map_err(damaged)?;
    let body = match header.kind {
        Kind::Generation => parse(bytes).map(Body::Generation),
        Kind::Inputs => parse(bytes).map(Body::Inputs),
        Kind::Ticks => parse(bytes).map(Body::Ticks),
        Kind::Checkpoint => parse(bytes).map(|it| Body::Checkpoint(Box::new(it))),
        Kind::Upgrade => parse(bytes).map(|it| Body::Upgrade(Box::new(it))),
    }
    .map_err(damaged)?;
    Ok(Record { header, body, xxh3 })
}

fn damaged(what: &str, reason: String) -> StateError {
    let hint = "restore this file from a backup, or start over with --fresh; it must not be deleted or edited";
    StateError::damaged(what, format!("{reason}\n  hint: {hint}"))
}

/// Returns the hash at the end of `bytes` if it is the one of what stands before it.
fn sealed(bytes: &[u8]) -> Result<Digest, String> {
    let length = SEAL.len() + 16 + 3;
    let Some(at) = bytes.len().checked_sub(length) else { return Err("it is cut short".into()) };
    let (content, tail) = bytes.split_at(at);
    let digits = tail.strip_prefix(SEAL).and_then(|tail| tail.strip_suffix(b"\"}\n"));
    let Some(digits) = digits else { return Err("its end is missing".into()) };
    let stored = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match stored {
        Some(stored) if stored == xxh3_64(content) => Ok(Digest(stored)),
        _ => Err("its content does not match its checksum".into()),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|e| format!("it is not what was written: {e}"))
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let value = u64::from_str_radix(&text, 16).map_err(|_| D::Error::custom("a hash is 16 hexadecimal digits"))?;
        Ok(Digest(value))
    }
}

#[cfg(test)]
mod tests {
    use riverrun_dataflow::EventTime;

    use super::*;

    pub(crate) fn header(kind: Kind) -> Header {
        Header {
            v: kind.version(),
            seq: 3,
            prev_xxh3: Digest(7),
            generation: 2,
            attempt: "a".into(),
            build: "b".into(),
            plan: "p".into(),
            at: "2026-01-01T00:00:00.000Z".into(),
            kind,
        }
    }

    fn inputs() -> Body {
        let spec = SplitSpec { name: "käse \"x\"".into(), start: 0, end: Some(u64::MAX), identity: String::new() };
        Body::Inputs(Inputs {
            now: 7,
            sources: vec!["clicks".into()],
            splits: vec![InputSplit { id: 0, source: "clicks".into(), spec }],
            free_split: 0,
            shape: None,
            asked: None,
            recorded: None,
        })
    }

    fn ticks() -> Body {
        let record = TickRecord {
            tick: 5,
            now: i64::MIN,
            watermarks: vec![EventTime::MIN, EventTime::MAX],
            splits: vec![],
            last: true,
            checkpoint: false,
        };
        let entry = JournalEntry { record, lanes: vec![], balance: BTreeMap::new() };
        Body::Ticks(Ticks { first: 5, last: 5, entries: vec![entry] })
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for body in [inputs(), ticks()] {
            let (bytes, xxh3) = seal(&header(body.kind()), &body);
            let record = unseal(&bytes, 3, "it").unwrap();
            assert_eq!((record.body, record.xxh3, record.header), (body.clone(), xxh3, header(body.kind())));
            assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok(), "a record is one JSON object");
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_seen() {
        let (bytes, _) = seal(&header(Kind::Inputs), &inputs());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let error = unseal(&changed, 3, "record 3").unwrap_err();
            // A flipped version digit may look like a later version; everything else is damage.
            assert!(matches!(error, StateError::Damaged { .. } | StateError::Newer { .. }), "{at}: {error}");
            assert!(unseal(&bytes[..at], 3, "record 3").is_err(), "cut at {at}");
        }
        assert!(unseal(&bytes, 4, "record 4").unwrap_err().to_string().contains("it says that it is record 3"));
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let (bytes, _) = seal(&Header { v: VERSION + 1, ..header(Kind::Inputs) }, &inputs());
        let error = unseal(&bytes, 3, "record 3").unwrap_err();
        assert!(matches!(error, StateError::Newer { found: 3, known: 2, .. }), "{error}");
    }

    #[test]
    fn shard_ranges_are_short_and_exact() {
        assert_eq!(ranges_of(&[]), Vec::<[u16; 2]>::new());
        assert_eq!(ranges_of(&[0, 1, 2, 5, 7, 8]), [[0, 2], [5, 5], [7, 8]]);
    }
}
