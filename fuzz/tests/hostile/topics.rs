//! The files of an embedded topic.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use riverrun_connectors::topic::{
    Begin, CreateOptions, Partitioning, Producer, ProducerOptions, Record, Tail, Topic, TopicSink, TopicSource,
};
use riverrun_dataflow::sink::{Claim, EncodedRows, Sink, TickRows};
use riverrun_dataflow::source::{ReadLimits, Source};
use riverrun_fuzz::hold::Target;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::records::copy;
use crate::{hold, quick_dir};

/// Records that are read of one topic at most.
const RECORDS_MAX: usize = 100_000;
/// Length of a segment's header, and of a frame's.
const HEADERS: (usize, usize) = (32, 64);

/// The topic that all inputs are put into. It is kept, since checksums are seeded with its id: partition 0 was written by a
/// producer, partition 1 by a sink.
fn kept() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/topic");
    if !folder.exists() && std::env::var("UPDATE").is_ok_and(|update| update == "1") {
        write(&folder);
    }
    folder
}

fn write(folder: &Path) {
    let options = CreateOptions { partitions: 2, segment_bytes: 1024 };
    let topic = Topic::create(folder, "t", &options).expect("the folder can be written");
    let group_wait = Duration::from_secs(3600);
    let options = ProducerOptions { partitioning: Partitioning::One(0), group_wait, ..ProducerOptions::default() };
    let mut producer = Producer::open(&topic, options).expect("nobody else writes it");
    for n in 0..60i64 {
        let (key, value) = (format!("key-{n}"), format!("{{\"n\":{n},\"text\":\"some text\"}}"));
        let key = (n % 3 > 0).then_some(key.as_bytes());
        producer.append(&Record { timestamp: n * 1000, key, value: value.as_bytes() }).expect("there is room");
        if n % 6 == 5 {
            producer.sync().expect("there is room");
        }
    }
    drop(producer);
    let (mut lane, _) = TopicSink::new(folder, "t", Some(2)).open(1, &claim(1)).expect("nobody else writes it");
    for tick in 1..12 {
        lane.commit(tick, &[rows(tick)]).expect("there is room");
    }
}

fn claim(generation: u64) -> Claim {
    let of = |text: &str| text.to_owned();
    Claim { job: of("j"), incarnation: of("i"), sink: of("s"), generation, fresh: false, append: true }
}

fn rows(tick: u64) -> TickRows {
    let mut rows = TickRows { tick, rows: EncodedRows::default(), times: vec![0, 1] };
    for row in 0..2 {
        rows.rows.bytes.extend_from_slice(format!("{{\"tick\":{tick},\"row\":{row}}}").as_bytes());
        rows.rows.end_row(None);
    }
    rows
}

