//! `riverrun demo`: a shop's traffic, made here, run through the bundled jobs, and what comes of it in the terminal.

mod board;
mod dice;
mod files;
mod publish;
mod signups;
mod traffic;
mod visits;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::engine::{Control, Observer};
use riverrun_jobs::run::{self, Outcome, RunError, RunOptions};
use riverrun_jobs::{Environment, Plan, RegistryPlace, Topics};
use serde_json::json;

use crate::args::{DemoArgs, Global};
use crate::exit::{Done, Exit, Failure, OrExit};
use crate::job;
use crate::output::{self, Format, Stdout, grouped};
use crate::signals::{self, Asked};
use board::Board;
use files::Written;
use publish::{Until, publish};
use traffic::{Settings, Traffic};

/// Rows per second where nobody says otherwise.
const RATE: u32 = 2_000;
/// Rows per second of event time in files, where nobody says otherwise.
const FILE_RATE: u32 = 200;
/// Rows in files, where nobody says otherwise.
const FILE_ROWS: u64 = 100_000;
/// How much has happened when the demo begins.
const HISTORY: Duration = Duration::from_secs(300);
/// The demo's folder, where nobody says otherwise.
const FOLDER: &str = ".riverrun/demo";
/// What says that a folder is the demo's own, and may be emptied.
const MARK: &str = ".riverrun-demo";
/// Items on the board: with what else is on it, it fits a terminal of 80 by 24.
const ITEMS: usize = 5;
/// How often the board is drawn on a terminal, and written elsewhere.
const DRAWN_EVERY: Duration = Duration::from_secs(1);
const WRITTEN_EVERY: Duration = Duration::from_secs(5);
/// The jobs, and what of them is otherwise here, so that a minute shows what takes hours: a visit is over after a silence of twenty
/// seconds, rates are by the minute, who is shown a variant has a minute to buy, and rows that come late are waited for a few seconds.
const JOBS: [(&str, &[&str]); 8] = [
    ("attribution", &[]),
    ("item-minutes", &[]),
    ("attribution-models", &["steps.credited.attribute.lateness=5s"]),
    (
        "conversion",
        &[
            "steps.hours.window.tumble=1m",
            "steps.credited.attribute.lateness=5s",
            "steps.seen.deduplicate.lateness=5s",
            "steps.placed.deduplicate.lateness=5s",
        ],
    ),
    ("sessions", &["steps.visits.sessionize.gap=20s", "steps.visits.sessionize.lateness=5s"]),
    ("frustration", &[]),
    ("telemetry-funnel", &[]),
    ("ab-test", &["steps.users.funnel.within=1m"]),
];

/// Runs the demo.
pub fn demo(args: &DemoArgs, global: &Global) -> Done {
    let asked = signals::notice()?;
    if !args.generate_only {
        return run_jobs(args, global, &asked);
    }
    let written = match (&args.out, &args.topics) {
        (Some(folder), _) => {
            let traffic = Traffic::new(settings(args, args.rate.unwrap_or(FILE_RATE)));
            files::write(traffic, args.rows.unwrap_or(FILE_ROWS), folder, &asked)?
        }
        (None, Some(dir)) => {
            let settings = settings(args, args.rate.unwrap_or(RATE));
            publish(settings, dir, args.history.unwrap_or_default(), until(args), &asked, &Arc::default())?
        }
        (None, None) => {
            return Err(Failure::new(
                Exit::Usage,
                "--generate-only needs a place: --out DIR for files, --topics DIR for topics",
            ));
        }
    };
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&written)?,
        Format::Table => stdout.line(&said(&written))?,
    }
    stdout.flush()
}

/// What the traffic is like, by the options.
fn settings(args: &DemoArgs, rate: u32) -> Settings {
    let usual = Settings { seed: args.seed, users: args.users, items: args.items, rate, ..Settings::default() };
    match args.clean {
        true => Settings { late_ppm: 0, duplicate_ppm: 0, broken_ppm: 0, ..usual },
        false => usual,
    }
}

