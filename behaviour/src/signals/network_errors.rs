//! Network errors: requests fail again and again.
//!
//! A failure is a status of 500 or above, no answer (0), 429, or another 4xx. Of 401, 403, 404, 409 and 422 only three of one
//! endpoint say something; others also count towards the failures of any endpoint. Three failures of one endpoint within 30 s,
//! or five of any within 60 s, are one signal, which grows until 60 s pass without a failure, or the endpoint succeeds.
//!
//! No failures: what the page gave up, what was unanswered within 500 ms before the page was left, preflights, icons and images,
//! hosts that do not matter, a 401 that a success follows within 5 s (a token was renewed), and refusals (401, 403) on a sign-in
//! page, which are the form's (see `submit_failures`). Of what polls, one failure per
//! endpoint and 5 s counts, unless a click came in the 5 s before it.
//!
//! Every failure of an endpoint that is telling goes to its signal, and to no other. Keeps: at most `ENDPOINTS_MAX` endpoints,
//! the one that failed longest ago goes first; at most `HELD_MAX` failures that wait to be confirmed, a further one counts at
//! once.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::row::Draft;
use super::scene::{Emit, Machine, Moment, Run, Scene, Seen, Step, name_mark};
use super::settings::{Network, Settings};
use crate::event::payload::{Payload, Request};

/// Endpoints that are kept at most.
pub const ENDPOINTS_MAX: usize = 32;
/// Failures that wait to be confirmed at most.
pub const HELD_MAX: usize = 16;

