//! Finding a job by file or name, checking it, and saying what is wrong with it.

use std::path::Path;

use riverrun_connectors::reach::Reach;
use riverrun_jobs::fault::{Report, Style};
use riverrun_jobs::{Environment, Plan, RegistryPlace, Topics, bundled};

use crate::args::{Global, JobArgs};
use crate::exit::{Exit, Failure, OrExit};
use crate::output::{self, Format, Stdout};
use crate::topic::TOPICS;

/// A job file: its name as messages call it, and its text.
pub struct Text {
    /// The path, or the name of the bundled job.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// Reads a job file, or takes a bundled one.
pub fn read(job: &str) -> Result<Text, Failure> {
    let path = Path::new(job);
    if path.is_file() {
        let text =
            std::fs::read_to_string(path).or_exit(Exit::Invalid, || format!("cannot read the job file `{job}`"))?;
        return Ok(Text { name: job.to_owned(), text });
    }
    if let Some(text) = bundled::bundled(job) {
        return Ok(Text { name: format!("{job}.yaml"), text: text.to_owned() });
    }
    let known: Vec<&str> = bundled::BUNDLED.iter().map(|job| job.name).collect();
    Err(Failure::new(
        Exit::NotFound,
        format!(
            "there is no job file `{job}`, and no bundled job of that name\n  hint: bundled jobs are {}; `riverrun new` begins one of your own",
            known.join(", ")
        ),
    ))
}

/// Checks a job; warnings are said, faults end the command with exit code 78.
pub fn plan(job: &str, set: &[String], global: &Global) -> Result<Plan, Failure> {
    let text = read(job)?;
    match riverrun_jobs::check(&text.name, &text.text, set) {
        Ok((plan, report)) => {
            if !report.is_empty() && !global.quiet {
                eprint!("{}", rendered(&report));
            }
            Ok(plan)
        }
        Err(report) => Err(faulty(&report, global)),
    }
}

/// Returns the failure of a job that has faults. With `-o json` they stand on stdout, for programs.
pub fn faulty(report: &Report, global: &Global) -> Failure {
    if global.output == Format::Json {
        let mut stdout = Stdout::lock();
        if let Err(failure) = stdout.document(&report.to_json()).and_then(|()| stdout.flush()) {
            return failure;
        }
        return Failure::new(Exit::Invalid, format!("{} in the job", output::counted(report.errors() as u64, "fault")));
    }
    Failure::new(Exit::Invalid, rendered(report))
}

/// Returns a report as people read it on stderr.
pub fn rendered(report: &Report) -> String {
    report.render(if output::stderr_has_colours() { Style::Coloured } else { Style::Plain })
}

/// Returns where a job runs.
pub fn environment(args: &JobArgs, until_end: bool) -> Environment {
    let reach = if args.public_hosts_only { Reach::Public } else { Reach::Anywhere };
    environment_at(args.topics.as_deref(), (args.schema_registry.as_deref(), reach), until_end)
}

/// Returns where a job runs whose topics and schema registry are at these addresses, or where topics are if nobody says.
pub fn environment_at(topics: Option<&str>, (registry, reach): (Option<&str>, Reach), until_end: bool) -> Environment {
    Environment {
        topics: Topics::parse(topics.unwrap_or(TOPICS)),
        until_end,
        registry: registry.map_or(RegistryPlace::Nowhere, |text| RegistryPlace::parse(text, reach)),
    }
}

/// Returns how many workers a job gets: one per core if nobody says.
pub fn workers(asked: Option<u16>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    asked.map_or_else(cores, usize::from)
}
