//! One partition, written by a job.
//!
//! ```text
//! take_producer (fences, ends what was left open) -> token read -> claim -> commit*
//! commit: begin, rows, token, flush, end. Whatever ends otherwise than well and soon costs the producer:
//!   a new one is initialised, the token is read, and the same rows are written again if they are not out.
//! ```
//! Why so strict: the request that ends a transaction carries no number of that transaction, so one that is delayed on the way
//! can end the next transaction of the same producer. A producer that was replaced has another epoch, and cannot.

use std::sync::{Arc, Once};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use riverrun_dataflow::sink::{Claim, Lane, SinkError, Surround, TickRows, Token};
use riverrun_dataflow::tick::Tick;
use xxhash_rust::xxh3::Xxh3Default;

use super::address::Cluster;
use super::admin::TopicSettings;
use super::client::{CALL, PATIENCE, Pause, Writer, await_word, hear, now, now_millis, partition_name};
use super::error::{KafkaFault, Verdict, said, verdict};
use super::events::{TooLarge, TooOld};
use super::progress::{ABANDONED, Progress, TokenRecord};

/// A commit that took longer may have been sent twice: its producer is replaced.
const SLOW: Duration = Duration::from_secs(2);
/// How long a producer may take to be initialised before it is asked again: a transaction that it left open is ended first.
const INITIALISE: Duration = Duration::from_secs(10);
/// How long it may take in all: coordinators of a cluster that starts take their time.
const INITIALISED_WITHIN: Duration = Duration::from_secs(90);
/// Rows and bytes of one transaction, beyond which a commit is split between ticks.
const ROWS_MAX: usize = 50_000;
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// What surrounds a record on its way, at most, if it has no headers.
const AROUND: usize = 256;
/// Of a row that is too large so much is kept.
const KEPT_MAX: usize = 64 * 1024;
/// How far ahead of the clock the time of a record may be: brokers refuse what is further ahead than an hour.
const AHEAD_MS: i64 = 30 * 60 * 1000;
/// How far our clock may be off that of the brokers, where a topic says which times it takes.
const SKEW_MS: i64 = 60 * 1000;

/// What the lanes of a sink have in common.
pub(crate) struct Place {
    pub cluster: Cluster,
    pub topic: String,
    pub claim: Claim,
    pub settings: TopicSettings,
    pub dead_letters: Option<DeadLetters>,
    /// Said once that brokers will delete what is written.
    pub told_old: Once,
}

/// Where rows go that are too large.
pub(crate) struct DeadLetters {
    pub topic: String,
    pub partitions: u32,
}

/// How a try to commit failed.
enum Failed {
    /// Nothing was committed, and the producer can go on.
    Aborted(String),
    /// Nobody knows whether it was committed.
    Unknown(String),
    /// Another producer of the same name was initialised.
    Fenced(String),
    /// A person must act.
    Fatal(SinkError),
}

impl Place {
    /// Returns a producer. `lane`: whose transactions it writes, if it writes any.
    fn producer(&self, lane: Option<u32>) -> Result<Writer, SinkError> {
        let mut config = self.cluster.config();
        config
            .set("enable.idempotence", "true")
            .set("message.max.bytes", self.settings.message_bytes.clamp(1000, 1_000_000_000).to_string())
            .set("statistics.interval.ms", "0");
        // All rows of a commit are there at once: nothing is gained by lingering, in whose last millisecond librdkafka keeps a core busy.
        for (name, value) in [("linger.ms", "0"), ("queue.buffering.max.messages", "500000")] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        if let Some(lane) = lane {
            let Claim { job, sink, .. } = &self.claim;
            config.set("transactional.id", format!("{job}.{sink}.{lane}"));
            config.set("transaction.timeout.ms", ABANDONED.as_millis().to_string());
            // It tells of requests that were not answered only there.
            let debug = config.get("debug").map_or("eos".to_owned(), |debug| format!("{debug},eos"));
            config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
        }
        Ok(self.cluster.client(&config)?)
    }

