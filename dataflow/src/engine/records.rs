//! Tick records in the dataflow: made by the clock on worker 0, broadcast to all, remembered for the readers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::operator::Operator as _;
use timely::dataflow::operators::vec::Broadcast;

use super::build::{Build, RecordStream};
use super::clock::{Clock, WallClock};
use super::control::Control;
use super::ledger::{LedgerShared, Occasion};
use super::message::Mark;
use super::meter::Part;
use super::reader::Timelines;
use super::{Setup, Then};
use crate::tick::{Tick, TickRecord};

/// The wall clock at the job's pace.
struct PaceClock(Arc<Control>);

impl WallClock for PaceClock {
    fn now(&mut self) -> i64 {
        self.0.pace().wall()
    }
}

/// The clock: on worker 0 a record per tick, as soon as all marks of it are in; nothing elsewhere.
pub fn clock<'s>(
    build: &Build<'s>,
    setup: &Setup,
    marks: Stream<'s, Tick, Vec<Mark>>,
    ledger: LedgerShared,
) -> RecordStream<'s> {
    let recovery = &setup.recovery;
    let (first, own, control) = (build.start.tick + 1, build.worker == 0, build.control.clone());
    let recorded = recovery.entries.iter().filter(|_| own).map(|entry| entry.record.clone()).collect();
    let mut clock = Clock::new(&build.graph, build.start.clone(), recorded, Box::new(PaceClock(build.control.clone())));
    let repeated = recovery.entries.last().map_or(build.start.tick, |entry| entry.record.tick);
    let then = recovery.then;
    let meter = build.meter.part(build.worker, Part::Clock);
    // What has moved since the last checkpoint; at a start it is not known.
    let (mut watermarks, mut moved) = (build.start.watermarks.clone(), true);
    type Records = CapacityContainerBuilder<Vec<TickRecord>>;
    marks.unary_frontier::<Records, _, _, _>(Exchange::new(|_: &Mark| 0), "clock", move |capability, _| {
        let mut capability = own.then(|| capability.delayed(&first));
        let mut waiting: BTreeMap<Tick, Vec<Mark>> = BTreeMap::new();
        let mut tick = first;
        move |(input, frontier), output| {
            input.for_each(|time, marks| waiting.entry(*time.time()).or_default().append(marks));
            let Some(capability) = &mut capability else { return };
            while !frontier.less_equal(&tick) && !control.failed() {
                match clock.close(tick, waiting.remove(&tick).unwrap_or_default()) {
                    Ok(Some(mut record)) => {
                        // A process that dies before it has repeated everything must not begin from the same checkpoint for
                        // ever, and a stopped one should not have to repeat at all.
                        let is_own = tick > repeated || then == Then::Finish;
                        moved |= !record.splits.is_empty() || record.watermarks != watermarks;
                        watermarks.clone_from(&record.watermarks);
                        let milestone = record.last || tick == repeated || (control.stopping() && is_own);
                        let occasion = match milestone {
                            true => Occasion::Milestone,
                            // What is repeated is not what whoever asks wants to keep.
                            false if control.wants_checkpoint_at(tick) && is_own => Occasion::Asked,
                            false if moved => Occasion::Time,
                            false => Occasion::Quiet,
                        };
                        record.checkpoint =
                            then != Then::End && ledger.wants_checkpoint(occasion, control.pace().now());
                        if record.checkpoint {
                            moved = false;
                            control.checkpoint_begins(tick);
                        }
                        output.session(capability).give(record);
                    }
                    Ok(None) => {}
                    Err(error) => return control.fail(error),
                }
                tick += 1;
                meter.reached(tick);
                capability.downgrade(&tick);
            }
        }
    })
}

/// Brings the records to all workers, and to the readers' timelines.
pub fn broadcast<'s>(
    build: &Build<'s>,
    records: RecordStream<'s>,
    timelines: Rc<RefCell<Timelines>>,
) -> RecordStream<'s> {
    let records = if build.workers == 1 { records } else { records.broadcast() };
    // One worker of a process that does not lead tells its observer, which has no ledger to hear from.
    let observer = (build.worker == build.own.start).then(|| build.observer.clone());
    records
        .clone()
        .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "timeline", move |_, _| {
            // Records of several ticks may arrive at once, in any order.
            let mut early: BTreeMap<Tick, TickRecord> = BTreeMap::new();
            let mut next = None;
            move |input, _| {
                input.for_each(|_, records| early.extend(records.drain(..).map(|record| (record.tick, record))));
                let mut timelines = timelines.borrow_mut();
                let next = next.get_or_insert_with(|| timelines.next());
                while let Some(record) = early.remove(next) {
                    observer.iter().for_each(|observer| observer.follow(&record));
                    timelines.push(record);
                    *next += 1;
                }
            }
        })
        .probe_with(&build.probe);
    records
}
