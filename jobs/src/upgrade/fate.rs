//! What becomes of each part of a job: a pure comparison of two shapes.
//!
//! State goes on where it means the same, and is fitted column by column where that is exact or plain to see in the rows.
//! What would give numbers that are silently wrong is reset, with the reason.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use riverrun_state::shape::{ColumnShape, Role, Shape, SinkShape, SourceShape, StepShape, TableShape};
use serde::Serialize;

/// What becomes of a part of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It goes on as it was.
    Kept,
    /// It goes on, fitted to the new plan.
    Migrated,
    /// It begins anew, wholly or in the part that is named.
    Reset,
    /// It was not there before.
    New,
    /// It is no longer there.
    Gone,
}

/// A kind of part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A source.
    Source,
    /// A step.
    Step,
    /// A sink.
    Sink,
}

/// A part of a job and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
    /// Why, and what that means for what comes out.
    pub notes: Vec<String>,
    /// Something is lost by it, which has to be allowed by name.
    pub loses: bool,
}

/// How a table of a step goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFate {
    /// The table, in both plans.
    pub table: String,
    /// Where each of its columns comes from; `None`: the files stay as they are.
    pub columns: Option<Vec<Option<String>>>,
}

/// What becomes of a whole job.
#[derive(Clone, Debug, Default)]
pub struct Fates {
    /// Of each part.
    pub parts: Vec<Part>,
    /// The tables that go on, by step.
    pub tables: BTreeMap<String, Vec<TableFate>>,
    /// What steps were called before, of those that were called otherwise.
    pub former: BTreeMap<String, String>,
}

impl Fates {
    /// Returns what a step of the new plan was called in the old one.
    pub fn former<'s>(&'s self, step: &'s str) -> &'s str {
        self.former.get(step).map_or(step, String::as_str)
    }
}

/// Compares two shapes. `was` names the former names of steps, `rows` tells how many rows the state files of an old step hold.
pub fn fates(old: &Shape, new: &Shape, was: &BTreeMap<String, String>, rows: &dyn Fn(&str) -> u64) -> Fates {
    // Once the old plan has the new name, the former one is history.
    let renamed = |(name, was): &(&String, &String)| {
        new.step(name).is_some() && old.step(name).is_none() && old.step(was).is_some() && new.step(was).is_none()
    };
    let former = was.iter().filter(renamed).map(|(name, was)| (name.clone(), was.clone())).collect();
    let mut fates = Fates { former, ..Fates::default() };
    for source in &new.sources {
        fates.parts.push(source_fate(old.sources.iter().find(|it| it.name == source.name), source));
    }
    for step in &new.steps {
        let former = fates.former(&step.name).to_owned();
        let Verdict { part, tables } = step_fate(old.step(&former), step, rows(&former));
        fates.parts.push(part);
        fates.tables.insert(step.name.clone(), tables);
    }
    for sink in &new.sinks {
        fates.parts.push(sink_fate(old.sinks.iter().find(|it| it.name == sink.name), sink));
    }
    let gone: Vec<Part> = gone(old, new, &fates.former, rows).collect();
    fates.parts.extend(gone);
    fates.parts.sort_by_key(|part| part.kind);
    fates
}

/// Returns the parts that are no longer there.
fn gone<'a>(
    old: &'a Shape,
    new: &'a Shape,
    former: &'a BTreeMap<String, String>,
    rows: &'a dyn Fn(&str) -> u64,
) -> impl Iterator<Item = Part> + 'a {
    let sources =
        old.sources.iter().filter(|it| !new.sources.iter().any(|other| other.name == it.name)).map(|source| {
            let note = "it is not read any further, and its positions are forgotten".to_owned();
            Part::lost(Kind::Source, &source.name, Fate::Gone, note)
        });
    let is_gone = |step: &&StepShape| new.step(&step.name).is_none() && !former.values().any(|it| *it == step.name);
    let steps = old.steps.iter().filter(is_gone).map(|step| match rows(&step.name) {
        0 => Part::of(Kind::Step, &step.name, Fate::Gone, Vec::new()),
        _ => Part::lost(Kind::Step, &step.name, Fate::Gone, "its state is dropped".to_owned()),
    });
    let sinks = old.sinks.iter().filter(|it| !new.sinks.iter().any(|other| other.name == it.name)).map(|sink| {
        let note = format!("nothing more is written to {}; what is there stays", sink.place);
        Part::lost(Kind::Sink, &sink.name, Fate::Gone, note)
    });
    sources.chain(steps).chain(sinks)
}

