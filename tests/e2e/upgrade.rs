//! A job becomes another one: drained, upgraded, killed in the middle of it, and nothing is lost, nothing comes twice.
//!
//! With `RIVERRUN_OLD_BINARY` the first version of a job is run by that binary, an earlier build, and upgraded by this one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::oracle::{self, Model, assert_same};
use crate::support::jobs::{DEDUPE_MS, WINDOW_MS};
use crate::support::process::{Finished, Invocation, Stop};
use crate::support::shop::START_MS;
use crate::support::{Dice, Place, Shop, Shopping};

/// Ticks so small that a run takes its time, and not so many writes that it takes that of the disk.
const SLOW: &[&str] = &["--set", "tick.max_rows=4", "--set", "commit.every=20ms", "--set", "checkpoint.every=200ms"];

/// Orders with their clicks and clicks per minute, from files; `$` stands for what a version has besides.
const JOB: &str = r#"
job: shop
sources:
  clicks:
    file: { path: "in/clicks-*.jsonl" }
    format: json
    schema: { event_id: string, user_id: string, item_id: string, event_type: string, ts: timestamp_ms }
    event_time: ts
    id: event_id
    max_disorder: 5s
  orders:
    file: { path: "in/orders-*.jsonl" }
    format: json
    schema: { order_id: string, user_id: string, item_id: string, price: "decimal(12,2)", ts: timestamp_ms }
    event_time: ts
    id: order_id
    max_disorder: 5s
steps:
  item_clicks:
    select: { from: clicks, where: "event_type = 'click'", columns: [event_id, user_id, item_id, ts] }
  attributed:
    attribute: { conversions: orders, touches: item_clicks, by: [user_id, item_id], window: 30m, model: last_touch }
  minutes:
    window:
      from: clicks
      tumble: 1m
      by: [item_id]
      aggregates:
        impressions: "count(*) filter (where event_type = 'impression')"
        clicks: "count(*) filter (where event_type = 'click')"
$steps
sinks:
  out: { from: attributed, file: { path: out.jsonl }, timestamps: epoch_ms }
  per_minute: { from: minutes, file: { path: minutes.jsonl }, timestamps: epoch_ms }
$sinks
"#;

fn first() -> String {
    JOB.replace("$steps\n", "").replace("$sinks\n", "")
}

/// With another lateness, its aggregates in another order, a step more, and a sink more.
fn second() -> String {
    let hours = "  hours:\n    window: { from: clicks, tumble: 1h, aggregates: { rows: \"count(*)\" } }\n";
    let sink = "  hourly: { from: hours, file: { path: hours.jsonl }, timestamps: epoch_ms }\n";
    let (one, two) = (line("impressions"), line("clicks"));
    let turned = JOB.replace(&format!("{one}{two}"), &format!("{two}{one}"));
    assert_ne!(turned, JOB);
    let later = turned.replace("      by: [item_id]\n", "      by: [item_id]\n      lateness: 10s\n");
    later.replace("$steps\n", hours).replace("$sinks\n", sink)
}

/// With windows of another size, and without orders.
fn third() -> String {
    let all = first().replace("tumble: 1m", "tumble: 2m");
    let cut = |text: String, from: &str, to: &str| {
        let (start, end) = (text.find(from).expect("it is there"), text.find(to).expect("it is there"));
        format!("{}{}", &text[..start], &text[end..])
    };
    let all = cut(all, "  orders:\n", "steps:\n");
    let all = cut(all, "  item_clicks:\n", "  minutes:\n");
    cut(all, "  out: {", "  per_minute: {")
}

/// The line of an aggregate.
fn line(name: &str) -> String {
    let event = name.trim_end_matches('s');
    format!("        {name}: \"count(*) filter (where event_type = '{event}')\"\n")
}

struct Trial {
    place: Place,
    shopping: Shopping,
    dice: Dice,
}

impl Trial {
    fn new(seed: u64) -> Trial {
        let shopping = Shop { seed, rows: 1000, ..Shop::default() }.open();
        let place = Place::new();
        shopping.write(&place);
        place.write("first.yaml", first()).write("second.yaml", second());
        Trial { place, shopping, dice: Dice::new(seed) }
    }

    fn run(&self, job: &str) -> Invocation {
        let run = self.place.run(job).args(SLOW).workers(1);
        if job == "first.yaml" { run.by_earlier_build() } else { run }
    }

