//! Jobs: listed, shown, checked, submitted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::{StatusCode, header};
use riverrun_jobs::explain::{self, Form};
use riverrun_jobs::fault::Report;
use riverrun_jobs::outside;
use riverrun_jobs::spec::values;
use riverrun_jobs::upgrade::{self, Fate, Part, Status, UpgradeOptions, UpgradeReport};

use super::PREFIX;
use super::acts::{begin, new_id, waits_no_longer};
use super::call::{Answer, Call};
use super::shapes::{Checked, Explained, JobList, JobView, PartView, Submit, Submitted};
use crate::manager::Manager;
use crate::manager::decide::classify;
use crate::manager::moment::Moment;
use crate::manager::phase::Phase;
use crate::manager::problem::{Kind, Problem};
use crate::manager::record::{Change, ChangeKind, Job, Spec, Task, Wanted};
use crate::manager::secrets::{self, Sensitive};

/// Jobs of a list, unless somebody says otherwise.
const LISTED: usize = 100;
/// The longest job file.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Lists jobs by name.
pub fn list(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let limit = call.number("limit", 1..=1000)?.unwrap_or(LISTED);
    let wanted = call.query("state").map(phase_named).transpose()?;
    let after = call.query("cursor").unwrap_or_default();
    let all = manager.store.jobs()?;
    let mut fitting = all.iter().filter(|job| {
        job.name.as_str() > after && call.caller.knows(&job.name) && wanted.is_none_or(|phase| job.phase == phase)
    });
    let jobs: Vec<JobView> = fitting.by_ref().take(limit).map(JobView::brief).collect();
    let next = fitting.next().and(jobs.last()).map(|last| last.name.clone());
    Ok(Answer::json(&JobList { jobs, next }))
}

fn phase_named(name: &str) -> Result<Phase, Problem> {
    Phase::ALL.iter().copied().find(|phase| phase.name() == name).ok_or_else(|| {
        let known: Vec<&str> = Phase::ALL.iter().map(|phase| phase.name()).collect();
        Problem::new(
            Kind::BadRequest,
            format!("there is no state `{}`; there are {}", name.escape_debug(), known.join(", ")),
        )
    })
}

/// Shows a job.
pub fn show(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    Ok(Answer::json(&JobView::whole(&job)).header(header::ETAG, etag(&job)))
}

/// Returns what names a revision of a job.
pub fn etag(job: &Job) -> String {
    format!("\"{}\"", job.revision)
}

/// Checks a job file.
pub fn validate(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let submit: Submit = call.body()?;
    let (plan, report) = manager.vetted(&own_name(call, &submit), &submit)?;
    Ok(Answer::json(&Checked { job: plan.name().to_owned(), findings: Problem::faulty(&report).errors }))
}

/// Says what a job would do.
pub fn explain(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let submit: Submit = call.body()?;
    let (plan, report) = manager.vetted(&own_name(call, &submit), &submit)?;
    let graph: serde_json::Value = serde_json::from_str(&explain::explain(&plan, Form::Json))
        .map_err(|error| Problem::new(Kind::Internal, format!("the graph cannot be read: {error}")))?;
    let (job, text) = (plan.name().to_owned(), explain::explain(&plan, Form::Text));
    Ok(Answer::json(&Explained { job, text, graph, findings: Problem::faulty(&report).errors }))
}

/// Returns the name of the job that a file is of, if whoever asks may know it: secrets that were given before are those of the job.
pub fn own_name(call: &Call, submit: &Submit) -> String {
    let name = outside::name_of(&submit.spec.text, &submit.spec.set).filter(|name| call.caller.knows(name));
    name.filter(|name| values::job_name(name).is_ok()).unwrap_or_default()
}

