//! The progress topic of a sink: its tokens, in the same transactions as its rows.
//!
//! One compacted topic of one partition per job and sink, `riverrun.progress.<job>.<sink>`: a transaction that another sink left
//! open does not hold back what is read here. A key is a lane, a value its last [`TokenRecord`].

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use riverrun_dataflow::sink::{Claim, SinkError, Token};
use serde::{Deserialize, Serialize};

use super::address::Cluster;
use super::admin::{TopicSettings, ensure, true_end};
use super::client::{CALL, LOOKING, PATIENCE, Pause, Reader, Sees, partition_name};
use super::error::{KafkaFault, Verdict, verdict};

/// Time in which a transaction that its process left behind is ended by the brokers.
pub(crate) const ABANDONED: Duration = Duration::from_secs(60);

/// A token as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub incarnation: String,
    /// The generation that holds the lane since this token.
    pub generation: u64,
    /// Every row of every tick up to this one is in the topic; 0 if only the lane was opened.
    pub tick: u64,
    /// The generation that committed `tick`.
    pub committed_by: u64,
    /// How many rows the transaction holds, and a checksum of their bytes: for people who look for one.
    pub rows: u64,
    pub xxh3: String,
}

impl TokenRecord {
    /// Returns the token as the engine knows it, if anything was committed.
    pub fn token(&self) -> Option<Token> {
        (self.tick > 0).then(|| Token {
            incarnation: self.incarnation.clone(),
            generation: self.committed_by,
            tick: self.tick,
        })
    }

    /// Returns the token with which `claim` holds a lane from now on, or why it may not. `known`: the last one there;
    /// `records`: whether the lane's partition holds any.
    pub fn admit(
        known: Option<&TokenRecord>,
        claim: &Claim,
        what: &str,
        records: bool,
    ) -> Result<TokenRecord, SinkError> {
        let mut own = TokenRecord {
            incarnation: claim.incarnation.clone(),
            generation: claim.generation,
            tick: 0,
            committed_by: 0,
            rows: 0,
            xxh3: String::new(),
        };
        if let Some(known) = known.filter(|known| known.incarnation == claim.incarnation) {
            known.holds(claim, what)?;
            own.tick = known.tick;
            own.committed_by = known.committed_by;
            return Ok(own);
        }
        if !records || claim.append {
            return Ok(own);
        }
        let by = if known.is_some() {
            format!("; job `{}` wrote to it before it was started afresh", claim.job)
        } else {
            String::new()
        };
        Err(SinkError::Refused(format!(
            "{what} already holds records that are not from this run of job `{}`{by}\n\
             hint: add to them with `--append`, delete the topic first, or name another topic",
            claim.job
        )))
    }

    /// Fails if the lane belongs to somebody else by now.
    pub fn holds(&self, claim: &Claim, what: &str) -> Result<(), SinkError> {
        if self.incarnation == claim.incarnation && self.generation <= claim.generation {
            return Ok(());
        }
        let by = match self.incarnation == claim.incarnation {
            true => format!(
                "generation {} of job `{}`; this is generation {}",
                self.generation, claim.job, claim.generation
            ),
            false => format!("a run of job `{}` that was started afresh", claim.job),
        };
        Err(SinkError::Fenced(format!(
            "{what} is held by {by}\nhint: let the one run that was started elsewhere; if there is none, the state is an older copy: bring back the \
             newer one, or start over with --fresh"
        )))
    }
}

/// The progress topic of one sink.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    cluster: Cluster,
    pub topic: String,
    group: String,
}

impl Progress {
    /// Returns the progress topic of a sink, which is made if there is none, as safe as the topic of its rows.
    pub fn open(
        cluster: &Cluster,
        client: &Reader,
        claim: &Claim,
        rows: &TopicSettings,
    ) -> Result<Progress, KafkaFault> {
        // The name of a replay's job has an `@`, which no topic may have; no job has a `_`.
        let topic = format!("riverrun.progress.{}.{}", claim.job.replace('@', "_"), claim.sink);
        // A start reads all of it, and each commit adds a token. Brokers compact only what is not written to any more, so that has to
        // end soon: after some ten thousand commits, or an hour.
        let mut settings = vec![("cleanup.policy", "compact"), ("segment.bytes", "4194304"), ("segment.ms", "3600000")];
        settings.extend(rows.min_insync.as_deref().map(|least| ("min.insync.replicas", least)));
        ensure(cluster, client, &topic, 1, rows.replicas, &settings)?;
        Ok(Progress { cluster: cluster.clone(), topic, group: format!("riverrun.{}", claim.job) })
    }

