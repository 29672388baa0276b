//! The same input gives the same bytes: with any number of workers, and however often the run was killed on its way.

use std::io::Write;
use std::time::Duration;

use crate::oracle::Model;
use crate::support::jobs::{self, BUSY, Over};
use crate::support::process::Invocation;
use crate::support::shop::lines;
use crate::support::{Dice, Place, Shop, Shopping, topics};

/// How often a run is killed if nobody says otherwise; RIVERRUN_KILLS says otherwise.
const KILLS: u64 = 12;

fn kills() -> u64 {
    std::env::var("RIVERRUN_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS)
}

fn seed() -> u64 {
    std::env::var("RIVERRUN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121)
}

#[test]
fn files_give_the_same_bytes_with_any_number_of_workers() {
    for job in [jobs::attribution(Over::Files, Model::Last), jobs::minutes(Over::Files), jobs::sessions(Over::Files)] {
        let outputs = [1, 2, 4].map(|workers| {
            let place = filled(&Shop::default().open(), &job);
            place.run("job.yaml").args(BUSY).workers(workers).succeed();
            ["out.jsonl", "bad.jsonl", "late.jsonl"].map(|file| place.read(file))
        });
        assert!(outputs[0][0].len() > 1000 && outputs[0][1].len() > 1000, "there is something to compare");
        assert!(outputs[0] == outputs[1] && outputs[0] == outputs[2], "workers changed the bytes");
    }
}

/// The end of a compressed file is not known before it is reached; it is bounded all the same.
#[test]
fn compressed_files_are_cut_by_their_content_alone() {
    // Times within a file are mostly late: which rows are is decided by ticks, and so must not be by the clock.
    let mut shopping = Shop { seed: 4, ..Shop::default() }.open();
    shopping.clicks.sort_by_key(|line| line.len());
    let files = [1, 2, 4].map(|workers| {
        let place = Place::new();
        for (part, rows) in shopping.click_files().iter().enumerate() {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(&lines(rows)).unwrap();
            place.write(&format!("in/clicks-{part}.jsonl.gz"), packed.finish().unwrap());
        }
        place.write("job.yaml", jobs::minutes(Over::Files).replace("clicks-*.jsonl", "clicks-*.jsonl.gz"));
        let finished = place.run("job.yaml").set("tick.max_rows=100").workers(workers).succeed();
        assert!(finished.document()["warnings"].as_array().is_some_and(Vec::is_empty), "{finished}");
        assert!(finished.counts("minutes").late > 100, "many rows are late");
        ["out.jsonl", "late.jsonl"].map(|file| place.read(file))
    });
    assert!(files[0] == files[1] && files[0] == files[2], "workers changed the bytes");
}

/// Late decisions are part of the bytes: they fall at the same rows in every run.
#[test]
fn rows_are_late_in_every_run_or_in_none() {
    let mut shopping = Shop { seed: 5, ..Shop::default() }.open();
    shopping.clicks.sort_by_key(|line| line.len());
    let run = |workers: usize| {
        let place = filled(&shopping, &jobs::minutes(Over::Files));
        let finished = place.run("job.yaml").set("tick.max_rows=100").workers(workers).succeed();
        assert!(finished.counts("minutes").late > 100, "many rows are late");
        // The clock of a bounded job is event time.
        let now = finished.document()["snapshot"]["now"].as_i64().unwrap();
        (["out.jsonl", "late.jsonl"].map(|file| place.read(file)), now)
    };
    let once = run(1);
    assert!(run(2) == once && run(4) == once);
}

#[test]
fn another_cut_into_ticks_changes_no_row() {
    let shopping = Shop::default().open();
    let sorted = |max_rows: u64| {
        let place = filled(&shopping, &jobs::attribution(Over::Files, Model::Last));
        place.run("job.yaml").set(format!("tick.max_rows={max_rows}")).succeed();
        let mut lines: Vec<String> = place.rows("out.jsonl").iter().map(ToString::to_string).collect();
        lines.sort();
        lines
    };
    let whole = sorted(65_536);
    assert!(!whole.is_empty());
    assert_eq!(whole, sorted(97));
    assert_eq!(whole, sorted(1000));
}

#[test]
fn files_give_the_same_bytes_after_kills() {
    let shopping = Shop { rows: 6000, ..Shop::default() }.open();
    let job = jobs::attribution(Over::Files, Model::Last);
    let files = |place: &Place| ["out.jsonl", "bad.jsonl", "late.jsonl"].map(|file| place.read(file));
    let calm = filled(&shopping, &job);
    calm.run("job.yaml").args(BUSY).workers(1).succeed();
    killed_again_and_again(
        || filled(&shopping, &job),
        |place| place.run("job.yaml").args(BUSY),
        |place| assert!(files(place) == files(&calm), "the bytes differ from those of a calm run"),
    );
}

#[test]
fn sessions_are_the_same_bytes_after_kills() {
    let shopping = Shop { seed: 6, rows: 6000, ..Shop::default() }.open();
    let job = jobs::sessions(Over::Files);
    let files = |place: &Place| ["out.jsonl", "bad.jsonl", "late.jsonl", "alone.jsonl"].map(|file| place.read(file));
    let calm = filled(&shopping, &job);
    calm.run("job.yaml").args(BUSY).workers(1).succeed();
    assert!(files(&calm)[0].len() > 1000 && files(&calm)[3].len() > 1000, "there is something to compare");
    killed_again_and_again(
        || filled(&shopping, &job),
        |place| place.run("job.yaml").args(BUSY),
        |place| assert!(files(place) == files(&calm), "the bytes differ from those of a calm run"),
    );
}

#[test]
fn topics_until_their_end_give_the_same_records_with_any_number_of_workers() {
    let shopping = Shop { seed: 2, ..Shop::default() }.open();
    let job = jobs::attribution(Over::Topics, Model::First);
    let outputs = [1, 2, 4].map(|workers| {
        let place = poured(&shopping, &job);
        until_end(&place).workers(workers).succeed();
        ["out", "bad", "late"].map(|topic| topics::records(&place.path("topics"), topic))
    });
    assert!(outputs[0][0].len() > 100 && outputs[0][1].len() > 20, "there is something to compare");
    assert!(outputs[0] == outputs[1] && outputs[0] == outputs[2], "workers changed the records");
}

#[test]
fn topics_until_their_end_give_the_same_records_after_kills() {
    let shopping = Shop { seed: 3, rows: 6000, ..Shop::default() }.open();
    let job = jobs::minutes(Over::Topics);
    let records = |place: &Place| ["out", "bad", "late"].map(|topic| topics::records(&place.path("topics"), topic));
    let calm = poured(&shopping, &job);
    until_end(&calm).workers(1).succeed();
    killed_again_and_again(
        || poured(&shopping, &job),
        until_end,
        |place| assert!(records(place) == records(&calm), "the records differ from those of a calm run"),
    );
}

/// A folder with the job and its input as files.
fn filled(shopping: &Shopping, job: &str) -> Place {
    let place = Place::new();
    shopping.write(&place);
    place.write("job.yaml", job);
    place
}

/// A folder with the job and its input as topics.
fn poured(shopping: &Shopping, job: &str) -> Place {
    let place = Place::new();
    place.write("job.yaml", job);
    for (topic, rows) in [("clicks", &shopping.clicks), ("orders", &shopping.orders)] {
        let mut producer = topics::producer(&place.path("topics"), topic, 3);
        topics::append(&mut producer, rows.iter().map(Vec::as_slice));
    }
    place
}

fn until_end(place: &Place) -> Invocation {
    place.run("job.yaml").args(&["--topics", "topics", "--until-end"]).args(BUSY)
}

/// Starts runs and kills them at random moments, with 1, 2 and 4 workers in turn, until there were enough kills. Whenever a
/// run came to its end, looks at what it gave, and begins anew.
pub fn killed_again_and_again(begin: impl Fn() -> Place, run: impl Fn(&Place) -> Invocation, check: impl Fn(&Place)) {
    let seed = seed();
    let mut dice = Dice::new(seed);
    // About how long a run takes from start to end; a run that was killed shows that it takes longer.
    let mut usual = Duration::from_millis(400);
    let (mut killed, mut completed, mut place) = (0, 0, begin());
    for start in 0.. {
        let enough = killed >= kills();
        if enough && completed > 0 {
            return;
        }
        assert!(start < 100 * (kills() + 1), "the runs come to no end, seed {seed}");
        let mut running = run(&place).workers([1, 2, 4][start as usize % 3]).start();
        if !enough && !running.ends_within(dice.moment(usual)) {
            running.kill();
            killed += 1;
            usual += usual / 10;
            continue;
        }
        let finished = running.finish();
        assert_eq!(finished.code, Some(0), "after {killed} kills, seed {seed}: {finished}");
        check(&place);
        completed += 1;
        usual = (usual * 3 / 4).max(Duration::from_millis(50));
        place = begin();
    }
}
