//! A job in several processes: the same bytes as in one, however many there are and whichever of them is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use riverrun_dataflow::testing::certificates::Authority;
use serde_json::Value;
use sysinfo::Signal;

use crate::live;
use crate::oracle::{self, Model};
use crate::support::crew::{Crew, HASTY};
use crate::support::jobs::{self, BUSY, DEDUPE_MS, Over, WINDOW_MS};
use crate::support::process::{Finished, HUNG_AFTER, Invocation, Stop};
use crate::support::shop::START_MS;
use crate::support::{Dice, Place, Shop, Shopping, topics};

const FILES: [&str; 3] = ["out.jsonl", "bad.jsonl", "late.jsonl"];
const TOPICS: [&str; 3] = ["out", "bad", "late"];

fn filled(shopping: &Shopping, job: &str) -> Place {
    let place = Place::new();
    shopping.write(&place);
    place.write("job.yaml", job);
    place
}

pub fn poured(shopping: &Shopping, job: &str) -> Place {
    let place = Place::new();
    place.write("job.yaml", job);
    for (topic, rows) in [("clicks", &shopping.clicks), ("orders", &shopping.orders)] {
        let mut producer = topics::producer(&place.path("topics"), topic, 3);
        topics::append(&mut producer, rows.iter().map(Vec::as_slice));
    }
    place
}

fn busy(invocation: Invocation) -> Invocation {
    invocation.args(BUSY)
}

fn until_end(invocation: Invocation) -> Invocation {
    invocation.args(&["--topics", "topics", "--until-end"]).args(BUSY)
}

fn on_topics(invocation: Invocation) -> Invocation {
    invocation.args(&["--topics", "topics"]).args(BUSY)
}

/// The ticks of the job's journal: all but which of them were to be checkpoints, which the clock decides.
fn journal(place: &Place, job: &str) -> Vec<Value> {
    let mut ticks = Vec::new();
    for path in place.files_below(&format!(".riverrun/state/jobs/{job}/log")) {
        let record: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for entry in record["entries"].as_array().into_iter().flatten() {
            let mut entry = entry.clone();
            entry["record"].as_object_mut().unwrap().remove("checkpoint");
            ticks.push(entry);
        }
    }
    ticks
}

/// The newest record of the job's log.
fn newest_record(place: &Place) -> Option<std::path::PathBuf> {
    let log = place.path(".riverrun/state/jobs/attribution/log");
    log.is_dir().then(|| place.files_below(".riverrun/state/jobs/attribution/log")).and_then(|mut all| all.pop())
}

/// All must have been told to start again, and by whom they lost it.
fn lost(finished: &[Finished], says: &str) {
    for one in finished {
        assert_eq!(one.code, Some(75), "{one}");
        assert!(one.stderr.contains(says), "`{says}` is not said: {one}");
    }
}

#[test]
fn files_give_the_same_bytes_and_the_same_journal_in_one_process_and_in_three() {
    let keep = ["--set", "journal.keep=all"];
    for (name, job) in
        [("attribution", jobs::attribution(Over::Files, Model::Last)), ("sessions", jobs::sessions(Over::Files))]
    {
        let shopping = Shop::default().open();
        let (alone, apart) = (filled(&shopping, &job), filled(&shopping, &job));
        let one = alone.run("job.yaml").args(BUSY).args(&keep).workers(2).succeed();
        let three = apart.crew("job.yaml", 3, |worker| busy(worker).args(&keep)).succeed();
        assert_eq!(three.ended(), "finished");
        let bytes = |place: &Place| FILES.map(|file| place.read(file));
        assert!(bytes(&alone)[0].len() > 1000, "there is something to compare");
        assert!(bytes(&alone) == bytes(&apart), "{name}: processes changed the bytes");
        assert!(journal(&alone, name) == journal(&apart, name), "{name}: processes changed the journal");
        assert_eq!(one.counts("clicks"), three.counts("clicks"));
    }
}

