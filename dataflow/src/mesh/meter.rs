//! What is counted of a mesh: who is there, how long ago each was heard, what goes over the network, who was turned away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::hello::Refusal;
use super::now;

/// Bytes on the connection of batches with one peer.
#[derive(Debug, Default)]
pub struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Traffic {
    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// What is counted of one peer.
#[derive(Debug, Default)]
struct Peer {
    here: AtomicBool,
    /// When it was last heard, in microseconds of the meter.
    heard: AtomicU64,
    traffic: Arc<Traffic>,
    /// Words and letters.
    control_received: AtomicU64,
    control_sent: AtomicU64,
}

/// Counts what happens in a mesh.
#[derive(Debug)]
pub struct MeshMeter {
    begun: Instant,
    own: usize,
    peers: Vec<Peer>,
    rejected: Mutex<BTreeMap<&'static str, u64>>,
}

/// A peer as it was at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct PeerReading {
    /// Its number.
    pub process: usize,
    /// It is connected.
    pub here: bool,
    /// How long ago it was last heard.
    pub heard_seconds: f64,
    /// Bytes of batches received from it.
    pub received_bytes: u64,
    /// Bytes of batches sent to it.
    pub sent_bytes: u64,
    /// Messages of control received from it.
    pub control_received: u64,
    /// Messages of control sent to it.
    pub control_sent: u64,
}

impl MeshMeter {
    /// Returns the meter of the process `own` of so many.
    pub fn new(own: usize, processes: usize) -> Arc<MeshMeter> {
        let peers = (0..processes).map(|_| Peer::default()).collect();
        Arc::new(MeshMeter { begun: now(), own, peers, rejected: Mutex::default() })
    }

    /// Returns how many other processes there should be.
    pub fn expected(&self) -> usize {
        self.peers.len() - 1
    }

    /// Returns what is known of each other process.
    pub fn peers(&self) -> Vec<PeerReading> {
        let now = self.micros();
        let others = self.peers.iter().enumerate().filter(|(process, _)| *process != self.own);
        let read = |(process, peer): (usize, &Peer)| PeerReading {
            process,
            here: peer.here.load(Ordering::Relaxed),
            heard_seconds: now.saturating_sub(peer.heard.load(Ordering::Relaxed)) as f64 / 1e6,
            received_bytes: peer.traffic.received.load(Ordering::Relaxed),
            sent_bytes: peer.traffic.sent.load(Ordering::Relaxed),
            control_received: peer.control_received.load(Ordering::Relaxed),
            control_sent: peer.control_sent.load(Ordering::Relaxed),
        };
        others.map(read).collect()
    }

    /// Returns how many connections were turned away, by reason.
    pub fn rejected(&self) -> BTreeMap<&'static str, u64> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn reject(&self, why: &Refusal) {
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner).entry(why.word()).or_default() += 1;
    }

    pub(super) fn traffic(&self, process: usize) -> Arc<Traffic> {
        self.peers[process].traffic.clone()
    }

    pub(super) fn is_here(&self, process: usize, here: bool) {
        self.peers[process].heard.store(self.micros(), Ordering::Relaxed);
        self.peers[process].here.store(here, Ordering::Relaxed);
    }

    pub(super) fn heard(&self, process: usize) {
        self.peers[process].heard.store(self.micros(), Ordering::Relaxed);
        self.peers[process].control_received.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn spoke(&self, process: usize) {
        self.peers[process].control_sent.fetch_add(1, Ordering::Relaxed);
    }

    fn micros(&self) -> u64 {
        let since: Duration = now().saturating_duration_since(self.begun);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}
