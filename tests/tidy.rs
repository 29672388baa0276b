//! Tidy: the rules of the house that a machine can check. Each test names every offender at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a file, tests not counted.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function, from its first line to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Files that may be longer, and functions that may: `path` or `path::function`. This list may only shrink.
const EXCEPTIONS: &[&str] = &[];
/// Code without a name of its own is not yet understood.
const BANNED_NAMES: &[&str] = &["utils.rs", "util.rs", "common.rs", "helpers.rs", "helper.rs", "misc.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files that git knows or would add, relative to the root.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is there");
    assert!(listed.status.success(), "git ls-files failed");
    let text = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    text.lines().filter(|path| root().join(path).is_file()).map(str::to_owned).collect()
}

fn rust_files() -> Vec<(String, String)> {
    let read = |path: String| {
        let text = fs::read_to_string(root().join(&path)).expect("a listed file is readable");
        (path, text)
    };
    files().into_iter().filter(|path| path.ends_with(".rs")).map(read).collect()
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs")
        || path.split('/').any(|part| part == "tests" || part == "testing.rs" || part == "samples.rs")
}

/// The part of a file before its test module.
fn without_tests(text: &str) -> &str {
    let at = text.find("\n#[cfg(test)]\nmod ").map_or(text.len(), |at| at + 1);
    &text[..at]
}

/// The code of the project: rust files that are no tests, cut before their test module.
fn code() -> Vec<(String, String)> {
    let all = rust_files().into_iter().filter(|(path, _)| !is_test_file(path));
    all.map(|(path, text)| (path, without_tests(&text).to_owned())).collect()
}

fn assert_none(what: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{what}:\n  {}", offenders.join("\n  "));
}

#[test]
fn files_are_short() {
    let long = code().into_iter().filter_map(|(path, text)| {
        let lines = text.lines().count();
        let too_long = lines >= FILE_LINES_MAX && !EXCEPTIONS.contains(&path.as_str());
        too_long.then(|| format!("{path}: {lines} lines"))
    });
    assert_none("files of 800 lines or more; cut them at a seam", long.collect());
}

/// Returns name and length of each function of rustfmt's layout: it ends at the first `}` as far in as its `fn`.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let Some(name) = function_name(code) else { continue };
        let ends = |line: &&str| {
            let code = line.trim_start();
            line.len() - code.len() == indent
                && (code == "}" || code.ends_with(';') || code.ends_with(" }") || code.ends_with("{}"))
        };
        let Some(length) = lines[at..].iter().position(ends) else { continue };
        found.push((name.to_owned(), length + 1));
    }
    found
}

fn function_name(code: &str) -> Option<&str> {
    let mut rest = code;
    loop {
        let (word, after) = rest.split_once(' ')?;
        match word {
            "fn" => return after.split(['(', '<']).next(),
            "pub" | "pub(crate)" | "pub(super)" | "const" | "async" | "unsafe" => rest = after,
            _ => return None,
        }
    }
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for (path, text) in code() {
        for (name, lines) in functions(&text) {
            let key = format!("{path}::{name}");
            if lines > FUNCTION_LINES_MAX && !EXCEPTIONS.contains(&key.as_str()) {
                long.push(format!("{key}: {lines} lines"));
            }
        }
    }
    assert_none("functions of more than 70 lines; the parent keeps the branches, the pieces compute", long);
}

#[test]
fn exceptions_are_still_needed() {
    let known: BTreeSet<String> = code()
        .into_iter()
        .flat_map(|(path, text)| {
            let long = functions(&text).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX);
            let mut keys: Vec<String> = long.map(|(name, _)| format!("{path}::{name}")).collect();
            keys.extend((text.lines().count() >= FILE_LINES_MAX).then_some(path));
            keys
        })
        .collect();
    let stale = EXCEPTIONS.iter().filter(|key| !known.contains(**key)).map(|key| key.to_string());
    assert_none("exceptions that nothing needs any more", stale.collect());
}

#[test]
fn function_lengths_are_measured() {
    let text = "impl X {\n    pub fn a(\n        b: u8,\n    ) -> u8 {\n        {\n        }\n    }\n    fn c();\n    fn d() {}\n}\n";
    assert_eq!(functions(text), [("a".to_owned(), 6), ("c".to_owned(), 1), ("d".to_owned(), 1)]);
}

