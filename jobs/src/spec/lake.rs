//! The keys of `lake`.

use std::time::Duration;

use riverrun_connectors::lake::{Layout, PartitionBy};

use super::fields::{Kind, Section, choice, field};
use super::parts::{span_of, word};
use super::reader::Form;
use crate::yaml::Spanned;

/// The keys of `lake`.
pub(super) static LAKE: Section = Section {
    what: "`lake`",
    doc: "Immutable Parquet files in folders by date and hour of event time, in a local folder or a bucket. Rows appear at every commit, all of it at once, each row exactly once. Timestamps are in UTC; a row without event time is in folders that readers take for null. `riverrun lake` lists, checks, merges and sweeps files.",
    one_of: &[],
    fields: &[
        field("path", Kind::Outside, "A folder, relative to the working directory, or `s3://BUCKET/PREFIX`; how to reach a bucket is said by AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.").required(),
        field("layout", Kind::Choice(&[
            choice("visible_after_commit", "files are put into their folders once they are committed: also who lists the folders sees committed rows only"),
            choice("manifest", "files are written into their folders at once, and only `riverrun lake files` says which of them count: nothing is copied in a bucket, and files that a compaction replaced stay until a sweep, for those who still read them"),
        ]), "When files are put into their folders.").default("visible_after_commit"),
        field("partition_by", Kind::Choice(&[
            choice("hour", "`date=2026-03-01/hour=13`"),
            choice("date", "`date=2026-03-01`"),
            choice("none", "no folders"),
        ]), "The folders, by event time in UTC.").default("hour"),
        field("file_size", Kind::Bytes("1KiB", "4GiB"), "A lane commits as soon as it has gathered about so much Parquet, which it holds in memory.").default("128MiB"),
        field("every", Kind::Duration("100ms", "1d"), "On live input a lane that has rows commits at least so often; it is also how much a checkpoint may lag behind. Bounded input is committed by `file_size` and at its end only, so that equal runs make equal files.").default("1m"),
        field("lanes", Kind::Number(1, 64), "In how many lanes rows are written, each with files of its own; rows are placed by the key of the step they come from, or by their split. More lanes write faster, and smaller files.").default("1"),
    ],
};

/// A `lake` as written.
#[derive(Clone, Debug)]
pub(crate) struct LakeSpec {
    pub path: Spanned<String>,
    pub layout: Layout,
    pub partition_by: PartitionBy,
    pub file_size: u64,
    pub every: Duration,
    pub lanes: u32,
}

pub(super) fn lake_of(form: &Form) -> Option<LakeSpec> {
    let number = |key: &str| form.number(key).map(|number| number.value);
    Some(LakeSpec {
        path: form.text("path")?,
        layout: match word(form, "layout").as_str() {
            "manifest" => Layout::Manifest,
            _ => Layout::VisibleAfterCommit,
        },
        partition_by: match word(form, "partition_by").as_str() {
            "date" => PartitionBy::Date,
            "none" => PartitionBy::Nothing,
            _ => PartitionBy::Hour,
        },
        file_size: number("file_size")?,
        every: span_of(form, "every"),
        lanes: number("lanes").and_then(|lanes| u32::try_from(lanes).ok())?,
    })
}
