//! Looking into state that is damaged, not there, or called by another name: what is said is true, and says what to do.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::oracle::Model;
use crate::support::jobs::{self, Over};
use crate::support::{Place, Shop};

const OFTEN: &[&str] = &["--set", "tick.max_rows=4", "--set", "commit.every=10ms", "--set", "checkpoint.every=10ms"];
const JOB: &str = "attribution";

/// A job that was killed at its work, with its checkpoints' ticks, the newest first.
fn killed(seed: u64) -> (Place, Vec<u64>) {
    let place = Place::new();
    Shop { seed, rows: 1200, ..Shop::default() }.open().write(&place);
    place.write("job.yaml", jobs::attribution(Over::Files, Model::Last));
    let mut running = place.run("job.yaml").args(OFTEN).start();
    let list = || place.riverrun(&["checkpoints", "ls", JOB, "-o", "json"]);
    let ticks = || -> Vec<u64> {
        let listed = list().finish();
        if listed.code != Some(0) {
            return Vec::new();
        }
        let listed = listed.document();
        listed["checkpoints"].as_array().unwrap().iter().map(|it| it["tick"].as_u64().unwrap()).collect()
    };
    running.catch("two checkpoints", || ticks().len() >= 2);
    running.kill();
    let ticks = ticks();
    (place, ticks)
}

fn files(place: &Place, below: &str) -> Vec<PathBuf> {
    place.files_below(&format!(".riverrun/state/jobs/{JOB}/{below}"))
}

/// Breaks a state file that the newest checkpoint has and not the oldest. Returns it, and the checkpoints that have it, oldest first.
fn broken(place: &Place, ticks: &[u64]) -> (PathBuf, Vec<u64>) {
    let has = |tick: &u64, file: &Path| {
        let shown = place.riverrun(&["checkpoints", "show", JOB, &tick.to_string(), "-o", "json"]).succeed();
        let all = shown.document()["tables"].to_string();
        file.ancestors()
            .nth(4)
            .and_then(|folder| file.strip_prefix(folder).ok())
            .is_some_and(|it| all.contains(it.to_str().unwrap()))
    };
    let (newest, oldest) = (ticks.first().unwrap(), ticks.last().unwrap());
    let mut all = files(place, "state").into_iter();
    let file = all.find(|file| has(newest, file) && !has(oldest, file)).expect("state changed in between");
    fs::write(&file, "rubbish").unwrap();
    let mut touched: Vec<u64> = ticks.iter().copied().filter(|tick| has(tick, &file)).collect();
    touched.reverse();
    (file, touched)
}

#[test]
fn verification_says_which_checkpoints_are_still_good() {
    let (place, ticks) = killed(760);
    let verify = || place.riverrun(&["checkpoints", "verify", JOB]);
    let whole = verify().succeed();
    let said = String::from_utf8_lossy(&whole.stdout).into_owned();
    assert!(said.contains("read back: all is well\n"), "{said}");
    assert!(said.ends_with(&format!("newest usable checkpoint: tick {}\n", ticks[0])), "{said}");
    let (file, touched) = broken(&place, &ticks);
    let usable = *ticks.iter().find(|tick| !touched.contains(tick)).unwrap();
    let finished = verify().fail(74, &["1 fault in the state of job `attribution`\n  hint: "]);
    let said = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert!(said.contains(&*file.to_string_lossy()) && !said.contains("all is well"), "{said}");
    assert!(said.contains("\n  of no use because of it: the "), "{said}");
    assert!(said.ends_with(&format!("newest usable checkpoint: tick {usable}\n")), "{said}");
    let document = verify().args(&["-o", "json"]).fail(74, &[]).document();
    assert_eq!(document["newest_usable"], usable, "{document}");
    assert_eq!(document["findings"][0]["checkpoints"], Value::from(touched), "{document}");
    assert!(document["findings"][0]["reason"].as_str().unwrap().starts_with("it has 7 bytes"), "{document}");
    // A start does as it was said, and says so once.
    let said = place.run("job.yaml").args(OFTEN).succeed().stderr;
    assert_eq!(said.matches("cannot be used").count(), 1, "{said}");
    assert!(said.contains(&format!("; going on from the one at tick {usable} (")), "{said}");
}

