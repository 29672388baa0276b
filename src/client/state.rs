//! The state of a job that a manager keeps: what `checkpoints` shows of it, and what is fetched of it to be asked here.

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use riverrun_state::inspect::{Detail, Overview, Report};

use super::asks::{named, path};
use super::http::{Client, with_query};
use crate::args::{At, CheckpointsArgs, CheckpointsTriggerArgs, Global};
use crate::checkpoints::View;
use crate::exit::{Done, Exit, Failure, OrExit};
use crate::manager::{StateScript, Taken};
use crate::output::{Format, Stdout, grouped};

/// To read everything back takes its time.
const VERIFY_TIME: Duration = Duration::from_secs(3600);
/// A checkpoint that a running job collects while it is fetched is left for a newer one, so often.
const ATTEMPTS: usize = 3;

/// The state of one job, by its manager.
pub struct Remote {
    client: Client,
    job: String,
}

impl Remote {
    /// Returns the state that is meant; `None` if it is not that of a manager.
    pub fn of(args: &CheckpointsArgs, global: &Global) -> Result<Option<Remote>, Failure> {
        let Some(server) = args.remote.server() else { return Ok(None) };
        if args.state.state.is_some() {
            let message =
                "--state and --server exclude each other\n  hint: a manager knows where the state of its jobs is";
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok(Some(Remote { client: Client::of(&server, global)?, job: named(&args.job)?.to_owned() }))
    }

    fn path(&self, rest: &str) -> String {
        format!("/jobs/{}/checkpoints{rest}", self.job)
    }

    /// Lists the checkpoints.
    pub fn overview(&self) -> Result<Overview, Failure> {
        self.client.get(&self.path(""))
    }

    /// Shows a checkpoint: that after a tick, or the newest.
    pub fn detail(&self, tick: Option<u64>) -> Result<Detail, Failure> {
        self.client.get(&self.path(&format!("/{}", shown(tick.map_or(At::Latest, At::Tick)))))
    }

    /// Has everything read back.
    pub fn verify(&self) -> Result<Report, Failure> {
        let answer = self.client.ask_for(VERIFY_TIME, Method::POST, &self.path(":verify"), None, &[])?;
        self.client.read(&answer)
    }

    /// Lists what can be asked of a checkpoint.
    pub fn views(&self, at: At) -> Result<Vec<View>, Failure> {
        self.client.get(&self.path(&format!("/{}/tables", shown(at))))
    }

    /// Fetches the files of a checkpoint into `folder`, and returns the script that makes their views.
    pub fn fetch(&self, at: At, folder: &Path) -> Result<String, Failure> {
        let mut attempt = 1;
        loop {
            match self.fetch_once(at, folder) {
                Err(failure) if failure.exit == Exit::NotFound && at == At::Latest && attempt < ATTEMPTS => {
                    attempt += 1
                }
                fetched => return fetched,
            }
        }
    }

    fn fetch_once(&self, at: At, folder: &Path) -> Result<String, Failure> {
        let query = [("folder", folder.display().to_string())];
        let script: StateScript =
            self.client.get(&with_query(&self.path(&format!("/{}/script", shown(at))), &query))?;
        for file in &script.files {
            let cannot = || format!("cannot write the state file {file}");
            // The manager is asked for names; where they lead is decided here.
            let plain = Path::new(file).components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if !plain {
                return Err(Failure::new(Exit::Failed, format!("the manager names a file that is none: `{file}`")));
            }
            let place = folder.join(file);
            if let Some(parent) = place.parent() {
                std::fs::create_dir_all(parent).or_exit(Exit::Storage, cannot)?;
            }
            let query = [("path", file.clone())];
            let bytes = self.client.bytes(&with_query(&self.path(&format!("/{}/file", script.tick)), &query))?;
            std::fs::write(&place, bytes).or_exit(Exit::Storage, cannot)?;
        }
        Ok(script.script)
    }
}

fn shown(at: At) -> String {
    match at {
        At::Latest => "latest".to_owned(),
        At::Tick(tick) => tick.to_string(),
    }
}

/// Has a job take a checkpoint now.
pub fn trigger(args: &CheckpointsTriggerArgs, global: &Global) -> Done {
    let client = Client::of(&args.server, global)?;
    let taken: Taken = client.send(Method::POST, &path(&args.job, "checkpoints")?, None::<&()>)?;
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&taken)?,
        Format::Table => {
            stdout.line(&format!("job `{}` has a checkpoint at tick {}", args.job, grouped(taken.tick)))?;
        }
    }
    stdout.flush()
}
