//! Writes to the topics while the job runs, through `riverrun topic produce`, at an even rate.

use std::io::Write;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Tried;
use crate::job::{PARTITIONS, TOPICS};
use crate::place::Place;
use crate::process::{Process, nap, now};
use crate::traffic::{Stream, Traffic};

/// How often rows are written.
const EVERY: Duration = Duration::from_millis(5);

/// The traffic and who writes it.
pub struct Producer {
    /// Handed back by the thread, so that a killed producer can be followed by another.
    thread: JoinHandle<Traffic>,
    processes: [Process; 2],
    stop: Arc<AtomicBool>,
    shared: Shared,
}

/// What is counted while rows are written.
#[derive(Clone, Default)]
struct Shared {
    written: Arc<AtomicU64>,
    /// Why writing ended early.
    broken: Arc<Mutex<Option<String>>>,
}

/// Returns the wall clock in milliseconds since the epoch: the event time of what is written now.
#[expect(clippy::disallowed_methods, reason = "live traffic carries real time")]
pub fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Where traffic goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// What `--topics` says.
    pub topics: String,
    /// The topic of clicks, and that of orders.
    pub names: [String; 2],
}

impl Target {
    /// Returns the topics in the folder of a place.
    pub fn folder() -> Target {
        Target { topics: TOPICS.to_owned(), names: ["clicks", "orders"].map(str::to_owned) }
    }

    fn produce(&self, place: &Place, topic: &str) -> Tried<(Process, ChildStdin)> {
        let partitions = PARTITIONS.to_string();
        let Target { topics, .. } = self;
        let arguments = ["-q", "topic", "produce", topic, "--topics", topics, "--key", "user_id", "-p", &partitions];
        Process::start_fed(place, place.command(&arguments))
    }
}

impl Producer {
    /// Starts to write `traffic`, `rate` rows a second.
    pub fn start(place: &Place, target: &Target, mut traffic: Traffic, rate: u64) -> Tried<Producer> {
        let [clicks, orders] = &target.names;
        let ((clicks, mut to_clicks), (orders, mut to_orders)) =
            (target.produce(place, clicks)?, target.produce(place, orders)?);
        let (stop, shared) = (Arc::new(AtomicBool::new(false)), Shared::default());
        let (asked, told) = (stop.clone(), shared.clone());
        let write = move || {
            let (from, mut sent) = (now(), 0);
            while !asked.load(Ordering::Relaxed) {
                let due = from.elapsed().as_micros() as u64 * rate / 1_000_000;
                let (mut some_clicks, mut some_orders) = (Vec::new(), Vec::new());
                let wall = wall_ms();
                for _ in sent..due {
                    let (stream, line) = traffic.next(wall);
                    let into = if stream == Stream::Clicks { &mut some_clicks } else { &mut some_orders };
                    into.extend_from_slice(&line);
                    into.push(b'\n');
                }
                let written = to_clicks.write_all(&some_clicks).and_then(|()| to_orders.write_all(&some_orders));
                if let Err(error) = written {
                    *told.broken.lock().expect("no one panics with it") = Some(error.to_string());
                    break;
                }
                told.written.fetch_add(due.saturating_sub(sent), Ordering::Relaxed);
                sent = sent.max(due);
                nap(EVERY);
            }
            traffic
        };
        let thread = std::thread::Builder::new().name("traffic".to_owned()).spawn(write);
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Producer { thread, processes: [clicks, orders], stop, shared })
    }

    /// Returns the ids of the processes that write.
    pub fn ids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }

    /// Stops writing. Everything that was written is durable then. Returns the traffic and how many rows it gave.
    pub fn finish(mut self, place: &Place) -> Tried<(Traffic, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let traffic = self.thread.join().map_err(|_| "the traffic's thread panicked")?;
        for process in &mut self.processes {
            process.wait_for(place, 0)?;
        }
        if let Some(reason) = self.shared.broken.lock().expect("no one panics with it").take() {
            return Err(format!("cannot write to a producer: {reason}\n{}", place.said()));
        }
        Ok((traffic, self.shared.written.load(Ordering::Relaxed)))
    }

    /// Takes note that the processes were killed. What they had not made durable is lost, as it may be. Returns the traffic,
    /// which goes on after that.
    pub fn killed(mut self, place: &Place) -> Tried<Traffic> {
        self.stop.store(true, Ordering::Relaxed);
        for process in &mut self.processes {
            // One may have seen its input end, because the other was hit a moment before it.
            process.kill(place)?;
        }
        self.thread.join().map_err(|_| "the traffic's thread panicked".to_owned())
    }
}
