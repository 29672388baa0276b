//! Crashes: the page falls apart.
//!
//! Rule A: 70 % or more of the document's nodes vanish, and an error or a failed request (400 or above, or no answer) comes less
//! than 2000 ms before or after. Rule B: the view is blank for 3 s or longer, with an error since 2000 ms before it went blank.
//! Rule C, which is soft and worth less: the page's framework could not take over what the server rendered. Each page view
//! gives one signal by A or B, and one by C; where the error of C turns out to begin a crash, its signal is revised to that.
//!
//! Keeps: the last vanishing, the last error and the last failed request of the page.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::row::Draft;
use super::scene::{Emit, Machine, Moment, Note, Scene, Seen, Step};
use crate::event::payload::Payload;

/// What speaks for a crash of the page that is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppCrash {
    drop: Option<Step>,
    error: Option<Cause>,
    failure: Option<Cause>,
    is_crashed: bool,
    /// What was told by rule C.
    unhydrated: Option<Draft>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cause {
    step: Step,
    cause_fp: String,
}

impl AppCrash {
    /// Tells rule A, if a vanishing and its cause are near each other.
    fn check_drop(&mut self, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let Some(drop) = self.drop.clone().filter(|_| !self.is_crashed) else { return };
        let window = scene.settings.crash.window;
        let is_near = |cause: &&Cause| window.holds(drop.at_us.saturating_sub(cause.step.at_us).saturating_abs());
        let cause = self.error.iter().find(is_near).or_else(|| self.failure.iter().find(is_near));
        if let Some(cause) = cause.cloned() {
            self.crash(&drop, &cause, scene, emit);
        }
    }

    fn crash(&mut self, what: &Step, cause: &Cause, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let (first, second) = if what.at_us <= cause.step.at_us { (what, &cause.step) } else { (&cause.step, what) };
        let begun = self.unhydrated.as_ref().filter(|soft| *soft.anchor() == first.this).cloned();
        if begun.is_some() {
            emit.notes.push(Note::Hard);
        }
        let new = || Draft::new(SignalKind::AppCrash, &scene.page.key, &first.this, first.time);
        let mut draft = begun.unwrap_or_else(new);
        draft.add(&second.this, second.time);
        draft.cause_fp.clone_from(&cause.cause_fp);
        (draft.points, draft.hard) = (scene.settings.crash.points, true);
        self.is_crashed = true;
        emit.tell(&mut draft);
    }

    fn blank(&mut self, seen: &Seen<'_>, blank_ms: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.crash;
        let since_us = seen.at_us.saturating_sub(blank_ms.saturating_mul(1000));
        let from_us = since_us.saturating_sub(settings.window.us);
        let cause = self.error.clone().filter(|error| error.step.at_us >= from_us);
        if let Some(cause) = cause.filter(|_| blank_ms >= settings.blank_ms && !self.is_crashed) {
            self.crash(&seen.step(0), &cause, scene, emit);
        }
    }

    fn unhydrated(&mut self, seen: &Seen<'_>, error_fp: &str, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        if self.unhydrated.is_none() {
            let mut draft = Draft::new(SignalKind::AppCrash, &scene.page.key, seen.this(), seen.time());
            draft.cause_fp = error_fp.to_owned();
            (draft.points, draft.hard) = (scene.settings.crash.hydration_points, false);
            emit.tell(&mut draft);
            self.unhydrated = Some(draft);
        }
    }
}

