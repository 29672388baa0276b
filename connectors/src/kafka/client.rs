//! Clients of a cluster: how they are made, what they tell, and how a call is repeated until it answers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::{Broker, Statistics};

use super::address::Cluster;
use super::error::{KafkaFault, Verdict, is_missing, said, verdict};
use super::events::{InReach, Library, OutOfReach, Repeated};

/// How long a call waits for its answer.
pub(crate) const CALL: Duration = Duration::from_secs(10);
/// How long a cluster that does not answer is asked again before a job begins. A job that runs asks for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);
/// Time between two tries, at first and at last.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(2);
/// A broker that is read from answers every half second, records or not; one that was silent for so long may have new ones.
const SILENT_MICROS: i64 = 3_000_000;
/// How often librdkafka tells how its connections and partitions are.
const STATISTICS_MS: &str = "1000";

/// Which records a consumer sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sees {
    /// Those of transactions that were committed, and those outside of any.
    Committed,
    /// All: only for asking where a partition truly ends.
    All,
}

/// Whether a consumer tells how its partitions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// It is polled all the time.
    Yes,
    /// It is asked now and then.
    No,
}

/// Listens to what a client tells.
pub(crate) struct Watcher {
    cluster: String,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// No broker can be reached.
    is_away: bool,
    /// The last error of a connection.
    last: Option<String>,
    /// A broker answered, and will have nothing to do with us.
    refused: Option<String>,
    /// The first record that was not delivered, since it was last asked.
    undelivered: Option<KafkaError>,
    partitions: BTreeMap<i32, PartitionSeen>,
}

/// What is known of a partition that is read.
#[derive(Clone, Copy, Default)]
struct PartitionSeen {
    /// Its leader is not connected.
    is_away: bool,
    /// Up to where it could be read when librdkafka told last.
    end: Option<u64>,
    /// The position of a reader that has read all that there was.
    read_to_end: Option<u64>,
}

impl Watcher {
    fn new(cluster: &Cluster) -> Watcher {
        Watcher { cluster: cluster.to_string(), seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // What is in it is whole at any time.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that a broker answered.
    pub fn answered(&self) {
        let mut seen = self.seen();
        if std::mem::take(&mut seen.is_away) {
            seen.last = None;
            InReach(&self.cluster).log();
        }
    }

    /// Returns whether the leader of a partition is connected, as far as is known.
    pub fn leads(&self, partition: i32) -> bool {
        let seen = self.seen();
        !seen.is_away && seen.partitions.get(&partition).is_none_or(|seen| !seen.is_away)
    }

    /// Takes note that a reader stands at `position` and whether there is nothing more for it to read.
    pub fn stands(&self, partition: i32, position: u64, at_end: bool) {
        self.seen().partitions.entry(partition).or_default().read_to_end = at_end.then_some(position);
    }

    /// Returns where each partition that is read ends, as far as that is known.
    pub fn ends(&self) -> BTreeMap<i32, u64> {
        // Behind the last record there may be numbers that are none: who has read all knows better than the broker.
        let end = |(partition, seen): (&i32, &PartitionSeen)| Some((*partition, seen.read_to_end.or(seen.end)?));
        self.seen().partitions.iter().filter_map(end).collect()
    }

    /// Returns the first record that was not delivered since this was last asked.
    pub fn undelivered(&self) -> Option<KafkaError> {
        self.seen().undelivered.take()
    }

    /// Returns why the cluster will have nothing to do with us, if it said so.
    fn refused(&self) -> Option<String> {
        self.seen().refused.take()
    }

    /// Returns whether a connection failed since this was last asked.
    pub fn troubled(&self) -> bool {
        self.seen().last.take().is_some()
    }

    /// Returns what a call that failed should say: what a connection said before it, if that says more.
    fn reason(&self, error: &KafkaError) -> String {
        match &self.seen().last {
            Some(last) => format!("{}: {last}", said(error)),
            None => said(error),
        }
    }
}

impl ClientContext for Watcher {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        Library { facility, message }.log();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut seen = self.seen();
        seen.last = Some(reason.to_owned());
        if matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL | RDKafkaErrorCode::UnsupportedSASLMechanism)
        ) {
            seen.refused = Some(reason.to_owned());
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) && !seen.is_away {
            seen.is_away = true;
            OutOfReach { cluster: &self.cluster, reason }.log();
        }
    }

    fn stats(&self, statistics: Statistics) {
        // A broker that was stopped without a word keeps its connections; it only says nothing any more.
        let answers = |broker: &Broker| broker.state == "UP" && broker.rxidle < SILENT_MICROS;
        let up: BTreeMap<i32, bool> =
            statistics.brokers.values().map(|broker| (broker.nodeid, answers(broker))).collect();
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let mut seen = self.seen();
        // Those that nobody reads have a number below 0, or no offset yet.
        for partition in partitions.filter(|partition| partition.partition >= 0 && partition.desired) {
            let known = seen.partitions.entry(partition.partition).or_default();
            known.is_away = !up.get(&partition.leader).copied().unwrap_or(false);
            known.end = u64::try_from(partition.ls_offset).ok();
        }
        drop(seen);
        if up.iter().any(|(node, up)| *node >= 0 && *up) {
            self.answered();
        }
    }
}