fn until(args: &DemoArgs) -> Until {
    Until { rows: args.rows, span: args.r#for }
}

fn said(written: &Written) -> String {
    format!(
        "{} rows: {} clicks and impressions, {} orders\n  besides: {} events of visits, {} corrections, {} assignments, {} of telemetry\n  \
         of all: {} late, {} duplicates, {} broken",
        grouped(written.rows),
        grouped(written.clicks),
        grouped(written.orders),
        grouped(written.events),
        grouped(written.corrections),
        grouped(written.assignments),
        grouped(written.telemetry),
        grouped(written.late),
        grouped(written.duplicate),
        grouped(written.broken)
    )
}

/// A job of the demo that runs.
struct Running {
    plan: Plan,
    control: Arc<Control>,
    thread: thread::JoinHandle<Result<Outcome, RunError>>,
}

/// Runs the bundled jobs on traffic that is written meanwhile, and shows what they find.
fn run_jobs(args: &DemoArgs, global: &Global, asked: &Asked) -> Done {
    let folder = prepare(args.dir.as_deref().unwrap_or(Path::new(FOLDER)))?;
    let topics = folder.join("topics");
    let rate = args.rate.unwrap_or(RATE);
    if !global.quiet {
        eprintln!("sample traffic of a shop, {} rows/s, into topics in {}", grouped(u64::from(rate)), topics.display());
        let names = JOBS.map(|(job, _)| job);
        let (last, others) = names.split_last().expect("there are jobs");
        eprintln!(
            "the jobs {} and {last} run on them,\nfirst on the last minutes at once; here a visit is over after 20 s of silence,",
            others.join(", ")
        );
        eprintln!("rates of conversion are by the minute, and buyers bought within one. Ctrl-C ends it.\n");
    }
    // The topics are there before the jobs look for them.
    for stream in traffic::Stream::ALL {
        crate::topic::open_or_create(&topics, stream.topic(), None)?;
    }
    let running = JOBS.map(|job| start(job, &folder, usize::from(args.workers), global));
    let count = Arc::new(AtomicU64::default());
    let writer = {
        let (settings, topics, until) = (settings(args, rate), topics.clone(), until(args));
        let (asked, count, history) = (asked.clone(), count.clone(), args.history.unwrap_or(HISTORY));
        spawn("traffic", move || publish(settings, &topics, history, until, &asked, &count))?
    };
    let mut board = Board::new(&topics);
    let mut screen = Screen::new(global);
    let mut failed = None;
    while !writer.is_finished() && failed.is_none() {
        thread::park_timeout(screen.every());
        board.update()?;
        screen.show(&board, count.load(Ordering::Relaxed))?;
        failed = running.iter().flatten().find(|job| job.thread.is_finished()).map(|job| job.plan.name().to_owned());
    }
    // A job that failed before its time ends the demo; otherwise both are stopped as a signal would.
    asked.store(true, Ordering::Release);
    let written = writer.join().expect("a panic ends the process")?;
    let mut outcomes = Vec::new();
    for job in running {
        let Running { plan, control, thread } = job?;
        control.stop();
        let outcome =
            thread.join().expect("a panic ends the process").map_err(|error| crate::run::failed(error, global))?;
        outcomes.push((plan.name().to_owned(), outcome));
    }
    board.update()?;
    screen.end(&board, &written, &outcomes, &folder)
}

fn start((job, set): (&str, &[&str]), folder: &Path, workers: usize, global: &Global) -> Result<Running, Failure> {
    let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
    let plan = job::plan(job, &set, global)?;
    let environment = Environment {
        topics: Topics::Embedded(folder.join("topics")),
        until_end: false,
        registry: RegistryPlace::Nowhere,
    };
    let options = RunOptions { state: folder.join("state").into(), workers, fresh: false, append: false };
    let control = Control::new();
    let (own, stop) = (plan.clone(), control.clone());
    let thread = spawn(job, move || run::run(&own, &environment, &options, stop, Arc::new(Observer::default())))?;
    Ok(Running { plan, control, thread })
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>, Failure> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .or_exit(Exit::Internal, || format!("cannot start the thread `{name}`"))
}

/// Empties the demo's folder. A folder that holds anything else is refused.
fn prepare(folder: &Path) -> Result<PathBuf, Failure> {
    let shown = folder.display();
    let cannot = || format!("cannot prepare the folder `{shown}`");
    if folder.exists() && !folder.join(MARK).exists() {
        let is_empty = folder.read_dir().or_exit(Exit::Storage, cannot)?.next().is_none();
        if !is_empty {
            let message = format!("`{shown}` is not empty and not the demo's\n  hint: name another folder with --dir");
            return Err(Failure::new(Exit::Conflict, message));
        }
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).or_exit(Exit::Storage, cannot)?;
    }
    std::fs::create_dir_all(folder).or_exit(Exit::Storage, cannot)?;
    std::fs::write(folder.join(MARK), "emptied when the demo begins\n").or_exit(Exit::Storage, cannot)?;
    Ok(folder.to_owned())
}

