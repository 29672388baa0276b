//! What names refer to, in which order steps stand, and what is never used.

use std::collections::BTreeSet;

use riverrun_connectors::file;
use riverrun_dataflow::graph::{Edge, OnBadRow};

use super::stream::with_article;
use crate::fault::{Fault, codes, list};
use crate::spec::{JobSpec, OperatorSpec, SinkPlace, SourcePlace};
use crate::yaml::Spanned;

impl OperatorSpec {
    /// Returns the streams that the step reads, in the order of its inputs.
    pub(crate) fn inputs(&self) -> Vec<&Spanned<String>> {
        match self {
            OperatorSpec::Select(select) => vec![&select.from],
            OperatorSpec::Union(from) => from.iter().collect(),
            OperatorSpec::Window(window) => vec![&window.from],
            OperatorSpec::Attribute(attribute) => {
                let corrections = attribute.ledger.as_ref().and_then(|ledger| ledger.corrections.as_ref());
                [Some(&attribute.conversions), Some(&attribute.touches), corrections].into_iter().flatten().collect()
            }
            OperatorSpec::Deduplicate(deduplicate) => vec![&deduplicate.from],
            OperatorSpec::Join(join) => vec![&join.left, &join.right],
            OperatorSpec::Sessionize(sessionize) => vec![&sessionize.from],
            OperatorSpec::Frustration(frustration) => vec![&frustration.from],
            OperatorSpec::Incidents(incidents) => vec![&incidents.from],
            OperatorSpec::Problems(problems) => vec![&problems.from],
            OperatorSpec::ScrollBaseline(baseline) => vec![&baseline.from],
            OperatorSpec::Funnel(funnel) => vec![&funnel.from],
        }
    }

    /// Returns the operator's name in the job file.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            OperatorSpec::Select(_) => "select",
            OperatorSpec::Union(_) => "union",
            OperatorSpec::Window(_) => "window",
            OperatorSpec::Attribute(_) => "attribute",
            OperatorSpec::Deduplicate(_) => "deduplicate",
            OperatorSpec::Join(_) => "join",
            OperatorSpec::Sessionize(_) => "sessionize",
            OperatorSpec::Frustration(_) => "frustration",
            OperatorSpec::Incidents(_) => "incidents",
            OperatorSpec::Problems(_) => "problems",
            OperatorSpec::ScrollBaseline(_) => "scroll_baseline",
            OperatorSpec::Funnel(_) => "funnel",
        }
    }

    fn has_bad(&self) -> bool {
        match self {
            OperatorSpec::Attribute(attribute) => attribute.ledger.is_some(),
            OperatorSpec::Select(_)
            | OperatorSpec::Window(_)
            | OperatorSpec::Join(_)
            | OperatorSpec::Sessionize(_)
            | OperatorSpec::Funnel(_) => true,
            _ => false,
        }
    }

    fn has_late(&self) -> bool {
        !matches!(self, OperatorSpec::Select(_) | OperatorSpec::Union(_))
    }

    /// Returns the names of the side outputs that the step has of its own, in the order of their numbers.
    pub(crate) fn sides(&self) -> Vec<&'static str> {
        match self {
            OperatorSpec::Deduplicate(spec) if spec.compare.is_empty() => vec!["duplicates"],
            OperatorSpec::Deduplicate(_) => vec!["duplicates", "conflicts"],
            // A live session may yet take in a row that stands alone now.
            OperatorSpec::Sessionize(step) if !step.live => vec!["sessionless"],
            OperatorSpec::Attribute(attribute) if attribute.ledger.is_some() => super::ledger::SIDES.to_vec(),
            _ => Vec::new(),
        }
    }

    /// Returns the columns by which the rows of each input are routed; `None` for a step without a key.
    pub(super) fn keys(&self) -> Option<Vec<Vec<String>>> {
        let by = |names: &[Spanned<String>]| names.iter().map(|name| name.value.clone()).collect::<Vec<_>>();
        match self {
            OperatorSpec::Select(_) | OperatorSpec::Union(_) => None,
            // Theirs follow from the columns that come in.
            OperatorSpec::Frustration(_)
            | OperatorSpec::Incidents(_)
            | OperatorSpec::Problems(_)
            | OperatorSpec::ScrollBaseline(_) => None,
            OperatorSpec::Window(window) => Some(vec![by(&window.by)]),
            OperatorSpec::Attribute(attribute) => Some(vec![by(&attribute.by); self.inputs().len()]),
            OperatorSpec::Deduplicate(spec) => Some(vec![spec.key()]),
            OperatorSpec::Sessionize(step) => Some(vec![by(&step.by)]),
            OperatorSpec::Funnel(funnel) => Some(vec![by(&funnel.by)]),
            OperatorSpec::Join(join) => {
                let (left, right): (Vec<_>, Vec<_>) = join.on.iter().cloned().unzip();
                Some(vec![by(&left), by(&right)])
            }
        }
    }
}

