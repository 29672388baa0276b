//! What can be set: options of the command line, by the name of their environment variable.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, Command};

use super::file::{Layer, Value};
use crate::exit::Failure;

/// The command whose options are the section `serve`.
pub const SERVE: &str = "serve";
/// The section for commands that ask a manager, and the variables of what it holds.
pub const CLIENT: (&str, &[&str]) = ("client", &["RIVERRUN_SERVER", "RIVERRUN_API_KEY_FILE", "RIVERRUN_SERVER_CA"]);

/// Settings that belong together.
#[derive(Debug)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub settings: Vec<Setting>,
}

/// Something that can be set.
#[derive(Debug)]
pub struct Setting {
    /// The long name of its option.
    pub name: String,
    /// Its variable of the environment.
    pub variable: String,
    /// The option.
    pub arg: Arg,
}

impl Setting {
    fn of(arg: &Arg) -> Option<Setting> {
        let (name, variable) = (arg.get_long()?.to_owned(), arg.get_env()?.to_str()?.to_owned());
        Some(Setting { name, variable, arg: arg.clone() })
    }

    /// Checks texts as the option itself would. An error has what is wrong, and what to do.
    pub fn check(&self, texts: &[String]) -> Result<(), (String, String)> {
        let many = self.arg.get_value_delimiter().is_some();
        if texts.len() != 1 && !many {
            return Err(("takes one value".to_owned(), "write one".to_owned()));
        }
        let mut alone = self.arg.clone().requires_ifs(std::iter::empty::<(&str, &str)>());
        if !self.arg.get_action().takes_values() {
            // A switch is read as the environment is: it takes words for on and off.
            alone = alone.action(ArgAction::Set).num_args(1);
        }
        let given = texts.iter().map(|text| format!("--{}={text}", self.name));
        let parsed = Command::new("settings").no_binary_name(true).arg(alone).try_get_matches_from(given);
        parsed.map(|_| ()).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or_default().rsplit_once("': ").map(|(_, why)| why.to_owned());
            let shown = texts.join(", ");
            let what = reason.unwrap_or_else(|| "the option does not take it".to_owned());
            (format!("is not `{shown}`: {what}"), format!("`riverrun help serve` says what --{} takes", self.name))
        })
    }
}

/// Returns everything that can be set.
pub fn sections(command: &Command) -> Vec<Section> {
    let serve = command.find_subcommand(SERVE).into_iter().flat_map(Command::get_arguments);
    let serve = serve.filter(|arg| !arg.is_global_set()).filter_map(Setting::of).collect();
    let mut client: BTreeMap<&str, Setting> = BTreeMap::new();
    let asking = command.find_subcommand("list").into_iter().flat_map(Command::get_arguments);
    for setting in asking.filter_map(Setting::of) {
        if let Some(variable) = CLIENT.1.iter().find(|variable| **variable == setting.variable) {
            client.insert(variable, setting);
        }
    }
    vec![
        Section { name: SERVE.to_owned(), settings: serve },
        Section { name: CLIENT.0.to_owned(), settings: client.into_values().collect() },
    ]
}

/// What files say, taken together.
#[derive(Debug, Default)]
pub struct Settings {
    values: BTreeMap<(String, String), Value>,
}

impl Settings {
    /// Takes layers together, of which the first that says something counts.
    pub fn of(layers: Vec<Layer>) -> Result<Settings, Failure> {
        let mut values = BTreeMap::new();
        for layer in layers {
            for (key, value) in layer.values {
                values.entry(key).or_insert(value);
            }
        }
        Ok(Settings { values })
    }

    /// Returns whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns what is set.
    pub fn get(&self, section: &str, name: &str) -> Option<&Value> {
        self.values.get(&(section.to_owned(), name.to_owned()))
    }

    /// Puts what is set under the options of a command, as defaults.
    pub fn under(&self, command: Command) -> Command {
        let command = self.under_client(command);
        if command.find_subcommand(SERVE).is_none() {
            return command;
        }
        command.mut_subcommand(SERVE, |serve| {
            serve.mut_args(|arg| {
                let named = arg.get_long().and_then(|name| self.get(SERVE, name)).cloned();
                with_default(arg, named)
            })
        })
    }

    fn under_client(&self, command: Command) -> Command {
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        let command = command.mut_args(|arg| {
            let variable = arg.get_env().and_then(|name| name.to_str());
            let is_ours = variable.is_some_and(|variable| CLIENT.1.contains(&variable));
            let value = arg.get_long().filter(|_| is_ours).and_then(|name| self.get(CLIENT.0, name)).cloned();
            with_default(arg, value)
        });
        names.into_iter().fold(command, |command, name| command.mut_subcommand(name, |sub| self.under_client(sub)))
    }
}

fn with_default(arg: Arg, value: Option<Value>) -> Arg {
    match value {
        // Defaults live as long as the program: so do the few that come from files, which are read once.
        Some(value) => arg.default_values(value.texts.into_iter().map(|text| &*text.leak())),
        None => arg,
    }
}
