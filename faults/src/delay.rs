//! A network in front of a broker of Kafka that does to the request which ends a transaction what networks do: it comes late, its
//! answer comes late or never, the connection breaks before or after it, it comes once more when nobody expects it any more.
//!
//! It knows of Kafka's protocol where a request ends, which kind it is, and which answer belongs to it: a length of four bytes, then
//! the kind (two bytes), its version (two) and a number (four), with which the answer begins too.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const PRODUCE: i16 = 0;
const INIT_PRODUCER: i16 = 22;
const END_TRANSACTION: i16 = 26;

/// What happens to a request that ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// It reaches the broker late.
    Late(Duration),
    /// The broker does it at once; its answer comes late.
    AnswerLate(Duration),
    /// The broker does it; its answer never comes.
    AnswerLost,
    /// The connection breaks before the broker hears of it.
    CutBefore,
    /// The connection breaks after the broker did it.
    CutAfter,
    /// The connection breaks, and the request reaches the broker in the middle of the next transaction, when as many requests that
    /// bring records have come.
    Stray {
        /// Which of them it comes before.
        before: u64,
    },
    /// The broker does it; its answer comes twice.
    AnswerTwice,
}

/// The network; it ends when this is dropped.
pub struct Delay {
    listens: SocketAddr,
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    upstream: SocketAddr,
    ends: AtomicBool,
    /// What happens to the next requests of the kind.
    plan: Mutex<VecDeque<Option<Harm>>>,
    /// A request on its way, and how many that bring records it still lets pass.
    stray: Mutex<Option<(Vec<u8>, u64)>>,
    /// What the broker said to strays: its codes of errors.
    said: Mutex<Vec<i16>>,
    producers: AtomicU64,
    ended: AtomicU64,
    harmed: AtomicU64,
}

impl Delay {
    /// Stands at `listens` in front of `upstream`.
    pub fn start(listens: SocketAddr, upstream: SocketAddr) -> io::Result<Delay> {
        let listener = TcpListener::bind(listens)?;
        let inner = Arc::new(Inner {
            upstream,
            ends: AtomicBool::new(false),
            plan: Mutex::default(),
            stray: Mutex::default(),
            said: Mutex::default(),
            producers: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            harmed: AtomicU64::new(0),
        });
        let serving = inner.clone();
        let thread = std::thread::Builder::new().name("delay".into()).spawn(move || {
            for connection in listener.incoming().flatten() {
                if serving.ends.load(Ordering::Relaxed) {
                    return;
                }
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(connection).ok());
            }
        })?;
        Ok(Delay { listens, inner, thread: Some(thread) })
    }

    /// Says what happens to the next requests that end a transaction, one after the other.
    pub fn next(&self, harms: impl IntoIterator<Item = Option<Harm>>) {
        self.inner.plan.lock().expect("no one panics with it").extend(harms);
    }

    /// Returns how often a producer was initialised.
    pub fn producers(&self) -> u64 {
        self.inner.producers.load(Ordering::Relaxed)
    }

    /// Returns how many transactions were to be ended, and to how many of these requests something happened.
    pub fn ended(&self) -> (u64, u64) {
        (self.inner.ended.load(Ordering::Relaxed), self.inner.harmed.load(Ordering::Relaxed))
    }

    /// Returns what the broker said to each stray request: 0 if it did what it was asked for.
    pub fn said(&self) -> Vec<i16> {
        self.inner.said.lock().expect("no one panics with it").clone()
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.inner.ends.store(true, Ordering::Relaxed);
        // The listener waits for somebody to come.
        TcpStream::connect(self.listens).ok();
        self.thread.take().map(JoinHandle::join);
    }
}

/// Reads a request or an answer, its length in front.
fn frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut whole = vec![0; 4 + u32::from_be_bytes(length) as usize];
    whole[..4].copy_from_slice(&length);
    from.read_exact(&mut whole[4..])?;
    Ok(whole)
}

