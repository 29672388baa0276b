//! `riverrun topic`: lists, makes, fills and reads topics, embedded ones and those of Kafka alike.

mod kafka;
mod legible;
mod lines;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use riverrun_connectors::kafka::Cluster;
use riverrun_connectors::topic::{Begin, CreateOptions, Listed, Tail, TailRecord, Topic, TopicError};
use riverrun_jobs::Topics;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args::{Global, TopicCommand, TopicCreateArgs, TopicLsArgs, TopicTailArgs};
use crate::exit::{Done, Exit, Failure};
use crate::output::{self, Format, Stdout, hex};
use crate::signals;
use legible::{Legible, Value};

/// Where topics live if nobody says.
pub const TOPICS: &str = ".riverrun/topics";
/// Partitions of a topic if nobody says.
pub const PARTITIONS: u32 = 4;
/// How often a follower looks for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(20);
/// Records of a topic that are shown if nobody says how many.
const LAST: u64 = 10;

/// Does what was asked for.
pub fn topic(command: &TopicCommand, global: &Global) -> Done {
    match command {
        TopicCommand::Ls(args) => ls(args, global),
        TopicCommand::Create(args) => create(args, global),
        TopicCommand::Import(args) => lines::import(args, global),
        TopicCommand::Tail(args) => tail(args, global),
        TopicCommand::Produce(args) => lines::produce(args, global),
    }
}

/// Where topics are that can be used.
#[derive(Debug)]
pub enum Place {
    /// In a folder.
    Folder(PathBuf),
    /// In a Kafka cluster.
    Kafka(Cluster),
}

/// Returns the place that `--topics` names.
pub fn place(topics: Option<&str>) -> Result<Place, Failure> {
    match Topics::parse(topics.unwrap_or(TOPICS)) {
        Topics::Embedded(folder) => Ok(Place::Folder(folder)),
        Topics::Kafka(cluster) => Ok(Place::Kafka(cluster)),
        Topics::Elsewhere { place, reason } => {
            let reason = reason.replace('\n', "\n  ");
            Err(Failure::new(Exit::Usage, format!("cannot use topics at `{place}`: {reason}")))
        }
    }
}

/// Gives a topic's error its exit code.
pub fn failed(error: TopicError) -> Failure {
    let exit = match &error {
        TopicError::Name(_) | TopicError::Option(_) | TopicError::OutOfRange { .. } => Exit::Usage,
        TopicError::Missing { .. } => Exit::NotFound,
        TopicError::Exists { .. } | TopicError::Held { .. } | TopicError::Changed { .. } => Exit::Conflict,
        TopicError::TooLong { .. } => Exit::Failed,
        TopicError::Damaged { .. } | TopicError::Failed { .. } | TopicError::Io { .. } => Exit::Storage,
    };
    Failure { exit, error: error.into() }
}

/// Opens a topic; one that is not there is made.
pub fn open_or_create(dir: &Path, name: &str, partitions: Option<u32>) -> Result<Topic, Failure> {
    let options = CreateOptions { partitions: partitions.unwrap_or(PARTITIONS), ..CreateOptions::default() };
    let topic = Topic::open_or_create(dir, name, &options).map_err(failed)?;
    match partitions {
        Some(wanted) if wanted != topic.partitions() => Err(Failure::new(
            Exit::Conflict,
            format!("topic `{name}` has {} partitions, not {wanted}; they are fixed for good", topic.partitions()),
        )),
        _ => Ok(topic),
    }
}

/// A topic as it is listed.
#[derive(Serialize)]
struct Shown {
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    partitions: u32,
    /// Kafka does not tell: marks of transactions and what was compacted away have offsets, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
    /// Of Kafka: offsets from the first to the last, all partitions together, so at most as many records.
    #[serde(skip_serializing_if = "Option::is_none")]
    offsets: Option<u64>,
    /// Kafka does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

fn shown(listed: Listed) -> Shown {
    let described = listed.topic.and_then(|topic| topic.describe());
    match described {
        Ok(partitions) => Shown {
            topic: listed.name,
            error: None,
            partitions: u32::try_from(partitions.len()).unwrap_or(u32::MAX),
            records: Some(partitions.iter().map(|partition| partition.records).sum()),
            offsets: None,
            bytes: Some(partitions.iter().map(|partition| partition.bytes).sum()),
        },
        Err(error) => Shown {
            topic: listed.name,
            error: Some(error.to_string()),
            partitions: 0,
            records: Some(0),
            offsets: None,
            bytes: Some(0),
        },
    }
}

fn ls(args: &TopicLsArgs, global: &Global) -> Done {
    let place = place(args.topics.topics.as_deref())?;
    let topics: Vec<Shown> = match &place {
        Place::Folder(dir) => Topic::list(dir).map_err(failed)?.into_iter().map(shown).collect(),
        Place::Kafka(cluster) => kafka::ls(cluster)?,
    };
    let broken = topics.iter().filter_map(|topic| topic.error.clone()).collect::<Vec<_>>();
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&topics)?,
        Format::Table => {
            let row = |topic: &Shown| {
                let count = topic.records.or(topic.offsets).unwrap_or_default();
                let [partitions, count] = [u64::from(topic.partitions), count].map(output::grouped);
                let size = topic.bytes.map(output::bytes);
                [topic.topic.clone(), partitions, count].into_iter().chain(size).collect()
            };
            let rows = topics.iter().map(row).collect();
            let table = match place {
                Place::Folder(_) => output::table(&["topic", "partitions", "records", "size"], &[1, 2, 3], rows),
                Place::Kafka(_) => output::table(&["topic", "partitions", "offsets"], &[1, 2], rows),
            };
            stdout.line(&table.to_string())?;
        }
    }
    stdout.flush()?;
    match broken.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Storage, broken.join("\n"))),
    }
}

