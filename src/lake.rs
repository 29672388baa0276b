//! `riverrun lake`: what is in a lake, for readers and for those who keep it.

use std::collections::BTreeMap;
use std::sync::Arc;

use riverrun_connectors::lake::{self, CompactOptions, Lake, LakeError, PlacedFile};
use riverrun_dataflow::objects::Objects;
use riverrun_state::Location;
use serde::Serialize;

use crate::args::Global;
use crate::args::lake::{LakeArgs, LakeCommand, LakeCompactArgs, LakeFilesArgs, LakeSweepArgs};
use crate::exit::{Done, Exit, Failure, OrExit};
use crate::output::{self, Format, Stdout, grouped};

/// Does what was asked for.
pub fn lake(command: &LakeCommand, global: &Global) -> Done {
    match command {
        LakeCommand::Files(args) => files(args, global),
        LakeCommand::Ls(args) => ls(args, global),
        LakeCommand::Verify(args) => verify(args, global),
        LakeCommand::Compact(args) => compact(args, global),
        LakeCommand::Sweep(args) => sweep(args, global),
    }
}

fn objects(args: &LakeArgs) -> Result<Arc<dyn Objects>, Failure> {
    let location = Location::parse(&args.path).map_err(|reason| Failure::new(Exit::Usage, reason))?;
    let store = location.open_existing().or_exit(Exit::Storage, || format!("cannot open {location}"))?;
    store.map(|store| Arc::new(store) as Arc<dyn Objects>).ok_or_else(|| none(args))
}

fn none(args: &LakeArgs) -> Failure {
    let hint = "name what stands under `lake: { path: ... }` in the job file";
    Failure::new(Exit::NotFound, format!("there is no lake at `{}`\n  hint: {hint}", args.path))
}

fn read(args: &LakeArgs) -> Result<Lake, Failure> {
    Lake::read(objects(args)?).map_err(failed)?.ok_or_else(|| none(args))
}

fn failed(error: LakeError) -> Failure {
    let exit = match &error {
        LakeError::Objects(_) | LakeError::Damaged { .. } => Exit::Storage,
        LakeError::Refused(_) => Exit::Conflict,
        LakeError::Fenced(_) => Exit::Fenced,
    };
    Failure { exit, error: error.into() }
}

/// A file that counts, for programs.
#[derive(Serialize)]
struct ShownFile<'a> {
    /// Where a reader finds it.
    at: String,
    #[serde(flatten)]
    file: &'a lake::LakeFile,
    job: &'a str,
    sink: &'a str,
}

fn files(args: &LakeFilesArgs, global: &Global) -> Done {
    let lake = read(&args.lake)?;
    let from = args.from.unwrap_or(i64::MIN);
    let to = args.to.unwrap_or(i64::MAX);
    let wanted = |file: &lake::LakeFile| {
        file.time_max_us.is_none_or(|last| last >= from) && file.time_min_us.is_none_or(|first| first < to)
    };
    let mut stdout = Stdout::lock();
    for placed in lake.files().map_err(failed)?.iter().filter(|placed| wanted(&placed.file)) {
        let PlacedFile { file, at, writer } = placed;
        let at = lake.name(at);
        match global.output {
            Format::Table => stdout.line(&at)?,
            Format::Json => stdout.json_line(&ShownFile { at, file, job: &writer.job, sink: &writer.sink })?,
        }
    }
    stdout.flush()
}

/// What a partition holds.
#[derive(Default, Serialize)]
struct Sum {
    files: u64,
    rows: u64,
    bytes: u64,
}

/// A lane of a writer, for programs.
#[derive(Serialize)]
struct ShownLane {
    job: String,
    sink: String,
    lane: u32,
    generation: u64,
    tick: Option<u64>,
}

#[derive(Serialize)]
struct Listing {
    record: u64,
    layout: &'static str,
    partition_by: &'static str,
    partitions: BTreeMap<String, Sum>,
    lanes: Vec<ShownLane>,
}

