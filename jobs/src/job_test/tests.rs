//! Test files on real jobs: what passes, what fails and how that is said, what is rewritten; and that a step which is wrong under
//! restarts, more workers or other arrivals is found out.

use std::sync::Arc;

use arrow::array::RecordBatch;
use riverrun_dataflow::graph::{ShardRange, StepWork};
use riverrun_dataflow::operator::{Frozen, Operator, Outputs, StepError, TableSize, TableSpec};
use riverrun_dataflow::tick::StepTick;

use super::*;
use crate::bundled::BUNDLED;
use crate::fault::list;

const JOB: &str = r#"
job: shop
sources:
  views: { topic: views, schema: { id: string, k: string, n: int64, ts: timestamp_ms }, event_time: ts, id: id, max_disorder: 10s }
  orders: { topic: orders, schema: { id: string, k: string, ts: timestamp_ms, op: string, rev: int64 }, event_time: ts, id: id, max_disorder: 10s }
steps:
  minutes: { window: { from: views, tumble: 1m, by: [k], aggregates: { rows: "count(*)", total: "sum(n)", first: "first(id)" } } }
  credited: { attribute: { conversions: orders, touches: views, by: [k], window: 1m } }
  corrected: { select: { from: orders, columns: [k, op, rev] } }
sinks:
  out: { from: minutes, file: { path: out.jsonl }, timestamps: epoch_ms }
  rest: { from: credited, topic: rest }
"#;

/// Rows over three minutes, out of order as far as they may be.
const VIEWS: &str = "
      views: |
        id | k | n | ts
        a  | x | 1 | +0s
        b  | y | 2 | +9s
        c  | x | 3 | +3s
        d  | x | 4 | +1m
        e  | x | 5 | +55s
        f  | y | 6 | +2m5s
        g  | x | 7 | +1m59s
        h  | y | 8 | +2m10s
        i  | y | 9 | +2m20s
";

const MINUTES: &str = "
      minutes: |
        window_start | k | rows | total | first
        +0s          | x | 3    | 9     | a
        +0s          | y | 1    | 2     | b
        +1m          | x | 2    | 11    | d
        +2m          | y | 3    | 23    | f
";

fn file(text: &str) -> TestFile {
    let job = |_: Option<&str>| Ok(JobText { name: "job.yaml".into(), text: JOB.into() });
    read("job.test.yaml", text, job).unwrap_or_else(|reports| panic!("{}", list(reports.iter().map(|r| r.to_string()))))
}

fn one(given: &str, expect: &str) -> TestFile {
    file(&format!("start: 2026-01-01\ntests:\n  one:\n    given:{given}    expect:{expect}"))
}

fn play(file: &TestFile) -> CaseResult {
    file.play(0, &Chances { first_seed: 1, shuffles: 6 })
}

