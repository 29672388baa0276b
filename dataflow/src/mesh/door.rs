//! The door: where others of the mesh, and strangers, come in.
//!
//! It stays open as long as the process lives. Before the mesh stands it lets peers in; afterwards it only tells callers, each
//! with a reason, that they are none.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::address::{Address, Listening};
use super::hello::{self, Hello, Purpose, Refusal};
use super::meter::MeshMeter;
use super::now;
use super::socket::{InTime, Socket};
use super::tls::Tls;

/// Callers that may be saying who they are at the same time.
const PENDING_MAX: usize = 64;
/// How long the door waits when the system has nothing left for another connection.
const BREATH: Duration = Duration::from_millis(50);

/// The connections of one peer.
pub struct Pair {
    /// For what each says.
    pub control: Socket,
    /// For batches.
    pub data: Socket,
}

/// What a peer has brought so far.
#[derive(Default)]
struct Arrived {
    instance: u64,
    control: Option<Socket>,
    data: Option<Socket>,
}

/// What the door's threads share.
struct Shared {
    own: Hello,
    safety: Safety,
    arrivals: Mutex<Arrivals>,
    changed: Condvar,
    pending: AtomicUsize,
    closing: AtomicBool,
    meter: Arc<MeshMeter>,
}

#[derive(Default)]
struct Arrivals {
    by_process: BTreeMap<usize, Arrived>,
    /// The mesh stands: every place is taken.
    complete: bool,
    /// The newest generation that was heard of, if it is newer than this one.
    newer: Option<u64>,
    /// Is told of a newer generation.
    on_newer: Option<Box<dyn FnOnce(u64) + Send>>,
}

/// What is asked of callers, and of connections.
pub struct Safety {
    /// A certificate of the mesh, on the network.
    pub tls: Option<Tls>,
    /// How long an answer may take before the connection counts as dead.
    pub dead: Duration,
}

/// An open door.
pub struct Door {
    shared: Arc<Shared>,
    wake: Option<Address>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Opens it.
    pub fn open(own: Hello, safety: Safety, listening: Listening, meter: Arc<MeshMeter>) -> io::Result<Door> {
        let wake = Some(listening.reachable()?);
        let shared = Arc::new(Shared {
            own,
            safety,
            arrivals: Mutex::default(),
            changed: Condvar::new(),
            pending: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            meter,
        });
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("mesh-door".to_owned()).spawn(move || serve(&own, &listening))?;
        Ok(Door { shared, wake, thread: Some(thread) })
    }

