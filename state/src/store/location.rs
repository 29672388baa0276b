//! What `--state` names: a folder, or a place in a bucket of an S3-compatible store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Store, s3};
use crate::error::StateError;

/// For how long a store that fails or does not answer is asked again, unless somebody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a local folder.
    Folder(PathBuf),
    /// In a bucket.
    Bucket(Bucket),
}

/// A place in a bucket. How to get there (endpoint, region, credentials) is in the environment, never here: a location is
/// shown in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket's name.
    pub name: String,
    /// What stands before the path of every object; empty, or without a `/` at either end.
    pub prefix: String,
    /// For how long a store that fails or does not answer is asked again before the act fails.
    pub patience: Duration,
}

impl Location {
    /// Reads what a person wrote: a folder, `file://FOLDER` or `s3://BUCKET/PREFIX`.
    pub fn parse(text: &str) -> Result<Location, String> {
        match text.split_once("://") {
            None => Ok(Location::Folder(text.into())),
            Some(("file", path)) => Ok(Location::Folder(path.into())),
            Some(("s3", place)) => Bucket::parse(place).map(Location::Bucket),
            Some((scheme, _)) => Err(format!(
                "`{scheme}` is not known to this version\n  hint: name a folder, or a bucket as s3://BUCKET/PREFIX"
            )),
        }
    }

    /// Returns the same place, with another patience; a folder needs none.
    pub fn patient(self, patience: Duration) -> Location {
        match self {
            Location::Bucket(bucket) => Location::Bucket(Bucket { patience, ..bucket }),
            folder => folder,
        }
    }

    /// Returns the local folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Location::Folder(folder) => Some(folder),
            Location::Bucket(_) => None,
        }
    }

    /// Opens the store for writing. A folder is created if need be; a bucket must be there.
    pub fn open(&self) -> Result<Store, StateError> {
        match self {
            Location::Folder(folder) => Store::folder(folder),
            Location::Bucket(bucket) => bucket.open(s3::from_environment()),
        }
    }

    /// Opens the store if it is there; creates nothing.
    pub fn open_existing(&self) -> Result<Option<Store>, StateError> {
        match self {
            Location::Folder(folder) if !folder.is_dir() => Ok(None),
            Location::Folder(folder) => Store::existing_folder(folder).map(Some),
            Location::Bucket(bucket) => bucket.open(s3::from_environment()).map(Some),
        }
    }
}

impl From<PathBuf> for Location {
    fn from(folder: PathBuf) -> Location {
        Location::Folder(folder)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Folder(folder) => write!(f, "{}", folder.display()),
            Location::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

impl Bucket {
    /// Opens the bucket with `settings`, which are called as the environment calls them: `AWS_ENDPOINT_URL` and so on.
    pub fn open(&self, settings: impl IntoIterator<Item = (String, String)>) -> Result<Store, StateError> {
        s3::open(self, settings)
    }

    fn parse(place: &str) -> Result<Bucket, String> {
        const FORM: &str = "\n  hint: write s3://BUCKET or s3://BUCKET/PREFIX";
        // What looks like credentials is not repeated: the message may end in a log.
        let bucket = place.split('/').next().unwrap_or_default();
        if bucket.contains('@') || (place.contains('@') && place.contains(':')) {
            return Err(
                "a location has no credentials in it\n  hint: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into()
            );
        }
        let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        // Replays have an `@` in their names.
        let in_prefix = |c: char| letter(c) || c == '@';
        if !(3..=63).contains(&name.len()) || !name.chars().all(letter) {
            return Err(format!("`{name}` is no name of a bucket{FORM}"));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(in_prefix);
        if !prefix.is_empty() && !prefix.split('/').all(part) {
            return Err(format!(
                "the prefix `{prefix}` is not made of letters, digits, `-`, `.`, `_`, `@` and single `/`{FORM}"
            ));
        }
        Ok(Bucket { name: name.to_owned(), prefix: prefix.to_owned(), patience: PATIENCE })
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix.as_str() {
            "" => write!(f, "s3://{}", self.name),
            prefix => write!(f, "s3://{}/{prefix}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_buckets_are_told_apart() {
        let read = |text: &str| Location::parse(text).map(|location| location.to_string());
        for text in ["state", "/var/state", "s3://my-bucket", "s3://my-bucket/a/b.c"] {
            assert_eq!(read(text).as_deref(), Ok(text));
        }
        assert_eq!(Location::parse("file:///a/b"), Ok(Location::Folder("/a/b".into())));
        assert_eq!(read("s3://my-bucket/a/").as_deref(), Ok("s3://my-bucket/a"));
        for bad in
            ["s3://", "s3://ab", "s3:///a", "s3://bucket//a", "s3://bucket/a/../b", "s3://bucket/a b", "gs://b/c"]
        {
            assert!(read(bad).is_err_and(|error| error.contains("hint")), "{bad}");
        }
    }

    #[test]
    fn credentials_in_a_location_are_refused_and_not_repeated() {
        let error = Location::parse("s3://key:canary@bucket/a").unwrap_err();
        assert!(error.contains("AWS_ACCESS_KEY_ID") && !error.contains("canary"), "{error}");
    }
}
