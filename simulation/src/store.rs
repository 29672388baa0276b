//! The object store of the simulated world: in memory, every act of it can be the last, and in some worlds it is faulty.
//!
//! The faults are those that the contract of an object store allows: an act that fails, one that succeeds and answers with an
//! error, one that takes long. Beyond the contract, an upload of a state file that fails may leave a part of it, and a listing
//! of the log may lack its last record. All other objects appear whole or not at all, and all other listings are up to date.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use riverrun_state::record::{Body, FileEntry, Record, seal, unseal};

use crate::mutant::Mutant;
use crate::world::{Killed, World};

/// An object store that ends with the process, and outlives it.
#[derive(Clone)]
pub struct FakeStore {
    /// The world.
    pub world: Arc<World>,
    /// The objects.
    pub objects: Arc<InMemory>,
    /// One act in so many fails; 0: none does.
    pub faulty: u64,
    /// A broken rule.
    pub mutant: Option<Mutant>,
}

impl fmt::Debug for FakeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeStore")
    }
}

impl fmt::Display for FakeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated store")
    }
}

/// How what a faulty store says begins: by it a failure of the store is told from all others.
pub const FAULT: &str = "the simulated store fails";

fn failed(reason: &str) -> object_store::Error {
    object_store::Error::Generic { store: "simulated", source: format!("{FAULT}: {reason}").into() }
}

fn gone(_: Killed) -> object_store::Error {
    object_store::Error::Generic { store: "simulated", source: "killed by the simulator".into() }
}

/// Returns the record of the log that these bytes are, if they are one.
pub fn record_of(path: &Path, bytes: &[u8]) -> Option<Record> {
    let seq = path.filename()?.strip_suffix(".json")?.parse().ok()?;
    unseal(bytes, seq, "a record").ok()
}

/// What a faulty store does with an act.
enum Fate {
    Done,
    FailsBefore,
    FailsAfter,
}

impl FakeStore {
    fn begin(&self, what: &str, path: &Path) -> Result<Fate> {
        let words = format!(
            "{what} {}",
            path.parts().skip(2).map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/")
        );
        self.world.begin(&words, 0).map_err(gone)?;
        if self.faulty == 0 {
            return Ok(Fate::Done);
        }
        let mut inner = self.world.lock();
        let slow = inner.dice.once_in(20);
        let took = inner.dice.roll(if slow { 2_000_000 } else { 5_000 });
        inner.time += took;
        if !inner.dice.once_in(self.faulty) {
            return Ok(Fate::Done);
        }
        let after = inner.dice.once_in(2);
        inner.event(if after { "fails after" } else { "fails before" }, 0);
        Ok(if after { Fate::FailsAfter } else { Fate::FailsBefore })
    }

    fn end(&self, fate: Fate) -> Result<()> {
        self.world.end().map_err(gone)?;
        match fate {
            Fate::FailsAfter => Err(failed("it was done, but the answer is an error")),
            _ => Ok(()),
        }
    }

    /// Remembers the ticks that a record of the log makes final.
    fn note(&self, path: &Path, bytes: &[u8]) {
        let Some(record) = record_of(path, bytes) else { return };
        let mut inner = self.world.lock();
        match record.body {
            Body::Ticks(ticks) => {
                for entry in ticks.entries {
                    let tick = entry.record.tick;
                    for mark in &entry.record.splits {
                        let Some(split) = inner.splits.get(&mark.split).cloned() else { continue };
                        let furthest = inner.read.entry(split).or_default();
                        *furthest = mark.to.max(*furthest);
                    }
                    if inner.journal.insert(tick, entry.clone()).is_some_and(|known| known != entry) {
                        inner.wrong(format!("tick {tick} was made final twice, and not alike"));
                    }
                }
            }
            Body::Inputs(inputs) => {
                inner.begun = inputs.now;
                inner.splits =
                    inputs.splits.into_iter().map(|split| (split.id, (split.source, split.spec.name))).collect();
            }
            _ => {}
        }
    }

