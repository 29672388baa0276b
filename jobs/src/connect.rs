//! Opens the places that a plan reads and writes, and makes the graph of it.
//!
//! ```text
//! plan.connect(environment) -> connected.splits() -> (kept in the job's log) -> plan.graph(connected, splits)
//! ```

use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use riverrun_connectors::console::{ConsoleForm, ConsoleSink};
use riverrun_connectors::file::{Compression, FileSink, FileSinkConfig, FileSource, FileSourceConfig};
use riverrun_connectors::format::{
    AvroSink, EncodeSpec, Envelope, Surroundings, Timestamps, decoder_in, encoder_with, preamble,
};
use riverrun_connectors::kafka::{Cluster, KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig};
use riverrun_connectors::lake::{LakeSink, LakeSinkConfig};
use riverrun_connectors::reach::Reach;
use riverrun_connectors::registry::{RegisteredSource, Registry, RegistryAddress, SchemaKind};
use riverrun_connectors::topic::{TopicSink, TopicSource};
use riverrun_dataflow::Graph;
use riverrun_dataflow::graph::{Edge, GivenCut, InputNode, Make, SinkNode, SourceNode, SplitNode, StepNode};
use riverrun_dataflow::objects::{Objects, ObjectsError};
use riverrun_dataflow::sink::{Encoder, Promise, Sink};
use riverrun_dataflow::source::{Decoder, Source, SourceError, SplitId};
use riverrun_state::Location;

use crate::fault::{Code, Fault, Report, codes};
use crate::plan::{Plan, PlannedSink, PlannedSource};
use crate::spec::lake::LakeSpec;
use crate::spec::values::resolve;
use crate::spec::{SinkPlace, SourcePlace};
use crate::yaml::{Span, Spanned};

/// Where a job runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Where topics live.
    pub topics: Topics,
    /// Topics end where they end now.
    pub until_end: bool,
    /// Who knows the schemas of records that name theirs by a number.
    pub registry: RegistryPlace,
}

/// Where the schemas of a deployment are registered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RegistryPlace {
    /// Nowhere that anybody said.
    #[default]
    Nowhere,
    /// In a registry.
    At(Registry),
    /// Nowhere that can be used: why, with a hint.
    Elsewhere(String),
}

impl RegistryPlace {
    /// Reads what `--schema-registry` says; connections are made as far as `reach` only.
    pub fn parse(text: &str, reach: Reach) -> RegistryPlace {
        match RegistryAddress::parse(text, resolve) {
            Ok(address) => RegistryPlace::At(Registry::at(address.within(reach))),
            Err(error) => RegistryPlace::Elsewhere(error.to_string()),
        }
    }

    /// Returns the registry for `who`, whose format is at `span`; or the fault that there is none.
    fn needed(&self, who: &str, span: Span) -> Result<Registry, Fault> {
        let fault = |reason: &str| {
            let mut lines = reason.lines();
            let first = lines.next().unwrap_or_default();
            noted(Fault::error(codes::NO_REGISTRY, span, format!("{who} needs a schema registry: {first}")), lines)
        };
        match self {
            RegistryPlace::At(registry) => Ok(registry.clone()),
            RegistryPlace::Elsewhere(reason) => Err(fault(reason)),
            RegistryPlace::Nowhere => Err(fault(
                "its records name their schemas by number\n\
                 hint: name it: `--schema-registry http://host:port`; or, if records have no such number, give their schema: `schema_file: orders.avsc`",
            )),
        }
    }
}

/// Where topics live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topics {
    /// In a folder.
    Embedded(PathBuf),
    /// In a Kafka cluster.
    Kafka(Cluster),
    /// Nowhere that can be used.
    Elsewhere {
        /// What was written, without options, among which there may be secrets.
        place: String,
        /// Why it cannot be used, with a hint.
        reason: String,
    },
}

