//! A network that fails: stands between a job and the store that it keeps its state in, and does to requests what networks and
//! stores do. It understands just enough HTTP to know where a request ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The store answers 503 and does nothing.
    Busy,
    /// The store does what it was asked for, and answers 500.
    DoneButError,
    /// The connection is cut before the store hears of it.
    CutBefore,
    /// The connection is cut after the store did what it was asked for.
    CutAfter,
    /// The connection is cut in the middle of what is uploaded.
    TornUpload,
    /// The connection is cut in the middle of the answer.
    TornAnswer,
}

/// All of them.
pub const FAULTS: [Fault; 6] =
    [Fault::Busy, Fault::DoneButError, Fault::CutBefore, Fault::CutAfter, Fault::TornUpload, Fault::TornAnswer];

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Of so many requests one meets a fault, on average; 0: none does.
    pub fault_one_in: u64,
    /// Every request takes up to so many milliseconds longer.
    pub delay_ms_max: u64,
    /// And so many milliseconds at least.
    pub delay_ms_min: u64,
    /// Of so many requests one takes up to two seconds longer, on average; 0: none does.
    pub slow_one_in: u64,
    /// Nothing comes through at all.
    pub away: bool,
}

/// The network; it ends when this is dropped.
pub struct Proxy {
    address: SocketAddr,
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    upstream: SocketAddr,
    weather: Mutex<Weather>,
    dice: AtomicU64,
    ends: AtomicBool,
    /// Requests seen, those that met a fault, and how often each fault happened.
    requests: AtomicU64,
    struck: AtomicU64,
    /// A torn upload is due.
    owed: AtomicBool,
    /// Requests that are under way now, and the most that ever were.
    under_way: AtomicU64,
    under_way_max: AtomicU64,
    met: [AtomicU64; FAULTS.len()],
    turned_away: AtomicU64,
}

impl Proxy {
    /// Starts a network in front of `upstream` in which all goes well; what will go wrong follows from `seed`.
    pub fn start(upstream: SocketAddr, seed: u64) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            upstream,
            weather: Mutex::default(),
            dice: AtomicU64::new(seed),
            ends: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            struck: AtomicU64::new(0),
            owed: AtomicBool::new(false),
            under_way: AtomicU64::new(0),
            under_way_max: AtomicU64::new(0),
            met: Default::default(),
            turned_away: AtomicU64::new(0),
        });
        let serving = inner.clone();
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(move || {
            for connection in listener.incoming().flatten() {
                if serving.ends.load(Ordering::Relaxed) {
                    return;
                }
                let serving = serving.clone();
                // A connection carries one request, and ends with it.
                std::thread::spawn(move || {
                    let now = serving.under_way.fetch_add(1, Ordering::Relaxed) + 1;
                    serving.under_way_max.fetch_max(now, Ordering::Relaxed);
                    serving.serve(connection).ok();
                    serving.under_way.fetch_sub(1, Ordering::Relaxed);
                });
            }
        })?;
        Ok(Proxy { address, inner, thread: Some(thread) })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather.
    pub fn becomes(&self, weather: Weather) {
        *self.inner.weather.lock().expect("no one panics with it") = weather;
    }

    /// Returns how many requests there were.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }

    /// Returns how often `fault` happened.
    pub fn met(&self, fault: Fault) -> u64 {
        let at = FAULTS.iter().position(|known| *known == fault).expect("all faults are listed");
        self.inner.met[at].load(Ordering::Relaxed)
    }

    /// Returns how many requests there were at once, at most.
    pub fn at_once(&self) -> u64 {
        self.inner.under_way_max.load(Ordering::Relaxed)
    }

    /// Returns how many requests were turned away because nothing came through.
    pub fn turned_away(&self) -> u64 {
        self.inner.turned_away.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.ends.store(true, Ordering::Relaxed);
        // The listener waits for somebody to come.
        TcpStream::connect(self.address).ok();
        self.thread.take().map(JoinHandle::join);
    }
}

/// A request as it came.
struct Request {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    /// Reads one; `None` if the other side had nothing to say.
    fn read(from: &mut impl BufRead) -> std::io::Result<Option<Request>> {
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Ok(None);
            }
            let text = String::from_utf8_lossy(&line).to_ascii_lowercase();
            if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if text.trim().is_empty() {
                // Where the answer ends is where the connection does.
                head.extend_from_slice(b"Connection: close\r\n\r\n");
                break;
            }
            if !text.starts_with("connection:") {
                head.extend_from_slice(&line);
            }
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        Ok(Some(Request { head, body }))
    }
}

impl Inner {
    /// Returns a number that the seed decides.
    fn roll(&self) -> u64 {
        let state = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let weather = *self.weather.lock().expect("no one panics with it");
        if weather.away {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return client.shutdown(Shutdown::Both);
        }
        let Some(request) = Request::read(&mut BufReader::new(client.try_clone()?))? else { return Ok(()) };
        self.requests.fetch_add(1, Ordering::Relaxed);
        let range = weather.delay_ms_max.saturating_sub(weather.delay_ms_min) + 1;
        let slow = weather.slow_one_in > 0 && self.roll().is_multiple_of(weather.slow_one_in);
        let delay = if slow { self.roll() % 2000 } else { weather.delay_ms_min + self.roll() % range };
        if delay > 0 {
            std::thread::sleep(Duration::from_millis(delay));
        }
        let strikes = weather.fault_one_in > 0 && self.roll().is_multiple_of(weather.fault_one_in);
        // In turn, so that a short run meets all of them.
        let turn = || self.struck.fetch_add(1, Ordering::Relaxed) as usize % FAULTS.len();
        let mut fault = strikes.then(|| FAULTS[turn()]);
        // Where nothing is uploaded nothing can be torn: the next upload that meets a fault is.
        let is_upload = request.body.len() > 1;
        if fault == Some(Fault::TornUpload) && !is_upload {
            self.owed.store(true, Ordering::Relaxed);
            fault = Some(Fault::CutAfter);
        } else if fault.is_some() && is_upload && self.owed.swap(false, Ordering::Relaxed) {
            fault = Some(Fault::TornUpload);
        }
        if let Some(at) = fault.and_then(|fault| FAULTS.iter().position(|known| *known == fault)) {
            self.met[at].fetch_add(1, Ordering::Relaxed);
        }
        match fault {
            None => client.write_all(&self.pass(&request)?)?,
            Some(Fault::Busy) => client.write_all(&answer("503 Service Unavailable", "SlowDown"))?,
            Some(Fault::DoneButError) => {
                self.pass(&request)?;
                client.write_all(&answer("500 Internal Server Error", "InternalError"))?;
            }
            Some(Fault::CutBefore) => {}
            Some(Fault::CutAfter) => {
                self.pass(&request)?;
            }
            Some(Fault::TornUpload) => {
                let mut upstream = TcpStream::connect(self.upstream)?;
                upstream.write_all(&request.head)?;
                upstream.write_all(&request.body[..request.body.len() / 2])?;
            }
            Some(Fault::TornAnswer) => {
                let whole = self.pass(&request)?;
                client.write_all(&whole[..whole.len() * 2 / 3])?;
            }
        }
        client.shutdown(Shutdown::Both)
    }

    /// Lets the store do what it is asked for; returns all that it answers.
    fn pass(&self, request: &Request) -> std::io::Result<Vec<u8>> {
        let mut upstream = TcpStream::connect(self.upstream)?;
        upstream.set_nodelay(true)?;
        upstream.write_all(&[request.head.as_slice(), &request.body].concat())?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn answer(status: &str, code: &str) -> Vec<u8> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>");
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}
