//! Collection on a store that fails, or answers an error after it did what it was asked, at any of its operations.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;
use crate::inspect;
use crate::job::JobState;
use crate::store::Store;
use crate::tests::faulty::{Faulty, When};
use crate::tests::model::spec;

/// A job in memory, the objects of which may fail.
struct Shaky {
    objects: Arc<Faulty>,
    model: Model,
    tick: Tick,
}

impl Shaky {
    fn new() -> Shaky {
        Shaky { objects: Arc::new(Faulty::over(Arc::new(InMemory::new()))), model: Model::default(), tick: 0 }
    }

    fn store(&self) -> Store {
        Store::over(self.objects.clone(), None)
    }

    fn running(&mut self) -> Parts {
        let mut started = JobState::open(self.store(), spec()).unwrap().start().unwrap();
        started.retain(NOTHING_YOUNG);
        if started.inputs().is_none() {
            started.append_inputs(inputs()).unwrap();
        }
        let (recovery, parts) = started.recover(&tokens(self.tick)).unwrap();
        self.model = Model { rows: restore(&*parts.states, 1), ..Model::default() };
        // The ticks after the checkpoint are derived again.
        for entry in &recovery.entries {
            self.set(entry.record.tick);
        }
        self.tick = recovery.entries.last().map_or(self.tick, |entry| entry.record.tick.max(self.tick));
        parts
    }

    fn set(&mut self, tick: Tick) {
        self.model.set((tick % 8) as u16, tick as i64 % 3, Some(Some(format!("v{tick}"))));
    }

    /// Runs `ticks` ticks with a checkpoint after each, or until something fails.
    fn run(&mut self, running: &mut Parts, ticks: Tick) -> Result<(), String> {
        for _ in 0..ticks {
            let tick = self.tick + 1;
            running.journal.append_ticks(&[entry(tick, 1)]).map_err(|e| e.to_string())?;
            self.tick = tick;
            self.set(tick);
            let files = self.model.try_freeze(&*running.states, tick, 1).map_err(|e| e.to_string())?;
            running.journal.append_checkpoint(parts(tick, files)).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// The rows that the ticks up to `tick` give.
    fn expected(&self) -> Rows {
        let mut model = Model::default();
        for tick in 1..=self.tick {
            model.set((tick % 8) as u16, tick as i64 % 3, Some(Some(format!("v{tick}"))));
        }
        model.rows
    }

    /// Asserts that all is whole, and that nothing is left over.
    fn assert_tidy(&self, case: &str) {
        let report = inspect::verify(self.store(), "j").unwrap();
        assert_eq!(report.findings, vec![], "{case}");
        let overview = inspect::list(self.store(), "j").unwrap();
        let look = crate::inspect::Look::at(self.store(), "j").unwrap();
        let bounds = look.reader.bounds().unwrap();
        let oldest = look.reader.oldest_kept().unwrap();
        let mut named = BTreeSet::new();
        for summary in overview.checkpoints.iter().filter(|it| it.seq >= oldest) {
            let Body::Checkpoint(it) = look.reader.read(summary.seq).unwrap().body else { panic!("{case}") };
            named.extend(it.files().map(|file| format!("jobs/j/{}", file.path)));
        }
        let stored: BTreeSet<String> =
            self.store().list("jobs/j/state").unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(stored, named, "{case}: files that no checkpoint names");
        let below = self.store().list("jobs/j/log").unwrap();
        let below = below.iter().filter(|it| it.path <= look.reader.path(bounds.floor)).count();
        assert_eq!((below, self.store().list("jobs/j/floor").unwrap().len()), (1, 1), "{case}: only the inputs stay");
    }
}

#[test]
fn a_failure_at_any_operation_loses_nothing_and_leaves_nothing() {
    let mut at = 0;
    loop {
        let mut met = 0;
        for when in [When::Before, When::After] {
            let case = format!("operation {at} fails {when:?}");
            let mut job = Shaky::new();
            let mut running = job.running();
            job.run(&mut running, 6).unwrap();
            drop(running);
            let mut running = job.running();
            job.objects.fail_at(at, when);
            // What fails is the collection, which is tried again, or the job, which is started again.
            let _ = job.run(&mut running, 4);
            met += usize::from(job.objects.has_failed());
            drop(running);
            let mut running = job.running();
            assert_eq!(job.model.rows, job.expected(), "{case}");
            job.run(&mut running, 4).unwrap();
            drop(running);
            job.running();
            assert_eq!(job.model.rows, job.expected(), "{case}");
            job.assert_tidy(&case);
        }
        if met == 0 {
            break;
        }
        at += 1;
    }
    assert!(at > 40, "only {at} operations were tried");
}

#[test]
fn a_collection_that_failed_is_tried_again_by_the_same_process() {
    let mut job = Shaky::new();
    let mut running = job.running();
    job.run(&mut running, 9).unwrap();
    drop(running);
    let mut running = job.running();
    // Deletions fail for a while: what is appended and written goes on.
    job.objects.fail_deletes(true);
    job.run(&mut running, 5).unwrap();
    job.objects.fail_deletes(false);
    job.run(&mut running, 1).unwrap();
    job.assert_tidy("after the store works again");
}
