//! Where a process of the mesh can be found: `HOST:PORT`, or `unix:PATH`.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::socket::Socket;

/// An address of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host, by name or number, and a port. A name is looked up at every attempt: in a cluster it may move.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A socket in the file system of this machine.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            // What the system takes is 108 bytes, the zero at its end among them.
            return match path.len() {
                0 => Err("names no path behind `unix:`".to_owned()),
                1..=107 => Ok(Address::Unix(PathBuf::from(path))),
                _ => Err("is longer than the 107 bytes that a socket's path may have".to_owned()),
            };
        }
        let wrong = || "is written as HOST:PORT, [IPV6]:PORT or unix:PATH".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_err()) || (inner.is_none() && host.contains(':')) {
            return Err(wrong());
        }
        let host = inner.unwrap_or(host);
        let is_name = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
        let port = port.parse().ok().filter(|port| *port > 0);
        port.filter(|_| is_name).map(|port| Address::Tcp { host: host.to_owned(), port }).ok_or_else(wrong)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A place to which others can connect.
pub enum Listening {
    /// On the network.
    Tcp(TcpListener),
    /// In the file system; the socket's file goes when this is dropped.
    Unix(UnixListener, PathBuf),
}

impl Address {
    /// Returns where a process listens whose peers know it by this address: on all interfaces, for the name by which others find
    /// it may be none that this machine has.
    pub fn to_listen_on(&self) -> Address {
        match self {
            Address::Tcp { port, .. } => Address::Tcp { host: Ipv4Addr::UNSPECIFIED.to_string(), port: *port },
            Address::Unix(path) => Address::Unix(path.clone()),
        }
    }

    /// Connects to it, looking its name up anew.
    pub fn connect(&self, limit: Duration) -> io::Result<Socket> {
        match self {
            Address::Tcp { host, port } => {
                let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, limit) {
                        Ok(stream) => return Ok(Socket::Tcp(stream)),
                        Err(error) => failed = error,
                    }
                }
                Err(failed)
            }
            Address::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
        }
    }

    /// Begins to listen on it. A socket's file that a dead process left is taken away.
    pub fn listen(&self) -> io::Result<Listening> {
        match self {
            Address::Tcp { host, port } => {
                let addresses: Vec<SocketAddr> = (host.as_str(), *port).to_socket_addrs()?.collect();
                TcpListener::bind(addresses.as_slice()).map(Listening::Tcp)
            }
            Address::Unix(path) => {
                let bound = match UnixListener::bind(path) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse && !self.is_answered() => {
                        std::fs::remove_file(path)?;
                        UnixListener::bind(path)
                    }
                    bound => bound,
                };
                Ok(Listening::Unix(bound?, path.clone()))
            }
        }
    }

    /// Returns whether a process listens on the socket's file.
    fn is_answered(&self) -> bool {
        match self.connect(Duration::from_secs(1)) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::ConnectionRefused,
        }
    }
}

impl Listening {
    /// Waits for the next connection.
    pub fn accept(&self) -> io::Result<Socket> {
        match self {
            Listening::Tcp(listener) => listener.accept().map(|(stream, _)| Socket::Tcp(stream)),
            Listening::Unix(listener, _) => listener.accept().map(|(stream, _)| Socket::Unix(stream)),
        }
    }

    /// Returns an address of this machine under which it can be reached, to wake whoever waits in [`Listening::accept`].
    pub fn reachable(&self) -> io::Result<Address> {
        match self {
            Listening::Tcp(listener) => {
                let address = listener.local_addr()?;
                let host = match address {
                    SocketAddr::V4(v4) if v4.ip().is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
                    SocketAddr::V6(v6) if v6.ip().is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
                    other => other.ip().to_string(),
                };
                Ok(Address::Tcp { host, port: address.port() })
            }
            Listening::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Listening::Unix(_, path) = self {
            // It may be gone already; the next process takes it away otherwise.
            std::fs::remove_file(path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["10.0.0.1:7171", "p-0.mesh.svc:1", "[::1]:80", "unix:/run/p0.sock", "unix:p0"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in
            ["", "host", "host:", ":7171", "host:0", "host:70000", "a b:1", "::1:80", "[x]:80", "unix:", "a/b:1"]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert!(format!("unix:{}", "x".repeat(108)).parse::<Address>().is_err());
    }

    #[test]
    fn a_socket_that_a_dead_process_left_is_no_obstacle_and_one_in_use_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p0");
        drop(UnixListener::bind(&path).unwrap());
        let address = Address::Unix(path.clone());
        let listening = address.listen().unwrap();
        let Err(error) = address.listen() else { panic!("it is in use") };
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(listening);
        assert!(!path.exists(), "nothing is left behind");
    }
}