    fn upgrade(&self, job: &str) -> Invocation {
        self.place.riverrun(&["upgrade", job, "-o", "json"]).args(SLOW)
    }

    /// Runs the first version until it has written something, and stops it. Returns how many clicks it took.
    fn drained(&self) -> u64 {
        stopped_on_its_way(&self.place, &self.run("first.yaml"), "out.jsonl").counts("clicks").taken
    }

    /// What both versions give is what one run over all input gives.
    fn as_expected(&self) {
        let clicks = oracle::clicks(&self.shopping.click_files());
        let orders = oracle::orders(&self.shopping.order_files());
        let expected = oracle::attributed(&clicks, &orders, WINDOW_MS, DEDUPE_MS, Model::Last);
        assert_same(&self.place.rows("out.jsonl"), &expected, &["price"]);
        assert_same(&self.place.rows("minutes.jsonl"), &oracle::minutes(&clicks), &[]);
    }
}

/// Stops a run once there is a row in `file`. One that came to its end before the signal came to it is begun anew.
fn stopped_on_its_way(place: &Place, run: &Invocation, file: &str) -> Finished {
    for _ in 0..20 {
        let mut running = run.start();
        running.catch_once_written(&place.path(file));
        running.signal(Stop::Terminate);
        let stopped = running.finish();
        assert_eq!(stopped.code, Some(0), "{stopped}");
        if stopped.ended() == "stopped" {
            return stopped;
        }
        place.forget_runs();
    }
    panic!("each run came to its end before it was stopped");
}

/// How many times: at the gate once, every night twenty times.
fn trials() -> u64 {
    std::env::var("RIVERRUN_UPGRADES").ok().and_then(|count| count.parse().ok()).unwrap_or(1)
}

#[test]
fn an_upgrade_that_is_killed_loses_nothing_and_doubles_nothing() {
    for seed in 0..trials() {
        assert!((0..20).any(|_| under_kills(seed)), "seed {seed}: each job came to its end before it was upgraded");
    }
}

/// Upgrades that are killed at any moment, until one is not; between them the job goes on as whatever it is by then. Returns whether it
/// was not at its end before it could be upgraded.
fn under_kills(seed: u64) -> bool {
    let mut trial = Trial::new(500 + seed);
    let mut taken = trial.drained();
    let mut killed = 0;
    let upgraded = loop {
        let mut upgrading = trial.upgrade("second.yaml").start();
        let moment = trial.dice.moment(Duration::from_millis(60));
        if killed >= 6 || upgrading.ends_within(moment) {
            let ended = upgrading.finish();
            assert_eq!(ended.code, Some(0), "seed {seed}: {ended}");
            break ended;
        }
        upgrading.kill();
        killed += 1;
        if killed % 2 == 0 {
            // The old version goes on, or is told that it is the old one.
            let mut old = trial.run("first.yaml").start();
            if !old.ends_within(Duration::from_millis(150)) {
                old.signal(Stop::Terminate);
            }
            let ended = old.finish();
            match ended.code {
                Some(0) if ended.ended() == "finished" => return false,
                Some(0) => taken = ended.counts("clicks").taken,
                _ => assert!(ended.code == Some(78) && ended.stderr.contains("upgrade"), "seed {seed}: {ended}"),
            }
        }
    };
    let status = upgraded.document()["status"].as_str().unwrap().to_owned();
    assert!(["upgraded", "up_to_date"].contains(&status.as_str()), "{upgraded}");
    trial.run("first.yaml").fail(78, &["changed", "upgrade"]);
    let mut workers = [1, 4, 2, 3].into_iter().cycle();
    for _ in 0..3 {
        let mut running = trial.place.run("second.yaml").args(SLOW).workers(workers.next().unwrap()).start();
        if running.ends_within(trial.dice.moment(Duration::from_millis(300))) {
            break;
        }
        running.kill();
    }
    let finished = trial.place.run("second.yaml").args(SLOW).workers(2).succeed();
    trial.as_expected();
    let new = finished.counts("hours");
    assert_eq!(taken + new.taken, finished.counts("clicks").taken, "the new step has every click since the upgrade");
    let mut hours: BTreeMap<i64, u64> = BTreeMap::new();
    for row in trial.place.rows("hours.jsonl") {
        let again = hours.insert(row["window_start"].as_i64().unwrap(), row["rows"].as_u64().unwrap());
        assert!(again.is_none(), "seed {seed}: an hour came twice: {row}");
    }
    assert_eq!(hours.values().sum::<u64>(), new.taken, "seed {seed}");
    let verified = trial.place.riverrun(&["checkpoints", "verify", "shop", "-o", "json"]).succeed();
    assert_eq!(verified.document()["findings"], Value::Array(Vec::new()), "{verified}");
    true
}

