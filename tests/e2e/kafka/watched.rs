//! What a cluster does with a topic under a job, and what the job tells those who watch it.

use super::sources::{copy, numbers, write};
use crate::admin;
use crate::support::Place;
use crate::support::brokers::{Brokers, shared};
use crate::support::jobs::BUSY;
use crate::support::process::Stop;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

fn make(brokers: &Brokers, topic: &str, partitions: &str, settings: &[&str]) {
    let create = ["--create", "--topic", topic, "--partitions", partitions];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--config", setting]).collect();
    brokers.tool(TOPICS, &[&create[..], &settings].concat());
}

#[test]
fn what_a_job_reached_is_told_to_its_group_and_in_its_metrics() {
    let Some(brokers) = shared() else { return };
    // Kept for two hours, in which nothing of the test is an hour old.
    make(brokers, "told.clicks", "2", &["retention.ms=7200000"]);
    write(brokers, "told.clicks", 2, 0..20);
    let place = Place::new();
    place.write("job.yaml", copy("told", "on_lost: skip"));
    let (mut running, address) = admin::start(brokers.with(place.run("job.yaml")).args(BUSY));
    running.until("all rows", || numbers(brokers, "told.out", 0).len() == 20);
    let lag = |name: &str, partition: &str| {
        format!(r#"riverrun_source_{name}{{job_name="told-copy",operator="clicks",partition="{partition}"}}"#)
    };
    running
        .until("what a restart needs", || admin::get(&address, "/metrics").body.contains("replay_headroom_seconds{"));
    let page = admin::get(&address, "/metrics");
    admin::check_by_promtool(&page.body);
    let series = admin::series(&page.body);
    for partition in ["0", "1"] {
        assert_eq!(series[&lag("lag_records", partition)], 0.0);
        assert_eq!(series[&lag("read_lag_seconds", partition)], 0.0, "all is read");
        assert_eq!(series[&lag("skipped_offsets_total", partition)], 0.0);
        let headroom = series[&lag("replay_headroom_seconds", partition)];
        assert!((6600.0..=7200.0).contains(&headroom), "{headroom}");
    }
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0));
    let ask = |group: &str| {
        let group = ["--describe", "--group", group];
        brokers.tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &group)
    };
    let said = ask("riverrun.told-copy");
    let told: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    for partition in ["0", "1"] {
        // Group, topic, partition, its offset, the end, what lies between.
        let row = told.iter().find(|row| row.get(1..3) == Some(&["told.clicks", partition]));
        assert_eq!(row.and_then(|row| row.get(3..6)), Some(&["10", "10", "0"][..]), "{said}");
    }
}

#[test]
fn a_compacted_topic_is_refused_unless_it_is_allowed() {
    let Some(brokers) = shared() else { return };
    make(brokers, "tidied.clicks", "1", &["cleanup.policy=compact,delete"]);
    let place = Place::new();
    place.write("job.yaml", copy("tidied", ""));
    let run = || brokers.with(place.run("job.yaml")).arg("--until-end");
    run().fail(78, &["topic `tidied.clicks`", "is compacted", "allow_compacted: true"]);
    run().set("sources.clicks.allow_compacted=true").succeed();
}

#[test]
fn a_topic_that_is_deleted_under_a_job_is_told_or_its_end() {
    let Some(brokers) = shared() else { return };
    for (prefix, ends) in [("doomed", false), ("ended", true)] {
        write(brokers, &format!("{prefix}.clicks"), 1, 0..10);
        let place = Place::new();
        place.write("job.yaml", copy(prefix, if ends { "on_missing: end" } else { "" }));
        let mut running = brokers.with(place.run("job.yaml")).args(BUSY).start();
        let out = format!("{prefix}.out");
        running.until("all rows", || numbers(brokers, &out, 0).len() == 10);
        brokers.tool(TOPICS, &["--delete", "--topic", &format!("{prefix}.clicks")]);
        let finished = running.finish();
        match ends {
            true => {
                assert_eq!(finished.code, Some(0), "{finished}");
                assert!(finished.stderr.contains("it was deleted while the job was reading it"), "{finished}");
            }
            false => {
                assert_eq!(finished.code, Some(78), "{finished}");
                let said = &finished.stderr;
                assert!(said.contains("partition 0") && said.contains("it was deleted"), "{finished}");
                assert!(said.contains("on_missing: end") && said.contains("--fresh"), "{finished}");
                // Made anew, it is another topic.
                write(brokers, "doomed.clicks", 1, 0..5);
                let again = brokers.with(place.run("job.yaml")).args(BUSY);
                again.fail(78, &["partition 0", "it was cut or made anew", "--fresh"]);
            }
        }
        assert_eq!(numbers(brokers, &out, 10), (0..10).collect::<Vec<_>>());
    }
}

const TWO: &str = r#"
job: gone-copy
sources:
  clicks: { topic: gone.clicks, schema: { n: int64, ts: timestamp_ms }, event_time: ts, on_missing: end }
  others: { topic: gone.others, schema: { n: int64, ts: timestamp_ms }, event_time: ts, on_missing: end }
steps:
  all: { union: { from: [clicks, others] } }
sinks:
  out: { from: all, topic: gone.out }
"#;

#[test]
fn a_job_whose_topic_is_gone_is_stopped_and_started_again_with_what_is_left() {
    let Some(brokers) = shared() else { return };
    write(brokers, "gone.clicks", 1, 0..10);
    write(brokers, "gone.others", 1, 100..105);
    let place = Place::new();
    place.write("job.yaml", TWO);
    let start = || brokers.with(place.run("job.yaml")).args(BUSY).start();
    let mut running = start();
    running.until("all rows", || numbers(brokers, "gone.out", 0).len() == 15);
    brokers.tool(TOPICS, &["--delete", "--topic", "gone.clicks"]);
    running.until_said("it was deleted while the job was reading it");
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0));
    // The other one is deleted while nobody reads it.
    write(brokers, "gone.others", 1, 105..110);
    let mut running = start();
    running.until("what came meanwhile", || numbers(brokers, "gone.out", 0).len() == 20);
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0));
    brokers.tool(TOPICS, &["--delete", "--topic", "gone.others"]);
    let finished = start().finish();
    assert_eq!(finished.code, Some(0), "nothing is left to read: {finished}");
    assert_eq!(numbers(brokers, "gone.out", 20).len(), 20);
}