/// What every reference of the job means. Edges number sources and steps as the job file does.
pub(super) struct Names {
    /// The inputs of each step; `None` where the reference is at fault.
    pub inputs: Vec<Vec<Option<Edge>>>,
    /// What each sink reads.
    pub sinks: Vec<Option<Edge>>,
    /// The steps, each after those it reads; those in a circle are left out.
    pub order: Vec<usize>,
}

/// Returns the source or step that an edge begins at, as an edge of its rows.
pub(super) fn base(edge: Edge) -> Edge {
    match edge {
        Edge::Source(index) | Edge::SourceBad(index) => Edge::Source(index),
        Edge::Step(index) | Edge::StepLate(index) | Edge::StepBad(index) | Edge::StepSide(index, _) => {
            Edge::Step(index)
        }
    }
}

impl Names {
    /// Resolves all references of `spec`.
    pub(super) fn resolve(spec: &JobSpec, faults: &mut Vec<Fault>) -> Names {
        clashes(spec, faults);
        same_places(spec, faults);
        let resolve_all = |index: usize, faults: &mut Vec<Fault>| {
            let step = &spec.steps[index];
            let who = format!("step `{}`", step.name.value);
            step.operator.inputs().into_iter().map(|from| resolve(spec, from, &who, faults)).collect()
        };
        let inputs: Vec<Vec<Option<Edge>>> = (0..spec.steps.len()).map(|step| resolve_all(step, faults)).collect();
        let sinks = spec
            .sinks
            .iter()
            .map(|sink| resolve(spec, &sink.from, &format!("sink `{}`", sink.name.value), faults))
            .collect();
        let order = order(spec, &inputs, faults);
        Names { inputs, sinks, order }
    }

    /// Returns the sources and steps from which rows reach a sink.
    pub(super) fn used(&self) -> BTreeSet<Edge> {
        let mut used = BTreeSet::new();
        let mut open: Vec<Edge> = self.sinks.iter().flatten().map(|edge| base(*edge)).collect();
        while let Some(edge) = open.pop() {
            if !used.insert(edge) {
                continue;
            }
            if let Edge::Step(step) = edge {
                open.extend(self.inputs[step].iter().flatten().map(|edge| base(*edge)));
            }
        }
        used
    }
}

fn clashes(spec: &JobSpec, faults: &mut Vec<Fault>) {
    for step in &spec.steps {
        if spec.sources.iter().any(|source| source.name.value == step.name.value) {
            let message = format!("step `{}` has the name of a source", step.name.value);
            faults.push(Fault::error(codes::NAME_CLASH, step.name.span, message).hint("give one of them another name"));
        }
    }
}

