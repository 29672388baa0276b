//! What a source over Kafka promises: bounded runs are equal, starts are where they are said to be, what is gone is told.

use riverrun_connectors::kafka::KafkaRecord;
use sysinfo::Signal;

use super::faults::in_turn_from_first;
use super::job;
use crate::oracle::{self, Model, assert_same};
use crate::support::brokers::{Brokers, deal, shared};
use crate::support::jobs::{BUSY, DEDUPE_MS, WINDOW_MS};
use crate::support::process::Stop;
use crate::support::{Place, Shop};

const COPY: &str = r#"
job: PREFIX-copy
sources:
  clicks: { topic: PREFIX.clicks, schema: { n: int64, ts: timestamp_ms }, event_time: ts, START }
sinks:
  out: { from: clicks, topic: PREFIX.out }
  bad: { from: clicks.bad, topic: PREFIX.bad }
"#;

pub fn copy(prefix: &str, start: &str) -> String {
    COPY.replace("PREFIX", prefix).replace("START", start)
}

pub fn numbers(brokers: &Brokers, topic: &str, count: usize) -> Vec<i64> {
    let number = |record: KafkaRecord| {
        let row: serde_json::Value = serde_json::from_slice(&record.value.expect("no tombstone")).expect("JSON");
        row["n"].as_i64().expect("a number")
    };
    let mut numbers: Vec<i64> = brokers.settled(topic, count).into_iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Writes rows with these numbers, in turn to the partitions.
pub fn write(brokers: &Brokers, topic: &str, partitions: u32, numbers: std::ops::Range<i64>) {
    let rows: Vec<Vec<u8>> =
        numbers.map(|n| format!(r#"{{"n":{n},"ts":{}}}"#, 1_767_225_600_000_i64 + n).into_bytes()).collect();
    deal(&mut brokers.producer(topic, partitions), rows.iter().map(Vec::as_slice), &mut 0);
}

/// What a topic holds. Offsets are left out, for marks of transactions lie between them; so are the timestamps of rows that have no
/// event time, such as bad rows: they are those of the writing.
fn content(brokers: &Brokers, topic: &str, count: usize) -> Vec<KafkaRecord> {
    let has_time = topic.ends_with(".out");
    let told = |record: KafkaRecord| {
        let timestamp_ms = record.timestamp_ms.filter(|_| has_time);
        KafkaRecord { offset: 0, timestamp_ms, ..record }
    };
    brokers.settled(topic, count).into_iter().map(told).collect()
}

#[test]
fn two_bounded_runs_over_kafka_give_the_same_bytes_in_each_partition() {
    let Some(brokers) = shared() else { return };
    let shopping = Shop { seed: 520, rows: 2000, broken: true, ..Shop::default() }.open();
    for (topic, rows) in [("bounded.clicks", &shopping.clicks), ("bounded.orders", &shopping.orders)] {
        deal(&mut brokers.producer(topic, 2), rows.iter().map(Vec::as_slice), &mut 0);
    }
    let expected = oracle::attributed(
        &oracle::clicks(&in_turn_from_first(&shopping.clicks)),
        &oracle::orders(&in_turn_from_first(&shopping.orders)),
        WINDOW_MS,
        DEDUPE_MS,
        Model::Last,
    );
    let counts = [expected.len(), shopping.broken.len(), 0];
    let place = Place::new();
    let mut contents = Vec::new();
    for (run, workers) in [("one", 1), ("two", 3)] {
        let outputs = ["out", "bad", "late"].map(|name| format!("bounded.{run}.{name}"));
        for output in &outputs {
            drop(brokers.producer(output, 3));
        }
        place.write("job.yaml", job("bounded"));
        let command = brokers.with(place.run("job.yaml")).args(BUSY).arg("--until-end").workers(workers);
        let command = command.arg("--state").arg(format!("state-{run}")).arg("--append");
        let command = ["out", "bad", "late"]
            .iter()
            .zip(&outputs)
            .fold(command, |command, (name, output)| command.set(format!("sinks.{name}.topic={output}")));
        let finished = command.succeed();
        assert_eq!(finished.ended(), "finished", "{finished}");
        contents.push([0, 1, 2].map(|index| content(brokers, &outputs[index], counts[index])));
    }
    assert!(contents[0] == contents[1], "the runs differ");
    let rows: Vec<serde_json::Value> =
        contents[0][0].iter().map(|row| serde_json::from_slice(row.value.as_ref().unwrap()).unwrap()).collect();
    assert_same(&rows, &expected, &["price"]);
    assert_eq!(contents[0][1].len(), shopping.broken.len());
}

#[test]
fn a_source_begins_where_it_is_told_and_reads_what_other_transactions_left_between() {
    let Some(brokers) = shared() else { return };
    write(brokers, "starts.clicks", 2, 0..20);
    let place = Place::new();
    // The copy is written in transactions, so a job that reads it meets their marks.
    place.write("job.yaml", copy("starts", "start: \"0:3,1:4\""));
    brokers.with(place.run("job.yaml")).args(&["--until-end", "--state", "one"]).succeed();
    let read: Vec<i64> = (0..20).filter(|n| if n % 2 == 0 { n / 2 >= 3 } else { n / 2 >= 4 }).collect();
    assert_eq!(numbers(brokers, "starts.out", read.len()), read);
    let second = copy("starts2", "start: earliest").replace("starts2.clicks", "starts.out");
    let second = second.replace("timestamp_ms", "timestamp");
    place.write("second.yaml", second);
    let run = brokers.with(place.run("second.yaml")).args(&["--until-end", "--state", "two"]).succeed();
    assert_eq!(numbers(brokers, "starts2.out", read.len()), read);
    assert_eq!(run.counts("clicks").input, read.len() as u64, "marks of transactions are no records");
    // A start that the partition does not have.
    place.write("third.yaml", copy("starts", "start: \"0:99\"").replace("starts.out", "starts3.out"));
    brokers.with(place.run("third.yaml")).args(&["--until-end", "--state", "three"]).fail(78, &["partition 0", "99"]);
}

#[test]
fn records_that_were_deleted_before_they_were_read_are_told_and_skipped_only_if_so_chosen() {
    let Some(brokers) = shared() else { return };
    write(brokers, "lost.clicks", 1, 0..10);
    let place = Place::new();
    place.write("job.yaml", copy("lost", ""));
    let mut running = brokers.with(place.run("job.yaml")).args(BUSY).start();
    running.until("the first rows", || numbers(brokers, "lost.out", 0).len() == 10);
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().ended(), "stopped");
    write(brokers, "lost.clicks", 1, 10..30);
    place.write("delete.json", r#"{"partitions":[{"topic":"lost.clicks","partition":0,"offset":25}],"version":1}"#);
    let file = place.path("delete.json");
    brokers.tool("org.apache.kafka.tools.DeleteRecordsCommand", &["--offset-json-file", file.to_str().unwrap()]);

    let says = ["lost.clicks", "partition 0", "no record 10", "25 to 30", "on_lost: skip"];
    brokers.with(place.run("job.yaml")).args(BUSY).fail(78, &says);
    let skip = brokers.with(place.run("job.yaml")).args(BUSY).set("sources.clicks.on_lost=skip");
    let mut running = skip.start();
    running.until("the rows that are left", || numbers(brokers, "lost.out", 0).len() == 15);
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert_eq!(finished.ended(), "stopped");
    assert!(finished.stderr.contains("offsets=15"), "how many were skipped is said: {finished}");
    assert_eq!(numbers(brokers, "lost.out", 15), (0..10).chain(25..30).collect::<Vec<_>>());
}

/// What a restart has to read again cannot be skipped: what followed from it may be out. The way on that is named is one.
#[test]
fn records_that_a_restart_needs_and_that_are_gone_leave_a_way_on_that_is_named_and_counts_what_it_skips() {
    let Some(brokers) = shared() else { return };
    write(brokers, "lapsed.clicks", 1, 0..10);
    let place = Place::new();
    place.write("job.yaml", copy("lapsed", "on_lost: skip"));
    let run = || brokers.with(place.run("job.yaml")).args(BUSY);
    let mut running = run().start();
    running.until("the first rows", || numbers(brokers, "lapsed.out", 0).len() == 10);
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().ended(), "stopped");
    // Rows that no checkpoint has yet.
    let mut running = run().set("checkpoint.every=1h").start();
    write(brokers, "lapsed.clicks", 1, 10..20);
    running.until("rows after the checkpoint", || numbers(brokers, "lapsed.out", 0).len() == 20);
    running.kill();
    write(brokers, "lapsed.clicks", 1, 20..40);
    place.write("delete.json", r#"{"partitions":[{"topic":"lapsed.clicks","partition":0,"offset":30}],"version":1}"#);
    let file = place.path("delete.json");
    brokers.tool("org.apache.kafka.tools.DeleteRecordsCommand", &["--offset-json-file", file.to_str().unwrap()]);

    let ways =
        ["no record 10", "30 to 40", "checkpoints pin lapsed-copy NAME", "--fresh --append --from-savepoint NAME"];
    run().fail(78, &ways);
    place.riverrun(&["checkpoints", "pin", "lapsed-copy", "rescue"]).succeed();
    let from = ["--fresh", "--append", "--from-savepoint", "rescue"];
    let mut running = run().args(&from).start();
    running.until("the rows that are left", || numbers(brokers, "lapsed.out", 0).len() == 30);
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert_eq!(finished.ended(), "stopped", "{finished}");
    assert!(finished.stderr.contains("offsets=20"), "how many were skipped is said: {finished}");
    assert_eq!(numbers(brokers, "lapsed.out", 30), (0..20).chain(30..40).collect::<Vec<_>>(), "none is doubled");
}

#[test]
fn partitions_that_are_added_to_a_topic_are_read_by_the_job_that_runs() {
    let Some(brokers) = shared() else { return };
    write(brokers, "grown.clicks", 1, 0..10);
    let place = Place::new();
    // Where a new job begins is not where a new partition does.
    place.write("job.yaml", copy("grown", "start: latest, discover_every: 1s, idle_after: 1s"));
    let command = brokers.with(place.run("job.yaml")).args(BUSY);
    let mut running = command.start();
    running.until("its lanes", || brokers.has("riverrun.progress.grown-copy.out"));
    write(brokers, "grown.clicks", 1, 10..20);
    running.until("the rows of one partition", || numbers(brokers, "grown.out", 0).len() == 10);
    brokers.tool("org.apache.kafka.tools.TopicCommand", &["--alter", "--topic", "grown.clicks", "--partitions", "3"]);
    write(brokers, "grown.clicks", 3, 20..50);
    running.until("the rows of three", || numbers(brokers, "grown.out", 0).len() == 40);
    running.kill();
    // Killed or not, it has them from now on.
    write(brokers, "grown.clicks", 3, 50..80);
    let mut running = command.start();
    running.until("the rows after a crash", || numbers(brokers, "grown.out", 0).len() == 70);
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().ended(), "stopped");
    assert_eq!(numbers(brokers, "grown.out", 70), (10..80).collect::<Vec<_>>());
}

#[test]
fn a_cluster_that_wants_tls_and_a_password_is_reached_and_one_that_refuses_says_why() {
    let Some(brokers) = shared() else { return };
    let (address, authority) = brokers.safe();
    write(brokers, "safe.clicks", 1, 0..10);
    let place = Place::new();
    place.write("job.yaml", copy("safe", ""));
    let reach = |mechanism: &str, command: crate::support::process::Invocation| {
        let config = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\nsasl.username=riverrun\n\
             sasl.password=${{env:KAFKA_PASSWORD}}\nssl.ca.location={}\n",
            authority.display()
        );
        place.write("client.properties", config);
        command.arg("--topics").arg(format!("{address}?config=client.properties"))
    };
    let run = reach("SCRAM-SHA-512", place.run("job.yaml").arg("--until-end"));
    run.env("KAFKA_PASSWORD", "swordfish").succeed();
    assert_eq!(numbers(brokers, "safe.out", 10), (0..10).collect::<Vec<_>>());
    let list = reach("PLAIN", place.riverrun(&["topic", "ls"])).env("KAFKA_PASSWORD", "swordfish").succeed();
    assert!(String::from_utf8_lossy(&list.stdout).contains("safe.out"));
    let wrong = reach("SCRAM-SHA-512", place.riverrun(&["topic", "ls"])).env("KAFKA_PASSWORD", "catfish");
    let refused = wrong.fail(74, &["invalid credentials", "user and password"]);
    assert!(!refused.stderr.contains("catfish"), "{refused}");
    let unknown = place.riverrun(&["topic", "ls", "--topics", &format!("{address}?security.protocol=SSL")]);
    unknown.fail(74, &["certificate", "ssl.ca.location"]);
}

#[test]
fn what_is_not_there_is_told() {
    let Some(brokers) = shared() else { return };
    let place = Place::new();
    place.write("job.yaml", copy("nowhere", ""));
    let run = brokers.with(place.run("job.yaml")).arg("--until-end");
    run.fail(78, &["topic `nowhere.clicks`", "does not exist", "riverrun topic create nowhere.clicks"]);
    let list = brokers.with(place.riverrun(&["topic", "ls"])).succeed();
    assert!(!String::from_utf8_lossy(&list.stdout).contains("nowhere"), "asking for a topic makes none");
}

#[test]
fn the_command_line_makes_fills_and_shows_topics_of_kafka() {
    let Some(brokers) = shared() else { return };
    let place = Place::new();
    place.write("in.jsonl", "{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\",\"n\":2}\n{\"k\":\"a\",\"n\":3}\n");
    brokers.with(place.riverrun(&["topic", "create", "shown", "--partitions", "2"])).succeed();
    brokers.with(place.riverrun(&["topic", "create", "shown", "--partitions", "2"])).fail(5, &["exists already"]);
    brokers.with(place.riverrun(&["topic", "import", "in.jsonl", "--topic", "shown", "--key", "k"])).succeed();
    let all = brokers.with(place.riverrun(&["topic", "tail", "shown", "--from-start", "-o", "json"])).succeed();
    let rows = crate::support::place::json_lines(&all.stdout);
    let of = |key: &str| -> Vec<(i64, i64)> {
        let own = rows.iter().filter(|row| row["key"] == key);
        own.map(|row| (row["partition"].as_i64().unwrap(), row["value"]["n"].as_i64().unwrap())).collect()
    };
    let (a, b) = (of("a"), of("b"));
    assert_eq!((a.len(), b.len()), (2, 1), "{rows:?}");
    assert!(a[0].0 == a[1].0 && a[0].1 == 1 && a[1].1 == 3, "a key has one partition: {a:?}");
    let last = brokers.with(place.riverrun(&["topic", "tail", "shown", "--last", "1"])).succeed();
    assert_eq!(last.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
    let list = brokers.with(place.riverrun(&["topic", "ls"])).succeed();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains("shown") && list.contains("OFFSETS") && !list.contains("RECORDS"), "{list}");
    let list = brokers.with(place.riverrun(&["topic", "ls", "-o", "json"])).succeed().document();
    let shown = list.as_array().unwrap().iter().find(|topic| topic["topic"] == "shown").expect("it is there");
    assert_eq!((&shown["offsets"], &shown["records"]), (&3.into(), &serde_json::Value::Null), "{shown}");
}

/// A leader without all records takes over, as a cluster may be told to allow, and fills up again behind a job that has read further.
#[test]
fn records_that_were_read_and_then_cut_off_stop_the_job() {
    let Some(brokers) = Brokers::start(3) else { return };
    let topic = ["--create", "--topic", "cut.clicks", "--replica-assignment", "1:2"];
    let unsafe_ones = ["--config", "unclean.leader.election.enable=true", "--config", "min.insync.replicas=1"];
    brokers.tool("org.apache.kafka.tools.TopicCommand", &[&topic[..], &unsafe_ones].concat());
    write(&brokers, "cut.clicks", 1, 0..50);
    let place = Place::new();
    place.write("job.yaml", copy("cut", "on_lost: skip"));
    let mut running = brokers.with(place.run("job.yaml")).args(BUSY).start();
    running.until("the first rows", || numbers(&brokers, "cut.out", 0).len() == 50);
    brokers.fail("kill", 2);
    write(&brokers, "cut.clicks", 1, 50..100);
    running.until("what only one broker has", || numbers(&brokers, "cut.out", 0).len() == 100);
    // It looks away while the log is cut and filled again.
    running.send(Signal::Stop);
    brokers.fail("kill", 1);
    brokers.fail("start", 2);
    write(&brokers, "cut.clicks", 1, 200..300);
    running.send(Signal::Continue);
    let finished = running.finish();
    assert_eq!(finished.code, Some(78), "{finished}");
    let said = &finished.stderr;
    assert!(said.contains("topic `cut.clicks` partition 0") && said.contains("cut off"), "{finished}");
    assert_eq!(numbers(&brokers, "cut.out", 100), (0..100).collect::<Vec<_>>());
}

/// Of two that make a topic at the same time the slower one is told that it exists, which its broker may not know yet.
#[test]
fn a_topic_that_several_make_at_once_is_there_for_all_of_them() {
    let Some(brokers) = shared() else { return };
    for round in 0..8 {
        let topic = format!("together.{round}");
        std::thread::scope(|scope| {
            let open = || brokers.producer(&topic, 3).partitions();
            let all: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            for one in all {
                assert_eq!(one.join().expect("it is opened"), 3);
            }
        });
    }
}
