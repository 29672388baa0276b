//! Ticks that a build has recorded and that are in no checkpoint yet, as a process leaves them that was killed:
//! `tests/fixtures/ticks/BUILD_ID`.
//!
//! A build that has the id derives them again, to the very digests that are in the log; another one refuses them. So who changes
//! what comes out, be it a byte, and leaves [`BUILD_ID`] as it was, fails here.
//! `RIVERRUN_ADD_FIXTURES=ticks cargo test --workspace --test e2e recorded` writes those of this build that are missing; what is
//! there is never written again.

use std::fs;
use std::path::{Path, PathBuf};

use riverrun_jobs::BUILD_ID;
use serde_json::Value;

use crate::fixtures::{JOBS, copy, folders_in, job};
use crate::support::Place;

/// Every tick is in the log soon, and in a checkpoint never.
const UNSAVED: &[&str] = &["--state", "state", "--set", "commit.every=20ms", "--set", "checkpoint.every=24h"];
const OUTPUTS: [&str; 2] = ["out.jsonl", "late.jsonl"];
/// Rows of a job's input, about.
const ROWS: usize = 125;
/// Ticks that are left to be derived again, at least.
const TICKS: usize = 5;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ticks")
}

#[test]
fn what_a_build_has_recorded_it_derives_again_and_no_other_build_does() {
    if std::env::var("RIVERRUN_ADD_FIXTURES").is_ok_and(|what| what == "ticks") {
        JOBS.iter().zip(700..).for_each(|((name, traffic, steps), seed)| {
            let write = |place: &Place| {
                traffic.write(place, seed, ROWS);
                place.write("job.yaml", job(name, *traffic, steps));
            };
            add(name, write);
        });
    }
    let own: Vec<PathBuf> = folders_in(&fixtures().join(BUILD_ID));
    for (name, ..) in JOBS {
        assert!(
            own.iter().any(|fixture| fixture.ends_with(name)),
            "{BUILD_ID} has recorded no ticks of the job `{name}`"
        );
    }
    for build in folders_in(&fixtures()) {
        for (number, fixture) in folders_in(&build).iter().enumerate() {
            let place = Place::new();
            copy(fixture, place.folder());
            let run = place.run("job.yaml").args(UNSAVED).workers(1 + number % 3);
            if !build.ends_with(BUILD_ID) {
                run.fail(78, &["may derive other bytes"]);
                continue;
            }
            let finished = run.finish();
            let shown = fixture.display();
            assert_eq!(
                finished.code,
                Some(0),
                "{shown}: what comes out of this build is not what {BUILD_ID} stands for: it needs another BUILD_ID \
                 (jobs/src/plan.rs), and ticks of its own: {finished}"
            );
            for output in OUTPUTS {
                assert!(place.read(output) == place.read(&format!("expected/{output}")), "{shown}: {output} differs");
            }
        }
    }
}

/// Writes what this build leaves of a job that ends between the rows of a commit and its token, once enough is in the log.
fn add(name: &str, write: impl Fn(&Place)) {
    let to = fixtures().join(BUILD_ID).join(name);
    if to.exists() {
        return;
    }
    for commit in 1..20 {
        let place = Place::new();
        write(&place);
        let point = format!("file.rows.written:{commit}");
        place.run("job.yaml").args(UNSAVED).workers(2).env("RIVERRUN_FAIL_POINT", point).finish();
        if left_in(&place.path(&format!("state/jobs/fixture-{name}/log"))) < TICKS {
            continue;
        }
        copy(place.folder(), &to);
        place.run("job.yaml").args(UNSAVED).succeed();
        assert!(!place.read("out.jsonl").is_empty(), "{name} gives nothing");
        for output in OUTPUTS {
            fs::create_dir_all(to.join("expected")).expect("the test can write");
            fs::copy(place.path(output), to.join("expected").join(output)).expect("the test can write");
        }
        return;
    }
    panic!("{name} never leaves {TICKS} ticks");
}

/// Returns how many ticks of a log are in no checkpoint.
fn left_in(log: &Path) -> usize {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(log).expect("it is there").map(|entry| entry.expect("the folder stays").path()).collect();
    paths.sort();
    let mut left = 0;
    for path in paths {
        let record: Value = serde_json::from_slice(&fs::read(&path).expect("it is there")).expect("a record is JSON");
        let ticks = record["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
        left = if record["type"] == "checkpoint" { 0 } else { left + ticks.len() };
    }
    left
}
