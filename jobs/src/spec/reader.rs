//! Reads a tree by the table of [`fields`](super::fields): every fault at once, defaults put in.

use std::collections::HashSet;
use std::time::Duration;

use riverrun_connectors::format::{Column, ColumnType, Meta};
use riverrun_dataflow::EventTime;

use super::fields::{Choice, Field, Group, Kind, Section, choice, field};
use super::reusable::{self, Reusable};
use super::scalars::{scalar, wanted};
use super::values;
use crate::fault::{Fault, codes, list, shorten};
use crate::yaml::{Entry, Node, Span, Spanned};

/// A map that was read by its section. Every key with a default has a value.
#[derive(Clone, Debug)]
pub struct Form {
    /// Where it stands.
    pub span: Span,
    /// Nothing in it is at fault.
    pub whole: bool,
    values: Vec<(&'static str, Spanned<Value>)>,
    /// The keys that were written; the others have their default.
    written: Vec<&'static str>,
}

/// A value that was read by its kind.
#[derive(Clone, Debug)]
pub enum Value {
    /// A text, a name, an expression, a choice.
    Text(String),
    /// A duration.
    Duration(Duration),
    /// A size or a number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// A time.
    Time(EventTime),
    /// Names or expressions.
    List(Vec<Spanned<String>>),
    /// Names with expressions.
    Named(Vec<(Spanned<String>, Spanned<String>)>),
    /// Columns.
    Schema(Columns),
    /// As written.
    Node(Node),
    /// A map with fixed keys.
    Form(Form),
    /// Names with such maps.
    Forms(Vec<(Spanned<String>, Form)>),
}

/// The columns of a source.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The columns, with the places where they were written.
    pub columns: Vec<Spanned<Column>>,
    /// The schema that was named instead of columns.
    pub reusable: Option<&'static Reusable>,
}

/// Keys that a map may have. What is made of them is compared with each other, and so many columns have no use.
const KEYS_MAX: usize = 4000;
/// Sources that a job may have; likewise steps, and sinks.
const PARTS_MAX: usize = 1000;

/// Reads trees and gathers faults.
#[derive(Default)]
pub struct Reader {
    /// What is at fault so far.
    pub faults: Vec<Fault>,
}

/// A place in the job in the words of a message, and where it stands.
#[derive(Clone, Copy)]
struct Who<'a> {
    name: &'a str,
    at: Span,
}

impl Reader {
    /// Reads the map `node` as `section`; `name` is what messages call it, `at` where a missing key is reported.
    pub fn form(&mut self, section: &'static Section, node: &Node, name: &str, at: Span) -> Form {
        let before = self.faults.len();
        let who = Who { name, at };
        let empty = Vec::new();
        let entries = match &node.value {
            crate::yaml::Value::Map(entries) => entries,
            crate::yaml::Value::Null => &empty,
            other => {
                let message = format!("{name} is {}, not a map of keys", other.describe());
                self.faults.push(Fault::error(codes::WRONG_KIND, node.span, message).note(keys_of(section)));
                return Form { span: node.span, whole: false, values: Vec::new(), written: Vec::new() };
            }
        };
        let mut values = Vec::new();
        for entry in self.once(entries, name, KEYS_MAX) {
            if let Some((field, value)) = self.entry(section, entry, who) {
                values.push((field.name, value));
            }
        }
        let written = values.iter().map(|(name, _)| *name).collect();
        self.check_groups(section, entries, who);
        for field in section.fields.iter().filter(|field| !given(entries, field.name)) {
            if let Some(value) = self.absent(field, who) {
                values.push((field.name, Spanned { value, span: at }));
            }
        }
        Form { span: node.span, whole: self.faults.len() == before, values, written }
    }

