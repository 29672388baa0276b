//! Looks for splits that come into being while a job runs, beside it.
//!
//! What a job reads stands in its log, and every tick of the journal was cut by it. So a split is not slipped in: the job is stopped
//! cleanly, and goes on from there with one more, by a record of its own (see [`crate::upgrade::grow`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use riverrun_dataflow::engine::Control;
use riverrun_dataflow::source::{Source, SplitSpec};
use riverrun_state::Inputs;

use crate::connect::Connected;

/// A source that may grow.
struct Watched {
    name: String,
    source: Arc<dyn Source>,
    known: Vec<SplitSpec>,
}

/// Looks for new splits until it is dropped, or has found some and stopped the job.
pub(super) struct Discovery {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    found: Arc<AtomicBool>,
}

impl Discovery {
    /// Starts to look, if any source can grow.
    pub fn start(connected: &Connected, inputs: &Inputs, control: &Arc<Control>) -> std::io::Result<Discovery> {
        let mut every: Option<Duration> = None;
        let mut watched = Vec::new();
        // What is derived again was read before, and nothing else is.
        let may_grow = inputs.recorded.is_none();
        for open in connected.sources.iter().filter(|open| may_grow && !open.bounded) {
            let Some(wanted) = open.source.discover_every() else { continue };
            every = Some(every.map_or(wanted, |every| every.min(wanted)));
            let own = inputs.splits.iter().filter(|split| split.source == open.name);
            let known = own.map(|split| split.spec.clone()).collect();
            watched.push(Watched { name: open.name.clone(), source: open.source.clone(), known });
        }
        let found = Arc::new(AtomicBool::new(false));
        let Some(every) = every else { return Ok(Discovery { end: None, thread: None, found }) };
        let (end, ended) = mpsc::channel();
        let (control, seen) = (control.clone(), found.clone());
        let look = move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                if watched.iter().any(Watched::has_grown) {
                    seen.store(true, Ordering::SeqCst);
                    return control.stop_to_go_on();
                }
            }
        };
        let thread = std::thread::Builder::new().name("discovery".to_owned()).spawn(look)?;
        Ok(Discovery { end: Some(end), thread: Some(thread), found })
    }

    /// Ends it, and returns whether it has found some.
    pub fn end(mut self) -> bool {
        self.join();
        self.found.load(Ordering::SeqCst)
    }

    fn join(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook.
            thread.join().ok();
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.join();
    }
}

impl Watched {
    /// Returns whether there is a split that is not known. A source that does not answer is asked again later.
    fn has_grown(&self) -> bool {
        let grown = self.source.grown(&self.known).unwrap_or_else(|error| {
            tracing::debug!(target: "riverrun", source = self.name, %error, "new partitions cannot be looked for");
            Vec::new()
        });
        if !grown.is_empty() {
            let names: Vec<&str> = grown.iter().map(|split| split.name.as_str()).collect();
            let splits = names.join(", ");
            tracing::info!(target: "riverrun", source = self.name, splits, "new partitions: the job goes on with them");
        }
        !grown.is_empty()
    }
}
