//! A test that expects its job to fail, and what is wrong if it does not, or fails otherwise.

use super::file::TestFile;
use super::play::{Broken, Played};
use super::{Failure, fields};
use crate::fault::{Fault, codes};
use crate::spec::reader::Form;
use crate::yaml::{Span, Spanned};

/// How a job should fail.
#[derive(Clone, Debug)]
pub struct FailureWanted {
    span: Span,
    says: Option<Spanned<String>>,
    exit: Option<Spanned<u64>>,
}

impl FailureWanted {
    /// Reads `fails` of a test, if it is there.
    pub(super) fn of(test: &Form, who: &str, faults: &mut Vec<Fault>) -> Option<FailureWanted> {
        let written = test.form(fields::FAILS_KEY).filter(|_| test.wrote(fields::FAILS_KEY))?;
        for key in ["expect", "counts"].into_iter().filter(|key| test.wrote(key)) {
            let span = test.get(key).map_or(test.span, |value| value.span);
            let message = format!("{who} has both `{key}` and `fails`");
            let note = "how far a job came before it failed depends on what it was doing";
            faults.push(Fault::error(codes::DOES_NOT_FIT, span, message).note(note).hint("make two tests of it"));
        }
        let form = &written.value;
        if form.whole && !form.wrote("says") && !form.wrote("exit") {
            let message = format!("`fails` of {who} says nothing of the failure");
            let hint = "give a part of the message, `says: ...`, or the exit code, `exit: 1`";
            faults.push(Fault::error(codes::MISSING_KEY, written.span, message).hint(hint));
        }
        Some(FailureWanted { span: written.span, says: form.text("says"), exit: form.number("exit") })
    }

    /// Returns what is wrong with a play, if anything is.
    pub(super) fn held_against(&self, file: &TestFile, play: &str, played: Result<Played, Broken>) -> Option<Failure> {
        let says = self.says.as_ref();
        let (message, span) = match played {
            Ok(_) => ("the job ran to its end, but should fail".to_owned(), self.span),
            Err(Broken { reason, exit: None }) => (reason, self.span),
            Err(Broken { reason, exit: Some(code) }) => {
                let other_code = self.exit.as_ref().filter(|exit| exit.value != u64::from(code));
                match (says.filter(|says| !reason.contains(&says.value)), other_code) {
                    (Some(says), _) => (format!("the job failed, but otherwise: {reason}"), says.span),
                    (None, Some(exit)) => {
                        (format!("the job failed with exit code {code}, not {}: {reason}", exit.value), exit.span)
                    }
                    (None, None) => return None,
                }
            }
        };
        Some(Failure {
            play: play.to_owned(),
            about: None,
            place: Some(file.place(span)),
            message,
            rows: Vec::new(),
            table: String::new(),
        })
    }
}