#[test]
fn topics_give_the_same_records_over_the_network() {
    let shopping = Shop { seed: 2, ..Shop::default() }.open();
    let job = jobs::minutes(Over::Topics);
    let (alone, apart) = (poured(&shopping, &job), poured(&shopping, &job));
    until_end(alone.run("job.yaml")).workers(2).succeed();
    let peers: Vec<String> = free_ports(2).iter().map(|port| format!("127.0.0.1:{port}")).collect();
    apart.crew_at("job.yaml", &peers.join(","), until_end).succeed();
    let records = |place: &Place| TOPICS.map(|topic| topics::records(&place.path("topics"), topic));
    assert!(records(&alone)[0].len() > 100, "there is something to compare");
    assert!(records(&alone) == records(&apart), "processes changed the records");
}

/// Ports of this machine that nobody listens on.
pub fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

#[test]
fn whichever_process_is_killed_all_end_and_the_next_ones_give_the_same_bytes() {
    let shopping = Shop { seed: 9, rows: 10_000, ..Shop::default() }.open();
    let job = jobs::attribution(Over::Topics, Model::Last);
    let records = |place: &Place| TOPICS.map(|topic| topics::records(&place.path("topics"), topic));
    let calm = poured(&shopping, &job);
    until_end(calm.run("job.yaml")).workers(1).succeed();
    let place = poured(&shopping, &job);
    let (mut dice, mut broken_off) = (Dice::new(9), 0);
    for start in 0.. {
        // Rescaled at every start.
        let processes = [3, 2][start % 2];
        let mut crew = place.crew("job.yaml", processes, until_end).together();
        if start >= 6 || crew.ends_within(dice.moment(Duration::from_millis(500))) {
            crew.succeed();
            break;
        }
        let victim = usize::try_from(dice.below(processes as u64)).unwrap();
        // One that is killed as the job ends is missed by nobody, or not by all: the next start finds nothing left to do.
        let (ended, left): (Vec<_>, Vec<_>) = crew.kill(victim).into_iter().partition(|one| one.code == Some(0));
        lost(&left, &format!("process {victim} of the job is lost"));
        broken_off += usize::from(ended.is_empty());
    }
    assert!(broken_off > 0, "nobody was killed before the job was at its end");
    assert!(records(&place) == records(&calm), "the records differ from those of a calm run");
}

/// A job that runs for as long as it is let, on topics with something in them.
fn running(place: &Place, processes: usize, more: &[&str]) -> Crew {
    let before = topics::count(&place.path("topics"), "out");
    let mut crew = place.crew("job.yaml", processes, |worker| on_topics(worker).args(more));
    crew.member(0).until("rows", || topics::count(&place.path("topics"), "out") > before);
    crew
}

