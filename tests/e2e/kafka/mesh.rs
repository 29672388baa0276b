//! Jobs in several processes between topics of real brokers, under load: killed, frozen, stopped, spread otherwise, upgraded. Kafka's own
//! consumer sees each order once.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sysinfo::Signal;

use super::faults::{PARTITIONS, Pouring, expected};
use super::job;
use crate::manager::Managed;
use crate::oracle::assert_same;
use crate::support::brokers::{Brokers, shared};
use crate::support::crew::HASTY;
use crate::support::jobs::BUSY;
use crate::support::process::{HUNG_AFTER, Stop};
use crate::support::{Place, Shop, Shopping};

/// Orders and clicks that are written while a test goes on, and what must come of them.
struct Traffic {
    brokers: &'static Brokers,
    prefix: &'static str,
    shopping: Shopping,
    expected: Vec<Value>,
}

impl Traffic {
    /// Makes the topics; `None` where there is no Kafka.
    fn begin(prefix: &'static str, seed: u64) -> Option<Traffic> {
        let brokers = shared()?;
        let shopping = Shop { seed, rows: 3000, broken: false, ..Shop::default() }.open();
        let expected = expected(&shopping);
        for topic in ["clicks", "orders"] {
            drop(brokers.producer(&format!("{prefix}.{topic}"), PARTITIONS));
        }
        Some(Traffic { brokers, prefix, shopping, expected })
    }

    /// Writes it bit by bit while `meanwhile` goes on, ever less at a time so that it lasts for minutes, and what is left when that is over.
    fn during(&self, pause: Duration, meanwhile: impl FnOnce()) {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.pour(pause, &over));
            // Whatever becomes of it, the writer ends.
            let ended = catch_unwind(AssertUnwindSafe(meanwhile));
            over.store(true, Ordering::Release);
            ended.unwrap_or_else(|panic| resume_unwind(panic));
        });
    }

    fn pour(&self, pause: Duration, over: &AtomicBool) {
        let topics = [("clicks", &self.shopping.clicks), ("orders", &self.shopping.orders)];
        let mut into = topics.map(|(name, rows)| (Pouring::into(self.brokers, &self.topic(name)), rows));
        let (mut poured, mut last) = (0.0, false);
        while !last {
            last = over.load(Ordering::Acquire);
            let until = if last { 1.0 } else { poured + (1.0 - poured) / 120.0 };
            for (pouring, rows) in &mut into {
                let at = |share: f64| (rows.len() as f64 * share) as usize;
                pouring.pour(&rows[at(poured)..at(until)]);
            }
            poured = until;
            std::thread::park_timeout(pause);
        }
        into.into_iter().for_each(|(pouring, _)| pouring.end());
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn written(&self) -> usize {
        self.brokers.records(&self.topic("out")).len()
    }

    /// Waits for rows more, unless all are there.
    fn until_more(&self, before: usize) {
        let pause = Duration::from_millis(20);
        for _ in 0..HUNG_AFTER.as_millis() / pause.as_millis() / 4 {
            let now = self.written();
            if now > before || now >= self.expected.len() {
                return;
            }
            std::thread::park_timeout(pause);
        }
        panic!("no row came after {before}");
    }

    /// What Kafka's consumer reads is what must have come.
    fn is_whole(&self) {
        let rows = self.brokers.rows(&self.topic("out"));
        let rows: Vec<Value> = rows.into_iter().filter(|row| row["user_id"].as_str() != Some("herald")).collect();
        assert_same(&rows, &self.expected, &["price"]);
        assert_eq!(self.brokers.rows(&self.topic("late")), Vec::<Value>::new());
    }
}

/// What becomes of one of the processes.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Killed(usize),
    /// Its successors work when it wakes.
    Frozen(usize),
    /// SIGTERM.
    Stopped(usize),
}

