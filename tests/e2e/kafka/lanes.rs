//! What a lane promises, asked of it directly: tokens, fencing, rows that are too large.

use riverrun_connectors::kafka::{Cluster, Delivery, KafkaSink, KafkaSinkConfig};
use riverrun_dataflow::sink::{Claim, EncodedRows, Lane, Sink, SinkError, TickRows};
use riverrun_dataflow::tick::Tick;

use super::job;
use crate::support::brokers::{Brokers, deal, shared};
use crate::support::{Place, Shop};

fn sink(brokers: &Brokers, topic: &str, dead_letters: Option<&str>) -> KafkaSink {
    sink_at(&brokers.cluster(), topic, dead_letters)
}

/// A sink of two lanes.
pub fn sink_at(cluster: &Cluster, topic: &str, dead_letters: Option<&str>) -> KafkaSink {
    KafkaSink::new(KafkaSinkConfig {
        cluster: cluster.clone(),
        topic: topic.to_owned(),
        partitions: Some(2),
        delivery: Delivery::ExactlyOnce,
        dead_letters: dead_letters.map(str::to_owned),
    })
}

pub fn claim(topic: &str, incarnation: &str, generation: u64) -> Claim {
    let (job, sink) = (topic.to_owned(), "out".to_owned());
    Claim { job, sink, incarnation: incarnation.to_owned(), generation, fresh: false, append: false }
}

pub fn rows(tick: Tick, texts: &[&str]) -> TickRows {
    let mut rows = EncodedRows::default();
    for text in texts {
        rows.bytes.extend_from_slice(text.as_bytes());
        rows.end_row(None);
    }
    TickRows { tick, times: vec![1_767_225_600_000_000; rows.len()], rows }
}

/// Opens both lanes and returns the first with the tick of its token.
pub fn open(sink: &KafkaSink, claim: &Claim) -> Result<(Box<dyn Lane>, Option<Tick>), SinkError> {
    let (lane, token) = sink.open(0, claim)?;
    sink.open(1, claim)?;
    Ok((lane, token.map(|token| token.tick)))
}

pub fn values(brokers: &Brokers, topic: &str, count: usize) -> Vec<String> {
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.expect("no tombstone")).expect("text");
    brokers.settled(topic, count).into_iter().map(|record| text(record.value)).collect()
}

#[test]
fn rows_that_their_topic_will_not_keep_are_told() {
    let Some(brokers) = shared() else { return };
    let shopping = Shop { seed: 530, rows: 200, broken: false, ..Shop::default() }.open();
    for (topic, rows) in [("brief.clicks", &shopping.clicks), ("brief.orders", &shopping.orders)] {
        deal(&mut brokers.producer(topic, 1), rows.iter().map(Vec::as_slice), &mut 0);
    }
    let make = ["--create", "--topic", "brief.out", "--partitions", "1", "--config", "retention.ms=3600000"];
    brokers.tool(TOPICS, &make);
    let place = Place::new();
    place.write("job.yaml", job("brief"));
    let finished = brokers.with(place.run("job.yaml")).arg("--until-end").succeed();
    assert_eq!(finished.stderr.matches("retention_ms=3600000").count(), 1, "{finished}");
}

