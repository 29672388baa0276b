//! Tokens: what a job's sink leaves in a partition to say how far it came, and who may write after whom.

use riverrun_dataflow::sink::{Claim, SinkError, Token};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::frame::Header;

/// Tokens that are carried from segment to segment; the oldest owner is forgotten beyond.
const OWNERS_MAX: usize = 256;

/// A token as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub job: String,
    pub sink: String,
    pub lane: u32,
    pub incarnation: String,
    /// The generation that holds the lane since this token.
    pub generation: u64,
    /// Every row of every tick up to this one is in the partition; 0 if only the lane was opened.
    pub tick: u64,
    /// The generation that committed `tick`.
    pub committed_by: u64,
    /// Offset of the first row that this token lets count; those after it up to the token are the commit.
    pub from: u64,
    /// The frames of these rows: a token never lets other rows count than those it was written for.
    pub rows: Chain,
}

/// What the frames of one commit have in common with no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Chain(u64);

impl Chain {
    /// Adds the next frame.
    pub fn add(&mut self, header: &Header) {
        self.0 = xxh3_64_with_seed(&header.xxh3.to_le_bytes(), self.0 ^ header.first);
    }
}

impl TokenRecord {
    fn is_of(&self, other: &TokenRecord) -> bool {
        (&self.job, &self.sink, self.lane, &self.incarnation)
            == (&other.job, &other.sink, other.lane, &other.incarnation)
    }
}

/// The last token of each owner of a partition, the one that wrote last at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners(Vec<TokenRecord>);

impl Owners {
    pub fn new(tokens: Vec<TokenRecord>) -> Owners {
        Owners(tokens)
    }

    /// Takes note of a token.
    pub fn note(&mut self, token: TokenRecord) {
        self.0.retain(|known| !known.is_of(&token));
        if self.0.len() == OWNERS_MAX {
            self.0.remove(0);
        }
        self.0.push(token);
    }

    /// Returns whether the same owner left its last token in the same generation.
    pub fn knows(&self, token: &TokenRecord) -> bool {
        self.0.iter().any(|known| known.is_of(token) && known.generation == token.generation)
    }

    pub fn tokens(&self) -> &[TokenRecord] {
        &self.0
    }

    /// Returns the token with which `claim` holds `lane` from now on, or why it may not. `records`: how many there are.
    pub fn admit(&self, claim: &Claim, lane: u32, what: &str, records: u64) -> Result<TokenRecord, SinkError> {
        let mut own = TokenRecord {
            job: claim.job.clone(),
            sink: claim.sink.clone(),
            lane,
            incarnation: claim.incarnation.clone(),
            generation: claim.generation,
            tick: 0,
            committed_by: 0,
            from: records,
            rows: Chain::default(),
        };
        if let Some(known) = self.0.iter().find(|known| known.is_of(&own)) {
            if known.generation > claim.generation {
                return Err(SinkError::Fenced(format!(
                    "{what} is held by generation {} of job `{}`; this is generation {}\n\
                     hint: let the one run that was started elsewhere; if there is none, the state is an older copy: bring back the \
                     newer one, or start over with --fresh",
                    known.generation, claim.job, claim.generation
                )));
            }
            own.tick = known.tick;
            own.committed_by = known.committed_by;
            return Ok(own);
        }
        if records == 0 || claim.append {
            return Ok(own);
        }
        let by = match self.0.last() {
            Some(last) if last.job == claim.job => {
                format!("; job `{}` wrote to it before it was started afresh", last.job)
            }
            Some(last) => format!("; job `{}` wrote to it", last.job),
            None => String::new(),
        };
        Err(SinkError::Refused(format!(
            "{what} already holds {records} records that are not from this run of job `{}`{by}\n\
             hint: add to them with `--append`, delete the topic's folder first, or name another topic",
            claim.job
        )))
    }
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
}
