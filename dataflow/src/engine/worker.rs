//! One worker thread: reads its splits into ticks and lets timely work, in turns.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use timely::dataflow::ProbeHandle;
use timely::worker::Worker;

use super::build::{Build, Inputs, build};
use super::message::Raw;
use super::meter::act::ActKind;
use super::meter::{Laps, Meter, Part, Wait};
use super::reader::{Reader, Timelines, Turn};
use super::{EngineError, Setup};
use crate::graph::Graph;
use crate::tick::Tick;

/// How long a worker of a live job sleeps when there was nothing to read.
const POLL: Duration = Duration::from_millis(5);
/// How long a worker sleeps when it may not read: it is woken when something happens.
const WAIT: Duration = Duration::from_millis(50);

/// Runs a worker until the job ends. Errors go to the control. The dataflow is left to be dropped.
pub fn run(worker: &mut Worker, setup: &Setup) {
    let control = setup.control.clone();
    control.register(std::thread::current());
    let running = Running::start(worker, setup);
    match running {
        Ok(mut running) => {
            while !control.ended() {
                match running.turn(setup) {
                    Ok(wait) => {
                        let reason = running.reason(wait);
                        running.laps.turn(reason, || {
                            worker.step_or_park(Some(control.pace().sleep(wait)));
                        });
                        control.pace().pass(worker.index());
                    }
                    Err(error) => control.fail(error),
                }
            }
        }
        Err(error) => control.fail(error),
    }
}

/// A worker at work.
struct Running {
    reader: Reader,
    inputs: Inputs,
    probe: ProbeHandle<Tick>,
    in_flight: Tick,
    quiet: bool,
    exhausted: bool,
    meter: Arc<Meter>,
    laps: Laps,
    /// The worker may not read until there is room again.
    withheld: bool,
    /// When the ledger was last asked for the end.
    asked: Option<Instant>,
}

impl Running {
    fn start(worker: &mut Worker, setup: &Setup) -> Result<Running, EngineError> {
        let graph: Arc<Graph> = setup.graph.clone();
        let recovery = &setup.recovery;
        let start = recovery.after();
        let timelines = Rc::new(RefCell::new(Timelines::new(recovery.before.clone(), recovery.recent.iter().cloned())));
        let place = (worker.index(), worker.peers());
        let mut reader = Reader::new(graph.clone(), place, &start, recovery, timelines.clone());
        let meter = setup.observer.meter().expect("the observer is started before the workers");
        let waiting = |source| meter.act(ActKind::Read, source, place.0);
        reader.measured(|source| meter.part(place.0, Part::Read(source)), waiting);
        let probe = ProbeHandle::new();
        let first = start.tick + 1;
        let inputs = worker.dataflow::<Tick, _, _>(|scope| {
            let parts = Build {
                scope,
                own: setup.own.clone(),
                worker: place.0,
                workers: place.1,
                graph: graph.clone(),
                control: setup.control.clone(),
                observer: setup.observer.clone(),
                meter: meter.clone(),
                state: setup.state.clone(),
                start,
                floors: setup.recovery.floors.clone(),
                commit_every: setup.commit_every,
                probe: probe.clone(),
            };
            build(&parts, setup, timelines)
        });
        let mut inputs = inputs?;
        inputs.raw.advance_to(first);
        inputs.marks.advance_to(first);
        let (in_flight, laps) = (graph.ticks.in_flight, meter.laps(place.0));
        let (quiet, exhausted, withheld) = (false, false, false);
        let asked = None;
        Ok(Running { reader, inputs, probe, in_flight, quiet, exhausted, meter, laps, withheld, asked })
    }

    /// Returns why the worker would sleep.
    fn reason(&self, wait: Duration) -> Wait {
        match (wait.is_zero(), self.withheld) {
            (true, _) => Wait::None,
            (false, true) => Wait::Withheld,
            (false, false) => Wait::Idle,
        }
    }

    /// Reads a little, or closes the tick; returns how long the worker may sleep if timely has nothing to do either.
    fn turn(&mut self, setup: &Setup) -> Result<Duration, EngineError> {
        let control = &setup.control;
        let now = control.pace().now();
        self.withheld = false;
        if self.exhausted {
            return Ok(self.go_quiet(setup, now));
        }
        if !self.reader.is_open() {
            let tick = self.reader.tick();
            if control.stopping() && !self.reader.must_repeat() {
                match control.until() {
                    Some(last) if tick > last.tick => return Ok(self.go_quiet(setup, now)),
                    Some(_) => {}
                    // The processes are about to agree on the last tick.
                    None => {
                        self.withheld = true;
                        return Ok(POLL);
                    }
                }
            }
            // A tick is opened once the one `in_flight` before it is complete, and the log has not too many before it to write.
            let behind = control.is_behind() && tick > control.ahead();
            if behind || self.probe.less_than(&(tick.saturating_sub(self.in_flight) + 1)) {
                self.withheld = true;
                return Ok(WAIT);
            }
            if !self.reader.open(now) {
                self.exhausted = true;
                return Ok(Duration::ZERO);
            }
            control.open(tick);
        }
        let (raw, meter, laps, tick) = (&mut self.inputs.raw, &self.meter, &self.laps, self.reader.tick());
        let turn = self.reader.turn(now, |chunk| {
            meter.read(tick);
            laps.begun(tick);
            raw.send_batch(&mut Raw::of(chunk));
        })?;
        let close = match turn {
            Turn::Full => true,
            // A tick that is being read is closed when it is due; a bounded or recorded one is never due, only full.
            Turn::Read | Turn::Nothing => {
                self.reader.is_live() && (control.stopping() || self.reader.due(now, control.ahead()))
            }
        };
        if close {
            let tick = self.reader.tick();
            self.laps.begun(tick);
            if self.reader.is_live() && control.drains_with(tick) {
                self.reader.end();
            }
            for mark in self.reader.close() {
                self.inputs.marks.send(mark);
            }
            self.inputs.raw.advance_to(tick + 1);
            self.inputs.marks.advance_to(tick + 1);
            return Ok(Duration::ZERO);
        }
        Ok(if turn == Turn::Nothing { POLL } else { Duration::ZERO })
    }

    /// Says once that this worker opens no further tick; returns how long it may sleep.
    fn go_quiet(&mut self, setup: &Setup, now: Instant) -> Duration {
        if !setup.control.stopping() {
            return WAIT;
        }
        if !self.quiet {
            self.quiet = true;
            setup.control.quiet();
        }
        // The ledger decides about the end when it is scheduled: now and then, for a sink that is away may keep the end waiting for long.
        if self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= POLL) {
            self.asked = Some(now);
            setup.control.answered();
            return Duration::ZERO;
        }
        POLL
    }
}
