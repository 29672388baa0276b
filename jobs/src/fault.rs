//! Faults of a job file: what was attempted on which named thing, where it stands, and what the reader can do.
//!
//! All faults of a job are gathered in one [`Report`]; nothing stops at the first. Every [`Code`] has a page in
//! `docs/errors`.

pub mod codes;
mod render;

use serde::Serialize;

pub use codes::Code;
pub use render::Style;

use crate::yaml::Span;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The job cannot run.
    Error,
    /// The job runs; something in it is odd.
    Warning,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its code.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What was attempted, on which named thing.
    pub message: String,
    /// Where it stands, if it stands anywhere.
    pub span: Option<Span>,
    /// Details.
    pub notes: Vec<String>,
    /// What the reader can do. Boxed: a fault is handed back where a result was hoped for, and small ones are cheap to pass.
    pub hint: Option<Box<str>>,
}

impl Fault {
    /// Returns an error at `span`.
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Fault {
        let message = message.into();
        Fault { code, severity: Severity::Error, message, span: Some(span), notes: Vec::new(), hint: None }
    }

    /// Returns a warning at `span`.
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Fault {
        Fault { severity: Severity::Warning, ..Fault::error(code, span, message) }
    }

    /// Returns an error that stands nowhere in the job's text.
    pub fn elsewhere(code: Code, message: impl Into<String>) -> Fault {
        Fault { span: None, ..Fault::error(code, Span::default(), message) }
    }

    /// Adds a detail.
    pub fn note(mut self, note: impl Into<String>) -> Fault {
        self.notes.push(note.into());
        self
    }

    /// Says what the reader can do.
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into().into_boxed_str());
        self
    }

    /// Hints at the name in `known` that is closest to `written`, if one is close.
    pub fn did_you_mean<'a>(self, written: &str, known: impl IntoIterator<Item = &'a str>) -> Fault {
        match closest(written, known) {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

/// Returns the name in `known` that is most like `written`, if any is like it at all.
pub fn closest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody's name. To compare it takes as long as it and what is known are, multiplied.
    const BYTES_MAX: usize = 200;
    if written.len() > BYTES_MAX {
        return None;
    }
    let lower = written.to_lowercase();
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        let alike = strsim::jaro_winkler(&lower, &name).max(strsim::normalized_damerau_levenshtein(&lower, &name));
        // `shop` for `shop_id`, `user` for `user_id`.
        let is_part = lower.len() >= 3 && (name.starts_with(&lower) || name.ends_with(&lower));
        if is_part { alike.max(0.9) } else { alike }
    };
    let scored = known.into_iter().map(|name| (likeness(name), name));
    scored.filter(|(score, _)| *score >= 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// Returns `text` on one line, cut where a message would become too long.
pub fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(CHARS_MAX) {
        None => one_line,
        Some((cut, _)) => format!("{}...", &one_line[..cut]),
    }
}

/// Returns `names` as a list for a message: "a, b, c"; of very many the first.
pub fn list<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    const NAMES_MAX: usize = 1000;
    let mut names = names.into_iter();
    let mut shown = names.by_ref().take(NAMES_MAX).map(|name| name.as_ref().to_owned()).collect::<Vec<_>>().join(", ");
    match names.count() {
        0 => {}
        more => shown.push_str(&format!(" and {more} more")),
    }
    shown
}

/// A text that a job is made of.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its name: the path of the job file, or `--set` and the override's key.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// Errors that a report keeps, and warnings likewise. Nobody reads more of them at once: the others are counted.
pub const KEPT_MAX: usize = 100;

/// All faults of one job, with the texts in which they stand; of very many only the first.
#[derive(Clone, Debug, Default)]
pub struct Report {
    texts: Vec<Text>,
    faults: Vec<Fault>,
    /// Errors beyond those that are kept.
    more_errors: usize,
    /// Warnings likewise.
    more_warnings: usize,
}

/// A fault as `-o json` shows it.
#[derive(Serialize)]
struct Finding<'a> {
    code: &'static str,
    severity: Severity,
    message: &'a str,
    #[serde(flatten)]
    place: Option<Place>,
    notes: &'a [String],
    hint: Option<&'a str>,
    page: String,
}

