//! A source whose records are written with registered schemas: it gives none whose schema is not at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use riverrun_dataflow::source::{
    Chunk, Outlook, Payload, ReadLimits, Source, SourceError, SplitReader, SplitSpec, Standing,
};

use super::Registry;
use crate::format::framed_id;

/// A source of framed records, with the registry that knows their schemas.
pub struct RegisteredSource {
    inner: Arc<dyn Source>,
    registry: Registry,
}

impl RegisteredSource {
    /// Returns the source that gives what `inner` gives, as soon as its schemas are known.
    pub fn new(inner: Arc<dyn Source>, registry: Registry) -> RegisteredSource {
        RegisteredSource { inner, registry }
    }
}

impl Source for RegisteredSource {
    fn splits(&self, bounded: bool) -> Result<Vec<SplitSpec>, SourceError> {
        self.inner.splits(bounded)
    }

    fn ends(&self) -> Result<BTreeMap<String, u64>, SourceError> {
        self.inner.ends()
    }

    fn discover_every(&self) -> Option<Duration> {
        self.inner.discover_every()
    }

    fn grown(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, SourceError> {
        self.inner.grown(known)
    }

    fn outlook(&self, read: &BTreeMap<String, u64>) -> BTreeMap<String, Outlook> {
        self.inner.outlook(read)
    }

    fn hear(&self, standing: &Standing) {
        self.inner.hear(standing);
    }

    fn open(&self, split: &SplitSpec, position: u64) -> Result<Box<dyn SplitReader>, SourceError> {
        let inner = self.inner.open(split, position)?;
        Ok(Box::new(RegisteredReader { inner, registry: self.registry.clone(), held: None }))
    }
}

struct RegisteredReader {
    inner: Box<dyn SplitReader>,
    registry: Registry,
    /// Records that were read and wait for their schemas, with the numbers that are wanted.
    held: Option<(Chunk, BTreeSet<u32>)>,
}

impl RegisteredReader {
    /// Returns the numbers of schemas in a chunk of which nothing is known yet.
    fn wanted(&self, chunk: &Chunk) -> BTreeSet<u32> {
        let Payload::Records(records) = &chunk.payload else { return BTreeSet::new() };
        let mut ids = BTreeSet::new();
        let mut last = None;
        for (start, end) in &records.ranges {
            let id = framed_id(&records.bytes[*start as usize..*end as usize]);
            // Most records have the schema of the one before.
            if id != last && id.is_some_and(|id| self.registry.known(id).is_none()) {
                ids.extend(id);
            }
            last = id;
        }
        ids
    }
}

impl SplitReader for RegisteredReader {
    fn read(&mut self, limits: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        // What is held was asked for by a tick that still is to be filled: it is given as it was read.
        let (chunk, mut wanted) = match self.held.take() {
            Some(held) => {
                // Asked for again: the registry forgets answers when it has too many that say "unknown".
                self.registry.ask(held.1.iter().copied().filter(|id| self.registry.known(*id).is_none()));
                held
            }
            None => match self.inner.read(limits)? {
                Some(chunk) => {
                    let wanted = self.wanted(&chunk);
                    self.registry.ask(wanted.iter().copied());
                    (chunk, wanted)
                }
                None => return Ok(None),
            },
        };
        wanted.retain(|id| self.registry.known(*id).is_none());
        if wanted.is_empty() {
            return Ok(Some(chunk));
        }
        self.held = Some((chunk, wanted));
        match self.registry.refused() {
            Some(reason) => Err(SourceError::Read { what: "the schemas of its records".to_owned(), reason }),
            None => Ok(None),
        }
    }

    fn waits(&self) -> bool {
        self.held.is_some() || self.inner.waits()
    }

    fn ended(&self) -> bool {
        self.held.is_none() && self.inner.ended()
    }
}