impl ConsumerContext for Watcher {}

impl ProducerContext for Watcher {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.seen().undelivered.get_or_insert_with(|| error.clone());
        }
    }
}

/// A consumer of ours: it is given partitions, and never joins a group.
pub(crate) type Reader = BaseConsumer<Watcher>;

impl Cluster {
    /// Returns a consumer. `group`: what it calls itself; nothing is stored under that name. `extra`: settings that a user may
    /// overrule.
    pub(crate) fn consumer(&self, group: &str, sees: Sees, extra: &[(&str, &str)]) -> Result<Reader, KafkaFault> {
        self.watched_consumer(group, sees, Watched::No, extra)
    }

    /// Returns a consumer that tells how its partitions are, if somebody polls it all the time.
    pub(crate) fn watched_consumer(
        &self,
        group: &str,
        sees: Sees,
        watched: Watched,
        extra: &[(&str, &str)],
    ) -> Result<Reader, KafkaFault> {
        let mut config = self.config();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // An offset that is not there is for a person to decide about, never a silent jump.
            .set("auto.offset.reset", "error")
            .set("isolation.level", if sees == Sees::Committed { "read_committed" } else { "read_uncommitted" })
            .set("enable.partition.eof", "true")
            // What nobody fetches would pile up.
            .set("statistics.interval.ms", if watched == Watched::Yes { STATISTICS_MS } else { "0" });
        for (name, value) in extra {
            // What a user says about them wins.
            if config.get(name).is_none() {
                config.set(*name, *value);
            }
        }
        self.made(config.create_with_context(Watcher::new(self)))
    }

    /// Returns a client that is made of `config`.
    pub(crate) fn client<T>(&self, config: &ClientConfig) -> Result<T, KafkaFault>
    where
        T: rdkafka::config::FromClientConfigAndContext<Watcher>,
    {
        self.made(config.create_with_context(Watcher::new(self)))
    }

    fn made<T>(&self, made: Result<T, KafkaError>) -> Result<T, KafkaFault> {
        made.map_err(|error| KafkaFault::Cluster {
            cluster: self.to_string(),
            reason: match error {
                // Its words do not repeat values.
                KafkaError::ClientCreation(reason) => reason,
                other => said(&other),
            },
        })
    }

    /// Returns the fault of a call about `what` that failed for good.
    pub(crate) fn fault(&self, what: &str, watcher: &Watcher, error: &KafkaError) -> KafkaFault {
        let reason = watcher.reason(error);
        match verdict(error) {
            Verdict::Retry => KafkaFault::Cluster {
                cluster: self.to_string(),
                reason: format!(
                    "{what}: {reason}\nhint: see that a broker runs at this address and can be reached from here"
                ),
            },
            Verdict::Fatal => KafkaFault::Topic { what: what.to_owned(), reason },
        }
    }