impl Topics {
    /// Reads what `--topics` says: a folder, or an address such as `kafka://host:port`.
    pub fn parse(text: &str) -> Topics {
        let elsewhere = |reason: String| {
            let place = text.split('?').next().unwrap_or_default().to_owned();
            Topics::Elsewhere { place, reason }
        };
        match text.split_once("://") {
            Some(("file", path)) => Topics::Embedded(PathBuf::from(path)),
            Some(("kafka", address)) => {
                Cluster::parse(address, resolve).map_or_else(|error| elsewhere(error.to_string()), Topics::Kafka)
            }
            Some((scheme, _)) => elsewhere(format!(
                "`{scheme}` is not known to this version\nhint: give a folder, or a cluster: `--topics kafka://host:port`"
            )),
            None => Topics::Embedded(PathBuf::from(text)),
        }
    }
}

/// A source, ready to be read.
#[derive(Clone)]
pub struct OpenSource {
    /// Its name in the job file.
    pub name: String,
    /// Its splits are opened here.
    pub source: Arc<dyn Source>,
    /// Makes its decoder.
    pub decoder: Make<dyn Decoder>,
    /// It ends; for a topic that is decided when the job begins.
    pub bounded: bool,
    /// It is bounded by what it is, though the end of a split may be unknown before it is reached: that of a compressed file.
    pub fixed: bool,
}

/// A sink, ready to be written.
#[derive(Clone)]
pub struct OpenSink {
    /// Its name in the job file.
    pub name: String,
    /// The outside system.
    pub sink: Arc<dyn Sink>,
    /// Makes its encoder.
    pub encoder: Make<dyn Encoder>,
    /// Its lanes.
    pub lanes: u32,
    /// What it promises.
    pub promise: Promise,
}

/// The places of a plan, in the order of its sources and sinks.
#[derive(Clone)]
pub struct Connected {
    /// The sources.
    pub sources: Vec<OpenSource>,
    /// The sinks.
    pub sinks: Vec<OpenSink>,
    /// Where ticks are cut, if that is not left to the engine.
    pub cut: Option<GivenCut>,
}

impl Connected {
    /// Returns whether all sources are bounded.
    pub fn bounded(&self) -> bool {
        self.sources.iter().all(|source| source.bounded)
    }

    /// Returns the splits there are now, numbered by (source name, split name) from 0.
    pub fn splits(&self) -> Result<Vec<Vec<SplitNode>>, SourceError> {
        let mut next: SplitId = 0;
        let mut all = Vec::new();
        // The plan's sources stand in the order of their names.
        for source in &self.sources {
            let mut found = source.source.splits(source.bounded)?;
            found.sort_by(|a, b| a.name.cmp(&b.name));
            let mut nodes = Vec::new();
            for spec in found {
                nodes.push(SplitNode { id: next, spec });
                next += 1;
            }
            all.push(nodes);
        }
        Ok(all)
    }
}

impl Plan {
    /// Opens the places of all sources and sinks. Nothing is written yet, but that a sink of Avro registers its schema.
    pub fn connect(&self, environment: &Environment) -> Result<Connected, Report> {
        self.connect_to(environment, |sink| open_sink(sink, environment, sink.encoder_on(environment)?))
    }

    /// Opens the places of all sources and sinks for somebody who only looks: rows are encoded for people, and no schema is
    /// registered.
    pub(crate) fn connect_to_look(&self, environment: &Environment) -> Result<Connected, Report> {
        self.connect_to(environment, |sink| open_sink(sink, environment, sink.readable_encoder()?))
    }

    /// Opens the places of all sources, and for every sink what `open` gives in its place.
    pub(crate) fn connect_to(
        &self,
        environment: &Environment,
        open: impl Fn(&PlannedSink) -> Result<OpenSink, Fault>,
    ) -> Result<Connected, Report> {
        let mut faults = Vec::new();
        let mut keep = |result: Result<_, Fault>| result.map_err(|fault| faults.push(fault)).ok();
        let sources: Vec<Option<OpenSource>> =
            self.sources.iter().map(|source| keep(open_source(&self.name, source, environment))).collect();
        let mut keep = |result: Result<_, Fault>| result.map_err(|fault| faults.push(fault)).ok();
        let sinks: Vec<Option<OpenSink>> = self.sinks.iter().map(|sink| keep(open(sink))).collect();
        match faults.is_empty() {
            true => Ok(Connected {
                sources: sources.into_iter().flatten().collect(),
                sinks: sinks.into_iter().flatten().collect(),
                cut: None,
            }),
            false => {
                let mut report = Report::new(self.texts.clone());
                report.extend(faults);
                Err(report)
            }
        }
    }

