//! A topic as the sink of a job: a lane per partition, a token in the same append as the rows.

use std::path::{Path, PathBuf};

use riverrun_dataflow::sink::{Claim, Lane, Sink, SinkError, TickRows, Token};
use riverrun_dataflow::tick::Tick;

use super::error::TopicError;
use super::frame::{Kind, Record};
use super::token::TokenRecord;
use super::writer::Writer;
use super::{CreateOptions, Topic};

/// Writes a topic, exactly once. The topic is created when its first lane is opened.
#[derive(Clone, Debug)]
pub struct TopicSink {
    dir: PathBuf,
    name: String,
    partitions: Option<u32>,
    like: Option<String>,
}

impl TopicSink {
    /// Returns the sink of the topic `name` in the folder `dir`. `partitions`: how many the topic is to have; a topic that
    /// exists must have as many. Without, a topic is created with one.
    pub fn new(dir: impl AsRef<Path>, name: impl Into<String>, partitions: Option<u32>) -> TopicSink {
        TopicSink { dir: dir.as_ref().to_path_buf(), name: name.into(), partitions, like: None }
    }

    /// Returns the sink with a topic to be like: if it has to be made and nobody says otherwise, it gets as many partitions.
    pub fn like(self, topic: Option<String>) -> TopicSink {
        TopicSink { like: topic, ..self }
    }

    fn options(&self) -> CreateOptions {
        let options = CreateOptions::default();
        let alike = || Some(Topic::open(&self.dir, self.like.as_ref()?).ok()?.partitions());
        CreateOptions { partitions: self.partitions.or_else(alike).unwrap_or(options.partitions), ..options }
    }

    fn check(&self, topic: &Topic) -> Result<(), SinkError> {
        match self.partitions {
            Some(wanted) if wanted != topic.partitions() => Err(SinkError::Refused(format!(
                "topic `{}` has {} partitions, but {wanted} lanes are asked for\n\
                 hint: the number of partitions never changes; ask for as many lanes, or name another topic",
                self.name,
                topic.partitions()
            ))),
            _ => Ok(()),
        }
    }
}

impl Sink for TopicSink {
    fn lanes(&self) -> Result<u32, SinkError> {
        match Topic::open(&self.dir, &self.name) {
            Ok(topic) => {
                self.check(&topic)?;
                Ok(topic.partitions())
            }
            Err(TopicError::Missing { .. }) => Ok(self.options().partitions),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, lane: u32, claim: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError> {
        let topic = Topic::open_or_create(&self.dir, &self.name, &self.options())?;
        self.check(&topic)?;
        if lane >= topic.partitions() {
            let reason = format!("topic `{}` has no partition {lane}: it has {}", self.name, topic.partitions());
            return Err(SinkError::Refused(reason));
        }
        let holder = format!("job `{}`, sink `{}`, generation {}", claim.job, claim.sink, claim.generation);
        let writer = Writer::open(&topic, lane, &holder)?;
        let (lane, token) = TopicLane::take(writer, &topic.partition_name(lane), lane, claim)?;
        Ok((Box::new(lane), token))
    }
}

/// One partition, held by a job.
#[derive(Debug)]
pub(crate) struct TopicLane {
    writer: Writer,
    /// The token of the last commit.
    token: TokenRecord,
}

impl TopicLane {
    /// Takes a partition for `claim`, if it may have it.
    pub fn take(
        mut writer: Writer,
        what: &str,
        lane: u32,
        claim: &Claim,
    ) -> Result<(TopicLane, Option<Token>), SinkError> {
        let token = writer.owners().admit(claim, lane, what, writer.next())?;
        let last = token.token();
        // Says durably who holds the partition from now on: an earlier generation that comes back is turned away, and a job
        // that was once let in stays in.
        if !writer.owners().knows(&token) {
            writer.commit(token.clone())?;
        }
        Ok((TopicLane { writer, token }, last))
    }
}

impl Lane for TopicLane {
    fn commit(&mut self, upto: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        assert!(upto > self.token.tick, "ticks are committed once, in order");
        for tick in ticks {
            for index in 0..tick.rows.len() {
                let (key, value) = tick.rows.key_value(index);
                self.writer.append(Kind::Rows, &Record { timestamp: tick.times[index], key, value })?;
            }
        }
        self.token.tick = upto;
        self.token.committed_by = self.token.generation;
        Ok(self.writer.commit(self.token.clone())?)
    }
}