/// What seeds the checksums of a segment.
fn seed(id: &str, partition: u32, base: u64) -> u64 {
    xxh3_64(&[id.as_bytes(), &partition.to_le_bytes(), &base.to_le_bytes()].concat())
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn put(bytes: &mut [u8], at: usize, hash: u64) {
    bytes[at..at + 8].copy_from_slice(&hash.to_le_bytes());
}

/// Puts the checksums of a segment right, as far as its frames follow each other.
fn mend_segment(bytes: &mut [u8], seed: u64) {
    let (mut at, header) = HEADERS;
    if bytes.len() < at {
        return;
    }
    let check = xxh3_64_with_seed(&bytes[..24], seed);
    put(bytes, 24, check);
    while at + header <= bytes.len() {
        let payload = number(bytes, at + 8) as usize;
        let end = (at + header).saturating_add(payload);
        if end <= bytes.len() {
            let hash = xxh3_64(&bytes[at + header..end]);
            put(bytes, at + 48, hash);
        }
        let check = xxh3_64_with_seed(&bytes[at..at + 56], seed ^ at as u64);
        put(bytes, at + 56, check);
        at = end;
    }
}

/// Reads, and then writes, all there is; whatever the files hold, both end.
fn use_all(folder: &Path) {
    let Ok(topic) = Topic::open(folder, "t") else { return };
    drop(Topic::list(folder));
    drop(topic.describe().map(|partitions| partitions.len()));
    for begin in [Begin::Start, Begin::Offset(7), Begin::Last(3), Begin::Time(30_000), Begin::End] {
        let Ok(mut tail) = Tail::open(&topic, None, begin) else { continue };
        let mut left = RECORDS_MAX;
        while let (Ok(Some(_)), true) = (tail.read(), left > 0) {
            left -= 1;
        }
    }
    let source = TopicSource::new(folder, "t");
    for split in source.splits(true).unwrap_or_default() {
        for position in [0, 7, 31] {
            let Ok(mut reader) = source.open(&split, position) else { continue };
            while let Ok(Some(_)) = reader.read(&ReadLimits::at_most(100, 10_000)) {}
        }
    }
    let options = ProducerOptions { partitioning: Partitioning::One(0), ..ProducerOptions::default() };
    if let Ok(mut producer) = Producer::open(&topic, options) {
        let record = Record { timestamp: 1, key: None, value: b"more" };
        drop(producer.append(&record).and_then(|_| producer.sync()));
    }
    if let Ok((mut lane, token)) = TopicSink::new(folder, "t", None).open(1, &claim(2))
        && let Some(next) = token.map_or(Some(1), |token| token.tick.checked_add(1))
    {
        drop(lane.commit(next, &[rows(next)]));
    }
}

/// Holds the reader of one file of the topic to the rule.
fn hold_file(name: &'static str, file: &str, mend: impl Fn(&mut Vec<u8>, &str), cases: u64) {
    let kept = kept();
    let folder = quick_dir();
    let topic = Topic::open(&kept, "t").unwrap_or_else(|error| panic!("{error}"));
    let sample = fs::read(kept.join("t").join(file)).expect("the file is kept");
    hold(&Target {
        name,
        samples: vec![sample],
        mend: Box::new(|bytes| mend(bytes, topic.id())),
        // Blocks of segments are read at once, and runs of records are given room before they are read.
        spare: 8 << 20,
        cases,
        read: Box::new(|bytes| {
            let whole = folder.path().join("t");
            drop(fs::remove_dir_all(&whole));
            copy(&kept.join("t"), &whole);
            fs::write(whole.join(file), bytes).expect("the test can write");
            use_all(folder.path());
        }),
    });
}

/// The names of the segments of a partition, or of what else ends so.
fn named(partition: u32, ending: &str) -> Vec<String> {
    let entries = crate::entries(&kept().join("t").join(partition.to_string()));
    let names = entries.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
    let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    assert!(!names.is_empty(), "partition {partition} has no file that ends in {ending}");
    names
}

fn base_of(name: &str) -> u64 {
    name[..20].parse().expect("a segment is named for its first record")
}

#[test]
fn topic_sealed_segment() {
    let name = named(0, ".log").remove(1);
    let base = base_of(&name);
    let mend = move |bytes: &mut Vec<u8>, id: &str| mend_segment(bytes, seed(id, 0, base));
    hold_file("topic-sealed-segment", &format!("0/{name}"), mend, 600);
}

#[test]
fn topic_last_segment() {
    let name = named(0, ".log").pop().expect("there are some");
    let base = base_of(&name);
    let mend = move |bytes: &mut Vec<u8>, id: &str| mend_segment(bytes, seed(id, 0, base));
    hold_file("topic-last-segment", &format!("0/{name}"), mend, 600);
}

#[test]
fn topic_tokens() {
    let name = named(1, ".log").pop().expect("there are some");
    let base = base_of(&name);
    let mend = move |bytes: &mut Vec<u8>, id: &str| mend_segment(bytes, seed(id, 1, base));
    hold_file("topic-tokens", &format!("1/{name}"), mend, 600);
}

#[test]
fn topic_index() {
    let name = named(0, ".idx").remove(0);
    let base = base_of(&name);
    let mend = move |bytes: &mut Vec<u8>, id: &str| {
        if let Some(end) = bytes.len().checked_sub(8) {
            let hash = xxh3_64_with_seed(&bytes[..end], seed(id, 0, base));
            put(bytes, end, hash);
        }
    };
    hold_file("topic-index", &format!("0/{name}"), mend, 600);
}

#[test]
fn topic_synced() {
    let mend = |bytes: &mut Vec<u8>, id: &str| {
        for slot in bytes.chunks_exact_mut(64) {
            let hash = xxh3_64_with_seed(&slot[..56], xxh3_64(format!("{id} 0").as_bytes()));
            put(slot, 56, hash);
        }
    };
    hold_file("topic-synced", "0/synced", mend, 600);
}

#[test]
fn topic_description() {
    let mend = |bytes: &mut Vec<u8>, _: &str| {
        let Ok(mut said) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
        let text = |field: &str| match &said[field] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let fields = ["format", "id", "partitions", "segment_bytes", "created"].map(text);
        said["check"] = format!("{:016x}", xxh3_64(fields.join(" ").as_bytes())).into();
        *bytes = serde_json::to_vec(&said).expect("it was read");
    };
    hold_file("topic-description", "topic.json", mend, 600);
}
