//! `config show`: every setting, with its value and where it comes from.

use clap::parser::ValueSource;
use clap::{Arg, CommandFactory};
use serde::{Deserialize, Serialize};

use super::layers;
use super::settings::{SERVE, Setting, Settings, sections};
use crate::args::{Cli, ConfigShowArgs, Global};
use crate::exit::{Done, Failure};
use crate::output::{self, Format, Stdout};

/// Parts of names of options whose values are shown to nobody.
const SECRET: &[&str] = &["password", "secret", "token", "user.info", "key.pem"];

/// A setting as it counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// The section of files that it stands in.
    pub section: String,
    /// Its name.
    pub name: String,
    /// Its values; none if it is not set.
    pub values: Vec<String>,
    /// Where they come from: an option, a variable, `FILE:LINE`, or `default`.
    pub origin: String,
}

/// Shows what counts where nothing is given on the command line.
pub fn show(args: &ConfigShowArgs, global: &Global) -> Done {
    let settings = Settings::of(layers(global)?)?;
    let mut all = Vec::new();
    for section in sections(&Cli::command()) {
        for setting in &section.settings {
            let (values, origin) = found(&section.name, setting, &settings);
            let values = values.iter().map(|value| masked(value)).collect();
            all.push(Shown { section: section.name.clone(), name: setting.name.clone(), values, origin });
        }
    }
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&all)?,
        Format::Table => {
            let row = |it: &Shown| {
                let mut row = vec![it.section.clone(), it.name.clone(), it.values.join(", ")];
                row.extend(args.origin.then(|| it.origin.clone()));
                row
            };
            let header = ["section", "setting", "value", "from"];
            let columns = if args.origin { 4 } else { 3 };
            stdout.line(&output::table(&header[..columns], &[], all.iter().map(row).collect()).to_string())?;
        }
    }
    stdout.flush()
}

/// Returns what counts in this process, which serves: what was given on its command line, too. Passwords are left out.
pub fn effective(global: &Global) -> Result<Vec<Shown>, Failure> {
    let settings = Settings::of(layers(global)?)?;
    let matches = Cli::command().ignore_errors(true).get_matches();
    let given = matches.subcommand_matches(SERVE);
    let mut all = Vec::new();
    for section in sections(&Cli::command()).iter().filter(|section| section.name == SERVE) {
        for setting in &section.settings {
            let id = setting.arg.get_id().as_str();
            let typed = given.filter(|given| given.value_source(id) == Some(ValueSource::CommandLine));
            let (values, origin) = match typed {
                Some(typed) => {
                    let raw = typed.get_raw(id).into_iter().flatten();
                    let raw: Vec<String> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
                    // A switch is typed without a value.
                    let is_switch = !setting.arg.get_action().takes_values();
                    (if is_switch { vec!["true".to_owned()] } else { raw }, format!("--{}", setting.name))
                }
                None => found(&section.name, setting, &settings),
            };
            let values = values.iter().map(|value: &String| masked(value)).collect();
            all.push(Shown { section: section.name.clone(), name: setting.name.clone(), values, origin });
        }
    }
    Ok(all)
}

fn found(section: &str, setting: &Setting, settings: &Settings) -> (Vec<String>, String) {
    if let Ok(text) = std::env::var(&setting.variable) {
        let many = setting.arg.get_value_delimiter();
        let values = many.map_or_else(|| vec![text.clone()], |sign| text.split(sign).map(str::to_owned).collect());
        return (values, setting.variable.clone());
    }
    match settings.get(section, &setting.name) {
        Some(value) => (value.texts.clone(), value.place.clone()),
        None => (defaults(&setting.arg), "default".to_owned()),
    }
}

fn defaults(arg: &Arg) -> Vec<String> {
    match arg.get_action().takes_values() {
        true => arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect(),
        false => vec!["false".to_owned()],
    }
}

/// Returns a value without what should be in no terminal: passwords in addresses, and among the options behind a `?`.
fn masked(value: &str) -> String {
    let (place, query) = value.split_once('?').map_or((value, None), |(place, query)| (place, Some(query)));
    let place = match (place.split_once("://"), place.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        _ => place.to_owned(),
    };
    let Some(query) = query else { return place };
    let option = |option: &str| match option.split_once('=') {
        Some((name, _)) if SECRET.iter().any(|part| name.contains(part)) => format!("{name}=***"),
        _ => option.to_owned(),
    };
    format!("{place}?{}", query.split('&').map(option).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (value, shown) in [
            ("topics", "topics"),
            ("kafka://a:1,b:2?sasl.password=x&client.rack=r", "kafka://a:1,b:2?sasl.password=***&client.rack=r"),
            ("https://me:word@h:1/x", "https://***@h:1/x"),
            ("s3://bucket/p", "s3://bucket/p"),
        ] {
            assert_eq!(masked(value), shown);
        }
    }
}