/// Where a fault stands, counted for people: lines and columns from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The text's name.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column.
    pub col: usize,
    /// First byte in the text and byte after the last.
    pub span: (usize, usize),
}

impl Report {
    /// Returns a report about `texts`, the job file first, without faults.
    pub fn new(texts: Vec<Text>) -> Report {
        Report { texts, ..Report::default() }
    }

    /// Adds a fault; one that is kept already is not added again. Beyond [`KEPT_MAX`] of its severity it is only counted.
    pub fn push(&mut self, fault: Fault) {
        if self.faults.contains(&fault) {
            return;
        }
        if self.kept(fault.severity) < KEPT_MAX {
            return self.faults.push(fault);
        }
        match fault.severity {
            Severity::Error => self.more_errors += 1,
            Severity::Warning => self.more_warnings += 1,
        }
    }

    fn kept(&self, severity: Severity) -> usize {
        self.faults.iter().filter(|fault| fault.severity == severity).count()
    }

    /// Adds faults.
    pub fn extend(&mut self, faults: impl IntoIterator<Item = Fault>) {
        faults.into_iter().for_each(|fault| self.push(fault));
    }

    /// Returns the texts of the job.
    pub fn texts(&self) -> &[Text] {
        &self.texts
    }

    /// Returns the faults that are kept, in the order in which they stand in the job.
    pub fn faults(&self) -> Vec<&Fault> {
        let mut faults: Vec<&Fault> = self.faults.iter().collect();
        faults.sort_by_key(|fault| fault.span.map_or((usize::MAX, 0), |span| (span.text, span.start)));
        faults
    }

    /// Returns how many errors there are.
    pub fn errors(&self) -> usize {
        self.kept(Severity::Error) + self.more_errors
    }

    /// Returns how many warnings there are.
    pub fn warnings(&self) -> usize {
        self.kept(Severity::Warning) + self.more_warnings
    }

    /// Returns how many faults there are beyond those that are kept.
    pub fn more(&self) -> usize {
        self.more_errors + self.more_warnings
    }

    /// Returns whether there is no fault at all.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Returns where `fault` stands.
    pub fn place(&self, fault: &Fault) -> Option<Place> {
        self.place_of(fault.span?)
    }

    /// Returns where a stretch of one of the texts stands.
    pub fn place_of(&self, span: Span) -> Option<Place> {
        let text = self.texts.get(span.text)?;
        let start = floor_char(&text.text, span.start);
        let line_start = text.text[..start].rfind('\n').map_or(0, |at| at + 1);
        Some(Place {
            file: text.name.clone(),
            line: text.text[..start].matches('\n').count() + 1,
            col: text.text[line_start..start].chars().count() + 1,
            span: (start, span.end.max(start).min(text.text.len())),
        })
    }

    /// Returns the report for a person.
    pub fn render(&self, style: Style) -> String {
        render::render(self, style)
    }

    /// Returns the report for a program: a list of findings, one for each fault that is kept.
    pub fn to_json(&self) -> serde_json::Value {
        let findings: Vec<serde_json::Value> = self.faults().into_iter().map(|fault| self.finding(fault)).collect();
        serde_json::Value::Array(findings)
    }

    fn finding(&self, fault: &Fault) -> serde_json::Value {
        let finding = Finding {
            code: fault.code.name(),
            severity: fault.severity,
            message: &fault.message,
            place: self.place(fault),
            notes: &fault.notes,
            hint: fault.hint.as_deref(),
            page: fault.code.page(),
        };
        serde_json::to_value(finding).expect("a finding is made of texts and numbers")
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for Report {}

/// Returns the greatest character boundary of `text` up to `at`.
fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["shop_id", "order_id", "status", "ts"];
        assert_eq!(closest("shop", known), Some("shop_id"));
        assert_eq!(closest("stauts", known), Some("status"));
        assert_eq!(closest("Order_ID", known), Some("order_id"));
        assert_eq!(closest("event_tim", ["event_time", "event_time_range"]), Some("event_time"));
        assert_eq!(closest("price", known), None);
        assert_eq!(closest("", known), None);
        assert_eq!(closest(&"status".repeat(100_000), known), None);
    }

