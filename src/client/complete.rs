//! Names of jobs for a shell that completes a command: asked for quickly, and never a word about it if they cannot be had.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;

use super::http::Client;
use crate::args::{CompleteArgs, Global, ServerArgs};
use crate::exit::{Done, Failure};
use crate::manager::JobList;

/// Whoever presses a key waits no longer for what it does.
const PATIENCE: Duration = Duration::from_millis(500);
/// More names than this are of no help.
const NAMES_MAX: usize = 1000;

/// Prints the names of jobs, a line each.
pub fn names(args: &CompleteArgs, global: &Global) -> Done {
    let server = said(&args.server, &args.words);
    let global = Global { quiet: true, ..global.clone() };
    for name in asked(&server, &global).unwrap_or_default() {
        // A shell that has gone wants nothing any more.
        let _ = writeln!(std::io::stdout(), "{name}");
    }
    // A name that is still being looked up would hold up the end.
    std::process::exit(0)
}

fn asked(server: &ServerArgs, global: &Global) -> Result<Vec<String>, Failure> {
    let client = Client::of(server, global)?;
    let answer = client.ask_for(PATIENCE, Method::GET, &format!("/jobs?limit={NAMES_MAX}"), None, &[]);
    let list = answer.and_then(|answer| client.read::<JobList>(&answer));
    // It waits for what it began, if it ends itself.
    std::mem::forget(client);
    Ok(list?.jobs.into_iter().map(|job| job.name).collect())
}

/// Returns where the manager is, as the command says that is being typed.
fn said(server: &ServerArgs, words: &[String]) -> ServerArgs {
    let value = |option: &str| {
        let at = words.iter().rposition(|word| word.split('=').next() == Some(option))?;
        let (_, glued) = words[at].split_once('=').unzip();
        // Some shells make three words of `--server=URL`.
        glued
            .filter(|value| !value.is_empty())
            .or_else(|| words[at + 1..].iter().map(String::as_str).find(|word| *word != "="))
    };
    ServerArgs {
        server: value("--server").map_or_else(|| server.server.clone(), str::to_owned),
        api_key_file: value("--api-key-file").map(PathBuf::from).or_else(|| server.api_key_file.clone()),
        server_ca: value("--server-ca").map(PathBuf::from).or_else(|| server.server_ca.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_the_one_that_is_being_typed() {
        let server = ServerArgs { server: "http://a:1".to_owned(), api_key_file: None, server_ca: None };
        for (words, expected) in [
            ("status", "http://a:1"),
            ("status --server http://b:2", "http://b:2"),
            ("status --server=http://b:2 --server-ca x", "http://b:2"),
            ("status --server = http://b:2", "http://b:2"),
            ("status --server", "http://a:1"),
        ] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            assert_eq!(said(&server, &words).server, expected, "{words:?}");
        }
    }
}