#[test]
fn every_bundled_job_has_tests_and_they_pass() {
    for job in BUNDLED {
        let path = format!("{}/{}.test.yaml", env!("CARGO_MANIFEST_DIR"), job.name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let text_of = |_: Option<&str>| Ok(JobText { name: format!("{}.yaml", job.name), text: job.text.into() });
        let file = read(&path, &text, text_of).unwrap_or_else(|reports| panic!("{}", reports[0]));
        for index in 0..file.names().len() {
            // The gate plays them with more shuffles, by the command.
            let result = file.play(index, &Chances { first_seed: 1, shuffles: 1 });
            let said: Vec<String> =
                result.failures.iter().map(|f| format!("{}: {}\n{}", f.play, f.message, f.table)).collect();
            assert!(result.passed(), "{path}: {}\n{}", result.name, said.join("\n"));
            assert!(result.plays >= 4 || index > 0, "{path}: the first test is played in every way");
        }
    }
}

#[test]
fn what_is_as_expected_passes_in_every_play() {
    let result = play(&one(VIEWS, MINUTES));
    assert!(result.passed(), "{:?}", result.failures);
    assert_eq!(result.plays, 9, "as given, with more workers, restarted, six times shuffled");
}

#[test]
fn what_is_not_is_shown_by_row_with_its_line() {
    let wrong = MINUTES
        .replace("9     | a", "8     | a")
        .replace("2     | b", "2     | b\n        +0s          | z | 1    | 2     | b");
    let result = play(&one(VIEWS, &wrong));
    let [failure] = result.failures.as_slice() else { panic!("{:?}", result.failures) };
    assert_eq!((failure.play.as_str(), failure.about.as_deref()), ("as given", Some("minutes")));
    assert_eq!(failure.message, "`minutes`: 1 missing, 1 changed of 5 rows");
    let table = [
        "          | line | window_start | k | rows | total  | first",
        "~ changed | 19   | +0s          | x | 3    | 8 => 9 | a",
        "- missing | 21   | +0s          | z | 1    | 2      | b",
    ];
    assert_eq!(failure.table.lines().collect::<Vec<_>>(), table);
    assert_eq!(failure.place.as_ref().map(|place| (place.line, place.col)), Some((17, 7)));
    assert_eq!(result.plays, 1, "what fails as given is not played otherwise");
}

#[test]
fn order_counts_unless_it_does_not() {
    let swapped = "
      minutes: |
        window_start | k | rows
        +1m          | x | 2
        +0s          | y | 1
        +0s          | x | 3
        +2m          | y | 3
";
    let result = play(&one(VIEWS, swapped));
    assert!(result.failures[0].message.contains("not their order"), "{:?}", result.failures);
    let rows = swapped
        .replace("minutes: |", "minutes:\n        unordered: true\n        rows: |")
        .replace("\n        ", "\n          ");
    let rows =
        rows.replace("\n          unordered", "\n        unordered").replace("\n          rows", "\n        rows");
    assert!(play(&one(VIEWS, &rows)).passed());
    // Rows of one tick and time come in no order at all.
    assert!(play(&one(VIEWS, &MINUTES.replace("+0s          | x", "+0s          | w"))).failures.len() == 1);
    let lines: Vec<&str> = MINUTES.lines().collect();
    let swapped = [lines[0], lines[1], lines[2], lines[4], lines[3], lines[5], lines[6], ""].join("\n");
    assert!(play(&one(VIEWS, &swapped)).passed());
}

#[test]
fn lost_rows_must_be_spoken_of() {
    let bad = "
      views: |
        id | k | n    | ts
        a  | x | many | +0s
        b  | x | 1    | +1m
        c  | x | 1    | +2s
";
    let expect = "\n      minutes: |\n        k | rows\n        x | 1\n";
    let result = play(&one(bad, expect));
    let said: Vec<&str> = result.failures.iter().map(|failure| failure.message.as_str()).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    for (said, part) in said.iter().zip(["is late at `credited`", "is late at `minutes`", "is bad at `views`"]) {
        assert!(said.starts_with("1 row ") && said.contains(part), "{said}");
    }
    let counts = "    counts: { credited: { late: 1 }, minutes: { late: 1 }, views: { bad: 1, in: 3 } }\n";
    assert!(play(&one(bad, &format!("{expect}{counts}"))).passed());
    let streams = "      views.bad: |\n        position | code\n        0        | type\n      minutes.late: |\n        k | ts\n        x | +2s\n    counts: { credited: { late: 1 } }\n";
    let result = play(&one(bad, &format!("{expect}{streams}")));
    assert!(result.passed(), "{:?}", result.failures);
    let result = play(&one(bad, &format!("{expect}{}", counts.replace("in: 3", "in: 4"))));
    assert_eq!(result.failures[0].message, "`in` of `views` is 3, expected 4");
}

#[test]
fn a_sink_shows_times_as_it_writes_them_and_lines_are_as_good_as_a_table() {
    let lines = "
      out: |
        {\"window_start\": 1767225600000, \"k\": \"x\", \"rows\": 3}
        {\"window_start\": \"+0s\", \"k\": \"y\", \"rows\": 1}
        {\"window_start\": 1767225660000, \"k\": \"x\", \"rows\": 2}
        {\"window_start\": 1767225720000, \"k\": \"y\", \"rows\": 3}
";
    let result = play(&one(VIEWS, lines));
    assert!(result.passed(), "{:?}", result.failures);
}

#[test]
fn what_depends_on_the_order_of_arrival_is_found_by_shuffling() {
    // Two orders with one id, not alike: which of them is the duplicate depends on which comes first.
    let twice = "
      orders: |
        id | k | ts
        o  | x | +10s
        o  | x | +11s
        p  | y | +3m
";
    let expect = "\n      credited: |\n        id | ts\n        o  | +10s\n        p  | +3m\n    counts: { credited: { duplicate: 1 } }\n";
    let result = file(&format!("start: 2026-01-01\ntests:\n  one:\n    given:{twice}    expect:{expect}"))
        .play(0, &Chances { first_seed: 1, shuffles: 20 });
    assert!(!result.passed());
    let seeds: Vec<u64> = result
        .failures
        .iter()
        .filter_map(|f| f.play.strip_prefix("shuffled (--seed ")?.trim_end_matches(')').parse().ok())
        .collect();
    assert_eq!(seeds.len(), result.failures.len(), "{:?}", result.failures);
    // Whoever names the seed sees the same again.
    let file = file(&format!("start: 2026-01-01\ntests:\n  one:\n    given:{twice}    expect:{expect}"));
    let again = file.play(0, &Chances { first_seed: seeds[0], shuffles: 1 });
    assert_eq!(again.failures.len(), 1);
    assert_eq!(again.failures[0].table, result.failures[0].table);
    let calm = super::tests::file(&format!(
        "start: 2026-01-01\nshuffle: false\ntests:\n  one:\n    given:{twice}    expect:{expect}"
    ));
    assert!(play(&calm).passed());
}

#[test]
fn corrections_are_applied_before_shuffled_rows_are_compared() {
    let given = "
      orders: |
        id | k | ts   | op  | rev
        1  | x | +1s  | +   | 0
        2  | x | +4s  | -   | 1
        3  | y | +5s  | +   | 1
        4  | z | +30s | +   | 0
";
    let expect = "\n      corrected: |\n        k | op | rev\n        x | +  | 0\n        x | -  | 1\n        y | +  | 1\n        z | +  | 0\n";
    let result = play(&one(given, expect));
    assert!(result.passed(), "{:?}", result.failures);
}

/// A step that is right but for one thing.
struct Wrong {
    inner: Box<dyn Operator>,
    forgets: bool,
    idle: bool,
}

impl Operator for Wrong {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        let none = inputs.iter().map(|_| Vec::new()).collect();
        self.inner.step(if self.idle { none } else { inputs }, tick, out)
    }
    fn tables(&self) -> Vec<TableSpec> {
        self.inner.tables()
    }
    fn kept_for(&self) -> Vec<Option<std::time::Duration>> {
        self.inner.kept_for()
    }
    fn sizes(&self) -> Vec<TableSize> {
        self.inner.sizes()
    }
    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        self.inner.freeze(rebase)
    }
    fn restore(&mut self, table: usize, rows: &RecordBatch) -> Result<(), StepError> {
        if self.forgets { Ok(()) } else { self.inner.restore(table, rows) }
    }
}

fn with_wrong(
    mut file: TestFile,
    wrong: impl Fn(Box<dyn Operator>, ShardRange) -> Wrong + Send + Sync + 'static,
) -> TestFile {
    let step = file.plan.steps.iter_mut().find(|step| step.name == "minutes").unwrap();
    let StepWork::Operator(make) = step.work.clone() else { panic!("a window keeps state") };
    step.work = StepWork::Operator(Arc::new(move |shards| Box::new(wrong(make(shards), shards))));
    file
}

#[test]
fn a_step_that_forgets_its_state_is_found_by_restarting() {
    let wrong = |inner, _| Wrong { inner, forgets: true, idle: false };
    let result = play(&with_wrong(one(VIEWS, MINUTES), wrong));
    assert!(
        result.failures.iter().any(|failure| failure.play.starts_with("restarted after ticks 1")),
        "{:?}",
        result.failures
    );
    assert!(result.failures.iter().all(|failure| failure.play != "with 3 workers"));
    let calm = format!("start: 2026-01-01\nrestart: false\ntests:\n  one:\n    given:{VIEWS}    expect:{MINUTES}");
    assert!(play(&with_wrong(file(&calm), wrong)).passed());
}

#[test]
fn a_step_that_is_idle_on_some_worker_is_found_by_more_workers() {
    let wrong = |inner, shards: ShardRange| Wrong { inner, forgets: false, idle: shards.worker > 0 };
    let result = play(&with_wrong(one(VIEWS, MINUTES), wrong));
    assert!(result.failures.iter().any(|failure| failure.play == "with 3 workers"), "{:?}", result.failures);
    let calm = format!("start: 2026-01-01\nworkers: 1\ntests:\n  one:\n    given:{VIEWS}    expect:{MINUTES}");
    assert!(play(&with_wrong(file(&calm), wrong)).passed());
}

#[test]
fn a_rewritten_file_passes_and_keeps_what_was_right() {
    let text = format!(
        "start: 2026-01-01\ntests:\n  one:\n    given:{VIEWS}    expect:\n      # Before the table.\n      minutes: |\n        # On top.\n        window_start | k | rows\n        # The first one is right.\n        00:00:00     | x | 3\n        # This one is not.\n        00:00:00     | y | 7\n        00:09:00     | q | 1\n        # At the end.\n\n      out: |\n        {{\"k\": \"x\",   \"rows\": 3}}\n        {{\"k\": \"y\", \"rows\": 2}}\n      credited: []\n    counts: {{ views: {{ in: 3 }} }} # so many\n"
    );
    let wrong = file(&text);
    let rewritten = wrong.rewritten(&[play(&wrong)]);
    assert_eq!((rewritten.changed, rewritten.refused.len()), (3, 0));
    let expected = text
        .replace(
            "        # This one is not.\n        00:00:00     | y | 7\n        00:09:00     | q | 1\n",
            "        # This one is not.\n        00:00:00     | y | 1\n        00:01:00     | x | 2\n        00:02:00     | y | 3\n",
        )
        .replace(
            "        {\"k\": \"y\", \"rows\": 2}\n",
            "        {\"k\": \"y\", \"rows\": 1}\n        {\"k\": \"x\", \"rows\": 2}\n        {\"k\": \"y\", \"rows\": 3}\n",
        )
        .replace("in: 3", "in: 9");
    assert_eq!(rewritten.text, expected);
    let right = file(&rewritten.text);
    let result = play(&right);
    assert!(result.passed(), "{:?}", result.failures);
    assert_eq!(right.rewritten(&[result]).changed, 0);
}

#[test]
fn nothing_expected_is_rewritten_to_a_block_and_what_stands_in_one_line_is_left() {
    let text = format!(
        "start: 2026-01-01\ntests:\n  one:\n    given:{VIEWS}    expect:\n      minutes: []\n  two:\n    given:{VIEWS}    expect: {{ minutes: [] }}\n"
    );
    let wrong = file(&text);
    let rewritten = wrong.rewritten(&[wrong.play(0, &Chances::default()), wrong.play(1, &Chances::default())]);
    assert_eq!((rewritten.changed, rewritten.refused.len()), (1, 1));
    let right = file(&rewritten.text);
    assert!(right.play(0, &Chances::default()).passed(), "{}", rewritten.text);
    assert!(
        rewritten
            .text
            .contains("      minutes: |\n        window_start | window_end | k | rows | total | first\n        +0s")
    );
}

/// Returns the codes of the faults of a test file, with the line of each.
fn faults_of(text: &str) -> Vec<(&'static str, usize)> {
    let job = |_: Option<&str>| Ok(JobText { name: "job.yaml".into(), text: JOB.into() });
    let Err(reports) = read("job.test.yaml", text, job) else { return Vec::new() };
    let place = |report: &Report, fault: &crate::fault::Fault| report.place(fault).map_or(0, |place| place.line);
    let of = |report: &Report| -> Vec<(&'static str, usize)> {
        report.faults().into_iter().map(|fault| (fault.code.name(), place(report, fault))).collect()
    };
    reports.iter().flat_map(of).collect()
}

#[test]
fn every_fault_of_a_test_file_is_said_at_its_line() {
    let text = "\
start: yesterday
tests:
  one:
    given:
      views: |
        id | kk
        a  | x | 1
      view: []
      orders: [1]
      views: []
    expect:
      minutes:
        rows: |
          k
          x
        column: [k]
      minute: []
      credited: |
        id | nothing
        a  | b
    counts: { minutes: { lat: 1, late: none }, minute: { late: 1 } }
  two:
    given: {}
  one:
    given: {}
  three: {}
";
    let expected = [
        ("J008", 1),
        ("J014", 6),
        ("J060", 7),
        ("J013", 8),
        ("J060", 9),
        ("J005", 10),
        ("J003", 16),
        ("J013", 17),
        ("J014", 19),
        ("J003", 21),
        ("J008", 21),
        ("J013", 21),
        ("J004", 22),
        ("J005", 24),
        ("J004", 26),
    ];
    assert_eq!(faults_of(text), expected);
    assert_eq!(faults_of("tests: [a]"), [("J006", 1)]);
    assert_eq!(faults_of("tests: {}"), [("J006", 1)]);
    assert_eq!(faults_of("start: 2026-01-01"), [("J004", 1)]);
    assert_eq!(faults_of("tests: {"), [("J002", 1)]);
    // A time that counts from nothing, and corrections without a key: once each.
    let relative = "tests:\n  one:\n    given:\n      views: |\n        id | ts\n        a  | +1s\n        b  | +2s\n    expect: { minutes: [] }\n";
    assert_eq!(faults_of(relative), [("J061", 6)]);
}

#[test]
fn corrected_rows_need_a_key_where_they_are_shuffled() {
    // `rev` without `op`: which row replaces which must be said.
    let set = "set: [\"steps.corrected.select.columns=[id, k, rev]\"]\nstart: 2026-01-01\n";
    let given = "
      orders: |
        id | k | ts   | rev
        1  | x | +1s  | 0
        2  | x | +4s  | 1
        3  | y | +5s  | 0
";
    let plain =
        "\n      corrected: |\n        id | k | rev\n        1  | x | 0\n        2  | x | 1\n        3  | y | 0\n";
    let keyed = plain
        .replace("corrected: |\n", "corrected:\n        key: [k]\n        rows: |\n")
        .replace("\n        1 ", "\n          1 ");
    let keyed = keyed
        .replace("\n        2 ", "\n          2 ")
        .replace("\n        3 ", "\n          3 ")
        .replace("\n        id", "\n          id");
    let text =
        |switch: &str, expect: &str| format!("{set}{switch}tests:\n  one:\n    given:{given}    expect:{expect}");
    assert_eq!(faults_of(&text("", plain)), [("J062", 12)]);
    assert!(play(&file(&text("shuffle: false\n", plain))).passed());
    let result = play(&file(&text("", &keyed)));
    assert!(result.passed() && result.plays == 9, "{:?}", result.failures);
}

#[test]
fn the_guide_names_every_key() {
    let guide = include_str!("../../../docs/guide/testing-jobs.md");
    for field in [&fields::FILE, &fields::CASE, &fields::EXPECTED].iter().flat_map(|section| section.fields) {
        let named = [format!("`{}`", field.name), format!("{}:", field.name)].iter().any(|name| guide.contains(name));
        assert!(named, "`{}` is not in docs/guide/testing-jobs.md", field.name);
    }
}

const STOPS: &str = "
start: 2026-01-01
set: [sources.views.on_bad_row=stop, steps.credited.attribute.max_touches_per_key=3]
tests:
  one:
    given:
      views: |
        id | k | n | ts
";

#[test]
fn a_job_that_should_fail_is_held_to_how() {
    let stops = |rows: &str, fails: &str| play(&file(&format!("{STOPS}{rows}    fails: {fails}\n")));
    let bad = "        a | x | 1 | +0s\n        b | x | many | +1s\n        c | x | 3 | +2s\n";
    let right = stops(bad, "{ says: column `n` is int64, exit: 1 }");
    assert!(right.passed() && right.plays > 4, "{right:?}");
    let crowded: String = (0..60).map(|n| format!("        {n} | x | 1 | +{n}s\n")).collect();
    let full = stops(&crowded, "{ says: max_touches_per_key }");
    assert!(full.passed() && full.plays > 4, "{full:?}");
    let message = |rows: &str, fails: &str| {
        let result = stops(rows, fails);
        assert_eq!((result.plays, result.failures.len()), (1, 1));
        result.failures[0].message.clone()
    };
    assert!(message(bad, "{ says: nonsense }").starts_with("the job failed, but otherwise: "));
    assert!(message(bad, "{ exit: 70 }").starts_with("the job failed with exit code 1, not 70: "));
    let well = "        a | x | 1 | +0s\n";
    assert_eq!(message(well, "{ exit: 1 }"), "the job ran to its end, but should fail");
}

#[test]
fn a_failure_is_expected_alone_and_in_words() {
    let job = |_: Option<&str>| Ok(JobText { name: "job.yaml".into(), text: JOB.into() });
    let text = "tests: { one: { given: {}, fails: {}, counts: { views: { in: 1 } } } }";
    let Err(reports) = read("job.test.yaml", text, job) else { panic!("it has faults") };
    let said = reports[0].to_string();
    assert!(said.contains("test `one` has both `counts` and `fails`"), "{said}");
    assert!(said.contains("`fails` of test `one` says nothing of the failure"), "{said}");
}
