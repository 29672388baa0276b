//! A topic as the sink of a job: a lane per partition, each commit a short transaction of rows and a token.
//!
//! A lane is the producer `<job>.<sink>.<lane>`. Initialising it ends what a former process left open and keeps that process out
//! from then on; only then are tokens read. Nothing depends on resuming a transaction of a dead process: rows that were not
//! committed are derived again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Once, PoisonError};

use riverrun_dataflow::sink::{Claim, Lane, Promise, Sink, SinkError, Token};

use super::address::Cluster;
use super::admin::{ensure, settings};
use super::client::{Reader, Sees, partition_name};
use super::error::KafkaFault;
use super::lane::{DeadLetters, KafkaLane, Place, PlainLane};
use super::progress::{Progress, TokenRecord};

/// What a sink promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Rows and token in one transaction.
    #[default]
    ExactlyOnce,
    /// No transactions: rows are seen at once by every reader, and may come again after a crash.
    AtLeastOnce,
}

/// What a sink writes, and how.
#[derive(Clone, Debug)]
pub struct KafkaSinkConfig {
    /// The cluster.
    pub cluster: Cluster,
    /// The topic.
    pub topic: String,
    /// How many partitions it is to have; a topic that exists must have as many. Without, a topic is created with one.
    pub partitions: Option<u32>,
    /// What is promised.
    pub delivery: Delivery,
    /// Where rows go that are too large for the topic; without, they stop the job.
    pub dead_letters: Option<String>,
}

/// Writes a topic of a cluster. The topic is created when its first lane is opened.
pub struct KafkaSink {
    config: KafkaSinkConfig,
    /// The topic that has as many partitions as this one gets, if nobody says.
    like: Option<String>,
    /// Lanes that were opened together with the first one, by number.
    ready: Mutex<BTreeMap<u32, (Option<Token>, KafkaLane)>>,
}

impl KafkaSink {
    /// Returns the sink of a topic.
    pub fn new(config: KafkaSinkConfig) -> KafkaSink {
        KafkaSink { config, like: None, ready: Mutex::default() }
    }

    /// Returns the sink with a topic to be like: if it has to be made and nobody says otherwise, it gets as many partitions.
    pub fn like(self, topic: Option<String>) -> KafkaSink {
        KafkaSink { like: topic, ..self }
    }

    /// Returns how many partitions the topic gets that is not there yet.
    fn partitions_if_new(&self, client: &Reader) -> u32 {
        let alike = || self.config.cluster.partitions(client, self.like.as_ref()?).ok();
        self.config.partitions.or_else(alike).unwrap_or(1)
    }

    fn client(&self) -> Result<Reader, KafkaFault> {
        self.config.cluster.consumer("riverrun.sink", Sees::Committed, &[])
    }

    fn check(&self, found: u32) -> Result<u32, SinkError> {
        match self.config.partitions {
            Some(wanted) if wanted != found => Err(SinkError::Refused(format!(
                "topic `{}` has {found} partitions, but `partitions` says {wanted}\n\
                 hint: say {found}, leave `partitions` out, or name another topic",
                self.config.topic
            ))),
            _ => Ok(found),
        }
    }

    /// Finds, or makes, what lanes write to.
    fn place(&self, client: &Reader, claim: &Claim) -> Result<(Arc<Place>, u32), SinkError> {
        let KafkaSinkConfig { cluster, topic, dead_letters, .. } = &self.config;
        let found = ensure(cluster, client, topic, self.partitions_if_new(client), -1, &[])?;
        self.check(found)?;
        let settings = settings(cluster, client, topic)?;
        let dead_letters = match dead_letters {
            Some(name) => {
                let partitions = ensure(cluster, client, name, 1, -1, &[])?;
                if super::admin::settings(cluster, client, name)?.is_compacted {
                    return Err(SinkError::Refused(format!(
                        "topic `{name}` for dead letters is compacted, and such rows may have no key\n\
                         hint: name a topic with `cleanup.policy=delete`"
                    )));
                }
                Some(DeadLetters { topic: name.clone(), partitions })
            }
            None => None,
        };
        let place = Place {
            cluster: cluster.clone(),
            topic: topic.clone(),
            claim: claim.clone(),
            dead_letters,
            settings,
            told_old: Once::new(),
        };
        Ok((Arc::new(place), found))
    }

