//! `offsets`: how far a job is read, and where it is to go on.

use reqwest::Method;

use super::asks::path;
use super::http::Client;
use super::wait::wait;
use crate::args::{Global, JobOnlyArgs, OffsetsCommand, OffsetsSetArgs};
use crate::exit::Done;
use crate::manager::{NewOffset, Offsets, PatchOffsets};
use crate::output::{self, Format, Stdout, grouped};

/// Does what was asked for.
pub fn offsets(command: &OffsetsCommand, global: &Global) -> Done {
    match command {
        OffsetsCommand::Show(args) => show(args, global),
        OffsetsCommand::Set(args) => set(args, global),
    }
}

fn show(args: &JobOnlyArgs, global: &Global) -> Done {
    let all: Offsets = Client::of(&args.server, global)?.get(&path(&args.job, "offsets")?)?;
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&all)?,
        Format::Table => {
            let end = |end: Option<u64>| end.map_or_else(|| "open".to_owned(), grouped);
            let rows = all
                .splits
                .iter()
                .map(|it| vec![it.source.clone(), it.split.clone(), grouped(it.position), end(it.end)]);
            let table = output::table(&["source", "split", "next", "end"], &[2, 3], rows.collect());
            stdout.line(&table.to_string())?;
        }
    }
    stdout.flush()
}

fn set(args: &OffsetsSetArgs, global: &Global) -> Done {
    let client = Client::of(&args.named.server, global)?;
    let offset = |it: &riverrun_jobs::upgrade::Position| NewOffset {
        source: it.source.clone(),
        split: it.split.clone(),
        position: it.position,
    };
    let asked = PatchOffsets { offsets: args.offsets.iter().map(offset).collect(), repeat: args.repeat };
    let operation = client.send(Method::PATCH, &path(&args.named.job, "offsets")?, Some(&asked))?;
    wait(&client, operation, &args.named.wait, global)
}
