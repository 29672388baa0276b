//! Stores: local ones, and a bucket of a real server behind a network that fails.

use std::collections::BTreeMap;

use super::*;

#[test]
fn only_the_first_create_wins_and_its_repetition_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::folder(dir.path()).unwrap();
    assert_eq!(store.create("a/b", b"one".to_vec()).unwrap(), Created::Ours);
    assert_eq!(store.create("a/b", b"one".to_vec()).unwrap(), Created::Ours);
    assert_eq!(store.create("a/b", b"two".to_vec()).unwrap(), Created::Taken(Bytes::from_static(b"one")));
    assert_eq!(store.get("a/b").unwrap().unwrap(), "one");
    assert_eq!(store.get("a/c").unwrap(), None);
    store.try_out("a/probe", "x").unwrap();
    assert_eq!(store.list("a").unwrap().len(), 1);
    store.delete("a/b").unwrap();
    store.delete("a/b").unwrap();
    store.settle("a").unwrap();
    store.settle("none").unwrap();
    assert!(store.list("a").unwrap().is_empty());
}

#[test]
fn a_folder_that_cannot_be_written_says_so() {
    // Not even root may create files in /proc.
    let error = Store::folder(Path::new("/proc/riverrun/state")).unwrap_err();
    assert!(matches!(error, StateError::Storage { act: "write", .. }), "{error}");
    assert!(error.to_string().contains("/proc/riverrun/state"), "{error}");
}

#[test]
fn a_store_that_overwrites_is_refused() {
    let store = Store::over(Arc::new(crate::tests::faulty::Faulty::forgetful()), None);
    let error = store.try_out("probe", "x").unwrap_err();
    assert!(error.to_string().contains("only if it is absent"), "{error}");
}

/// The server and the network of the fault matrix: files that stand on the standard library alone.
#[path = "../../../faults/src/bucket.rs"]
#[allow(dead_code, reason = "this crate uses a part of it")]
mod server;

#[path = "../../../faults/src/proxy.rs"]
#[allow(dead_code, reason = "this crate uses a part of it")]
mod proxy;

use proxy::{FAULTS, Proxy, Weather};
use server::{BUCKET, CREDENTIALS, Server};

/// A server, and a network before it.
struct Cloud {
    network: Proxy,
    server: Server,
}

impl Cloud {
    /// Starts one; `None` where there is no server, which is said.
    fn open() -> Option<Cloud> {
        let server = Server::start(&server::python()?).unwrap();
        Some(Cloud { network: Proxy::start(server.address(), 7).unwrap(), server })
    }

    fn store(&self, prefix: &str) -> Store {
        let bucket = match Location::parse(&format!("s3://{BUCKET}/{prefix}")) {
            Ok(Location::Bucket(bucket)) => bucket,
            other => panic!("{other:?}"),
        };
        let endpoint = ("AWS_ENDPOINT_URL", format!("http://{}", self.network.address()));
        let settings = CREDENTIALS.map(|(name, value)| (name, value.to_owned()));
        let settings = settings.into_iter().chain([endpoint]).map(|(name, value)| (name.to_owned(), value));
        bucket.open(settings).unwrap()
    }
}

