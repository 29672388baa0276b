//! Savepoints that outlive their incarnation.
//!
//! A savepoint names state files of its incarnation, which the next one would write under the same names, and the inputs
//! record of a log that goes. So before an incarnation is given up, each of its savepoints is made to stand alone: its files get
//! names that no other incarnation uses, and its record becomes one that holds what the job read, as that of an upgrade does. It means the same
//! as before, so a crash in between leaves nothing half done.

use std::collections::BTreeSet;

use crate::error::StateError;
use crate::folder::{Folder, JobFile};
use crate::record::{Body, Checkpoint, Header, Kind, Record, Upgrade, seal};
use crate::savepoint::{damaged, read_record};
use crate::upgrade::Standing;

/// Where the files lie that belong to no generation: the first record of an incarnation, savepoints of earlier ones.
pub(crate) const APART: &str = "state/g000000/";

/// Makes every savepoint in `folder` stand alone. Fails, and names it, if one of them cannot be read: it is not ours to give up.
pub(crate) fn stand_alone(folder: &Folder) -> Result<(), StateError> {
    let mut file = None;
    for (name, record) in records(folder)? {
        if stands_alone(&record) {
            continue;
        }
        let file = match &mut file {
            Some(file) => file,
            none => none.insert(job_file(folder, &name)?),
        };
        let standing = Standing::at(folder, file.clone(), &record).map_err(|error| unusable(folder, &name, error))?;
        let Some(standing) = standing else { continue };
        let bytes = alone(folder, record, standing)?;
        folder.store().put(&folder.inside(&format!("savepoints/{name}.json")), bytes)?;
    }
    Ok(())
}

/// Returns the paths in `folder` of savepoints that stand alone, and of their files.
pub(crate) fn kept(folder: &Folder) -> Result<BTreeSet<String>, StateError> {
    let mut paths = BTreeSet::new();
    for (name, record) in records(folder)?.into_iter().filter(|(_, record)| stands_alone(record)) {
        paths.insert(format!("savepoints/{name}.json"));
        paths.extend(record.body.checkpoint().into_iter().flat_map(Checkpoint::files).map(|file| file.path));
    }
    Ok(paths)
}

fn records(folder: &Folder) -> Result<Vec<(String, Record)>, StateError> {
    let listed = folder.store().list(&folder.inside("savepoints"))?;
    let names = listed.iter().filter_map(|object| object.name.strip_suffix(".json"));
    // What was deleted since it was listed is gone.
    names.filter_map(|name| Some(read_record(folder, name).transpose()?.map(|it| (name.to_owned(), it)))).collect()
}

fn stands_alone(record: &Record) -> bool {
    matches!(&record.body, Body::Upgrade(upgrade) if upgrade.shards.is_some())
}

fn job_file(folder: &Folder, name: &str) -> Result<JobFile, StateError> {
    let missing = || StateError::damaged(folder.store().name(&folder.inside("job.json")), "it is missing");
    folder.read().and_then(|file| file.ok_or_else(missing)).map_err(|error| unusable(folder, name, error))
}

/// Returns `error`, which is in the way of savepoint `name`, with the way out if it is damage.
fn unusable(folder: &Folder, name: &str, error: StateError) -> StateError {
    match error {
        StateError::Damaged { what, reason } => damaged(folder, name, what, &reason),
        other => other,
    }
}

/// Returns the savepoint `record` as one that stands alone; its files are there then under their new names, too.
fn alone(folder: &Folder, record: Record, standing: Standing) -> Result<Vec<u8>, StateError> {
    let Record { header, body, .. } = record;
    let Standing { file, plan, build, lanes, inputs, floors, checkpoint, .. } = standing;
    let mut upgrade = match body {
        Body::Upgrade(upgrade) => *upgrade,
        _ => Upgrade {
            from_plan: plan,
            from_build: build,
            lanes,
            inputs: inputs.unwrap_or_default(),
            floors,
            parts: Default::default(),
            checkpoint: Checkpoint { inputs: None, ..checkpoint.expect("it is the record of one") },
            shards: None,
        },
    };
    upgrade.shards = Some(file.shards);
    let place = format!("{APART}{}/", file.incarnation);
    for entry in upgrade.checkpoint.tables.iter_mut().flat_map(|table| &mut table.files) {
        if entry.path.starts_with(APART) {
            continue;
        }
        let apart = format!("{place}{}", entry.path.trim_start_matches("state/"));
        // One that is gone is told by whoever verifies or uses the savepoint; the others are no worse for it.
        folder.store().copy(&folder.inside(&entry.path), &folder.inside(&apart))?;
        entry.path = apart;
    }
    let header = Header { v: Kind::Upgrade.version(), kind: Kind::Upgrade, ..header };
    Ok(seal(&header, &Body::Upgrade(Box::new(upgrade))).0)
}

#[cfg(test)]
mod tests;
