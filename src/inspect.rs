//! `riverrun check`, `explain`, `schema` and `new`: what can be said of a job without running it.

use std::io::Write;
use std::path::Path;

use riverrun_jobs::bundled::{JobFile, beginnings, starter};
use riverrun_jobs::explain::{self, Form};
use riverrun_jobs::schema::{json_schema, test_schema};

use crate::args::{CheckArgs, ConnectorsArgs, ExplainArgs, Global, GraphFormat, NewArgs, SchemaArgs};
use crate::connectors;
use crate::exit::{Done, Exit, Failure, OrExit};
use crate::job;
use crate::output::{self, Format, Stdout};

/// Checks every job, and reports every fault of all of them before it fails.
pub fn check(args: &CheckArgs, global: &Global) -> Done {
    let mut stdout = Stdout::lock();
    let mut findings = Vec::new();
    let mut errors = 0;
    for name in &args.jobs {
        let text = job::read(name)?;
        let (report, plan) = match riverrun_jobs::check(&text.name, &text.text, &args.set) {
            Ok((plan, report)) => (report, Some(plan)),
            Err(report) => (report, None),
        };
        errors += report.errors();
        match (global.output, plan) {
            (Format::Json, plan) => findings.push(serde_json::json!({
                "job": plan.as_ref().map(|plan| plan.name()), "file": text.name, "valid": plan.is_some(), "findings": report.to_json(),
                "more": report.more(),
            })),
            (Format::Table, plan) => {
                if !report.is_empty() {
                    eprintln!("{}", job::rendered(&report).trim_end());
                }
                if let Some(plan) = plan {
                    let parts = [plan.source_names().len(), plan.step_names().len(), plan.sink_names().len()];
                    let [sources, steps, sinks] = parts;
                    stdout.line(&format!("{}: job `{}` is valid: {sources} sources, {steps} steps, {sinks} sinks", text.name, plan.name()))?;
                }
            }
        }
    }
    if global.output == Format::Json {
        stdout.document(&findings)?;
    }
    stdout.flush()?;
    match errors {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Invalid, "1 fault")),
        some => Err(Failure::new(Exit::Invalid, format!("{some} faults"))),
    }
}

/// Shows what a job will do.
pub fn explain(args: &ExplainArgs, global: &Global) -> Done {
    let plan = job::plan(&args.job, &args.set, global)?;
    let form = match (args.format, global.output) {
        (Some(GraphFormat::Text), _) | (None, Format::Table) => Form::Text,
        (Some(GraphFormat::Json), _) | (None, Format::Json) => Form::Json,
        (Some(GraphFormat::Dot), _) => Form::Dot,
        (Some(GraphFormat::Mermaid), _) => Form::Mermaid,
    };
    let mut stdout = Stdout::lock();
    stdout.bytes(explain::explain(&plan, form).as_bytes())?;
    stdout.flush()
}

/// Prints the JSON Schema of job files, or of test files.
pub fn schema(args: &SchemaArgs) -> Done {
    let mut stdout = Stdout::lock();
    stdout.document(&if args.tests { test_schema() } else { json_schema() })?;
    stdout.flush()
}

/// Lists the connectors, or prints the schema of one.
pub fn connectors(args: &ConnectorsArgs, global: &Global) -> Done {
    let all = connectors::all();
    let mut stdout = Stdout::lock();
    match (&args.kind, global.output) {
        (Some(kind), _) => {
            let known =
                || all.connectors.iter().map(|connector| connector.kind.as_str()).collect::<Vec<_>>().join(", ");
            let schema = connectors::schema_of(kind).ok_or_else(|| {
                Failure::new(Exit::NotFound, format!("there is no connector `{kind}`\n  hint: there are {}", known()))
            })?;
            stdout.document(&schema)?;
        }
        (None, Format::Json) => stdout.document(&all)?,
        (None, Format::Table) => {
            let says = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let rows = all.connectors.iter().map(|it| vec![it.kind.clone(), says(&it.source), says(&it.sink)]);
            stdout.line(&output::table(&["connector", "as a source", "as a sink"], &[], rows.collect()).to_string())?;
        }
    }
    stdout.flush()
}

/// Begins a job, or lists what one can begin with.
pub fn new(args: &NewArgs, global: &Global) -> Done {
    let Some(template) = &args.template else { return list_starters(global) };
    let named = args.to.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str());
    let name = named.map_or_else(|| format!("my-{template}"), job_name);
    let Some(text) = starter(template, &name) else {
        let known: Vec<&str> = beginnings().map(|starter| starter.name).collect();
        let message = format!("there is no starter `{template}`\n  hint: there are {}", known.join(", "));
        return Err(Failure::new(Exit::NotFound, message));
    };
    let Some(path) = &args.to else {
        let mut stdout = Stdout::lock();
        stdout.bytes(text.as_bytes())?;
        return stdout.flush();
    };
    let shown = path.display();
    let opened = std::fs::File::options().write(true).create_new(true).open(path);
    if opened.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists) {
        return Err(Failure::new(Exit::Conflict, format!("`{shown}` is there already; it is left as it is")));
    }
    let cannot = || format!("cannot write `{shown}`");
    let mut file = opened.or_exit(Exit::Storage, cannot)?;
    file.write_all(text.as_bytes()).or_exit(Exit::Storage, cannot)?;
    if !global.quiet {
        eprintln!("wrote {shown}\n  next: riverrun check {shown}");
    }
    Ok(())
}

fn list_starters(global: &Global) -> Done {
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => {
            let one = |starter: &JobFile| serde_json::json!({ "template": starter.name, "about": starter.about });
            stdout.document(&beginnings().map(one).collect::<Vec<_>>())?;
        }
        Format::Table => {
            let rows = beginnings().map(|starter| vec![starter.name.to_owned(), starter.about.to_owned()]);
            stdout.line(&output::table(&["template", "about"], &[], rows.collect()).to_string())?;
            eprintln!("\n  next: riverrun new TEMPLATE --to my-job.yaml");
        }
    }
    stdout.flush()
}

/// Makes a file's name a job's: small letters, digits and hyphens, at most 63.
fn job_name(stem: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = stem.chars().map(plain).take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "my-job".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_becomes_a_job_name() {
        assert_eq!(job_name("My first_job"), "my-first-job");
        assert_eq!(job_name("---"), "my-job");
        assert_eq!(job_name(&"x".repeat(100)).len(), 63);
    }
}
