//! How a mesh comes to stand: each process opens its door, calls those with lower numbers, and waits for the others to call.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::address::{Address, Listening};
use super::door::{Door, Pair, Safety};
use super::frame::{Failure, Frame, FrameKind};
use super::hello::{self, Hello, Purpose, Refusal};
use super::link::{Beat, Links};
use super::meter::MeshMeter;
use super::socket::{Counted, Socket};
use super::tls::Tls;
use super::{Mesh, MeshError, now};

/// The first pause between two attempts to reach a peer, and the longest. Processes that are started together open their doors within
/// moments of each other: whoever begins with a long pause has all others wait for it.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// What a process may say before all are there. What is beyond that waits on its side.
const HEARD_MAX: usize = 1 << 20;
/// How long a process waits before it looks again whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Which process of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of this process; process 0 leads.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
    /// Worker threads of each.
    pub workers: usize,
}

impl Place {
    /// Returns the workers of this process, of all workers of the job.
    pub fn own(&self) -> std::ops::Range<usize> {
        self.process * self.workers..(self.process + 1) * self.workers
    }

    /// Returns how many workers the job has.
    pub fn all(&self) -> usize {
        self.processes * self.workers
    }
}

/// What a mesh is made of.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// The job.
    pub job: String,
    /// Hash of its plan.
    pub plan: String,
    /// What names the output semantics of this build.
    pub build: String,
    /// Which mesh of the job this is; a newer one ends an older one.
    pub generation: u64,
    /// Which process this is.
    pub place: Place,
    /// Where each process can be found, this one included.
    pub peers: Vec<Address>,
    /// Where this process listens, if not where its own address says.
    pub listen: Option<Address>,
    /// What processes show each other on the network; sockets of this machine are protected by their folder.
    pub tls: Option<Tls>,
    /// How long all may take to come.
    pub startup: Duration,
    /// At least so often each process says something.
    pub beat: Duration,
    /// One that says nothing for so long is lost.
    pub dead: Duration,
}

impl MeshConfig {
    fn check(&self) -> Result<(), MeshError> {
        let Place { process, processes, workers } = self.place;
        let refuse = |reason: String| Err(MeshError::Config(reason));
        if processes < 2 || workers == 0 {
            return refuse("a mesh has at least two processes, with at least one worker each".to_owned());
        }
        if process >= processes {
            return refuse(format!("there is no process {process} of {processes}: they are numbered from 0"));
        }
        if self.peers.len() != processes {
            let given = self.peers.len();
            return refuse(format!(
                "{processes} processes need as many addresses, {given} are given\n  hint: --peers names all of them in order, this process included"
            ));
        }
        if let Some(twice) = (1..processes).find(|at| self.peers[..*at].contains(&self.peers[*at])) {
            return refuse(format!("`{}` stands for two processes", self.peers[twice]));
        }
        if self.beat.is_zero() || self.dead < self.beat * 2 {
            return refuse("the time after which a silent process is lost must be at least two heartbeats".to_owned());
        }
        Ok(())
    }

    fn hello(&self) -> Hello {
        Hello {
            job: self.job.clone(),
            plan: self.plan.clone(),
            build: self.build.clone(),
            generation: self.generation,
            process: self.place.process,
            processes: self.place.processes,
            workers: self.place.workers,
            purpose: Purpose::Control,
            // The seed of a map is random at every start.
            instance: RandomState::new().hash_one(std::process::id()),
        }
    }
}

/// A mesh that is coming to stand.
struct Forming<'a> {
    config: &'a MeshConfig,
    hello: Hello,
    deadline: Instant,
    stopping: &'a dyn Fn() -> bool,
}

/// Makes the mesh.
pub fn form(config: &MeshConfig, meter: Arc<MeshMeter>, stopping: &dyn Fn() -> bool) -> Result<Mesh, MeshError> {
    config.check()?;
    let forming = Forming { config, hello: config.hello(), deadline: now() + config.startup, stopping };
    let listening = forming.listen()?;
    let opened = Door::open(
        forming.hello.clone(),
        Safety { tls: config.tls.clone(), dead: config.dead },
        listening,
        meter.clone(),
    );
    let door = opened.map_err(|error| MeshError::Config(format!("cannot listen for the other processes: {error}")))?;
    let mut called = Vec::new();
    for process in 0..config.place.process {
        called.push(forming.call(process, &door)?);
    }
    forming.wait_for_callers(&door, &mut called)?;
    let processes = config.place.processes;
    tracing::info!(target: "riverrun", processes, generation = config.generation, "the processes of the job are together");
    // Between the last look and this one a process may have died; its connection then ends the mesh at once.
    let arrived = door.complete().into_iter().map(|(process, pair)| Called { process, pair, heard: Vec::new() });
    let beat = Beat { every: config.beat, dead: config.dead, first: config.startup.max(config.dead) };
    let (mut control, mut data): (Vec<_>, Vec<_>) = (0..config.place.processes).map(|_| (None, None)).unzip();
    for Called { process, pair: Pair { control: one, data: other }, heard } in called.into_iter().chain(arrived) {
        other.limit(None, None).map_err(|error| MeshError::Lost { process, reason: error.to_string() })?;
        control[process] = Some((one, heard));
        data[process] = Some(Counted::new(other, meter.traffic(process)));
    }
    let failed = |error: io::Error| MeshError::Config(format!("cannot talk to the other processes: {error}"));
    let links = Links::start(control, beat, meter.clone()).map_err(failed)?;
    door.watch(links.superseding(config.generation));
    Ok(Mesh {
        place: config.place,
        links,
        data: Mutex::new(Some(data)),
        on_loss: Mutex::default(),
        meter,
        door: Mutex::new(Some(door)),
    })
}