#[test]
fn who_asks_a_damaged_checkpoint_is_told_where_else_to_ask() {
    let (place, ticks) = killed(761);
    broken(&place, &ticks);
    let [newest, before] = [ticks[0], ticks[ticks.len() - 1]].map(|tick| tick.to_string());
    let hint = "`riverrun checkpoints verify attribution` says which are whole";
    place.riverrun(&["checkpoints", "query", JOB]).fail(74, &["\n  hint: `--checkpoint T` asks an older one", hint]);
    place.riverrun(&["checkpoints", "diff", JOB, &before, &newest]).fail(74, &["\n  hint: other ticks", hint]);
    place.riverrun(&["checkpoints", "query", JOB, "--checkpoint", &before]).succeed();
}

#[test]
fn checkpoints_are_listed_though_a_log_record_is_damaged() {
    let (place, ticks) = killed(762);
    let record = &files(&place, "log")[0];
    fs::write(record, "rubbish").unwrap();
    let list = || place.riverrun(&["checkpoints", "list", JOB]);
    let finished = list().fail(74, &["1 object of job `attribution` cannot be read", &*record.to_string_lossy()]);
    let said = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert_eq!(said.lines().count(), 1 + ticks.len(), "{said}");
    let document = list().args(&["-o", "json"]).fail(74, &[]).document();
    assert_eq!(document["checkpoints"].as_array().unwrap().len(), ticks.len(), "{document}");
    assert!(document["findings"][0]["object"].as_str().unwrap().contains("0001.json"), "{document}");
    // The first record says who began: nobody needs it to go on.
    place.run("job.yaml").args(OFTEN).succeed();
}

#[test]
fn a_job_that_lost_its_description_is_not_said_to_have_never_run() {
    let (place, _) = killed(763);
    fs::remove_file(place.path(".riverrun/state/jobs/attribution/job.json")).unwrap();
    let says = ["but no job.json", "\n  hint: restore job.json from a backup"];
    for command in [&["ls"][..], &["show"], &["verify"], &["query"], &["diff", "1", "latest"]] {
        place.riverrun(&["checkpoints", command[0], JOB]).args(&command[1..]).fail(74, &says);
    }
}

#[test]
fn a_name_that_is_mistyped_is_answered_with_those_that_are_there() {
    let (place, ticks) = killed(764);
    let verify = |arguments: &[&str]| place.riverrun(&["checkpoints", "verify"]).args(arguments);
    verify(&["jop.yaml"]).fail(3, &["there is no file `jop.yaml`"]);
    verify(&["atribution"])
        .fail(3, &["never ran", "hint: did you mean `attribution`? jobs with state there: attribution"]);
    verify(&["x"]).fail(3, &["hint: jobs with state there: attribution"]);
    for deep in [".riverrun/state/jobs", ".riverrun/state/jobs/attribution"] {
        let whole = place.path(".riverrun/state").canonicalize().unwrap();
        let says = format!("hint: --state names the folder that has `jobs/` in it: {}\n", whole.display());
        verify(&[JOB, "--state", deep]).fail(3, &[&says]);
    }
    fs::create_dir(place.path("empty")).unwrap();
    verify(&[JOB, "--state", "empty"]).fail(3, &["hint: no job has state there"]);
    // The tick stands in its place, as in `diff`.
    let show = |arguments: &[&str]| place.riverrun(&["checkpoints", "show", JOB, "-o", "json"]).args(arguments);
    let [newest, before] = [ticks[0], ticks[1]].map(|tick| tick.to_string());
    for arguments in [&[&*before][..], &["--tick", &before]] {
        assert_eq!(show(arguments).succeed().document()["tick"], ticks[1]);
    }
    assert_eq!(show(&["latest"]).succeed().document()["tick"], ticks[0]);
    show(&[&before, "--tick", &newest]).fail(2, &["hint: leave --tick out"]);
}

#[test]
fn a_query_that_asks_nothing_is_refused_and_no_table_is_no_tick_zero() {
    let place = Place::new();
    Shop { seed: 765, rows: 300, ..Shop::default() }.open().write(&place);
    place.write("copy.yaml", jobs::copy());
    place.run("copy.yaml").succeed();
    let query = |arguments: &[&str]| place.riverrun(&["checkpoints", "query", "copy"]).args(arguments);
    for nothing in ["", " ; "] {
        query(&[nothing]).fail(2, &["there is no SQL"]);
        query(&[nothing, "--print-script"]).fail(2, &["there is no SQL"]);
    }
    let listed = query(&[]).succeed().stderr;
    assert!(listed.contains(": no table is in its state") && !listed.contains("after tick 0"), "{listed}");
}

#[test]
fn hints_of_topics_look_like_all_others() {
    let place = Place::new();
    fs::create_dir(place.path("topics")).unwrap();
    place.riverrun(&["topic", "tail", "none", "--topics", "topics"]).fail(3, &["\n  hint: create it with"]);
}