impl Machine for AppCrash {
    fn kinds() -> &'static [SignalKind] {
        &[SignalKind::AppCrash]
    }

    fn wakes(payload: &Payload) -> bool {
        matches!(payload, Payload::DomDrop { .. } | Payload::Error(_) | Payload::Request(_) | Payload::Blank { .. })
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        match &seen.event.payload {
            Payload::DomDrop { removed_pct } if *removed_pct >= scene.settings.crash.removed_pct => {
                self.drop = Some(seen.step(0));
            }
            Payload::Error(error) if !error.noise => {
                if error.hydration {
                    self.unhydrated(seen, &error.error_fp, scene, emit);
                }
                self.error = Some(Cause { step: seen.step(0), cause_fp: error.error_fp.clone() });
            }
            Payload::Request(request) if !(request.aborted || request.denied_host || request.incidental) => {
                match request.status {
                    Some(status) if status == 0 || status >= 400 => {
                        let cause_fp = request.endpoint_fp.clone();
                        self.failure = Some(Cause { step: seen.step(0), cause_fp });
                    }
                    _ => return,
                }
            }
            Payload::Blank { blank_ms } => {
                self.blank(seen, *blank_ms, scene, emit);
                return;
            }
            _ => return,
        }
        self.check_drop(scene, emit);
    }

    fn leave(&mut self, _moment: &Moment, _scene: &Scene<'_>, _emit: &mut Emit<'_>) {
        *self = AppCrash::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Script, ids};
    use super::*;
    use crate::event::payload::{Error, PageView, Request};
    use crate::signals::Signal;

    fn error(error_fp: &str) -> Payload {
        Payload::Error(Box::new(Error { error_fp: error_fp.to_owned(), ..Error::default() }))
    }

    fn play(events: &[(i64, Payload)]) -> Vec<Signal> {
        let mut script = Script::observed();
        events.iter().for_each(|(ms, payload)| {
            script.at(*ms, payload.clone());
        });
        script.rows_at(60_000)
    }

    const GONE: Payload = Payload::DomDrop { removed_pct: 85 };

    /// G-A1.
    #[test]
    fn g_a1_a_document_that_vanishes_near_an_error_is_a_crash() {
        let rows = play(&[(0, GONE), (1999, error("x"))]);
        assert_eq!((rows.len(), rows[0].kind, rows[0].points, rows[0].hard), (1, SignalKind::AppCrash, 8, true));
        assert_eq!((rows[0].cause_fp.as_str(), ids(&rows[0])), ("x", vec!["e1", "e2"]));
        assert_eq!(play(&[(0, GONE), (2000, error("x"))]), []);
        assert_eq!(play(&[(0, error("x")), (1999, GONE)]).len(), 1, "the error may come first");
        assert_eq!(play(&[(0, error("x")), (2000, GONE)]), []);
    }

    /// G-A2.
    #[test]
    fn g_a2_a_change_of_route_without_an_error_is_none() {
        let mut script = Script::observed();
        script.at(0, GONE).page(10, "/other", PageView::default());
        assert_eq!(script.rows_at(60_000), []);
    }

    #[test]
    fn less_than_70_percent_and_noise_are_none() {
        assert_eq!(play(&[(0, Payload::DomDrop { removed_pct: 69 }), (10, error("x"))]), []);
        assert_eq!(play(&[(0, Payload::DomDrop { removed_pct: 70 }), (10, error("x"))]).len(), 1);
        let noise = Payload::Error(Box::new(Error { noise: true, ..Error::default() }));
        assert_eq!(play(&[(0, GONE), (10, noise)]), []);
    }

    #[test]
    fn a_failed_request_is_a_cause_and_an_answered_one_is_none() {
        for (status, signals) in [(Some(500), 1), (Some(0), 1), (Some(200), 0), (None, 0)] {
            let request = Request { status, endpoint_fp: "GET /app".to_owned(), ..Request::default() };
            assert_eq!(play(&[(0, GONE), (10, Payload::Request(Box::new(request)))]).len(), signals, "{status:?}");
        }
    }

    #[test]
    fn one_page_view_crashes_once() {
        assert_eq!(play(&[(0, GONE), (10, error("x")), (100, GONE), (110, error("y"))]).len(), 1);
    }

    #[test]
    fn a_blank_view_with_an_error_is_a_crash() {
        let blank = |blank_ms| Payload::Blank { blank_ms };
        assert_eq!(play(&[(0, error("x")), (3000, blank(3000))]).len(), 1);
        assert_eq!(play(&[(0, error("x")), (3000, blank(2999))]), []);
        assert_eq!(play(&[(0, error("x")), (5000, blank(3000))]), [], "the error came long before");
        assert_eq!(play(&[(3000, blank(3000))]), [], "without an error");
        assert_eq!(play(&[(0, error("x")), (0, blank(i64::MAX))]).len(), 1);
    }

    #[test]
    fn a_page_that_is_not_taken_over_is_soft() {
        let unhydrated = |error_fp: &str| {
            Payload::Error(Box::new(Error { error_fp: error_fp.to_owned(), hydration: true, ..Error::default() }))
        };
        let rows = play(&[(0, unhydrated("h")), (10, unhydrated("i"))]);
        assert_eq!((rows.len(), rows[0].kind, rows[0].points, rows[0].hard), (1, SignalKind::AppCrash, 2, false));
    }

    #[test]
    fn a_soft_signal_whose_error_begins_a_crash_is_revised() {
        let unhydrated = Payload::Error(Box::new(Error { hydration: true, ..Error::default() }));
        let rows = play(&[(0, unhydrated), (100, GONE)]);
        let told: Vec<_> = rows.iter().map(|row| (row.rev, row.points, row.hard)).collect();
        assert_eq!(told, [(0, 2, false), (1, 8, true)]);
        assert_eq!(rows[0].signal_id, rows[1].signal_id);
    }
}