    /// Hands the rows of some ticks to a producer, and returns how many there are and their checksum.
    fn send_rows(&self, producer: &Writer, lane: u32, ticks: &[TickRows]) -> Result<(u64, u64), Failed> {
        let (mut count, mut hash) = (0, Xxh3Default::new());
        let partition = i32::try_from(lane).expect("partitions are few");
        let (now_ms, (before_ms, after_ms)) = (now_millis(), self.settings.times_ms);
        let taken = now_ms.saturating_sub(before_ms.saturating_sub(SKEW_MS)).max(1)
            ..now_ms.saturating_add(after_ms.saturating_sub(SKEW_MS).clamp(0, AHEAD_MS));
        for tick in ticks {
            hash.update(&tick.rows.bytes);
            for index in 0..tick.rows.len() {
                count += 1;
                let ((key, value), surround) = (tick.rows.key_value(index), tick.rows.surround(index));
                let headers = headers_of(surround);
                let bytes = tick.rows.row(index).len();
                if key.is_none() && self.settings.is_compacted {
                    return Err(Failed::Fatal(self.keyless()));
                }
                if bytes + AROUND > self.settings.message_bytes {
                    self.bury(producer, lane, tick.tick, (key, value))?;
                    continue;
                }
                let mut record = BaseRecord::to(&self.topic).partition(partition);
                (record.key, record.headers) = (key, headers);
                record.payload = (!surround.is_tombstone()).then_some(value);
                record.timestamp = Some(tick.times[index].div_euclid(1000)).filter(|time| taken.contains(time));
                if record.timestamp.is_some_and(|time| self.is_old(time, now_ms)) {
                    self.tell_old();
                }
                send(producer, record)?;
            }
        }
        Ok((count, hash.digest()))
    }

    /// Returns whether a record of this time is one that the topic does not keep.
    fn is_old(&self, time_ms: i64, now_ms: i64) -> bool {
        self.settings.retention_ms.is_some_and(|retention| time_ms < now_ms.saturating_sub(retention))
    }

    fn keyless(&self) -> SinkError {
        SinkError::Refused(format!(
            "topic `{}` is compacted, and brokers take no record without a key for it\n\
             hint: say by which columns a row is known, `key: [COLUMN]`, or write to a topic with `cleanup.policy=delete`; nothing is lost, \
             the job goes on from here",
            self.topic
        ))
    }

    fn tell_old(&self) {
        let retention_ms = self.settings.retention_ms.unwrap_or(i64::MAX);
        self.told_old.call_once(|| TooOld { topic: &self.topic, retention_ms }.log());
    }

    /// Sends a row that is too large to the dead letters, cut, with what is to be known of it in its headers.
    fn bury(
        &self,
        producer: &Writer,
        lane: u32,
        tick: Tick,
        (key, value): (Option<&[u8]>, &[u8]),
    ) -> Result<(), Failed> {
        let (bytes, limit) = (key.map_or(0, <[u8]>::len) + value.len(), self.settings.message_bytes);
        let Some(dead) = &self.dead_letters else {
            return Err(Failed::Fatal(SinkError::Refused(format!(
                "a row of {bytes} bytes (tick {tick}) is too large for topic `{}`, which takes {limit}\n\
                 hint: raise `max.message.bytes` of the topic, or name a topic for such rows: `dead_letters: NAME`; nothing is lost, \
                 the job goes on from here",
                self.topic
            ))));
        };
        TooLarge { topic: &self.topic, dead_letters: &dead.topic, bytes, limit }.log();
        let numbers = [lane.to_string(), tick.to_string(), value.len().to_string()];
        let said: [(&str, &str); 7] = [
            ("riverrun.code", "too_large"),
            ("riverrun.reason", "the row is larger than its topic takes"),
            ("riverrun.job", self.claim.job.as_str()),
            ("riverrun.sink", self.claim.sink.as_str()),
            ("riverrun.lane", numbers[0].as_str()),
            ("riverrun.tick", numbers[1].as_str()),
            ("riverrun.length", numbers[2].as_str()),
        ];
        let headers = said
            .iter()
            .fold(OwnedHeaders::new(), |headers, &(key, value)| headers.insert(Header { key, value: Some(value) }));
        let kept = &value[..value.len().min(KEPT_MAX).min(limit / 2)];
        let partition = i32::try_from(lane % dead.partitions.max(1)).expect("partitions are few");
        let mut record = BaseRecord::to(&dead.topic).payload(kept).partition(partition).headers(headers);
        record.key = key.filter(|key| key.len() < limit / 4);
        send(producer, record)
    }
}

/// Returns the headers of a row, if it has some.
fn headers_of(surround: Surround<'_>) -> Option<OwnedHeaders> {
    surround.headers().fold(None, |headers: Option<OwnedHeaders>, (key, value)| {
        Some(headers.unwrap_or_default().insert(Header { key, value }))
    })
}

/// Hands a record to a producer; waits while its queue is full.
fn send(producer: &Writer, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), Failed> {
    let begun = now();
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                if begun.elapsed() > CALL {
                    return Err(Failed::Unknown("records wait, but no broker takes them".to_owned()));
                }
                await_word(producer);
                record = back;
            }
            Err((error, _)) => return Err(failed(&error)),
        }
    }
}