/// The fate of a part, as the report tells it.
fn fate<'r>(report: &'r Value, name: &str) -> &'r str {
    let part = report["parts"].as_array().unwrap().iter().find(|part| part["name"] == name);
    part.and_then(|part| part["fate"].as_str()).unwrap_or_else(|| panic!("nothing is said of {name}: {report}"))
}

#[test]
fn what_becomes_of_each_part_is_shown_before_anything_is_done() {
    let trial = Trial::new(510);
    trial.upgrade("second.yaml").fail(3, &["never ran", "riverrun run"]);
    trial.drained();
    let log = || trial.place.files_below(".riverrun/state/jobs/shop/log").len();
    let before = log();
    let planned = trial.upgrade("second.yaml").arg("--dry-run").succeed();
    let report = planned.document();
    assert_eq!((log(), report["status"].as_str()), (before, Some("planned")), "a dry run writes nothing: {planned}");
    let fates = ["clicks", "attributed", "minutes", "hours", "out", "hourly"].map(|name| fate(&report, name));
    assert_eq!(fates, ["kept", "kept", "migrated", "new", "kept", "new"]);
    let table = trial.place.riverrun(&["upgrade", "second.yaml", "--dry-run"]).args(SLOW).succeed();
    let shown = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(shown.contains("minutes") && shown.contains("migrated") && shown.contains("lateness"), "{table}");
    trial.upgrade("first.yaml").succeed();
    assert_eq!(log(), before, "what is up to date is left alone");
    // In one go: what is to be shown is shown, the upgrade is made, the job runs.
    let finished = trial.place.run("second.yaml").args(SLOW).arg("--upgrade").workers(3).succeed();
    assert!(finished.stderr.contains("migrated") && finished.stderr.contains("is upgraded"), "{finished}");
    trial.as_expected();
    trial.upgrade("first.yaml").fail(78, &["is finished", "--fresh"]);
}

#[test]
fn a_loss_is_allowed_by_name_or_refused() {
    let trial = Trial::new(511);
    trial.drained();
    let changed = first()
        .replace("tumble: 1m", "tumble: 2m")
        .replace("  out: { from: attributed,", "  credits: { from: attributed,");
    trial.place.write("third.yaml", changed.replace("out.jsonl", "credits.jsonl"));
    let report = trial.upgrade("third.yaml").arg("--dry-run").succeed().document();
    assert_eq!((fate(&report, "minutes"), fate(&report, "out"), fate(&report, "credits")), ("reset", "gone", "new"));
    assert_eq!(report["to_allow"], serde_json::json!(["minutes", "out"]));
    trial.upgrade("third.yaml").fail(78, &["would lose", "minutes, out", "--allow-reset minutes"]);
    let shown = trial.upgrade("third.yaml").fail(78, &["its size was `1m` and is `2m`"]);
    assert!(shown.stdout.is_empty(), "a program gets one document, or none: {shown}");
    trial.upgrade("third.yaml").args(&["--allow-reset", "minutes"]).fail(78, &["one part: out"]);
    trial.upgrade("third.yaml").args(&["--allow-reset", "minutes", "--allow-reset", "out"]).succeed();
    trial.run("third.yaml").succeed();
    // Orders are credited as ever, those before the upgrade in one file, those after it in the other.
    let clicks = oracle::clicks(&trial.shopping.click_files());
    let orders = oracle::orders(&trial.shopping.order_files());
    let expected = oracle::attributed(&clicks, &orders, WINDOW_MS, DEDUPE_MS, Model::Last);
    let rows = [trial.place.rows("out.jsonl"), trial.place.rows("credits.jsonl")].concat();
    assert_same(&rows, &expected, &["price"]);
}

