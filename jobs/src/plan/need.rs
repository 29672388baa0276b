//! From sinks to sources: which columns of every stream are in use, so that no other is ever decoded, kept or sent.

use std::collections::{BTreeMap, BTreeSet};

use riverrun_dataflow::graph::Edge;
use riverrun_dataflow::schema::Hidden;
use riverrun_operators::sessionize;

use super::behaviour;
use super::forward::{StepUses, Streams};
use super::names::Names;
use crate::spec::{AttributeSpec, JobSpec, OperatorSpec, SinkPlace};

/// What is needed of a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Need {
    /// Columns.
    pub columns: BTreeSet<String>,
    /// Hidden columns.
    pub hidden: BTreeSet<Hidden>,
}

/// What is needed of every stream that is in use.
pub(super) type Needs = BTreeMap<Edge, Need>;

/// Hidden columns by which rows are put in order.
pub(super) const ORDER: [Hidden; 4] = [Hidden::Time, Hidden::Id, Hidden::Split, Hidden::Position];

/// Follows the job from its sinks back.
pub(super) fn needs(
    spec: &JobSpec,
    names: &Names,
    streams: &Streams,
    uses: &BTreeMap<usize, StepUses>,
    used: &BTreeSet<Edge>,
) -> Needs {
    let mut back = Back { streams, needs: Needs::new() };
    for (sink, from) in spec.sinks.iter().zip(&names.sinks) {
        let Some(edge) = *from else { continue };
        back.all_columns(edge);
        let mut hidden = vec![Hidden::Time];
        let has_lanes = match &sink.place {
            Some(SinkPlace::Topic { .. }) => sink.key.is_none(),
            Some(SinkPlace::Lake(lake)) => lake.lanes > 1,
            _ => false,
        };
        if has_lanes {
            // Rows are placed on a lane by their key, or by their split where they have none.
            hidden.push(if streams[&edge].has(Hidden::Hash) { Hidden::Hash } else { Hidden::Split });
        }
        back.hidden(edge, hidden);
    }
    for step in names.order.iter().rev().filter(|step| used.contains(&Edge::Step(**step))) {
        let inputs: Vec<Edge> = names.inputs[*step].iter().flatten().copied().collect();
        back.step(*step, &spec.steps[*step].operator, &inputs, &uses.get(step).cloned().unwrap_or_default());
    }
    back.needs
}

/// Follows needs back.
pub(super) struct Back<'a> {
    pub streams: &'a Streams,
    needs: Needs,
}

impl Back<'_> {
    fn all_columns(&mut self, edge: Edge) {
        let names: Vec<String> = self.streams[&edge].columns.iter().map(|field| field.name().clone()).collect();
        self.columns(edge, names);
    }

    pub(super) fn columns(&mut self, edge: Edge, names: impl IntoIterator<Item = String>) {
        self.needs.entry(edge).or_default().columns.extend(names);
    }

    pub(super) fn hidden(&mut self, edge: Edge, hidden: impl IntoIterator<Item = Hidden>) {
        let stream = &self.streams[&edge];
        let there = hidden.into_iter().filter(|hidden| stream.has(*hidden));
        self.needs.entry(edge).or_default().hidden.extend(there);
    }

    pub(super) fn need(&self, edge: Edge) -> Need {
        self.needs.get(&edge).cloned().unwrap_or_default()
    }

    fn step(&mut self, step: usize, operator: &OperatorSpec, inputs: &[Edge], uses: &StepUses) {
        let (rows, late) = (self.need(Edge::Step(step)), self.need(Edge::StepLate(step)));
        if self.needs.contains_key(&Edge::StepBad(step)) {
            // A bad row names where it was read.
            self.hidden(inputs[0], [Hidden::Split, Hidden::Position]);
        }
        match operator {
            OperatorSpec::Select(_) => {
                self.columns(inputs[0], uses.uses.iter().cloned());
                let columns = match &uses.columns {
                    None => rows.columns.iter().cloned().collect(),
                    Some(columns) => {
                        let kept = columns.iter().filter(|column| !column.plain || rows.columns.contains(&column.name));
                        kept.flat_map(|column| column.uses.clone()).collect::<Vec<String>>()
                    }
                };
                self.columns(inputs[0], columns);
                self.hidden(inputs[0], rows.hidden.into_iter().chain([Hidden::Time]));
            }
            OperatorSpec::Union(_) => {
                for edge in inputs {
                    // One schema holds for all inputs, whatever else reads them.
                    self.all_columns(*edge);
                    self.hidden(*edge, rows.hidden.iter().copied().chain([Hidden::Time]));
                }
            }
            OperatorSpec::Window(_) => {
                self.columns(inputs[0], uses.uses.iter().chain(&late.columns).cloned());
                let order = if uses.ordered { &ORDER[..] } else { &ORDER[..1] };
                self.hidden(inputs[0], order.iter().copied().chain(late.hidden));
            }
            OperatorSpec::Attribute(AttributeSpec { ledger: Some(ledger), .. }) => {
                let OperatorSpec::Attribute(attribute) = operator else { return };
                super::ledger::need(self, step, attribute, ledger, inputs);
            }
            OperatorSpec::Sessionize(_) => {
                let alone = self.need(Edge::StepSide(step, sessionize::SESSIONLESS));
                let columns = uses.uses.iter().chain(&late.columns).chain(&alone.columns);
                self.columns(inputs[0], columns.cloned());
                self.hidden(inputs[0], ORDER.into_iter().chain(late.hidden).chain(alone.hidden));
            }
            OperatorSpec::Frustration(_)
            | OperatorSpec::Incidents(_)
            | OperatorSpec::Problems(_)
            | OperatorSpec::ScrollBaseline(_) => {
                let used = behaviour::columns_used(operator, &self.streams[&inputs[0]].schema());
                self.columns(inputs[0], used.into_iter().chain(late.columns));
                self.hidden(inputs[0], behaviour::HIDDEN.into_iter().chain(late.hidden));
            }
            OperatorSpec::Attribute(attribute) => {
                let keys = || attribute.by.iter().map(|key| key.value.clone());
                let ours = rows.columns.iter().chain(&late.columns).cloned();
                let names: BTreeSet<&str> =
                    self.streams[&inputs[0]].columns.iter().map(|field| field.name().as_str()).collect();
                let ours: Vec<String> = ours.filter(|name| names.contains(name.as_str())).collect();
                self.columns(inputs[0], ours.into_iter().chain(keys()));
                let touched = rows.columns.iter().filter_map(|name| name.strip_prefix("touch_").map(str::to_owned));
                let names = &self.streams[&inputs[1]].columns;
                let theirs: Vec<String> =
                    touched.filter(|name| names.iter().any(|field| field.name() == name)).collect();
                self.columns(inputs[1], theirs.into_iter().chain(keys()));
                for edge in inputs {
                    self.hidden(*edge, ORDER.into_iter().chain(late.hidden.iter().copied()));
                }
            }
            OperatorSpec::Funnel(_) => super::funnel::need(self, step, uses, inputs[0]),
            OperatorSpec::Deduplicate(spec) => super::deduplicate::need(self, step, spec, inputs[0]),
            OperatorSpec::Join(join) => super::join::need(self, step, join, inputs),
        }
    }
}
