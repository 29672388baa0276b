//! `riverrun test`: the tests beside the job files, on the real engine, in virtual time.
//!
//! Results are data and go to stdout, faults of test files and the last line go to stderr. Test files are all read before the first
//! test is played: a fault in one of them is worth more than the results of the others.

mod find;
mod junit;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use riverrun_jobs::fault::Report;
use riverrun_jobs::job_test::{self, CaseResult, Chances, Failure as Unexpected, TestFile};
use serde::Serialize;

use crate::args::{Global, TestArgs};
use crate::exit::{Done, Exit, Failure, OrExit};
use crate::job;
use crate::output::{self, Format, Stdout};

/// The results of a test file.
#[derive(Serialize)]
struct FileResult {
    file: String,
    job: String,
    tests: Vec<TestResult>,
}

/// The result of a test, and how long it took.
#[derive(Serialize)]
struct TestResult {
    passed: bool,
    seconds: f64,
    #[serde(flatten)]
    case: CaseResult,
}

/// All results.
#[derive(Serialize)]
struct Results {
    files: Vec<FileResult>,
    passed: usize,
    failed: usize,
    plays: usize,
    seconds: f64,
}

/// Plays all tests, and fails if one of them does.
pub fn test(args: &TestArgs, global: &Global) -> Done {
    let began = now();
    let paths = find::test_files(&args.paths)?;
    let files = read_all(&paths, global)?;
    let chances = chances(args);
    let mut stdout = Stdout::lock();
    let mut results: Vec<FileResult> = Vec::new();
    for (path, file) in paths.iter().zip(&files) {
        let mut result = play(path, file, args, &chances);
        if args.update
            && let Some(updated) = update(path, file, &result, global)?
        {
            // What was written must pass too, in every order.
            result = play(path, &updated, args, &chances);
        }
        if global.output == Format::Table && !result.tests.is_empty() {
            show(&result, &mut stdout)?;
        }
        results.push(result);
    }
    results.retain(|result| !result.tests.is_empty());
    let results = Results::of(results, began.elapsed());
    if results.passed + results.failed == 0 {
        return Err(nothing_fits(args, &files));
    }
    if global.output == Format::Json {
        stdout.document(&results)?;
    }
    stdout.flush()?;
    if let Some(path) = &args.junit {
        let written = std::fs::write(path, junit::document(&results));
        written.or_exit(Exit::Storage, || format!("cannot write `{}`", path.display()))?;
    }
    let line = results.line();
    match results.failed {
        0 if global.quiet => Ok(()),
        0 => {
            eprintln!("{line}");
            Ok(())
        }
        _ => Err(Failure::new(Exit::Failed, line)),
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a test took is shown to a person; no test sees it")]
fn now() -> Instant {
    Instant::now()
}

fn chances(args: &TestArgs) -> Chances {
    let usual = Chances::default();
    match args.seed {
        // Who names a seed wants that play.
        Some(seed) => Chances { first_seed: seed, shuffles: args.shuffles.unwrap_or(1) },
        None => Chances { shuffles: args.shuffles.unwrap_or(usual.shuffles), ..usual },
    }
}

/// Reads all test files with their jobs; all faults of all of them are reported at once.
fn read_all(paths: &[PathBuf], global: &Global) -> Result<Vec<TestFile>, Failure> {
    let mut files = Vec::new();
    let mut reports: Vec<Report> = Vec::new();
    for path in paths {
        match read(path)? {
            Ok(file) => files.push(file),
            Err(found) => reports.extend(found),
        }
    }
    if reports.is_empty() {
        return Ok(files);
    }
    if global.output == Format::Json {
        let findings = reports.iter().map(Report::to_json);
        let all: Vec<serde_json::Value> =
            findings.filter_map(|findings| findings.as_array().cloned()).flatten().collect();
        let mut stdout = Stdout::lock();
        stdout.document(&all)?;
        stdout.flush()?;
        let count = reports.iter().map(|report| report.errors() + report.warnings()).sum::<usize>();
        return Err(Failure::new(Exit::Invalid, format!("{} in the tests", output::counted(count as u64, "fault"))));
    }
    let text: Vec<String> = reports.iter().map(|report| job::rendered(report).trim_end().to_owned()).collect();
    Err(Failure::new(Exit::Invalid, text.join("\n\n")))
}

fn read(path: &Path) -> Result<Result<TestFile, Vec<Report>>, Failure> {
    let shown = path.display().to_string();
    let text =
        std::fs::read_to_string(path).or_exit(Exit::Invalid, || format!("cannot read the test file `{shown}`"))?;
    Ok(job_test::read(&shown, &text, |named| find::job_of(path, named)))
}

fn play(path: &Path, file: &TestFile, args: &TestArgs, chances: &Chances) -> FileResult {
    let chosen = |name: &str| args.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let mut tests = Vec::new();
    for (index, name) in file.names().into_iter().enumerate().filter(|(_, name)| chosen(name)) {
        tracing::info!(target: "riverrun", "playing `{name}` of {}", path.display());
        let began = now();
        let case = file.play(index, chances);
        tests.push(TestResult { passed: case.passed(), seconds: began.elapsed().as_secs_f64(), case });
    }
    FileResult { file: path.display().to_string(), job: file.job().to_owned(), tests }
}

/// Rewrites the expectations that were not met; returns the file as it is now, if it is another one.
fn update(path: &Path, file: &TestFile, result: &FileResult, global: &Global) -> Result<Option<TestFile>, Failure> {
    let cases: Vec<CaseResult> = result.tests.iter().map(|test| test.case.clone()).collect();
    let rewritten = file.rewritten(&cases);
    for (place, reason) in &rewritten.refused {
        eprintln!("{}:{}:{}: left as it is: {reason}", place.file, place.line, place.col);
    }
    if rewritten.changed == 0 {
        return Ok(None);
    }
    let shown = path.display();
    std::fs::write(path, &rewritten.text).or_exit(Exit::Storage, || format!("cannot write `{shown}`"))?;
    if !global.quiet {
        let plural = if rewritten.changed == 1 { "expectation" } else { "expectations" };
        eprintln!("{shown}: {} {plural} rewritten", rewritten.changed);
    }
    match read(path)? {
        Ok(file) => Ok(Some(file)),
        Err(reports) => {
            let text: Vec<String> = reports.iter().map(job::rendered).collect();
            Err(Failure::new(Exit::Internal, format!("the rewritten file `{shown}` has faults\n{}", text.join("\n"))))
        }
    }
}

fn nothing_fits(args: &TestArgs, files: &[TestFile]) -> Failure {
    let names: Vec<&str> = files.iter().flat_map(TestFile::names).take(20).collect();
    let filter = args.filter.as_deref().unwrap_or_default();
    Failure::new(Exit::NotFound, format!("no test's name has `{filter}` in it\n  hint: there are {}", names.join(", ")))
}

/// Shows the results of a file to a person.
fn show(result: &FileResult, stdout: &mut Stdout) -> Done {
    stdout.line(&result.file)?;
    for test in &result.tests {
        let (word, plays) = (if test.passed { "ok  " } else { "FAIL" }, test.case.plays);
        let plural = if plays == 1 { "play" } else { "plays" };
        stdout.line(&format!("  {word}  {}  ({plays} {plural})", test.case.name))?;
        for failure in &test.case.failures {
            stdout.bytes(indented(&explained(failure), 8).as_bytes())?;
        }
    }
    Ok(())
}

/// Returns what was not as expected, for people.
fn explained(failure: &Unexpected) -> String {
    let mut text = format!("{}: {}\n", failure.play, failure.message);
    if let Some(place) = &failure.place {
        text.push_str(&format!("  at {}:{}:{}\n", place.file, place.line, place.col));
    }
    text.push_str(&indented(&failure.table, 4));
    text
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

impl Results {
    fn of(files: Vec<FileResult>, took: Duration) -> Results {
        let tests = || files.iter().flat_map(|file| &file.tests);
        let passed = tests().filter(|test| test.passed).count();
        let (failed, plays) = (tests().count() - passed, tests().map(|test| test.case.plays).sum());
        Results { passed, failed, plays, seconds: took.as_secs_f64(), files }
    }

    /// Returns the last line.
    fn line(&self) -> String {
        let Results { passed, failed, plays, seconds, files } = self;
        let plural = if files.len() == 1 { "file" } else { "files" };
        format!("{passed} passed, {failed} failed in {} {plural}; {plays} plays in {seconds:.2} s", files.len())
    }
}