    /// Returns a record as a process would write it that does not wait for the last worker's part of a checkpoint. What comes after such
    /// a record is chained to it.
    fn hastened(&self, path: &Path, bytes: Vec<u8>) -> Vec<u8> {
        let Some(mut record) = record_of(path, &bytes) else { return bytes };
        if let Body::Checkpoint(checkpoint) = &mut record.body {
            let tick = checkpoint.tick;
            let worker = |file: &FileEntry| file.path.split('/').rev().nth(1).map(str::to_owned);
            let files = checkpoint.tables.iter().flat_map(|table| &table.files);
            let last = files.filter(|file| file.tick == tick).map(worker).max();
            let is_last = |file: &FileEntry| file.tick == tick && Some(worker(file)) == last;
            checkpoint.tables.iter_mut().for_each(|table| table.files.retain(|file| !is_last(file)));
        }
        let mut inner = self.world.lock();
        let before = &mut record.header.prev_xxh3.0;
        *before = inner.forged.get(before).copied().unwrap_or(*before);
        let (bytes, forged) = seal(&record.header, &record.body);
        inner.forged.insert(record.xxh3.0, forged.0);
        bytes
    }

    /// Returns what is left of an upload that fails: in every other case all of it.
    fn torn(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let mut inner = self.world.lock();
        if inner.dice.once_in(2) {
            let length = inner.dice.roll(bytes.len() as u64 + 1);
            bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            inner.event("leaves a part", 0);
        }
        bytes
    }

    /// Returns how many objects at the end of the listing of `prefix` are not in it yet.
    fn lag(&self, prefix: Option<&Path>) -> usize {
        let is_log = prefix.is_some_and(|prefix| prefix.filename() == Some("log"));
        usize::from(is_log && self.faulty > 0 && self.world.lock().dice.once_in(3))
    }

    async fn put_delayed(&self) -> Result<()> {
        let delayed = std::mem::take(&mut self.world.lock().delayed);
        for (path, bytes) in delayed {
            self.objects.put_opts(&Path::from(path), bytes.into(), PutMode::Create.into()).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for FakeStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        let fate = self.begin("put", location)?;
        if matches!(fate, Fate::FailsBefore) {
            return Err(failed("it was not done"));
        }
        let mut bytes: Vec<u8> = payload.iter().flat_map(|part| part.to_vec()).collect();
        let is_record = location.parts().any(|part| part.as_ref() == "log");
        if is_record && self.mutant == Some(Mutant::PartMissing) {
            bytes = self.hastened(location, bytes);
        }
        if self.mutant == Some(Mutant::Overwriting) {
            opts.mode = PutMode::Overwrite;
        }
        if is_record {
            self.put_delayed().await?;
        }
        if self.mutant == Some(Mutant::EarlyJournal)
            && is_record
            && bytes.windows(14).any(|w| w == b"\"type\":\"ticks\"")
        {
            self.note(location, &bytes);
            self.world.lock().delayed.push((location.to_string(), bytes));
            self.end(fate)?;
            return Ok(PutResult { e_tag: None, version: None, extensions: Default::default() });
        }
        let payload = match fate {
            Fate::FailsAfter if location.parts().any(|part| part.as_ref() == "state") => {
                self.torn(bytes.clone()).into()
            }
            _ => bytes.clone().into(),
        };
        let put = self.objects.put_opts(location, payload, opts).await?;
        if is_record {
            self.note(location, &bytes);
        }
        self.end(fate)?;
        Ok(put)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.begin("put in parts", location)?;
        self.objects.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.begin("get", location)? {
            Fate::Done => self.objects.get_opts(location, options).await,
            _ => Err(failed("it was not read")),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let fate = store.begin("delete", &location)?;
                if matches!(fate, Fate::FailsBefore) {
                    return Err(failed("it was not deleted"));
                }
                let one = futures::stream::once(std::future::ready(Ok(location))).boxed();
                let deleted = store.objects.delete_stream(one).next().await.unwrap_or_else(|| Err(failed("no answer")));
                store.end(fate)?;
                deleted
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.begin("list", prefix.unwrap_or(&Path::default())) {
            Ok(Fate::Done) => {
                let (lag, listing) = (self.lag(prefix), self.objects.list(prefix));
                let lagging = async move {
                    let mut listed: Vec<_> = listing.collect().await;
                    listed.sort_by_key(|object| object.as_ref().map(|it| it.location.to_string()).unwrap_or_default());
                    listed.truncate(listed.len() - lag.min(listed.len()));
                    futures::stream::iter(listed)
                };
                futures::stream::once(lagging).flatten().boxed()
            }
            Ok(_) => futures::stream::once(std::future::ready(Err(failed("it was not listed")))).boxed(),
            Err(error) => futures::stream::once(std::future::ready(Err(error))).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.begin("list", prefix.unwrap_or(&Path::default()))?;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.begin("copy", to)?;
        self.objects.copy_opts(from, to, options).await
    }
}
