//! `submit`: a job file goes to a manager, with the values of its secrets beside it.

use std::collections::BTreeMap;

use reqwest::Method;
use riverrun_jobs::outside;
use riverrun_jobs::spec::values;
use serde_json::{Value, json};
use similar::TextDiff;

use super::http::Client;
use super::wait::wait;
use crate::args::{Global, SubmitArgs};
use crate::exit::{Done, Exit, Failure};
use crate::job;
use crate::manager::{ChangeKind, PartView, Spec, Submitted, secret_names};
use crate::output::{self, Format, Stdout};

/// Lines around a change that are shown with it.
const AROUND: usize = 3;

/// Submits a job, or says what that would do.
pub fn submit(args: &SubmitArgs, global: &Global) -> Done {
    if args.diff && !args.dry_run {
        return Err(Failure::new(Exit::Usage, "--diff shows what would change\n  hint: together with --dry-run"));
    }
    let client = Client::of(&args.server, global)?;
    let text = job::read(&args.job.job)?;
    let spec = Spec {
        file: text.name,
        text: text.text,
        set: args.job.set.clone(),
        topics: args.job.topics.clone(),
        schema_registry: args.job.schema_registry.clone(),
        processes: args.processes,
        workers: args.workers,
        until_end: args.until_end,
        limits: args.limits.limits(),
        replay: None,
    };
    let body = json!({ "spec": spec, "secrets": secrets(&spec), "allowReset": args.allow_reset });
    let path = format!("/jobs/{}{}", name(&spec, global)?, if args.dry_run { "?dryRun=true" } else { "" });
    let revision = args.if_revision.map(|revision| format!("\"{revision}\""));
    let headers: Vec<(&str, &str)> = revision.iter().map(|revision| ("if-match", revision.as_str())).collect();
    let answer = client.ask(Method::PUT, &path, Some(body), &headers)?;
    let submitted: Submitted = client.read(&answer)?;
    if !global.quiet {
        for finding in &submitted.findings {
            eprintln!("warning[{}]: {}", finding.code, finding.message);
        }
    }
    if args.dry_run {
        return show_plan(&submitted, &spec, args.diff, global);
    }
    match submitted.operation.clone() {
        Some(operation) => wait(&client, operation, &args.wait, global),
        None => {
            if !global.quiet {
                eprintln!(
                    "job `{}` is not to run: `riverrun resume {}` takes the change up",
                    submitted.job, submitted.job
                );
            }
            if global.output == Format::Json { document(&submitted) } else { Ok(()) }
        }
    }
}

/// Returns the name of the job. A file that names none is looked at here: the manager has no place for it.
fn name(spec: &Spec, global: &Global) -> Result<String, Failure> {
    match outside::name_of(&spec.text, &spec.set).filter(|name| values::job_name(name).is_ok()) {
        Some(name) => Ok(name),
        None => match riverrun_jobs::check(&spec.file, &spec.text, &spec.set) {
            Ok((plan, _)) => Ok(plan.name().to_owned()),
            Err(report) => Err(job::faulty(&report, global)),
        },
    }
}

/// Returns the values of the secrets that a job refers to and that stand in the environment here. For others the manager may have
/// values from before.
fn secrets(spec: &Spec) -> BTreeMap<String, Value> {
    let places = [&spec.topics, &spec.schema_registry].into_iter().flatten();
    let texts = std::iter::once(&spec.text).chain(&spec.set).chain(places);
    let names = texts.flat_map(|text| secret_names(text));
    names.filter_map(|name| Some((name.to_owned(), Value::String(std::env::var(name).ok()?)))).collect()
}

fn document(submitted: &Submitted) -> Done {
    let mut stdout = Stdout::lock();
    stdout.document(submitted)?;
    stdout.flush()
}

fn show_plan(submitted: &Submitted, spec: &Spec, diff: bool, global: &Global) -> Done {
    if global.output == Format::Json {
        return document(submitted);
    }
    let mut stdout = Stdout::lock();
    if !submitted.parts.is_empty() {
        let row = |part: &PartView| {
            let needs = if part.loses && submitted.to_allow.contains(&part.name) { "--allow-reset" } else { "" };
            vec![part.kind.clone(), part.name.clone(), part.fate.clone(), needs.to_owned(), part.notes.join("; ")]
        };
        let rows = submitted.parts.iter().map(row).collect();
        stdout.line(&output::table(&["", "name", "state", "needs", "why"], &[], rows).to_string())?;
    }
    if let (true, Some(before)) = (diff, &submitted.before) {
        stdout.bytes(changed_lines(before, spec).as_bytes())?;
    }
    stdout.flush()?;
    if !global.quiet {
        eprintln!("nothing was done; without --dry-run {}", would(submitted));
    }
    Ok(())
}

fn would(submitted: &Submitted) -> String {
    let job = &submitted.job;
    match submitted.change {
        None => format!("job `{job}` would be created"),
        Some(ChangeKind::Nothing) => format!("job `{job}` would go on as it is"),
        Some(ChangeKind::Restart) => format!("job `{job}` would be stopped cleanly and started again"),
        Some(ChangeKind::Rescale) => {
            format!("job `{job}` would be stopped cleanly and go on with other processes or workers")
        }
        Some(ChangeKind::Upgrade) if submitted.to_allow.is_empty() => {
            format!("job `{job}` would be stopped with a savepoint, upgraded and started again")
        }
        Some(ChangeKind::Upgrade) => {
            let flags: Vec<String> = submitted.to_allow.iter().map(|name| format!("--allow-reset {name}")).collect();
            format!("job `{job}` would be upgraded, with {}", flags.join(" "))
        }
    }
}

/// Returns the lines of a job that change, with its options as lines before those of its file.
fn changed_lines(before: &Spec, after: &Spec) -> String {
    let lines = |spec: &Spec| {
        let mut text = String::new();
        let mut put = |name: &str, value: &str| text.push_str(&format!("# --{name} {value}\n"));
        spec.topics.iter().for_each(|topics| put("topics", topics));
        spec.schema_registry.iter().for_each(|registry| put("schema-registry", registry));
        spec.set.iter().for_each(|set| put("set", set));
        put("processes", &spec.processes.to_string());
        put("workers", &spec.workers.to_string());
        if !spec.limits.are_none() {
            put("limits", &serde_json::to_string(&spec.limits).expect("our own types are representable"));
        }
        text + &spec.text
    };
    let (old, new) = (lines(before), lines(after));
    TextDiff::from_lines(&old, &new)
        .unified_diff()
        .context_radius(AROUND)
        .header("as it is", "as submitted")
        .to_string()
}
