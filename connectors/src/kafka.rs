//! Apache Kafka: topics of a cluster as sources and sinks of a job.
//!
//! **Order.** A split is a partition, a position is an offset. Records come in the order of their offsets; numbers that are no
//! records (marks of transactions, what compaction removed) are gaps, which no row and no count shows.
//!
//! **Delivery.** Only what is committed is read (`read_committed`). Positions live in the job's log, never in a consumer group.
//! A sink writes each commit as one short transaction of rows and a token (see [`sink`](KafkaSink)): a reader with
//! `isolation.level=read_committed` sees each row once, in the order of its lane.
//!
//! **A restart** reads the recorded ranges again and compares their checksum; a partition that no longer has them stops the job.
//!
//! **Of the other side** it needs brokers that speak transactions (0.11 and later), topics that are there to be read, and
//! retention that reaches back to the oldest checkpoint. A cluster that cannot be reached is waited for.
//!
//! Everything that knows librdkafka is in this folder.

mod address;
mod admin;
mod client;
mod drain;
mod ends;
mod error;
mod events;
mod lane;
mod outlook;
mod produce;
mod progress;
mod sink;
mod source;
mod split;
mod tail;
pub(crate) mod wire;

pub use address::{AddressError, Cluster};
pub use admin::{TopicInfo, create, list};
pub use drain::{Drained, drain};
pub use error::KafkaFault;
pub use produce::KafkaProducer;
pub use sink::{Delivery, KafkaSink, KafkaSinkConfig};
pub use source::{KafkaSource, KafkaSourceConfig, Manners, OnLost, OnMissing};
pub use tail::{KafkaRecord, KafkaTail, TailFrom};