#[test]
fn a_bucket_does_what_a_folder_does_and_a_network_that_fails_changes_nothing() {
    let Some(cloud) = Cloud::open() else { return };
    let (store, other) = (cloud.store("a/b"), cloud.store("a/b"));
    store.try_out("jobs/j/probe", "one").unwrap();
    other.try_out("jobs/j/probe", "two").unwrap();
    assert!(store.list("jobs").unwrap().is_empty(), "a probe leaves nothing");
    cloud.network.becomes(Weather { fault_one_in: 3, ..Weather::default() });
    for number in 0..18 {
        let path = format!("jobs/j/log/{number:020}.json");
        let bytes = |of: &str| format!("{number} of {of}").repeat(100).into_bytes();
        assert_eq!(store.create(&path, bytes("one")).unwrap(), Created::Ours, "{number}: its own is its own");
        assert_eq!(other.create(&path, bytes("two")).unwrap(), Created::Taken(bytes("one").into()), "{number}");
        assert_eq!(store.create(&path, bytes("one")).unwrap(), Created::Ours, "{number}: repeated");
        assert_eq!(other.get(&path).unwrap().unwrap(), bytes("one"));
    }
    assert!(FAULTS.iter().all(|fault| cloud.network.met(*fault) > 2), "every fault was met");
    assert_eq!(store.get("jobs/j/none").unwrap(), None);
    store.create("jobs/j/floor/1", Vec::new()).unwrap();
    assert_eq!(store.get("jobs/j/floor/1").unwrap().unwrap(), "", "an empty object is there");
    let listed = store.list("jobs/j/log").unwrap();
    assert_eq!(listed.len(), 18);
    assert!(listed.is_sorted_by_key(|object| object.path.clone()));
    assert_eq!((listed[3].name.as_str(), listed[3].bytes), ("00000000000000000003.json", 800));
    let paths: Vec<String> = listed.into_iter().map(|object| object.path).chain(["jobs/j/none".to_owned()]).collect();
    store.delete_all(&paths).unwrap();
    store.delete("jobs/j/floor/1").unwrap();
    store.delete("jobs/j/floor/1").unwrap();
    assert!(cloud.server.objects("").unwrap().is_empty());
    assert_eq!(store.name("jobs/j"), "s3://riverrun-tests/a/b/jobs/j");
    assert!(!format!("{store:?}").contains("canary"), "a store shows where it is and nothing else");
}

#[test]
fn files_of_a_checkpoint_go_up_at_once() {
    let Some(cloud) = Cloud::open() else { return };
    let store = cloud.store("c");
    cloud.network.becomes(Weather { delay_ms_min: 200, delay_ms_max: 200, ..Weather::default() });
    store.put_all((0..20).map(|file| (format!("f{file}"), vec![file; 1000])).collect()).unwrap();
    // The request before them may still be on its way out of the network.
    let at_once = cloud.network.at_once();
    assert!((4..=WRITES_AT_ONCE as u64 + 1).contains(&at_once), "{at_once} at once");
    cloud.network.becomes(Weather::default());
    assert_eq!(store.list("").unwrap().len(), 20);
    assert_eq!(store.get("f19").unwrap().unwrap(), vec![19; 1000]);
}

#[test]
fn a_job_in_a_bucket_leaves_no_more_objects_the_longer_it_runs() {
    use crate::collect::{KeepLog, Retention};
    use crate::job::JobState;
    use crate::tests::model::{Model, entry, inputs, parts, restore, spec, tokens};

    let Some(cloud) = Cloud::open() else { return };
    let mut started = JobState::open(cloud.store("d"), spec()).unwrap().start().unwrap();
    started.append_inputs(inputs()).unwrap();
    let keep_for = std::time::Duration::ZERO;
    started.retain(Retention { checkpoints: 2, keep_for, log: KeepLog::Needed });
    let (_, mut engine) = started.recover(&[]).unwrap();
    let mut model = Model::default();
    let mut objects = BTreeMap::new();
    for tick in 1..=200 {
        model.set((tick % 8) as u16, tick as i64 % 5, Some(Some(format!("v{tick}"))));
        engine.journal.append_ticks(&[entry(tick, 1)]).unwrap();
        if tick % 4 == 0 {
            let files = model.freeze(&*engine.states, tick, 2);
            engine.journal.append_checkpoint(parts(tick, files)).unwrap();
            objects.insert(tick, cloud.server.objects("d/").unwrap().len());
        }
    }
    let most = |ticks: std::ops::RangeInclusive<u64>| objects.range(ticks).map(|(_, many)| *many).max().unwrap();
    assert!(most(150..=200) <= most(60..=130) + 5, "{objects:?}");
    assert!(most(0..=200) < 180, "250 records and more than 100 files were written: {objects:?}");
    drop(engine);
    let started = JobState::open(cloud.store("d"), spec()).unwrap().start().unwrap();
    let (recovery, engine) = started.recover(&tokens(200)).unwrap();
    assert_eq!(recovery.checkpoint.map(|it| it.parts.tick), Some(200));
    assert_eq!(restore(&*engine.states, 3), model.rows);
}