#[test]
fn whichever_process_is_killed_frozen_or_stopped_kafka_holds_each_order_once() {
    let Some(traffic) = Traffic::begin("crew", 520) else { return };
    let place = Place::new();
    place.write("job.yaml", job("crew"));
    // Whoever is frozen keeps its socket: each generation has its own, as under a manager.
    let start = |generation: usize, processes: usize| {
        let peers: Vec<String> = (0..processes).map(|process| format!("unix:g{generation}p{process}")).collect();
        let generation = generation.to_string();
        let mesh = ["--mesh-generation", &generation];
        let with = |worker| traffic.brokers.with(worker).args(BUSY).args(HASTY).args(&mesh);
        place.crew_at("job.yaml", &peers.join(","), with)
    };
    let blows = [Blow::Killed(1), Blow::Frozen(2), Blow::Stopped(1), Blow::Killed(0), Blow::Stopped(0)];
    traffic.during(Duration::from_millis(250), || {
        let mut zombie = None;
        for (generation, blow) in (1..).zip(blows) {
            let mut crew = start(generation, 3);
            let before = traffic.written();
            traffic.until_more(before);
            if let Some(zombie) = zombie.take() {
                must_end(zombie);
            }
            match blow {
                Blow::Killed(victim) => lost(&crew.kill(victim)),
                Blow::Stopped(victim) => {
                    crew.member(victim).signal(Stop::Terminate);
                    let finished = crew.succeed();
                    assert_eq!(finished.ended(), "stopped");
                    assert_has_nothing_to_repeat(&place, &finished.document());
                }
                Blow::Frozen(victim) => {
                    let from = now();
                    crew.member(victim).send(Signal::Stop);
                    let frozen = crew.leave(victim);
                    lost(&crew.finish());
                    assert!(from.elapsed() < Duration::from_secs(90), "it was found out after {:?}", from.elapsed());
                    zombie = Some(frozen);
                }
            }
        }
    });
    let mut crew = start(blows.len() + 1, 2).together();
    crew.member(0).until("all orders", || traffic.written() >= traffic.expected.len());
    crew.member(1).signal(Stop::Terminate);
    crew.succeed();
    traffic.is_whole();
}

/// All must have been told to start again.
fn lost(finished: &[crate::support::Finished]) {
    finished.iter().for_each(|one| assert_eq!(one.code, Some(75), "{one}"));
}

/// A process whose successors work wakes, and ends.
fn must_end(zombie: crate::support::Running) {
    zombie.send(Signal::Continue);
    lost(&[zombie.finish()]);
}

/// The last thing that a job did which was stopped was a checkpoint of its last tick.
fn assert_has_nothing_to_repeat(place: &Place, document: &Value) {
    let newest = place.files_below(".riverrun/state/jobs/crew-attribution/log").pop().expect("there is a log");
    let record: Value = serde_json::from_slice(&std::fs::read(newest).unwrap()).unwrap();
    assert_eq!((&record["type"], &record["tick"]), (&json!("checkpoint"), &document["snapshot"]["tick"]));
}

/// A manager whose jobs may talk to the brokers.
fn managed(traffic: &Traffic) -> Managed {
    let place = Place::new();
    place.write("job.yaml", job(traffic.prefix));
    Managed::at(place, &["--allow-host", "127.0.0.1"])
}

fn submit(managed: &Managed, traffic: &Traffic, file: &str, more: &[&str]) -> Value {
    let submit = managed.cli(&["submit", file, "--topics", &traffic.brokers.address()]);
    submit.args(BUSY).args(more).succeed().document()
}

#[test]
fn a_job_is_spread_over_more_processes_and_over_fewer_and_no_order_is_lost_or_doubled() {
    let Some(traffic) = Traffic::begin("spread", 521) else { return };
    let (managed, name) = (managed(&traffic), "spread-attribution");
    submit(&managed, &traffic, "job.yaml", &["--processes", "1"]);
    traffic.during(Duration::from_millis(300), || {
        let mut from = 1;
        for processes in [3, 2] {
            traffic.until_more(traffic.written());
            let rescale = managed.cli(&["rescale", name, "--processes", &processes.to_string()]);
            let pause = longest_pause(&traffic, || drop(rescale.succeed()));
            println!("rescaled from {from} to {processes} processes: {:.1} s without a row", pause.as_secs_f64());
            assert_eq!(managed.alive().len(), processes);
            from = processes;
        }
    });
    traffic.until_more(traffic.expected.len() - 1);
    managed.cli(&["stop", name]).succeed();
    traffic.is_whole();
}

