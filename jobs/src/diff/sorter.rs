//! Rows sorted by key in bounded memory: what does not fit goes to files without a name, which are gone with the process.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Bytes of a file that are read at once.
const READ_BYTES: usize = 64 * 1024;
/// Files that are merged at once; more are merged to one before.
const FILES_MAX: usize = 256;

/// A row on its way into a comparison. Rows are sorted by key, then rank, then text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// The values that name the row.
    pub key: Vec<u8>,
    /// Which of those of a key comes last.
    pub rank: i64,
    /// The row.
    pub row: Vec<u8>,
    /// It takes an equal row back.
    pub is_minus: bool,
}

impl Entry {
    /// Returns about what it takes in memory.
    fn size(&self) -> usize {
        self.key.len() + self.row.len() + size_of::<Entry>()
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| io::Error::other("a row of 4 GiB"));
        out.write_all(&length(&self.key)?.to_le_bytes())?;
        out.write_all(&length(&self.row)?.to_le_bytes())?;
        out.write_all(&self.rank.to_le_bytes())?;
        out.write_all(&[u8::from(self.is_minus)])?;
        out.write_all(&self.key)?;
        out.write_all(&self.row)
    }

    /// Reads the next entry; `None` at the end of the file.
    fn read(from: &mut BufReader<File>) -> io::Result<Option<Entry>> {
        let mut head = [0; 17];
        match from.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let mut rank = [0; 8];
        rank.copy_from_slice(&head[8..16]);
        let mut entry = Entry {
            key: vec![0; number(0)],
            rank: i64::from_le_bytes(rank),
            row: vec![0; number(4)],
            is_minus: head[16] == 1,
        };
        from.read_exact(&mut entry.key)?;
        from.read_exact(&mut entry.row)?;
        Ok(Some(entry))
    }
}

/// Takes rows in any order.
pub(super) struct Sorter {
    folder: PathBuf,
    /// Bytes that are kept in memory.
    limit: usize,
    held: Vec<Entry>,
    held_bytes: usize,
    files: Vec<File>,
}

impl Sorter {
    /// Returns one that keeps at most `limit` bytes in memory and the rest in files in `folder`.
    pub fn new(folder: &Path, limit: usize) -> Sorter {
        Sorter { folder: folder.to_owned(), limit, held: Vec::new(), held_bytes: 0, files: Vec::new() }
    }

    /// Takes a row.
    pub fn push(&mut self, entry: Entry) -> io::Result<()> {
        self.held_bytes += entry.size();
        self.held.push(entry);
        if self.held_bytes < self.limit {
            return Ok(());
        }
        self.spill()?;
        if self.files.len() < FILES_MAX {
            return Ok(());
        }
        let merged = Sorted::merging(std::mem::take(&mut self.files))?;
        let mut out = BufWriter::new(tempfile::tempfile_in(&self.folder)?);
        for entry in merged {
            entry?.write(&mut out)?;
        }
        self.files.push(out.into_inner().map_err(io::IntoInnerError::into_error)?);
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.held.sort_unstable();
        let mut out = BufWriter::new(tempfile::tempfile_in(&self.folder)?);
        self.held.iter().try_for_each(|entry| entry.write(&mut out))?;
        self.files.push(out.into_inner().map_err(io::IntoInnerError::into_error)?);
        self.held = Vec::new();
        self.held_bytes = 0;
        Ok(())
    }

    /// Returns all rows, sorted.
    pub fn sorted(mut self) -> io::Result<Sorted> {
        if self.files.is_empty() {
            self.held.sort_unstable();
            return Ok(Sorted::Held(self.held.into_iter()));
        }
        self.spill()?;
        Sorted::merging(self.files)
    }
}

/// Gives rows in order.
pub(super) enum Sorted {
    /// All were in memory.
    Held(std::vec::IntoIter<Entry>),
    /// From files, the least first.
    Merged { files: Vec<BufReader<File>>, heads: BinaryHeap<Head> },
}

/// The next row of a file.
#[derive(PartialEq, Eq)]
pub(super) struct Head(Entry, usize);

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        // The greatest of a heap comes first, and the least is wanted.
        (&other.0, other.1).cmp(&(&self.0, self.1))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Sorted {
    fn merging(files: Vec<File>) -> io::Result<Sorted> {
        let mut readers = Vec::new();
        let mut heads = BinaryHeap::new();
        for (index, mut file) in files.into_iter().enumerate() {
            file.rewind()?;
            let mut reader = BufReader::with_capacity(READ_BYTES, file);
            heads.extend(Entry::read(&mut reader)?.map(|entry| Head(entry, index)));
            readers.push(reader);
        }
        Ok(Sorted::Merged { files: readers, heads })
    }
}

impl Iterator for Sorted {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<io::Result<Entry>> {
        match self {
            Sorted::Held(entries) => entries.next().map(Ok),
            Sorted::Merged { files, heads } => {
                let Head(entry, index) = heads.pop()?;
                match Entry::read(&mut files[index]) {
                    Ok(next) => heads.extend(next.map(|next| Head(next, index))),
                    Err(error) => return Some(Err(error)),
                }
                Some(Ok(entry))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let entry = ("[a-c]{0,2}", -3_i64..3, "[xy]{0,3}", any::<bool>()).prop_map(|(key, rank, row, is_minus)| {
            Entry { key: key.into_bytes(), rank, row: row.into_bytes(), is_minus }
        });
        proptest::collection::vec(entry, 0..600)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]
        #[test]
        fn rows_are_sorted_whatever_fits_into_memory(entries in entries(), limit in 400_usize..20_000) {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(folder.path(), limit);
            for entry in &entries {
                sorter.push(entry.clone()).unwrap();
            }
            let found: Vec<Entry> = sorter.sorted().unwrap().collect::<io::Result<_>>().unwrap();
            let mut expected = entries;
            expected.sort();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "files have no names");
        }
    }
}
