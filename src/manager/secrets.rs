//! Secrets of jobs. A job file names them, `${env:NAME}`; whoever submits it gives their values beside it, once. They lie in files that
//! nobody else may read, and the processes of the job read them there: they are in no argument, no environment and no answer.
//!
//! `${env:NAME}` never means the environment of the manager: it would be open to everybody who may submit a job.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::processes::{private_folder, write_private};

const START: &str = "${env:";

/// A value that is shown to nobody.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Sensitive(String);

impl Sensitive {
    /// Returns the value, for whoever it is meant for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Returns the folder of a job's secrets.
pub fn folder(data: &Path, job: &str) -> PathBuf {
    data.join("secrets").join(job)
}

/// Returns the names of the secrets that a text refers to.
pub fn names(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find(START) {
        rest = &rest[at + START.len()..];
        let Some(end) = rest.find('}') else { break };
        found.insert(&rest[..end]);
        rest = &rest[end + 1..];
    }
    found
}

/// Checks the name of a secret.
pub fn check_name(name: &str) -> Result<(), String> {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match (1..=100).contains(&name.len()) && name.chars().all(letters) {
        true => Ok(()),
        false => Err(format!("`{name}` cannot be the name of a secret: it is 1 to 100 letters, digits and `_`")),
    }
}

/// Writes the secrets of a job down; those that are there and not given stay.
pub fn keep(data: &Path, job: &str, secrets: &BTreeMap<String, Sensitive>) -> io::Result<()> {
    if secrets.is_empty() {
        return Ok(());
    }
    let folder = folder(data, job);
    private_folder(&folder)?;
    secrets.iter().try_for_each(|(name, value)| write_private(&folder.join(name), value.reveal().as_bytes()))
}

/// Gives a job the secrets of another one, as they are now.
pub fn copy(data: &Path, from: &str, to: &str) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder(data, from)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let folder = folder(data, to);
    private_folder(&folder)?;
    for entry in entries {
        let entry = entry?;
        write_private(&folder.join(entry.file_name()), &std::fs::read(entry.path())?)?;
    }
    Ok(())
}

/// Returns whether a job's secret is there.
pub fn is_kept(data: &Path, job: &str, name: &str) -> bool {
    check_name(name).is_ok() && folder(data, job).join(name).is_file()
}

/// Returns a text of a job as its processes get it: secrets are where they find them.
pub fn for_process(data: &Path, job: &str, text: &str) -> String {
    let folder = folder(data, job);
    names(text).into_iter().fold(text.to_owned(), |text, name| {
        let reference = format!("{START}{name}}}");
        text.replace(&reference, &format!("${{file:{}}}", folder.join(name).display()))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn references_are_found_and_put_where_processes_read_them() {
        let text = "a: ${env:ONE}, b: ${file:/x}, c: ${env:TWO}${env:ONE} ${env:open";
        assert_eq!(names(text), BTreeSet::from(["ONE", "TWO"]));
        let given = for_process(Path::new("/data"), "shop", text);
        let (one, two) = ("${file:/data/secrets/shop/ONE}", "${file:/data/secrets/shop/TWO}");
        assert_eq!(given, format!("a: {one}, b: ${{file:/x}}, c: {two}{one} ${{env:open"));
    }

    #[test]
    fn secrets_are_nobody_elses_and_are_not_shown() {
        let data = tempfile::tempdir().unwrap();
        let secrets = BTreeMap::from([("WORD".to_owned(), Sensitive("swordfish".to_owned()))]);
        keep(data.path(), "shop", &secrets).unwrap();
        let file = folder(data.path(), "shop").join("WORD");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        assert!(is_kept(data.path(), "shop", "WORD") && !is_kept(data.path(), "shop", "../shop/WORD"));
        assert!(!format!("{secrets:?}").contains("swordfish"));
        assert!(["", "../x", "a b", "a/b"].iter().all(|name| check_name(name).is_err()));
    }
}
