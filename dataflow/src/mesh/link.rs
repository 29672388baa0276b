//! Control: what each process says to each other one, and whether it still says something.
//!
//! A process says where it stands when that changes, to those whom it concerns, and to all at least once a beat; whoever says nothing for long is frozen or cut
//! off. Where it stands is made up when it is said, so a slow network makes a process say less, never later: nothing queues but
//! letters, which are few.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::frame::{Failure, Frame, FrameKind};
use super::meter::MeshMeter;
use super::socket::Socket;
use super::{Heard, MeshError, Voice, now};

/// Letters of a peer that wait to be read before the job runs.
const LETTERS_MAX: usize = 64;

/// How often something is said, and when silence means loss.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// At least so often.
    pub every: Duration,
    /// After so long.
    pub dead: Duration,
    /// The first word may take so long: the others may still be waiting for somebody.
    pub first: Duration,
}

/// The connections of control with all other processes.
pub struct Links {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    /// By process.
    links: Vec<Option<Link>>,
    voice: RwLock<Option<Arc<dyn Voice>>>,
    heard: Mutex<HeardSoFar>,
    changed: Condvar,
    /// This process is about to end: what becomes of the others is no news.
    concluding: AtomicBool,
    beat: Beat,
    meter: Arc<MeshMeter>,
}

/// What was heard and not handed to anybody.
struct HeardSoFar {
    letters: Vec<VecDeque<Vec<u8>>>,
    words: Vec<Option<Vec<u8>>>,
    ended: Vec<bool>,
    lost: Option<MeshError>,
}

/// The connection with one process.
struct Link {
    socket: Socket,
    out: Mutex<Out>,
    due: Condvar,
}

/// What is to be said.
#[derive(Default)]
struct Out {
    frames: VecDeque<Frame>,
    /// Where this process stands has changed.
    word: bool,
    /// Nothing follows what stands in `frames`.
    closing: bool,
    /// All was said.
    closed: bool,
}

impl Links {
    /// Begins to talk over `sockets`, which are given by process, each with what was read from it already.
    pub fn start(sockets: Vec<Option<(Socket, Vec<u8>)>>, beat: Beat, meter: Arc<MeshMeter>) -> io::Result<Links> {
        let processes = sockets.len();
        let (sockets, mut read): (Vec<_>, Vec<_>) = sockets.into_iter().map(Option::unzip).unzip();
        let link =
            |socket: Option<Socket>| socket.map(|socket| Link { socket, out: Mutex::default(), due: Condvar::new() });
        let shared = Arc::new(Shared {
            links: sockets.into_iter().map(link).collect(),
            voice: RwLock::default(),
            heard: Mutex::new(HeardSoFar {
                letters: vec![VecDeque::new(); processes],
                words: vec![None; processes],
                ended: vec![false; processes],
                lost: None,
            }),
            changed: Condvar::new(),
            concluding: AtomicBool::new(false),
            beat,
            meter,
        });
        let mut threads = Vec::new();
        for (process, link) in shared.links.iter().enumerate().filter_map(|(p, link)| Some((p, link.as_ref()?))) {
            link.socket.limit(Some(beat.first), Some(beat.dead))?;
            let (reading, writing) = (link.socket.again()?, link.socket.again()?);
            shared.meter.is_here(process, true);
            let own = shared.clone();
            let named = |what: &str| std::thread::Builder::new().name(format!("mesh-{what}-{process}"));
            let read = read[process].take().unwrap_or_default();
            threads.push(named("hear").spawn(move || own.listen(process, read, reading))?);
            let own = shared.clone();
            threads.push(named("say").spawn(move || own.speak(process, writing))?);
        }
        Ok(Links { shared, threads: Mutex::new(threads) })
    }

    /// Says something to a process, once.
    pub fn post(&self, to: usize, frame: Frame) {
        if let Some(Some(link)) = self.shared.links.get(to) {
            link.out().frames.push_back(frame);
            link.due.notify_all();
        }
    }

