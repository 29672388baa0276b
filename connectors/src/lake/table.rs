//! What the records of a lake amount to. Pure: the same records give the same table.

use std::collections::BTreeMap;

use super::partition::PartitionBy;
use super::record::{Body, LakeColumn, LakeFile, Layout, Record, Writer};

/// A lake after some record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// The number of the last record.
    pub number: u64,
    /// The checksum of the last record.
    pub checksum: String,
    pub layout: Layout,
    pub partition_by: PartitionBy,
    /// The files that count, by path.
    pub files: BTreeMap<String, LiveFile>,
    /// Who writes: of each job and sink its last incarnation.
    pub writers: BTreeMap<Writer, Lanes>,
    /// The columns that each writer's rows have, those of files before its last start too.
    pub columns: BTreeMap<Writer, Vec<LakeColumn>>,
    /// Files that count no more.
    pub gone: BTreeMap<String, Gone>,
}

/// Since when a file counts no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    /// The record that said so.
    pub number: u64,
    /// When that record was written, in seconds since 1970; known once it is about to be removed.
    pub since: Option<u64>,
}

impl Gone {
    fn by(number: u64) -> Gone {
        Gone { number, since: None }
    }
}

/// The lanes of a writer.
pub(super) type Lanes = BTreeMap<u32, LaneState>;

/// A file that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LiveFile {
    pub file: LakeFile,
    pub writer: Writer,
}

/// A lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LaneState {
    /// The generation that opened it last.
    pub generation: u64,
    /// Its token.
    pub tick: Option<u64>,
}

impl Table {
    /// Returns the lake that its first record begins.
    pub(super) fn begun(first: &Record, checksum: String) -> Result<Table, String> {
        let Body::Lake { layout, partition_by } = first.body else {
            return Err("the first record does not begin a lake".to_owned());
        };
        Ok(Table {
            number: first.number,
            checksum,
            layout,
            partition_by,
            files: BTreeMap::new(),
            writers: BTreeMap::new(),
            columns: BTreeMap::new(),
            gone: BTreeMap::new(),
        })
    }

    /// Goes on by a record with this checksum, or says why it cannot follow.
    pub(super) fn apply(&mut self, record: Record, checksum: String) -> Result<(), String> {
        if record.number != self.number + 1 {
            return Err(format!("it says that it is record {}, after record {}", record.number, self.number));
        }
        if record.previous != self.checksum {
            return Err(format!("it does not follow on record {} as that is now", self.number));
        }
        match record.body {
            Body::Lake { .. } => return Err("it begins a lake that has begun already".to_owned()),
            Body::Open { writer, lane, generation, replace, columns } => {
                if replace {
                    let is_old = |other: &Writer| is_same_sink(other, &writer) && *other != writer;
                    self.drop_files(record.number, |live| is_old(&live.writer));
                }
                self.writers.retain(|other, _| !is_same_sink(other, &writer) || *other == writer);
                let mut all: Vec<LakeColumn> = match replace {
                    true => Vec::new(),
                    false => self.columns_of_sink(&writer).flatten().cloned().collect(),
                };
                let new = |column: &LakeColumn| !all.iter().any(|known| known.name == column.name);
                let new: Vec<LakeColumn> = columns.into_iter().filter(new).collect();
                all.extend(new);
                self.columns.retain(|other, _| !is_same_sink(other, &writer));
                self.columns.insert(writer.clone(), all);
                self.writers.entry(writer).or_default().entry(lane).or_default().generation = generation;
            }
            Body::Commit { writer, lane, generation, tick, add } => {
                let state = self.writers.get_mut(&writer).and_then(|lanes| lanes.get_mut(&lane));
                let state = state.filter(|state| state.generation == generation);
                let state = state.ok_or("it commits to a lane that its generation does not have open")?;
                if state.tick.is_some_and(|last| tick <= last) {
                    return Err(format!("it commits tick {tick} again"));
                }
                state.tick = Some(tick);
                self.add_files(add, &writer)?;
            }
            Body::Compact { writer, add, remove } => {
                for path in &remove {
                    self.files.remove(path).ok_or_else(|| format!("it replaces `{path}`, which does not count"))?;
                    self.gone.insert(path.clone(), Gone::by(record.number));
                }
                self.add_files(add, &writer)?;
            }
        }
        (self.number, self.checksum) = (record.number, checksum);
        Ok(())
    }

    fn columns_of_sink(&self, writer: &Writer) -> impl Iterator<Item = &Vec<LakeColumn>> {
        self.columns.iter().filter(|(other, _)| is_same_sink(other, writer)).map(|(_, columns)| columns)
    }

    /// Returns the first of `columns` that other files of the lake have with another type, and that type. `replace`: but for files
    /// of the same sink.
    pub(super) fn clash<'c>(
        &self,
        writer: &Writer,
        columns: &'c [LakeColumn],
        replace: bool,
    ) -> Option<(&'c LakeColumn, String)> {
        let known = self.columns.iter().filter(|(other, _)| !(replace && is_same_sink(other, writer)));
        let known: Vec<&LakeColumn> = known.flat_map(|(_, columns)| columns).collect();
        columns.iter().find_map(|column| {
            let other = known.iter().find(|known| known.name == column.name && known.type_name != column.type_name)?;
            Some((column, other.type_name.clone()))
        })
    }

    fn add_files(&mut self, add: Vec<LakeFile>, writer: &Writer) -> Result<(), String> {
        for file in add {
            let path = file.path.clone();
            let live = LiveFile { file, writer: writer.clone() };
            if self.files.insert(path.clone(), live).is_some() {
                return Err(format!("it adds `{path}`, which counts already"));
            }
        }
        Ok(())
    }

    fn drop_files(&mut self, number: u64, which: impl Fn(&LiveFile) -> bool) {
        let dropped: Vec<String> =
            self.files.iter().filter(|(_, live)| which(live)).map(|(path, _)| path.clone()).collect();
        for path in dropped {
            self.files.remove(&path);
            self.gone.insert(path, Gone::by(number));
        }
    }

    /// Returns whether the file of this path bears a name that the writers of this lake give: others may lie beside theirs.
    pub(super) fn is_own(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_of = |writer: &Writer| name.strip_prefix(&format!("{}.{}-", writer.job, writer.sink)).is_some();
        self.writers.keys().any(is_of)
    }

    /// Returns the writer of a job's sink, if the sink ever wrote here.
    pub(super) fn writer_of(&self, job: &str, sink: &str) -> Option<&Writer> {
        self.writers.keys().find(|writer| writer.job == job && writer.sink == sink)
    }

    /// Returns the state of a lane, if this writer is the last one of its sink.
    pub(super) fn lane(&self, writer: &Writer, lane: u32) -> Option<LaneState> {
        self.writers.get(writer)?.get(&lane).copied()
    }
}

fn is_same_sink(a: &Writer, b: &Writer) -> bool {
    a.job == b.job && a.sink == b.sink
}