#[test]
fn a_job_that_is_not_drained_is_refused_with_the_way_out() {
    let trial = Trial::new(512);
    let mut running = trial.run("first.yaml").start();
    running.catch_once_written(&trial.place.path("out.jsonl"));
    // While it runs the plan of an upgrade can be seen, and nobody can make it.
    trial.upgrade("second.yaml").arg("--dry-run").succeed();
    running.kill();
    let report = trial.upgrade("second.yaml").arg("--dry-run").succeed().document();
    if let Some(obstacle) = report["obstacle"].as_str() {
        assert!(obstacle.contains("not drained") && obstacle.contains("SIGTERM"), "{obstacle}");
        trial.upgrade("second.yaml").fail(78, &["not drained", "SIGTERM"]);
        trial.run("second.yaml").arg("--upgrade").fail(78, &["not drained", "SIGTERM"]);
    }
    trial.run("second.yaml").fail(78, &["changed", "upgrade", "--fresh"]);
    // The way out.
    let mut running = trial.run("first.yaml").start();
    running.ends_within(Duration::from_millis(100));
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0));
    trial.upgrade("second.yaml").succeed();
    trial.run("second.yaml").succeed();
    trial.as_expected();
}

/// Rows in order, but one in three up to eight minutes too late.
fn disordered(seed: u64, rows: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let row = |number: u64| {
        let late = if dice.below(3) == 0 { dice.below(480_000) } else { 0 };
        let time = START_MS as u64 + number * 4000 - late.min(number * 4000);
        format!("{{\"id\":\"{number}\",\"key\":\"k{}\",\"ts\":{time}}}\n", dice.below(3))
    };
    (0..rows).map(row).collect::<String>().into_bytes()
}

/// Late rows are taken for longer after the upgrade: not those of windows that were emitted before it, by this step or the one behind it.
#[test]
fn no_window_is_emitted_again_because_of_a_longer_lateness() {
    let job = |lateness: &str| {
        format!(
            r#"
job: lateness
sources:
  rows:
    file: {{ path: "in/rows.jsonl" }}
    format: json
    schema: {{ id: string, key: string, ts: timestamp_ms }}
    event_time: ts
    id: id
steps:
  minutes: {{ window: {{ from: rows, tumble: 1m, by: [key], lateness: {lateness}, aggregates: {{ n: "count(*)" }} }} }}
  hours: {{ window: {{ from: minutes, tumble: 10m, by: [key], aggregates: {{ sum_n: "sum(n)" }} }} }}
sinks:
  out: {{ from: minutes, file: {{ path: minutes.jsonl }}, timestamps: epoch_ms }}
  hourly: {{ from: hours, file: {{ path: hours.jsonl }}, timestamps: epoch_ms }}
  late: {{ from: minutes.late, file: {{ path: late.jsonl }} }}
  later: {{ from: hours.late, file: {{ path: later.jsonl }} }}
"#
        )
    };
    for (seed, before, after) in [(520, "0s", "10m"), (521, "5m", "9m"), (522, "9m", "0s"), (523, "1m", "0s")] {
        let place = Place::new();
        place.write("in/rows.jsonl", disordered(seed, 2400));
        place.write("first.yaml", job(before)).write("second.yaml", job(after));
        let slow = SLOW;
        stopped_on_its_way(&place, &place.run("first.yaml").by_earlier_build().args(slow).workers(1), "minutes.jsonl");
        place.riverrun(&["upgrade", "second.yaml"]).args(slow).succeed();
        // Killed once: what is derived again from the record of the upgrade is the same.
        let mut running = place.run("second.yaml").args(slow).workers(1).start();
        if !running.ends_within(Duration::from_millis(120)) {
            running.kill();
        }
        let finished = place.run("second.yaml").args(slow).workers(2).succeed();
        let counted = |file: &str, count: &str| {
            let rows = place.rows(file);
            let mut windows: BTreeMap<String, u64> = BTreeMap::new();
            for row in &rows {
                let window = format!("{} {}", row["window_start"], row["key"]);
                let again = windows.insert(window, row[count].as_u64().unwrap());
                assert!(again.is_none(), "seed {seed}: a window of {file} came twice: {row}");
            }
            windows.values().sum::<u64>()
        };
        let late = place.rows("late.jsonl").len() as u64;
        assert_eq!(counted("minutes.jsonl", "n") + late, 2400, "seed {seed}: {finished}");
        assert_eq!(finished.counts("minutes").late, late);
        assert_eq!(
            place.rows("later.jsonl").len(),
            0,
            "seed {seed}: nothing that a step gives is late for the next one"
        );
        assert_eq!(counted("hours.jsonl", "sum_n"), counted("minutes.jsonl", "n"), "seed {seed}");
    }
}

