//! A real server that speaks S3, on a free port of this machine, with a bucket in it. What it holds is gone when it is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The bucket's name.
pub const BUCKET: &str = "riverrun-tests";

/// Names the Python that has the server.
pub const PYTHON: &str = "RIVERRUN_TEST_S3";

/// The environment of those who use it, but for the endpoint. The secrets are looked for in everything that is said.
pub const CREDENTIALS: [(&str, &str); 5] = [
    ("AWS_ACCESS_KEY_ID", "canary-key-id"),
    ("AWS_SECRET_ACCESS_KEY", "canary-secret-key"),
    ("AWS_SESSION_TOKEN", "canary-session-token"),
    ("AWS_REGION", "us-east-1"),
    ("AWS_ALLOW_HTTP", "true"),
];

/// A server that runs; it is killed when this is dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
}

/// Returns the Python that has the server; says aloud that tests are left out if there is none.
pub fn python() -> Option<PathBuf> {
    let named = std::env::var_os(PYTHON).filter(|python| !python.is_empty());
    let python = named.map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let mut command = Command::new(&python);
    command.args(["-c", "import moto, flask, flask_cors"]).stdin(Stdio::null());
    if command.output().is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("SKIPPED: there is no S3 server; name a Python that has moto, flask and flask_cors in {PYTHON}");
    None
}

impl Server {
    /// Starts the server of `python`, and makes the bucket.
    pub fn start(python: &PathBuf) -> Result<Server, String> {
        let mut command = Command::new(python);
        command.args(["-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("cannot start {}: {error}", python.display()))?;
        let mut said = BufReader::new(child.stderr.take().expect("it was asked for"));
        let address = address(&mut said);
        // What it says later must go somewhere, or it would wait for a reader.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        server.address = address?;
        server.ask("PUT", &format!("/{BUCKET}"))?;
        Ok(server)
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the names of all objects below `prefix`.
    pub fn objects(&self, prefix: &str) -> Result<Vec<String>, String> {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let listing = self.ask("GET", &format!("/{BUCKET}?list-type=2&prefix={prefix}{token}"))?;
            found.extend(tags(&listing, "Key").map(str::to_owned));
            match tags(&listing, "NextContinuationToken").next() {
                Some(next) => token = format!("&continuation-token={next}"),
                None => return Ok(found),
            }
        }
    }

    /// Asks it something as somebody without a name, and returns the answer.
    pub fn ask(&self, method: &str, path: &str) -> Result<String, String> {
        let failed = |error: std::io::Error| format!("{method} {path}: {error}");
        let mut connection = TcpStream::connect(self.address).map_err(failed)?;
        connection.set_read_timeout(Some(Duration::from_secs(60))).map_err(failed)?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        );
        connection.write_all(head.as_bytes()).map_err(failed)?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).map_err(failed)?;
        match answer.split_once(' ').is_some_and(|(_, rest)| rest.starts_with('2')) {
            true => Ok(answer),
            false => Err(format!("{method} {path}: {answer}")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits until the server says where it listens.
fn address(said: &mut impl BufRead) -> Result<SocketAddr, String> {
    let mut all = String::new();
    loop {
        let from = all.len();
        let read = said.read_line(&mut all).map_err(|error| format!("the S3 server: {error}"))?;
        if read == 0 {
            return Err(format!("the S3 server ended: {all}"));
        }
        if let Some((_, at)) = all[from..].trim_end().split_once("Running on http://") {
            return at.parse().map_err(|_| format!("the S3 server listens at {at}"));
        }
    }
}

fn tags<'a>(document: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let pieces: Vec<&str> = document.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0)).collect();
    pieces.into_iter()
}
