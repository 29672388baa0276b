//! `riverrun topic`: lists, makes, fills and reads embedded topics.

mod lines;

use std::path::{Path, PathBuf};
use std::time::Duration;

use riverrun_connectors::topic::{Begin, CreateOptions, Listed, Tail, TailRecord, Topic, TopicError};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args::{Global, TopicCommand, TopicCreateArgs, TopicLsArgs, TopicTailArgs};
use crate::exit::{Done, Exit, Failure};
use crate::output::{self, Format, Stdout};
use crate::signals;

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

/// Returns the folder that `--topics` names.
pub fn folder(topics: Option<&str>) -> Result<PathBuf, Failure> {
    let named = topics.unwrap_or(TOPICS);
    match named.split_once("://") {
        Some(("file", path)) => Ok(PathBuf::from(path)),
        Some((scheme, _)) => Err(Failure::new(
            Exit::Usage,
            format!("cannot use topics at `{named}`: `{scheme}` is not known to this version\n  hint: name a folder"),
        )),
        None => Ok(PathBuf::from(named)),
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
    records: u64,
    bytes: u64,
}

fn shown(listed: Listed) -> Shown {
    let described = listed.topic.and_then(|topic| topic.describe());
    match described {
        Ok(partitions) => Shown {
            topic: listed.name,
            error: None,
            partitions: u32::try_from(partitions.len()).unwrap_or(u32::MAX),
            records: partitions.iter().map(|partition| partition.records).sum(),
            bytes: partitions.iter().map(|partition| partition.bytes).sum(),
        },
        Err(error) => Shown { topic: listed.name, error: Some(error.to_string()), partitions: 0, records: 0, bytes: 0 },
    }
}

fn ls(args: &TopicLsArgs, global: &Global) -> Done {
    let dir = folder(args.topics.topics.as_deref())?;
    let topics: Vec<Shown> = Topic::list(&dir).map_err(failed)?.into_iter().map(shown).collect();
    let broken = topics.iter().filter_map(|topic| topic.error.clone()).collect::<Vec<_>>();
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&topics)?,
        Format::Table => {
            let row = |topic: &Shown| {
                let numbers = [u64::from(topic.partitions), topic.records].map(output::grouped);
                let [partitions, records] = numbers;
                vec![topic.topic.clone(), partitions, records, output::bytes(topic.bytes)]
            };
            let header = ["topic", "partitions", "records", "size"];
            stdout.line(&output::table(&header, &[1, 2, 3], topics.iter().map(row).collect()).to_string())?;
        }
    }
    stdout.flush()?;
    match broken.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Storage, broken.join("\n"))),
    }
}

fn create(args: &TopicCreateArgs, global: &Global) -> Done {
    let dir = folder(args.topics.topics.as_deref())?;
    let options = CreateOptions { partitions: args.partitions, ..CreateOptions::default() };
    let topic = Topic::create(&dir, &args.topic, &options).map_err(failed)?;
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&serde_json::json!({
            "topic": topic.name(), "id": topic.id(), "partitions": topic.partitions(),
        }))?,
        Format::Table => {
            stdout.line(&format!("made topic `{}` with {} partitions", topic.name(), topic.partitions()))?;
        }
    }
    stdout.flush()
}

fn tail(args: &TopicTailArgs, global: &Global) -> Done {
    let dir = folder(args.topics.topics.as_deref())?;
    let topic = Topic::open(&dir, &args.topic).map_err(failed)?;
    let begin = match (args.from_start, args.last) {
        (true, _) => Begin::Start,
        (false, Some(last)) => Begin::Last(last),
        (false, None) if args.follow => Begin::End,
        (false, None) => Begin::Last(LAST),
    };
    let mut tail = Tail::open(&topic, args.partition, begin).map_err(failed)?;
    let asked = signals::notice()?;
    let mut stdout = Stdout::lock();
    while !signals::asked(&asked) {
        match tail.read().map_err(failed)? {
            Some(record) => show(&record, global.output, &mut stdout)?,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

fn show(record: &TailRecord, format: Format, stdout: &mut Stdout) -> Done {
    if format == Format::Table {
        stdout.bytes(&record.value)?;
        return stdout.bytes(b"\n");
    }
    let value: Option<&RawValue> = serde_json::from_slice(&record.value).ok();
    stdout.json_line(&ShownRecord {
        partition: record.partition,
        offset: record.offset,
        timestamp_us: record.timestamp,
        key: record.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned()),
        text: value.is_none().then(|| String::from_utf8_lossy(&record.value).into_owned()),
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_live_in_a_folder() {
        assert_eq!(folder(None).unwrap(), PathBuf::from(TOPICS));
        assert_eq!(folder(Some("file:///tmp/t")).unwrap(), PathBuf::from("/tmp/t"));
        assert_eq!(folder(Some("kafka://localhost:9092")).unwrap_err().exit, Exit::Usage);
    }
}