impl Forming<'_> {
    /// Begins to listen; an address that is in use may become free. If a process of an older generation has it, it is told to go.
    fn listen(&self) -> Result<Listening, MeshError> {
        let own = &self.config.peers[self.config.place.process];
        let address = self.config.listen.clone().unwrap_or_else(|| own.to_listen_on());
        let mut pauses = Pauses::new(self.hello.instance);
        loop {
            let error = match address.listen() {
                Ok(listening) => return Ok(listening),
                Err(error) => error,
            };
            if error.kind() != io::ErrorKind::AddrInUse {
                let hint = "name another address with --mesh-listen";
                return Err(MeshError::Config(format!("cannot listen on {address}: {error}\n  hint: {hint}")));
            }
            if self.is_late() {
                return Err(MeshError::Occupied { address: address.to_string(), waited: self.config.startup });
            }
            self.notify(own)?;
            self.pause(pauses.next(), None)?;
        }
    }

    /// Tells whoever has this process's own address which generation this is.
    fn notify(&self, own: &Address) -> Result<(), MeshError> {
        let Ok(mut socket) = self.dial(own) else { return Ok(()) };
        match hello::call(&mut socket, &self.hello.to(Purpose::Notice)) {
            Err(Refusal::Older { here }) => Err(MeshError::Superseded { own: self.config.generation, newer: here }),
            _ => Ok(()),
        }
    }

    /// Connects with a process that has a lower number.
    fn call(&self, process: usize, door: &Door) -> Result<Called, MeshError> {
        let address = &self.config.peers[process];
        let mut pauses = Pauses::new(self.hello.instance.wrapping_add(process as u64));
        let mut said: Option<Refusal> = None;
        loop {
            let (reason, refusal) = match self.connect(address) {
                Ok(pair) => return Ok(Called { process, pair, heard: Vec::new() }),
                Err(Attempt::Unreachable(error)) => (error.to_string(), None),
                Err(Attempt::Refused(Refusal::Older { here })) => {
                    return Err(MeshError::Superseded { own: self.config.generation, newer: here });
                }
                Err(Attempt::Refused(refusal)) => (refusal.to_string(), Some(refusal)),
            };
            let mismatch = refusal.filter(Refusal::is_mismatch);
            if let Some(refusal) = mismatch.as_ref().filter(|refusal| said.as_ref() != Some(refusal)) {
                tracing::warn!(target: "riverrun", process, %address, "a process of the job cannot be joined yet: {refusal}");
                said = Some(refusal.clone());
            }
            if self.is_late() {
                let address = address.to_string();
                // The last that it said for itself tells more than that it has gone meanwhile.
                return Err(match mismatch.or(said) {
                    Some(reason) => MeshError::Mismatch { process, address, reason },
                    None => MeshError::Absent { process, address, reason, waited: self.config.startup },
                });
            }
            self.pause(pauses.next(), Some(door))?;
        }
    }

    fn connect(&self, address: &Address) -> Result<Pair, Attempt> {
        let open = |purpose| -> Result<Socket, Attempt> {
            let mut socket = self.dial(address).map_err(Attempt::Unreachable)?;
            hello::call(&mut socket, &self.hello.to(purpose)).map_err(Attempt::Refused)?;
            Ok(socket)
        };
        Ok(Pair { control: open(Purpose::Control)?, data: open(Purpose::Data)? })
    }

    fn dial(&self, address: &Address) -> io::Result<Socket> {
        let socket = address.connect(hello::LIMIT)?;
        socket.prepare(self.config.dead)?;
        match &self.config.tls {
            Some(tls) => tls.call(socket, now() + hello::LIMIT),
            None => Ok(socket),
        }
    }

    /// Waits for those with higher numbers. Those that were called may have what they need already, and lose it again: if one says
    /// that it fails, this one does too; if one is gone without a word, it is called anew.
    fn wait_for_callers(&self, door: &Door, called: &mut [Called]) -> Result<(), MeshError> {
        loop {
            // Looked at before those that were called: who calls here has called them before, and may have found one that was begun anew.
            let missing = door.missing().first().copied();
            let mut is_anew = false;
            for known in &mut *called {
                if known.is_gone() && !known.has_ended_well()? {
                    *known = self.call(known.process, door)?;
                    is_anew = true;
                }
            }
            match missing {
                None if !is_anew => return Ok(()),
                Some(process) if !is_anew && self.is_late() => {
                    let address = self.config.peers[process].to_string();
                    let reason = "it has not called".to_owned();
                    return Err(MeshError::Absent { process, address, reason, waited: self.config.startup });
                }
                Some(_) if !is_anew => self.pause(LOOK, Some(door))?,
                _ => {}
            }
        }
    }

    fn is_late(&self) -> bool {
        now() >= self.deadline
    }

    /// Waits, unless there is a reason to give up.
    fn pause(&self, time: Duration, door: Option<&Door>) -> Result<(), MeshError> {
        let until = now() + time;
        loop {
            if (self.stopping)() {
                return Err(MeshError::Stopped);
            }
            if let Some(newer) = door.and_then(Door::newer) {
                return Err(MeshError::Superseded { own: self.config.generation, newer });
            }
            let left = until.saturating_duration_since(now());
            match door {
                _ if left.is_zero() => return Ok(()),
                // A caller that has come is news to who waits for callers; who calls others tries again sooner for it, which is no harm
                // while pauses are this short.
                Some(door) if time <= LOOK => {
                    door.wait(left);
                    return Ok(());
                }
                _ => std::thread::park_timeout(left.min(LOOK)),
            }
        }
    }
}

