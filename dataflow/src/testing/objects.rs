//! Objects in memory, and a process that dies between two acts on them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::objects::{Created, Listed, Objects, ObjectsError};

/// Objects in memory. Each change is a second later than the one before.
#[derive(Debug, Default)]
pub struct MemoryObjects {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, (Bytes, SystemTime)>,
    seconds: u64,
}

impl MemoryObjects {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time of the last change.
    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.inner().seconds)
    }

    /// Returns the paths of all objects.
    pub fn paths(&self) -> Vec<String> {
        self.inner().objects.keys().cloned().collect()
    }
}

impl Inner {
    fn put(&mut self, path: &str, bytes: Bytes) {
        self.seconds += 1;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds);
        self.objects.insert(path.to_owned(), (bytes, now));
    }
}

impl Objects for MemoryObjects {
    fn name(&self, path: &str) -> String {
        format!("memory/{path}")
    }

    fn create(&self, path: &str, bytes: Bytes) -> Result<Created, ObjectsError> {
        let mut inner = self.inner();
        match inner.objects.get(path) {
            Some((found, _)) if *found == bytes => Ok(Created::Ours),
            Some((found, _)) => Ok(Created::Taken(found.clone())),
            None => {
                inner.put(path, bytes);
                Ok(Created::Ours)
            }
        }
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.inner().put(path, bytes);
        Ok(())
    }

    fn get(&self, path: &str) -> Result<Option<Bytes>, ObjectsError> {
        Ok(self.inner().objects.get(path).map(|(bytes, _)| bytes.clone()))
    }

    fn rename(&self, from: &str, to: &str) -> Result<bool, ObjectsError> {
        let mut inner = self.inner();
        match inner.objects.remove(from) {
            Some((bytes, _)) => {
                inner.put(to, bytes);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        let inner = self.inner();
        let below =
            |path: &str| prefix.is_empty() || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        let found = inner.objects.iter().filter(|(path, _)| below(path));
        let listed = |(path, (bytes, modified)): (&String, &(Bytes, SystemTime))| Listed {
            path: path.clone(),
            bytes: bytes.len() as u64,
            modified: *modified,
        };
        Ok(found.map(listed).collect())
    }

    fn delete(&self, paths: &[String]) -> Result<(), ObjectsError> {
        let mut inner = self.inner();
        paths.iter().for_each(|path| drop(inner.objects.remove(path)));
        Ok(())
    }
}

/// How an act ends at which the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The act is not done.
    Before,
    /// The act is done, and nobody hears of it.
    After,
}

/// The objects as a process sees them that dies at one of its changes: that change fails, and all after it.
#[derive(Debug)]
pub struct DyingObjects {
    objects: Arc<MemoryObjects>,
    /// Changes that are left.
    left: AtomicI64,
    death: Death,
}

impl DyingObjects {
    /// Returns the view of a process that makes `changes` changes.
    pub fn new(objects: Arc<MemoryObjects>, changes: i64, death: Death) -> DyingObjects {
        DyingObjects { objects, left: AtomicI64::new(changes), death }
    }

    /// Returns whether the process died.
    pub fn is_dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    fn change<T>(&self, path: &str, act: impl FnOnce() -> Result<T, ObjectsError>) -> Result<T, ObjectsError> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        let dead = || ObjectsError { act: "write", what: path.to_owned(), reason: "the process died".to_owned() };
        match left {
            1.. => act(),
            0 if self.death == Death::After => act().and_then(|_| Err(dead())),
            _ => Err(dead()),
        }
    }
}

impl Objects for DyingObjects {
    fn name(&self, path: &str) -> String {
        self.objects.name(path)
    }

    fn create(&self, path: &str, bytes: Bytes) -> Result<Created, ObjectsError> {
        self.change(path, || self.objects.create(path, bytes))
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.change(path, || self.objects.put(path, bytes))
    }

    fn get(&self, path: &str) -> Result<Option<Bytes>, ObjectsError> {
        self.objects.get(path)
    }

    fn rename(&self, from: &str, to: &str) -> Result<bool, ObjectsError> {
        self.change(to, || self.objects.rename(from, to))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        self.objects.list(prefix)
    }

    fn delete(&self, paths: &[String]) -> Result<(), ObjectsError> {
        // One by one: a process can die between two of them.
        paths.iter().try_for_each(|path| self.change(path, || self.objects.delete(std::slice::from_ref(path))))
    }
}