/// Where the board is shown.
struct Screen {
    format: Format,
    /// Stdout is a terminal on which the board is drawn again.
    lively: bool,
    drawn: usize,
}

impl Screen {
    fn new(global: &Global) -> Screen {
        let lively = io::stdout().is_terminal() && output::stderr_is_lively() && global.output == Format::Table;
        Screen { format: global.output, lively, drawn: 0 }
    }

    fn every(&self) -> Duration {
        if self.lively { DRAWN_EVERY } else { WRITTEN_EVERY }
    }

    fn show(&mut self, board: &Board, rows: u64) -> Done {
        let mut stdout = Stdout::lock();
        let total = board.total();
        match (self.format, self.lively) {
            (Format::Json, _) => {
                let behaviour = board.behaviour();
                stdout.json_line(
                    &json!({ "rows": rows, "total": total, "items": best(board), "behaviour": behaviour }),
                )?;
            }
            (Format::Table, true) => {
                let text = format!("{}\n\n{} clicks, impressions and orders written", board.text(ITEMS), grouped(rows));
                // Up to the first line of the last drawing, and everything below it away.
                if self.drawn > 0 {
                    stdout.bytes(format!("\x1b[{}A\x1b[J", self.drawn).as_bytes())?;
                }
                self.drawn = text.lines().count();
                stdout.line(&text)?;
            }
            (Format::Table, false) => {
                stdout.line(&format!("{} rows written: {}", grouped(rows), board.line()))?;
            }
        }
        stdout.flush()
    }

    fn end(&mut self, board: &Board, written: &Written, outcomes: &[(String, Outcome)], folder: &Path) -> Done {
        let mut stdout = Stdout::lock();
        if self.format == Format::Json {
            let jobs: serde_json::Map<_, _> =
                outcomes.iter().map(|(job, outcome)| (job.clone(), json!(outcome))).collect();
            let (total, behaviour) = (board.total(), board.behaviour());
            let end = json!({ "written": written, "total": total, "items": best(board), "behaviour": behaviour, "jobs": jobs });
            stdout.json_line(&end)?;
            return stdout.flush();
        }
        if self.drawn > 0 {
            stdout.bytes(format!("\x1b[{}A\x1b[J", self.drawn).as_bytes())?;
        }
        stdout.line(&format!("{}\n\nwritten: {}", board.text(ITEMS), said(written)))?;
        stdout.line(&format!("\nevery row is counted:\n{}", balances(outcomes)))?;
        let (topics, state) = (folder.join("topics"), folder.join("state"));
        let (topics, state) = (topics.display(), state.display());
        stdout.line(&format!("\nwhat the jobs wrote: riverrun topic ls --topics {topics}"))?;
        stdout.line(&format!("the incidents:       riverrun topic tail frustration.incidents.v1 --topics {topics}"))?;
        stdout.line(&format!(
            "why there is one:    riverrun why frustration INCIDENT_ID --topics {topics} --state {state}"
        ))?;
        stdout.flush()
    }
}

/// Returns what became of the rows of each job's sources and steps, added up; `-o json` has each step.
fn balances(outcomes: &[(String, Outcome)]) -> comfy_table::Table {
    let all = outcomes.iter().map(|(job, outcome)| {
        let mut sum = Counts::default();
        outcome.snapshot.balance.values().for_each(|counts| sum += *counts);
        (job.clone(), sum)
    });
    output::balance(&all.collect())
}

fn best(board: &Board) -> Vec<serde_json::Value> {
    board.best(ITEMS).into_iter().map(|(item, sums)| json!({ "item": item, "sums": sums })).collect()
}
