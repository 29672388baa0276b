//! A network of its own: some hosts, each a namespace, joined by a switch that is one too. Nothing of it is seen from outside, and all of it
//! goes when it is dropped.

use std::process::Command;

use crate::Tried;

/// Hosts and the switch between them.
pub struct Network {
    name: String,
    hosts: usize,
    /// The kernel can delay and lose packets.
    pub has_weather: bool,
}

/// The port at which a process is found on its host.
const PORT: u16 = 7171;

impl Network {
    /// Makes so many hosts, or says why that cannot be done here.
    pub fn make(hosts: usize) -> Tried<Network> {
        let name = format!("riverrun-{}", std::process::id());
        let mut network = Network { name, hosts, has_weather: false };
        let switch = network.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "name", "switch", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "dev", "switch", "up"])?;
        for host in 0..hosts {
            let (name, port) = (network.host(host), format!("port{host}"));
            ip(&["netns", "add", &name])?;
            ip(&["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            ip(&["-n", &switch, "link", "set", "dev", &port, "master", "switch"])?;
            ip(&["-n", &switch, "link", "set", "dev", &port, "up"])?;
            ip(&["-n", &name, "addr", "add", &format!("{}/24", address(host)), "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "dev", "eth0", "up"])?;
            ip(&["-n", &name, "link", "set", "dev", "lo", "up"])?;
        }
        network.has_weather = network.weather(0, Some("delay 1ms")).is_ok() && network.weather(0, None).is_ok();
        Ok(network)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn host(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }

    /// Returns where a process on a host is found.
    pub fn address(&self, host: usize) -> String {
        format!("{}:{PORT}", address(host))
    }

    /// Returns what a shell does so that the command that follows runs on a host.
    pub fn on(&self, host: usize) -> String {
        format!("exec ip netns exec {} \"$@\"", self.host(host))
    }

    /// Cuts a host off, or joins it again.
    pub fn link(&self, host: usize, link: Link) -> Tried<()> {
        let state = match link {
            Link::Down => "down",
            Link::Up => "up",
        };
        ip(&["-n", &self.switch(), "link", "set", "dev", &format!("port{host}"), state])
    }

    /// Lets packets of a host come late or not at all, as `tc netem` says it, or fair again.
    pub fn weather(&self, host: usize, bad: Option<&str>) -> Tried<()> {
        let name = self.host(host);
        let mut all = vec!["netns", "exec", &name, "tc", "qdisc"];
        match bad {
            Some(bad) => {
                all.extend(["replace", "dev", "eth0", "root", "netem"]);
                all.extend(bad.split(' '));
            }
            None => all.extend(["del", "dev", "eth0", "root"]),
        }
        ip(&all)
    }
}

/// The state of a host's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing passes.
    Down,
    /// Everything does.
    Up,
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in (0..self.hosts).map(|host| self.host(host)).chain([self.switch()]) {
            // One that could not be made need not go.
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn address(host: usize) -> String {
    format!("10.213.0.{}", host + 1)
}

fn ip(arguments: &[&str]) -> Tried<()> {
    let done = Command::new("ip").args(arguments).output().map_err(|error| format!("cannot start ip: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim())),
    }
}
