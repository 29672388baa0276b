//! A bucket of a test's own: a real server that speaks S3, and a network before it that can be made to fail.

use std::path::PathBuf;

use super::process::Invocation;
use super::proxy::{Proxy, Weather};
use super::server::{self, BUCKET, CREDENTIALS, Server};

/// A server and the way to it.
pub struct Cloud {
    server: Server,
    /// The network before it.
    pub network: Proxy,
}

impl Cloud {
    /// Starts one; `None` where there is no server, which is said.
    pub fn open(seed: u64) -> Option<Cloud> {
        let python: PathBuf = server::python()?;
        let server = Server::start(&python).unwrap_or_else(|error| panic!("{error}"));
        let network = Proxy::start(server.address(), seed).expect("a port is free");
        Some(Cloud { server, network })
    }

    /// Returns the command with its state in this bucket, below `prefix`.
    pub fn keep(&self, command: Invocation, prefix: &str) -> Invocation {
        self.keep_by(&self.network, command, prefix)
    }

    /// Returns the command with its state in this bucket, which it reaches by another way.
    pub fn keep_by(&self, network: &Proxy, command: Invocation, prefix: &str) -> Invocation {
        let located = command.arg("--state").arg(format!("s3://{BUCKET}/{prefix}"));
        self.reach(located).env("AWS_ENDPOINT_URL", format!("http://{}", network.address()))
    }

    /// Returns the command with what it must know to reach the store.
    pub fn reach(&self, command: Invocation) -> Invocation {
        let endpoint = format!("http://{}", self.network.address());
        let command = command.env("AWS_ENDPOINT_URL", endpoint);
        CREDENTIALS.iter().fold(command, |command, (name, value)| command.env(*name, *value))
    }

    /// Opens another way to the same server.
    pub fn another_way(&self, seed: u64) -> Proxy {
        Proxy::start(self.server.address(), seed).expect("a port is free")
    }

    /// Returns the names of the objects below `prefix`.
    pub fn objects(&self, prefix: &str) -> Vec<String> {
        self.server.objects(prefix).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Lets the network become so.
    pub fn becomes(&self, weather: Weather) {
        self.network.becomes(weather);
    }
}