    /// Returns the graph that the engine runs: this plan on these places and splits.
    pub fn graph(&self, connected: &Connected, splits: Vec<Vec<SplitNode>>) -> Graph {
        assert_eq!(splits.len(), self.sources.len(), "there is a list of splits for every source");
        let sources =
            self.sources.iter().zip(&connected.sources).zip(splits).map(|((planned, open), splits)| SourceNode {
                name: planned.name.clone(),
                source: open.source.clone(),
                decoder: open.decoder.clone(),
                schema: planned.schema.arrow(),
                bounded: open.bounded,
                max_disorder: planned.max_disorder,
                idle_after: planned.idle_after,
                max_future: planned.max_future,
                event_times: planned.event_times.clone(),
                on_bad_row: planned.on_bad_row,
                splits,
            });
        let steps = self.steps.iter().map(|step| StepNode {
            name: step.name.clone(),
            inputs: step
                .inputs
                .iter()
                .map(|input| InputNode { from: input.from, route: input.route.clone() })
                .collect(),
            work: step.work.clone(),
            schema: step.schema.clone(),
            late: step.late.clone(),
            bad: step.bad,
            sides: step.sides.iter().map(|side| side.schema.clone()).collect(),
            watermark: step.watermark.clone(),
        });
        let sinks = self.sinks.iter().zip(&connected.sinks).map(|(planned, open)| SinkNode {
            name: planned.name.clone(),
            from: planned.from,
            encoder: open.encoder.clone(),
            lanes: open.lanes,
            key: planned.key.clone(),
            partitioner: planned.partitioner,
            sink: open.sink.clone(),
        });
        Graph {
            job: self.name.clone(),
            shards: self.settings.shards,
            sources: sources.collect(),
            steps: steps.collect(),
            sinks: sinks.collect(),
            ticks: self.settings.ticks.clone(),
            cut: connected.cut.clone(),
        }
    }

    /// Returns the schema of the rows that sink `index` is given, hidden columns included.
    pub fn sink_schema(&self, index: usize) -> &SchemaRef {
        &self.sinks[index].schema
    }

    /// Returns whether something reads the rows on `edge`.
    pub fn reads(&self, edge: Edge) -> bool {
        let by_steps = self.steps.iter().flat_map(|step| &step.inputs).any(|input| input.from == edge);
        by_steps || self.sinks.iter().any(|sink| sink.from == edge)
    }
}

/// Returns the fault of a topic that is nowhere.
fn topics_elsewhere(who: &str, topic: &Spanned<String>, place: &str, reason: &str) -> Fault {
    let message = format!("{who} uses the topic `{}`, and topics are at `{place}`", topic.value);
    noted(Fault::error(codes::TOPICS_ELSEWHERE, topic.span, message), reason.lines())
}

/// Puts in what references stand for.
fn resolved(text: &Spanned<String>, who: &str) -> Result<String, Fault> {
    resolve(&text.value)
        .map_err(|reason| Fault::error(codes::BAD_REFERENCE, text.span, format!("{who} cannot be opened: {reason}")))
}

fn cannot(code: Code, who: &str, place: &Spanned<String>, reason: impl std::fmt::Display) -> Fault {
    let reason = reason.to_string();
    let mut lines = reason.lines();
    let first = lines.next().unwrap_or_default();
    noted(Fault::error(code, place.span, format!("{who} cannot be opened: {first}")), lines)
}

/// Adds lines to a fault: hints, and notes.
fn noted<'l>(fault: Fault, lines: impl Iterator<Item = &'l str>) -> Fault {
    lines.map(str::trim).fold(fault, |fault, line| match line.strip_prefix("hint: ") {
        Some(hint) => fault.hint(hint),
        None => fault.note(line),
    })
}

