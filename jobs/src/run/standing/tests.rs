use std::time::Duration;

use riverrun_dataflow::source::{SourceError, SplitReader, SplitSpec};
use riverrun_state::{Begin, Holder, JobSpec, JobState, KeepLog, Retention, Started, Store};

use super::*;

fn at(tick: Tick) -> Positions {
    let split = BTreeMap::from([("0".to_owned(), tick * 10)]);
    Positions { tick, splits: BTreeMap::from([("clicks".to_owned(), split)]) }
}

fn done(covered: &Covered) -> u64 {
    covered.done.splits["clicks"]["0"]
}

#[test]
fn what_the_newest_checkpoint_covers_is_done() {
    let mut covered = Covered::default();
    assert!(!covered.look(at(1), 0));
    assert!(!covered.look(at(5), 0), "there is no checkpoint yet");
    assert!(covered.look(at(9), 6));
    assert_eq!(done(&covered), 50, "the newest look that it covers");
    assert!(!covered.look(at(9), 6));
    assert!(covered.look(at(12), 12));
    assert_eq!(done(&covered), 120);
    assert!(covered.look(at(20), 30));
    assert_eq!(done(&covered), 200);
}

#[test]
fn a_checkpoint_that_never_comes_costs_no_memory() {
    let mut covered = Covered::default();
    assert!((1..=5000).all(|tick| !covered.look(at(tick), 0)));
    assert_eq!(covered.waiting.len(), WAITING_MAX);
    assert!(covered.look(at(5001), 5001));
}

/// A source that notes what it hears.
#[derive(Default)]
struct Listening(Mutex<Vec<Standing>>);

impl Source for Listening {
    fn splits(&self, _bounded: bool) -> Result<Vec<SplitSpec>, SourceError> {
        unreachable!("nobody reads it here")
    }

    fn hear(&self, standing: &Standing) {
        self.0.lock().unwrap().push(standing.clone());
    }

    fn open(&self, _split: &SplitSpec, _position: u64) -> Result<Box<dyn SplitReader>, SourceError> {
        unreachable!("nobody reads it here")
    }
}

fn started(store: Store) -> Started {
    let spec = JobSpec {
        job: "j".into(),
        plan: "p".into(),
        build: "b".into(),
        shards: 8,
        lanes: Vec::new(),
        begin: Begin::Continue,
        holder: Holder::here(1),
    };
    let mut started = JobState::open(store, spec).unwrap().start().unwrap();
    started.retain(Retention { checkpoints: 3, keep_for: Duration::ZERO, log: KeepLog::Needed });
    started
}

/// What a restart may need again is in the log; that a process begins makes none of it needless.
#[test]
fn a_process_that_begins_tells_of_the_oldest_checkpoint_not_of_its_own_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let spec = SplitSpec { name: "0".into(), start: 7, end: None, identity: String::new() };
    let inputs = Inputs {
        sources: vec!["clicks".into()],
        splits: vec![InputSplit { id: 0, source: "clicks".into(), spec }],
        ..Inputs::default()
    };
    let mut began = started(Store::folder(dir.path()).unwrap());
    began.append_inputs(inputs.clone()).unwrap();
    let needed = Needed::of(began.oldest(), inputs.splits.clone());
    let source = Arc::new(Listening::default());
    let sources: Vec<(String, Arc<dyn Source>)> = vec![("clicks".into(), source.clone())];
    let mut told = Told { sources, covered: Covered::default(), needed };
    // Everything since the job began is there still: all of it may be read again, wherever this process went on.
    told.look(at(100), 0);
    told.look(at(120), 110);
    let heard = source.0.lock().unwrap().pop().unwrap();
    assert_eq!((heard.done["0"], heard.needed["0"]), (1000, 7));
}