fn kind(request: &[u8]) -> i16 {
    i16::from_be_bytes([request[4], request[5]])
}

/// The number of a request, which stands behind its kind and version.
fn asked(request: &[u8]) -> [u8; 4] {
    [request[8], request[9], request[10], request[11]]
}

/// The number of the request that an answer is to.
fn answered(answer: &[u8]) -> [u8; 4] {
    [answer[4], answer[5], answer[6], answer[7]]
}

/// What happens to answers that are still to come, by number.
type Answers = Arc<Mutex<BTreeMap<[u8; 4], Harm>>>;

impl Inner {
    fn serve(self: &Arc<Inner>, client: TcpStream) -> io::Result<()> {
        let broker = TcpStream::connect(self.upstream)?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let answers = Answers::default();
        let back = (broker.try_clone()?, client.try_clone()?, answers.clone());
        std::thread::spawn(move || pass_back(back).ok());
        let asked = self.pass_on(client.try_clone()?, broker.try_clone()?, &answers);
        client.shutdown(Shutdown::Both).ok();
        broker.shutdown(Shutdown::Both).ok();
        asked
    }

    fn pass_on(&self, mut client: TcpStream, mut broker: TcpStream, answers: &Answers) -> io::Result<()> {
        loop {
            let request = frame(&mut client)?;
            match kind(&request) {
                INIT_PRODUCER => drop(self.producers.fetch_add(1, Ordering::Relaxed)),
                PRODUCE => self.let_stray_pass()?,
                END_TRANSACTION => {
                    self.ended.fetch_add(1, Ordering::Relaxed);
                    let harm = self.plan.lock().expect("no one panics with it").pop_front().flatten();
                    if let Some(harm) = harm {
                        self.harmed.fetch_add(1, Ordering::Relaxed);
                        if !self.harm(harm, &request, answers) {
                            return Ok(());
                        }
                    }
                }
                _ => {}
            }
            broker.write_all(&request)?;
        }
    }

    /// Does what is to happen before the request goes on; returns whether it does.
    fn harm(&self, harm: Harm, request: &[u8], answers: &Answers) -> bool {
        match harm {
            Harm::Late(time) => std::thread::sleep(time),
            Harm::CutBefore => return false,
            Harm::AnswerLate(_) | Harm::AnswerLost | Harm::AnswerTwice | Harm::CutAfter => {
                answers.lock().expect("no one panics with it").insert(asked(request), harm);
            }
            Harm::Stray { before } => {
                *self.stray.lock().expect("no one panics with it") = Some((request.to_vec(), before));
                return false;
            }
        }
        true
    }

    /// A request that brings records is about to pass: the stray one goes before it, if it is its turn, by another way.
    fn let_stray_pass(&self) -> io::Result<()> {
        let mut stray = self.stray.lock().expect("no one panics with it");
        let Some((request, before)) = &mut *stray else { return Ok(()) };
        *before -= 1;
        if *before > 0 {
            return Ok(());
        }
        let mut broker = TcpStream::connect(self.upstream)?;
        broker.write_all(request)?;
        let answer = frame(&mut broker)?;
        // The number, how long to wait before the next request, and then the code.
        self.said.lock().expect("no one panics with it").push(i16::from_be_bytes([answer[12], answer[13]]));
        *stray = None;
        Ok(())
    }
}

fn pass_back((mut broker, mut client, answers): (TcpStream, TcpStream, Answers)) -> io::Result<()> {
    loop {
        let answer = frame(&mut broker)?;
        let harm = answers.lock().expect("no one panics with it").remove(&answered(&answer));
        match harm {
            Some(Harm::AnswerLate(time)) => std::thread::sleep(time),
            Some(Harm::AnswerLost) => continue,
            Some(Harm::AnswerTwice) => client.write_all(&answer)?,
            Some(Harm::CutAfter) => return client.shutdown(Shutdown::Both),
            _ => {}
        }
        client.write_all(&answer)?;
    }
}