/// A process with which this one is connected, while it waits for others.
struct Called {
    process: usize,
    pair: Pair,
    /// What it has said meanwhile on the connection of control.
    heard: Vec<u8>,
}

impl Called {
    /// Takes in what it has said, and returns whether it will say no more.
    fn is_gone(&mut self) -> bool {
        let mut bytes = [0; 4096];
        while self.heard.len() < HEARD_MAX {
            match self.pair.control.read_at_once(&mut bytes) {
                Ok(0) => return true,
                Ok(count) => self.heard.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    /// Returns whether it went because the job is over, which this process will hear of too; an error, if it failed.
    fn has_ended_well(&self) -> Result<bool, MeshError> {
        let mut rest = self.heard.as_slice();
        while let Ok(Frame { kind, body }) = Frame::read(&mut rest) {
            match kind {
                FrameKind::Failed => {
                    let Failure { first, reason } = Failure::read(&body, self.process);
                    return Err(MeshError::Lost { process: first, reason });
                }
                FrameKind::Ended => return Ok(true),
                FrameKind::Word | FrameKind::Letter => {}
            }
        }
        Ok(false)
    }
}

/// Why a process could not be joined just now.
enum Attempt {
    Unreachable(io::Error),
    Refused(Refusal),
}

/// Pauses that grow, and differ between processes: those that start together do not knock together.
struct Pauses {
    seed: u64,
    longest: Duration,
}

impl Pauses {
    fn new(seed: u64) -> Pauses {
        Pauses { seed: seed | 1, longest: PAUSE.0 * 2 }
    }

    fn next(&mut self) -> Duration {
        // xorshift: any spread will do.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let part = (self.seed % 1000) as u32;
        let pause = PAUSE.0 + (self.longest - PAUSE.0) * part / 1000;
        self.longest = (self.longest * 2).min(PAUSE.1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, meter};
    use super::*;

    fn forming(config: &MeshConfig) -> Forming<'_> {
        Forming { config, hello: config.hello(), deadline: now() + config.startup, stopping: &|| false }
    }

    fn open(forming: &Forming<'_>) -> Door {
        let safety = Safety { tls: None, dead: forming.config.dead };
        Door::open(forming.hello.clone(), safety, forming.listen().unwrap(), meter(forming.config)).unwrap()
    }

    #[test]
    fn one_that_went_is_called_anew_even_if_nobody_is_missing_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let configs = [0, 1, 2].map(|process| config(folder.path(), process, 3));
        let [leading, waiting, third] = configs.each_ref().map(forming);
        let door = open(&waiting);
        let leader = open(&leading);
        let mut called = [waiting.call(0, &door).unwrap()];
        drop(leader.complete());
        drop(leader);
        let leader = open(&leading);
        let _pair = third.connect(&configs[2].peers[1]).ok().unwrap();
        assert_eq!(door.missing(), [0; 0]);
        waiting.wait_for_callers(&door, &mut called).unwrap();
        assert_eq!(leader.missing(), [2], "the first is there again");
    }

    #[test]
    fn pauses_grow_and_differ() {
        let list = |seed| {
            let mut pauses = Pauses::new(seed);
            (0..50).map(|_| pauses.next()).collect::<Vec<_>>()
        };
        let one = list(7);
        assert!(one.iter().all(|pause| (PAUSE.0..=PAUSE.1).contains(pause)));
        assert!(one[5..].iter().any(|pause| *pause > PAUSE.1 / 2));
        assert_ne!(one, list(8));
    }
}