fn create(args: &TopicCreateArgs, global: &Global) -> Done {
    let id = match place(args.topics.topics.as_deref())? {
        Place::Folder(dir) => {
            let options = CreateOptions { partitions: args.partitions, ..CreateOptions::default() };
            Some(Topic::create(&dir, &args.topic, &options).map_err(failed)?.id().to_owned())
        }
        Place::Kafka(cluster) => {
            kafka::create(&cluster, &args.topic, args.partitions)?;
            None
        }
    };
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&serde_json::json!({
            "topic": args.topic, "id": id, "partitions": args.partitions,
        }))?,
        Format::Table => {
            stdout.line(&format!("made topic `{}` with {} partitions", args.topic, args.partitions))?;
        }
    }
    stdout.flush()
}

fn tail(args: &TopicTailArgs, global: &Global) -> Done {
    let dir = match place(args.topics.topics.as_deref())? {
        Place::Folder(dir) => dir,
        Place::Kafka(cluster) => return kafka::tail(&cluster, args, global),
    };
    let topic = Topic::open(&dir, &args.topic).map_err(failed)?;
    let begin = match (args.from_start, args.last) {
        (true, _) => Begin::Start,
        (false, Some(last)) => Begin::Last(last),
        (false, None) if args.follow => Begin::End,
        (false, None) => Begin::Last(LAST),
    };
    let mut tail = Tail::open(&topic, args.partition, begin).map_err(failed)?;
    let mut legible = Legible::new(args.schema_registry.as_deref())?;
    let asked = signals::notice()?;
    let mut stdout = Stdout::lock();
    while !signals::asked(&asked) {
        match tail.read().map_err(failed)? {
            Some(record) => show(&record, BTreeMap::new(), &mut legible, global.output, &mut stdout)?,
            None if args.follow => {
                stdout.flush()?;
                std::thread::sleep(FOLLOW_EVERY);
            }
            None => break,
        }
    }
    stdout.flush()
}

/// A record as JSON. A value that is JSON itself is embedded as it is.
#[derive(Serialize)]
struct ShownRecord<'a> {
    partition: u32,
    offset: u64,
    timestamp_us: Option<i64>,
    key: Option<String>,
    /// The key, if it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// The value, if it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    /// Why it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a str>,
}

/// Bytes of a value that are shown to a person.
const HEX_SHOWN: usize = 64;

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn show(
    record: &TailRecord,
    headers: BTreeMap<String, String>,
    legible: &mut Legible,
    format: Format,
    stdout: &mut Stdout,
) -> Done {
    let shown = legible.show(&record.value);
    if format == Format::Table {
        return match shown {
            Value::Text(text) => stdout.line(&text),
            Value::Bytes(what) => {
                let some = &record.value[..record.value.len().min(HEX_SHOWN)];
                let more = if some.len() < record.value.len() { "..." } else { "" };
                stdout.line(&format!("[{} bytes, {what}] {}{more}", record.value.len(), hex(some)))
            }
        };
    }
    let (text, what) = match &shown {
        Value::Text(text) => (Some(text.as_ref()), None),
        Value::Bytes(what) => (None, Some(what.as_str())),
    };
    let value: Option<&RawValue> = text.and_then(|text| serde_json::from_str(text).ok());
    let key = record.key.as_deref().map(|key| std::str::from_utf8(key).map_err(|_| key));
    stdout.json_line(&ShownRecord {
        partition: record.partition,
        offset: record.offset,
        timestamp_us: record.timestamp,
        key: key.and_then(Result::ok).map(str::to_owned),
        key_hex: key.and_then(Result::err).map(hex),
        headers,
        value,
        text: text.filter(|_| value.is_none()),
        hex: what.map(|_| hex(&record.value)),
        what,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_live_in_a_folder_or_a_cluster() {
        let folder = |topics| match place(topics) {
            Ok(Place::Folder(folder)) => folder,
            other => panic!("{other:?}"),
        };
        assert_eq!(folder(None), PathBuf::from(TOPICS));
        assert_eq!(folder(Some("file:///tmp/t")), PathBuf::from("/tmp/t"));
        assert!(matches!(place(Some("kafka://localhost:9092")), Ok(Place::Kafka(_))));
        assert_eq!(place(Some("kafka://localhost")).unwrap_err().exit, Exit::Usage);
    }
}
