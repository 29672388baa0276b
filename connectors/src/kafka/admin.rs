//! Topics of a cluster: which there are, what they take, making one.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::Serialize;

use super::address::Cluster;
use super::client::{CALL, PATIENCE, Pause, Reader, Sees, Watcher, offset_of};
use super::error::{KafkaFault, code_of};
use super::events::Unseen;

/// What a topic takes if it does not say: the brokers' own default.
const MESSAGE_BYTES: usize = 1_048_588;
/// Topics that are nobody's business but ours and the brokers'.
const INTERNAL: [&str; 2] = ["__", "riverrun.progress."];

/// A topic and what it holds.
#[derive(Clone, Debug, Serialize)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its partitions: the first offset, and the one after the last.
    pub partitions: Vec<(u64, u64)>,
}

/// What matters of a topic's settings.
#[derive(Clone, Debug)]
pub(crate) struct TopicSettings {
    /// The greatest record that it takes, with what surrounds it.
    pub message_bytes: usize,
    /// How many replicas must have a record.
    pub min_insync: Option<String>,
    /// Its replicas.
    pub replicas: i32,
    /// Records whose time is longer ago than this, in milliseconds, are deleted; none are if it does not say.
    pub retention_ms: Option<i64>,
    /// Brokers keep only the last record of each key.
    pub is_compacted: bool,
    /// How far the time of a record may be before and after that of the brokers, in milliseconds.
    pub times_ms: (i64, i64),
}

/// Returns the topics of a cluster by name, those that serve inner purposes left out.
pub fn list(cluster: &Cluster) -> Result<Vec<TopicInfo>, KafkaFault> {
    let client = cluster.consumer("riverrun.topic", Sees::Committed, &[])?;
    let mut names: Vec<(String, usize)> = cluster.patiently("the list of topics", &client, || {
        let metadata = client.fetch_metadata(None, CALL)?;
        Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect())
    })?;
    names.retain(|(name, _)| !INTERNAL.iter().any(|start| name.starts_with(start)));
    names.sort();
    let describe = |(name, count): (String, usize)| {
        let count = i32::try_from(count).expect("partitions are few");
        let bounds = (0..count).map(|partition| cluster.bounds(&client, &name, partition));
        let partitions = bounds.collect::<Result<_, _>>()?;
        Ok(TopicInfo { name, partitions })
    };
    names.into_iter().map(describe).collect()
}

/// How long a cluster may take to make a topic: one whose brokers have just begun has others to make for itself.
const MADE_WITHIN: Duration = Duration::from_secs(90);

/// Makes a topic, with as many replicas as the cluster gives of itself.
pub fn create(cluster: &Cluster, name: &str, partitions: u32) -> Result<(), KafkaFault> {
    let client = cluster.consumer("riverrun.topic", Sees::Committed, &[])?;
    create_with(cluster, &client, name, partitions, -1, &[])
}

/// Makes a topic with these settings. A cluster answers before all brokers know it: this returns when it can be used.
pub(crate) fn create_with(
    cluster: &Cluster,
    client: &Reader,
    name: &str,
    partitions: u32,
    replicas: i32,
    settings: &[(&str, &str)],
) -> Result<(), KafkaFault> {
    let admin: AdminClient<Watcher> = cluster.client(&cluster.config())?;
    let count = i32::try_from(partitions).expect("partitions are few");
    let what = format!("topic `{name}`");
    let made = cluster.within(MADE_WITHIN, &what, client, || {
        let topic = NewTopic::new(name, count, TopicReplication::Fixed(replicas));
        let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let options = AdminOptions::new().request_timeout(Some(CALL)).operation_timeout(Some(CALL));
        let answers = futures::executor::block_on(admin.create_topics(&[topic], &options))?;
        match answers.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(KafkaError::AdminOp(code)),
            _ => Ok(true),
        }
    })?;
    if !made {
        return Err(KafkaFault::Exists { topic: name.to_owned(), cluster: cluster.to_string() });
    }
    known(cluster, client, name).map(drop)
}

/// Returns the number of partitions of a topic that was made just now: brokers hear of it one after the other.
fn known(cluster: &Cluster, client: &Reader, name: &str) -> Result<u32, KafkaFault> {
    let mut pause = Pause::new();
    loop {
        match cluster.partitions(client, name) {
            Err(KafkaFault::Missing { .. }) if pause.spent() < PATIENCE => {
                pause.wait(&format!("topic `{name}`"), "not every broker knows it yet");
            }
            known => return known,
        }
    }
}

