//! A job that begins from a savepoint: a new incarnation whose first record is the state of an old one.
//!
//! ```text
//! Seeding::open -> (compare the plans) -> plant(Next) -> fresh.json -> job.json -> JobState::start: record 1
//! ```
//! The sinks begin anew, so nothing is promised about what the old incarnation wrote after the savepoint, and nothing of its
//! log is needed. All that the new one needs is copied before the old one is given up: a crash before `fresh.json` is written
//! leaves the old incarnation whole, a crash after it is completed by whoever opens the job next, and the first record is
//! created from what lies ready by whoever finds the log without it. The savepoint goes over as it is, with all that this
//! incarnation leaves out of it: whoever goes back to it finds what was there when it was named.

use std::sync::Arc;

use serde::Deserialize;

use crate::error::StateError;
use crate::folder::{Begin, Folder, JobFile, JobSpec, Lock, seed_of};
use crate::record::{Body, Header, Kind, Record, seal, unseal, written_now};
use crate::store::Store;
use crate::upgrade::{Moving, Next, Standing};

/// A job whose next incarnation is being prepared.
#[derive(Debug)]
pub struct Seeding {
    folder: Folder,
    standing: Standing,
    spec: JobSpec,
    savepoint: String,
    /// Held until the new incarnation is there.
    _lock: Option<Lock>,
}

impl Seeding {
    /// Locks the job of `spec` and reads its savepoint `name`; `None` if there is none.
    pub fn open(store: Store, spec: JobSpec, name: &str) -> Result<Option<Seeding>, StateError> {
        let folder = Folder::of(Arc::new(store), &spec.job)?;
        let lock = folder.lock(&spec.holder)?;
        let (Some(file), Some(record)) = (folder.read()?, savepoint(&folder, name)?) else { return Ok(None) };
        let Some(standing) = Standing::at(&folder, file, &record)? else { return Ok(None) };
        Ok(Some(Seeding { folder, standing, spec, savepoint: name.to_string(), _lock: lock }))
    }

    /// Returns how the job stood at the savepoint.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Puts a new incarnation, which begins as `next` says, in the place of the old one.
    pub fn plant(self, next: Next) -> Result<(), StateError> {
        let (plan, lanes) = (next.plan.clone(), next.lanes.clone());
        let spec = JobSpec { plan, lanes, begin: Begin::Fresh, ..self.spec };
        let file = JobFile::seeded(&spec, self.savepoint);
        let place = seed_of(&file);
        let moving = Moving {
            folder: &self.folder,
            standing: &self.standing,
            place: place.clone(),
            build: &spec.build,
            copy: true,
        };
        let body = Body::Upgrade(Box::new(moving.upgrade(next, 1)?));
        let header = Header {
            v: Kind::Upgrade.version(),
            seq: 1,
            prev_xxh3: Default::default(),
            generation: 0,
            attempt: String::new(),
            build: spec.build.clone(),
            plan: spec.plan.clone(),
            at: written_now(),
            kind: Kind::Upgrade,
        };
        let (bytes, _) = seal(&header, &body);
        self.folder.store().put(&self.folder.inside(&ready_in(&place)), bytes)?;
        self.folder.succeed(file)?;
        Ok(())
    }
}

/// Reads a savepoint, which is the copy of a checkpoint's record.
fn savepoint(folder: &Folder, name: &str) -> Result<Option<Record>, StateError> {
    #[derive(Deserialize)]
    struct Seq {
        seq: u64,
    }
    if name.contains(['/', '\\']) {
        return Ok(None);
    }
    let path = folder.inside(&format!("savepoints/{name}.json"));
    let Some(bytes) = folder.store().get(&path)? else { return Ok(None) };
    let what = format!("savepoint {}", folder.store().name(&path));
    let seq = serde_json::from_slice(&bytes).map(|Seq { seq }| seq).unwrap_or(0);
    unseal(&bytes, seq, &what).map(Some)
}

fn ready_in(place: &str) -> String {
    format!("{place}first.json")
}

/// Returns the first record of the incarnation in `file`.
pub(crate) fn ready(folder: &Folder, file: &JobFile) -> Result<Body, StateError> {
    let path = folder.inside(&ready_in(&seed_of(file)));
    let what = format!("first record {}", folder.store().name(&path));
    let Some(bytes) = folder.store().get(&path)? else {
        return Err(StateError::damaged(
            what,
            "it is missing\n  hint: restore it from a backup, or start over with --fresh",
        ));
    };
    Ok(unseal(&bytes, 1, &what)?.body)
}

#[cfg(test)]
mod tests;
