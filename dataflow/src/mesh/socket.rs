//! One connection, whatever it goes over.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use timely::communication::allocator::zero_copy::stream::Stream;

use super::meter::Traffic;
use super::now;

/// A connection to another process.
#[derive(Debug)]
pub enum Socket {
    /// Over the network.
    Tcp(TcpStream),
    /// Within this machine.
    Unix(UnixStream),
}

impl Socket {
    /// Sets what every connection of the mesh has: no waiting for more to send, and no waiting for ever for one who does not
    /// answer. `dead` is how long that may be.
    pub fn prepare(&self, dead: Duration) -> io::Result<()> {
        let Socket::Tcp(stream) = self else { return Ok(()) };
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        let probe = (dead / 3).max(Duration::from_secs(1));
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(probe).with_interval(probe).with_retries(3))?;
        // Sent and not acknowledged: keep-alive does not look at that.
        socket.set_tcp_user_timeout(Some(dead))
    }

    /// Limits how long one read, and one write, may take.
    pub fn limit(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_read_timeout(read).and_then(|()| stream.set_write_timeout(write)),
            Socket::Unix(stream) => stream.set_read_timeout(read).and_then(|()| stream.set_write_timeout(write)),
        }
    }

    /// Reads what is there already; an error of the kind `WouldBlock` if nothing is.
    pub fn read_at_once(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.set_nonblocking(true)?;
        let read = self.read(buffer);
        self.set_nonblocking(false)?;
        read
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_nonblocking(nonblocking),
            Socket::Unix(stream) => stream.set_nonblocking(nonblocking),
        }
    }

    /// Returns whether the other end is there, as far as that can be known without a word.
    pub fn is_open(&self) -> bool {
        let mut byte = [MaybeUninit::uninit(); 1];
        let peek = |byte: &mut [MaybeUninit<u8>]| {
            self.set_nonblocking(true)?;
            let peeked = match self {
                Socket::Tcp(stream) => SockRef::from(stream).peek(byte),
                Socket::Unix(stream) => SockRef::from(stream).peek(byte),
            };
            self.set_nonblocking(false)?;
            peeked
        };
        match peek(&mut byte) {
            Ok(count) => count > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.flush(),
            Socket::Unix(stream) => stream.flush(),
        }
    }
}

impl Socket {
    /// Returns another handle of the same connection.
    pub fn again(&self) -> io::Result<Socket> {
        match self {
            Socket::Tcp(stream) => stream.try_clone().map(Socket::Tcp),
            Socket::Unix(stream) => stream.try_clone().map(Socket::Unix),
        }
    }

    /// Ends it, in one direction or both.
    pub fn close(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
        }
    }
}

/// A connection on which all must have been said and heard in time, however slowly the other side is.
pub struct InTime<'a> {
    socket: &'a mut Socket,
    deadline: Instant,
}

impl InTime<'_> {
    /// Returns `socket`, until `deadline`.
    pub fn of(socket: &mut Socket, deadline: Instant) -> InTime<'_> {
        InTime { socket, deadline }
    }

    fn limit(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.limit(Some(left), Some(left))
    }
}

impl Read for InTime<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.limit()?;
        self.socket.read(buffer)
    }
}

impl Write for InTime<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.limit()?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// A connection whose bytes are counted: what timely is given.
pub(crate) struct Counted {
    socket: Socket,
    traffic: Arc<Traffic>,
}

impl Counted {
    /// Returns `socket`, counted into `traffic`.
    pub fn new(socket: Socket, traffic: Arc<Traffic>) -> Counted {
        Counted { socket, traffic }
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(buffer)?;
        self.traffic.received(count);
        Ok(count)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.socket.write(bytes)?;
        self.traffic.sent(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Stream for Counted {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Counted { socket: self.socket.again()?, traffic: self.traffic.clone() })
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.close(how)
    }
}