#[test]
fn names_say_what_is_inside() {
    let banned = |path: &String| BANNED_NAMES.iter().any(|name| Path::new(path).file_name() == Some(name.as_ref()));
    assert_none("files without a name of their own", files().into_iter().filter(banned).collect());
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent = rust_files()
        .into_iter()
        .filter(|(path, text)| !is_test_file(path) && !text.starts_with("//!"))
        .map(|(path, _)| path);
    assert_none("modules that do not open with `//!`", silent.collect());
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut found = Vec::new();
    for (path, text) in code() {
        for (at, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if code.contains(".unwrap()") || code.contains(".unwrap_err()") {
                found.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    assert_none("`unwrap` outside tests; `expect` states the invariant", found);
}

#[test]
fn open_ends_name_an_issue() {
    // Put together here, so that this file is none of its own offenders.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut found = Vec::new();
    for path in files().into_iter().filter(|path| path != "Cargo.lock") {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (at, line) in text.lines().enumerate() {
            let names_issue = line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            if marks.iter().any(|mark| line.contains(mark)) && !names_issue {
                found.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    assert_none("open ends that name no issue", found);
}

#[test]
fn every_crate_forbids_unsafe_code() {
    let manifests = files().into_iter().filter(|path| path.ends_with("Cargo.toml"));
    let lax = manifests.filter(|path| {
        let text = fs::read_to_string(root().join(path)).expect("a listed file is readable");
        text.contains("[package]") && !text.contains("[lints]\nworkspace = true")
    });
    assert_none("crates that do not take the workspace's lints", lax.collect());
}

fn architecture() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there")
}

#[test]
fn architecture_stays_readable() {
    let lines = architecture().lines().count();
    assert!(lines < 300, "ARCHITECTURE.md has {lines} lines; it is meant to be read in one sitting");
}

#[test]
fn architecture_names_every_folder() {
    let text = architecture();
    let top: BTreeSet<String> =
        files().iter().filter_map(|path| path.split_once('/')).map(|(folder, _)| format!("`{folder}/`")).collect();
    let missing = top.into_iter().filter(|folder| !text.contains(folder.as_str()));
    assert_none("top folders that ARCHITECTURE.md does not name", missing.collect());
}

#[test]
fn architecture_names_no_folder_that_is_gone() {
    let text = architecture();
    // Every other piece between backticks is code.
    let named =
        text.split('`').skip(1).step_by(2).filter(|code| code.ends_with('/') && !code.contains(['<', ' ', '*']));
    let gone = named.filter(|folder| !folder.starts_with('.') || **folder == *".ci/");
    let gone = gone.filter(|folder| !root().join(folder).is_dir()).map(str::to_owned);
    assert_none("folders that ARCHITECTURE.md names and that are gone", gone.collect());
}

/// Relative links of a markdown file, without anchors.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    local.map(|target| target.split('#').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn links_between_pages_hold() {
    let mut broken = Vec::new();
    for path in files().into_iter().filter(|path| path.ends_with(".md")) {
        let text = fs::read_to_string(root().join(&path)).expect("a listed file is readable");
        let folder = root().join(&path).parent().map(PathBuf::from).unwrap_or_default();
        let missing = links(&text).into_iter().filter(|link| !folder.join(link).exists());
        broken.extend(missing.map(|link| format!("{path}: {link}")));
    }
    assert_none("links to pages that are not there", broken);
}

/// Whether `text` has a test of this name that is run.
fn has_test(text: &str, name: &str) -> bool {
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else { return false };
    let above = before.trim_end_matches(|found| found != '\n').lines().rev();
    let attributes: Vec<&str> = above.map(str::trim).take_while(|line| line.starts_with(['#', '/'])).collect();
    attributes.contains(&"#[test]") && !attributes.iter().any(|line| line.starts_with("#[ignore"))
}

#[test]
fn every_promise_names_tests_and_rows_that_are_there() {
    let page = fs::read_to_string(root().join("docs/promises.md")).expect("the promises are written down");
    let matrix = fs::read_to_string(root().join("docs/fault-matrix.md")).expect("the matrix is written down");
    let named: Vec<(&str, &str)> =
        page.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once(".rs::")).collect();
    assert!(named.len() > 20, "the promises name their tests as `path.rs::test`");
    let mut offenders = Vec::new();
    for (path, test) in named {
        let text = fs::read_to_string(root().join(format!("{path}.rs"))).unwrap_or_default();
        if !has_test(&text, test) {
            offenders.push(format!("{path}.rs has no test `{test}` that is run"));
        }
    }
    let is_row = |word: &&str| {
        let mut letters = word.chars();
        letters.next().is_some_and(|first| first.is_ascii_uppercase()) && letters.as_str().parse::<u8>().is_ok()
    };
    let proofs = page.lines().filter_map(|line| line.strip_prefix("| **")?.split(" | ").nth(1));
    let outside_code = proofs.flat_map(|proof| proof.split('`').step_by(2));
    let rows: Vec<&str> =
        outside_code.flat_map(str::split_whitespace).map(|word| word.trim_matches(',')).filter(is_row).collect();
    assert!(rows.len() > 10, "the promises name rows of the matrix");
    for row in rows.into_iter().filter(|row| !matrix.contains(&format!("\n| {row} | "))) {
        offenders.push(format!("docs/fault-matrix.md has no row {row}"));
    }
    assert_none("docs/promises.md", offenders);
}