    /// Opens all lanes at once. All producers are initialised before tokens are read: no transaction that a dead process left in
    /// one lane holds back the token of another.
    fn open_all(&self, claim: &Claim) -> Result<BTreeMap<u32, (Option<Token>, KafkaLane)>, SinkError> {
        let client = self.client()?;
        let (place, partitions) = self.place(&client, claim)?;
        let progress = Arc::new(Progress::open(&place.cluster, &client, claim, &place.settings)?);
        let lane = |lane| KafkaLane::new(place.clone(), progress.clone(), lane);
        let mut lanes: Vec<KafkaLane> = (0..partitions).map(lane).collect();
        all(&mut lanes, KafkaLane::take_producer)?;
        let tokens = progress.read()?;
        for lane in &mut lanes {
            let known = tokens.get(&lane.number());
            let partition = i32::try_from(lane.number()).expect("partitions are few");
            let (first, next) = place.cluster.bounds(&client, &place.topic, partition)?;
            let what = partition_name(&place.topic, partition);
            lane.hold(TokenRecord::admit(known, claim, &what, next > first)?);
        }
        // Says for good who holds the lanes from now on: an earlier generation that comes back is turned away, and a job that
        // was once let in stays in.
        all(&mut lanes, KafkaLane::claim)?;
        Ok(lanes
            .into_iter()
            .map(|lane| (lane.number(), lane))
            .map(|(number, lane)| (number, (lane.token(), lane)))
            .collect())
    }

    fn open_plain(&self, lane: u32, claim: &Claim) -> Result<PlainLane, SinkError> {
        let client = self.client()?;
        let (place, partitions) = self.place(&client, claim)?;
        match lane < partitions {
            true => PlainLane::open(place, lane),
            false => Err(self.no_lane(lane, partitions)),
        }
    }

    fn no_lane(&self, lane: u32, partitions: u32) -> SinkError {
        SinkError::Refused(format!(
            "topic `{}` has no partition {lane}: it has {partitions}, and had more when the job began\n\
                 hint: a job writes to the partitions that it began with; give the topic as many again, or start over with --fresh",
            self.config.topic
        ))
    }
}

/// Does the same for all lanes side by side: each waits for answers of its own.
fn all(lanes: &mut [KafkaLane], act: impl Fn(&mut KafkaLane) -> Result<(), SinkError> + Sync) -> Result<(), SinkError> {
    /// Lanes that are opened at the same time.
    const TOGETHER: usize = 16;
    let act = &act;
    for some in lanes.chunks_mut(TOGETHER) {
        let done: Vec<Result<(), SinkError>> = std::thread::scope(|scope| {
            let threads: Vec<_> = some.iter_mut().map(|lane| scope.spawn(move || act(lane))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a lane does not panic")).collect()
        });
        done.into_iter().collect::<Result<(), _>>()?;
    }
    Ok(())
}

impl Sink for KafkaSink {
    fn lanes(&self) -> Result<u32, SinkError> {
        let KafkaSinkConfig { cluster, topic, .. } = &self.config;
        let client = self.client()?;
        match cluster.partitions(&client, topic) {
            Ok(found) => self.check(found),
            Err(KafkaFault::Missing { .. }) => Ok(self.partitions_if_new(&client)),
            Err(fault) => Err(fault.into()),
        }
    }

    fn promise(&self) -> Promise {
        match self.config.delivery {
            Delivery::ExactlyOnce => Promise::ExactlyOnce,
            Delivery::AtLeastOnce => Promise::AtLeastOnce,
        }
    }

    fn open(&self, lane: u32, claim: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError> {
        if self.config.delivery == Delivery::AtLeastOnce {
            return Ok((Box::new(self.open_plain(lane, claim)?), None));
        }
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.is_empty() {
            *ready = self.open_all(claim)?;
        }
        let partitions = ready.keys().max().map_or(0, |last| last + 1);
        match ready.remove(&lane) {
            Some((token, opened)) => Ok((Box::new(opened), token)),
            None => Err(self.no_lane(lane, partitions)),
        }
    }
}