/// Waits until all records are delivered.
fn flush(producer: &Writer) -> Result<(), Failed> {
    let begun = now();
    hear(producer);
    while producer.in_flight_count() > 0 {
        // Not `flush`, which looks every 100 ms only.
        await_word(producer);
        if begun.elapsed() > CALL {
            return Err(Failed::Unknown("no broker took the records in time".to_owned()));
        }
    }
    producer.context().undelivered().map_or(Ok(()), |error| Err(failed(&error)))
}

/// Returns whether a request to a broker was not answered since this was last asked, and may come to it later. A connection that
/// breaks is no error to librdkafka: it sends the request that ends a transaction again by itself, and says so only if asked to.
fn is_doubtful(producer: &Writer) -> bool {
    hear(producer);
    producer.context().troubled()
}

/// Returns how a try failed, before its end was asked for.
fn failed(error: &KafkaError) -> Failed {
    use RDKafkaErrorCode as Code;
    let reason = said(error);
    match error.rdkafka_error_code() {
        Some(Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced) => Failed::Fenced(reason),
        Some(Code::MessageSizeTooLarge) => Failed::Fatal(SinkError::Write {
            what: "the topic".into(),
            reason: format!("{reason}: it takes less than it did when the job began\nhint: start the job again"),
        }),
        Some(code @ (Code::InvalidRecord | Code::InvalidTimestamp | Code::MessageBatchTooLarge)) => {
            Failed::Fatal(SinkError::Refused(format!(
                "brokers do not take a row: {reason} ({code:?})\n\
                 hint: see `cleanup.policy`, `message.timestamp.*` and `segment.bytes` of the topic, then start the job again; nothing is lost"
            )))
        }
        _ if verdict(error) == Verdict::Fatal => Failed::Fatal(SinkError::Write { what: "the topic".into(), reason }),
        _ => Failed::Unknown(reason),
    }
}

/// Returns what a fault is to a job that runs: what no broker mends by itself is not waited for.
fn lasting(fault: KafkaFault) -> SinkError {
    match fault {
        KafkaFault::Topic { .. } => SinkError::Refused(fault.to_string()),
        other => other.into(),
    }
}

/// One partition, held by a job, written in transactions.
pub(crate) struct KafkaLane {
    place: Arc<Place>,
    progress: Arc<Progress>,
    lane: u32,
    /// `None`: one must be initialised, and the token read, before anything is written.
    producer: Option<Writer>,
    /// The token of the last commit.
    token: TokenRecord,
    /// The progress topic says that this generation holds the lane.
    claimed: bool,
}

impl KafkaLane {
    /// Returns a lane that has no producer yet.
    pub fn new(place: Arc<Place>, progress: Arc<Progress>, lane: u32) -> KafkaLane {
        let Claim { incarnation, generation, .. } = place.claim.clone();
        let token = TokenRecord { incarnation, generation, tick: 0, committed_by: 0, rows: 0, xxh3: String::new() };
        KafkaLane { place, progress, lane, producer: None, token, claimed: false }
    }

    /// Returns its number.
    pub fn number(&self) -> u32 {
        self.lane
    }

    /// Returns its token as the engine knows it.
    pub fn token(&self) -> Option<Token> {
        self.token.token()
    }

    /// Holds the lane from now on.
    pub fn hold(&mut self, token: TokenRecord) {
        self.token = token;
    }

    fn name(&self) -> String {
        partition_name(&self.place.topic, i32::try_from(self.lane).expect("partitions are few"))
    }

    /// Initialises a producer: an older one of the same name is kept out from now on, and what it left open is ended.
    pub fn take_producer(&mut self) -> Result<(), SinkError> {
        let producer = self.place.producer(Some(self.lane))?;
        let mut pause = Pause::new();
        loop {
            hear(&producer);
            match producer.init_transactions(INITIALISE) {
                Ok(()) => {
                    self.producer = Some(producer);
                    return Ok(());
                }
                Err(error) if verdict(&error) == Verdict::Retry && pause.spent() < INITIALISED_WITHIN => {
                    pause.wait(&self.name(), &said(&error));
                }
                Err(error) => {
                    return Err(lasting(self.place.cluster.fault(&self.name(), producer.context(), &error)));
                }
            }
        }
    }