/// The rows of `all` without those of `some`.
fn without(all: &[Value], some: &[Value]) -> Vec<Value> {
    let mut rest = all.to_vec();
    for row in some {
        let at = rest.iter().position(|other| other == row).expect("it is among them");
        rest.swap_remove(at);
    }
    rest
}

#[test]
fn a_new_incarnation_from_a_savepoint_gives_what_came_after_it() {
    let trial = Trial::new(530);
    trial.run("first.yaml").args(&["--from-savepoint", "before"]).fail(2, &["--fresh"]);
    let taken = trial.drained();
    let (out, minutes) = (trial.place.rows("out.jsonl"), trial.place.rows("minutes.jsonl"));
    // The newest record is that of the checkpoint, and a savepoint is its copy.
    let record = trial.place.files_below(".riverrun/state/jobs/shop/log").pop().unwrap();
    let record = std::fs::read_to_string(record).unwrap();
    assert!(record.contains("\"type\":\"checkpoint\""), "{record}");
    trial.place.write(".riverrun/state/jobs/shop/savepoints/before.json", &record);
    let whole = trial.run("first.yaml").succeed();
    trial.as_expected();
    trial.place.riverrun(&["checkpoints", "pin", "shop", "end"]).succeed();
    let (all, all_minutes) = (trial.place.rows("out.jsonl"), trial.place.rows("minutes.jsonl"));
    let from = ["--fresh", "--from-savepoint"];
    trial.run("first.yaml").args(&from).arg("nothing").fail(78, &["no savepoint `nothing`"]);
    assert_eq!(trial.place.rows("out.jsonl"), all, "nothing was touched");

    // Killed on its way, it goes on without being told from where.
    let kill = "export RIVERRUN_FAIL_POINT=log.ticks.appended:2; exec \"$@\"";
    let killed = trial.run("first.yaml").args(&from).arg("before").within(&["sh"], kill).finish();
    assert_eq!(killed.code, None, "{killed}");
    let again = trial.place.run("first.yaml").args(SLOW).workers(3).succeed();
    assert_same(&trial.place.rows("out.jsonl"), &without(&all, &out), &[]);
    assert_same(&trial.place.rows("minutes.jsonl"), &without(&all_minutes, &minutes), &[]);
    let (before, after) = (taken, again.counts("clicks").taken);
    assert_eq!(before + after, whole.counts("clicks").taken, "what was read before the savepoint is not read again");

    // From the same savepoint as another job: its state goes the way of an upgrade.
    let changed = trial.place.run("second.yaml").args(SLOW).args(&from).arg("before").workers(2).succeed();
    assert!(changed.stderr.contains("migrated") && changed.stderr.contains("begins anew"), "{changed}");
    assert_same(&trial.place.rows("out.jsonl"), &without(&all, &out), &[]);
    assert_same(&trial.place.rows("minutes.jsonl"), &without(&all_minutes, &minutes), &[]);
    // A change that turns out bad: it loses the windows and reads no orders. The way back is the same savepoint, with all that was in it.
    trial.place.write("third.yaml", third());
    let refused = trial.run("third.yaml").args(&from).arg("before").fail(78, &["--allow-reset attributed"]);
    assert!(refused.stderr.contains("minutes") && refused.stderr.contains("orders"), "{refused}");
    trial.run("third.yaml").args(&from).args(&["before", "--allow-reset", "all"]).succeed();
    let back = trial.run("first.yaml").args(&from).arg("before").succeed();
    for part in ["source orders", "step attributed", "step minutes"] {
        let words: Vec<&str> = part.split(' ').collect();
        let line = back.stderr.lines().find(|line| line.split_whitespace().take(2).eq(words.iter().copied()));
        let kept = line.is_some_and(|line| line.contains(" kept") && !line.contains("nothing"));
        assert!(kept, "{part}: {back}");
    }
    assert_same(&trial.place.rows("out.jsonl"), &without(&all, &out), &[]);
    assert_same(&trial.place.rows("minutes.jsonl"), &without(&all_minutes, &minutes), &[]);
    let listed = trial.place.riverrun(&["checkpoints", "ls", "shop", "-o", "json"]).succeed().document();
    let names = listed["savepoints"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["before", "end"], "the other one went over to all of them, too");
    let verified = trial.place.riverrun(&["checkpoints", "verify", "shop", "-o", "json"]).succeed();
    assert_eq!(verified.document()["findings"], Value::Array(Vec::new()), "{verified}");
}

