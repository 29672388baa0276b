//! Test files: from the text to cases on a planned job, every fault at once.

use riverrun_connectors::format::{EncodeSpec, OpAs, Timestamps};
use riverrun_dataflow::partitioner::Partitioner;

use super::expect::{self, CountWanted, Expectation, Wanted};
use super::fails::FailureWanted;
use super::fields::{CASE, FILE};
use super::given::{self, Given};
use super::{CaseResult, Chances, JobText, Rewritten, play, rewrite};
use crate::fault::{Fault, Place, Report, Text, codes, shorten};
use crate::plan::{self, Plan, streams};
use crate::spec::reader::{Form, Reader};
use crate::spec::{self, JobSpec, SinkPlace, SinkSpec};
use crate::yaml::{self, Entry, Node, Span, Spanned};

/// A test file that was checked.
pub struct TestFile {
    texts: Vec<Text>,
    job: String,
    pub(super) plan: Plan,
    /// How many sinks the job has of its own; the taps stand behind them.
    pub(super) own_sinks: usize,
    pub(super) cases: Vec<Case>,
}

/// A case.
pub struct Case {
    /// Its name.
    pub name: Spanned<String>,
    /// What it gives.
    pub given: Vec<Given>,
    /// What it expects of streams.
    pub expected: Vec<Expectation>,
    /// What it expects of the balance.
    pub counts: Vec<CountWanted>,
    /// How the job should fail; none if it should not.
    pub fails: Option<FailureWanted>,
    /// How it is played.
    pub switches: Switches,
    /// The time from which others count.
    pub start: Option<i64>,
}

/// How a case is played.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    /// In other orders too.
    pub shuffle: bool,
    /// With restarts too.
    pub restart: bool,
    /// With so many workers too.
    pub workers: usize,
}

/// A case as written, before the job is planned.
struct Draft {
    name: Spanned<String>,
    given: Vec<Given>,
    wanted: Vec<Wanted>,
    counts: Vec<CountWanted>,
    fails: Option<FailureWanted>,
    switches: Switches,
    start: Option<i64>,
}

/// Workers besides one, where nobody says.
const WORKERS: usize = 3;

/// Reads a test file; see [`super::read`].
pub fn read(
    name: &str,
    text: &str,
    job: impl FnOnce(Option<&str>) -> Result<JobText, String>,
) -> Result<TestFile, Vec<Report>> {
    let texts = vec![Text { name: name.to_owned(), text: text.to_owned() }];
    let mut report = Report::new(texts.clone());
    let root = match yaml::parse(text, 0) {
        Ok(root) => root,
        Err(error) => {
            let fault =
                Fault::error(codes::SYNTAX, error.span, format!("the test file is not read: {}", error.message));
            report.push(match error.hint {
                Some(hint) => fault.hint(hint),
                None => fault,
            });
            return Err(vec![report]);
        }
    };
    let mut reader = Reader::default();
    let form = reader.form(&FILE, &root, "the test file", root.span.head());
    let named = form.text("job");
    let set: Vec<String> =
        form.list("set").map(|list| list.value.into_iter().map(|set| set.value).collect()).unwrap_or_default();
    let job = match job(named.as_ref().map(|job| job.value.as_str())) {
        Ok(job) => job,
        Err(reason) => {
            let span = named.map_or(root.span.head(), |named| named.span);
            let fault = Fault::error(codes::UNREADABLE, span, "the job of the tests cannot be read").note(reason);
            reader.faults.push(fault.hint("name it, relative to the test file: `job: my-job.yaml`"));
            report.extend(reader.faults);
            return Err(vec![report]);
        }
    };
    let (spec, job_report) = spec::read(&job.name, &job.text, &set);
    let Some(mut spec) = spec.filter(|_| job_report.errors() == 0) else {
        report.extend(reader.faults);
        return Err(faulty(report, Some(job_report)));
    };
    let drafts = drafts(text, &form, &spec, &mut reader);
    let own_sinks = spec.sinks.len();
    let taps = tap(&mut spec, &drafts);
    let plan = match plan::check_spec(&spec, job_report) {
        Ok((plan, _)) => plan,
        Err(job_report) => {
            report.extend(reader.faults);
            return Err(faulty(report, Some(job_report)));
        }
    };
    let cases = drafts.into_iter().map(|draft| draft.fit(&plan, own_sinks, &taps, &mut reader.faults)).collect();
    report.extend(reader.faults);
    match report.errors() {
        0 => Ok(TestFile { texts, job: plan.name().to_owned(), plan, own_sinks, cases }),
        _ => Err(vec![report]),
    }
}

/// Returns the reports in which there is something.
fn faulty(report: Report, job: Option<Report>) -> Vec<Report> {
    [Some(report), job].into_iter().flatten().filter(|report| !report.is_empty()).collect()
}

/// Reads the tests of the file.
fn drafts(text: &str, file: &Form, spec: &JobSpec, reader: &mut Reader) -> Vec<Draft> {
    let Some(tests) = file.node("tests") else { return Vec::new() };
    let yaml::Value::Map(entries) = &tests.value.value else {
        let message = format!("`tests` is {}, not a map of names", tests.value.value.describe());
        let hint = "write `tests: { credits_the_last_click: { given: ..., expect: ... } }`";
        reader.faults.push(Fault::error(codes::WRONG_KIND, tests.span, message).hint(hint));
        return Vec::new();
    };
    if entries.is_empty() {
        reader.faults.push(Fault::error(codes::WRONG_KIND, tests.span, "`tests` has no test"));
    }
    let mut drafts: Vec<Draft> = Vec::new();
    for entry in entries {
        if drafts.iter().any(|draft| draft.name.value == entry.key.value) {
            let message = format!("there are two tests `{}`", shorten(&entry.key.value));
            let fault = Fault::error(codes::REPEATED_KEY, entry.key.span, message);
            reader.faults.push(fault.hint("give one of them another name"));
            continue;
        }
        drafts.push(draft(text, file, entry, spec, reader));
    }
    drafts
}