fn open_source(job: &str, planned: &PlannedSource, environment: &Environment) -> Result<OpenSource, Fault> {
    let who = format!("source `{}`", planned.name);
    let name = planned.name.clone();
    match &planned.place {
        SourcePlace::Topic { name: topic, start, manners } => {
            let registry = match planned.format.names_schemas() {
                true => Some(environment.registry.needed(&who, topic.span)?),
                false => None,
            };
            let envelope = match &environment.topics {
                Topics::Kafka(_) => Envelope::Kafka,
                _ => Envelope::Topic,
            };
            let around = Surroundings { registry: registry.clone(), envelope };
            let decoder = decoder_in(&planned.format, planned.schema.clone(), &around)
                .map_err(|error| cannot(codes::CANNOT_OPEN, &who, topic, error))?;
            let mut source: Arc<dyn Source> = match &environment.topics {
                Topics::Embedded(folder) => {
                    Arc::new(TopicSource::new(folder, &topic.value).starting(start.clone()).ending(planned.end.clone()))
                }
                Topics::Kafka(cluster) => Arc::new(KafkaSource::new(KafkaSourceConfig {
                    cluster: cluster.clone(),
                    topic: topic.value.clone(),
                    job: job.to_owned(),
                    start: start.clone(),
                    end: planned.end.clone(),
                    manners: *manners,
                })),
                Topics::Elsewhere { place, reason } => return Err(topics_elsewhere(&who, topic, place, reason)),
            };
            if let Some(registry) = registry {
                source = Arc::new(RegisteredSource::new(source, registry));
            }
            Ok(OpenSource { name, source, decoder, bounded: environment.until_end, fixed: false })
        }
        SourcePlace::File(path) => {
            let config = FileSourceConfig {
                path: resolved(path, &who)?,
                format: planned.format.clone(),
                compression: Compression::Auto,
                schema: planned.schema.clone(),
            };
            let failed = |error| cannot(codes::CANNOT_OPEN, &who, path, error);
            let source = FileSource::new(config).map_err(failed)?;
            let decoder = source.decoder().map_err(failed)?;
            Ok(OpenSource { name, source: Arc::new(source), decoder, bounded: true, fixed: true })
        }
    }
}

impl PlannedSink {
    /// Returns what makes its encoder where the job runs: the schema of its rows is registered, if they are to name it.
    pub(crate) fn encoder_on(&self, environment: &Environment) -> Result<Make<dyn Encoder>, Fault> {
        let (EncodeSpec::Avro(avro), SinkPlace::Topic { name, .. }) = (&self.format, &self.place) else {
            return self.encoder();
        };
        let who = format!("sink `{}`", self.name);
        let registry = environment.registry.needed(&who, name.span)?;
        let text =
            avro.schema(&self.schema, &self.surround).map_err(|error| cannot(codes::CANNOT_OPEN, &who, name, error))?;
        let subject = format!("{}-value", name.value);
        let id = registry.register(&subject, SchemaKind::Avro, &text).map_err(|error| {
            let hint = "a subject takes only what its readers can read: compare the columns with its latest version, or name another topic";
            let reason = format!("the registry does not take its schema as `{subject}`: {error}\nhint: {hint}");
            cannot(codes::CANNOT_OPEN, &who, name, reason)
        })?;
        let format = EncodeSpec::Avro(AvroSink { id: Some(id), ..avro.clone() });
        PlannedSink { format, ..self.clone() }.encoder()
    }

    /// Returns what makes its encoder, by itself.
    pub(crate) fn encoder(&self) -> Result<Make<dyn Encoder>, Fault> {
        encoder_with(&self.format, self.schema.clone(), self.key.clone(), &self.surround).map_err(|error| {
            let message = format!("sink `{}` cannot write its rows: {error}", self.name);
            Fault::elsewhere(codes::NOT_ENCODABLE, message)
        })
    }

    /// Returns what makes an encoder of its rows as people read them: its own, or JSON where that is none for people.
    pub(crate) fn readable_encoder(&self) -> Result<Make<dyn Encoder>, Fault> {
        match self.format {
            EncodeSpec::Parquet | EncodeSpec::Avro(_) => {
                let format = EncodeSpec::Json { timestamps: Timestamps::default() };
                PlannedSink { format, ..self.clone() }.encoder()
            }
            _ => self.encoder(),
        }
    }

    /// Returns what a file of its rows begins with.
    pub(crate) fn preamble(&self) -> Vec<u8> {
        preamble(&self.format, &self.schema)
    }
}

