//! Every decoder is held to the rule: see the crate's documentation.
//!
//! `cargo test --workspace --test hostile` is short and the same at every run. `RIVERRUN_FUZZ_SECONDS=1200` gives every target so
//! long, `RIVERRUN_FUZZ_SEED` another beginning, `RIVERRUN_FUZZ_INPUT=FILE` one input alone, `UPDATE=1` writes the samples into
//! the corpus.

mod files;
mod job_files;
mod records;
mod rows;
mod schemas;
mod sidecars;
mod states;
mod topics;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

use peak_alloc::PeakAlloc;
use riverrun_fuzz::hold::{Mend, Target};

/// Counts what decoders allocate.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Holds `target` to the rule, with the corpus that is kept.
fn hold(target: &Target<'_>) {
    riverrun_fuzz::hold::hold(target, &Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus"));
}

/// Checksums are left as they are.
fn as_it_is() -> Mend<'static> {
    Box::new(|_| {})
}

/// The states that earlier builds wrote: one folder per job.
fn kept_jobs() -> Vec<PathBuf> {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/state/v1");
    let mut folders: Vec<PathBuf> = entries(&kept);
    folders.sort();
    assert!(!folders.is_empty(), "the fixtures are there");
    folders
}

/// The bytes of all files below `folder` whose path ends in `end`, by path.
fn files_below(folder: &Path, end: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut paths = entries(folder);
    paths.sort();
    for path in paths {
        if path.is_dir() {
            found.extend(files_below(&path, end));
        } else if path.to_str().is_some_and(|path| path.ends_with(end)) {
            found.push(fs::read(&path).expect("a fixture is readable"));
        }
    }
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("the folder stays").path()).collect()
}

/// A folder on which a flush costs nothing, if there is one.
fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder can be made")
}