    #[test]
    fn of_very_many_names_the_first_are_listed() {
        assert_eq!(list(["a", "b", "c"]), "a, b, c");
        assert_eq!(list([""; 0]), "");
        let many = list((0..1250).map(|number| number.to_string()));
        assert!(many.starts_with("0, 1, 2") && many.ends_with("998, 999 and 250 more"), "{many}");
    }

    #[test]
    fn of_very_many_faults_the_first_are_kept_and_the_others_counted() {
        let mut report = Report::new(vec![Text { name: "a.yaml".into(), text: "a: b\n".repeat(500) }]);
        for row in 0..KEPT_MAX + 50 {
            let at = Span { text: 0, start: row * 5, end: row * 5 + 1 };
            report.push(Fault::warning(codes::REPEATED_KEY, at, "odd"));
            report.push(Fault::warning(codes::REPEATED_KEY, at, "odd").hint("go on"));
        }
        assert_eq!((report.errors(), report.warnings(), report.faults().len()), (0, 2 * KEPT_MAX + 100, KEPT_MAX));
        let last = Span { text: 0, start: 2000, end: 2001 };
        report.push(Fault::error(codes::SYNTAX, last, "an error after all of them"));
        report.push(Fault::error(codes::SYNTAX, last, "an error after all of them"));
        assert_eq!((report.errors(), report.more()), (1, KEPT_MAX + 100));
        let shown = report.render(Style::Plain);
        assert!(shown.contains("an error after all of them"));
        assert!(shown.ends_with("\n... and 200 more of the like\n"), "{shown}");
        assert_eq!(report.to_json().as_array().map(Vec::len), Some(KEPT_MAX + 1));
    }

    #[test]
    fn a_line_of_any_length_is_shown_around_the_fault() {
        for (before, after) in [(0, 0), (200, 200), (5_000, 5_000), (5_000, 0), (1 << 20, 1 << 20)] {
            let text = format!("{}a: b{}\nc: d\n", "é".repeat(before), " x".repeat(after));
            let start = 2 * before;
            let mut report = Report::new(vec![Text { name: "a.yaml".into(), text }]);
            report.push(Fault::error(codes::SYNTAX, Span { text: 0, start, end: start + 1 }, "m"));
            let shown = report.render(Style::Plain);
            let mut lines = shown.lines().skip_while(|line| !line.contains("a: b"));
            let (line, mark) = (lines.next().unwrap(), lines.next().unwrap());
            assert!(line.chars().count() <= 170, "{shown}");
            let at = line.chars().position(|char| char == 'a').unwrap();
            assert_eq!(mark.chars().position(|char| char == '^'), Some(at), "{shown}");
            assert_eq!(line.contains("..."), before + after > 0, "{shown}");
        }
    }

    #[test]
    fn of_a_fault_that_is_much_longer_than_a_line_the_beginning_is_shown() {
        let text = format!("a: [ {} ]\nc: d\n", "x".repeat(10_000));
        let mut report = Report::new(vec![Text { name: "a.yaml".into(), text }]);
        report.push(Fault::error(codes::SYNTAX, Span { text: 0, start: 3, end: 10_007 }, "m"));
        let shown = report.render(Style::Plain);
        assert!(shown.contains("| a: [ xxx"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 170), "{shown}");
    }

    #[test]
    fn columns_count_characters_and_survive_spans_beyond_the_text() {
        let report = Report::new(vec![Text { name: "a.yaml".into(), text: "é: x\nb: ü!\n".into() }]);
        let place = |start| report.place(&Fault::error(codes::SYNTAX, Span { text: 0, start, end: 99 }, "m")).unwrap();
        assert_eq!((place(4).line, place(4).col), (1, 4));
        assert_eq!((place(11).line, place(11).col), (2, 5));
        assert_eq!((place(500).line, place(500).col), (3, 1));
    }
}
