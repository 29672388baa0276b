//! Where objects lie: a local folder or any object store, used from threads that may block.
//!
//! Everything rests on one ability: to create an object only if it is absent, durably. It is tried out before a job uses a
//! store, since file systems without hard links and some object stores lack it.

mod location;
mod network;
mod objects;
mod patient;
mod s3;
mod trouble;

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use riverrun_dataflow::disk::{Disk, FileSystem, folder as durable_folder};
use riverrun_dataflow::fail_act::attempt;

pub use location::{Bucket, Location, PATIENCE};
pub use riverrun_dataflow::objects::Created;
pub use trouble::{Refusal, Trouble};

use crate::error::StateError;
use network::Network;

/// Objects written at once, each with a connection of its own.
const WRITES_AT_ONCE: usize = 8;
/// Objects read at once.
const READS_AT_ONCE: usize = 8;
/// How often a create is tried that is told both that the object exists and that it does not.
const LOOKS_MAX: u32 = 20;
/// Between such looks.
const LOOK_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

/// A store of objects.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    place: Place,
}

/// Where a store is.
#[derive(Clone)]
enum Place {
    /// In memory, or somewhere that only a test knows.
    Unknown,
    /// In a local folder; what is done there past the objects is done by the disk.
    Folder { path: PathBuf, disk: Arc<dyn Disk> },
    /// Behind a network.
    Remote { url: String, network: Arc<Network> },
}

impl fmt::Debug for Store {
    /// Shows the place only: what else there is may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.name("")).finish()
    }
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path.
    pub path: String,
    /// Its last component.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

impl Store {
    /// Opens a local folder for writing, creating it if need be. What is written is flushed to the disk.
    pub fn folder(path: &Path) -> Result<Store, StateError> {
        durable_folder(&FileSystem, path)
            .map_err(|e| StateError::storage("write", format!("state folder {}", path.display()), &e))?;
        Store::existing_folder(path)
    }

    /// Opens a local folder that must exist; creates nothing.
    pub fn existing_folder(path: &Path) -> Result<Store, StateError> {
        let what = || format!("state folder {}", path.display());
        let full = std::fs::canonicalize(path).map_err(|e| StateError::storage("read", what(), &e))?;
        if full.to_str().is_none() {
            let reason = "its path is not UTF-8; choose another one with --state".into();
            return Err(StateError::Storage { act: "read", what: what(), reason });
        }
        let local = LocalFileSystem::new_with_prefix(&full).map_err(|e| StateError::storage("read", what(), &e))?;
        Ok(Store::over(Arc::new(local.with_fsync(true).with_automatic_cleanup(true)), Some(full)))
    }

    /// Returns an empty store in memory, for a job whose state need not outlive the process.
    pub fn memory() -> Store {
        Store::over(Arc::new(InMemory::new()), None)
    }

    /// Returns a store over `objects`; `folder` is the local folder in which they lie, if they do.
    pub fn over(objects: Arc<dyn ObjectStore>, folder: Option<PathBuf>) -> Store {
        match folder {
            Some(folder) => Store::on_disk(objects, folder, Arc::new(FileSystem)),
            None => Store { objects, place: Place::Unknown },
        }
    }

    /// Returns a store over `objects` that lie in the local folder `path` on `disk`.
    pub fn on_disk(objects: Arc<dyn ObjectStore>, path: PathBuf, disk: Arc<dyn Disk>) -> Store {
        Store { objects, place: Place::Folder { path, disk } }
    }

    /// Returns a store over `objects`, which people know as `url` and which `network` waits for.
    fn remote(objects: Arc<dyn ObjectStore>, url: String, network: Network) -> Store {
        Store { objects, place: Place::Remote { url, network: Arc::new(network) } }
    }

    fn wait<T>(&self, act: impl Future<Output = T>) -> T {
        match &self.place {
            Place::Remote { network, .. } => network.wait(act),
            Place::Unknown | Place::Folder { .. } => block_on(act),
        }
    }