    /// Returns the last token of each lane. Asked after the lanes' producers were initialised, it misses none of theirs: all
    /// that was written before this call is waited for, and an abandoned transaction ends by itself.
    pub fn read(&self) -> Result<BTreeMap<u32, TokenRecord>, KafkaFault> {
        let all = self.cluster.consumer(&self.group, Sees::All, LOOKING)?;
        let end = true_end(&self.cluster, &all, &self.topic, 0)?;
        let committed = self.cluster.consumer(&self.group, Sees::Committed, LOOKING)?;
        let what = partition_name(&self.topic, 0);
        let mut pause = Pause::new();
        // Only what lies before the first open transaction can be read.
        while true_end(&self.cluster, &committed, &self.topic, 0)? < end {
            if pause.spent() > ABANDONED + PATIENCE {
                let reason = format!("{what}: a transaction in it stays open for longer than brokers let it");
                return Err(KafkaFault::Cluster { cluster: self.cluster.to_string(), reason });
            }
            pause.wait(&what, "a transaction in it is still open");
        }
        self.collect(&committed, &what)
    }

    fn collect(&self, client: &Reader, what: &str) -> Result<BTreeMap<u32, TokenRecord>, KafkaFault> {
        let fault = |error: &KafkaError| self.cluster.fault(what, client.context(), error);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Beginning).map_err(|error| fault(&error))?;
        client.assign(&list).map_err(|error| fault(&error))?;
        let mut tokens = BTreeMap::new();
        let mut pause = Pause::new();
        loop {
            match client.poll(CALL) {
                Some(Ok(message)) => {
                    let (Some(key), Some(value)) = (message.key(), message.payload()) else { continue };
                    let lane = std::str::from_utf8(key).ok().and_then(|key| key.parse().ok());
                    let token = serde_json::from_slice::<TokenRecord>(value);
                    let (Some(lane), Ok(token)) = (lane, token) else {
                        let reason = format!("the record at offset {} is no token of this version", message.offset());
                        return Err(KafkaFault::Topic { what: what.to_owned(), reason });
                    };
                    tokens.insert(lane, token);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(tokens),
                Some(Err(error)) if verdict(&error) == Verdict::Fatal => return Err(fault(&error)),
                Some(Err(_)) => {}
                None if pause.spent() > PATIENCE => {
                    let reason = format!("{what} does not answer");
                    return Err(KafkaFault::Cluster { cluster: self.cluster.to_string(), reason });
                }
                None => pause.wait(what, "it cannot be read"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(incarnation: &str, generation: u64, append: bool) -> Claim {
        let (job, sink) = ("job".to_owned(), "sink".to_owned());
        Claim { job, sink, incarnation: incarnation.to_owned(), generation, fresh: false, append }
    }

    fn token(incarnation: &str, generation: u64, tick: u64) -> TokenRecord {
        let incarnation = incarnation.to_owned();
        TokenRecord { incarnation, generation, tick, committed_by: generation, rows: 0, xxh3: String::new() }
    }

    #[test]
    fn a_lane_is_held_by_its_newest_generation() {
        let known = token("a", 3, 40);
        let own = TokenRecord::admit(Some(&known), &claim("a", 4, false), "p", true).unwrap();
        assert_eq!((own.generation, own.tick, own.committed_by), (4, 40, 3));
        assert_eq!(own.token().unwrap().generation, 3);
        // The same generation comes again after its producer was replaced.
        assert!(TokenRecord::admit(Some(&known), &claim("a", 3, false), "p", true).is_ok());
        let zombie = TokenRecord::admit(Some(&known), &claim("a", 2, false), "p", true);
        assert!(matches!(zombie, Err(SinkError::Fenced(_))));
        assert!(matches!(known.holds(&claim("b", 9, false), "p"), Err(SinkError::Fenced(_))));
    }

    #[test]
    fn records_of_others_are_added_to_only_if_so_said() {
        let foreign = token("before", 7, 9);
        for known in [None, Some(&foreign)] {
            assert!(matches!(TokenRecord::admit(known, &claim("a", 1, false), "p", true), Err(SinkError::Refused(_))));
            let own = TokenRecord::admit(known, &claim("a", 1, true), "p", true).unwrap();
            assert_eq!(own.token(), None);
            assert!(TokenRecord::admit(known, &claim("a", 1, false), "p", false).is_ok());
        }
    }

    #[test]
    fn a_token_comes_back_from_its_text() {
        let token = token("a", 3, 40);
        let text = serde_json::to_string(&token).unwrap();
        assert_eq!(serde_json::from_str::<TokenRecord>(&text).unwrap(), token);
    }
}