impl Part {
    fn of(kind: Kind, name: &str, fate: Fate, notes: Vec<String>) -> Part {
        Part { kind, name: name.to_owned(), fate, notes, loses: false }
    }

    fn lost(kind: Kind, name: &str, fate: Fate, note: String) -> Part {
        Part { loses: true, ..Part::of(kind, name, fate, vec![note]) }
    }
}

fn source_fate(old: Option<&SourceShape>, new: &SourceShape) -> Part {
    match old {
        None => Part::of(Kind::Source, &new.name, Fate::New, vec!["it is read from its beginning".to_owned()]),
        Some(old) if old.place == new.place => Part::of(Kind::Source, &new.name, Fate::Kept, Vec::new()),
        Some(old) => {
            let note = format!("it reads {} from its beginning, and {} no further", new.place, old.place);
            Part::lost(Kind::Source, &new.name, Fate::Reset, note)
        }
    }
}

fn sink_fate(old: Option<&SinkShape>, new: &SinkShape) -> Part {
    let part = |fate, note: String| Part::of(Kind::Sink, &new.name, fate, vec![note]);
    match old {
        None => part(Fate::New, format!("it writes to {} what comes from now on", new.place)),
        Some(old) if old.place != new.place => {
            let note = format!("it writes to {} what comes from now on; {} stays as it is", new.place, old.place);
            Part { loses: true, ..part(Fate::Reset, note) }
        }
        Some(old) if old.format != new.format => {
            let note = format!("rows of two forms will stand in {}: {}, then {}", new.place, old.format, new.format);
            Part { loses: true, ..part(Fate::Kept, note) }
        }
        Some(_) => Part::of(Kind::Sink, &new.name, Fate::Kept, Vec::new()),
    }
}

/// What becomes of a step, and of its tables.
struct Verdict {
    part: Part,
    tables: Vec<TableFate>,
}

fn step_fate(old: Option<&StepShape>, new: &StepShape, rows: u64) -> Verdict {
    let part = |fate, notes| Part::of(Kind::Step, &new.name, fate, notes);
    let without = |part| Verdict { part, tables: Vec::new() };
    let Some(old) = old else { return without(part(Fate::New, Vec::new())) };
    if old.tables.is_empty() && new.tables.is_empty() {
        return without(part(Fate::Kept, vec!["it keeps nothing".to_owned()]));
    }
    if rows == 0 {
        return without(part(Fate::Kept, vec!["it has kept nothing yet".to_owned()]));
    }
    let mut fitting = Fitting::default();
    if old.name != new.name {
        fitting.note(format!("it was called `{}`", old.name));
    }
    fitting.meaning(old, new);
    let tables: Vec<TableFate> = new.tables.iter().filter_map(|table| fitting.table(old, table)).collect();
    fitting.settings(old, new);
    let Fitting { fatal, partial, changed, notes } = fitting;
    match (fatal.is_empty(), partial.is_empty()) {
        (false, _) => without(Part { loses: true, ..part(Fate::Reset, fatal) }),
        (true, false) => {
            let notes = partial.into_iter().chain(notes).collect();
            Verdict { part: Part { loses: true, ..part(Fate::Reset, notes) }, tables }
        }
        (true, true) if changed => Verdict { part: part(Fate::Migrated, notes), tables },
        (true, true) => Verdict { part: part(Fate::Kept, notes), tables },
    }
}

/// How the state of a step fits.
#[derive(Default)]
struct Fitting {
    /// Why nothing of it can go on.
    fatal: Vec<String>,
    /// What of it begins anew.
    partial: Vec<String>,
    /// It is not just as it was.
    changed: bool,
    notes: Vec<String>,
}