    /// Returns the entries without repetitions, which are faults, as are more than `most` of them.
    fn once<'n>(&mut self, mut entries: &'n [Entry], name: &str, most: usize) -> Vec<&'n Entry> {
        if let Some(beyond) = entries.get(most) {
            let message = format!("{name} has {} keys, and may have {most}", entries.len());
            self.faults.push(Fault::error(codes::TOO_MANY, beyond.key.span, message));
            entries = &entries[..most];
        }
        let mut seen = HashSet::new();
        let (first, again): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| seen.insert(&entry.key.value));
        for entry in again {
            let message = format!("{name} has the key `{}` twice", shorten(&entry.key.value));
            self.faults.push(Fault::error(codes::REPEATED_KEY, entry.key.span, message).hint("keep one of them"));
        }
        first
    }

    fn entry(
        &mut self,
        section: &'static Section,
        entry: &Entry,
        who: Who<'_>,
    ) -> Option<(&'static Field, Spanned<Value>)> {
        let key = &entry.key;
        let Some(field) = section.field(&key.value) else {
            self.faults.push(unknown_key(section, key, who.name));
            return None;
        };
        if field.later {
            let message = format!("{} uses `{}`, which is not in this version", who.name, field.name);
            self.faults.push(Fault::error(codes::NOT_YET, key.span, message).note(built(section, field)));
            return None;
        }
        let Some(value) = self.value(field, entry, who) else {
            self.hint_at_another_key(section, field, &entry.value);
            return None;
        };
        Some((field, Spanned { value, span: entry.value.span }))
    }

    /// Adds to the fault of a word that cannot stand as `field`, that it can stand in another key.
    fn hint_at_another_key(&mut self, section: &'static Section, field: &Field, node: &Node) {
        let crate::yaml::Value::Scalar(scalar) = &node.value else { return };
        let is_there = |other: &&Field| match other.kind {
            Kind::Choices(choices) => choices.iter().any(|choice| choice.word == scalar.text && !choice.later),
            _ => false,
        };
        let other = section.fields.iter().filter(|other| other.name != field.name).find(is_there);
        if matches!(field.kind, Kind::Choice(_))
            && let Some(other) = other
            && let Some(fault) = self.faults.pop()
        {
            self.faults.push(fault.hint(format!("write `{}: [{}]`", other.name, scalar.text)));
        }
    }

    fn value(&mut self, field: &'static Field, entry: &Entry, who: Who<'_>) -> Option<Value> {
        let node = &entry.value;
        let inner = match who.name {
            "the job" => format!("`{}`", field.name),
            name => format!("`{}` of {name}", field.name),
        };
        match field.kind {
            Kind::Section(section) => Some(Value::Form(self.form(section, node, &inner, entry.key.span))),
            Kind::Each(section) => self.each(section, node, &inner),
            Kind::Schema => self.schema(node, &inner),
            Kind::SqlMap | Kind::Conditions => self.named(node, &inner, Reader::column_name),
            Kind::Headers => self.named(node, &inner, Reader::header_name),
            Kind::Anything => Some(Value::Node(node.clone())),
            Kind::Streams | Kind::Columns | Kind::SqlList | Kind::Words(_) | Kind::Texts => {
                self.list(field.kind, node, &inner)
            }
            Kind::Choices(choices) => self.choices(choices, node, &inner),
            kind => {
                let text = self.text(node, kind, &inner)?;
                match scalar(kind, &text) {
                    Ok(value) => Some(value),
                    Err(fault) => {
                        self.faults.push(fault.at(&inner, &text, node.span));
                        None
                    }
                }
            }
        }
    }

    /// Returns the value of a key that is not given: its default, or a fault.
    fn absent(&mut self, field: &'static Field, who: Who<'_>) -> Option<Value> {
        if field.required {
            let message = format!("{} has no `{}`", who.name, field.name);
            self.faults.push(Fault::error(codes::MISSING_KEY, who.at, message).note(first_sentence(field.doc)));
            return None;
        }
        match (field.kind, field.default) {
            (Kind::Section(section), None) if field.group.is_empty() => {
                let nothing = Node { span: who.at, value: crate::yaml::Value::Null };
                Some(Value::Form(self.form(section, &nothing, who.name, who.at)))
            }
            (kind, Some(default)) => scalar(kind, default).ok(),
            _ => None,
        }
    }

    fn check_groups(&mut self, section: &'static Section, entries: &[Entry], who: Who<'_>) {
        for group in section.one_of {
            let built = || section.group(group.name).filter(|field| !field.later).map(|field| field.name);
            let found: Vec<&Entry> = entries
                .iter()
                .filter(|entry| section.field(&entry.key.value).is_some_and(|field| field.group == group.name))
                .collect();
            // A mistyped key is reported as such; that the right one is missing then says nothing more.
            let mistyped = entries.iter().any(|entry| section.field(&entry.key.value).is_none());
            let later = found.iter().any(|entry| section.field(&entry.key.value).is_some_and(|field| field.later));
            let fault = match found.as_slice() {
                _ if later => continue,
                [_] => continue,
                [] if mistyped => continue,
                [] => Fault::error(codes::NOT_ONE, who.at, format!("{} does not say {}", who.name, group.says))
                    .hint(format!("give one of {}", list(built()))),
                [first, second, ..] => {
                    let (first, key) = (&first.key.value, &second.key);
                    let message = format!("{} has both `{first}` and `{}`", who.name, key.value);
                    if first == &key.value {
                        continue;
                    }
                    Fault::error(codes::NOT_ONE, key.span, message)
                        .note(format!("one key says {}", group.says))
                        .hint("keep one of them")
                }
            };
            self.faults.push(fault);
        }
    }

    fn each(&mut self, section: &'static Section, node: &Node, name: &str) -> Option<Value> {
        let entries = self.map(node, name)?;
        let noun = section.what.trim_start_matches("a ");
        let mut forms = Vec::new();
        for entry in self.once(entries, name, PARTS_MAX) {
            let key = &entry.key;
            let who = format!("{noun} `{}`", shorten(&key.value));
            if let Err(rule) = values::part_name(&key.value) {
                let message = format!("`{}` cannot be the name of {}", shorten(&key.value), section.what);
                self.faults.push(Fault::error(codes::BAD_NAME, key.span, message).note(rule));
            }
            let form = self.form(section, &entry.value, &who, key.span);
            forms.push((key.clone(), form));
        }
        Some(Value::Forms(forms))
    }

    fn map<'n>(&mut self, node: &'n Node, name: &str) -> Option<&'n [Entry]> {
        match &node.value {
            crate::yaml::Value::Map(entries) => Some(entries),
            crate::yaml::Value::Null => Some(&[]),
            other => {
                let message = format!("{name} is {}, not a map of names", other.describe());
                self.faults.push(Fault::error(codes::WRONG_KIND, node.span, message));
                None
            }
        }
    }

    fn text(&mut self, node: &Node, kind: Kind, name: &str) -> Option<String> {
        match &node.value {
            crate::yaml::Value::Scalar(scalar) => Some(scalar.text.clone()),
            crate::yaml::Value::Null => {
                let message = format!("{name} has no value");
                self.faults
                    .push(Fault::error(codes::WRONG_KIND, node.span, message).hint(format!("give {}", wanted(kind))));
                None
            }
            other => {
                let message = format!("{name} is {}, not {}", other.describe(), wanted(kind));
                self.faults.push(Fault::error(codes::WRONG_KIND, node.span, message));
                None
            }
        }
    }

    fn list(&mut self, kind: Kind, node: &Node, name: &str) -> Option<Value> {
        let crate::yaml::Value::List(items) = &node.value else {
            let message = format!("{name} is {}, not a list", node.value.describe());
            let hint = match &node.value {
                crate::yaml::Value::Scalar(scalar) => format!("write `[{}]`", shorten(&scalar.text)),
                _ => "write `[a, b]`".to_owned(),
            };
            self.faults.push(Fault::error(codes::WRONG_KIND, node.span, message).hint(hint));
            return None;
        };
        if items.is_empty() && !matches!(kind, Kind::Columns) {
            self.faults.push(Fault::error(codes::WRONG_KIND, node.span, format!("{name} is an empty list")));
            return None;
        }
        let one = match kind {
            Kind::SqlList => Kind::Sql,
            Kind::Words(_) | Kind::Texts => kind,
            _ => Kind::Column,
        };
        let item_name = format!("an item of {name}");
        let texts: Vec<Option<Spanned<String>>> = items
            .iter()
            .map(|item| {
                let value = self.text(item, one, &item_name)?;
                match scalar(one, &value) {
                    Ok(_) => Some(Spanned { value, span: item.span }),
                    Err(fault) => {
                        self.faults.push(fault.at(&item_name, &value, item.span));
                        None
                    }
                }
            })
            .collect();
        texts.into_iter().collect::<Option<Vec<_>>>().map(Value::List)
    }

    /// Reads a list of words, each of which may stand once.
    fn choices(&mut self, choices: &'static [Choice], node: &Node, name: &str) -> Option<Value> {
        let Some(Value::List(words)) = self.list(Kind::Choices(choices), node, name) else { return None };
        let before = self.faults.len();
        for (at, word) in words.iter().enumerate() {
            let item = format!("an item of {name}");
            if let Err(unfit) = scalar(Kind::Choice(choices), &word.value) {
                self.faults.push(unfit.at(&item, &word.value, word.span));
            } else if words[..at].iter().any(|other| other.value == word.value) {
                let message = format!("{name} has `{}` twice", word.value);
                self.faults.push(Fault::error(codes::NAME_CLASH, word.span, message).hint("keep one of them"));
            }
        }
        (self.faults.len() == before).then_some(Value::List(words))
    }

    fn named(&mut self, node: &Node, name: &str, check: impl Fn(&mut Reader, &Spanned<String>)) -> Option<Value> {
        let entries = self.map(node, name)?;
        let mut named = Some(Vec::new());
        for entry in self.once(entries, name, KEYS_MAX) {
            check(self, &entry.key);
            let what = format!("`{}` of {name}", shorten(&entry.key.value));
            match (self.text(&entry.value, Kind::Sql, &what), &mut named) {
                (Some(value), Some(named)) => {
                    named.push((entry.key.clone(), Spanned { value, span: entry.value.span }))
                }
                _ => named = None,
            }
        }
        named.map(Value::Named)
    }

    fn column_name(&mut self, key: &Spanned<String>) {
        if let Err(rule) = values::column_name(&key.value) {
            let message = format!("`{}` cannot be the name of a column", shorten(&key.value));
            let fault = Fault::error(codes::BAD_NAME, key.span, message).note(rule);
            self.faults.push(fault);
        }
    }

    fn header_name(&mut self, key: &Spanned<String>) {
        if key.value.is_empty() || key.value.chars().any(char::is_control) {
            let message = format!("`{}` cannot be the name of a header", shorten(&key.value));
            self.faults.push(Fault::error(codes::BAD_NAME, key.span, message));
        }
    }

    /// Reads the name of a schema, such as `@behaviour-event`.
    fn reusable(&mut self, written: &str, node: &Node, name: &str) -> Option<Value> {
        let Some(reusable) = Reusable::find(written) else {
            let message = format!("{name} is `{}`, which is no schema", shorten(written));
            let names = reusable::ALL.map(|schema| schema.name);
            let fault = Fault::error(codes::BAD_CHOICE, node.span, message);
            let note =
                format!("it is a map of columns and types, or one of {}", list(names.map(|it| format!("`{it}`"))));
            self.faults.push(fault.note(note).did_you_mean(written, names));
            return None;
        };
        let columns = reusable.columns().into_iter().map(|value| Spanned { value, span: node.span }).collect();
        Some(Value::Schema(Columns { columns, reusable: Some(reusable) }))
    }

    /// Reads the name of a schema and a map of columns beside its own.
    fn extended(&mut self, parts: &[Node], node: &Node, name: &str) -> Option<Value> {
        let [Node { value: crate::yaml::Value::Scalar(named), .. }, own] = parts else {
            let fault = Fault::error(codes::WRONG_KIND, node.span, format!("{name} is a list, but not of two parts"));
            self.faults.push(fault.note("as a list it has the name of a schema, then a map of columns beside those"));
            return None;
        };
        let (known, own) = (self.reusable(&named.text, &parts[0], name), self.schema(own, name));
        let (Value::Schema(mut known), Value::Schema(Columns { columns, reusable: None })) = (known?, own?) else {
            let fault = Fault::error(codes::WRONG_KIND, node.span, format!("{name} has no map of columns"));
            self.faults.push(fault.note("as a list it has the name of a schema, then a map of columns beside those"));
            return None;
        };
        let own = known.columns.len();
        for column in columns {
            if known.columns[..own].iter().any(|other| other.value.name == column.value.name) {
                let message = format!("{name} has a column `{}` already", column.value.name);
                let note = format!("it is one of `{}`", named.text);
                self.faults.push(Fault::error(codes::BAD_NAME, column.span, message).note(note));
                return None;
            }
            known.columns.push(column);
        }
        Some(Value::Schema(known))
    }

    fn schema(&mut self, node: &Node, name: &str) -> Option<Value> {
        match &node.value {
            crate::yaml::Value::Scalar(scalar) => return self.reusable(&scalar.text, node, name),
            crate::yaml::Value::List(parts) => return self.extended(parts, node, name),
            _ => {}
        }
        let entries = self.map(node, name)?;
        if entries.is_empty() {
            let fault = Fault::error(codes::WRONG_KIND, node.span, format!("{name} has no column"));
            self.faults.push(fault.hint("name each column in use, such as `user_id: string`"));
            return None;
        }
        let mut columns = Some(Vec::new());
        for entry in self.once(entries, name, KEYS_MAX) {
            let before = self.faults.len();
            self.column_name(&entry.key);
            if self.faults.len() > before {
                let hint = format!("rename it: `my_name: {{ path: {}, type: string }}`", shorten(&entry.key.value));
                let last = self.faults.pop().expect("one was just added");
                self.faults.push(last.hint(hint));
            }
            match (self.column(entry, name), &mut columns) {
                (Some(column), Some(columns)) => columns.push(Spanned { value: column, span: entry.key.span }),
                _ => columns = None,
            }
        }
        // That the columns beyond are missing says nothing more.
        let columns = columns.filter(|_| entries.len() <= KEYS_MAX);
        columns.map(|columns| Value::Schema(Columns { columns, reusable: None }))
    }

    fn column(&mut self, entry: &Entry, name: &str) -> Option<Column> {
        let key = &entry.key;
        let what = format!("column `{}` of {name}", shorten(&key.value));
        let form = match &entry.value.value {
            crate::yaml::Value::Map(_) => Some(self.form(&COLUMN, &entry.value, &what, key.span)),
            _ => None,
        };
        let written = match &form {
            None => Spanned { value: self.text(&entry.value, Kind::Text, &what)?, span: entry.value.span },
            Some(form) => form.text("type")?,
        };
        match ColumnType::parse(&written.value) {
            Ok((column_type, required)) => {
                let column = Column { required, ..Column::new(&key.value, column_type) };
                let text = |key: &str| form.as_ref().and_then(|form| form.text(key));
                let meta = text("meta").and_then(|word| Meta::of(&word.value));
                if let Some(meta) = meta.or_else(|| text("header").map(|name| Meta::Header(name.value))) {
                    return match meta.check(&key.value, &column.column_type) {
                        Ok(()) => Some(column.around(meta)),
                        Err(error) => {
                            self.faults.push(Fault::error(codes::BAD_COLUMN_TYPE, written.span, error.to_string()));
                            None
                        }
                    };
                }
                match text("path") {
                    Some(path) if path.value.split('.').any(str::is_empty) => {
                        let message = format!("the path of {what} has an empty part");
                        self.faults.push(Fault::error(codes::BAD_NAME, path.span, message));
                        None
                    }
                    Some(path) => Some(column.at(&path.value)),
                    None => Some(column),
                }
            }
            Err(reason) => {
                let message = format!("{what} has the type `{}`, which is none", shorten(&written.value));
                let fault = Fault::error(codes::BAD_COLUMN_TYPE, written.span, message);
                self.faults.push(match reason.split_once("; ") {
                    Some((first, rest)) => fault.note(first).note(rest),
                    None => fault.note(reason),
                });
                None
            }
        }
    }
}