/// How long no row came while something was done, and until the next one.
fn longest_pause(traffic: &Traffic, act: impl FnOnce() + Send) -> Duration {
    std::thread::scope(|scope| {
        let (mut last, mut rows, mut longest) = (now(), traffic.written(), Duration::ZERO);
        let acting = scope.spawn(act);
        let mut left = false;
        while !left {
            // One row more after it is done.
            let over = acting.is_finished();
            let there = traffic.written();
            if there > rows || there >= traffic.expected.len() {
                longest = longest.max(last.elapsed());
                (last, rows, left) = (now(), there, over);
            }
            assert!(last.elapsed() < HUNG_AFTER, "no row comes any more");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        longest
    })
}

#[test]
fn a_job_under_load_is_upgraded_and_edited_while_it_is_suspended_and_each_order_comes_once() {
    let Some(traffic) = Traffic::begin("changed", 522) else { return };
    let (managed, name) = (managed(&traffic), "changed-attribution");
    let file = |name: &str, more: &str| {
        managed.place.write(name, job("changed") + more);
    };
    let copy = "  copy: { from: attributed, topic: changed.copy, timestamps: epoch_ms }\n";
    let clicks = "  clicked: { from: item_clicks, topic: changed.clicked, timestamps: epoch_ms }\n";
    file("second.yaml", copy);
    file("third.yaml", &[copy, clicks].concat());
    submit(&managed, &traffic, "job.yaml", &["--processes", "3"]);
    traffic.during(Duration::from_millis(300), || {
        traffic.until_more(0);
        let dry = submit(&managed, &traffic, "second.yaml", &["--processes", "3", "--dry-run"]);
        assert_eq!(dry["change"], "upgrade", "{dry}");
        submit(&managed, &traffic, "second.yaml", &["--processes", "3"]);
        assert_eq!(managed.status(name)["job"]["revision"], 2);
        let savepoints = managed.cli(&["savepoint", "ls", name]).succeed().document();
        let newest = savepoints["savepoints"][0]["name"].as_str().unwrap_or_default();
        assert!(newest.starts_with("before-2-"), "{savepoints} {}", managed.events(name));
        traffic.until_more(traffic.written());
        managed.cli(&["suspend", name]).succeed();
        assert!(managed.alive().is_empty(), "it is suspended");
        submit(&managed, &traffic, "third.yaml", &["--processes", "2", "--detach"]);
        assert_eq!(managed.status(name)["job"]["phase"], "suspended", "a change does not wake it");
        managed.cli(&["resume", name]).succeed();
        assert_eq!((managed.status(name)["job"]["revision"].as_u64(), managed.alive().len()), (Some(3), 2));
    });
    traffic.until_more(traffic.expected.len() - 1);
    managed.cli(&["stop", name]).succeed();
    traffic.is_whole();
    // What was added writes what came after: no row more often than it came out, and none that the first version wrote alone.
    let (out, copied) = (traffic.brokers.rows(&traffic.topic("out")), traffic.brokers.rows(&traffic.topic("copy")));
    let mut left: BTreeMap<String, i64> = BTreeMap::new();
    out.iter().for_each(|row| *left.entry(row.to_string()).or_default() += 1);
    copied.iter().for_each(|row| *left.entry(row.to_string()).or_default() -= 1);
    let doubled: Vec<&String> = left.iter().filter(|(_, count)| **count < 0).map(|(row, _)| row).collect();
    assert_eq!(doubled, Vec::<&String>::new(), "they are copied twice, or are none");
    assert!(!copied.is_empty() && copied.len() < out.len(), "{} of {} rows are copied", copied.len(), out.len());
}

#[expect(clippy::disallowed_methods, reason = "a test measures how long something takes")]
fn now() -> Instant {
    Instant::now()
}
