//! A Python with what others read and write our data with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names one that has the modules; without, the one on the path is tried.
const PYTHON: &str = "RIVERRUN_TEST_PYTHON";
/// Where nothing may be left out.
const ALL: &str = "RIVERRUN_TEST_ALL";

/// Returns a Python that can import `modules`; `None` if there is none, which is said. With `RIVERRUN_TEST_ALL` it must be there.
pub fn python(modules: &str) -> Option<PathBuf> {
    let named = std::env::var_os(PYTHON).filter(|python| !python.is_empty());
    let python = PathBuf::from(named.unwrap_or_else(|| OsString::from("python3")));
    let mut tried = Command::new(&python);
    let has_modules = tried.args(["-c", &format!("import {modules}")]).stderr(Stdio::null()).status();
    if !has_modules.is_ok_and(|status| status.success()) {
        assert!(
            std::env::var_os(ALL).is_none_or(|all| all.is_empty()),
            "there is no Python with {modules}, and {ALL} lets nothing be left out"
        );
        eprintln!("LEFT OUT: there is no Python with {modules}; name one in {PYTHON}");
        return None;
    }
    Some(python)
}

/// Runs a script of `tests/fixtures` in a folder, which must go well, and returns what it prints.
pub fn fixture<'a>(python: &Path, script: &str, arguments: impl IntoIterator<Item = &'a str>, folder: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(script);
    let said = Command::new(python).arg(path).args(arguments).current_dir(folder).output().expect("Python starts");
    let printed = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{script}: {printed}{}", String::from_utf8_lossy(&said.stderr));
    printed
}