    /// Says in the progress topic who holds the lane.
    pub fn claim(&mut self) -> Result<(), SinkError> {
        let token = self.token.clone();
        self.surely(token, &[])?;
        self.claimed = true;
        Ok(())
    }

    /// Commits some ticks and a token, once, however often that must be tried.
    fn surely(&mut self, token: TokenRecord, ticks: &[TickRows]) -> Result<(), SinkError> {
        let mut pause = Pause::new();
        loop {
            if self.producer.is_none() && self.is_out(&token)? {
                return Ok(());
            }
            let producer = self.producer.take().expect("it was just made");
            let reason = match self.attempt(&producer, &token, ticks) {
                Ok(keep) => {
                    self.producer = keep.then_some(producer);
                    self.token = token;
                    return Ok(());
                }
                Err(Failed::Aborted(reason)) => {
                    self.producer = Some(producer);
                    reason
                }
                Err(Failed::Unknown(reason)) => reason,
                Err(Failed::Fenced(reason)) => {
                    // Whoever did that says so in the progress topic; who is the later one there goes on.
                    if let Err(error @ (SinkError::Fenced(_) | SinkError::Refused(_))) = self.still_ours() {
                        return Err(error);
                    }
                    reason
                }
                Err(Failed::Fatal(error)) => return Err(error),
            };
            pause.wait(&self.name(), &reason);
        }
    }

    /// Replaces the producer, and returns whether what `token` stands for is out already.
    fn is_out(&mut self, token: &TokenRecord) -> Result<bool, SinkError> {
        let (mut pause, mut refused) = (Pause::new(), None);
        loop {
            let asked = self.take_producer().and_then(|()| self.still_ours());
            match asked {
                // A job that runs waits for its cluster for as long as it takes.
                Err(SinkError::Write { reason, .. }) => {
                    refused = None;
                    pause.wait(&self.name(), &reason);
                }
                // Brokers that have just come back hear one after the other what there is, and who may write it.
                Err(SinkError::Refused(reason)) if refused.get_or_insert_with(now).elapsed() < PATIENCE => {
                    pause.wait(&self.name(), &reason);
                }
                Err(error) => return Err(error),
                Ok(known) => {
                    let same = |known: &TokenRecord| {
                        (&known.incarnation, known.generation) == (&token.incarnation, token.generation)
                    };
                    let out = known.is_some_and(|known| same(&known) && known.tick >= token.tick);
                    if out {
                        self.token = token.clone();
                    }
                    return Ok(out);
                }
            }
        }
    }

    /// Returns the lane's token as it is stored, unless the lane belongs to somebody else by now.
    fn still_ours(&self) -> Result<Option<TokenRecord>, SinkError> {
        let known = self.progress.read().map_err(lasting)?.remove(&self.lane);
        if let Some(known) = &known
            // Before it was claimed, what a former incarnation left there says nothing.
            && (known.incarnation == self.place.claim.incarnation || self.claimed)
        {
            known.holds(&self.place.claim, &self.name())?;
        }
        Ok(known)
    }

    /// Tries once; returns whether the producer may be used again.
    fn attempt(&self, producer: &Writer, token: &TokenRecord, ticks: &[TickRows]) -> Result<bool, Failed> {
        producer.begin_transaction().map_err(|error| failed(&error))?;
        let written = self.write(producer, token, ticks);
        if let Err(reason) = written {
            return Err(self.give_up(producer, reason));
        }
        let begun = now();
        match producer.commit_transaction(CALL) {
            Ok(()) => Ok(begun.elapsed() < SLOW && !is_doubtful(producer)),
            Err(error) => {
                let aborts = matches!(&error, KafkaError::Transaction(error) if error.txn_requires_abort());
                match failed(&error) {
                    Failed::Unknown(reason) if aborts => Err(self.give_up(producer, Failed::Aborted(reason))),
                    other => Err(other),
                }
            }
        }
    }

    fn write(&self, producer: &Writer, token: &TokenRecord, ticks: &[TickRows]) -> Result<(), Failed> {
        let (rows, xxh3) = self.place.send_rows(producer, self.lane, ticks)?;
        let token = TokenRecord { rows, xxh3: format!("{xxh3:016x}"), ..token.clone() };
        let (key, value) = (self.lane.to_string(), serde_json::to_vec(&token).expect("a token is plain data"));
        let record = BaseRecord::to(&self.progress.topic).partition(0);
        send(producer, record.key(key.as_bytes()).payload(&value[..]))?;
        flush(producer)
    }

