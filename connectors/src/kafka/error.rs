//! Every failure of a cluster, and what it is to a source or a sink.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use riverrun_dataflow::sink::SinkError;
use riverrun_dataflow::source::SourceError;

/// A topic of a cluster cannot be used as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KafkaFault {
    /// The cluster does not answer, or refuses.
    #[error("{cluster} cannot be used: {reason}")]
    Cluster {
        /// The cluster.
        cluster: String,
        /// What it said, with a hint where there is one.
        reason: String,
    },
    /// There is no such topic.
    #[error("topic `{topic}` does not exist at {cluster}\nhint: create it with `riverrun topic create {topic}`")]
    Missing {
        /// The topic.
        topic: String,
        /// The cluster.
        cluster: String,
    },
    /// There is such a topic already.
    #[error("topic `{topic}` exists already at {cluster}")]
    Exists {
        /// The topic.
        topic: String,
        /// The cluster.
        cluster: String,
    },
    /// A topic is not what it was, or what is asked for.
    #[error("{what} {reason}")]
    Changed {
        /// The topic or partition.
        what: String,
        /// How that was seen.
        reason: String,
    },
    /// Records that are still to be read are gone.
    #[error("{what} has no record {wanted} any more: it holds {first} to {next}")]
    Lost {
        /// The partition.
        what: String,
        /// The offset that is to be read.
        wanted: u64,
        /// The first offset that there is.
        first: u64,
        /// The offset after the last one.
        next: u64,
    },
    /// A topic whose records brokers replace.
    #[error("topic `{topic}` is compacted: {COMPACTED}")]
    Compacted {
        /// The topic.
        topic: String,
    },
    /// What a broker or librdkafka said of a topic.
    #[error("{what}: {reason}")]
    Topic {
        /// The topic or partition.
        what: String,
        /// What was said.
        reason: String,
    },
}

/// Why a compacted topic is no source unless somebody says so.
const COMPACTED: &str = "brokers delete records of it that have a successor, which a restart would have to read again\nhint: read a \
                         topic with `cleanup.policy=delete`, or say `allow_compacted: true` at the source: if what is to be read again \
                         after a crash was compacted meanwhile, the job then stops and says so";

impl From<KafkaFault> for SourceError {
    fn from(fault: KafkaFault) -> SourceError {
        match fault {
            KafkaFault::Changed { what, reason } => SourceError::Changed { what, reason },
            KafkaFault::Lost { what, wanted, first, next } => SourceError::Lost { what, wanted, first, next },
            KafkaFault::Cluster { cluster, reason } => SourceError::Read { what: cluster, reason },
            KafkaFault::Topic { what, reason } => SourceError::Read { what, reason },
            KafkaFault::Compacted { topic } => {
                SourceError::Read { what: format!("topic `{topic}`"), reason: format!("it is compacted: {COMPACTED}") }
            }
            KafkaFault::Missing { topic, cluster } => SourceError::Read {
                what: format!("topic `{topic}`"),
                reason: format!(
                    "it does not exist at {cluster}\nhint: create it with `riverrun topic create {topic}`, or name another one"
                ),
            },
            KafkaFault::Exists { topic, .. } => {
                SourceError::Read { what: format!("topic `{topic}`"), reason: "it exists already".into() }
            }
        }
    }
}

impl From<KafkaFault> for SinkError {
    fn from(fault: KafkaFault) -> SinkError {
        match fault {
            KafkaFault::Cluster { cluster, reason } => SinkError::Write { what: cluster, reason },
            KafkaFault::Topic { what, reason } => SinkError::Write { what, reason },
            other => SinkError::Refused(other.to_string()),
        }
    }
}

/// What can be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It did not happen, or may have: looking again helps.
    Retry,
    /// A person must act.
    Fatal,
}

/// Returns the code of an error, if it has one.
pub(crate) fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// Returns what can be done about an error of librdkafka.
pub(crate) fn verdict(error: &KafkaError) -> Verdict {
    use RDKafkaErrorCode as Code;
    match code_of(error) {
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::UnsupportedSASLMechanism
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::SSL
            | Code::InvalidTopic
            | Code::PolicyViolation
            | Code::InvalidReplicationFactor
            | Code::InvalidConfig
            | Code::InvalidArgument
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::TopicAlreadyExists,
        ) => Verdict::Fatal,
        Some(_) => Verdict::Retry,
        None => Verdict::Fatal,
    }
}

/// Returns whether the topic or partition is not there.
pub(crate) fn is_missing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code_of(error), Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition))
}

/// Returns what an error says to a person.
pub(crate) fn said(error: &KafkaError) -> String {
    match error {
        KafkaError::Transaction(inner) => inner.string(),
        other => code_of(other).map_or_else(|| other.to_string(), |code| code.to_string()),
    }
}