fn same_places(spec: &JobSpec, faults: &mut Vec<Fault>) {
    let place = |place: &Option<SinkPlace>| match place {
        Some(SinkPlace::Topic { name, .. }) => Some(("topic", name.clone())),
        Some(SinkPlace::File(path)) => Some(("file", path.clone())),
        Some(SinkPlace::Lake(lake)) => Some(("lake", lake.path.clone())),
        Some(SinkPlace::Console) | None => None,
    };
    for (index, sink) in spec.sinks.iter().enumerate() {
        let Some((kind, written)) = place(&sink.place) else { continue };
        let same = |other: &Option<SinkPlace>| {
            place(other).is_some_and(|(other_kind, other)| {
                other_kind == kind
                    && (other.value == written.value || kind != "topic" && file::is_same(&other.value, &written.value))
            })
        };
        if let Some(other) = spec.sinks[..index].iter().find(|other| same(&other.place)) {
            let (one, two) = (&other.name.value, &sink.name.value);
            let message = format!("sinks `{one}` and `{two}` both write to the {kind} `{}`", written.value);
            let hint = "give each a place of its own, or join their streams with `union`";
            faults.push(Fault::error(codes::SAME_PLACE, written.span, message).hint(hint));
        }
        // A lake sweeps its folder: what it does not know there, it takes for left over.
        let within = |(kind, inner): (&str, &Spanned<String>), (outer_kind, outer): (&str, &Spanned<String>)| {
            kind != "topic" && outer_kind == "lake" && file::lies_below(&inner.value, &outer.value)
        };
        let nested = |other: &Option<SinkPlace>| {
            place(other).is_some_and(|(other_kind, other)| {
                within((kind, &written), (other_kind, &other)) || within((other_kind, &other), (kind, &written))
            })
        };
        if let Some(other) = spec.sinks[..index].iter().find(|other| nested(&other.place)) {
            let (one, two) = (&other.name.value, &sink.name.value);
            let message =
                format!("sinks `{one}` and `{two}` write one below the other, and a lake has its folder for itself");
            let hint = "give each a folder of its own, side by side";
            faults.push(Fault::error(codes::SAME_PLACE, written.span, message).hint(hint));
        }
        let read = spec.sources.iter().find(|source| match &source.place {
            Some(SourcePlace::Topic { name: topic, .. }) => kind == "topic" && topic.value == written.value,
            Some(SourcePlace::File(path)) => kind == "file" && file::covers(&path.value, &written.value),
            None => false,
        });
        if let Some(source) = read {
            let (sink, source) = (&sink.name.value, &source.name.value);
            let message =
                format!("sink `{sink}` writes to the {kind} `{}`, which source `{source}` reads", written.value);
            faults.push(Fault::error(codes::SAME_PLACE, written.span, message).hint("write to another place"));
        }
    }
}

fn resolve(spec: &JobSpec, from: &Spanned<String>, who: &str, faults: &mut Vec<Fault>) -> Option<Edge> {
    let written = from.value.as_str();
    let (name, side) = match written.split_once('.') {
        Some((name, side)) => (name, Some(side)),
        None => (written, None),
    };
    if spec.broken.iter().any(|broken| broken == name) {
        return None;
    }
    let source = spec.sources.iter().position(|source| source.name.value == name);
    let step = spec.steps.iter().position(|step| step.name.value == name);
    let found = match (source, step, side) {
        (Some(source), _, None) => Ok(Edge::Source(source)),
        (Some(source), _, Some("bad")) if spec.sources[source].on_bad_row != OnBadRow::Divert => {
            Err(format!("source `{name}` does not divert its bad rows: its `on_bad_row` is another"))
        }
        (Some(source), _, Some("bad")) => Ok(Edge::SourceBad(source)),
        (Some(_), _, Some(_)) => Err(format!("source `{name}` has the side output `{name}.bad` only")),
        (None, Some(step), None) => Ok(Edge::Step(step)),
        (None, Some(step), Some("bad")) if spec.steps[step].operator.has_bad() => Ok(Edge::StepBad(step)),
        (None, Some(step), Some("late")) if spec.steps[step].operator.has_late() => Ok(Edge::StepLate(step)),
        (None, Some(step), Some(side)) => {
            let own = spec.steps[step].operator.sides();
            let number = own.iter().position(|own| *own == side);
            number.map(|number| Edge::StepSide(step, number)).ok_or_else(|| sides(spec, step))
        }
        (None, None, _) => {
            faults.push(unknown(spec, from, name, who));
            return None;
        }
    };
    found
        .map_err(|note| {
            let message = format!("{who} takes rows from `{written}`, which does not exist");
            faults.push(Fault::error(codes::UNKNOWN_STREAM, from.span, message).note(note));
        })
        .ok()
}

/// Returns the names of all streams of a job that was read: sources and steps with their side outputs.
pub(crate) fn streams(spec: &JobSpec) -> Vec<String> {
    let mut names = Vec::new();
    for source in &spec.sources {
        names.push(source.name.value.clone());
        names.extend((source.on_bad_row == OnBadRow::Divert).then(|| format!("{}.bad", source.name.value)));
    }
    for step in &spec.steps {
        let (name, operator) = (&step.name.value, &step.operator);
        names.push(name.clone());
        names.extend(operator.has_bad().then(|| format!("{name}.bad")));
        names.extend(operator.has_late().then(|| format!("{name}.late")));
        names.extend(operator.sides().into_iter().map(|side| format!("{name}.{side}")));
    }
    names
}

