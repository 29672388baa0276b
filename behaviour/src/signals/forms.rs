//! The desk of forms: what became of each submit, for the rules on forms that are abandoned and forms that refuse.
//!
//! A submit fails if within 5 s the form says that something is wrong, or the request it caused is refused (400 or above) or
//! not answered. Else it succeeded; so did what led to a page that the site marks as a success. A form error that names no
//! submit belongs to the form's last one.
//!
//! Keeps: at most `SUBMITS_MAX` submits that wait for their outcome; the oldest of more is taken to have succeeded.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::form_abandon::FormAbandon;
use super::scene::{Emit, Machine, Moment, Scene, Seen, Step};
use super::settings::Settings;
use super::submit_failures::{Failure, SubmitFailures};
use crate::event::payload::{Form, Payload, Request};

/// Submits that wait for their outcome at most.
pub const SUBMITS_MAX: usize = 16;

/// The forms of one tab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forms {
    /// Oldest first.
    submits: Vec<Submit>,
    abandon: FormAbandon,
    failures: SubmitFailures,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Submit {
    id: String,
    form: Form,
    step: Step,
}

impl Forms {
    fn submit(&mut self, seen: &Seen<'_>, form: &Form, emit: &mut Emit<'_>) {
        if self.submits.len() == SUBMITS_MAX {
            let oldest = self.submits.remove(0);
            self.succeeded(&oldest.form, emit);
        }
        self.abandon.submit(&form.form_fp);
        self.submits.push(Submit { id: form.submit_id.clone(), form: form.clone(), step: seen.step(0) });
    }

    fn error(&mut self, seen: &Seen<'_>, form: &Form, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let of_it = |submit: &Submit| {
            submit.form.form_fp == form.form_fp && (form.submit_id.is_empty() || submit.id == form.submit_id)
        };
        if let Some(at) = self.submits.iter().rposition(of_it) {
            self.failed(at, "", false, scene, emit);
        }
        self.failures.field_error(seen, form, scene, emit);
    }

    fn response(&mut self, request: &Request, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let Some(status) = request.status.filter(|_| !request.initiator.is_empty() && !request.aborted) else { return };
        if status != 0 && status < 400 {
            return;
        }
        if let Some(at) = self.submits.iter().position(|submit| submit.id == request.initiator) {
            let is_auth = matches!(status, 401 | 403) && scene.page.tags.sign_in;
            self.failed(at, &request.endpoint_fp, is_auth, scene, emit);
        }
    }

    fn failed(&mut self, at: usize, cause_fp: &str, is_auth: bool, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let submit = self.submits.remove(at);
        self.abandon.submit_failed(&submit.form.form_fp);
        emit.attempt(submit.step.at_us, submit.step.time, &submit.step.this);
        let failure = Failure { form: &submit.form, step: &submit.step, cause_fp, is_auth };
        self.failures.failed(&failure, scene, emit);
    }

    fn succeeded(&mut self, form: &Form, emit: &mut Emit<'_>) {
        emit.successes.push(form.form_fp.clone());
        self.succeeded_elsewhere(&form.form_fp, emit);
    }

    /// A submit of the form succeeded, here or in another tab.
    pub fn succeeded_elsewhere(&mut self, form_fp: &str, emit: &mut Emit<'_>) {
        self.abandon.succeeded(form_fp, emit);
        self.failures.succeeded(form_fp);
    }

    fn due_submit_us(&self, settings: &Settings) -> Option<i64> {
        let wait_us = settings.form.submit_result_ms.saturating_mul(1000);
        self.submits.first().map(|submit| submit.step.at_us.saturating_add(wait_us))
    }
}

impl Machine for Forms {
    fn kinds() -> &'static [SignalKind] {
        // Stuck: its failed submits are attempts there.
        &[
            SignalKind::FormAbandon,
            SignalKind::SubmitFailures,
            SignalKind::FieldStruggle,
            SignalKind::AuthFailures,
            SignalKind::CheckoutStuck,
        ]
    }

    fn wakes(payload: &Payload) -> bool {
        matches!(payload, Payload::FormChange(_) | Payload::FormSubmit(_) | Payload::FormError(_))
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        match &seen.event.payload {
            Payload::FormChange(form) => {
                self.abandon.change(seen, form, scene);
                self.failures.change(form);
            }
            Payload::FormSubmit(form) => self.submit(seen, form, emit),
            Payload::FormError(form) => self.error(seen, form, scene, emit),
            Payload::Request(request) => self.response(request, scene, emit),
            Payload::PageView(_) if scene.page.tags.success => {
                for submit in std::mem::take(&mut self.submits) {
                    self.succeeded(&submit.form, emit);
                }
                self.abandon.reached_success(seen, scene, emit);
            }
            _ => {}
        }
    }

    fn due_us(&self, settings: &Settings) -> Option<i64> {
        self.due_submit_us(settings).into_iter().chain(self.failures.due_us(settings)).min()
    }

    fn fire(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        while self.due_submit_us(scene.settings).is_some_and(|due| due < now_us) {
            let submit = self.submits.remove(0);
            self.succeeded(&submit.form, emit);
        }
        self.failures.fire(now_us, scene.settings);
    }

    fn leave(&mut self, moment: &Moment, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        self.abandon.leave(moment, scene, emit);
        self.failures.leave();
    }
}
