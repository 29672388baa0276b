//! What comes in at the door of a mesh, and over its connections of control, as the bytes that arrive.

use std::io;

use crate::mesh::frame::{Frame, FrameKind, failure};
use crate::mesh::hello;
use crate::mesh::{Hello, Refusal};

/// Returns the bytes by which a process says who it is.
pub fn hello_bytes(who: &Hello) -> Vec<u8> {
    let mut bytes = Vec::new();
    hello::say(&mut bytes, who).expect("names are short");
    bytes
}

/// Hears who somebody is.
pub fn read_hello(mut bytes: &[u8]) -> Result<Hello, Refusal> {
    hello::receive(&mut bytes)
}

/// Returns the bytes of what a process says on a connection of control: a word, a letter, and why it fails.
pub fn control_bytes(word: &[u8], letter: &[u8], reason: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let said = [
        (FrameKind::Word, word.to_vec()),
        (FrameKind::Letter, letter.to_vec()),
        (FrameKind::Failed, failure(1, reason)),
    ];
    for (kind, body) in said {
        Frame { kind, body }.write(&mut bytes).expect("memory takes all");
    }
    bytes
}

/// Reads what somebody says on a connection of control, to its end.
pub fn read_control(mut bytes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut bodies = Vec::new();
    while !bytes.is_empty() {
        bodies.push(Frame::read(&mut bytes)?.body);
    }
    Ok(bodies)
}
