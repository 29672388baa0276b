//! Case files: job files with faults, and the reports that a person reads. `UPDATE=1` writes what is reported now.

use std::fs;
use std::path::PathBuf;

/// Between the job and its report.
const REPORT: &str = "\n----\n";
/// Between cases.
const NEXT: &str = "\n====\n";

fn reported(job: &str) -> String {
    match riverrun_jobs::check("job.yaml", job, &[]) {
        Ok((_, report)) if report.is_empty() => "no fault\n".to_owned(),
        Ok((_, report)) | Err(report) => report.to_string(),
    }
}

#[test]
fn reports_are_as_reviewed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "case"));
    files.sort();
    assert!(!files.is_empty());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let jobs = text.trim_end().split(NEXT).map(|case| case.split_once(REPORT).map_or(case, |(job, _)| job));
        let cases: Vec<String> =
            jobs.map(|job| format!("{job}{REPORT}{}", reported(&format!("{job}\n")).trim_end())).collect();
        let now = format!("{}\n", cases.join(NEXT));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, now).unwrap();
        } else {
            assert!(text == now, "{} is not what is reported now:\n{now}", path.display());
        }
    }
}