impl Fitting {
    fn meaning(&mut self, old: &StepShape, new: &StepShape) {
        if old.operator != new.operator {
            self.fatal.push(format!("it was a step of `{}` and is one of `{}`", old.operator, new.operator));
            return;
        }
        for (name, value) in &new.meaning {
            match old.meaning.get(name) {
                Some(before) if before == value => {}
                Some(before) => self.fatal.push(format!("its {name} was `{before}` and is `{value}`")),
                None => self.fatal.push(format!("its {name} was not known and is `{value}`")),
            }
        }
    }

    fn table(&mut self, step: &StepShape, new: &TableShape) -> Option<TableFate> {
        let Some(old) = step.tables.iter().find(|table| table.name == new.name) else {
            self.changed = true;
            self.notes.push(format!("its table `{}` begins empty", new.name));
            return None;
        };
        let operator = step.operator.as_str();
        let source = |column: &ColumnShape| match (operator, column.name.as_str()) {
            ("deduplicate", "body_hash") => self.compared(old, column),
            _ => self.column(old, new, column),
        };
        let sources: Vec<Option<String>> = new.columns.iter().map(source).collect();
        for column in &old.columns {
            let used = sources.iter().flatten().any(|source| *source == column.name);
            if !used && !new.columns.iter().any(|other| other.name == column.name) {
                self.dropped(column);
            }
        }
        let same = old.columns.len() == new.columns.len()
            && old.columns.iter().zip(&new.columns).zip(&sources).all(|((old, new), source)| {
                (&old.name, &old.data_type) == (&new.name, &new.data_type) && source.is_some()
            });
        Some(TableFate { table: new.name.clone(), columns: (!same).then_some(sources) })
    }

    /// Returns the column from which the hashes of what a deduplication compares are filled: hashes of other columns would all look
    /// like conflicts, so they are forgotten.
    fn compared(&mut self, old: &TableShape, new: &ColumnShape) -> Option<String> {
        let found = old.columns.iter().find(|column| column.name == new.name)?;
        if found.of == new.of {
            return Some(found.name.clone());
        }
        self.note(match (found.of.is_empty(), new.of.is_empty()) {
            (_, true) => "it compares nothing any more: what comes again is a duplicate".to_owned(),
            (true, _) => "it compares from now on: what comes again of a key that it has kept so far is a duplicate".to_owned(),
            _ => "it compares something else: what comes again of a key that it has kept so far is a duplicate, not a conflict".to_owned(),
        });
        None
    }

    /// Returns the column from which `new` is filled: the one of its name, or one that is called otherwise now and holds the same.
    fn column(&mut self, old: &TableShape, table: &TableShape, new: &ColumnShape) -> Option<String> {
        let named = old.columns.iter().find(|column| column.name == new.name);
        let found = named.or_else(|| {
            let same = |column: &&ColumnShape| {
                !table.columns.iter().any(|other| other.name == column.name) && holds_the_same(column, new)
            };
            let found = old.columns.iter().find(same)?;
            let note = format!("{} was called {}", said(part_of(new)), said(part_of(found)));
            if !self.notes.contains(&note) {
                self.note(note);
            }
            Some(found)
        });
        match &new.role {
            Role::Key => self.key(found, new),
            Role::Carried => self.carried(found, new),
            Role::Part(name) => self.part(found, new, name),
        }
    }

    fn key(&mut self, found: Option<&ColumnShape>, new: &ColumnShape) -> Option<String> {
        let name = said(&new.name);
        match found {
            None => self.fatal.push(format!("{name} was not kept with its rows")),
            Some(old) if old.data_type != new.data_type => {
                self.fatal.push(format!("{name} was of the type {} and is of {}", old.data_type, new.data_type));
            }
            Some(old) if old.of != new.of => self.fatal.push(format!("{name} is not what it was: another definition")),
            Some(old) => return Some(old.name.clone()),
        }
        None
    }