#[test]
fn a_stopped_run_leaves_the_savepoint_that_it_was_asked_for() {
    let trial = Trial::new(531);
    let leave = ["--savepoint-on-stop", "evening"];
    let stopped = |job: &str, more: &[&str]| {
        stopped_on_its_way(&trial.place, &trial.run(job).args(&leave).args(more), "out.jsonl")
    };
    trial.run("first.yaml").args(&["--savepoint-on-stop", "../evening"]).fail(2, &["name of a savepoint"]);
    let first = stopped("first.yaml", &[]);
    let document = first.document();
    let (savepoint, tick) = (&document["savepoint"], &document["snapshot"]["tick"]);
    assert_eq!((&savepoint["name"], &savepoint["tick"]), (&Value::from("evening"), tick), "{first}");
    assert!(first.stderr.contains("--from-savepoint evening"), "{first}");
    let (out, minutes) = (trial.place.rows("out.jsonl"), trial.place.rows("minutes.jsonl"));

    // The name is taken: nothing is started, nothing written.
    let log = || trial.place.files_below(".riverrun/state/jobs/shop/log").len();
    let before = log();
    trial.run("first.yaml").args(&leave).fail(5, &["savepoint `evening` already", "not started", "unpin shop evening"]);
    assert_eq!(log(), before, "a generation was begun");

    // A run that ends by itself leaves none, and says so.
    let whole = trial.run("first.yaml").args(&["--savepoint-on-stop", "night"]).succeed();
    assert!(whole.stderr.contains("no savepoint `night`"), "{whole}");
    assert_eq!((whole.ended().as_str(), &whole.document()["savepoint"]), ("finished", &Value::Null));
    trial.as_expected();
    let (all, all_minutes) = (trial.place.rows("out.jsonl"), trial.place.rows("minutes.jsonl"));

    // What begins from it has read what was read before the stop, and gives what was not given yet.
    let from = ["--fresh", "--from-savepoint", "evening"];
    let again = trial.run("first.yaml").args(&from).succeed();
    assert_same(&trial.place.rows("out.jsonl"), &without(&all, &out), &[]);
    assert_same(&trial.place.rows("minutes.jsonl"), &without(&all_minutes, &minutes), &[]);
    let (before, after) = (first.counts("clicks").taken, again.counts("clicks").taken);
    assert_eq!(before + after, whole.counts("clicks").taken);
    // It is the savepoint of the new incarnation too, whatever that begins with.
    trial.run("first.yaml").args(&from).args(&leave).fail(5, &["already"]);
    trial.run("first.yaml").arg("--fresh").args(&leave).fail(5, &["already"]);
    trial.place.riverrun(&["checkpoints", "unpin", "shop", "evening"]).succeed();
    let anew = stopped("first.yaml", &["--fresh"]);
    assert_eq!(anew.document()["savepoint"]["name"], "evening", "{anew}");
}

/// Killed between any two acts that the upgrade does outside, it is not done, but for the last; and it can be done again.
#[test]
fn an_upgrade_ends_well_whichever_act_it_is_killed_before() {
    let trial = Trial::new(540);
    trial.drained();
    let acts = [
        "job.locked:1",
        "log.generation.append:1",
        "log.generation.appended:1",
        "state.write:1",
        "state.written:1",
        "log.upgrade.append:1",
        "log.upgrade.appended:1",
    ];
    for act in acts {
        let kill = format!("export RIVERRUN_FAIL_POINT={act}; exec \"$@\"");
        let killed = trial.upgrade("second.yaml").within(&["sh"], &kill).finish();
        assert_eq!(killed.code, None, "{act} was not reached: {killed}");
        let status = trial.upgrade("second.yaml").arg("--dry-run").succeed().document()["status"].clone();
        let expected = if act == "log.upgrade.appended:1" { "up_to_date" } else { "planned" };
        assert_eq!(status, expected, "after {act}");
    }
    trial.place.run("second.yaml").args(SLOW).workers(3).succeed();
    trial.as_expected();
}
