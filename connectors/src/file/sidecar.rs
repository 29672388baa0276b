//! The sidecar of an output file, `<file>.riverrun.json`: who owns the file and how much of it is committed.
//!
//! It is replaced as a whole: written beside, synced, renamed into place, and the folder synced. So it is always one of the
//! two, the old or the new; its checksum tells an edited one.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use riverrun_dataflow::disk::{Disk, Opening, folder_of};
use riverrun_dataflow::fail_point::reach;
use riverrun_dataflow::sink::{SinkError, Token};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The version of the sidecar's form.
const VERSION: u32 = 1;

/// What a sidecar says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sidecar {
    version: u32,
    /// The job that owns the file.
    pub(super) job: String,
    /// The sink of that job.
    pub(super) sink: String,
    /// The job's incarnation.
    pub(super) incarnation: String,
    /// The generation that wrote last.
    pub(super) generation: u64,
    /// Every row of every tick up to this one is in the file; absent before the first commit.
    pub(super) tick: Option<u64>,
    /// Bytes of the file that are committed.
    pub(super) length: u64,
    /// xxh3_64 of the last committed bytes, [`TAIL`] at most.
    pub(super) tail: String,
    /// xxh3_64 of all of the above.
    crc: String,
}

/// Bytes before the end of what is committed that are checked when the file is opened again.
pub(super) const TAIL: usize = 64 << 10;

impl Sidecar {
    /// Returns the sidecar of an empty file.
    pub(super) fn new(job: &str, sink: &str, incarnation: &str, generation: u64) -> Sidecar {
        Sidecar {
            version: VERSION,
            job: job.to_owned(),
            sink: sink.to_owned(),
            incarnation: incarnation.to_owned(),
            generation,
            tick: None,
            length: 0,
            tail: tail_digest(&[]),
            crc: String::new(),
        }
    }

    /// Returns where the sidecar of `file` is.
    pub(super) fn path(file: &Path) -> PathBuf {
        let mut name = OsString::from(file);
        name.push(".riverrun.json");
        PathBuf::from(name)
    }

    /// Returns what the lane remembers of its last commit.
    pub(super) fn token(&self) -> Option<Token> {
        let tick = self.tick?;
        Some(Token { incarnation: self.incarnation.clone(), generation: self.generation, tick })
    }

    /// Reads the sidecar of `file`, if there is one.
    pub(super) fn read(file: &Path) -> Result<Option<Sidecar>, SinkError> {
        let path = Sidecar::path(file);
        let what = format!("file `{}`", path.display());
        let damaged = |reason: &str| SinkError::Damaged { what: what.clone(), reason: reason.to_owned() };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SinkError::Write { what, reason: error.to_string() }),
        };
        let sidecar: Sidecar = serde_json::from_slice(&bytes).map_err(|error| damaged(&error.to_string()))?;
        if sidecar.version != VERSION {
            return Err(damaged(&format!("its version is {}, this build knows {VERSION}", sidecar.version)));
        }
        match sidecar.crc == sidecar.checksum() {
            true => Ok(Some(sidecar)),
            false => Err(damaged("its checksum does not match")),
        }
    }

    /// Puts this sidecar in the place of the one that `file` has.
    pub(super) fn write(&mut self, disk: &dyn Disk, file: &Path) -> io::Result<()> {
        self.crc = self.checksum();
        let path = Sidecar::path(file);
        // Each generation has a name of its own: one that was frozen and wakes here must not touch what its successor writes.
        let mut temporary = OsString::from(&path);
        temporary.push(format!(".{}.tmp", self.generation));
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        // As `install` does it, with a point after each act.
        let temporary = Path::new(&temporary);
        let new = disk.open(temporary, Opening::Empty)?;
        disk.write(&new, temporary, &text, 0)?;
        disk.sync(&new, temporary)?;
        reach("sidecar.written");
        disk.rename(temporary, &path)?;
        reach("sidecar.renamed");
        disk.sync_folder(folder_of(file))?;
        reach("sidecar.settled");
        Ok(())
    }

    /// Removes what generations before left of sidecars that they did not come to put in place.
    pub(super) fn sweep(disk: &dyn Disk, file: &Path) -> io::Result<()> {
        let path = Sidecar::path(file);
        let begin = path.file_name().unwrap_or_default().as_encoded_bytes();
        for entry in std::fs::read_dir(folder_of(file))? {
            let entry = entry?;
            let rest = entry.file_name().as_encoded_bytes().strip_prefix(begin).map(<[u8]>::to_owned);
            if rest.is_some_and(|rest| rest.starts_with(b".") && rest.ends_with(b".tmp")) {
                match disk.remove(&entry.path()) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
            }
        }
        Ok(())
    }

    fn checksum(&self) -> String {
        let bare = Sidecar { crc: String::new(), ..self.clone() };
        let text = serde_json::to_vec(&bare).expect("a sidecar is plain data");
        format!("{:016x}", xxh3_64(&text))
    }
}

/// Returns the digest of the last committed bytes.
pub(super) fn tail_digest(tail: &[u8]) -> String {
    format!("{:016x}", xxh3_64(tail))
}