    fn carried(&mut self, found: Option<&ColumnShape>, new: &ColumnShape) -> Option<String> {
        let name = &new.name;
        let Some(old) = found else {
            match new.nullable {
                true => self.note(format!("`{name}` is null in the rows that it has kept so far")),
                false => self.fatal.push(format!("`{name}` may not be null, and was not kept with its rows")),
            }
            return None;
        };
        if old.data_type != new.data_type && !widens(&old.data_type, &new.data_type) {
            self.fatal.push(format!("`{name}` was of the type {} and is of {}", old.data_type, new.data_type));
        } else if old.nullable && !new.nullable {
            self.fatal.push(format!("`{name}` may not be null any more, and may be in the rows that it has kept"));
        } else if old.data_type != new.data_type {
            self.note(format!("`{name}` is widened from {} to {}", old.data_type, new.data_type));
        }
        if old.of != new.of {
            self.notes.push(format!("`{name}` has another definition; rows that it has kept have it by the former"));
        }
        Some(old.name.clone())
    }

    fn part(&mut self, found: Option<&ColumnShape>, new: &ColumnShape, of: &str) -> Option<String> {
        let reason = match found {
            None => format!("`{of}` is new: in windows that are open it lacks the rows before the upgrade"),
            Some(old) if old.of != new.of => {
                format!("`{of}` is computed otherwise: in windows that are open it lacks the rows before the upgrade")
            }
            Some(old) if old.data_type == new.data_type => return Some(old.name.clone()),
            Some(old) if widens(&old.data_type, &new.data_type) => {
                self.note(format!("`{of}` is widened from {} to {}", old.data_type, new.data_type));
                return Some(old.name.clone());
            }
            Some(_) => {
                format!("`{of}` has another type: in windows that are open it lacks the rows before the upgrade")
            }
        };
        if !self.partial.contains(&reason) {
            self.partial.push(reason);
        }
        None
    }

    fn dropped(&mut self, old: &ColumnShape) {
        let note = format!("{} is dropped", said(part_of(old)));
        if !self.notes.contains(&note) {
            self.note(note);
        }
    }

    fn note(&mut self, note: String) {
        self.changed = true;
        self.notes.push(note);
    }

    fn settings(&mut self, old: &StepShape, new: &StepShape) {
        for (name, value) in &new.settings {
            let before = old.settings.get(name).map_or("", String::as_str);
            if before != value {
                let meant = match name.as_str() {
                    "lateness" => "; windows that were emitted stay emitted",
                    "window" => "; touches that had left the former window do not come back",
                    "within" => "; what had left the former span does not come back",
                    "dedupe_for" => "; ids that were forgotten do not come back",
                    _ => "",
                };
                self.note(format!("its {name} was `{before}` and is `{value}`{meant}"));
            }
        }
        if old.rows != new.rows {
            self.notes.push("other rows reach it from now on; what it has kept is of the former ones".to_owned());
        }
    }
}

/// Returns the name of what a column is, or is part of.
fn part_of(column: &ColumnShape) -> &str {
    match &column.role {
        Role::Part(of) => of,
        Role::Key | Role::Carried => &column.name,
    }
}

/// Returns whether two columns of different names hold the same.
fn holds_the_same(old: &ColumnShape, new: &ColumnShape) -> bool {
    // The parts of an aggregate are told apart by what follows its name.
    let suffix = |column: &ColumnShape| column.name.get(part_of(column).len()..).map(str::to_owned);
    let alike = match (&old.role, &new.role) {
        (Role::Carried, Role::Carried) => true,
        (Role::Part(_), Role::Part(_)) => suffix(old) == suffix(new),
        _ => false,
    };
    alike && !new.of.is_empty() && old.of == new.of
}

/// Returns how a person knows a column of the state.
fn said(column: &str) -> String {
    match column {
        "__time" | "window_start" => "the event time of its rows".to_owned(),
        "__id" => "the id of its rows".to_owned(),
        "__split" | "__position" => "the place from which its rows were read".to_owned(),
        _ => format!("`{}`", column.strip_prefix("by.").unwrap_or(column)),
    }
}

/// Returns whether every value of the type `from` is one of the type `to`.
fn widens(from: &str, to: &str) -> bool {
    match (from.parse::<DataType>(), to.parse::<DataType>()) {
        (Ok(DataType::Int32), Ok(DataType::Int64)) | (Ok(DataType::Float32), Ok(DataType::Float64)) => true,
        (Ok(DataType::Decimal128(before, scale)), Ok(DataType::Decimal128(now, same))) => {
            before <= now && scale == same
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
