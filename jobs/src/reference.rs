//! The reference page of the job file, made of the table in [`crate::spec::fields`].

use std::fmt::Write;

use riverrun_operators::frustration::settings::Settings;

use crate::spec::fields::{Field, JOB, Kind, Section};
use crate::spec::reusable;

/// Returns the page `docs/reference/job-file.md`.
pub fn reference() -> String {
    let mut out = String::from("# The job file\n\nMade from the same table that reads job files; do not edit.\n\n");
    out.push_str(
        "Durations are written `500ms`, `5s`, `30m`, `24h`, `7d`; sizes `64MiB`. Any value can be set on the command \
         line: `--set sources.clicks.file.path=in/*.jsonl`. In the options of a connector `${env:NAME}` and `${file:PATH}` \
         stand for a variable of the environment and the contents of a file.\n",
    );
    section(&JOB, "The job", 2, &mut out);
    out.push_str(TYPES);
    for schema in reusable::ALL {
        write(&mut out, format_args!("\n## The schema `{}`\n\n", schema.name));
        write(
            &mut out,
            format_args!(
                "What a source of behaviour events has, by `schema: \"{}\"`: its event time is `{}`, its id `{}`. Only columns in \
                 use are decoded. A source that spells out columns of these names instead, and its own beside them, serves the \
                 behaviour steps as well.\n\n",
                schema.name, schema.event_time, schema.id
            ),
        );
        out.push_str(&schema.page());
    }
    out
}

/// What a reader of JSON, CSV or Parquet needs to know of types.
const TYPES: &str = "\n## Types of columns\n\n\
| type | JSON value |\n|---|---|\n\
| `string` | a text |\n\
| `bool` | `true` or `false` |\n\
| `int64` | a whole number |\n\
| `float64` | a number |\n\
| `decimal(12,2)` | a number, or a text that holds one, exact; 1 to 38 digits, of which so many after the point |\n\
| `timestamp` | an RFC 3339 text such as `2026-01-31T12:00:00Z` |\n\
| `timestamp_s`, `timestamp_ms`, `timestamp_us` | whole seconds, milliseconds, microseconds since 1970 |\n\
| `date` | a text such as `2026-01-31` |\n\
| `json` | anything, kept as it is |\n\
| `list<T>` | a list |\n\
| `struct{a: T, b: T}` | an object |\n\n\
Fields that the schema does not name are ignored; one that is missing is null, and a row without a required one \
(`string!`) is bad, as is a row with a value of another type.\n";

fn section(section_of: &Section, title: &str, level: usize, out: &mut String) {
    let built = || section_of.fields.iter().filter(|field| !field.later);
    write(out, format_args!("\n{} {title}\n\n{}\n", "#".repeat(level), section_of.doc));
    for group in section_of.one_of {
        let names: Vec<String> = section_of
            .group(group.name)
            .filter(|field| !field.later)
            .map(|field| format!("`{}`", field.name))
            .collect();
        write(out, format_args!("\nExactly one of {} says {}.\n", names.join(", "), group.says));
    }
    if built().next().is_some() {
        out.push_str("\n| key | value | default | meaning |\n|---|---|---|---|\n");
        built().for_each(|field| row(section_of, field, out));
    }
    for field in built() {
        match field.kind {
            Kind::Section(inner) => section(inner, &format!("`{}`", field.name), (level + 1).min(5), out),
            Kind::Each(inner) => section(inner, &format!("`{}`: {}", field.name, inner.what), 2, out),
            _ => {}
        }
    }
}

fn row(section: &Section, field: &Field, out: &mut String) {
    let default = match field.default {
        Some("") => "empty".to_owned(),
        Some(default) => format!("`{default}`"),
        None if field.required => "must be given".to_owned(),
        // The settings of signals have the defaults of the rules.
        None => match Settings::default().get(section.what.trim_matches('`'), field.name) {
            Some(default) => format!("`{}`", default.replace('|', "\\|")),
            None => String::new(),
        },
    };
    let mut doc = field.doc.trim().replace('|', "\\|");
    if let Kind::Choice(choices) | Kind::Choices(choices) = field.kind {
        for choice in choices.iter().filter(|choice| !choice.later) {
            write(&mut doc, format_args!(" `{}`: {}.", choice.word, choice.doc));
        }
    }
    write(out, format_args!("| `{}` | {} | {default} | {doc} |\n", field.name, value(field.kind)));
}

fn value(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Outside | Kind::JobName | Kind::Topic => "text".to_owned(),
        Kind::Stream => "name".to_owned(),
        Kind::Streams => "list of names".to_owned(),
        Kind::Column => "column".to_owned(),
        Kind::Columns => "list of columns".to_owned(),
        Kind::Texts => "list of texts".to_owned(),
        Kind::Anything => "see below".to_owned(),
        Kind::Sql => "SQL".to_owned(),
        Kind::SqlList => "list of columns and SQL".to_owned(),
        Kind::SqlMap => "names and aggregates".to_owned(),
        Kind::Headers => "names and columns".to_owned(),
        Kind::Conditions => "names and SQL conditions".to_owned(),
        Kind::Schema => "names and types, `\"@...\"`, or a list of both".to_owned(),
        Kind::Duration(least, most) => format!("duration, {least} to {most}"),
        Kind::Bytes(least, most) => format!("size, {least} to {most}"),
        Kind::Number(least, most) => format!("number, {least} to {most}"),
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Char => "one character".to_owned(),
        Kind::Time => "date or time".to_owned(),
        Kind::Choice(choices) => {
            let words = choices.iter().filter(|choice| !choice.later).map(|choice| format!("`{}`", choice.word));
            words.collect::<Vec<_>>().join(", ")
        }
        Kind::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::Words(_) => "list of words".to_owned(),
        Kind::Limit => "ms, or `\"<ms\"`".to_owned(),
        Kind::Choices(_) => "list of words".to_owned(),
        Kind::Section(_) => "map, see below".to_owned(),
        Kind::Each(_) => "names, each with a map, see below".to_owned(),
    }
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string can be written to");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_that_is_checked_in_is_the_one_that_is_made() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/job-file.md");
        let made = super::reference();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        assert!(std::fs::read_to_string(path).unwrap() == made, "the page is stale: run the tests with UPDATE=1");
    }
}
