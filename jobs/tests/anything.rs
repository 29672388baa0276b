//! Whatever a job file or a test file holds, it is checked without a panic: it ends in a plan or in a report that can be shown.

use proptest::collection::vec;
use proptest::prelude::*;
use riverrun_jobs::explain::{Form, explain};
use riverrun_jobs::fault::Style;
use riverrun_jobs::job_test::{self, Chances, JobText};

/// Checks a job and shows all there is to show.
fn check(text: &str, overrides: &[String]) {
    let report = match riverrun_jobs::check("job.yaml", text, overrides) {
        Ok((plan, report)) => {
            assert_eq!(report.errors(), 0);
            for form in [Form::Text, Form::Json, Form::Dot, Form::Mermaid] {
                assert!(!explain(&plan, form).is_empty());
            }
            report
        }
        Err(report) => {
            assert!(report.errors() > 0);
            report
        }
    };
    let shown = report.render(Style::Plain);
    assert_eq!(shown.is_empty(), report.is_empty());
    report.render(Style::Coloured);
    assert_eq!(report.to_json().as_array().map(Vec::len), Some(report.faults().len()));
    for fault in report.faults() {
        let place = fault.span.map(|_| report.place(fault).expect("a span is in one of the texts"));
        assert!(place.is_none_or(|place| place.line >= 1 && place.col >= 1));
    }
}

/// Reads a test file; shows its faults, or plays its first test and reads what it is rewritten to.
fn check_tests(text: &str, job: &str, play: bool) {
    let job = |_: Option<&str>| Ok(JobText { name: "job.yaml".to_owned(), text: job.to_owned() });
    match job_test::read("job.test.yaml", text, job) {
        Err(reports) => {
            assert!(reports.iter().any(|report| report.errors() > 0));
            assert!(reports.iter().all(|report| !report.render(Style::Plain).is_empty()));
        }
        Ok(file) if play => {
            let result = file.play(0, &Chances { first_seed: 1, shuffles: 1 });
            let rewritten = file.rewritten(std::slice::from_ref(&result));
            let Ok(again) = job_test::read("job.test.yaml", &rewritten.text, job) else { panic!("{}", rewritten.text) };
            // What was written is what comes; that rows are lost in silence is no expectation that could be rewritten.
            let again = again.play(0, &Chances { first_seed: 1, shuffles: 0 });
            let unmet = again.failures.iter().find(|failure| failure.play == "as given" && failure.place.is_some());
            assert!(unmet.is_none() || !rewritten.refused.is_empty(), "{unmet:?}\n{}", rewritten.text);
        }
        Ok(_) => {}
    }
}

fn tests() -> impl Strategy<Value = (&'static str, &'static str)> {
    let of = |name: &str, text: &'static str| (text, riverrun_jobs::bundled(name).unwrap());
    proptest::sample::select(vec![
        of("attribution", include_str!("../attribution.test.yaml")),
        of("item-minutes", include_str!("../item-minutes.test.yaml")),
    ])
}

fn job() -> impl Strategy<Value = &'static str> {
    let all = riverrun_jobs::bundled::BUNDLED.iter().chain(&riverrun_jobs::bundled::STARTERS);
    proptest::sample::select(all.map(|job| job.text).collect::<Vec<_>>())
}

/// Pieces that mean something in a job file, for better or worse.
const PIECES: [&str; 44] = [
    "sources:",
    "steps:",
    "sinks:",
    "from: clicks",
    "clicks.bad",
    "attributed.late",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "'",
    "\"",
    "\n",
    "\n  ",
    "\t",
    "#",
    "&a",
    "*a",
    "!x",
    "|\n",
    "null",
    "~",
    "5s",
    "99999999999999999999d",
    "int64",
    "list<list<string>>",
    "window",
    "union: { from: [clicks, clicks] }",
    "count(*)",
    "sum(ts) filter (where",
    "case when",
    "cast(ts as bigint)",
    "now()",
    "as x",
    "${env:",
    "raw: x",
    " | ",
    "+5m",
    "columns: [ts]",
    "ä",
    "\u{0}",
    "\u{1F600}",
];

#[derive(Clone, Debug)]
enum Edit {
    Insert(usize, &'static str),
    Delete(usize, usize),
    Copy(usize, usize, usize),
    SwapLines(usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = || any::<prop::sample::Index>().prop_map(|index| index.index(2000));
    prop_oneof![
        (at(), proptest::sample::select(&PIECES[..])).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (at(), 1..40usize).prop_map(|(at, length)| Edit::Delete(at, length)),
        (at(), 1..80usize, at()).prop_map(|(from, length, to)| Edit::Copy(from, length, to)),
        (0..60usize, 0..60usize).prop_map(|(one, two)| Edit::SwapLines(one, two)),
    ]
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for edit in edits {
        let end = chars.len();
        match *edit {
            Edit::Insert(at, piece) => drop(chars.splice(at.min(end)..at.min(end), piece.chars())),
            Edit::Delete(at, length) => drop(chars.drain(at.min(end)..(at + length).min(end))),
            Edit::Copy(from, length, to) => {
                let piece: Vec<char> = chars[from.min(end)..(from + length).min(end)].to_vec();
                drop(chars.splice(to.min(end)..to.min(end), piece));
            }
            Edit::SwapLines(one, two) => {
                let text: String = chars.iter().collect();
                let mut lines: Vec<&str> = text.split('\n').collect();
                let count = lines.len();
                lines.swap(one % count, two % count);
                chars = lines.join("\n").chars().collect();
            }
        }
    }
    chars.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_job_file_edited_at_random_never_panics(job in job(), edits in vec(edit(), 1..6)) {
        check(&edited(job, &edits), &[]);
    }

    #[test]
    fn any_text_never_panics(text in any::<String>(), bytes in vec(any::<u8>(), 0..200)) {
        check(&text, &[]);
        check(&String::from_utf8_lossy(&bytes), &[]);
    }

    #[test]
    fn a_test_file_edited_at_random_never_panics((text, job) in tests(), edits in vec(edit(), 1..6)) {
        check_tests(&edited(text, &edits), job, false);
    }

    #[test]
    fn any_override_never_panics(
        job in job(),
        key in "(sources|sinks|steps|tick|job|x)(\\.(clicks|orders|attributed|schema|topic|file|path|[a-z.]{0,4})){0,4}",
        value in "[\\PC]{0,12}|\\{ ?[a-z]{0,6}: ?[\\PC]{0,8} ?\\}|[0-9]{1,3}(s|m|MiB)?",
    ) {
        check(job, &[format!("{key}={value}"), value]);
    }

    #[test]
    fn any_expression_never_panics(sql in "([a-z_]{1,8}|[0-9]{1,4}|'[a-z]{0,3}'|[-+*/()<>=,]| |and|or|not|case|when|then|end|null|count|filter|where){0,24}") {
        let quoted = sql.replace('\'', "''");
        for key in ["steps.item_clicks.select.where", "steps.item_clicks.select.columns"] {
            let value = if key.ends_with("columns") { format!("['{quoted} as x']") } else { format!("'{quoted}'") };
            check(riverrun_jobs::bundled("attribution").unwrap(), &[format!("{key}={value}")]);
        }
        let aggregate = format!("steps.counted.window.aggregates.x='{quoted}'");
        check(riverrun_jobs::bundled("item-minutes").unwrap(), &[aggregate]);
    }
}

proptest! {
    // Playing takes longer than reading.
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_test_file_edited_at_random_is_played_and_rewritten_to_one_that_can_be_read((text, job) in tests(), edits in vec(edit(), 1..3)) {
        check_tests(&edited(text, &edits), job, true);
    }
}
