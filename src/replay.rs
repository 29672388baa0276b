//! `riverrun replay`: a job over its past, as an own job or tick by tick as it was.

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
    let past = past_only(args);
    let recorded = recorded_only(args);
    let asks_for_past = args.range.from.is_some() || args.range.to.is_some();
    match (args.recorded, past.first(), recorded.first()) {
        (true, Some(option), _) => Err(Failure::new(
            Exit::Usage,
            format!(
                "--recorded and {option} exclude each other\n  \
                 hint: --recorded derives the ticks of the job's journal again, the same bytes, into files; --from and --to read topics anew, as a job of its own"
            ),
        )),
        (false, _, Some(option)) => Err(Failure::new(
            Exit::Usage,
            format!(
                "{option} is an option of --recorded\n  hint: {}",
                match asks_for_past {
                    true => "outputs of a replay with --from and --to are named by --as; leave it out",
                    false => "add --recorded",
                }
            ),
        )),
        (true, ..) => recorded::replay(args, global),
        (false, ..) => past::replay(args, global),
    }
}

/// Returns the options that were given and only a replay of past input has.
fn past_only(args: &ReplayArgs) -> Vec<&'static str> {
    let given = [
        ("--from", args.range.from.is_some()),
        ("--to", args.range.to.is_some()),
        ("--then-live", args.then_live),
        ("--as", args.name.is_some()),
        ("--fresh", args.fresh),
        ("--append", args.append),
        ("--rate", args.rate.is_some()),
        ("--speed", args.speed.is_some()),
    ];
    given.into_iter().filter_map(|(option, is_given)| is_given.then_some(option)).collect()
}

/// Returns the options that were given and only a replay of recorded ticks has.
fn recorded_only(args: &ReplayArgs) -> Vec<&'static str> {
    let given = [
        ("--out", args.out.is_some()),
        ("--from-tick", args.from_tick.is_some()),
        ("--to-tick", args.to_tick.is_some()),
    ];
    given.into_iter().filter_map(|(option, is_given)| is_given.then_some(option)).collect()
}