/// Creates a job or changes it.
pub fn submit(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let name = call.job()?.to_owned();
    let dry_run = call.switch("dryRun")?;
    let submit: Submit = call.body()?;
    let before = manager.store.job(&name)?;
    let expected = expected(call)?;
    matches_revision(before.as_ref(), expected)?;
    let (plan, report) = manager.vetted(&name, &submit)?;
    if plan.name() != name {
        let detail = format!("the job file is of job `{}`, and this is the place of job `{name}`", plan.name());
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    let mut shown = Submitted {
        job: name.clone(),
        revision: before.as_ref().map_or(1, |job| job.revision + 1),
        created: before.is_none(),
        change: None,
        parts: Vec::new(),
        to_allow: Vec::new(),
        before: before.as_ref().map(|job| job.spec.clone()),
        findings: Problem::faulty(&report).errors,
        operation: None,
    };
    if let Some(before) = &before {
        manager.compare(before, &submit, &plan, &mut shown)?;
    }
    if dry_run {
        return Ok(Answer::json(&shown));
    }
    if !shown.to_allow.is_empty() {
        return Err(needs_allow(&shown));
    }
    let data = &manager.processes.places().data;
    secrets::keep(data, &name, &submit.secrets)
        .map_err(|error| Problem::new(Kind::Storage, format!("the secrets cannot be kept: {error}")))?;
    let id = new_id()?;
    let repeat = call.repeat()?;
    let changed = manager.store.change(&name, repeat.as_deref(), |job| match job {
        None if before.is_none() => {
            let mut job = Job::new(&name, submit.spec.clone(), Moment::now());
            let operation = begin(&mut job, id, "submit", Phase::Running);
            Ok((job, Some(operation)))
        }
        Some(mut job) if before.as_ref().is_some_and(|before| before.revision == job.revision) => {
            change(&mut job, &submit, &shown)?;
            // One that is not to run takes the change up when it is resumed.
            let runs = job.wanted == Wanted::Running;
            let operation = runs.then(|| begin(&mut job, id, "submit", Phase::Running));
            Ok((job, operation))
        }
        _ => Err(Problem::new(Kind::Stale, format!("job `{name}` was changed meanwhile\n  hint: look at it again"))),
    });
    let (job, operation) = changed?;
    manager.wake(&name);
    shown.revision = job.revision;
    shown.operation = operation.clone();
    let answer = Answer::with(StatusCode::ACCEPTED, &shown).header(header::ETAG, etag(&job));
    Ok(match operation {
        Some(operation) => answer.header(header::LOCATION, format!("{PREFIX}/operations/{}", operation.id)),
        None => answer,
    })
}

/// Changes a job as it was submitted.
fn change(job: &mut Job, submit: &Submit, shown: &Submitted) -> Result<(), Problem> {
    if job.wanted == Wanted::Deleted {
        return Err(Problem::new(Kind::Conflict, format!("job `{}` is being deleted", job.name)));
    }
    if matches!(job.pending, Some(Task::Move { .. })) {
        let detail = format!("the offsets of job `{}` are being moved\n  hint: wait until that is done", job.name);
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let is_at_an_end = matches!(job.phase, Phase::Failing | Phase::Failed | Phase::Finishing | Phase::Finished);
    job.restart = job.restart || is_at_an_end;
    if job.wanted == Wanted::Running {
        // Whatever it died of: this is to be tried now.
        waits_no_longer(job);
    }
    if job.change.is_some() && job.spec == submit.spec {
        // The same again: what is under way leads there.
        return Ok(());
    }
    if job.change.as_ref().is_some_and(|change| change.done) {
        let detail = format!("a change of job `{}` is under way\n  hint: wait for it, or cancel the job", job.name);
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let kind = shown.change.unwrap_or(ChangeKind::Nothing);
    // What a job was before two changes, of which the first was not begun, is what it was before the first.
    let former = job.change.take();
    let from = former.as_ref().map_or_else(|| job.spec.clone(), |change| change.from.clone());
    let kind = former.map_or(kind, |change| change.kind.max(kind));
    job.spec = submit.spec.clone();
    job.revision += 1;
    if kind == ChangeKind::Nothing {
        return Ok(());
    }
    let savepoint = (kind == ChangeKind::Upgrade).then(|| super::state::before_change(job.revision));
    job.change = Some(Change { savepoint, allow: submit.allow_reset.clone(), ..Change::new(kind, from) });
    Ok(())
}

/// Returns the revision to which `If-Match` holds the request; 0: that there is no job.
pub fn expected(call: &Call) -> Result<Option<u64>, Problem> {
    if call.header("if-none-match") == Some("*") {
        return Ok(Some(0));
    }
    let Some(text) = call.header("if-match") else { return Ok(None) };
    let revision = text.trim_matches('"').parse();
    let revision = revision.map_err(|_| Problem::new(Kind::BadRequest, "`If-Match` is an `ETag` of this job"))?;
    Ok(Some(revision))
}

/// Checks that a job is at the revision that is expected.
pub fn matches_revision(job: Option<&Job>, expected: Option<u64>) -> Result<(), Problem> {
    let there = job.map_or(0, |job| job.revision);
    match expected {
        Some(expected) if expected != there => {
            let detail = format!("the job is at revision {there}, not {expected}\n  hint: look at it again");
            Err(Problem::new(Kind::Stale, detail))
        }
        _ => Ok(()),
    }
}

fn needs_allow(shown: &Submitted) -> Problem {
    let flags: Vec<String> = shown.to_allow.iter().map(|name| format!("--allow-reset {name}")).collect();
    let detail = format!(
        "the change of job `{}` would lose something of {}\n  hint: allow it by name, {}, or change the job file so that nothing is lost; --dry-run shows what becomes of each part",
        shown.job,
        shown.to_allow.join(", "),
        flags.join(" "),
    );
    Problem::new(Kind::NeedsAllowReset, detail)
}

impl Manager {
    /// Returns a job that is there.
    pub fn job(&self, name: &str) -> Result<Job, Problem> {
        self.store.job(name)?.ok_or_else(|| Problem::no_job(name))
    }

    /// Checks what is submitted: its size, what it names, its secrets, and that it is a job.
    pub fn vetted(&self, job: &str, submit: &Submit) -> Result<(riverrun_jobs::Plan, Report), Problem> {
        let spec = &submit.spec;
        if spec.text.len() > TEXT_BYTES_MAX {
            return Err(Problem::new(Kind::TooLarge, format!("a job file is at most {TEXT_BYTES_MAX} bytes")));
        }
        if spec.replay.is_some() {
            let detail = "a replay is not submitted\n  hint: POST /jobs/{job}/replay begins one";
            return Err(Problem::new(Kind::BadRequest, detail));
        }
        self.check_scale(spec)?;
        for name in submit.secrets.keys() {
            secrets::check_name(name).map_err(|rule| Problem::new(Kind::BadRequest, rule))?;
        }
        self.check_secrets(job, spec, &submit.secrets)?;
        self.policy.check(spec)?;
        self.plan(job, spec)
    }

    /// Checks that every secret that a job refers to is given, or was before.
    pub fn check_secrets(&self, job: &str, spec: &Spec, given: &BTreeMap<String, Sensitive>) -> Result<(), Problem> {
        let data = &self.processes.places().data;
        let missing: BTreeSet<&str> = texts(spec)
            .flat_map(secrets::names)
            .filter(|name| !given.contains_key(*name) && !secrets::is_kept(data, job, name))
            .collect();
        let Some(name) = missing.first() else { return Ok(()) };
        let all = missing.iter().copied().collect::<Vec<_>>().join(", ");
        let detail = format!(
            "the job refers to secrets that were not given: {all}\n  hint: `riverrun submit` gives them from its own environment: set {name} there. The manager's environment is not for jobs"
        );
        Err(Problem::new(Kind::InvalidJob, detail))
    }

    /// Says what a submission would change of a job.
    fn compare(
        &self,
        before: &Job,
        submit: &Submit,
        plan: &riverrun_jobs::Plan,
        shown: &mut Submitted,
    ) -> Result<(), Problem> {
        let old_hash = self.plan(&before.name, &before.spec).map(|(plan, _)| plan.hash().to_owned());
        let kind = classify(&before.spec, &submit.spec, &old_hash.unwrap_or_default(), plan.hash());
        shown.change = Some(kind);
        if kind != ChangeKind::Upgrade {
            return Ok(());
        }
        let (state, allow) = (self.state()?, submit.allow_reset.clone());
        let options = UpgradeOptions { state, allow, savepoint: None, dry_run: true };
        let environment = self.environment(&before.name, &submit.spec);
        let report = upgrade::upgrade(plan, &environment, &options, |_| {})?;
        if report.status == Status::Planned {
            shown.parts = report.parts.iter().map(part_view).collect();
            shown.to_allow = report.to_allow.clone();
            self.can_be_drained(before, &report)?;
        }
        Ok(())
    }

    /// Refuses to upgrade a job that does not run and was not drained: nobody would drain it.
    fn can_be_drained(&self, before: &Job, report: &UpgradeReport) -> Result<(), Problem> {
        match &report.obstacle {
            Some(obstacle) if before.phase.is_at_rest() => Err(Problem::new(Kind::Conflict, obstacle.clone())),
            _ => Ok(()),
        }
    }
}

/// The texts of a submission in which secrets may be referred to.
fn texts(spec: &Spec) -> impl Iterator<Item = &str> {
    let places = [&spec.topics, &spec.schema_registry].into_iter().flatten();
    std::iter::once(&spec.text).chain(&spec.set).chain(places).map(String::as_str)
}

fn part_view(part: &Part) -> PartView {
    let fate = match part.fate {
        Fate::Kept => "kept",
        Fate::Migrated => "migrated",
        Fate::Reset => "reset",
        Fate::New => "new",
        Fate::Gone => "gone",
    };
    let kind = match part.kind {
        upgrade::Kind::Source => "source",
        upgrade::Kind::Step => "step",
        upgrade::Kind::Sink => "sink",
    };
    let (name, notes) = (part.name.clone(), part.notes.clone());
    PartView { kind: kind.to_owned(), name, fate: fate.to_owned(), loses: part.loses, notes }
}
