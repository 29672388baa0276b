//! `key`: API keys of a manager.

use reqwest::Method;

use super::documents::Deleted;
use super::http::Client;
use crate::args::{Global, KeyCommand};
use crate::exit::{Done, Exit, Failure};
use crate::manager::{Keys, MadeKey, NewKey};
use crate::output::{self, Format, Stdout};

/// Does what was asked for.
pub fn key(command: &KeyCommand, global: &Global) -> Done {
    let mut stdout = Stdout::lock();
    match command {
        KeyCommand::Create(args) => {
            let client = Client::of(&args.server, global)?;
            let (name, jobs) = (args.name.clone(), args.jobs.clone());
            let new = NewKey { name, role: args.role, jobs, days: args.days };
            let made: MadeKey = client.send(Method::POST, "/api-keys", Some(&new))?;
            match global.output {
                Format::Json => stdout.document(&made)?,
                Format::Table => stdout.line(&made.secret)?,
            }
            if !global.quiet {
                eprintln!("this key is shown once: keep it where only those can read it who are to have it");
            }
        }
        KeyCommand::Ls(args) => {
            let keys: Keys = Client::of(args, global)?.get("/api-keys")?;
            match global.output {
                Format::Json => stdout.document(&keys)?,
                Format::Table => {
                    let row = |key: &crate::manager::KeyView| {
                        let expires = key.expires.map_or("never".to_owned(), |at| at.to_string());
                        let role = format!("{:?}", key.role).to_lowercase();
                        vec![key.id.clone(), key.name.clone(), role, key.jobs.clone(), expires]
                    };
                    let rows = keys.keys.iter().map(row).collect();
                    stdout.line(&output::table(&["id", "name", "role", "jobs", "expires"], &[], rows).to_string())?;
                }
            }
        }
        KeyCommand::Rm(args) => {
            if args.id.is_empty() || !args.id.chars().all(|c| c.is_ascii_alphanumeric()) {
                return Err(Failure::new(
                    Exit::Usage,
                    "the id of a key is letters and digits\n  hint: `riverrun key ls` shows them",
                ));
            }
            Client::of(&args.server, global)?.ask(Method::DELETE, &format!("/api-keys/{}", args.id), None, &[])?;
            if global.output == Format::Json {
                stdout.document(&Deleted { deleted: args.id.clone() })?;
            }
        }
    }
    stdout.flush()
}