    /// Waits for the next letter of a process.
    pub fn next_letter(&self, from: usize) -> Result<Vec<u8>, MeshError> {
        let mut heard = self.shared.heard();
        loop {
            if let Some(letter) = heard.letters[from].pop_front() {
                return Ok(letter);
            }
            if let Some(lost) = &heard.lost {
                return Err(lost.clone());
            }
            if heard.ended[from] {
                return Err(MeshError::Lost { process: from, reason: "it ended before the job ran".to_owned() });
            }
            heard = self.shared.changed.wait(heard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands over to `voice` what was heard so far and what will be.
    pub fn attend(&self, voice: Arc<dyn Voice>) {
        let mut own = self.shared.voice.write().unwrap_or_else(PoisonError::into_inner);
        let (letters, words, lost) = {
            let mut heard = self.shared.heard();
            let letters: Vec<VecDeque<Vec<u8>>> = heard.letters.iter_mut().map(std::mem::take).collect();
            let words: Vec<Option<Vec<u8>>> = heard.words.iter_mut().map(Option::take).collect();
            (letters, words, heard.lost.clone())
        };
        for (process, word) in words.into_iter().enumerate().filter_map(|(process, word)| Some((process, word?))) {
            voice.hear(process, Heard::Word(word));
        }
        for (process, letters) in letters.into_iter().enumerate() {
            letters.into_iter().for_each(|letter| voice.hear(process, Heard::Letter(letter)));
        }
        if let Some(lost) = lost {
            voice.hear(0, Heard::Lost(lost));
        }
        *own = Some(voice);
        drop(own);
        self.nudge();
    }

    /// There is news of where this process stands, for all.
    pub fn nudge(&self) {
        self.shared.links.iter().flatten().for_each(Link::nudge);
    }

    /// There is news of where this process stands, for one other.
    pub fn nudge_one(&self, to: usize) {
        self.shared.links.get(to).into_iter().flatten().for_each(Link::nudge);
    }

    /// Returns what tells the mesh of generation `own` that a newer one is there.
    pub fn superseding(&self, own: u64) -> impl FnOnce(u64) + Send + 'static {
        let shared = Arc::downgrade(&self.shared);
        move |newer| {
            if let Some(shared) = shared.upgrade() {
                shared.lose(0, MeshError::Superseded { own, newer });
            }
        }
    }

    /// Says a last thing to all, and waits for `patience` at most until it is on its way.
    pub fn conclude(&self, last: Frame, patience: Duration) {
        if self.shared.concluding.swap(true, Ordering::SeqCst) {
            return;
        }
        for link in self.shared.links.iter().flatten() {
            let mut out = link.out();
            out.frames.push_back(last.clone());
            out.closing = true;
            link.due.notify_all();
        }
        let deadline = now() + patience;
        self.shared.links.iter().flatten().for_each(|link| link.wait_closed(deadline));
    }

    /// Lets go of the voice. Not for the voice itself, which may be speaking.
    pub fn silence(&self) {
        *self.shared.voice.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Ends all connections.
    pub fn close(&self) {
        self.shared.concluding.store(true, Ordering::SeqCst);
        self.silence();
        for link in self.shared.links.iter().flatten() {
            link.out().closing = true;
            link.due.notify_all();
            // It may be gone already.
            link.socket.close(Shutdown::Both).ok();
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // One of these threads may be the one that lets go of the mesh last.
        let own = std::thread::current().id();
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != own) {
            // A panic there has been reported by the panic hook.
            thread.join().ok();
        }
    }
}

impl Link {
    fn nudge(&self) {
        self.out().word = true;
        self.due.notify_all();
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_closed(&self, deadline: Instant) {
        let mut out = self.out();
        while !out.closed {
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() {
                return;
            }
            out = self.due.wait_timeout(out, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until something is to be said, for a beat at most, and returns it. Nothing: the beat is over, or where this process
    /// stands has changed.
    fn next(&self, beat: Duration) -> Say {
        let deadline = now() + beat;
        let mut out = self.out();
        loop {
            if !out.frames.is_empty() {
                return Say::Frames(std::mem::take(&mut out.frames));
            }
            let left = deadline.saturating_duration_since(now());
            match (out.closing, std::mem::take(&mut out.word) || left.is_zero()) {
                (true, _) => return Say::Nothing,
                (false, true) => return Say::Word,
                (false, false) => {}
            }
            out = self.due.wait_timeout(out, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What is to be said next.
enum Say {
    Frames(VecDeque<Frame>),
    Word,
    Nothing,
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, HeardSoFar> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what is to be said to a process, until nothing is any more.
    fn speak(&self, process: usize, mut socket: Socket) {
        let link = self.links[process].as_ref().expect("there is a link with whom one speaks");
        loop {
            let said = match link.next(self.beat.every) {
                Say::Frames(frames) => frames.iter().try_for_each(|frame| frame.write(&mut socket)),
                Say::Word => {
                    let voice = self.voice.read().unwrap_or_else(PoisonError::into_inner).clone();
                    let body = voice.map(|voice| voice.word(process)).unwrap_or_default();
                    Frame { kind: FrameKind::Word, body }.write(&mut socket)
                }
                Say::Nothing => {
                    // It may be gone already.
                    socket.close(Shutdown::Write).ok();
                    break;
                }
            };
            self.meter.spoke(process);
            if let Err(error) = said {
                // Whoever reads from it finds out more: an error said before the connection broke.
                let slow = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                if slow || error.kind() == io::ErrorKind::Other {
                    let reason = if slow { self.silence() } else { error.to_string() };
                    self.lose(process, MeshError::Lost { process, reason });
                }
                break;
            }
        }
        link.out().closed = true;
        link.due.notify_all();
    }

    /// Hears what a process says, until it is gone. `read` was read from `socket` already.
    fn listen(&self, process: usize, read: Vec<u8>, mut socket: Socket) {
        let mut is_first = true;
        let mut read = io::Cursor::new(read);
        loop {
            match Frame::read(&mut read.by_ref().chain(&mut socket)) {
                Ok(frame) => {
                    self.meter.heard(process);
                    if std::mem::take(&mut is_first) {
                        // If this fails so does the next read.
                        socket.limit(Some(self.beat.dead), Some(self.beat.dead)).ok();
                    }
                    self.take(process, frame);
                }
                Err(error) => {
                    self.meter.is_here(process, false);
                    if !self.heard().ended[process] {
                        let reason = match error.kind() {
                            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.silence(),
                            io::ErrorKind::UnexpectedEof
                            | io::ErrorKind::ConnectionReset
                            | io::ErrorKind::BrokenPipe => "its connection was closed".to_owned(),
                            _ => error.to_string(),
                        };
                        self.lose(process, MeshError::Lost { process, reason });
                    }
                    return;
                }
            }
        }
    }

    fn silence(&self) -> String {
        format!("nothing was heard of it for {:?}: it is frozen, or cut off", self.beat.dead)
    }

    fn take(&self, process: usize, frame: Frame) {
        let Frame { kind, body } = frame;
        match kind {
            FrameKind::Word if body.is_empty() => {}
            FrameKind::Word => self.hand_over(process, Heard::Word(body)),
            FrameKind::Letter => self.hand_over(process, Heard::Letter(body)),
            FrameKind::Failed => {
                let Failure { first, reason } = Failure::read(&body, process);
                self.lose(process, MeshError::Lost { process: first, reason });
            }
            FrameKind::Ended => {
                self.heard().ended[process] = true;
                self.changed.notify_all();
            }
        }
    }

    /// Hands to the voice what was heard, or keeps it until there is one.
    fn hand_over(&self, process: usize, what: Heard) {
        if self.concluding.load(Ordering::SeqCst) {
            return;
        }
        let voice = self.voice.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(voice) = voice.as_ref() {
            return voice.hear(process, what);
        }
        let mut heard = self.heard();
        match what {
            Heard::Word(word) => heard.words[process] = Some(word),
            Heard::Letter(letter) if heard.letters[process].len() < LETTERS_MAX => {
                heard.letters[process].push_back(letter);
            }
            Heard::Letter(_) => {
                drop((heard, voice));
                let reason = format!("it sent more than {LETTERS_MAX} letters before the job ran");
                return self.lose(process, MeshError::Unreadable { process, reason });
            }
            Heard::Lost(_) => {}
        }
        self.changed.notify_all();
    }

    /// The mesh is lost; the first reason counts.
    fn lose(&self, process: usize, error: MeshError) {
        if self.concluding.load(Ordering::SeqCst) {
            return;
        }
        let mut heard = self.heard();
        if heard.lost.is_some() {
            return;
        }
        heard.lost = Some(error.clone());
        drop(heard);
        self.changed.notify_all();
        let voice = self.voice.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(voice) = voice {
            voice.hear(process, Heard::Lost(error));
        }
    }
}
