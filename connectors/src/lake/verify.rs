//! Whether the files of a lake are those that were committed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::LakeError;
use super::files::STAGING;
use super::record::checksum;
use super::{Lake, Layout, PlacedFile};

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It counts, and is not there.
    Missing,
    /// Its content is not what was committed.
    Changed,
    /// It lies among the files that count and is none of them: a reader that lists the folders reads its rows too.
    Stray,
}

/// What a look at all files came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Files that count.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, by path.
    pub findings: BTreeMap<String, Finding>,
}

/// Reads every file that counts, compares its checksum, and looks for others among them.
pub fn verify(lake: &Lake) -> Result<Verified, LakeError> {
    let objects = lake.log.objects();
    let mut verified = Verified::default();
    for placed in lake.files()? {
        verified.files += 1;
        verified.rows += placed.file.rows;
        verified.bytes += placed.file.bytes;
        // It may have got its place since it was looked for.
        let bytes = match objects.get(&placed.at)? {
            None => objects.get(&placed.file.path)?,
            found => found,
        };
        let finding = match bytes {
            None => Some(Finding::Missing),
            Some(bytes) if checksum(&bytes) != placed.file.xxh3 => Some(Finding::Changed),
            Some(_) => None,
        };
        verified.findings.extend(finding.map(|finding| (placed.file.path, finding)));
    }
    if lake.layout() == Layout::VisibleAfterCommit {
        let strays = objects.list("")?.into_iter().map(|it| it.path);
        let is_stray = |path: &String| {
            let is_shown = path.ends_with(".parquet") && !path.starts_with(STAGING);
            is_shown && lake.log.table().is_own(path) && !lake.log.table().files.contains_key(path)
        };
        verified.findings.extend(strays.filter(is_stray).map(|path| (path, Finding::Stray)));
    }
    if !verified.findings.is_empty() {
        look_again(lake, &mut verified.findings)?;
    }
    Ok(verified)
}

/// Drops findings that are none: a job that runs has gone on meanwhile, and files got their places or were replaced.
fn look_again(lake: &Lake, findings: &mut BTreeMap<String, Finding>) -> Result<(), LakeError> {
    let objects = lake.log.objects();
    let Some(now) = Lake::read(objects.clone())? else { return Ok(()) };
    let counting: BTreeMap<String, PlacedFile> =
        now.files()?.into_iter().map(|placed| (placed.file.path.clone(), placed)).collect();
    let mut wrong = BTreeMap::new();
    for (path, finding) in std::mem::take(findings) {
        let still = match (finding, counting.get(&path)) {
            (Finding::Missing, Some(placed)) => objects.get(&path)?.is_none() && objects.get(&placed.at)?.is_none(),
            (Finding::Changed, Some(_)) => true,
            (Finding::Missing | Finding::Changed, None) | (Finding::Stray, Some(_)) => false,
            (Finding::Stray, None) => objects.get(&path)?.is_some(),
        };
        if still {
            wrong.insert(path, finding);
        }
    }
    *findings = wrong;
    Ok(())
}
