//! Clients of a cluster: how they are made, what they tell, and how a call is repeated until it answers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
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
/// A failure that has lasted for so many tries, or for so long, is told; and then every so often.
const TRIES_SILENT: u32 = 3;
const SILENT: Duration = Duration::from_secs(5);
const TOLD_EVERY: Duration = Duration::from_secs(60);
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

/// What librdkafka says of a request that ended a transaction and was not answered: it broke off or took too long, and is sent again.
const NO_ANSWER: &str = "EndTxn returned _";

#[derive(Default)]
struct Seen {
    /// How much was told.
    told: u64,
    /// A request that ended a transaction was not answered, so it may still be on its way.
    unanswered: bool,
    /// No broker can be reached.
    is_away: bool,
    /// The last error of a connection.
    last: Option<String>,
    /// A broker answered, and will have nothing to do with us.
    refused: Option<String>,
    /// What came of the last commit of offsets.
    committed: Option<Result<(), KafkaError>>,
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
    /// The time of the record that comes next, or else of the last one read, in milliseconds.
    time_ms: Option<i64>,
    /// Offsets that were skipped.
    skipped: u64,
}

/// How the reader of a partition is, for whoever watches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadingSeen {
    /// There is nothing more to read.
    pub has_all: bool,
    /// The time of the record that comes next, or else of the last one read, in milliseconds.
    pub time_ms: Option<i64>,
    /// Offsets that were skipped because their records were gone.
    pub skipped: u64,
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

    /// Takes note that a reader stands at `position`, whether there is nothing more for it to read, and the time of the record that
    /// comes next or came last.
    pub fn stands(&self, partition: i32, position: u64, at_end: bool, time_ms: Option<i64>) {
        let mut seen = self.seen();
        let seen = seen.partitions.entry(partition).or_default();
        seen.read_to_end = at_end.then_some(position);
        seen.time_ms = time_ms.or(seen.time_ms);
    }

    /// Takes note that so many offsets of a partition were skipped.
    pub fn skipped(&self, partition: i32, offsets: u64) {
        self.seen().partitions.entry(partition).or_default().skipped += offsets;
    }

    /// Returns how the readers of partitions are.
    pub fn reading(&self) -> BTreeMap<i32, ReadingSeen> {
        let reading = |(partition, seen): (&i32, &PartitionSeen)| {
            let PartitionSeen { read_to_end, time_ms, skipped, is_away, .. } = *seen;
            (*partition, ReadingSeen { has_all: read_to_end.is_some() && !is_away, time_ms, skipped })
        };
        self.seen().partitions.iter().map(reading).collect()
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

    /// Returns what came of a commit of offsets, if that is known since this was last asked.
    pub fn committed(&self) -> Option<Result<(), KafkaError>> {
        self.seen().committed.take()
    }

    /// Returns why the cluster will have nothing to do with us, if it said so.
    fn refused(&self) -> Option<String> {
        self.seen().refused.take()
    }

    /// Returns whether a connection failed since this was last asked, or a request that ended a transaction was not answered.
    pub fn troubled(&self) -> bool {
        let mut seen = self.seen();
        std::mem::take(&mut seen.unanswered) | seen.last.take().is_some()
    }

    /// Returns how much was told so far.
    fn told(&self) -> u64 {
        self.seen().told
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
        let mut seen = self.seen();
        seen.told += 1;
        seen.unanswered |= message.contains(NO_ANSWER);
        drop(seen);
        Library { facility, message }.log();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut seen = self.seen();
        seen.told += 1;
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

impl ConsumerContext for Watcher {
    fn commit_callback(&self, result: Result<(), KafkaError>, _: &TopicPartitionList) {
        self.seen().committed = Some(result);
    }
}

impl ProducerContext for Watcher {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut seen = self.seen();
        seen.told += 1;
        if let Err((error, _)) = result {
            seen.undelivered.get_or_insert_with(|| error.clone());
        }
    }
}

/// A producer of ours.
pub(crate) type Writer = BaseProducer<Watcher>;

/// Takes what a producer has to say: deliveries, errors, what librdkafka logs. A poll without time hands over one event and does not
/// tell whether there was one.
pub(crate) fn hear(producer: &Writer) {
    loop {
        let before = producer.context().told();
        producer.poll(Duration::ZERO);
        if producer.context().told() == before {
            return;
        }
    }
}

/// Waits a little for what a producer has to say. Not by a poll with a time, which does not end with the first event and looks without
/// a pause for the last millisecond of it.
pub(crate) fn await_word(producer: &Writer) {
    const LITTLE: Duration = Duration::from_micros(250);
    std::thread::sleep(LITTLE);
    hear(producer);
}

/// A consumer of ours: it is given partitions, and never joins a group.
pub(crate) type Reader = BaseConsumer<Watcher>;

/// For clients that read to where a partition ends now, and no further: a broker that has nothing more says so soon.
pub(crate) const LOOKING: &[(&str, &str)] = &[("fetch.wait.max.ms", "10")];

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
        self.within(PATIENCE, what, client, call)
    }

    /// Makes a call, and makes it again while the cluster does not answer, for so long.
    pub(crate) fn within<T>(
        &self,
        patience: Duration,
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
                Err(error) if verdict(&error) == Verdict::Retry && pause.spent() < patience => {
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
pub(crate) fn listen(client: &Reader) {
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
    /// When it was said last that a failure lasts.
    told: Option<Instant>,
}

impl Pause {
    pub fn new() -> Pause {
        Pause { begun: now(), next: PAUSE_FIRST, tries: 0, told: None }
    }

    /// Returns for how long it has been tried.
    pub fn spent(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits before `what` is tried again.
    pub fn wait(&mut self, what: &str, reason: &str) {
        self.tries += 1;
        // A try may take half a minute, or a moment.
        let aloud = match self.told {
            None => self.tries >= TRIES_SILENT || self.spent() >= SILENT,
            Some(told) => told.elapsed() >= TOLD_EVERY,
        };
        if aloud {
            self.told = Some(now());
        }
        Repeated { what, tries: self.tries, spent: self.spent(), reason, aloud }.log();
        std::thread::sleep(self.next);
        self.next = (self.next * 2).min(PAUSE_LAST);
    }
}

/// Returns the wall clock, in milliseconds since the epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "brokers compare the time of a record with their clock; it reaches no row"
)]
pub(crate) fn now_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the present moment.
#[expect(clippy::disallowed_methods, reason = "how long a cluster is waited for reaches no output")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
