//! Commands that ask a manager: what they send, how they wait, and what they show. What they mean is the manager's
//! ([`crate::manager`]).

mod asks;
mod complete;
mod doctor;
mod documents;
mod history;
mod http;
mod keys;
mod look;
mod offsets;
mod replay;
mod savepoints;
mod state;
mod submit;
mod wait;

pub use replay::replay;
pub use state::{Remote, trigger};

use crate::args::{ClientCommand, Global};
use crate::exit::Done;

/// Does what was asked for.
pub fn client(command: &ClientCommand, global: &Global) -> Done {
    match command {
        ClientCommand::Submit(args) => submit::submit(args, global),
        ClientCommand::List(args) => look::list(args, global),
        ClientCommand::Status(args) => look::status(args, global),
        ClientCommand::Logs(args) => look::logs(args, global),
        ClientCommand::Stop(args) => asks::stop(args, global),
        ClientCommand::Cancel(args) => asks::plain("cancel", args, global),
        ClientCommand::Suspend(args) => asks::plain("suspend", args, global),
        ClientCommand::Resume(args) => asks::plain("resume", args, global),
        ClientCommand::Restart(args) => asks::plain("restart", args, global),
        ClientCommand::Rescale(args) => asks::rescale(args, global),
        ClientCommand::Rescales(args) => history::rescales(args, global),
        ClientCommand::Exceptions(args) => history::exceptions(args, global),
        ClientCommand::Offsets(command) => offsets::offsets(command, global),
        ClientCommand::Savepoint(command) => savepoints::savepoint(command, global),
        ClientCommand::Tap(args) => look::tap(args, global),
        ClientCommand::Delete(args) => asks::delete(args, global),
        ClientCommand::Key(command) => keys::key(command, global),
        ClientCommand::Doctor(args) => doctor::doctor(args, global),
        ClientCommand::CompleteJobs(args) => complete::names(args, global),
    }
}
