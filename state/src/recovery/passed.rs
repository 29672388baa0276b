//! Checkpoints that were passed over, told in few words: what is damaged once spoils all checkpoints that stand on it.

use std::collections::BTreeMap;

use riverrun_dataflow::journal::StateFile;
use riverrun_dataflow::tick::Tick;

use crate::error::StateError;
use crate::file::{load_each, name_of};
use crate::folder::Folder;

/// Checkpoints that cannot be used, by the reason why.
#[derive(Debug, Default)]
pub struct PassedOver {
    /// In the order in which they were met.
    groups: Vec<Group>,
}

/// Checkpoints with one reason.
#[derive(Debug)]
struct Group {
    reason: String,
    checkpoints: u64,
    ticks: (Tick, Tick),
    /// The numbers of their records.
    records: (u64, u64),
}

impl PassedOver {
    /// Adds the checkpoint at `tick`, which is log record `seq`.
    pub fn add(&mut self, tick: Tick, seq: u64, reason: String) {
        match self.groups.iter_mut().find(|group| group.reason == reason) {
            Some(group) => {
                group.checkpoints += 1;
                group.ticks = (group.ticks.0.min(tick), group.ticks.1.max(tick));
                group.records = (group.records.0.min(seq), group.records.1.max(seq));
            }
            None => self.groups.push(Group { reason, checkpoints: 1, ticks: (tick, tick), records: (seq, seq) }),
        }
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns a sentence for each reason.
    pub fn told(&self) -> Vec<String> {
        self.groups.iter().map(Group::told).collect()
    }

    /// Returns a sentence for each reason, of which the last says what follows.
    pub fn told_with(&self, follows: &str) -> Vec<String> {
        let mut told = self.told();
        if let Some(last) = told.last_mut() {
            last.push_str("; ");
            last.push_str(follows);
        }
        told
    }
}

impl Group {
    fn told(&self) -> String {
        let Group { reason, checkpoints, ticks: (first, last), records: (from, to) } = self;
        match checkpoints {
            1 => format!("the checkpoint at tick {last} (log record {to}) cannot be used: {reason}"),
            _ => format!(
                "{checkpoints} checkpoints at ticks {first} to {last} (log records {from} to {to}) cannot be used: {reason}"
            ),
        }
    }
}

/// Reads the files of checkpoints back. One that cannot be used is found once, however many checkpoints stand on it.
pub struct Reading<'a> {
    folder: &'a Folder,
    /// Why files cannot be used, by path.
    broken: BTreeMap<String, String>,
}

impl<'a> Reading<'a> {
    /// Returns the reading of files in `folder`.
    pub fn of(folder: &'a Folder) -> Reading<'a> {
        Reading { folder, broken: BTreeMap::new() }
    }

    /// Reads `files` back; fails with the first one that cannot be used.
    pub fn read(&mut self, files: &[StateFile]) -> Result<(), Unusable> {
        if let Some(reason) = files.iter().find_map(|file| self.broken.get(&file.path)) {
            return Err(Unusable::Known(reason.clone()));
        }
        load_each(self.folder, files, &mut |_, _| Ok(())).map_err(|error| {
            if let StateError::Damaged { what, .. } = &error
                && let Some(file) = files.iter().find(|file| name_of(self.folder, file) == *what)
            {
                self.broken.insert(file.path.clone(), error.to_string());
            }
            Unusable::Found(error)
        })
    }
}

/// Why a checkpoint's files cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// This was found now.
    Found(StateError),
    /// This was found with another checkpoint.
    Known(String),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tests::model::{run, store};

    #[test]
    fn a_file_that_is_broken_is_found_once() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), 9, &[3, 6]);
        let folder = Folder::of(Arc::new(store(dir.path())), "j").unwrap();
        let reader = folder.log(&folder.read().unwrap().unwrap());
        let newest = reader.newest_checkpoint(None).unwrap().unwrap();
        let files: Vec<StateFile> = newest.body.checkpoint().unwrap().files().collect();
        let mut reading = Reading::of(&folder);
        reading.read(&files).unwrap();
        let path = folder.inside(&files[0].path);
        let whole = folder.store().get(&path).unwrap().unwrap();
        folder.store().delete(&path).unwrap();
        let Err(Unusable::Found(error)) = reading.read(&files) else { panic!("it is missing") };
        // Were it looked at again, it would be found whole.
        folder.store().put(&path, whole.to_vec()).unwrap();
        let Err(Unusable::Known(reason)) = reading.read(&files[..1]) else { panic!("it was found before") };
        assert_eq!(reason, error.to_string());
        reading.read(&files[1..]).unwrap();
    }

    #[test]
    fn checkpoints_with_one_reason_are_told_of_once() {
        let mut passed = PassedOver::default();
        assert!(passed.is_empty() && passed.told_with("it goes on").is_empty());
        for (tick, seq) in [(9, 20), (7, 15), (6, 12)] {
            passed.add(tick, seq, "`x` is damaged".into());
        }
        passed.add(5, 10, "`y` is missing".into());
        assert_eq!(
            passed.told_with("it goes on"),
            [
                "3 checkpoints at ticks 6 to 9 (log records 12 to 20) cannot be used: `x` is damaged",
                "the checkpoint at tick 5 (log record 10) cannot be used: `y` is missing; it goes on"
            ]
        );
    }
}
