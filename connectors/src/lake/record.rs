//! The records of a lake: JSON that people and other tools can read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::partition::PartitionBy;

/// The version of the records' form.
pub(super) const VERSION: u32 = 1;

/// Something that happened to a lake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub version: u32,
    /// Its place in the sequence, from 1.
    pub number: u64,
    /// Checksum of the record before it, in the form of [`checksum`]; empty for the first.
    pub previous: String,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Body {
    /// The lake began: always the first record.
    Lake { layout: Layout, partition_by: PartitionBy },
    /// A start of a job took a lane. `replace`: the files of the job's incarnations before this one count no more.
    Open {
        #[serde(flatten)]
        writer: Writer,
        lane: u32,
        generation: u64,
        #[serde(default, skip_serializing_if = "is_false")]
        replace: bool,
        /// The columns of the rows, with their Arrow types.
        columns: Vec<LakeColumn>,
    },
    /// A lane committed everything up to a tick.
    Commit {
        #[serde(flatten)]
        writer: Writer,
        lane: u32,
        generation: u64,
        tick: u64,
        add: Vec<LakeFile>,
    },
    /// Files of one writer were merged: the same rows in other files.
    Compact {
        #[serde(flatten)]
        writer: Writer,
        add: Vec<LakeFile>,
        remove: Vec<String>,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Where files are put, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Into the folders once their record is there: who lists the folders sees only rows that are committed.
    #[default]
    VisibleAfterCommit,
    /// Into the folders at once: only the records say which of them count.
    Manifest,
}

impl Layout {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Layout::VisibleAfterCommit => "visible_after_commit",
            Layout::Manifest => "manifest",
        }
    }
}

/// Whose rows they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Writer {
    /// The job.
    pub job: String,
    /// Its sink.
    pub sink: String,
    /// The incarnation of the job.
    pub incarnation: String,
}

/// A column of the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakeColumn {
    /// Its name.
    pub name: String,
    /// Its type, in the words of the job file: what records say must not hang on how a library shows a type.
    #[serde(rename = "type")]
    pub type_name: String,
}

/// A Parquet file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakeFile {
    /// Where it is, below the lake.
    pub path: String,
    /// The partition: what the names of its folders say.
    pub partition: BTreeMap<String, String>,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// xxh3_64 of its bytes, in 16 hexadecimal digits.
    pub xxh3: String,
    /// The earliest event time in it, in microseconds since 1970; null if no row has one.
    pub time_min_us: Option<i64>,
    /// The latest event time in it.
    pub time_max_us: Option<i64>,
}

/// Returns the checksum of some bytes, as records have it.
pub(super) fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

impl Record {
    /// Returns the bytes in which the record is stored.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("a record is plain data");
        bytes.push(b'\n');
        bytes
    }

    /// Reads a record, or says why it is none.
    pub(super) fn read(bytes: &[u8]) -> Result<Record, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!("its version is {version}, this build knows {VERSION}"));
        }
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}