/// What says where a column is.
const FOUND: &str = "found";

/// A column that is nested or renamed, or around the value of a record.
static COLUMN: Section = Section {
    what: "a column",
    doc: "A nested or renamed column, or one that is around the value of a record.",
    one_of: &[Group { name: FOUND, says: "where the column is found" }],
    fields: &[
        field("path", Kind::Text, "Where it is found in a record: `user.id`.").of(FOUND),
        field("meta", Kind::Choice(&META), "What of a record it is besides its value.").of(FOUND),
        field("header", Kind::Text, "The name of the header that it is.").of(FOUND),
        field("type", Kind::Text, "Its type.").required(),
    ],
};

/// The words of [`Meta::of`].
static META: [Choice; 8] = [
    choice("key", "its key: text of a `string`, a JSON value of any other type"),
    choice("key_base64", "its key in base64 if it is no text, which then is null in `key`"),
    choice("value", "its whole value as it came, likewise"),
    choice("value_base64", "its whole value in base64 if it is no text, which then is null in `value`"),
    choice("headers", "all its headers, as objects of `name`, and `value` or `value_base64`"),
    choice("timestamp", "its time"),
    choice("partition", "the number of its partition"),
    choice("offset", "its offset"),
];

fn given(entries: &[Entry], name: &str) -> bool {
    entries.iter().any(|entry| entry.key.value == name)
}

