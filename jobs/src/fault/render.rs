//! Reports for people: the fault, where it stands, the line itself, and what to do.

use std::fmt::Write;

use annotate_snippets::renderer::{AnsiColor, Effects};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Fault, Report, Severity};

/// With or without colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// With the colours of a terminal.
    Coloured,
}

/// Lines longer than this are shown around the fault only.
const LINE_CHARS_MAX: usize = 160;
/// As much of a line before and after the beginning of a fault, in bytes, is enough to show so much of it.
const AROUND: usize = 16 * LINE_CHARS_MAX;

pub(super) fn render(report: &Report, style: Style) -> String {
    let mut out = String::new();
    for (index, fault) in report.faults().into_iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        one(report, fault, style, &mut out);
    }
    if report.more() > 0 {
        writeln!(out, "\n... and {} more of the like", report.more()).expect("a string can be written to");
    }
    out
}

fn one(report: &Report, fault: &Fault, style: Style, out: &mut String) {
    let word = match fault.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let title = painted(&format!("{word}[{}]", fault.code.name()), fault.severity, style);
    let mut line = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).and_then(|()| out.write_char('\n')).expect("a string can be written to");
    };
    line(format_args!("{title}: {}", fault.message));
    if let Some(place) = report.place(fault) {
        line(format_args!("  at {}:{}:{}", place.file, place.line, place.col));
        for shown in excerpt(report, fault, style).lines() {
            line(format_args!("{}", shown.trim_end()));
        }
    }
    for note in &fault.notes {
        line(format_args!("  {note}"));
    }
    if let Some(hint) = &fault.hint {
        line(format_args!("  hint: {hint}"));
    }
}

fn painted(text: &str, severity: Severity, style: Style) -> String {
    if style == Style::Plain {
        return text.to_owned();
    }
    let colour = match severity {
        Severity::Error => AnsiColor::BrightRed,
        Severity::Warning => AnsiColor::Yellow,
    };
    let paint = annotate_snippets::renderer::Style::new().fg_color(Some(colour.into())).effects(Effects::BOLD);
    format!("{paint}{text}{paint:#}")
}

/// Returns the first line of the fault with the faulty part underlined.
fn excerpt(report: &Report, fault: &Fault, style: Style) -> String {
    let (Some(span), Some(place)) = (fault.span, report.place(fault)) else { return String::new() };
    let text = &report.texts()[span.text].text;
    let (start, end) = place.span;
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let line_start = line_start.max(super::floor_char(text, start.saturating_sub(AROUND)));
    let line_end = line_end.min(super::floor_char(text, start + AROUND));
    let line = text[line_start..line_end].trim_end_matches('\r');
    // A fault over several lines is shown at its first; an empty one still gets a mark.
    let from = (start - line_start).min(line.len());
    let mut to = super::floor_char(line, end.saturating_sub(line_start)).max(from);
    if to - from > AROUND / 2 {
        // Of what is much longer than what is shown, the end says nothing.
        to = super::floor_char(line, from + LINE_CHARS_MAX / 2);
    }
    let level = match fault.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    };
    let snippet = Snippet::source(line).line_start(place.line).annotation(AnnotationKind::Primary.span(from..to));
    renderer.term_width(LINE_CHARS_MAX).render(&[Group::with_level(level).element(snippet)])
}
