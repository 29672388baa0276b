//! `riverrun replay`: a job over its past, read anew or tick by tick as it was.

mod again;
mod past;
mod recorded;

use crate::args::{Global, ReplayArgs};
use crate::client;
use crate::exit::{Done, Exit, Failure};

pub use past::{Asked, nothing_asked, range, rewind};

/// Does one or the other, or has a manager do it.
pub fn replay(args: &ReplayArgs, global: &Global) -> Done {
    if let Some(server) = args.remote.server() {
        return client::replay(args, &server, global);
    }
    match args.recorded {
        true => recorded_ticks(args, global),
        false => match first(&ticks_only(args)) {
            Some(option) => Err(usage(
                format!("{option} is an option of --recorded"),
                match args.range.from.is_some() || args.range.to.is_some() {
                    true => "outputs of a replay with --from and --to are named by --as; leave it out",
                    false => "add --recorded",
                },
            )),
            None => past::replay(args, global),
        },
    }
}

/// Where recorded ticks can be written.
const PLACES: &str = "--as NAME writes to topics, files and lakes as the job does, in a namespace of that name; --out DIR writes the rows into files";

/// Derives recorded ticks again, into a namespace or into files.
fn recorded_ticks(args: &ReplayArgs, global: &Global) -> Done {
    if let Some(option) = first(&input_only(args)) {
        return Err(usage(
            format!("--recorded and {option} exclude each other"),
            "--recorded derives the ticks of the job's journal again, the same bytes; --from and --to read topics anew, as a job of its own",
        ));
    }
    if let (Some(from), Some(to)) = (args.from_tick, args.to_tick)
        && from > to
    {
        return Err(Failure::new(Exit::Usage, format!("--from-tick {from} is after --to-tick {to}")));
    }
    match (&args.name, &args.out) {
        (Some(name), None) => again::replay(args, name, global),
        (None, Some(out)) => match first(&namespace_only(args)) {
            Some(option) => Err(usage(
                format!("{option} is for a replay in a namespace of its own, and --out writes files"),
                "name a namespace with --as NAME in the place of --out, or leave it out",
            )),
            None => recorded::replay(args, out, global),
        },
        (Some(_), Some(_)) => Err(usage("--as and --out exclude each other".to_owned(), PLACES)),
        (None, None) => Err(usage("where the recorded ticks are to be written is not said".to_owned(), PLACES)),
    }
}

fn usage(message: String, hint: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{message}\n  hint: {hint}"))
}

/// An option, and whether it was given.
type Given = (&'static str, bool);

/// Returns the first that was given.
fn first(options: &[Given]) -> Option<&'static str> {
    options.iter().find_map(|(option, is_given)| is_given.then_some(*option))
}

/// Returns the options that only a replay of past input has.
fn input_only(args: &ReplayArgs) -> [Given; 3] {
    [("--from", args.range.from.is_some()), ("--to", args.range.to.is_some()), ("--then-live", args.then_live)]
}

/// Returns the options that only a replay in a namespace has.
fn namespace_only(args: &ReplayArgs) -> [Given; 4] {
    [
        ("--fresh", args.fresh),
        ("--append", args.append),
        ("--rate", args.rate.is_some()),
        ("--speed", args.speed.is_some()),
    ]
}

/// Returns the options that only a replay of recorded ticks has.
fn ticks_only(args: &ReplayArgs) -> [Given; 3] {
    [("--out", args.out.is_some()), ("--from-tick", args.from_tick.is_some()), ("--to-tick", args.to_tick.is_some())]
}
