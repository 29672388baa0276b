//! Refused submits: a form is refused again and again.
//!
//! Three failed submits of one form within 5 min (by the times of the submits, closed), without a success between, are one
//! signal. Its count grows until a success, 5 min of quiet, or the leaving of the page. Refusals of a sign-in (401, 403) are a
//! signal of their own kind, as they may be an attack. One field that was changed and refused three times is a signal too, but
//! never beside the other: one form gives the one that comes first.
//!
//! The row's target is the form; its cause the endpoint, or the field. Keeps: at most `FORMS_MAX` forms, with the last failures
//! and at most `FIELDS_MAX` fields each; what failed longest ago goes first.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::row::Draft;
use super::scene::{Emit, Run, Scene, Seen, Step, name_mark};
use super::settings::Settings;
use crate::event::payload::Form;

/// Forms that are kept at most.
pub const FORMS_MAX: usize = 16;
/// Fields of a form that are kept at most.
pub const FIELDS_MAX: usize = 16;

/// The forms of one tab that refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitFailures {
    forms: Vec<Failing>,
}

/// A submit that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The form.
    pub form: &'a Form,
    /// The submit.
    pub step: &'a Step,
    /// What refused it; empty: the form itself.
    pub cause_fp: &'a str,
    /// Whether a sign-in was refused.
    pub is_auth: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failing {
    form: u64,
    is_auth: bool,
    failures: Run,
    last_us: i64,
    draft: Option<Draft>,
    fields: Vec<Field>,
    /// Whether a field of it was told.
    is_struggle: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Field {
    name: u64,
    is_changed: bool,
    refusals: Run,
}

impl SubmitFailures {
    fn form(&mut self, form_fp: &str, is_auth: bool) -> &mut Failing {
        let name = name_mark(form_fp);
        if let Some(at) = self.forms.iter().position(|form| form.form == name && form.is_auth == is_auth) {
            return &mut self.forms[at];
        }
        if self.forms.len() == FORMS_MAX {
            let oldest = (0..self.forms.len()).min_by_key(|&at| self.forms[at].last_us).unwrap_or(0);
            self.forms.remove(oldest);
        }
        let at = self.forms.len();
        self.forms.push(Failing {
            form: name,
            is_auth,
            failures: Run::default(),
            last_us: i64::MIN,
            draft: None,
            fields: Vec::new(),
            is_struggle: false,
        });
        &mut self.forms[at]
    }

    /// A submit failed.
    pub fn failed(&mut self, failure: &Failure<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.form;
        let (kind, points) = if failure.is_auth {
            (SignalKind::AuthFailures, settings.auth_points)
        } else {
            (SignalKind::SubmitFailures, settings.failure_points)
        };
        if failure.form.ignore.has(kind) {
            return;
        }
        let form = self.form(&failure.form.form_fp, failure.is_auth);
        form.last_us = form.last_us.max(failure.step.at_us);
        if let Some(draft) = &mut form.draft {
            draft.grow(&failure.step.this, failure.step.time);
            emit.tell(draft);
            return;
        }
        let count = usize::from(settings.failures.clamp(2, 8));
        form.failures.push(count, failure.step.clone());
        let is_inside = form.failures.span_us(count).is_some_and(|span| settings.failure_window.holds(span));
        if !is_inside || form.is_struggle {
            return;
        }
        if let Some(mut draft) = form.failures.draft(kind, &scene.page.key, count) {
            draft.target_fp.clone_from(&failure.form.form_fp);
            draft.cause_fp = failure.cause_fp.to_owned();
            draft.points = points;
            emit.tell(&mut draft);
            form.draft = Some(draft);
        }
    }

    /// A field was changed.
    pub fn change(&mut self, form: &Form) {
        if form.field_fp.is_empty() || form.ignore.has(SignalKind::FieldStruggle) {
            return;
        }
        let name = name_mark(&form.field_fp);
        let fields = &mut self.form(&form.form_fp, false).fields;
        match fields.iter_mut().find(|field| field.name == name) {
            Some(field) => field.is_changed = true,
            None => {
                if fields.len() == FIELDS_MAX {
                    fields.remove(0);
                }
                fields.push(Field { name, is_changed: true, refusals: Run::default() });
            }
        }
    }

    /// A field was refused.
    pub fn field_error(&mut self, seen: &Seen<'_>, form: &Form, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.form;
        let name = name_mark(&form.field_fp);
        let failing = self.form(&form.form_fp, false);
        failing.last_us = failing.last_us.max(seen.at_us);
        let is_open = failing.draft.is_some() || failing.is_struggle;
        let changed = |field: &&mut Field| field.name == name && field.is_changed;
        let Some(field) = failing.fields.iter_mut().find(changed).filter(|_| name != 0) else { return };
        let count = usize::from(settings.failures.clamp(2, 8));
        field.is_changed = false;
        field.refusals.push(count, seen.step(0));
        let is_inside = field.refusals.span_us(count).is_some_and(|span| settings.failure_window.holds(span));
        if is_inside && !is_open {
            failing.is_struggle = true;
            if let Some(mut draft) = field.refusals.draft(SignalKind::FieldStruggle, &scene.page.key, count) {
                draft.target_fp.clone_from(&form.form_fp);
                draft.cause_fp.clone_from(&form.field_fp);
                draft.points = settings.failure_points;
                emit.tell(&mut draft);
            }
        }
    }

    /// A submit succeeded: what failed before is forgotten.
    pub fn succeeded(&mut self, form_fp: &str) {
        let name = name_mark(form_fp);
        self.forms.retain(|form| form.form != name);
    }

    /// Returns when the first signal that is growing ends, in µs.
    pub fn due_us(&self, settings: &Settings) -> Option<i64> {
        let growing = self.forms.iter().filter(|form| form.draft.is_some());
        growing.map(|form| form.last_us.saturating_add(settings.form.failure_window.us)).min()
    }

    /// Ends the signals that had no failure for long enough.
    pub fn fire(&mut self, now_us: i64, settings: &Settings) {
        let window_us = settings.form.failure_window.us;
        self.forms.retain(|form| form.draft.is_none() || form.last_us.saturating_add(window_us) >= now_us);
    }

    /// The page is left: what is growing ends; failures so far still count, as a form may be shown anew after each.
    pub fn leave(&mut self) {
        for form in &mut self.forms {
            if form.draft.take().is_some() {
                form.failures.clear();
            }
            form.is_struggle = false;
            form.fields.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{ALL_CAPS, Script};
    use super::*;
    use crate::event::payload::{PageView, Payload, Request, Tags};

    fn form(submit_id: i64) -> Form {
        Form { form_fp: "#order".to_owned(), submit_id: submit_id.to_string(), ..Form::default() }
    }

    /// A submit at `ms`, refused half a second later.
    fn fail(script: &mut Script, ms: i64) {
        script.at(ms, Payload::FormSubmit(form(ms))).at(ms + 500, Payload::FormError(form(ms)));
    }

    fn answered(script: &mut Script, ms: i64, status: u16) {
        let request = Request { status: Some(status), initiator: ms.to_string(), ..Request::default() };
        script.at(ms, Payload::FormSubmit(form(ms))).at(ms + 500, Payload::Request(Box::new(request)));
    }

    /// G-F4.
    #[test]
    fn g_f4_the_third_failure_is_a_signal_and_the_fourth_revises_it() {
        let mut script = Script::observed();
        fail(&mut script, 0);
        fail(&mut script, 40_000);
        assert_eq!(script.rows(), []);
        fail(&mut script, 90_000);
        let rows = script.rows();
        assert_eq!((rows.len(), rows[0].kind, rows[0].rev, rows[0].count), (1, SignalKind::SubmitFailures, 0, 3));
        assert_eq!((rows[0].start, rows[0].end, rows[0].points), (0, 90_000, 5));
        fail(&mut script, 100_000);
        let rows = script.rows();
        assert_eq!((rows.len(), rows[0].rev, rows[0].count), (1, 1, 4));
    }

    /// G-F5.
    #[test]
    fn g_f5_a_success_between_is_a_new_beginning() {
        let mut script = Script::observed();
        fail(&mut script, 0);
        fail(&mut script, 10_000);
        script.at(20_000, Payload::FormSubmit(form(20_000)));
        fail(&mut script, 30_000);
        assert_eq!(script.rows_at(60_000), []);
    }

    /// G-F6.
    #[test]
    fn g_f6_three_failures_in_301_s_are_none() {
        let mut script = Script::observed();
        [0, 240_000, 301_000].into_iter().for_each(|ms| fail(&mut script, ms));
        assert_eq!(script.rows_at(600_000), []);
        let mut script = Script::observed();
        [0, 240_000, 300_000].into_iter().for_each(|ms| fail(&mut script, ms));
        assert_eq!(script.rows_at(600_000).len(), 1);
    }

    #[test]
    fn a_refused_request_is_a_failure_and_an_answered_one_is_none() {
        for (status, signals) in [(400, 1), (500, 1), (0, 1), (200, 0), (302, 0)] {
            let mut script = Script::observed();
            [0, 10_000, 20_000].into_iter().for_each(|ms| answered(&mut script, ms, status));
            let rows = script.rows_at(200_000);
            assert_eq!(rows.iter().filter(|row| row.kind == SignalKind::SubmitFailures).count(), signals, "{status}");
        }
    }

    #[test]
    fn an_error_after_5_s_is_not_the_submits() {
        let mut script = Script::observed();
        for ms in [0, 10_000, 20_000] {
            script.at(ms, Payload::FormSubmit(form(ms))).at(ms + 5001, Payload::FormError(form(ms)));
        }
        assert_eq!(script.rows_at(60_000), []);
    }

    #[test]
    fn a_refused_sign_in_has_a_kind_of_its_own() {
        let tags = Tags { sign_in: true, ..Tags::default() };
        let mut script = Script::new();
        script.page(-1000, "/login", PageView { tags, caps: ALL_CAPS, ..PageView::default() });
        [0, 10_000, 20_000].into_iter().for_each(|ms| answered(&mut script, ms, 401));
        let rows = script.rows_at(200_000);
        let kinds: Vec<_> = rows.iter().map(|row| (row.kind, row.points)).collect();
        assert_eq!(kinds, [(SignalKind::AuthFailures, 2)]);
    }

    fn struggle(script: &mut Script, ms: i64) {
        let mail = Form { field_fp: "mail".to_owned(), submit_id: String::new(), ..form(0) };
        script.at(ms, Payload::FormChange(mail.clone())).at(ms + 100, Payload::FormError(mail));
    }

    #[test]
    fn one_field_refused_three_times_is_a_signal() {
        let mut script = Script::observed();
        struggle(&mut script, 0);
        struggle(&mut script, 10_000);
        assert_eq!(script.rows(), []);
        struggle(&mut script, 20_000);
        let rows = script.rows();
        assert_eq!((rows.len(), rows[0].kind, rows[0].points), (1, SignalKind::FieldStruggle, 5));
        assert_eq!((rows[0].target_fp.as_str(), rows[0].cause_fp.as_str()), ("#order", "mail"));
    }

    #[test]
    fn an_error_without_a_change_is_no_struggle() {
        let mut script = Script::observed();
        struggle(&mut script, 0);
        let mail = Form { field_fp: "mail".to_owned(), submit_id: String::new(), ..form(0) };
        (1..10).for_each(|n| {
            script.at(n * 1000, Payload::FormError(mail.clone()));
        });
        assert_eq!(script.rows(), []);
    }

    #[test]
    fn one_form_gives_one_of_both() {
        let mut script = Script::observed();
        for ms in [0, 10_000, 20_000, 30_000] {
            let mail = Form { field_fp: "mail".to_owned(), ..form(ms) };
            script.at(ms, Payload::FormChange(mail.clone())).at(ms + 50, Payload::FormSubmit(form(ms)));
            script.at(ms + 100, Payload::FormError(mail));
        }
        let kinds: Vec<_> = script.rows_at(100_000).iter().map(|row| (row.kind, row.rev)).collect();
        assert_eq!(kinds, [(SignalKind::SubmitFailures, 0), (SignalKind::SubmitFailures, 1)]);
    }

    #[test]
    fn leaving_ends_the_signal_but_not_the_count_before_it() {
        let mut script = Script::observed();
        fail(&mut script, 0);
        script.page(5000, "/", PageView::default());
        fail(&mut script, 10_000);
        script.page(15_000, "/", PageView::default());
        fail(&mut script, 20_000);
        assert_eq!(script.rows().len(), 1);
        script.page(25_000, "/", PageView::default());
        fail(&mut script, 30_000);
        assert_eq!(script.rows(), [], "a new beginning");
    }
}