fn sides(spec: &JobSpec, step: usize) -> String {
    let step = &spec.steps[step];
    let name = &step.name.value;
    let (bad, late) = (step.operator.has_bad(), step.operator.has_late());
    let sides: Vec<String> = [("bad", bad), ("late", late)]
        .into_iter()
        .filter(|(_, has)| *has)
        .map(|(side, _)| side)
        .chain(step.operator.sides())
        .map(|side| format!("`{name}.{side}`"))
        .collect();
    let operator = with_article(step.operator.name());
    match sides.is_empty() {
        true => format!("{operator} has no side outputs"),
        false => format!("{operator} has the side outputs {}", list(sides)),
    }
}

fn unknown(spec: &JobSpec, from: &Spanned<String>, name: &str, who: &str) -> Fault {
    let sources = spec.sources.iter().map(|source| source.name.value.as_str());
    let names: Vec<&str> = sources.chain(spec.steps.iter().map(|step| step.name.value.as_str())).collect();
    let message = format!("{who} takes rows from `{}`, which is no source or step", from.value);
    let fault = Fault::error(codes::UNKNOWN_STREAM, from.span, message);
    let fault = match names.is_empty() {
        true => fault,
        false => fault.note(format!("there are {}", list(&names))),
    };
    fault.did_you_mean(name, names)
}

/// Puts the steps in an order in which each stands after those it reads; reports circles.
fn order(spec: &JobSpec, inputs: &[Vec<Option<Edge>>], faults: &mut Vec<Fault>) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    let mut is_placed = vec![false; spec.steps.len()];
    let mut waiting: Vec<usize> = (0..spec.steps.len()).collect();
    loop {
        let ready = |step: &usize| {
            inputs[*step].iter().flatten().all(|edge| match base(*edge) {
                Edge::Step(before) => is_placed[before],
                _ => true,
            })
        };
        let Some(at) = waiting.iter().position(ready) else { break };
        let step = waiting.remove(at);
        is_placed[step] = true;
        order.push(step);
    }
    while let Some(circle) = circle(&waiting, inputs) {
        let names: Vec<String> =
            circle.iter().chain(circle.first()).map(|step| format!("`{}`", spec.steps[*step].name.value)).collect();
        let first = &spec.steps[circle[0]];
        let message = format!("step `{}` reads itself, by way of other steps or directly", first.name.value);
        let fault = Fault::error(codes::CYCLE, first.name.span, message);
        faults.push(fault.note(format!("the circle is {}", names.join(" <- "))));
        waiting.retain(|step| !circle.contains(step));
    }
    order
}

/// Returns a circle among `waiting`, each step followed by one that it reads.
fn circle(waiting: &[usize], inputs: &[Vec<Option<Edge>>]) -> Option<Vec<usize>> {
    let next = |step: usize| {
        inputs[step].iter().flatten().find_map(|edge| match base(*edge) {
            Edge::Step(before) if waiting.contains(&before) => Some(before),
            _ => None,
        })
    };
    waiting.iter().find_map(|start| {
        let mut path = vec![*start];
        while let Some(step) = next(*path.last().expect("a path has a first step")) {
            if let Some(at) = path.iter().position(|seen| *seen == step) {
                return Some(path.split_off(at));
            }
            path.push(step);
        }
        None
    })
}

/// Warns about sources and steps from which no row reaches a sink.
pub(super) fn warn_unused(spec: &JobSpec, used: &BTreeSet<Edge>, faults: &mut Vec<Fault>) {
    let sources = spec.sources.iter().enumerate().map(|(index, source)| (Edge::Source(index), "source", &source.name));
    let steps = spec.steps.iter().enumerate().map(|(index, step)| (Edge::Step(index), "step", &step.name));
    for (edge, kind, name) in sources.chain(steps) {
        if !used.contains(&edge) {
            let message = format!("{kind} `{}` feeds no sink and is left out", name.value);
            faults.push(Fault::warning(codes::UNUSED, name.span, message).hint("let a sink read it, or remove it"));
        }
    }
}
