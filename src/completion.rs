//! `riverrun completion`: scripts that let a shell complete commands, options, and the names of jobs that a manager keeps.
//!
//! Commands and options are made into a script by a library. Names of jobs are asked for when they are needed: the script calls
//! `riverrun complete-jobs`, which answers within half a second or says nothing.

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::args::{Cli, CompletionArgs};
use crate::exit::Done;
use crate::output::Stdout;

/// Completes names of jobs in bash.
const BASH: &str = include_str!("completion/jobs.bash");
/// Completes names of jobs in zsh.
const ZSH: &str = include_str!("completion/jobs.zsh");

/// Prints the script.
pub fn completion(args: &CompletionArgs) -> Done {
    let mut stdout = Stdout::lock();
    stdout.bytes(script(args.shell).as_bytes())?;
    stdout.flush()
}

fn script(shell: Shell) -> String {
    let mut command = Cli::command();
    // Into memory first: the generator panics where a write fails, and stdout may be closed at any time.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "riverrun", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => {
            let all = |words: Vec<String>| words.join("|");
            let own = BASH.replace("@VERBS@", &all(verbs(&command))).replace("@SWITCHES@", &all(switches(&command)));
            script + &own
        }
        Shell::Zsh => {
            // Only commands that ask a manager call it so.
            let named = ":job -- The job'\\''s name:_default";
            script.replace(named, &named.replace("_default", "_riverrun_jobs")).replacen("_riverrun() {", ZSH, 1)
        }
        Shell::Fish => verbs(&command).iter().fold(script, |script, verb| {
            let seen = verb.split(' ').map(|word| format!("__fish_seen_subcommand_from {word}")).collect::<Vec<_>>();
            let names = "(riverrun complete-jobs -- (commandline -opc) 2>/dev/null)";
            format!("{script}complete -c riverrun -n \"{}\" -f -a \"{names}\"\n", seen.join("; and "))
        }),
        _ => script,
    }
}

/// Returns the commands that take the name of a job that a manager keeps, as they are typed.
fn verbs(command: &Command) -> Vec<String> {
    fn visit(command: &Command, before: &str, found: &mut Vec<String>) {
        for sub in command.get_subcommands() {
            let typed = format!("{before}{}", sub.get_name());
            let asks = sub.get_arguments().any(|arg| arg.get_env().is_some_and(|name| name == "RIVERRUN_SERVER"));
            let names = sub.get_positionals().any(|arg| arg.get_id() == "job");
            if asks && names && typed != "submit" {
                found.push(typed.clone());
            }
            visit(sub, &format!("{typed} "), found);
        }
    }
    let mut found = Vec::new();
    visit(command, "", &mut found);
    found
}

/// Returns the options that take no value.
fn switches(command: &Command) -> Vec<String> {
    let mut found: Vec<String> = command
        .get_arguments()
        .filter(|arg| !arg.get_action().takes_values())
        .flat_map(|arg| {
            let long = arg.get_long().map(|name| format!("--{name}"));
            let short = arg.get_short().map(|letter| format!("-{letter}"));
            long.into_iter().chain(short)
        })
        .chain(["--help", "-h", "--version", "-V"].map(str::to_owned))
        .chain(command.get_subcommands().flat_map(switches))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_asks_for_names_of_jobs_where_a_manager_has_them() {
        let verbs = verbs(&Cli::command());
        for verb in ["status", "logs", "stop", "delete", "savepoint create", "checkpoints trigger"] {
            assert!(verbs.iter().any(|known| known == verb), "{verb}: {verbs:?}");
        }
        assert!(!verbs.iter().any(|verb| ["submit", "run", "list", "serve"].contains(&verb.as_str())), "{verbs:?}");
        let bash = script(Shell::Bash);
        assert!(bash.contains("|savepoint create|") && !bash.contains("@VERBS@") && bash.contains("|--purge|"));
        let zsh = script(Shell::Zsh);
        assert_eq!(zsh.matches(":_riverrun_jobs").count(), verbs.len(), "{verbs:?}");
        assert_eq!(zsh.matches("_riverrun_jobs() {").count(), 1);
        assert_eq!(script(Shell::Fish).matches("riverrun complete-jobs").count(), verbs.len());
    }
}
