//! What differing rows rest on: the records of the input that they name by id, found in one reading of it.

use std::collections::{BTreeMap, BTreeSet};

use riverrun_connectors::format::FormatSpec;
use riverrun_dataflow::graph::SplitNode;
use serde_json::{Map, Value};

use crate::connect::Environment;
use crate::plan::{Plan, PlannedSource};
use crate::run::RunError;
use crate::spec::SourcePlace;
use crate::why::{TOUCH_ID, each_record};

/// Places of one id that are kept: it may be in many records.
const PLACES_MAX: usize = 3;

/// Where ids are in the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    places: BTreeMap<String, Vec<String>>,
    not_searched: BTreeSet<String>,
}

impl Evidence {
    /// Looks for what `rows` rest on, each of the version that its number says.
    pub(super) fn find(
        plans: [&Plan; 2],
        environment: &Environment,
        splits: [&[Vec<SplitNode>]; 2],
        rows: &[(usize, &str)],
    ) -> Result<Evidence, RunError> {
        let mut evidence = Evidence::default();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for side in 0..2 {
            let (plan, splits) = (plans[side], splits[side]);
            let parsed = |text: &str| serde_json::from_str::<Map<String, Value>>(text).ok();
            let own: Vec<_> = rows.iter().filter(|(of, _)| *of == side).filter_map(|(_, text)| parsed(text)).collect();
            own.iter().for_each(|row| evidence.told(row, plan, splits));
            let connected = plan.connect_to(environment, super::side::nowhere)?;
            for (index, source) in plan.sources.iter().enumerate() {
                // Both versions read the same topics: once is enough, for the ids of both.
                if let SourcePlace::Topic { name, .. } = &source.place
                    && !seen.insert(&name.value)
                {
                    continue;
                }
                let all = rows.iter().filter_map(|(_, text)| parsed(text));
                let wanted: BTreeSet<String> = all.flat_map(|row| ids_of(source, &row)).collect();
                if wanted.is_empty() {
                    continue;
                }
                if source.format != FormatSpec::Json {
                    evidence.not_searched.insert(source.name.to_string());
                    continue;
                }
                for node in &splits[index] {
                    each_record(&*connected.sources[index].source, &node.spec, node.spec.start, &mut |record| {
                        if let Some(id) = id_in(source, &record.bytes).filter(|id| wanted.contains(id)) {
                            let place = format!("{} {}:{}", source.name, node.spec.name, record.position);
                            evidence.add(id, place);
                        }
                        false
                    })?;
                }
            }
        }
        Ok(evidence)
    }

    /// Takes what a row itself tells: signals and incidents carry the ids of events and where each was read.
    fn told(&mut self, row: &Map<String, Value>, plan: &Plan, splits: &[Vec<SplitNode>]) {
        let texts = |column: &str| -> Vec<&str> {
            let list = row.get(column).and_then(Value::as_array);
            list.map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
        };
        for (id, place) in texts("evidence").into_iter().zip(texts("evidence_at")) {
            let Some((number, position)) = place.split_once(':') else { continue };
            let named = splits.iter().zip(&plan.sources).find_map(|(nodes, source)| {
                let node = nodes.iter().find(|node| node.id.to_string() == number)?;
                Some(format!("{} {}:{position}", source.name, node.spec.name))
            });
            self.add(id.to_owned(), named.unwrap_or_else(|| place.to_owned()));
        }
    }

    fn add(&mut self, id: String, place: String) {
        let places = self.places.entry(id).or_default();
        if places.len() < PLACES_MAX && !places.contains(&place) {
            places.push(place);
        }
    }

    /// Returns all ids that were found, and where they are: `SOURCE SPLIT:POSITION`.
    pub fn all(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.places.iter().map(|(id, places)| (id.as_str(), places.as_slice()))
    }

    /// Returns the sources that rows name records of and whose records cannot be looked into.
    pub fn not_searched(&self) -> &BTreeSet<String> {
        &self.not_searched
    }

    /// Returns the ids that a row names and where they are: `SOURCE SPLIT:POSITION`.
    pub fn of(&self, row: &str) -> Vec<(String, &[String])> {
        let Ok(row) = serde_json::from_str::<Map<String, Value>>(row) else { return Vec::new() };
        let mut ids: Vec<&str> = Vec::new();
        for value in row.values() {
            let texts = match value {
                Value::String(text) => vec![text.as_str()],
                Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            ids.extend(texts.into_iter().filter(|id| self.places.contains_key(*id)));
        }
        let mut named = BTreeSet::new();
        ids.retain(|id| named.insert(*id));
        ids.into_iter().map(|id| (id.to_owned(), self.places[id].as_slice())).collect()
    }
}

/// Returns the ids of records of `source` that a row names: in a column that is called like the source's id, or ends like it behind a
/// prefix.
fn ids_of(source: &PlannedSource, row: &Map<String, Value>) -> Vec<String> {
    let Some(id) = &source.schema.id else { return Vec::new() };
    let behind = format!("_{id}");
    let names = |name: &str| name == id || name.ends_with(&behind) || name == TOUCH_ID;
    row.iter().filter(|(name, _)| names(name)).filter_map(|(_, value)| text_of(value)).collect()
}

/// Returns the id of a record.
fn id_in(source: &PlannedSource, bytes: &[u8]) -> Option<String> {
    let name = source.schema.id.as_ref()?;
    let column = source.schema.columns.iter().find(|column| column.name == *name)?;
    let mut value: &Value = &serde_json::from_slice(bytes).ok()?;
    for part in &column.path {
        value = value.get(part)?;
    }
    text_of(value)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
