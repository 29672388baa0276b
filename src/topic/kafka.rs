//! The topics of a Kafka cluster, as `riverrun topic` shows them.

use std::collections::BTreeMap;

use riverrun_connectors::kafka::{self, Cluster, KafkaFault, KafkaRecord, KafkaTail, TailFrom};
use riverrun_connectors::topic::TailRecord;

use super::legible::Legible;
use super::{FOLLOW_EVERY, LAST, Shown, show, text_of};
use crate::args::{Global, TopicTailArgs};
use crate::exit::{Done, Exit, Failure};
use crate::output::{Format, Stdout};
use crate::signals;

/// Gives a fault of the cluster its exit code.
pub fn failed(fault: KafkaFault) -> Failure {
    let exit = match &fault {
        KafkaFault::Missing { .. } => Exit::NotFound,
        KafkaFault::Exists { .. } => Exit::Conflict,
        KafkaFault::Changed { .. } => Exit::Usage,
        KafkaFault::Cluster { .. }
        | KafkaFault::Topic { .. }
        | KafkaFault::Lost { .. }
        | KafkaFault::Compacted { .. } => Exit::Storage,
    };
    Failure { exit, error: fault.into() }
}

/// Returns the topics of a cluster.
pub fn ls(cluster: &Cluster) -> Result<Vec<Shown>, Failure> {
    let shown = |topic: kafka::TopicInfo| Shown {
        error: None,
        partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
        records: None,
        offsets: Some(topic.offsets()),
        bytes: None,
        topic: topic.name,
    };
    Ok(kafka::list(cluster).map_err(failed)?.into_iter().map(shown).collect())
}

/// Makes a topic.
pub fn create(cluster: &Cluster, name: &str, partitions: u32) -> Done {
    kafka::create(cluster, name, partitions).map_err(failed)
}

/// Shows records of a topic.
pub fn tail(cluster: &Cluster, args: &TopicTailArgs, global: &Global) -> Done {
    let from = match (args.from_start, args.last) {
        (true, _) => TailFrom::Start,
        (false, Some(last)) => TailFrom::Last(last),
        (false, None) if args.follow => TailFrom::End,
        (false, None) => TailFrom::Last(LAST),
    };
    let mut legible = Legible::new(args.schema_registry.as_deref())?;
    let mut tail = KafkaTail::open(cluster, &args.topic, args.partition, from).map_err(failed)?;
    let asked = signals::notice()?;
    let mut stdout = Stdout::lock();
    while !signals::asked(&asked) {
        match tail.read().map_err(failed)? {
            Some(record) => show_record(record, &mut legible, global.output, &mut stdout)?,
            None if args.follow => {
                stdout.flush()?;
                std::thread::sleep(FOLLOW_EVERY);
            }
            None => break,
        }
    }
    stdout.flush()
}

fn show_record(record: KafkaRecord, legible: &mut Legible, format: Format, stdout: &mut Stdout) -> Done {
    let text = |(name, value): (String, Option<Vec<u8>>)| (name, text_of(&value.unwrap_or_default()));
    let headers: BTreeMap<String, String> = record.headers.into_iter().map(text).collect();
    let KafkaRecord { partition, offset, timestamp_ms, key, value, .. } = record;
    let timestamp = timestamp_ms.map(|millis| millis.saturating_mul(1000));
    // A tombstone is shown as an empty line, or as a record whose value is null.
    let none = if format == Format::Json { b"null".to_vec() } else { Vec::new() };
    let shown = TailRecord { partition, offset, timestamp, key, value: value.unwrap_or(none) };
    show(&shown, headers, legible, format, stdout)
}