#[test]
fn a_lane_of_an_earlier_generation_is_turned_away_for_good() {
    let Some(brokers) = shared() else { return };
    let topic = "fenced";
    let (mut old, token) = open(&sink(brokers, topic, None), &claim(topic, "one", 1)).unwrap();
    assert_eq!(token, None);
    old.commit(3, &[rows(2, &["a"]), rows(3, &["b"])]).unwrap();
    let (mut new, token) = open(&sink(brokers, topic, None), &claim(topic, "one", 2)).unwrap();
    assert_eq!(token, Some(3), "what the former generation committed");
    // The zombie wakes up: it can neither write nor throw the later one out.
    let error = old.commit(4, &[rows(4, &["zombie"])]).unwrap_err();
    assert!(matches!(&error, SinkError::Fenced(reason) if reason.contains("generation 2")), "{error}");
    new.commit(4, &[rows(4, &["c"])]).unwrap();
    assert_eq!(values(brokers, topic, 3), ["a", "b", "c"]);
    // A start reads the whole progress topic: it must not grow with the commits.
    let progress = ["--describe", "--topic", "riverrun.progress.fenced.out"];
    let settings = brokers.tool(TOPICS, &progress);
    for wanted in ["cleanup.policy=compact", "segment.bytes=4194304", "segment.ms=3600000"] {
        assert!(settings.contains(wanted), "{settings}");
    }
    let zombie = open(&sink(brokers, topic, None), &claim(topic, "one", 1)).err().expect("it is an old one");
    assert!(matches!(zombie, SinkError::Fenced(_)), "{zombie}");
    // That one initialised producers before it knew; the later generation takes its lane back by itself.
    new.commit(5, &[rows(5, &["d"])]).unwrap();
    assert_eq!(values(brokers, topic, 4), ["a", "b", "c", "d"]);
    // Another run of the job, begun afresh, does not add to what is there unless it is told to.
    let fresh = open(&sink(brokers, topic, None), &claim(topic, "two", 1)).err().expect("there are records");
    assert!(matches!(&fresh, SinkError::Refused(reason) if reason.contains("--append")), "{fresh}");
    let append = Claim { append: true, ..claim(topic, "two", 1) };
    let (mut two, token) = open(&sink(brokers, topic, None), &append).unwrap();
    assert_eq!(token, None);
    two.commit(1, &[rows(1, &["e"])]).unwrap();
    assert_eq!(values(brokers, topic, 5), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_row_that_is_too_large_stops_the_job_or_goes_to_the_dead_letters() {
    let Some(brokers) = shared() else { return };
    let large = "x".repeat(2_000_000);
    let (mut lane, _) = open(&sink(brokers, "strict", None), &claim("strict", "one", 1)).unwrap();
    let error = lane.commit(2, &[rows(2, &["a", &large])]).unwrap_err();
    assert!(matches!(&error, SinkError::Refused(reason) if reason.contains("dead_letters")), "{error}");
    drop(lane);
    assert!(values(brokers, "strict", 0).is_empty(), "a commit is whole or not at all");

    let (mut lane, _) = open(&sink(brokers, "lenient", Some("lenient.dead")), &claim("lenient", "one", 1)).unwrap();
    lane.commit(2, &[rows(2, &["a", &large, "b"])]).unwrap();
    assert_eq!(values(brokers, "lenient", 2), ["a", "b"]);
    let dead = brokers.settled("lenient.dead", 1);
    assert_eq!(dead.len(), 1);
    let header = |name: &str| {
        let found = dead[0].headers.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.clone());
        String::from_utf8(found.unwrap_or_default()).expect("text")
    };
    assert_eq!(header("riverrun.code"), "too_large");
    assert_eq!(header("riverrun.length"), "2000000");
    assert_eq!(header("riverrun.tick"), "2");
    assert_eq!(dead[0].value.as_ref().map(Vec::len), Some(64 * 1024));
}

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

#[test]
fn what_brokers_never_take_stops_the_job_and_is_not_tried_for_ever() {
    let Some(brokers) = shared() else { return };
    let make = ["--create", "--topic", "tables", "--partitions", "2", "--config", "cleanup.policy=compact"];
    brokers.tool(TOPICS, &make);
    let (mut lane, _) = open(&sink(brokers, "tables", None), &claim("tables", "one", 1)).unwrap();
    let error = lane.commit(2, &[rows(2, &["a"])]).unwrap_err().to_string();
    assert!(error.contains("topic `tables` is compacted") && error.contains("key: [COLUMN]"), "{error}");
    drop(lane);
    // One that becomes such a topic under the job is found out by what the brokers say.
    let (mut lane, _) = open(&sink(brokers, "becomes", None), &claim("becomes", "one", 1)).unwrap();
    lane.commit(2, &[rows(2, &["a"])]).unwrap();
    let alter = ["--alter", "--entity-type", "topics", "--entity-name", "becomes"];
    let policy = ["--add-config", "cleanup.policy=compact"];
    brokers.tool("kafka.admin.ConfigCommand", &[&alter[..], &policy].concat());
    let error = lane.commit(3, &[rows(3, &["b"])]).unwrap_err().to_string();
    assert!(error.contains("brokers do not take a row") && error.contains("cleanup.policy"), "{error}");
    drop(lane);
    // Dead letters may have no key either.
    let error = open(&sink(brokers, "fine", Some("tables")), &claim("fine", "one", 1)).err().expect("it is compacted");
    assert!(error.to_string().contains("topic `tables` for dead letters is compacted"), "{error}");
}

#[test]
fn rows_older_than_their_topic_takes_have_the_time_of_writing() {
    let Some(brokers) = shared() else { return };
    let times = ["--config", "message.timestamp.before.max.ms=3600000"];
    brokers.tool(TOPICS, &[&["--create", "--topic", "dated", "--partitions", "2"][..], &times].concat());
    let (mut lane, _) = open(&sink(brokers, "dated", None), &claim("dated", "one", 1)).unwrap();
    let mut old = rows(2, &["a"]);
    old.times = vec![1_000_000_000_000_000];
    lane.commit(2, &[old]).unwrap();
    let records = brokers.settled("dated", 1);
    assert!(records[0].timestamp_ms.is_some_and(|time| time > 1_767_225_600_000), "{records:?}");
}