fn open_sink(planned: &PlannedSink, environment: &Environment, encoder: Make<dyn Encoder>) -> Result<OpenSink, Fault> {
    let who = format!("sink `{}`", planned.name);
    let nowhere = Spanned { value: String::new(), span: Default::default() };
    let (sink, place): (Arc<dyn Sink>, &Spanned<String>) = match &planned.place {
        SinkPlace::Topic { name, partitions, delivery, dead_letters } => match &environment.topics {
            Topics::Embedded(_) if planned.surround.has_headers() => {
                let message = format!("{who} writes headers, which embedded topics do not have");
                let fault = Fault::error(codes::DOES_NOT_FIT, name.span, message);
                return Err(fault
                    .hint("run it on Kafka, `--topics kafka://host:port`, or leave `headers` and `op: header` out"));
            }
            Topics::Embedded(folder) => {
                (Arc::new(TopicSink::new(folder, &name.value, *partitions).like(planned.like.clone())), name)
            }
            Topics::Kafka(cluster) => {
                let config = KafkaSinkConfig {
                    cluster: cluster.clone(),
                    topic: name.value.clone(),
                    partitions: *partitions,
                    delivery: *delivery,
                    dead_letters: dead_letters.as_ref().map(|topic| topic.value.clone()),
                };
                (Arc::new(KafkaSink::new(config).like(planned.like.clone())), name)
            }
            Topics::Elsewhere { place, reason } => return Err(topics_elsewhere(&who, name, place, reason)),
        },
        SinkPlace::File(path) => {
            let config = FileSinkConfig { path: PathBuf::from(resolved(path, &who)?), preamble: planned.preamble() };
            (Arc::new(FileSink::new(config)), path)
        }
        SinkPlace::Lake(lake) => (open_lake(planned, lake, &who)?, &lake.path),
        SinkPlace::Console => (Arc::new(ConsoleSink::new(ConsoleForm::Lines)), &nowhere),
    };
    let lanes = sink.lanes().map_err(|error| cannot(codes::CANNOT_OPEN, &who, place, error))?;
    let promise = sink.promise();
    Ok(OpenSink { name: planned.name.clone(), sink, encoder, lanes, promise })
}

/// Returns the sink of a lake. Its folder or bucket is touched when the job runs.
fn open_lake(planned: &PlannedSink, lake: &LakeSpec, who: &str) -> Result<Arc<dyn Sink>, Fault> {
    let location = Location::parse(&resolved(&lake.path, who)?)
        .map_err(|reason| cannot(codes::CANNOT_OPEN, who, &lake.path, reason))?;
    let config = LakeSinkConfig {
        schema: planned.schema.clone(),
        layout: lake.layout,
        partition_by: lake.partition_by,
        file_size: lake.file_size,
        every: lake.every,
        lanes: lake.lanes,
    };
    let open = move || -> Result<Arc<dyn Objects>, ObjectsError> {
        let store = location.open()?;
        // The seed of a map is random at every start.
        let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
        store.try_out("_staging/create-if-absent", &format!("{random:016x}"))?;
        Ok(Arc::new(store))
    };
    Ok(Arc::new(LakeSink::new(config, Arc::new(open))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_a_folder_or_a_cluster() {
        assert_eq!(Topics::parse("a/b"), Topics::Embedded("a/b".into()));
        assert_eq!(Topics::parse("file:///a"), Topics::Embedded("/a".into()));
        assert!(matches!(Topics::parse("kafka://h:9092,i:9092"), Topics::Kafka(_)));
        assert!(matches!(Topics::parse("pulsar://h:9092"), Topics::Elsewhere { .. }));
    }

    #[test]
    fn what_is_no_place_of_topics_is_a_fault_of_every_topic_and_shows_no_option() {
        let (plan, _) = crate::check("job.yaml", crate::bundled("attribution").unwrap(), &[]).unwrap();
        let topics = Topics::parse("kafka://h?sasl.password=hush");
        let Err(report) = plan.connect(&Environment { topics, until_end: false, registry: RegistryPlace::Nowhere })
        else {
            panic!("that is no address")
        };
        assert_eq!(report.faults().iter().map(|fault| fault.code).collect::<Vec<_>>(), [codes::TOPICS_ELSEWHERE; 3]);
        assert!(!report.render(crate::fault::Style::Plain).contains("hush"));
    }
}