    /// Waits for `time` at most for news: a peer has come, or a newer generation.
    pub fn wait(&self, time: Duration) {
        let arrivals = self.shared.arrivals();
        drop(self.shared.changed.wait_timeout(arrivals, time).unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns the newer generation that was heard of, if one was.
    pub fn newer(&self) -> Option<u64> {
        self.shared.arrivals().newer
    }

    /// Returns which of the processes that are to call are not there yet.
    pub fn missing(&self) -> Vec<usize> {
        let mut arrivals = self.shared.arrivals();
        let is_here = |arrived: &mut Arrived| match (&arrived.control, &arrived.data) {
            (Some(control), Some(data)) => control.is_open() && data.is_open(),
            _ => false,
        };
        let calling = self.shared.own.process + 1..self.shared.own.processes;
        calling.filter(|process| !arrivals.by_process.get_mut(process).is_some_and(is_here)).collect()
    }

    /// Takes the connections of those that called. From now on nobody is let in.
    pub fn complete(&self) -> BTreeMap<usize, Pair> {
        let mut arrivals = self.shared.arrivals();
        arrivals.complete = true;
        let arrived = std::mem::take(&mut arrivals.by_process);
        let pair = |(process, it): (usize, Arrived)| Some((process, Pair { control: it.control?, data: it.data? }));
        arrived.into_iter().filter_map(pair).collect()
    }

    /// Has `on_newer` called once a newer generation is heard of: at once, if one was.
    pub fn watch(&self, on_newer: impl FnOnce(u64) + Send + 'static) {
        let mut arrivals = self.shared.arrivals();
        match arrivals.newer {
            Some(newer) => {
                drop(arrivals);
                on_newer(newer);
            }
            None => arrivals.on_newer = Some(Box::new(on_newer)),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.arrivals().on_newer = None;
        // The thread waits for a caller: this is one.
        let woken = self.wake.take().is_some_and(|address| address.connect(Duration::from_secs(1)).is_ok());
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // A panic there has been reported by the panic hook.
            thread.join().ok();
        }
    }
}

impl Shared {
    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears who a caller is, and lets it in or turns it away.
    fn meet(&self, socket: Socket) {
        let deadline = now() + hello::LIMIT;
        let mut socket = match self.trusted(socket, deadline) {
            Ok(socket) => socket,
            Err(refusal) => return self.reject(&refusal),
        };
        match hello::receive(&mut InTime::of(&mut socket, deadline)).and_then(|caller| self.judge(caller)) {
            Ok(caller) => self.let_in(&caller, socket, deadline),
            Err(refusal) => self.turn_away(&refusal, &mut socket, deadline),
        }
    }

    /// Tells a caller why it is not let in. Who hears it finds it counted.
    fn turn_away(&self, refusal: &Refusal, socket: &mut Socket, deadline: Instant) {
        self.reject(refusal);
        // A stranger is told nothing, not even that it knocked at a mesh.
        if !matches!(refusal, Refusal::Stranger | Refusal::Slow | Refusal::Gone) {
            hello::answer(&mut InTime::of(socket, deadline), Some(refusal)).ok();
        }
    }

    /// Returns the caller, if it is a peer.
    fn judge(&self, caller: Hello) -> Result<Hello, Refusal> {
        match self.own.judge(&caller) {
            Ok(()) => Ok(caller),
            Err(refusal) => {
                if let Refusal::Newer { .. } = refusal {
                    self.hear_of_newer(caller.generation);
                }
                Err(refusal)
            }
        }
    }

    fn reject(&self, refusal: &Refusal) {
        self.meter.reject(refusal);
        let reason = refusal.word();
        tracing::debug!(target: "riverrun", reason, "a connection to the mesh was turned away: {refusal}");
    }

    /// Returns the connection as one that nobody else reads or writes, if that is asked of callers.
    fn trusted(&self, socket: Socket, deadline: Instant) -> Result<Socket, Refusal> {
        socket.prepare(self.safety.dead).map_err(|_| Refusal::Gone)?;
        let Some(tls) = &self.safety.tls else { return Ok(socket) };
        tls.accept(socket, deadline).map_err(|error| match hello::failed(&error) {
            Refusal::Slow => Refusal::Slow,
            _ => Refusal::Untrusted,
        })
    }

    /// Gives a peer its place, and says so.
    fn let_in(&self, caller: &Hello, mut socket: Socket, deadline: Instant) {
        let mut arrivals = self.arrivals();
        let complete = arrivals.complete;
        let place = arrivals.by_process.entry(caller.process).or_default();
        let is_known = place.instance == caller.instance;
        let is_dead = place.control.as_ref().is_none_or(|control| !control.is_open());
        let is_free = match caller.purpose {
            // The process that had this number may have died before the mesh stood.
            Purpose::Control => is_dead,
            Purpose::Data => is_known && place.control.is_some() && place.data.is_none(),
            Purpose::Notice => false,
        };
        if complete || !is_free {
            drop(arrivals);
            return self.turn_away(&Refusal::Taken, &mut socket, deadline);
        }
        // Few bytes into an empty buffer: this does not wait, though the lock is held.
        if hello::answer(&mut InTime::of(&mut socket, deadline), None).is_err() {
            return self.reject(&Refusal::Gone);
        }
        match caller.purpose {
            Purpose::Control => {
                *place = Arrived { instance: caller.instance, control: Some(socket), data: None };
            }
            _ => place.data = Some(socket),
        }
        self.changed.notify_all();
    }

    fn hear_of_newer(&self, generation: u64) {
        let mut arrivals = self.arrivals();
        arrivals.newer = arrivals.newer.max(Some(generation));
        let tell = arrivals.on_newer.take();
        self.changed.notify_all();
        drop(arrivals);
        if let Some(tell) = tell {
            tell(generation);
        }
    }
}

/// One who says who it is.
struct Pending(Arc<Shared>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::SeqCst);
    }
}

fn serve(shared: &Arc<Shared>, listening: &Listening) {
    loop {
        let accepted = listening.accept();
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        match accepted {
            Ok(socket) => receive(shared, socket),
            // One who went away at once is nothing; without file descriptors there is nothing to do but wait.
            Err(error) => {
                tracing::debug!(target: "riverrun", %error, "a connection to the mesh could not be taken");
                std::thread::park_timeout(BREATH);
            }
        }
    }
}

/// Has a caller met on a thread of its own: one that is slow keeps nobody waiting.
fn receive(shared: &Arc<Shared>, socket: Socket) {
    let pending = shared.pending.fetch_add(1, Ordering::SeqCst);
    let pending_one = Pending(shared.clone());
    if pending >= PENDING_MAX {
        shared.meter.reject(&Refusal::Busy);
        return;
    }
    let shared = shared.clone();
    let meet = move || {
        let _pending = pending_one;
        shared.meet(socket);
    };
    // Without another thread the caller is let go, and tries again.
    std::thread::Builder::new().name("mesh-hello".to_owned()).spawn(meet).map(drop).unwrap_or_else(|error| {
        tracing::debug!(target: "riverrun", %error, "a connection to the mesh could not be met");
    });
}
