//! Bad weather on the way to a process: what passes comes late, or some of it much later than the rest, as when packets are lost and sent
//! again; or nothing passes any more, and nobody is told.
//!
//! A proxy, for kernels that cannot do it to packets.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::process::{nap, now};

/// How long it takes until what was lost is sent again.
const AGAIN: Duration = Duration::from_millis(300);
/// How often somebody who waits for better weather looks out.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes that may be on their way in one direction.
const ON_THE_WAY_MAX: usize = 4 << 20;

/// The weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sky {
    /// Everything passes at once.
    Fair,
    /// Everything comes so late.
    Late(Duration),
    /// One piece in so many is lost, and sent again; what follows it waits.
    Lossy(u64),
    /// Nothing passes, in no direction.
    Dead,
}

/// A proxy in front of a process.
pub struct Weather {
    /// Where the process is found by others.
    pub listens: SocketAddr,
    sky: Arc<Mutex<Sky>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Weather {
    /// Stands in front of `upstream`, at any address that is free.
    pub fn before(upstream: SocketAddr, seed: u64) -> io::Result<Weather> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let listens = listener.local_addr()?;
        let (sky, ends) = (Arc::new(Mutex::new(Sky::Fair)), Arc::new(AtomicBool::new(false)));
        let (own, over, mut dice) = (sky.clone(), ends.clone(), Dice::new(seed));
        let serve = move || {
            for connection in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                // Nobody there yet is nobody there: whoever called tries again.
                let Ok(behind) = TcpStream::connect(upstream) else { continue };
                for (from, to) in [(&connection, &behind), (&behind, &connection)] {
                    if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                        let (sky, over, dice) = (own.clone(), over.clone(), Dice::new(dice.roll()));
                        std::thread::spawn(move || pass(from, to, &sky, &over, dice));
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("weather".to_owned()).spawn(serve)?;
        Ok(Weather { listens, sky, ends, thread: Some(thread) })
    }

    /// From now on the weather is so.
    pub fn is(&self, sky: Sky) {
        *self.sky.lock().expect("no one panics with it") = sky;
    }
}

impl Drop for Weather {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // The listener waits for somebody to come.
        TcpStream::connect(self.listens).ok();
        self.thread.take().map(JoinHandle::join);
    }
}

/// Pieces on their way in one direction, each with when it arrives; nothing: the end.
#[derive(Default)]
struct Way {
    pieces: Mutex<VecDeque<(Instant, Option<Vec<u8>>)>>,
    /// Nobody is there any more to whom they come.
    closed: AtomicBool,
    news: Condvar,
}

/// Passes on what comes, until one side ends it.
fn pass(mut from: TcpStream, to: TcpStream, sky: &Arc<Mutex<Sky>>, over: &Arc<AtomicBool>, mut dice: Dice) {
    to.set_nodelay(true).ok();
    let way = Arc::new(Way::default());
    let (own, seen, ends) = (way.clone(), sky.clone(), over.clone());
    let arriving = std::thread::spawn(move || arrive(to, &own, &seen, &ends));
    let mut buffer = vec![0; 16 << 10];
    let mut last = now();
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        let late = match *sky.lock().expect("no one panics with it") {
            Sky::Late(late) => late,
            Sky::Lossy(times) if dice.once_in(times) => AGAIN,
            _ => Duration::ZERO,
        };
        // Nothing overtakes what was sent before it.
        last = (now() + late).max(last);
        let mut pieces = way.pieces.lock().expect("no one panics with it");
        while pieces.iter().filter_map(|(_, piece)| piece.as_ref()).map(Vec::len).sum::<usize>() > ON_THE_WAY_MAX {
            if way.closed.load(Ordering::Relaxed) {
                return;
            }
            pieces = way.news.wait(pieces).expect("no one panics with it");
        }
        pieces.push_back((last, (read > 0).then(|| buffer[..read].to_vec())));
        way.news.notify_all();
        drop(pieces);
        if read == 0 {
            break;
        }
    }
    arriving.join().ok();
}

/// Hands over what arrives when it does.
fn arrive(mut to: TcpStream, way: &Way, sky: &Mutex<Sky>, over: &AtomicBool) {
    loop {
        let mut pieces = way.pieces.lock().expect("no one panics with it");
        while pieces.is_empty() {
            pieces = way.news.wait(pieces).expect("no one panics with it");
        }
        let (due, piece) = pieces.pop_front().expect("there is one");
        way.news.notify_all();
        drop(pieces);
        nap(due.saturating_duration_since(now()));
        while *sky.lock().expect("no one panics with it") == Sky::Dead && !over.load(Ordering::Relaxed) {
            nap(LOOK);
        }
        let Some(piece) = piece else {
            to.shutdown(Shutdown::Write).ok();
            return;
        };
        if to.write_all(&piece).is_err() {
            // Whoever sends finds out when it reads.
            to.shutdown(Shutdown::Both).ok();
            way.closed.store(true, Ordering::Relaxed);
            way.news.notify_all();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connects through a proxy, and returns both ends.
    fn through() -> (Weather, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let weather = Weather::before(listener.local_addr().unwrap(), 7).unwrap();
        let one = TcpStream::connect(weather.listens).unwrap();
        let (other, _) = listener.accept().unwrap();
        (weather, one, other)
    }

    #[test]
    fn what_is_late_comes_late_and_in_order() {
        let (weather, mut one, mut other) = through();
        weather.is(Sky::Late(Duration::from_millis(200)));
        let from = now();
        one.write_all(b"first").unwrap();
        one.write_all(b"second").unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        other.read_to_string(&mut text).unwrap();
        assert_eq!(text, "firstsecond");
        assert!(from.elapsed() >= Duration::from_millis(190), "{:?}", from.elapsed());
    }

    #[test]
    fn nothing_passes_while_the_way_is_dead_and_nobody_is_told() {
        let (weather, mut one, mut other) = through();
        weather.is(Sky::Dead);
        one.write_all(b"x").unwrap();
        other.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut byte = [0];
        assert!(other.read_exact(&mut byte).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
        weather.is(Sky::Fair);
        other.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        other.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }
}
