//! The files that a path or a glob stands for.

use std::path::{Component, Path, PathBuf};

use globset::GlobBuilder;
use riverrun_dataflow::source::SourceError;
use walkdir::WalkDir;

/// A path, checked.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// As it was written.
    pub(super) text: String,
    /// The folder to which names are relative.
    pub(super) root: PathBuf,
    /// What follows the root, if it has wildcards.
    glob: Option<globset::GlobMatcher>,
}

impl Pattern {
    /// Reads a path or glob; `*` and `?` stay within a folder, `**` crosses folders.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        if text.is_empty() {
            return Err("the path is empty".to_owned());
        }
        let path = Path::new(text);
        let literal = path.exists() || !text.contains(['*', '?', '[', '{']);
        let (root, rest) = if literal { split_name(path) } else { split_glob(path) };
        let glob = match literal {
            true => None,
            false => {
                let glob = GlobBuilder::new(&rest).literal_separator(true).build();
                Some(glob.map_err(|error| format!("`{text}` is no path pattern: {}", error.kind()))?.compile_matcher())
            }
        };
        Ok(Pattern { text: text.to_owned(), root, glob })
    }

    /// Returns whether a file at `path` is, or would be if it were there, one of the files.
    fn covers(&self, path: &Path) -> bool {
        let (root, path) = (plain(&self.root), plain(path));
        match &self.glob {
            Some(glob) => path.strip_prefix(&root).is_ok_and(|relative| glob.is_match(relative)),
            None => plain(Path::new(&self.text)) == path,
        }
    }

    /// Returns the names of the files, sorted.
    pub(super) fn files(&self) -> Result<Vec<String>, SourceError> {
        let Some(glob) = &self.glob else { return Ok(vec![self.only_file()?]) };
        let folder = shown(&self.root);
        let failed = |reason: String| SourceError::Read { what: format!("files `{}`", self.text), reason };
        if !self.root.is_dir() {
            return Err(failed(format!("there is no folder `{folder}`")));
        }
        let mut names = Vec::new();
        for entry in WalkDir::new(&self.root).follow_links(true) {
            let entry = entry.map_err(|error| failed(error.to_string()))?;
            let relative = entry.path().strip_prefix(&self.root).unwrap_or(entry.path());
            if !entry.file_type().is_file() || !glob.is_match(relative) {
                continue;
            }
            match relative.to_str() {
                Some(name) => names.push(name.to_owned()),
                None => return Err(failed(format!("the name of `{}` is not UTF-8", relative.display()))),
            }
        }
        if names.is_empty() {
            return Err(failed(format!("no file in folder `{folder}` matches the pattern")));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn only_file(&self) -> Result<String, SourceError> {
        let path = Path::new(&self.text);
        let failed =
            |reason: &str| SourceError::Read { what: format!("file `{}`", self.text), reason: reason.to_owned() };
        if path.is_dir() {
            let reason = format!("it is a folder; name its files, such as `{}`", path.join("*.jsonl").display());
            return Err(failed(&reason));
        }
        if !path.exists() {
            return Err(failed("there is no such file"));
        }
        let name = path.file_name().and_then(|name| name.to_str());
        name.map(str::to_owned).ok_or_else(|| failed("its name is not UTF-8"))
    }
}

/// Returns whether a source of `pattern` would read the file at `path`; the disk is asked only whether `pattern` is a file.
pub fn covers(pattern: &str, path: &str) -> bool {
    // A pattern that cannot be read is a fault of its own, said where the source is connected.
    Pattern::parse(pattern).is_ok_and(|pattern| pattern.covers(Path::new(path)))
}

/// Returns whether two paths are one, however they are written. Links are not followed: neither file needs to be there.
pub fn is_same(one: &str, other: &str) -> bool {
    plain(Path::new(one)) == plain(Path::new(other))
}

/// Returns whether a path lies below a folder, however they are written.
pub fn lies_below(path: &str, folder: &str) -> bool {
    let (path, folder) = (plain(Path::new(path)), plain(Path::new(folder)));
    path != folder && path.starts_with(folder)
}

/// Returns the path from the root of the file system on, without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

fn shown(folder: &Path) -> String {
    if folder.as_os_str().is_empty() { ".".to_owned() } else { folder.display().to_string() }
}

fn split_name(path: &Path) -> (PathBuf, String) {
    let root = path.parent().unwrap_or(Path::new("")).to_owned();
    (root, String::new())
}

/// Splits off the longest leading folder without a wildcard.
fn split_glob(path: &Path) -> (PathBuf, String) {
    let has_wildcard =
        |part: &std::path::Component<'_>| part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
    let root: PathBuf = path.components().take_while(|part| !has_wildcard(part)).collect();
    let rest: PathBuf = path.components().skip_while(|part| !has_wildcard(part)).collect();
    let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
    (root, rest.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_it_would_read() {
        for (pattern, path, covered) in [
            ("out/*.jsonl", "out/rows.jsonl", true),
            ("out/*.jsonl", "./out/../out/rows.jsonl", true),
            ("out/*.jsonl", "out/deep/rows.jsonl", false),
            ("out/**/*.jsonl", "out/deep/rows.jsonl", true),
            ("*.jsonl", "rows.jsonl", true),
            ("*.jsonl", "out/rows.jsonl", false),
            ("in/../out/a.jsonl", "out/a.jsonl", true),
            ("out/a.jsonl", "out/b.jsonl", false),
            ("[", "[", false),
        ] {
            assert_eq!(covers(pattern, path), covered, "{pattern} {path}");
        }
        assert!(is_same("./a//b.jsonl", "a/c/../b.jsonl"));
        assert!(!is_same("a/b.jsonl", "b.jsonl"));
        assert!(lies_below("./a//b/c", "a/x/../b") && lies_below("s3://bucket/a/b", "s3://bucket/a/"));
        assert!(!lies_below("ab/c", "a") && !lies_below("a/", "a") && !lies_below("a", "a/b"));
    }
}