fn ls(args: &LakeArgs, global: &Global) -> Done {
    let lake = read(args)?;
    let mut partitions: BTreeMap<String, Sum> = BTreeMap::new();
    for PlacedFile { file, .. } in lake.files().map_err(failed)? {
        let folder = file.path.rsplit_once('/').map_or(".", |(folder, _)| folder);
        let sum = partitions.entry(folder.to_owned()).or_default();
        sum.files += 1;
        sum.rows += file.rows;
        sum.bytes += file.bytes;
    }
    let lane = |(writer, lane, generation, tick): (lake::Writer, u32, u64, Option<u64>)| ShownLane {
        job: writer.job,
        sink: writer.sink,
        lane,
        generation,
        tick,
    };
    let lanes = lake.lanes().into_iter().map(lane).collect();
    let (layout, partition_by) = (lake.layout().word(), lake.partition_by().word());
    let listing = Listing { record: lake.number(), layout, partition_by, partitions, lanes };
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&listing)?,
        Format::Table => {
            let row = |(name, sum): (&String, &Sum)| {
                vec![name.clone(), grouped(sum.files), grouped(sum.rows), output::bytes(sum.bytes)]
            };
            let rows = listing.partitions.iter().map(row).collect();
            stdout.line(&output::table(&["partition", "files", "rows", "bytes"], &[1, 2, 3], rows).to_string())?;
            let row = |lane: &ShownLane| {
                let tick = lane.tick.map_or_else(|| "-".to_owned(), grouped);
                vec![lane.job.clone(), lane.sink.clone(), lane.lane.to_string(), lane.generation.to_string(), tick]
            };
            let rows = listing.lanes.iter().map(row).collect();
            stdout.line("")?;
            stdout
                .line(&output::table(&["job", "sink", "lane", "generation", "tick"], &[2, 3, 4], rows).to_string())?;
        }
    }
    stdout.flush()
}

fn verify(args: &LakeArgs, global: &Global) -> Done {
    let lake = read(args)?;
    let verified = lake::verify(&lake).map_err(failed)?;
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&verified)?,
        Format::Table => {
            let (files, rows) = (grouped(verified.files), grouped(verified.rows));
            stdout.line(&format!("{files} files, {rows} rows, {}", output::bytes(verified.bytes)))?;
            for (path, finding) in &verified.findings {
                let finding = match finding {
                    lake::Finding::Missing => "is missing",
                    lake::Finding::Changed => "is not what was committed",
                    lake::Finding::Stray => {
                        "counts not, and lies among those that do; `riverrun lake sweep` removes it"
                    }
                };
                stdout.line(&format!("{} {finding}", lake.name(path)))?;
            }
        }
    }
    stdout.flush()?;
    match verified.findings.len() {
        0 => Ok(()),
        found => Err(Failure::new(Exit::Failed, format!("{found} files of the lake are not as they should be"))),
    }
}

fn compact(args: &LakeCompactArgs, global: &Global) -> Done {
    let options = CompactOptions { target: args.target, id: unlike_any_other(), dry: args.dry_run };
    let done = lake::compact(objects(&args.lake)?, &options).map_err(failed)?.ok_or_else(|| none(&args.lake))?;
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&done)?,
        Format::Table => {
            let (before, after, rows) = (grouped(done.before), grouped(done.after), grouped(done.rows));
            let size = output::bytes(done.bytes_before);
            let text = match args.dry_run {
                true => format!("would merge {before} files into {after}: {rows} rows, {size}"),
                false => {
                    let to = output::bytes(done.bytes_after);
                    format!("merged {before} files into {after}: {rows} rows, {size} into {to}")
                }
            };
            stdout.line(&text)?;
        }
    }
    stdout.flush()
}

fn sweep(args: &LakeSweepArgs, global: &Global) -> Done {
    #[expect(clippy::disallowed_methods, reason = "how old a file is, is asked by a person; no row depends on it")]
    let now = std::time::SystemTime::now();
    let swept = lake::sweep(objects(&args.lake)?, now, args.keep, args.dry_run).map_err(failed)?;
    let swept = swept.ok_or_else(|| none(&args.lake))?;
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&swept)?,
        Format::Table => {
            let (files, size, records) = (grouped(swept.files), output::bytes(swept.bytes), grouped(swept.records));
            let removed = if args.dry_run { "would remove" } else { "removed" };
            stdout.line(&format!("{removed} {files} files, {size}, and {records} records"))?;
        }
    }
    stdout.flush()
}

/// Returns a name that nothing else has: of this process, at this time.
fn unlike_any_other() -> String {
    use std::hash::{BuildHasher, Hasher};
    // The seed of a map is random at every start.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{random:016x}")
}
