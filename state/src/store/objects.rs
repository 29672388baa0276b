//! A store is a place for objects: how connectors, which know nothing of state, use the same folders and buckets.

use std::time::SystemTime;

use bytes::Bytes;
use riverrun_dataflow::objects::{Created, Listed, Objects, ObjectsError};

use super::Store;
use crate::error::StateError;

impl Objects for Store {
    fn name(&self, path: &str) -> String {
        Store::name(self, path).trim_end_matches('/').to_owned()
    }

    fn create(&self, path: &str, bytes: Bytes) -> Result<Created, ObjectsError> {
        Ok(self.create_bytes(path, bytes)?)
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        Ok(self.put_bytes(path, bytes)?)
    }

    fn get(&self, path: &str) -> Result<Option<Bytes>, ObjectsError> {
        Ok(Store::get(self, path)?)
    }

    fn rename(&self, from: &str, to: &str) -> Result<bool, ObjectsError> {
        Ok(Store::rename(self, from, to)?)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        let found = Store::list(self, prefix)?.into_iter();
        Ok(found.map(|it| Listed { path: it.path, bytes: it.bytes, modified: it.modified }).collect())
    }

    fn delete(&self, paths: &[String]) -> Result<(), ObjectsError> {
        Ok(self.delete_all(paths)?)
    }

    fn discard_unfinished(&self, before: SystemTime, is_ours: &dyn Fn(&str) -> bool) -> Result<(), ObjectsError> {
        let Some(root) = self.local() else { return Ok(()) };
        let is_old = |path: &str| {
            let modified = std::fs::metadata(root.join(path)).and_then(|known| known.modified());
            modified.is_ok_and(|time| time < before)
        };
        let object = |path: &str| path.rsplit_once('#').map_or(path, |(object, _)| object).to_owned();
        Ok(Store::discard_unfinished(self, "", &|path| is_old(path) && is_ours(&object(path)))?)
    }
}

impl From<StateError> for ObjectsError {
    fn from(error: StateError) -> ObjectsError {
        match error {
            StateError::Storage { act, what, reason } => ObjectsError { act, what, reason },
            // A store of its own accord says nothing else.
            other => ObjectsError { act: "use", what: "the store".into(), reason: other.to_string() },
        }
    }
}