fn keys_of(section: &Section) -> String {
    let keys = section.fields.iter().filter(|field| !field.later).map(|field| field.name);
    format!("{} has the keys {}", section.what, list(keys))
}

fn unknown_key(section: &'static Section, key: &Spanned<String>, name: &str) -> Fault {
    let fault = Fault::error(codes::UNKNOWN_KEY, key.span, format!("{name} has no key `{}`", shorten(&key.value)));
    let inside = section.fields.iter().find(|field| match field.kind {
        Kind::Section(inner) => inner.field(&key.value).is_some(),
        _ => false,
    });
    let fault = match section.fields.is_empty() {
        true => fault.note(format!("{} has no options", section.what)),
        false => fault.note(keys_of(section)),
    };
    match inside {
        Some(field) => fault.hint(format!("`{}` is a key of `{}`", key.value, field.name)),
        None => fault.did_you_mean(&key.value, section.fields.iter().map(|field| field.name)),
    }
}

/// Returns what can be used in place of `field`, which cannot.
fn built(section: &Section, field: &Field) -> String {
    let others: Vec<&str> = section
        .group(field.group)
        .filter(|other| !other.later && !field.group.is_empty())
        .map(|other| other.name)
        .collect();
    match others.is_empty() {
        true => "leave it out".to_owned(),
        false => format!("there are {}", list(others)),
    }
}