/// Rows of a later hour: a click and an order in each partition, and once more ten seconds later, so that time passes the first.
pub fn more_rows(place: &Place, hour: i64) {
    for (topic, id) in [("clicks", "event_id"), ("orders", "order_id")] {
        let mut producer = topics::producer(&place.path("topics"), topic, 3);
        let row = |number: i64| {
            let ts = START_MS + (1000 + hour) * 3_600_000 + number / 3 * 10_000;
            let fields = format!(r#""user_id":"u-{hour}","item_id":"i-{number}","ts":{ts}"#);
            format!(r#"{{"{id}":"{hour}-{number}","event_type":"click","price":1.00,{fields}}}"#).into_bytes()
        };
        let rows: Vec<Vec<u8>> = (0..6).map(row).collect();
        topics::append(&mut producer, rows.iter().map(Vec::as_slice));
    }
}

#[test]
fn a_frozen_process_is_noticed_and_cannot_come_back() {
    let place = poured(&Shop { rows: 500, ..Shop::default() }.open(), &jobs::attribution(Over::Topics, Model::Last));
    let mut crew = running(&place, 3, HASTY);
    crew.member(2).send(Signal::Stop);
    for process in [0, 1] {
        assert!(crew.member(process).ends_within(HUNG_AFTER), "the others end");
    }
    crew.member(2).send(Signal::Continue);
    let finished = crew.finish();
    lost(&finished[..2], "process 2 of the job is lost: nothing was heard of it for 2s");
    lost(&finished[2..], "of the job is lost");
}

#[test]
fn a_stop_of_any_process_stops_all_and_any_number_goes_on() {
    let place = poured(&Shop { rows: 500, ..Shop::default() }.open(), &jobs::attribution(Over::Topics, Model::Last));
    for (hour, processes) in [(0, 3), (1, 2), (2, 3)] {
        let mut crew = running(&place, processes, &[]);
        crew.member(processes - 1).signal(Stop::Terminate);
        let finished = crew.succeed();
        assert_eq!(finished.ended(), "stopped");
        // It has nothing to repeat: the last thing that it did was a checkpoint of its last tick.
        let record = std::fs::read(newest_record(&place).unwrap()).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(
            (&record["type"], &record["tick"]),
            (&"checkpoint".into(), &finished.document()["snapshot"]["tick"])
        );
        more_rows(&place, hour);
    }
    let mut alone = on_topics(place.run("job.yaml")).workers(2).start();
    alone.until("the last rows", || {
        topics::rows(&place.path("topics"), "out").iter().any(|row| row["order_id"] == "2-0")
    });
    alone.signal(Stop::Terminate);
    let finished = alone.finish();
    assert_eq!(finished.code, Some(0), "{finished}");
    let rows = topics::rows(&place.path("topics"), "out");
    assert_eq!(rows.len() as u64, finished.counts("attributed").out, "nothing came twice");
    for order in ["0-0", "0-4", "1-1", "1-5", "2-2"] {
        assert_eq!(rows.iter().filter(|row| row["order_id"] == order).count(), 1, "{order}");
    }
}

#[test]
fn the_failure_of_one_is_told_to_all() {
    let strict =
        jobs::copy().replace("  bad: { from: clicks.bad, file: { path: bad.jsonl }, timestamps: epoch_ms }\n", "");
    let place = filled(&Shop::default().open(), &strict);
    let crew = place.crew("job.yaml", 3, |worker| busy(worker).set("sources.clicks.on_bad_row=stop"));
    let finished = crew.finish();
    let (failed, others): (Vec<&Finished>, Vec<&Finished>) = finished.iter().partition(|one| one.code == Some(1));
    assert!(!failed.is_empty(), "{}", finished[0]);
    for one in &others {
        assert_eq!(one.code, Some(75), "{one}");
        assert!(one.stderr.contains("of the job is lost: source `clicks`, split"), "{one}");
    }
}

#[test]
fn a_newer_generation_takes_the_job_over() {
    let place = poured(&Shop { rows: 500, ..Shop::default() }.open(), &jobs::attribution(Over::Topics, Model::Last));
    let older = running(&place, 2, &["--mesh-generation", "1"]);
    let mut newer = place.crew("job.yaml", 2, |worker| on_topics(worker).args(&["--mesh-generation", "2"]));
    lost(&older.finish(), "generation 2 of the job's mesh is there");
    more_rows(&place, 0);
    let rows = || topics::rows(&place.path("topics"), "out");
    newer.member(0).until("its rows", || rows().iter().any(|row| row["order_id"] == "0-0"));
    newer.member(1).signal(Stop::Terminate);
    newer.succeed();
}

#[test]
fn processes_that_do_not_fit_together_say_so() {
    let place = filled(&Shop { rows: 100, ..Shop::default() }.open(), &jobs::copy());
    let worker = |arguments: &[&str]| place.riverrun(&["worker", "job.yaml"]).args(arguments);
    worker(&["--processes", "2", "--peers", "unix:a,unix:b"]).fail(2, &["which one is not said", "--process"]);
    worker(&["--processes", "3", "--process", "0", "--peers", "unix:a,unix:b"]).fail(78, &["3 processes need"]);
    worker(&["--processes", "2", "--process", "2", "--peers", "unix:a,unix:b"]).fail(78, &["numbered from 0"]);
    worker(&["--processes", "2", "--process", "0", "--peers", "nowhere"]).fail(2, &["HOST:PORT"]);
    let brief = ["--processes", "2", "--peers", "unix:a,unix:b", "--mesh-startup-timeout", "300ms"];
    worker(&brief).args(&["--process", "1"]).fail(75, &["process 0 at unix:a did not come within 300ms"]);
    // One of two has another job file: both are told, and the one that calls says what differs.
    let patient = ["--processes", "2", "--peers", "unix:a,unix:b", "--mesh-startup-timeout", "12s", "-w", "1"];
    let mut leader = worker(&patient).args(&["--process", "0"]).start();
    worker(&patient).args(&["--process", "1"]).set("tick.max_rows=7").fail(78, &["it runs plan"]);
    assert!(leader.ends_within(HUNG_AFTER));
    lost(&[leader.finish()], "process 1 at unix:b did not come within 12s");
}

#[test]
fn a_live_job_whose_processes_are_killed_loses_nothing_and_doubles_nothing() {
    let seed = 72;
    let written = live::traffic(seed, 3000);
    let regular = &written.regular;
    let expected = oracle::attributed(
        &oracle::clicks(&live::in_turn(&regular.clicks)),
        &oracle::orders(&live::in_turn(&regular.orders)),
        WINDOW_MS,
        DEDUPE_MS,
        Model::Last,
    );
    let place = Place::new();
    place.write("job.yaml", jobs::attribution(Over::Topics, Model::Last));
    drop(topics::producer(&place.path("topics"), "clicks", live::PARTITIONS));
    drop(topics::producer(&place.path("topics"), "orders", live::PARTITIONS));
    let (done, mut dice, mut kills) = (AtomicBool::new(false), Dice::new(seed), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| live::produce(&place.path("topics"), &written, &done));
        while !done.load(Ordering::Acquire) || kills < 3 {
            let processes = [3, 2][kills % 2];
            let mut crew = place.crew("job.yaml", processes, on_topics).together();
            let moment = dice.moment(Duration::from_millis(600));
            assert!(!crew.ends_within(moment), "a live job ended by itself: {}", crew.finish()[0]);
            let victim = usize::try_from(dice.below(processes as u64)).unwrap();
            lost(&crew.kill(victim), "of the job is lost");
            kills += 1;
        }
    });
    let all = (expected.len() + live::LATE) as u64;
    let count = |topic: &str| topics::count(&place.path("topics"), topic);
    let mut crew = place.crew("job.yaml", 3, on_topics).together();
    crew.member(0)
        .until("all rows", || count("out") + count("late") >= all && count("bad") >= regular.broken.len() as u64);
    crew.member(1).signal(Stop::Terminate);
    let finished = crew.succeed();
    live::written_as_given(&place, &written, &expected);
    assert_eq!(finished.counts("clicks").bad, regular.broken.len() as u64);
}

#[test]
fn tls_changes_no_byte_and_keeps_strangers_out() {
    let shopping = Shop { seed: 4, rows: 1500, ..Shop::default() }.open();
    let job = jobs::minutes(Over::Files);
    let (alone, apart) = (filled(&shopping, &job), filled(&shopping, &job));
    alone.run("job.yaml").args(BUSY).workers(1).succeed();
    let authority = Authority::new();
    authority.issue("p.mesh", &apart.path("tls"));
    let peers: Vec<String> = free_ports(2).iter().map(|port| format!("localhost:{port}")).collect();
    apart.crew_at("job.yaml", &peers.join(","), |worker| busy(worker).args(&["--mesh-tls", "tls"])).succeed();
    let bytes = |place: &Place| FILES.map(|file| place.read(file));
    assert!(bytes(&alone) == bytes(&apart), "TLS changed the bytes");
    std::fs::write(apart.path("tls/key.pem"), "no key").unwrap();
    let worker = apart.riverrun(&["worker", "job.yaml", "--processes", "2", "--process", "0", "--mesh-tls", "tls"]);
    worker.args(&["--peers", &peers.join(",")]).fail(78, &["cannot use --mesh-tls", "key.pem"]);
}