/// Returns the number of partitions of a topic, which is made with `partitions` if there is none.
pub(crate) fn ensure(
    cluster: &Cluster,
    client: &Reader,
    name: &str,
    partitions: u32,
    replicas: i32,
    settings: &[(&str, &str)],
) -> Result<u32, KafkaFault> {
    match cluster.partitions(client, name) {
        Err(KafkaFault::Missing { .. }) => {}
        known => return known,
    }
    match create_with(cluster, client, name, partitions, replicas, settings) {
        // Another worker or process was faster, or the one before this, which was killed: brokers may not know it yet either.
        Ok(()) | Err(KafkaFault::Exists { .. }) => known(cluster, client, name),
        Err(fault) => Err(fault),
    }
}

/// Returns the settings of a topic. What a cluster does not let us see is taken to be as brokers have it by themselves.
pub(crate) fn settings(cluster: &Cluster, client: &Reader, name: &str) -> Result<TopicSettings, KafkaFault> {
    let what = format!("topic `{name}`");
    let replicas = cluster.patiently(&what, client, || {
        let metadata = client.fetch_metadata(Some(name), CALL)?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        Ok(partitions.map(|partition| partition.replicas().len()).max().unwrap_or(1))
    })?;
    let admin: AdminClient<Watcher> = cluster.client(&cluster.config())?;
    let options = AdminOptions::new().request_timeout(Some(CALL));
    let asked = [ResourceSpecifier::Topic(name)];
    let config = cluster.patiently(&what, client, || {
        let answers = futures::executor::block_on(admin.describe_configs(&asked, &options));
        let answer = answers.and_then(|answers| match answers.into_iter().next() {
            Some(answer) => answer.map_err(KafkaError::AdminOp),
            None => Err(KafkaError::AdminOp(RDKafkaErrorCode::UnknownTopicOrPartition)),
        });
        match answer {
            Ok(config) => Ok(Some(config)),
            Err(error) if is_hidden(&error) => Ok(None),
            Err(error) => Err(error),
        }
    })?;
    if config.is_none() {
        Unseen { topic: name }.log();
    }
    let value = |key: &str| config.as_ref().and_then(|config| config.get(key)).and_then(|entry| entry.value.clone());
    let span = |key: &str| value(key).and_then(|span| span.parse().ok()).unwrap_or(i64::MAX);
    Ok(TopicSettings {
        message_bytes: value("max.message.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(MESSAGE_BYTES),
        min_insync: value("min.insync.replicas"),
        replicas: i32::try_from(replicas).expect("replicas are few"),
        retention_ms: value("retention.ms")
            .filter(|_| value("cleanup.policy").is_none_or(|policy| policy.contains("delete")))
            .and_then(|retention| retention.parse().ok())
            // -1: for ever.
            .filter(|retention| *retention >= 0),
        is_compacted: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
        times_ms: (span("message.timestamp.before.max.ms"), span("message.timestamp.after.max.ms")),
    })
}

/// Returns whether an account may not see the settings of a topic, or a cluster cannot show them.
fn is_hidden(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let codes = [
        Code::TopicAuthorizationFailed,
        Code::ClusterAuthorizationFailed,
        Code::UnsupportedVersion,
        Code::UnsupportedFeature,
    ];
    code_of(error).is_some_and(|code| codes.contains(&code))
}

impl TopicInfo {
    /// Returns how many offsets its partitions hold: records, and the marks of transactions between them.
    pub fn offsets(&self) -> u64 {
        self.partitions.iter().map(|(first, next)| next - first).sum()
    }
}

/// Returns the partitions of a topic with their first offset and the one after their last.
pub(crate) fn describe(cluster: &Cluster, client: &Reader, name: &str) -> Result<TopicInfo, KafkaFault> {
    let count = i32::try_from(cluster.partitions(client, name)?).expect("partitions are few");
    let bounds = (0..count).map(|partition| cluster.bounds(client, name, partition));
    Ok(TopicInfo { name: name.to_owned(), partitions: bounds.collect::<Result<_, _>>()? })
}

/// Returns where a partition truly ends, open transactions included.
pub(crate) fn true_end(cluster: &Cluster, client: &Reader, name: &str, partition: i32) -> Result<u64, KafkaFault> {
    let what = super::client::partition_name(name, partition);
    let (_, next) = cluster.patiently(&what, client, || client.fetch_watermarks(name, partition, CALL))?;
    Ok(offset_of(next))
}
