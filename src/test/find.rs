//! Finds test files, and the job file that each is about.

use std::fs;
use std::path::{Path, PathBuf};

use riverrun_jobs::bundled;
use riverrun_jobs::job_test::JobText;

use crate::exit::{Exit, Failure, OrExit};

/// How the names of test files end.
const ENDINGS: [&str; 2] = [".test.yaml", ".test.yml"];

/// Returns the test files that `paths` name: files, or folders with all below them; the working directory if nothing is named.
/// A job file stands for the test file beside it.
pub fn test_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here } else { paths };
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        if path.is_dir() {
            below(path, &mut found)?;
        } else if path.is_file() {
            found.push(if is_test_file(path) { path.clone() } else { beside(path)? });
        } else {
            return Err(Failure::new(Exit::NotFound, format!("there is no file or folder `{}`", path.display())));
        }
        if found.len() == before {
            let message = format!("there are no tests in `{}`", path.display());
            return Err(Failure::new(Exit::NotFound, format!("{message}\n  hint: test files end in `.test.yaml`")));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    ENDINGS.iter().any(|ending| name.ends_with(ending) && name.len() > ending.len())
}

/// Adds all test files below a folder; hidden folders and those of build tools are nobody's tests.
fn below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let cannot = || format!("cannot read the folder `{}`", folder.display());
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).or_exit(Exit::NotFound, cannot)? {
        entries.push(entry.or_exit(Exit::NotFound, cannot)?.path());
    }
    entries.sort();
    for path in entries {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // A link to a folder may lead in a circle.
        if path.is_dir() && !path.is_symlink() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                below(&path, found)?;
            }
        } else if path.is_file() && is_test_file(&path) {
            found.push(if folder == Path::new(".") { PathBuf::from(name) } else { path });
        }
    }
    Ok(())
}

/// Returns the test file beside a job file.
fn beside(job: &Path) -> Result<PathBuf, Failure> {
    let beside: Vec<PathBuf> =
        ENDINGS.iter().map(|ending| job.with_extension(ending.trim_start_matches('.'))).collect();
    beside.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let message = format!("there is no test file `{}` beside `{}`", beside[0].display(), job.display());
        Failure::new(Exit::NotFound, format!("{message}\n  hint: the names of test files end in `.test.yaml`"))
    })
}

/// Returns the job that a test file is about: `named` in it, or the job file beside it.
pub fn job_of(test: &Path, named: Option<&str>) -> Result<JobText, String> {
    let folder = test.parent().unwrap_or(Path::new(""));
    let path = match named {
        Some(named) => folder.join(named),
        None => {
            let name = test.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let stem = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
            let paths = [".yaml", ".yml"].map(|ending| folder.join(format!("{stem}{ending}")));
            let [first, _] = &paths;
            paths.iter().find(|path| path.is_file()).unwrap_or(first).clone()
        }
    };
    if !path.is_file()
        && let Some(text) = named.and_then(bundled::bundled)
    {
        return Ok(JobText { name: format!("{}.yaml", named.unwrap_or_default()), text: text.to_owned() });
    }
    match fs::read_to_string(&path) {
        Ok(text) => Ok(JobText { name: path.display().to_string(), text }),
        Err(error) => Err(format!("`{}`: {error}", path.display())),
    }
}