    /// Makes a call, and makes it again while the cluster does not answer, until patience ends.
    pub(crate) fn patiently<T>(
        &self,
        what: &str,
        client: &Reader,
        call: impl Fn() -> Result<T, KafkaError>,
    ) -> Result<T, KafkaFault> {
        let mut pause = Pause::new();
        loop {
            listen(client);
            match call() {
                Ok(answer) => {
                    client.context().answered();
                    return Ok(answer);
                }
                Err(error) if verdict(&error) == Verdict::Retry && pause.spent() < PATIENCE => {
                    listen(client);
                    if let Some(reason) = client.context().refused() {
                        return Err(self.refused(&reason));
                    }
                    pause.wait(what, &said(&error));
                }
                Err(error) => return Err(self.fault(what, client.context(), &error)),
            }
        }
    }

    fn refused(&self, reason: &str) -> KafkaFault {
        let hint = "see `security.protocol`, `sasl.mechanism`, user and password, and `ssl.ca.location`, which must know the broker's certificate";
        KafkaFault::Cluster { cluster: self.to_string(), reason: format!("{reason}\nhint: {hint}") }
    }

    /// Returns the number of partitions of a topic.
    pub(crate) fn partitions(&self, client: &Reader, topic: &str) -> Result<u32, KafkaFault> {
        let what = format!("topic `{topic}`");
        let count = self.patiently(&what, client, || {
            let metadata = client.fetch_metadata(Some(topic), CALL)?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            match found.map(|found| (found.error(), found.partitions().len())) {
                None => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)),
                Some((Some(error), _)) => Err(KafkaError::MetadataFetch(error.into())),
                // A topic that is being created has none yet.
                Some((None, 0)) => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable)),
                Some((None, count)) => Ok(Ok(count)),
            }
            .or_else(|error| if is_missing(&error) { Ok(Err(())) } else { Err(error) })
        })?;
        let count = count.map_err(|()| KafkaFault::Missing { topic: topic.to_owned(), cluster: self.to_string() })?;
        Ok(u32::try_from(count).expect("a topic has fewer partitions than u32"))
    }

    /// Returns the first offset of a partition and the one after its last.
    pub(crate) fn bounds(&self, client: &Reader, topic: &str, partition: i32) -> Result<(u64, u64), KafkaFault> {
        let what = partition_name(topic, partition);
        let (first, next) = self.patiently(&what, client, || client.fetch_watermarks(topic, partition, CALL))?;
        Ok((offset_of(first), offset_of(next)))
    }
}

/// Lets a client that reads nothing say what it has to say. A poll hands over one event, and does not tell whether there was one.
fn listen(client: &Reader) {
    const EVENTS: usize = 256;
    for _ in 0..EVENTS {
        client.poll(Duration::ZERO);
    }
}

/// Returns what a partition is called in messages.
pub(crate) fn partition_name(topic: &str, partition: i32) -> String {
    format!("topic `{topic}` partition {partition}")
}

/// Returns an offset that a broker gave as our number.
pub(crate) fn offset_of(raw: i64) -> u64 {
    u64::try_from(raw).unwrap_or(0)
}

/// Returns our number as an offset.
pub(crate) fn raw_offset(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// Waits longer and longer between tries.
pub(crate) struct Pause {
    begun: Instant,
    next: Duration,
    tries: u32,
}

impl Pause {
    pub fn new() -> Pause {
        Pause { begun: now(), next: PAUSE_FIRST, tries: 0 }
    }

    /// Returns for how long it has been tried.
    pub fn spent(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits before `what` is tried again.
    pub fn wait(&mut self, what: &str, reason: &str) {
        self.tries += 1;
        Repeated { what, tries: self.tries, reason }.log();
        std::thread::sleep(self.next);
        self.next = (self.next * 2).min(PAUSE_LAST);
    }
}

/// Returns the present moment.
#[expect(clippy::disallowed_methods, reason = "how long a cluster is waited for reaches no output")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