    /// Ends a transaction whose end was not asked for yet, if that is quickly done. Otherwise the producer must go, and the
    /// transaction with it.
    fn give_up(&self, producer: &Writer, reason: Failed) -> Failed {
        let begun = now();
        // With records under way an abort waits for answers that only this thread can take.
        while producer.in_flight_count() > 0 && begun.elapsed() < SLOW {
            await_word(producer);
        }
        let quiet = producer.in_flight_count() == 0;
        let aborted = quiet && producer.abort_transaction(CALL).is_ok() && !is_doubtful(producer);
        match reason {
            Failed::Aborted(said) | Failed::Unknown(said) if aborted => Failed::Aborted(said),
            Failed::Aborted(said) => Failed::Unknown(said),
            other => other,
        }
    }
}

impl Lane for KafkaLane {
    fn commit(&mut self, upto: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        assert!(upto > self.token.tick, "ticks are committed once, in order");
        for (last, part) in parts(upto, ticks) {
            let generation = self.place.claim.generation;
            let token = TokenRecord { tick: last, committed_by: generation, ..self.token.clone() };
            self.surely(token, part)?;
        }
        Ok(())
    }

    fn waits_outside(&self) -> bool {
        true
    }
}

/// Splits a commit into transactions of a bounded size, each of whole ticks, each with the tick up to which it goes.
fn parts(upto: Tick, ticks: &[TickRows]) -> Vec<(Tick, &[TickRows])> {
    let mut parts = Vec::new();
    let (mut begin, mut rows, mut bytes) = (0, 0, 0);
    for (index, tick) in ticks.iter().enumerate() {
        let (more_rows, more_bytes) = (tick.rows.len(), tick.rows.bytes.len());
        if index > begin && (rows + more_rows > ROWS_MAX || bytes + more_bytes > BYTES_MAX) {
            parts.push((ticks[index - 1].tick, &ticks[begin..index]));
            (begin, rows, bytes) = (index, 0, 0);
        }
        (rows, bytes) = (rows + more_rows, bytes + more_bytes);
    }
    parts.push((upto, &ticks[begin..]));
    parts
}

/// One partition, written without transactions.
pub(crate) struct PlainLane {
    place: Arc<Place>,
    lane: u32,
    producer: Writer,
}

impl PlainLane {
    /// Opens a lane.
    pub fn open(place: Arc<Place>, lane: u32) -> Result<PlainLane, SinkError> {
        let producer = place.producer(None)?;
        Ok(PlainLane { place, lane, producer })
    }
}

impl Lane for PlainLane {
    fn commit(&mut self, _: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        let mut pause = Pause::new();
        loop {
            let sent = self.place.send_rows(&self.producer, self.lane, ticks).and_then(|_| flush(&self.producer));
            let reason = match sent {
                Ok(()) => return Ok(()),
                Err(Failed::Fatal(error)) => return Err(error),
                Err(Failed::Aborted(reason) | Failed::Unknown(reason) | Failed::Fenced(reason)) => reason,
            };
            // Rows that were taken come again: that is what this delivery means.
            self.producer = self.place.producer(None)?;
            pause.wait(
                &partition_name(&self.place.topic, i32::try_from(self.lane).expect("partitions are few")),
                &reason,
            );
        }
    }

    fn waits_outside(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use riverrun_dataflow::sink::EncodedRows;

    use super::*;

    fn tick(tick: Tick, rows: usize, bytes: usize) -> TickRows {
        let mut encoded = EncodedRows { bytes: vec![0; bytes], ..EncodedRows::default() };
        encoded.ends = vec![0; rows];
        TickRows { tick, rows: encoded, times: vec![0; rows] }
    }

    fn cut(upto: Tick, ticks: &[TickRows]) -> Vec<(Tick, usize)> {
        parts(upto, ticks).into_iter().map(|(last, part)| (last, part.len())).collect()
    }

    #[test]
    fn a_commit_is_one_transaction_unless_it_is_large() {
        assert_eq!(cut(9, &[tick(3, 10, 10), tick(8, 10, 10)]), [(9, 2)]);
        assert_eq!(cut(9, &[tick(3, 30_000, 10), tick(8, 30_000, 10)]), [(3, 1), (9, 1)]);
        assert_eq!(cut(9, &[tick(3, 1, BYTES_MAX), tick(4, 1, 1), tick(8, 1, 1)]), [(3, 1), (9, 2)]);
        // A tick is never cut, and the last part goes up to where the commit does.
        assert_eq!(cut(9, &[tick(3, ROWS_MAX * 3, 1)]), [(9, 1)]);
        assert_eq!(cut(9, &[]), [(9, 0)]);
    }
}