/// The requests of one tab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkErrors {
    endpoints: Vec<Endpoint>,
    /// Failures that may yet turn out to be none, by when that is decided.
    held: Vec<Held>,
    any: Run,
    any_draft: Option<Growing>,
    click_us: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Endpoint {
    name: u64,
    failures: Run,
    last_us: i64,
    draft: Option<Growing>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Growing {
    draft: Draft,
    last_us: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    until_us: i64,
    failure: Failure,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    endpoint_fp: String,
    status: u16,
    step: Step,
    /// Whether a click came shortly before.
    is_clicked: bool,
}

impl Failure {
    fn cause_fp(&self) -> String {
        let class = if self.status == 0 { "none".to_owned() } else { format!("{}xx", self.status / 100) };
        format!("{} {class}", self.endpoint_fp)
    }

    /// Whether one of it says something even if it is not repeated.
    fn is_plain(&self) -> bool {
        !matches!(self.status, 401 | 403 | 404 | 409 | 422)
    }
}

impl NetworkErrors {
    fn answered(&mut self, seen: &Seen<'_>, request: &Request, status: u16, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.network;
        if (1..400).contains(&status) {
            self.succeeded(&request.endpoint_fp);
            return;
        }
        if matches!(status, 401 | 403) && scene.page.tags.sign_in {
            return;
        }
        let poll_us = settings.poll_floor_ms.saturating_mul(1000);
        let failure = Failure {
            endpoint_fp: request.endpoint_fp.clone(),
            status,
            step: seen.step(0),
            is_clicked: self.click_us.is_some_and(|click| seen.at_us.saturating_sub(click) <= poll_us),
        };
        let wait_ms = match status {
            0 => settings.leaving_ms,
            401 => settings.token_ms,
            _ => 0,
        };
        if wait_ms == 0 || self.held.len() == HELD_MAX {
            self.failed(&failure, scene, emit);
            return;
        }
        let until_us = seen.at_us.saturating_add(wait_ms.saturating_mul(1000));
        let place = self.held.partition_point(|held| held.until_us <= until_us);
        self.held.insert(place, Held { until_us, failure });
    }

    fn succeeded(&mut self, endpoint_fp: &str) {
        let name = name_mark(endpoint_fp);
        self.held.retain(|held| held.failure.status != 401 || held.failure.endpoint_fp != endpoint_fp);
        self.endpoints.retain(|endpoint| endpoint.name != name);
    }

    fn endpoint(&mut self, endpoint_fp: &str) -> &mut Endpoint {
        let name = name_mark(endpoint_fp);
        if let Some(at) = self.endpoints.iter().position(|endpoint| endpoint.name == name) {
            return &mut self.endpoints[at];
        }
        if self.endpoints.len() == ENDPOINTS_MAX {
            let oldest = (0..self.endpoints.len()).min_by_key(|&at| self.endpoints[at].last_us).unwrap_or(0);
            self.endpoints.remove(oldest);
        }
        let at = self.endpoints.len();
        self.endpoints.push(Endpoint { name, failures: Run::default(), last_us: i64::MIN, draft: None });
        &mut self.endpoints[at]
    }

    fn failed(&mut self, failure: &Failure, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.network;
        let (count, at_us) = (usize::from(settings.same_endpoint.clamp(2, 8)), failure.step.at_us);
        let endpoint = self.endpoint(&failure.endpoint_fp);
        let since_us = at_us.saturating_sub(endpoint.last_us);
        if !failure.is_clicked && since_us < settings.poll_floor_ms.saturating_mul(1000) {
            return;
        }
        endpoint.last_us = endpoint.last_us.max(at_us);
        if let Some(growing) = &mut endpoint.draft {
            growing.grow(failure, emit);
            return;
        }
        endpoint.failures.push(count, failure.step.clone());
        let is_inside = endpoint.failures.span_us(count).is_some_and(|span| settings.same_window.holds(span));
        if is_inside {
            endpoint.draft = Growing::begin(&endpoint.failures, count, failure, scene, emit);
            endpoint.failures.clear();
            let name = name_mark(&failure.endpoint_fp) as i64;
            self.any.forget(name);
        } else if failure.is_plain() {
            self.failed_any(failure, scene, emit);
        }
    }

    fn failed_any(&mut self, failure: &Failure, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.network;
        if let Some(growing) = &mut self.any_draft {
            growing.grow(failure, emit);
            return;
        }
        let count = usize::from(settings.any.clamp(2, 8));
        // The name of the endpoint, so that its failures can be told apart.
        let value = name_mark(&failure.endpoint_fp) as i64;
        self.any.push(count, Step { value, ..failure.step.clone() });
        if self.any.span_us(count).is_some_and(|span| settings.any_window.holds(span)) {
            self.any_draft = Growing::begin(&self.any, count, failure, scene, emit);
            self.any.clear();
            // What was told is told once: three of one endpoint are counted anew.
            self.endpoints.iter_mut().for_each(|endpoint| endpoint.failures.clear());
        }
    }
}

impl Growing {
    fn begin(run: &Run, count: usize, last: &Failure, scene: &Scene<'_>, emit: &mut Emit<'_>) -> Option<Growing> {
        let mut draft = run.draft(SignalKind::NetworkErrors, &scene.page.key, count)?;
        draft.cause_fp = last.cause_fp();
        draft.points = scene.settings.network.points;
        emit.tell(&mut draft);
        Some(Growing { draft, last_us: last.step.at_us })
    }

    fn grow(&mut self, failure: &Failure, emit: &mut Emit<'_>) {
        self.last_us = self.last_us.max(failure.step.at_us);
        self.draft.grow(&failure.step.this, failure.step.time);
        emit.tell(&mut self.draft);
    }

    fn due_us(&self, settings: &Network) -> i64 {
        self.last_us.saturating_add(settings.quiet_ms.saturating_mul(1000))
    }
}

impl Machine for NetworkErrors {
    fn kinds() -> &'static [SignalKind] {
        &[SignalKind::NetworkErrors]
    }

    fn wakes(payload: &Payload) -> bool {
        matches!(payload, Payload::Click(_) | Payload::Request(_))
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        match &seen.event.payload {
            Payload::Click(_) => self.click_us = Some(seen.at_us),
            Payload::Request(request) if !(request.aborted || request.denied_host || request.incidental) => {
                if let Some(status) = request.status {
                    self.answered(seen, request, status, scene, emit);
                }
            }
            _ => {}
        }
    }

    fn due_us(&self, settings: &Settings) -> Option<i64> {
        let growing = self.endpoints.iter().filter_map(|endpoint| endpoint.draft.as_ref()).chain(&self.any_draft);
        let growing = growing.map(|growing| growing.due_us(&settings.network));
        growing.chain(self.held.first().map(|held| held.until_us)).min()
    }

    fn fire(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.network;
        while self.held.first().is_some_and(|held| held.until_us < now_us) {
            let held = self.held.remove(0);
            self.failed(&held.failure, scene, emit);
        }
        let is_over = |growing: &Growing| growing.due_us(settings) < now_us;
        self.endpoints.retain(|endpoint| !endpoint.draft.as_ref().is_some_and(is_over));
        self.any_draft.take_if(|growing| is_over(growing));
    }

    fn leave(&mut self, _moment: &Moment, _scene: &Scene<'_>, _emit: &mut Emit<'_>) {
        // What is held and unanswered was unanswered within 500 ms before.
        self.held.retain(|held| held.failure.status != 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Script, ids};
    use super::*;

    fn answer(script: &mut Script, ms: i64, endpoint_fp: &str, status: u16) {
        let request = Request { endpoint_fp: endpoint_fp.to_owned(), status: Some(status), ..Request::default() };
        script.at(ms, Payload::Request(Box::new(request)));
    }

    fn rows(answers: &[(i64, &str, u16)]) -> Vec<crate::signals::Signal> {
        let mut script = Script::observed();
        answers.iter().for_each(|&(ms, endpoint_fp, status)| answer(&mut script, ms, endpoint_fp, status));
        script.rows_at(answers.last().map_or(0, |last| last.0) + 5001)
    }

    const CART: &str = "POST /cart/:id";

    /// G-N1.
    #[test]
    fn g_n1_three_failures_of_one_endpoint_are_one() {
        let rows = rows(&[(0, CART, 500), (6000, CART, 500), (12_000, CART, 500)]);
        assert_eq!((rows.len(), rows[0].kind, rows[0].points), (1, SignalKind::NetworkErrors, 4));
        assert_eq!((rows[0].start, rows[0].end, rows[0].count), (0, 12_000, 3));
        assert_eq!((rows[0].cause_fp.as_str(), ids(&rows[0])), ("POST /cart/:id 5xx", vec!["e1", "e2", "e3"]));
    }

    /// G-N2.
    #[test]
    fn g_n2_three_missing_images_are_none() {
        let missing = [(0, "GET /a.png", 404), (6000, "GET /b.png", 404), (12_000, "GET /c.png", 404)];
        assert_eq!(rows(&missing), []);
    }

    /// G-N3.
    #[test]
    fn g_n3_a_poll_counts_once_in_5_s_unless_it_is_clicked() {
        assert_eq!(rows(&[(0, CART, 500), (1000, CART, 500), (2000, CART, 500)]), []);
        let mut script = Script::observed();
        for ms in [0, 1000, 2000] {
            script.click(ms, "#add");
            answer(&mut script, ms + 100, CART, 500);
        }
        let rows = script.rows();
        assert_eq!(rows.iter().filter(|row| row.kind == SignalKind::NetworkErrors).count(), 1);
    }

    #[test]
    fn more_failures_revise_the_signal_until_it_is_quiet() {
        let mut script = Script::observed();
        [0, 6000, 12_000, 70_000].into_iter().for_each(|ms| answer(&mut script, ms, CART, 500));
        let revs: Vec<_> = script.rows().iter().map(|row| (row.rev, row.count)).collect();
        assert_eq!(revs, [(0, 3), (1, 4)]);
        answer(&mut script, 130_001, CART, 500);
        assert_eq!(script.rows(), [], "after 60,001 ms it is a new beginning");
    }

    #[test]
    fn a_success_is_a_new_beginning() {
        assert_eq!(rows(&[(0, CART, 500), (6000, CART, 500), (7000, CART, 200), (12_000, CART, 500)]), []);
    }

    #[test]
    fn the_window_is_30_s() {
        assert_eq!(rows(&[(0, CART, 500), (15_000, CART, 500), (30_000, CART, 500)]).len(), 1);
        assert_eq!(rows(&[(0, CART, 500), (15_000, CART, 500), (30_001, CART, 500)]), []);
    }

    #[test]
    fn five_of_any_endpoint_within_60_s_are_one() {
        let of =
            |status| [(0, "a"), (1000, "b"), (2000, "c"), (3000, "d"), (4000, "e")].map(|(ms, fp)| (ms, fp, status));
        assert_eq!(rows(&of(500)).len(), 1);
        assert_eq!(rows(&of(429)).len(), 1);
        assert_eq!(rows(&of(404)), [], "missing things count only if one is missed again");
        assert_eq!(rows(&of(200)), []);
        assert_eq!(rows(&of(500)[..4]), []);
    }

    #[test]
    fn what_one_signal_rests_on_begins_no_other() {
        let five = [(0, "a"), (100, "b"), (200, "c"), (300, "d"), (400, "e")].map(|(ms, fp)| (ms, fp, 500));
        let more = [(5400, "a", 404), (10_800, "a", 404)];
        let rows = rows(&[&five[..], &more[..]].concat());
        assert_eq!(rows.iter().map(|row| (row.rev, row.count)).collect::<Vec<_>>(), [(0, 5)]);
    }

    #[test]
    fn one_missing_thing_asked_for_three_times_is_one() {
        assert_eq!(rows(&[(0, "a", 404), (6000, "a", 404), (12_000, "a", 404)]).len(), 1);
    }

    #[test]
    fn a_renewed_token_is_none() {
        let mut script = Script::observed();
        for ms in [0, 6000, 12_000] {
            answer(&mut script, ms, "a", 401);
            answer(&mut script, ms + 5000, "a", 200);
        }
        assert_eq!(script.rows_at(60_000), []);
        assert_eq!(rows(&[(0, "a", 401), (6000, "a", 401), (12_000, "a", 401)]).len(), 1);
    }

    #[test]
    fn what_leaving_gave_up_is_none() {
        for (leave, signals) in [(12_500, 0), (12_501, 1)] {
            let mut script = Script::observed();
            [0, 6000, 12_000].into_iter().for_each(|ms| answer(&mut script, ms, "a", 0));
            assert_eq!(script.leave(leave).rows_at(60_000).len(), signals, "{leave}");
        }
    }

    #[test]
    fn what_does_not_matter_is_none() {
        let failing = Request { endpoint_fp: "a".to_owned(), status: Some(500), ..Request::default() };
        for request in [
            Request { aborted: true, ..failing.clone() },
            Request { denied_host: true, ..failing.clone() },
            Request { incidental: true, ..failing },
        ] {
            let mut script = Script::observed();
            for ms in [0, 6000, 12_000] {
                script.at(ms, Payload::Request(Box::new(request.clone())));
            }
            assert_eq!(script.rows_at(60_000), []);
        }
    }

    #[test]
    fn endpoints_are_bounded() {
        let mut script = Script::observed();
        for n in 0..200 {
            answer(&mut script, n, &format!("GET /{n}"), 404);
        }
        let mut machine = NetworkErrors::default();
        (0..200).for_each(|n| {
            machine.endpoint(&n.to_string());
        });
        assert_eq!(machine.endpoints.len(), ENDPOINTS_MAX);
    }
}
