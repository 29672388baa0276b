//! Records of a job's log, and what is read like them.

use std::fs;
use std::path::Path;

use riverrun_fuzz::hold::Target;
use riverrun_state::folder::JobFile;
use riverrun_state::record::{Digest, seal, unseal, unseal_copy};
use riverrun_state::{Store, inspect, savepoint};
use xxhash_rust::xxh3::xxh3_64;

use crate::{files_below, hold, kept_jobs, quick_dir};

/// Stands before the hash at the end of a record.
const SEAL: &[u8] = b",\"xxh3\":\"";

/// Seals what stands before the seal, or before the last bracket if there is none.
fn reseal(bytes: &mut Vec<u8>) {
    let at = bytes.windows(SEAL.len()).rposition(|window| window == SEAL);
    let at = at.or_else(|| bytes.iter().rposition(|byte| *byte == b'}')).unwrap_or(bytes.len());
    bytes.truncate(at);
    let hash = xxh3_64(bytes);
    bytes.extend_from_slice(SEAL);
    bytes.extend_from_slice(format!("{hash:016x}\"}}\n").as_bytes());
}

fn samples() -> Vec<Vec<u8>> {
    kept_jobs().iter().flat_map(|job| files_below(&job.join("state/jobs"), ".json")).collect()
}

#[test]
fn log_record() {
    let read = |bytes: &[u8]| {
        drop(unseal(bytes, 3, "the record"));
        let Ok(record) = unseal_copy(bytes, "the record") else { return };
        drop(record.foundation());
        if let Some(checkpoint) = record.body.checkpoint() {
            // As collection and recovery go through it.
            assert!(checkpoint.files().count() <= checkpoint.files().map(|file| file.shards.len() + 1).sum());
            drop(checkpoint.clone().into_parts());
        }
        let (again, _) = seal(&record.header, &record.body);
        assert_eq!(unseal_copy(&again, "it").expect("what was read can be written").body, record.body);
    };
    hold(&Target {
        name: "log-record",
        samples: samples(),
        mend: Box::new(reseal),
        // Every file of a checkpoint names its shards one by one: 8 KiB, if it is about all that there can be.
        spare: 1 << 20,
        cases: 3000,
        read: Box::new(read),
    });
}

/// A job's folder of which one file is hostile.
struct Kept {
    folder: tempfile::TempDir,
    job: String,
}

impl Kept {
    fn new(name: &str) -> Kept {
        let kept = kept_jobs().into_iter().find(|job| job.ends_with(name)).expect("the fixture is there");
        let folder = quick_dir();
        copy(&kept.join("state"), folder.path());
        Kept { folder, job: format!("fixture-{name}") }
    }

    fn path(&self, inside: &str) -> std::path::PathBuf {
        self.folder.path().join("jobs").join(&self.job).join(inside)
    }

    fn store(&self) -> Store {
        Store::existing_folder(self.folder.path()).expect("the folder is there")
    }

    /// All ways in which a job is looked at.
    fn look(&self) {
        drop(inspect::list(self.store(), &self.job));
        drop(inspect::show(self.store(), &self.job, None));
        drop(savepoint::list(self.store(), &self.job));
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the test can write");
    for path in crate::entries(from) {
        let target = to.join(path.file_name().expect("an entry has a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, target).expect("the test can write")),
        }
    }
}

/// The newest record of a log: everything is looked at from there.
#[test]
fn log_end() {
    let kept = Kept::new("window");
    let mut logs = crate::entries(&kept.path("log"));
    logs.sort();
    let last = logs.pop().expect("the log has records");
    let number = logs.len() as u64 + 1;
    let samples = samples();
    hold(&Target {
        name: "log-end",
        samples,
        mend: Box::new(move |bytes| {
            // The number of a record is part of what is sealed.
            if let Some(at) = bytes.windows(6).position(|window| window == b"\"seq\":") {
                let end = bytes[at + 6..].iter().position(|byte| !byte.is_ascii_digit()).map_or(at + 6, |n| at + 6 + n);
                bytes.splice(at + 6..end, number.to_string().bytes());
            }
            reseal(bytes);
        }),
        spare: 1 << 20,
        cases: 800,
        read: Box::new(|bytes| {
            fs::write(&last, bytes).expect("the test can write");
            kept.look();
        }),
    });
}

#[test]
fn savepoint_file() {
    let kept = Kept::new("window");
    fs::create_dir_all(kept.path("savepoints")).expect("the test can write");
    let path = kept.path("savepoints/s.json");
    hold(&Target {
        name: "savepoint",
        samples: samples(),
        mend: Box::new(reseal),
        spare: 1 << 20,
        cases: 800,
        read: Box::new(|bytes| {
            fs::write(&path, bytes).expect("the test can write");
            drop(savepoint::list(kept.store(), &kept.job));
            drop(savepoint::read(kept.store(), &kept.job, "s"));
        }),
    });
}

#[test]
fn job_json() {
    let kept = Kept::new("window");
    let path = kept.path("job.json");
    let samples = kept_jobs().iter().flat_map(|job| files_below(&job.join("state/jobs"), "job.json")).collect();
    hold(&Target {
        name: "job-json",
        samples,
        mend: Box::new(|bytes| {
            let Ok(mut file) = serde_json::from_slice::<JobFile>(bytes) else { return };
            file.xxh3 = Digest(0);
            file.xxh3 = Digest(xxh3_64(&serde_json::to_vec(&file).expect("it was read")));
            *bytes = serde_json::to_vec(&file).expect("it was read");
        }),
        spare: 1 << 20,
        cases: 800,
        read: Box::new(|bytes| {
            fs::write(&path, bytes).expect("the test can write");
            kept.look();
        }),
    });
}
