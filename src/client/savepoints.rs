//! `savepoint`: made, listed, looked into and deleted.

use reqwest::Method;
use riverrun_state::inspect::Detail;

use super::asks::{named, path};
use super::documents::Deleted;
use super::http::{Client, with_query};
use crate::args::{Global, SavepointCommand, SavepointLsArgs};
use crate::checkpoints::described;
use crate::exit::{Done, Failure};
use crate::manager::{JobSavepoint, NewSavepoint, Savepoint, SavepointCatalogue, Savepoints};
use crate::output::{self, Format, Stdout, grouped};

/// Does what was asked for.
pub fn savepoint(command: &SavepointCommand, global: &Global) -> Done {
    let mut stdout = Stdout::lock();
    match command {
        SavepointCommand::Create(args) => {
            let client = Client::of(&args.server, global)?;
            let new = NewSavepoint { name: args.name.clone() };
            let made: Savepoint = client.send(Method::POST, &path(&args.job, "savepoints")?, Some(&new))?;
            match global.output {
                Format::Json => stdout.document(&made)?,
                Format::Table => stdout.line(&format!(
                    "savepoint `{}` of job `{}` is the checkpoint at tick {}",
                    made.name,
                    args.job,
                    grouped(made.tick)
                ))?,
            }
        }
        SavepointCommand::Ls(args) => list(args, global, &mut stdout)?,
        SavepointCommand::Show(args) => {
            let path = format!("/jobs/{}/savepoints/{}/inspect", named(&args.job)?, args.name);
            let detail: Detail = Client::of(&args.server, global)?.get(&path)?;
            match global.output {
                Format::Json => stdout.document(&detail)?,
                Format::Table => stdout.line(&described(&detail))?,
            }
        }
        SavepointCommand::Rm(args) => {
            let path = format!("/jobs/{}/savepoints/{}", named(&args.job)?, args.name);
            Client::of(&args.server, global)?.ask(Method::DELETE, &path, None, &[])?;
            if global.output == Format::Json {
                stdout.document(&Deleted { deleted: args.name.clone() })?;
            }
        }
    }
    stdout.flush()
}

/// Lists the savepoints of a job, or of all. Each is a document of its own kind.
fn list(args: &SavepointLsArgs, global: &Global, stdout: &mut Stdout) -> Done {
    let client = Client::of(&args.server, global)?;
    let row = |it: &Savepoint| vec![it.name.clone(), grouped(it.tick), it.at.clone(), output::bytes(it.size_bytes)];
    if let Some(job) = &args.job {
        let all: Savepoints = client.get(&path(job, "savepoints")?)?;
        return match global.output {
            Format::Json => stdout.document(&all),
            Format::Table => {
                let rows = all.savepoints.iter().map(row).collect();
                stdout.line(&output::table(&["savepoint", "tick", "published", "size"], &[1, 3], rows).to_string())
            }
        };
    }
    let savepoints = every(&client)?;
    match global.output {
        Format::Json => stdout.document(&SavepointCatalogue { savepoints, next: None }),
        Format::Table => {
            let rows = savepoints.iter().map(|it| [vec![it.job.clone()], row(&it.savepoint)].concat()).collect();
            let header = ["job", "savepoint", "tick", "published", "size"];
            stdout.line(&output::table(&header, &[2, 4], rows).to_string())
        }
    }
}

fn every(client: &Client) -> Result<Vec<JobSavepoint>, Failure> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let query = [("limit", "1000".to_owned()), ("cursor", after)];
        let page: SavepointCatalogue = client.get(&with_query("/savepoints", &query))?;
        all.extend(page.savepoints);
        match page.next {
            Some(next) => after = next,
            None => return Ok(all),
        }
    }
}
