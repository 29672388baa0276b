//! Results as JUnit XML, which build servers read.

use std::fmt::Write;

use super::{FileResult, Results, TestResult, explained};

/// Returns the document.
pub(super) fn document(results: &Results) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let tests = results.passed + results.failed;
    let (failed, seconds) = (results.failed, results.seconds);
    put(
        &mut out,
        format_args!(
            "<testsuites name=\"riverrun test\" tests=\"{tests}\" failures=\"{failed}\" errors=\"0\" time=\"{seconds:.3}\">\n"
        ),
    );
    results.files.iter().for_each(|file| suite(file, &mut out));
    out.push_str("</testsuites>\n");
    out
}

fn suite(file: &FileResult, out: &mut String) {
    let failed = file.tests.iter().filter(|test| !test.passed).count();
    let seconds: f64 = file.tests.iter().map(|test| test.seconds).sum();
    let (name, tests) = (escaped(&file.file), file.tests.len());
    put(
        out,
        format_args!(
            "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\" time=\"{seconds:.3}\">\n"
        ),
    );
    file.tests.iter().for_each(|test| case(file, test, out));
    out.push_str("  </testsuite>\n");
}

fn case(file: &FileResult, test: &TestResult, out: &mut String) {
    let (job, name, path) = (escaped(&file.job), escaped(&test.case.name), escaped(&file.file));
    let (line, seconds) = (test.case.place.line, test.seconds);
    put(
        out,
        format_args!(
            "    <testcase classname=\"{job}\" name=\"{name}\" file=\"{path}\" line=\"{line}\" time=\"{seconds:.3}\""
        ),
    );
    if test.passed {
        out.push_str("/>\n");
        return;
    }
    out.push_str(">\n");
    for failure in &test.case.failures {
        let message = escaped(&format!("{}: {}", failure.play, failure.message));
        let text = escaped(&explained(failure));
        put(out, format_args!("      <failure type=\"unexpected\" message=\"{message}\">{text}</failure>\n"));
    }
    out.push_str("    </testcase>\n");
}

/// Returns `text` as it may stand in an attribute or an element; what XML has no way to write becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\u{FFFE}' | '\u{FFFF}' => out.push('\u{FFFD}'),
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string can be written to");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_write_is_not_written() {
        assert_eq!(escaped("<a> & \"b\"\n\u{0}\u{7f}é"), "&lt;a&gt; &amp; &quot;b&quot;&#10;\u{FFFD}\u{FFFD}é");
    }
}
