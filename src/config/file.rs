//! One file of settings: TOML, with a place for every fault.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use riverrun_jobs::fault::closest;
use toml::de::{DeTable, DeValue};

use super::settings::{CLIENT, Section};
use crate::exit::{Exit, Failure, OrExit};

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// By section and name.
    pub values: BTreeMap<(String, String), Value>,
}

/// A setting as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The texts that an option would be given.
    pub texts: Vec<String>,
    /// Where it stands, `FILE:LINE`.
    pub place: String,
}

/// Reads a file. All that is wrong with it is said at once.
pub fn read(path: &Path, known: &[Section]) -> Result<Layer, Failure> {
    let shown = path.display().to_string();
    let text =
        std::fs::read_to_string(path).or_exit(Exit::Invalid, || format!("cannot read the settings in {shown}"))?;
    parse(&shown, &text, known).map_err(|faults| Failure::new(Exit::Invalid, faults.join("\n")))
}

/// Reads a file that was found in the working directory, unless somebody else could write to it. What it says of the manager that is
/// asked does not count, and is said: it would be where an API key and secrets go.
pub fn read_found(path: &Path, known: &[Section]) -> Result<Layer, Failure> {
    let cannot = || format!("cannot read the settings in {}", path.display());
    let mut file = std::fs::File::open(path).or_exit(Exit::Invalid, cannot)?;
    // What is looked at is what is read, whatever the path names a moment later.
    let about = file.metadata().or_exit(Exit::Invalid, cannot)?;
    let own = std::fs::metadata("/proc/self").map_or(about.uid(), |process| process.uid());
    let others_write = about.mode() & 0o022 != 0;
    if others_write || ![0, own].contains(&about.uid()) {
        let message = format!(
            "{} could have been written by somebody else, and settings say what a manager opens to whom\n  hint: make it yours and writable for nobody else, or name it with --config",
            path.display()
        );
        return Err(Failure::new(Exit::Invalid, message));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).or_exit(Exit::Invalid, cannot)?;
    let layer = parse(&path.display().to_string(), &text, known)
        .map_err(|faults| Failure::new(Exit::Invalid, faults.join("\n")))?;
    match layer.values.iter().find(|((section, _), _)| section == CLIENT.0) {
        None => Ok(layer),
        Some(((section, name), value)) => {
            let message = format!(
                "error: `{name}` of `[{section}]` does not count in a file that was found in the working directory: it says where an API key and secrets go, and the file may be somebody else's\n  at {}\n  hint: put it into your own file, ~/.config/riverrun/config.toml, or name this one: --config {}",
                value.place,
                path.display()
            );
            Err(Failure::new(Exit::Invalid, message))
        }
    }
}

fn parse(file: &str, text: &str, known: &[Section]) -> Result<Layer, Vec<String>> {
    let line_of = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
    let place = |at: usize| format!("{file}:{}", line_of(at));
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or_else(|| file.to_owned(), |span| place(span.start));
        vec![format!("error: {} \n  at {at}", error.message()).replace(" \n", "\n")]
    })?;
    let mut layer = Layer { values: BTreeMap::new() };
    let mut faults = Vec::new();
    let mut fault = |what: String, at: usize, hint: String| {
        faults.push(format!("error: {what}\n  at {}\n  hint: {hint}", place(at)));
    };
    for (name, value) in table.get_ref() {
        let at = name.span().start;
        let names = || known.iter().map(|section| section.name.as_str());
        let Some(section) = known.iter().find(|section| section.name == name.get_ref().as_ref()) else {
            let hint = closest(name.get_ref(), names()).map(|near| format!("did you mean `[{near}]`?"));
            let hint = hint.unwrap_or_else(|| format!("there are {}", names().collect::<Vec<_>>().join(", ")));
            fault(format!("there are no settings `{}`", name.get_ref()), at, hint);
            continue;
        };
        let DeValue::Table(entries) = value.get_ref() else {
            fault(format!("`{}` is a table", section.name), at, format!("write `[{}]`", section.name));
            continue;
        };
        for (key, value) in entries {
            let at = key.span().start;
            let names = || section.settings.iter().map(|setting| setting.name.as_str());
            let Some(setting) = section.settings.iter().find(|setting| setting.name == key.get_ref().as_ref()) else {
                let hint = closest(key.get_ref(), names()).map(|near| format!("did you mean `{near}`?"));
                let hint = hint.unwrap_or_else(|| format!("there are {}", names().collect::<Vec<_>>().join(", ")));
                fault(format!("`[{}]` has no setting `{}`", section.name, key.get_ref()), at, hint);
                continue;
            };
            match texts(value.get_ref()).and_then(|texts| setting.check(&texts).map(|()| texts)) {
                Ok(texts) => {
                    let value = Value { texts, place: place(at) };
                    layer.values.insert((section.name.clone(), setting.name.clone()), value);
                }
                Err((what, hint)) => fault(format!("`{}` {what}", setting.name), at, hint),
            }
        }
    }
    if faults.is_empty() { Ok(layer) } else { Err(faults) }
}

/// Returns what an option would be given, or what is wrong and what to do.
fn texts(value: &DeValue<'_>) -> Result<Vec<String>, (String, String)> {
    let one = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.as_str().to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(is) => Ok(is.to_string()),
        _ => Err((
            "is a text, a number, `true` or `false`, or a list".to_owned(),
            "write it as the option takes it".to_owned(),
        )),
    };
    match value {
        DeValue::Array(values) => values.iter().map(|value| one(value.get_ref())).collect(),
        value => one(value).map(|text| vec![text]),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;
    use crate::config::settings::sections;

    fn parsed(text: &str) -> Result<Layer, Vec<String>> {
        parse("f.toml", text, &sections(&Cli::command()))
    }

    #[test]
    fn settings_have_the_names_and_the_forms_of_options() {
        let text = "[serve]\nlisten = \"127.0.0.1:9\"\nallow-host = [\"a:1\", \"b\"]\nstop-jobs = true\n\n[client]\nserver = \"http://h:1\"\n";
        let layer = parsed(text).unwrap();
        let of = |section: &str, name: &str| layer.values[&(section.to_owned(), name.to_owned())].clone();
        assert_eq!(
            of("serve", "allow-host"),
            Value { texts: vec!["a:1".into(), "b".into()], place: "f.toml:3".into() }
        );
        assert_eq!(of("serve", "stop-jobs").texts, ["true"]);
        assert_eq!(of("client", "server").place, "f.toml:7");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_what_was_meant() {
        for (text, line, says) in [
            ("[serve]\nlisen = \"127.0.0.1:9\"", 2, "did you mean `listen`?"),
            ("[sevre]\nlisten = \"x\"", 1, "did you mean `[serve]`?"),
            ("serve = 1", 1, "is a table"),
            ("[serve]\nlisten = \"here\"", 2, "`listen` is not"),
            ("[serve]\nstop-within = \"5\"", 2, "needs a unit"),
            ("[serve]\nstop-jobs = \"perhaps\"", 2, "perhaps"),
            ("[serve]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]", 2, "one value"),
            ("[serve]\ntopics = { a = 1 }", 2, "or a list"),
            ("[client]\nserver = \n", 2, "f.toml"),
        ] {
            let faults = parsed(text).unwrap_err().join("\n");
            assert!(faults.contains(says) && faults.contains(&format!("f.toml:{line}")), "{text}: {faults}");
        }
        assert_eq!(parsed("[serve]\na = 1\nb = 2\n").unwrap_err().len(), 2, "all is said at once");
    }
}
