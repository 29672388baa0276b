//! Lines into topics: from files (`import`) and from stdin (`produce`).

use std::io::{self, BufRead};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use riverrun_connectors::file::LineReader;
use riverrun_connectors::kafka::KafkaProducer;
use riverrun_connectors::topic::{NO_TIME, Partitioning, Producer, ProducerOptions, Record};
use riverrun_dataflow::source::SourceError;

use super::{PARTITIONS, Place, failed, kafka, open_or_create, place};
use crate::args::{Global, PlacingArgs, TopicImportArgs, TopicProduceArgs};
use crate::exit::{Done, Exit, Failure, OrExit};
use crate::output::{self, Format, Stdout};
use crate::signals;

/// Lines of stdin that may wait to be written.
const WAITING: usize = 4096;
/// How long an acknowledged line may wait for others.
const GROUP: Duration = Duration::from_millis(20);

/// What appends to a topic.
enum Appending {
    Embedded(Producer),
    Kafka(KafkaProducer),
}

/// Writes lines to a topic, placed by key or in turn.
struct Placer {
    producer: Appending,
    topic: String,
    key: Option<String>,
    lines: u64,
    keyless: u64,
}

impl Placer {
    fn open(topics: Option<&str>, name: &str, placing: &PlacingArgs, holder: &str) -> Result<Placer, Failure> {
        let producer = match place(topics)? {
            Place::Folder(dir) => {
                let topic = open_or_create(&dir, name, placing.partitions)?;
                let options = ProducerOptions {
                    partitioning: Partitioning::Key,
                    group_bytes: 4 << 20,
                    group_wait: GROUP,
                    holder: holder.to_owned(),
                };
                Appending::Embedded(Producer::open(&topic, options).map_err(failed)?)
            }
            Place::Kafka(cluster) => {
                let partitions = placing.partitions.unwrap_or(PARTITIONS);
                let producer = KafkaProducer::open(&cluster, name, partitions).map_err(kafka::failed)?;
                let found = producer.partitions();
                if let Some(wanted) = placing.partitions.filter(|wanted| *wanted != found) {
                    let message = format!("topic `{name}` has {found} partitions, not {wanted}");
                    return Err(Failure::new(Exit::Conflict, message));
                }
                Appending::Kafka(producer)
            }
        };
        Ok(Placer { producer, topic: name.to_owned(), key: placing.key.clone(), lines: 0, keyless: 0 })
    }

    /// Appends a line as it is. One without the key field is placed in turn, and counted.
    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let key = self.key.as_deref().map(|field| key_of(line, field));
        if matches!(key, Some(None)) {
            self.keyless += 1;
        }
        let key = key.flatten();
        self.lines += 1;
        let key = key.as_deref().map(str::as_bytes);
        match &mut self.producer {
            Appending::Embedded(producer) => {
                producer.append(&Record { timestamp: NO_TIME, key, value: line }).map(drop).map_err(failed)
            }
            Appending::Kafka(producer) => producer.append(key, line).map_err(kafka::failed),
        }
    }

    /// Makes all that was appended count.
    fn sync(&mut self) -> Done {
        match &mut self.producer {
            Appending::Embedded(producer) => producer.sync().map_err(failed),
            Appending::Kafka(producer) => producer.sync().map_err(kafka::failed),
        }
    }

    fn finish(mut self, global: &Global) -> Done {
        self.sync()?;
        let mut stdout = Stdout::lock();
        match global.output {
            Format::Json => stdout.document(&serde_json::json!({
                "topic": self.topic, "lines": self.lines, "without_key": self.keyless,
            }))?,
            Format::Table => {
                let keyless = match self.keyless {
                    0 => String::new(),
                    some => format!(", {} of them without the key", output::grouped(some)),
                };
                let lines = output::grouped(self.lines);
                stdout.line(&format!("{lines} lines to topic `{}`{keyless}", self.topic))?;
            }
        }
        stdout.flush()
    }
}

/// Returns the text of a field at the top of a JSON object; numbers and other scalars as they are written.
fn key_of(line: &[u8], field: &str) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
    match object.get(field)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// `topic import`.
pub fn import(args: &TopicImportArgs, global: &Global) -> Done {
    // All files first: a wrong name must not leave half an import behind.
    for path in &args.files {
        std::fs::File::open(path).or_exit(Exit::NotFound, || format!("cannot read `{}`", path.display()))?;
    }
    let topics = args.topics.topics.as_deref();
    let mut placer = Placer::open(topics, &args.topic, &args.placing, "riverrun topic import")?;
    let asked = signals::notice()?;
    for path in &args.files {
        import_file(path, &mut placer, &asked)?;
    }
    placer.finish(global)
}

fn import_file(path: &Path, placer: &mut Placer, asked: &signals::Asked) -> Result<(), Failure> {
    let failed = |error: SourceError| Failure { exit: Exit::Failed, error: error.into() };
    let mut lines = LineReader::open(path).map_err(failed)?;
    while !signals::asked(asked) {
        if !lines.read(|line| placer.line(line)).map_err(failed)?? {
            break;
        }
    }
    Ok(())
}

/// `topic produce`.
pub fn produce(args: &TopicProduceArgs, global: &Global) -> Done {
    let topics = args.topics.topics.as_deref();
    let mut placer = Placer::open(topics, &args.topic, &args.placing, "riverrun topic produce")?;
    let asked = signals::notice()?;
    let lines = stdin_lines()?;
    while !signals::asked(&asked) {
        match lines.recv_timeout(GROUP) {
            Ok(line) => placer.line(&line.or_exit(Exit::Failed, || "cannot read stdin".to_owned())?)?,
            // Nobody has written for a moment: what there is counts now.
            Err(RecvTimeoutError::Timeout) => placer.sync()?,
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    placer.finish(global)
}

/// Reads stdin on a thread of its own, so that a pause of the sender can be noticed. The thread ends with stdin or the process.
fn stdin_lines() -> Result<Receiver<io::Result<Vec<u8>>>, Failure> {
    let (send, receive) = mpsc::sync_channel(WAITING);
    let read = move || {
        for line in io::stdin().lock().split(b'\n') {
            if send.send(line).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(read)
        .or_exit(Exit::Internal, || "cannot start the thread that reads stdin".to_owned())?;
    Ok(receive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_texts_of_top_level_fields() {
        assert_eq!(key_of(br#"{"user":"u1","n":7}"#, "user").as_deref(), Some("u1"));
        assert_eq!(key_of(br#"{"user":"u1","n":7}"#, "n").as_deref(), Some("7"));
        assert_eq!(key_of(br#"{"user":null}"#, "user"), None);
        assert_eq!(key_of(b"not json", "user"), None);
    }
}