    /// Returns the objects themselves.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        self.objects.clone()
    }

    /// Returns the local folder, if the store is one.
    pub fn local(&self) -> Option<&Path> {
        self.on().map(|(folder, _)| folder)
    }

    /// Returns the local folder and its disk, if the store is one.
    fn on(&self) -> Option<(&Path, &dyn Disk)> {
        match &self.place {
            Place::Folder { path, disk } => Some((path, &**disk)),
            Place::Unknown | Place::Remote { .. } => None,
        }
    }

    /// Returns the address of the object `path`, if the store is behind a network.
    pub fn address(&self, path: &str) -> Option<String> {
        self.is_remote().then(|| self.name(path))
    }

    /// Returns how a person finds the object `path`.
    pub fn name(&self, path: &str) -> String {
        match &self.place {
            Place::Folder { path: folder, .. } => folder.join(path).display().to_string(),
            Place::Remote { url, .. } if path.is_empty() => url.clone(),
            Place::Remote { url, .. } => format!("{url}/{path}"),
            Place::Unknown => path.to_string(),
        }
    }

    /// Creates `path` unless it exists. That an earlier, unanswered attempt already succeeded is success.
    pub fn create(&self, path: &str, bytes: Vec<u8>) -> Result<Created, StateError> {
        self.create_bytes(path, bytes.into())
    }

    fn create_bytes(&self, path: &str, bytes: Bytes) -> Result<Created, StateError> {
        self.attempt("create", path)?;
        for look in 1.. {
            let payload = PutPayload::from_bytes(bytes.clone());
            match self.wait(self.objects.put_opts(&ObjectPath::from(path), payload, PutMode::Create.into())) {
                Ok(_) => return self.attempt("created", path).map(|()| Created::Ours),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
                Err(error) => return Err(StateError::storage("write", self.name(path), &error)),
            }
            match self.get(path)? {
                Some(found) if found == bytes => return Ok(Created::Ours),
                Some(found) => return Ok(Created::Taken(found)),
                // Some stores answer so while another create of the same object is under way.
                None if look < LOOKS_MAX && self.is_remote() => std::thread::park_timeout(LOOK_PAUSE),
                None => break,
            }
        }
        Err(StateError::Storage { act: "write", what: self.name(path), reason: "it exists and cannot be read".into() })
    }

    /// Returns whether the store is behind a network, where a failure says nothing of what is stored.
    pub fn is_remote(&self) -> bool {
        matches!(self.place, Place::Remote { .. })
    }

    /// Writes `path`, replacing what is there.
    pub fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), StateError> {
        self.put_bytes(path, bytes.into())
    }

    fn put_bytes(&self, path: &str, bytes: Bytes) -> Result<(), StateError> {
        self.attempt("put", path)?;
        self.wait(self.objects.put(&ObjectPath::from(path), bytes.into()))
            .map_err(|e| StateError::storage("write", self.name(path), &e))?;
        self.attempt("stored", path)
    }

    /// Fails if the act is to fail, which a test says: before it was done, or (`created`, `stored`) though it was.
    fn attempt(&self, act: &'static str, path: &str) -> Result<(), StateError> {
        attempt(act, Path::new(path)).map_err(|e| StateError::storage("write", self.name(path), &e))
    }

    /// Writes all of `files`, each a path and its bytes, replacing what is there: several at a time, since a store behind a network
    /// takes its time for each.
    pub fn put_all(&self, files: Vec<(String, Vec<u8>)>) -> Result<(), StateError> {
        let put = |(path, bytes): (String, Vec<u8>)| async move {
            self.attempt("put", &path)?;
            let put = self.objects.put(&ObjectPath::from(path.as_str()), bytes.into()).await;
            put.map_err(|e| StateError::storage("write", self.name(&path), &e))?;
            self.attempt("stored", &path)
        };
        let puts = futures::stream::iter(files).map(put).buffer_unordered(WRITES_AT_ONCE);
        self.wait(puts.try_for_each(|_| std::future::ready(Ok(()))))
    }

    /// Reads `path`; `None` if there is no such object.
    pub fn get(&self, path: &str) -> Result<Option<Bytes>, StateError> {
        let read = self.wait(async { self.objects.get(&ObjectPath::from(path)).await?.bytes().await });
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(StateError::storage("read", self.name(path), &error)),
        }
    }

    /// Reads all of `paths` and hands each to `take`, in their order; several are under way at once where the store is behind a
    /// network. `take` may not come back to a store.
    pub fn get_each(
        &self,
        paths: &[String],
        mut take: impl FnMut(usize, Option<Bytes>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let get = |path: &String| {
            let location = ObjectPath::from(path.as_str());
            async move {
                match async { self.objects.get(&location).await?.bytes().await }.await {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(StateError::storage("read", self.name(location.as_ref()), &error)),
                }
            }
        };
        let at_once = if self.is_remote() { READS_AT_ONCE } else { 1 };
        let mut gets = futures::stream::iter(paths).map(get).buffered(at_once).enumerate();
        self.wait(async {
            while let Some((at, bytes)) = gets.next().await {
                take(at, bytes?)?;
            }
            Ok(())
        })
    }

    /// Returns all objects below the folder `prefix`, by path.
    pub fn list(&self, prefix: &str) -> Result<Vec<Listed>, StateError> {
        let listing = self.objects.list(Some(&ObjectPath::from(prefix)));
        let found: Vec<_> =
            self.wait(listing.try_collect()).map_err(|e| StateError::storage("list", self.name(prefix), &e))?;
        let mut listed: Vec<Listed> = found
            .into_iter()
            .map(|meta| Listed {
                path: meta.location.to_string(),
                name: meta.location.filename().unwrap_or_default().to_string(),
                bytes: meta.size,
                modified: meta.last_modified.into(),
            })
            .collect();
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listed)
    }

    /// Returns the names of the folders that lie in the folder `prefix`, in order; objects in them are not looked at.
    pub fn folders(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let path = (!prefix.is_empty()).then(|| ObjectPath::from(prefix));
        let found = self.wait(self.objects.list_with_delimiter(path.as_ref()));
        let found = found.map_err(|e| StateError::storage("list", self.name(prefix), &e))?;
        let mut names: Vec<String> =
            found.common_prefixes.iter().filter_map(|it| it.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Gives the object `from` the path `to`, in place of what is there, and returns whether there was an object `from`. In a bucket
    /// this is a copy and a deletion.
    pub fn rename(&self, from: &str, to: &str) -> Result<bool, StateError> {
        self.attempt("rename", to)?;
        match self.wait(self.objects.rename(&ObjectPath::from(from), &ObjectPath::from(to))) {
            Ok(()) => self.attempt("renamed", to).map(|()| true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(StateError::storage("write", self.name(to), &error)),
        }
    }

    /// Gives the object `from` the path `to` besides, in place of what is there, and returns whether there was an object `from`. In a
    /// local folder both are one file, which is never written again.
    pub fn copy(&self, from: &str, to: &str) -> Result<bool, StateError> {
        self.attempt("put", to)?;
        match self.wait(self.objects.copy(&ObjectPath::from(from), &ObjectPath::from(to))) {
            Ok(()) => self.attempt("stored", to).map(|()| true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(StateError::storage("write", self.name(to), &error)),
        }
    }

    /// Deletes `path`; that it is gone already is success.
    pub fn delete(&self, path: &str) -> Result<(), StateError> {
        match self.wait(self.objects.delete(&ObjectPath::from(path))) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(StateError::storage("delete", self.name(path), &error)),
        }
    }

    /// Deletes `paths`, together where the store can; that one is gone already is success.
    pub fn delete_all(&self, paths: &[String]) -> Result<(), StateError> {
        let Some(first) = paths.first() else { return Ok(()) };
        let locations: Vec<_> = paths.iter().map(|path| Ok(ObjectPath::from(path.as_str()))).collect();
        let mut outcomes = self.objects.delete_stream(futures::stream::iter(locations).boxed());
        self.wait(async {
            while let Some(outcome) = outcomes.next().await {
                match outcome {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(StateError::storage("delete", self.name(first), &error)),
                }
            }
            Ok(())
        })
    }

    /// Removes from the local folder `prefix` what writes of killed processes left unfinished, and folders that are empty. Only
    /// below paths for which `ours` holds: no one may be writing there.
    pub fn discard_unfinished(&self, prefix: &str, ours: &dyn Fn(&str) -> bool) -> Result<(), StateError> {
        let Some((root, disk)) = self.on() else { return Ok(()) };
        let entries = match std::fs::read_dir(root.join(prefix)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(StateError::storage("list", self.name(prefix), &e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| StateError::storage("list", self.name(prefix), &e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.discard_unfinished(&path, ours)?;
                if ours(&path) {
                    // Fails if it is not empty, which is right.
                    let _ = disk.remove_folder(&entry.path());
                }
            } else if is_unfinished(&name) && ours(&path) {
                disk.remove(&entry.path()).map_err(|e| StateError::storage("delete", self.name(&path), &e))?;
            }
        }
        Ok(())
    }

    /// Makes sure that the local folder `path` is there, durably, and that the names of the folders in it are durable too: who made one may
    /// have been killed before he could see to that, and the objects take it that a folder which is there is there to stay.
    pub fn keep_folder(&self, path: &str) -> std::io::Result<()> {
        let Some((root, disk)) = self.on() else { return Ok(()) };
        let folder = root.join(path);
        durable_folder(disk, &folder)?;
        disk.sync_folder(&folder)
    }

    /// Makes deletions in the folder `path` durable, where deleting alone does not. If the folder went with its last object, it is the one in
    /// which it was that must know.
    pub fn settle(&self, path: &str) -> Result<(), StateError> {
        let Some((root, disk)) = self.on() else { return Ok(()) };
        let folder = root.join(path);
        for folder in folder.ancestors().take_while(|folder| folder.starts_with(root)) {
            match disk.sync_folder(folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                synced => return synced.map_err(|error| StateError::storage("write", self.name(path), &error)),
            }
        }
        Ok(())
    }

    /// Tries out create-if-absent by creating the object `path` twice; `id` makes the attempt unlike any other. That another attempt's
    /// object is in the way, left over or just being tried, proves the same: a store that overwrites would not have said so. Such
    /// an object is left alone, for its owner may be between its two creates.
    pub fn try_out(&self, path: &str, id: &str) -> Result<(), StateError> {
        if let Created::Taken(_) = self.create(path, id.into())? {
            return Ok(());
        }
        let second = self.create(path, format!("{id} again").into())?;
        self.delete(path)?;
        if matches!(second, Created::Taken(_)) {
            return Ok(());
        }
        Err(StateError::Storage {
            act: "write",
            what: self.name(path),
            reason: "the store cannot create an object only if it is absent; choose another one with --state".into(),
        })
    }
}

/// Returns whether a file is what the local store writes before it gives it its name: `name#1`.
fn is_unfinished(name: &str) -> bool {
    let number = name.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