fn first_sentence(doc: &str) -> String {
    let end = doc.find(". ").unwrap_or(doc.len());
    let sentence = doc[..end].trim_end_matches('.');
    let mut chars = sentence.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

macro_rules! getter {
    ($doc:literal, $name:ident, $variant:ident, $type:ty) => {
        #[doc = $doc]
        pub fn $name(&self, key: &str) -> Option<Spanned<$type>> {
            match self.get(key) {
                Some(Spanned { value: Value::$variant(value), span }) => {
                    Some(Spanned { value: value.clone(), span: *span })
                }
                _ => None,
            }
        }
    };
}

impl Form {
    /// Returns the value of `key`, written or by default.
    pub fn get(&self, key: &str) -> Option<&Spanned<Value>> {
        self.values.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Returns whether `key` was written, not put in by default.
    pub fn wrote(&self, key: &str) -> bool {
        self.written.contains(&key)
    }

    /// Returns the key of `section`'s `group` that has a value.
    pub fn chosen(&self, section: &'static Section, group: &str) -> Option<&'static str> {
        section.group(group).map(|field| field.name).find(|name| self.get(name).is_some())
    }

    getter!("Returns a text.", text, Text, String);
    getter!("Returns a duration.", duration, Duration, Duration);
    getter!("Returns a number or size.", number, Number, u64);
    getter!("Returns a yes or no.", flag, Flag, bool);
    getter!("Returns a time.", time, Time, EventTime);
    getter!("Returns a list.", list, List, Vec<Spanned<String>>);
    getter!("Returns named expressions.", named, Named, Vec<(Spanned<String>, Spanned<String>)>);
    getter!("Returns columns.", schema, Schema, Columns);
    getter!("Returns what was written.", node, Node, Node);
    getter!("Returns a map.", form, Form, Form);
    getter!("Returns named maps.", forms, Forms, Vec<(Spanned<String>, Form)>);
}