fn draft(text: &str, file: &Form, entry: &Entry, spec: &JobSpec, reader: &mut Reader) -> Draft {
    let who = format!("test `{}`", shorten(&entry.key.value));
    let form = reader.form(&CASE, &entry.value, &who, entry.key.span);
    let start = form.time("start").or_else(|| file.time("start")).map(|start| start.value.0);
    let flag = |key: &str| form.flag(key).or_else(|| file.flag(key)).is_none_or(|flag| flag.value);
    let workers = form.number("workers").or_else(|| file.number("workers"));
    let switches = Switches {
        shuffle: flag("shuffle"),
        restart: flag("restart"),
        workers: workers.and_then(|number| usize::try_from(number.value).ok()).unwrap_or(WORKERS),
    };
    if form.whole && !["expect", "counts", "fails"].into_iter().any(|key| form.wrote(key)) {
        let fault = Fault::error(codes::MISSING_KEY, entry.key.span, format!("{who} expects nothing"));
        reader.faults.push(fault.hint("give `expect` with rows by stream, `counts`, or `fails`"));
    }
    let fails = FailureWanted::of(&form, &who, &mut reader.faults);
    let node = |key: &str| form.node(key).map(|node| node.value);
    let nothing = Node { span: entry.key.span, value: yaml::Value::Null };
    let given = node("given").unwrap_or_else(|| nothing.clone());
    let given = given::read(text, &given, &spec.sources, start, &mut reader.faults);
    let mut known = streams(spec);
    let parts: Vec<String> = known.iter().filter(|name| !name.contains('.')).cloned().collect();
    known.extend(spec.sinks.iter().map(|sink| sink.name.value.clone()).filter(|name| !parts.contains(name)));
    let wanted = expect::read(text, &node("expect").unwrap_or_else(|| nothing.clone()), &known, reader);
    let counts = expect::read_counts(&node("counts").unwrap_or(nothing), &parts, &mut reader.faults);
    Draft { name: entry.key.clone(), given, wanted, counts, fails, switches, start }
}

/// Adds a sink to every stream of which something is expected; returns those streams in order.
fn tap(spec: &mut JobSpec, drafts: &[Draft]) -> Vec<String> {
    let mut taps: Vec<String> = Vec::new();
    for wanted in drafts.iter().flat_map(|draft| &draft.wanted) {
        let name = &wanted.stream.value;
        if taps.contains(name) {
            continue;
        }
        // A stream and a sink may share a name; the stream is meant.
        let sink = spec.sinks.iter().find(|sink| sink.name.value == *name && !streams(spec).contains(name));
        let (from, timestamps) = match sink {
            Some(SinkSpec { from, format: EncodeSpec::Json { timestamps }, .. }) => (from.value.clone(), *timestamps),
            Some(sink) => (sink.from.value.clone(), Timestamps::default()),
            None => (name.clone(), Timestamps::default()),
        };
        let nowhere = |value: String| Spanned { value, span: Span::default() };
        taps.push(name.clone());
        spec.sinks.push(SinkSpec {
            name: nowhere(format!("expected:{name}")),
            from: nowhere(from),
            place: Some(SinkPlace::Console),
            format: EncodeSpec::Json { timestamps },
            key: None,
            partitioner: Partitioner::Shard,
            headers: Vec::new(),
            op: Spanned { value: OpAs::Field, span: Span::default() },
        });
    }
    taps
}

impl Draft {
    /// Makes the case of it, now that the columns of all streams are known.
    fn fit(self, plan: &Plan, own_sinks: usize, taps: &[String], faults: &mut Vec<Fault>) -> Case {
        let fit = |wanted: &Wanted| {
            let tap = taps.iter().position(|tap| *tap == wanted.stream.value).expect("every wanted stream is tapped");
            let schema = plan.sink_schema(own_sinks + tap);
            wanted.fit(tap, schema, self.start, self.switches.shuffle, faults)
        };
        let expected = self.wanted.iter().map(fit).collect();
        let Draft { name, given, counts, fails, switches, start, .. } = self;
        Case { name, given, expected, counts, fails, switches, start }
    }
}

impl TestFile {
    /// Returns the name of the job under test.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Returns the names of the tests, in the order written.
    pub fn names(&self) -> Vec<&str> {
        self.cases.iter().map(|case| case.name.value.as_str()).collect()
    }

    /// Plays the test with this index.
    pub fn play(&self, index: usize, chances: &Chances) -> CaseResult {
        play::case(self, &self.cases[index], chances)
    }

    /// Returns the file with the rows and numbers that came in the place of those that were expected, where they differ.
    pub fn rewritten(&self, results: &[CaseResult]) -> Rewritten {
        rewrite::rewrite(self, &self.texts[0].text, results)
    }

    /// Returns where something stands in the file.
    pub(super) fn place(&self, span: Span) -> Place {
        Report::new(self.texts.clone()).place_of(span).expect("spans of a test file are in its text")
    }

    /// Returns the line at which something stands.
    pub(super) fn line(&self, span: Span) -> usize {
        self.place(span).line
    }
}

impl TestFile {
    /// Returns whether a stream, or what a sink reads, has bad rows.
    pub(super) fn is_bad_stream(&self, name: &str) -> bool {
        let sink = self.plan.sinks.iter().find(|sink| sink.name == format!("expected:{name}"));
        use riverrun_dataflow::graph::Edge;
        sink.is_some_and(|sink| matches!(sink.from, Edge::SourceBad(_) | Edge::StepBad(_)))
    }
}
