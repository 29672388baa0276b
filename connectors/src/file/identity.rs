//! What a file was when the job began: its size and the hash of its first bytes, and of its last for Parquet, whose end says what
//! all the rest means.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use xxhash_rust::xxh3::Xxh3Default;

/// Bytes at either end that are hashed.
const ENDS: u64 = 64 << 10;

/// Which ends of a file are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// The first bytes.
    Head,
    /// The first and the last bytes.
    HeadAndTail,
}

/// Returns the identity of `file`, whose position it moves.
pub(super) fn identity(file: &mut File, ends: Ends) -> io::Result<String> {
    let size = file.metadata()?.len();
    let mut hash = Xxh3Default::new();
    hash_from(file, 0, &mut hash)?;
    if ends == Ends::HeadAndTail {
        hash_from(file, size.saturating_sub(ENDS), &mut hash)?;
    }
    Ok(format!("size={size} xxh3={:016x}", hash.digest()))
}

fn hash_from(file: &mut File, from: u64, hash: &mut Xxh3Default) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(ENDS).read_to_end(&mut bytes)?;
    hash.update(&bytes);
    Ok(())
}

/// Returns the size that an identity names.
pub(super) fn size_of(identity: &str) -> Option<u64> {
    identity.strip_prefix("size=")?.split(' ').next()?.parse().ok()
}
