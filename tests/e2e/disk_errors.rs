//! A disk that fails: the process ends with exit code 74 and says where, tries nothing again on the file that failed, and a
//! restart loses and doubles nothing.
//!
//! Twenty acts, drawn by a seed, or as many as `RIVERRUN_DISK_FAULTS` says; `RIVERRUN_SEED` draws others.

use crate::oracle::Model;
use crate::support::jobs::{self, BUSY, Over};
use crate::support::{Dice, Finished, Place, Shop, topics};

/// Acts that fail in a short run.
const FEW: u64 = 12;

/// An act, and the end or a part of the path that it is done to, by where the job's rows go.
const FILES: &[(&str, &str)] = &[
    ("write", "out.jsonl$"),
    ("sync", "out.jsonl$"),
    ("write", ".tmp$"),
    ("sync", ".tmp$"),
    ("rename", "out.jsonl.riverrun.json$"),
    ("sync_folder", "$"),
    ("create", "/log/"),
    ("created", "/log/"),
    ("put", "/state/g"),
    ("stored", "/state/g"),
];
const TOPICS: &[(&str, &str)] =
    &[("write", "/out/0/"), ("sync", "/out/0/"), ("write", "/bad/0/"), ("sync", "/late/0/"), ("create", "/log/")];

fn variable(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

/// A job and its input.
fn filled(over: Over, seed: u64) -> Place {
    let place = Place::new();
    let shopping = Shop { seed, rows: 900, ..Shop::default() }.open();
    place.write("job.yaml", jobs::attribution(over, Model::Last));
    match over {
        Over::Files => shopping.write(&place),
        Over::Topics => {
            for (name, rows) in [("clicks", &shopping.clicks), ("orders", &shopping.orders)] {
                let mut producer = topics::producer(&place.path("topics"), name, 1);
                topics::append(&mut producer, rows.iter().map(Vec::as_slice));
            }
        }
    }
    place
}

fn run(place: &Place) -> crate::support::process::Invocation {
    place.run("job.yaml").args(&["--topics", "topics", "--until-end"]).args(BUSY)
}

/// All that the job wrote.
fn written(place: &Place, over: Over) -> Vec<Vec<u8>> {
    let names = ["out", "bad", "late"];
    match over {
        Over::Files => names.map(|name| place.read(&format!("{name}.jsonl"))).to_vec(),
        Over::Topics => {
            let records = names.map(|name| topics::records(&place.path("topics"), name));
            records.into_iter().flatten().map(|record| record.value).collect()
        }
    }
}

/// Checks that nothing was tried on a file after an act on it had failed; returns whether one had.
fn tried_nothing_again(acts: &str, told: &str) -> bool {
    let mut lines = acts.lines().filter_map(|line| line.split_once(' '));
    let Some((_, failed)) = lines.find(|(outcome, _)| *outcome == "failed") else { return false };
    let (act, path) = failed.split_once(' ').expect("an act has a path");
    // A folder has other files, and an object is written as a whole: only what is written in place is a file that failed.
    if matches!(act, "write" | "sync") {
        let again = lines.find(|(_, later)| later.split_once(' ').is_some_and(|(_, later)| later == path));
        assert!(again.is_none(), "{told}: after {failed} it tried {again:?}");
    }
    true
}

fn check_failed(finished: &Finished, told: &str) {
    assert_eq!(finished.code, Some(74), "{told}: {finished}");
    assert!(
        finished.stderr.contains("os error 5") || finished.stderr.contains("nput/output error"),
        "{told}: {finished}"
    );
}

/// Has one act fail, then lets the job come to its end.
fn suffer(over: Over, (act, part): (&str, &str), nth: &str, seed: u64, calm: &[Vec<u8>]) -> bool {
    let told = format!("seed {seed}, {over:?}: {act}:{part}:{nth}");
    let place = filled(over, seed);
    let script = format!("RIVERRUN_FAIL_ACT='{act}:{part}:{nth}' RIVERRUN_ACTS=acts exec \"$@\"");
    let finished = run(&place).within(&["sh"], &script).finish();
    let acts = String::from_utf8(place.read("acts")).expect("paths are text");
    let hit = tried_nothing_again(&acts, &told);
    match hit {
        true => check_failed(&finished, &told),
        // There were not so many such acts.
        false => assert_eq!(finished.code, Some(0), "{told}: {finished}"),
    }
    run(&place).succeed();
    assert!(written(&place, over) == calm, "{told}: rows were lost, doubled or changed");
    hit
}

#[test]
fn a_failing_disk_ends_the_job_and_a_restart_loses_and_doubles_nothing() {
    let seed = variable("RIVERRUN_SEED", 501);
    let mut dice = Dice::new(seed);
    let calm = [Over::Files, Over::Topics].map(|over| {
        let place = filled(over, seed);
        run(&place).succeed();
        written(&place, over)
    });
    assert!(
        calm.iter().all(|written| written.iter().map(Vec::len).sum::<usize>() > 1000),
        "there is something to lose"
    );
    let faults = variable("RIVERRUN_DISK_FAULTS", FEW);
    let mut hit = 0;
    for number in 0..faults {
        let (over, acts) = if number % 3 == 2 { (Over::Topics, TOPICS) } else { (Over::Files, FILES) };
        let calm = &calm[usize::from(over == Over::Topics)];
        let nth = *dice.one_of(&["1", "2", "3", "5", "1+", "2+", "4+"]);
        hit += u64::from(suffer(over, *dice.one_of(acts), nth, seed, calm));
    }
    println!("{faults} acts, {hit} of them failed");
    assert!(hit * 2 > faults, "only {hit} of {faults} acts were there to fail");
}
