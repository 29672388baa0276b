//! Scalars by their kind: from a text to a value, or why it is none.

use riverrun_operators::frustration::settings::Limit;

use super::fields::{Choice, Kind};
use super::reader::Value;
use super::values;
use crate::fault::{Fault, codes, list, shorten};
use crate::yaml::Span;

/// Returns what a value of this kind is, for a message.
pub(super) fn wanted(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Texts | Kind::Headers | Kind::Anything | Kind::Outside | Kind::JobName | Kind::Topic => {
            "a text".to_owned()
        }
        Kind::Stream | Kind::Streams => "the name of a source or step".to_owned(),
        Kind::Column | Kind::Columns => "the name of a column".to_owned(),
        Kind::Sql | Kind::SqlList | Kind::SqlMap | Kind::Conditions => "an SQL expression".to_owned(),
        Kind::Duration(..) => "a duration such as `5s`".to_owned(),
        Kind::Bytes(..) => "a size such as `64MiB`".to_owned(),
        Kind::Number(..) => "a whole number".to_owned(),
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Char => "one character".to_owned(),
        Kind::Time => "a date or time".to_owned(),
        Kind::Choice(choices) | Kind::Choices(choices) => format!("one of {}", words(choices)),
        Kind::Word(words) | Kind::Words(words) => format!("one of {}", list(words)),
        Kind::Limit => "a number of ms, or `<` and one".to_owned(),
        Kind::Schema | Kind::Section(_) | Kind::Each(_) => "a map".to_owned(),
    }
}

fn words(choices: &[Choice]) -> String {
    list(choices.iter().filter(|choice| !choice.later).map(|choice| choice.word))
}

/// Why a scalar is no value of its kind.
pub(super) enum Unfit {
    Name(&'static str),
    Quantity(String),
    Choice(&'static [Choice]),
    Later(&'static [Choice]),
    Reference(String),
    Word(&'static [&'static str]),
}

impl Unfit {
    /// Returns the fault of `name`, whose value `text` is at fault.
    pub(super) fn at(self, name: &str, text: &str, span: Span) -> Fault {
        let shown = shorten(text);
        match self {
            Unfit::Name(rule) => Fault::error(codes::BAD_NAME, span, format!("{name} cannot be `{shown}`")).note(rule),
            Unfit::Quantity(rule) => {
                Fault::error(codes::BAD_QUANTITY, span, format!("{name} cannot be `{shown}`")).note(rule)
            }
            Unfit::Choice(choices) => {
                let known = choices.iter().map(|choice| choice.word);
                Fault::error(codes::BAD_CHOICE, span, format!("{name} cannot be `{shown}`"))
                    .note(format!("it is one of {}", words(choices)))
                    .did_you_mean(text, known)
            }
            Unfit::Word(words) => Fault::error(codes::BAD_CHOICE, span, format!("{name} cannot be `{shown}`"))
                .note(format!("it is one of {}", list(words)))
                .did_you_mean(text, words.iter().copied()),
            Unfit::Later(choices) => {
                Fault::error(codes::NOT_YET, span, format!("{name} is `{shown}`, which is not in this version"))
                    .note(format!("there are {}", words(choices)))
            }
            Unfit::Reference(reason) => Fault::error(codes::BAD_REFERENCE, span, format!("{name}: {reason}"))
                .note("a reference is `${env:NAME}` or `${file:PATH}`"),
        }
    }
}

/// Reads `text` as a value of this kind.
pub(super) fn scalar(kind: Kind, text: &str) -> Result<Value, Unfit> {
    let owned = || Value::Text(text.to_owned());
    match kind {
        Kind::JobName => values::job_name(text).map(|()| owned()).map_err(Unfit::Name),
        Kind::Topic => values::topic_name(text).map(|()| owned()).map_err(Unfit::Name),
        Kind::Outside => match values::pieces(text) {
            Ok(_) => Ok(owned()),
            Err((_, reason)) => Err(Unfit::Reference(reason)),
        },
        Kind::Duration(least, most) => {
            let value = values::duration(text).map_err(Unfit::Quantity)?;
            let bound = |text| values::duration(text).expect("bounds are durations");
            in_bounds(value, bound(least)..=bound(most), (least, most)).map(Value::Duration)
        }
        Kind::Bytes(least, most) => {
            let value = values::bytes(text).map_err(Unfit::Quantity)?;
            let bound = |text| values::bytes(text).expect("bounds are sizes");
            in_bounds(value, bound(least)..=bound(most), (least, most)).map(Value::Number)
        }
        Kind::Number(least, most) => {
            let value = text.parse::<u64>().map_err(|_| Unfit::Quantity("it is a whole number".to_owned()))?;
            in_bounds(value, least..=most, (&least.to_string(), &most.to_string())).map(Value::Number)
        }
        Kind::Flag => match text {
            "true" => Ok(Value::Flag(true)),
            "false" => Ok(Value::Flag(false)),
            _ => Err(Unfit::Choice(FLAG)),
        },
        Kind::Char => match text.as_bytes() {
            [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n".contains(byte) => Ok(owned()),
            _ => Err(Unfit::Quantity("it is one character, such as `,` or `;` or `\"\\t\"`".to_owned())),
        },
        Kind::Time => values::time(text).map(Value::Time).map_err(Unfit::Quantity),
        Kind::Choice(choices) => match choices.iter().find(|choice| choice.word == text) {
            Some(choice) if choice.later => Err(Unfit::Later(choices)),
            Some(_) => Ok(owned()),
            None => Err(Unfit::Choice(choices)),
        },
        Kind::Word(words) | Kind::Words(words) => match words.contains(&text) {
            true => Ok(owned()),
            false => Err(Unfit::Word(words)),
        },
        Kind::Limit => match Limit::parse(text) {
            Some(_) => Ok(owned()),
            None => Err(Unfit::Quantity(
                "it is a number of ms such as `1000`, or less than one such as `\"<1000\"`".to_owned(),
            )),
        },
        _ => Ok(owned()),
    }
}

static FLAG: &[Choice] =
    &[Choice { word: "true", doc: "yes", later: false }, Choice { word: "false", doc: "no", later: false }];

fn in_bounds<T: PartialOrd>(value: T, bounds: std::ops::RangeInclusive<T>, shown: (&str, &str)) -> Result<T, Unfit> {
    match bounds.contains(&value) {
        true => Ok(value),
        false => Err(Unfit::Quantity(format!("it is at least {} and at most {}", shown.0, shown.1))),
    }
}
