//! An object store that fails on demand.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{BoxStream, once};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and leaves nothing.
    Before(io::ErrorKind),
    /// It succeeds, but the answer is an error.
    After(io::ErrorKind),
    /// It succeeds, but the answer is that the object exists: the first answer was lost and the client tried again.
    Repeated,
    /// Nothing.
    None,
}

/// When an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It does nothing.
    Before,
    /// It did all it was asked.
    After,
}

/// A store whose operations fail as told.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    faults: Mutex<VecDeque<Fault>>,
    overwrites: bool,
    /// How many operations are still to succeed, and how the one after them fails.
    countdown: Mutex<Option<(usize, When)>>,
    no_deletes: AtomicBool,
    lags: AtomicBool,
    /// A part of a path, and what appears in the store as soon as such an object was written.
    echo: Mutex<Option<(&'static str, Path)>>,
}

impl Faulty {
    /// Returns a store over `inner`.
    pub fn over(inner: Arc<dyn ObjectStore>) -> Faulty {
        Faulty {
            inner,
            faults: Mutex::default(),
            overwrites: false,
            countdown: Mutex::default(),
            no_deletes: AtomicBool::new(false),
            lags: AtomicBool::new(false),
            echo: Mutex::default(),
        }
    }

    /// Returns a store that takes every create for an overwrite.
    pub fn forgetful() -> Faulty {
        Faulty { overwrites: true, ..Faulty::over(Arc::new(InMemory::new())) }
    }

    /// The next writes meet `faults`, one each.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// After `successes` operations of any kind, one fails.
    pub fn fail_at(&self, successes: usize, when: When) {
        *self.countdown.lock().unwrap() = Some((successes, when));
    }

    /// Returns whether that has come to pass; it is called off.
    pub fn has_failed(&self) -> bool {
        self.countdown.lock().unwrap().take().is_none()
    }

    /// From now on deletions fail, or succeed again.
    pub fn fail_deletes(&self, fail: bool) {
        self.no_deletes.store(fail, Ordering::Relaxed);
    }

    /// From now on a listing of the log lacks its last object, or is whole again.
    pub fn lag_behind(&self, lag: bool) {
        self.lags.store(lag, Ordering::Relaxed);
    }

    /// As soon as an object with `part` in its path is written, `path` is there, too: another process wrote it.
    pub fn echo(&self, part: &'static str, path: &str) {
        *self.echo.lock().unwrap() = Some((part, Path::from(path)));
    }

    /// Counts an operation; returns how it fails, if it does.
    fn strike(&self) -> Option<When> {
        let mut countdown = self.countdown.lock().unwrap();
        let (left, when) = countdown.as_mut()?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let when = *when;
        *countdown = None;
        Some(when)
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

fn failure(kind: io::ErrorKind) -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: Box::new(io::Error::from(kind)) }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        let fault = match self.strike() {
            Some(When::Before) => Fault::Before(io::ErrorKind::Other),
            Some(When::After) => Fault::After(io::ErrorKind::Other),
            None => self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None),
        };
        if self.overwrites {
            opts.mode = PutMode::Overwrite;
        }
        match fault {
            Fault::Before(kind) => Err(failure(kind)),
            Fault::After(kind) => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(failure(kind))
            }
            Fault::Repeated => {
                self.inner.put_opts(location, payload.clone(), opts.clone()).await?;
                self.inner.put_opts(location, payload, opts).await
            }
            Fault::None => {
                let result = self.inner.put_opts(location, payload, opts).await?;
                let echo = self.echo.lock().unwrap().clone().filter(|(part, _)| location.as_ref().contains(part));
                if let Some((_, path)) = echo {
                    self.inner.put_opts(&path, PutPayload::default(), PutOptions::default()).await?;
                }
                Ok(result)
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.strike().is_some() {
            return Err(failure(io::ErrorKind::Other));
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if self.no_deletes.load(Ordering::Relaxed) {
            return once(async { Err(failure(io::ErrorKind::Other)) }).boxed();
        }
        match self.strike() {
            Some(When::Before) => once(async { Err(failure(io::ErrorKind::Other)) }).boxed(),
            Some(When::After) => {
                let done = self.inner.delete_stream(locations);
                // All but the last are answered; that one is deleted, too.
                done.chain(once(async { Err(failure(io::ErrorKind::Other)) })).boxed()
            }
            None => self.inner.delete_stream(locations),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.strike() {
            Some(_) => once(async { Err(failure(io::ErrorKind::Other)) }).boxed(),
            None if self.lags.load(Ordering::Relaxed) && prefix.is_some_and(|it| it.filename() == Some("log")) => {
                let listing = self.inner.list(prefix);
                let lagging = async move {
                    let mut listed: Vec<_> = listing.collect().await;
                    listed.sort_by_key(|object| object.as_ref().map(|it| it.location.to_string()).unwrap_or_default());
                    listed.pop();
                    futures::stream::iter(listed)
                };
                once(lagging).flatten().boxed()
            }
            None => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::Before(kind) => return Err(failure(kind)),
            Fault::After(kind) => {
                self.inner.copy_opts(from, to, options).await?;
                return Err(failure(kind));
            }
            Fault::Repeated | Fault::None => {}
        }
        self.inner.copy_opts(from, to, options).await
    }
}
