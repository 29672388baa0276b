//! Preview: the rows that a job's sinks would get, with the sinks off and nothing kept.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use riverrun_dataflow::engine::{self, Control, Lanes, Observer};
use riverrun_dataflow::journal::{
    CheckpointParts, FrozenPart, Journal, JournalEntry, JournalError, StateFile, StateStore, TakeRows,
};
use riverrun_dataflow::sink::{Claim, Lane, Promise, Sink, SinkError, TickRows, Token};
use riverrun_dataflow::tick::{Tick, Timeline};

use super::{RunError, by_source, resolve};
use crate::connect::Environment;
use crate::plan::Plan;

/// Rows that may wait to be shown before the job waits.
const WAITING_ROWS: usize = 1024;

/// A row that a sink would get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewRow {
    /// The sink.
    pub sink: String,
    /// The row as the sink would write it.
    pub bytes: Vec<u8>,
}

/// Runs `plan` without its sinks and without state, and hands rows to `show` until it returns false, `limit` rows were shown, or
/// input ends. Reads from the beginning; changes nothing.
pub fn preview(
    plan: &Plan,
    environment: &Environment,
    workers: usize,
    limit: usize,
    control: Arc<Control>,
    mut show: impl FnMut(PreviewRow) -> bool,
) -> Result<usize, RunError> {
    let connected = plan.connect_to_look(environment)?;
    let inputs = resolve(&connected, &control)?;
    let mut graph = plan.graph(&connected, by_source(&inputs));
    let (sender, rows) = sync_channel(WAITING_ROWS);
    let mut lanes = Lanes::new();
    for (index, sink) in graph.sinks.iter_mut().enumerate() {
        let shown = Arc::new(Shown { sink: sink.name.clone(), rows: sender.clone() });
        for lane in 0..sink.lanes {
            lanes.insert((index as u32, lane), (Box::new(shown.lane()), None));
        }
        sink.sink = shown;
    }
    drop(sender);
    let sources = graph.sources.len();
    let recovery = engine::Recovery { before: Timeline::start(sources, control.pace().wall()), ..Default::default() };
    let job = engine::Job {
        graph,
        workers,
        recovery,
        lanes,
        journal: Box::new(Nothing),
        state: Arc::new(Nothing),
        commit_every: std::time::Duration::ZERO,
        checkpoint_every: std::time::Duration::MAX,
        control: control.clone(),
        observer: Arc::new(Observer::default()),
    };
    std::thread::scope(|scope| {
        let running = scope.spawn(move || engine::run(job));
        let count = receive(rows, limit, &mut show);
        // Lanes find their receiver gone, which ends the job at once; rows beyond the limit are nobody's.
        control.stop();
        match running.join() {
            Ok(Err(error)) if count < limit && !is_end(&error) => Err(RunError::Engine(error)),
            Ok(_) => Ok(count),
            Err(_) => Err(RunError::Engine(engine::EngineError::Panic("preview".into()))),
        }
    })
}

fn receive(rows: Receiver<PreviewRow>, limit: usize, show: &mut impl FnMut(PreviewRow) -> bool) -> usize {
    let mut count = 0;
    while count < limit
        && let Ok(row) = rows.recv()
    {
        count += 1;
        if !show(row) {
            break;
        }
    }
    count
}

/// What a lane says when nobody looks any more.
const ENOUGH: &str = "enough was shown";

fn is_end(error: &engine::EngineError) -> bool {
    matches!(error, engine::EngineError::Sink { error: SinkError::Refused(reason), .. } if reason == ENOUGH)
}

/// Stands in for a sink.
struct Shown {
    sink: String,
    rows: SyncSender<PreviewRow>,
}

impl Shown {
    fn lane(&self) -> ShownLane {
        ShownLane { sink: self.sink.clone(), rows: self.rows.clone() }
    }
}

impl Sink for Shown {
    fn lanes(&self) -> Result<u32, SinkError> {
        Ok(1)
    }

    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    fn open(&self, _: u32, _: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError> {
        Ok((Box::new(self.lane()), None))
    }
}

struct ShownLane {
    sink: String,
    rows: SyncSender<PreviewRow>,
}

impl Lane for ShownLane {
    fn commit(&mut self, _: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        for tick in ticks {
            for row in 0..tick.rows.len() {
                let (_, value) = tick.rows.key_value(row);
                let row = PreviewRow { sink: self.sink.clone(), bytes: value.to_vec() };
                self.rows.send(row).map_err(|_| SinkError::Refused(ENOUGH.into()))?;
            }
        }
        Ok(())
    }
}

/// Keeps nothing: a preview does not outlive its process.
pub(crate) struct Nothing;

impl Journal for Nothing {
    fn append_ticks(&mut self, _: &[JournalEntry]) -> Result<(), JournalError> {
        Ok(())
    }

    fn append_checkpoint(&mut self, _: CheckpointParts) -> Result<(), JournalError> {
        Ok(())
    }
}

impl StateStore for Nothing {
    fn rebase(&self, _: &str, tables: &[&'static str], _: usize, _: usize) -> Vec<Vec<u16>> {
        vec![Vec::new(); tables.len()]
    }

    fn write(&self, _: FrozenPart) -> Result<Vec<StateFile>, JournalError> {
        Ok(Vec::new())
    }

    fn read(&self, _: &str, _: &str, _: usize, _: usize, _: &mut TakeRows<'_>) -> Result<(), JournalError> {
        Ok(())
    }
}
