//! Search struggles: query after query, and no result that is looked at.
//!
//! Three different queries within 120 s (closed), without a click on a result, something put into the cart or a product's page
//! between, are one signal. It is told with the third, and once more after 120 s without a query if there were more. Queries are
//! known by the hash of their normalised text alone.
//!
//! Keeps: the last queries, at most 16 and each once, with its last time.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::row::Draft;
use super::scene::{Emit, Machine, RUN_MAX, Run, Scene, Seen, name_mark};
use super::settings::Settings;
use crate::event::payload::Payload;

/// The searches of one tab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchStruggle {
    queries: Run,
    growing: Option<Growing>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Growing {
    draft: Draft,
    last_us: i64,
    is_stale: bool,
}

impl SearchStruggle {
    fn search(&mut self, seen: &Seen<'_>, query_hash: &str, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.search;
        let name = name_mark(query_hash) as i64;
        let is_new = self.queries.steps().iter().all(|query| query.value != name);
        self.queries.forget(name);
        self.queries.push(RUN_MAX, seen.step(name));
        let count = usize::from(settings.queries.clamp(2, 8));
        if let Some(growing) = &mut self.growing {
            growing.last_us = seen.at_us;
            if is_new {
                growing.draft.grow(seen.this(), seen.time());
                growing.is_stale = true;
            }
            return;
        }
        let is_inside = self.queries.span_us(count).is_some_and(|span| settings.window.holds(span));
        let draft = self.queries.draft(SignalKind::SearchStruggle, &scene.page.key, count).filter(|_| is_inside);
        if let Some(mut draft) = draft {
            draft.points = settings.points;
            emit.tell(&mut draft);
            self.growing = Some(Growing { draft, last_us: seen.at_us, is_stale: false });
        }
    }

    fn end(&mut self, emit: &mut Emit<'_>) {
        self.queries.clear();
        if let Some(mut growing) = self.growing.take().filter(|growing| growing.is_stale) {
            emit.tell(&mut growing.draft);
        }
    }
}

impl Machine for SearchStruggle {
    fn kinds() -> &'static [SignalKind] {
        &[SignalKind::SearchStruggle]
    }

    fn wakes(payload: &Payload) -> bool {
        matches!(payload, Payload::Search { .. })
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        match &seen.event.payload {
            Payload::Search { query_hash } => self.search(seen, query_hash, scene, emit),
            Payload::ResultClick | Payload::CartAdd | Payload::ProductView => self.end(emit),
            _ => {}
        }
    }

    fn due_us(&self, settings: &Settings) -> Option<i64> {
        self.growing.as_ref().map(|growing| growing.last_us.saturating_add(settings.search.window.us))
    }

    fn fire(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        if self.due_us(scene.settings).is_some_and(|due| due < now_us) {
            self.end(emit);
        }
    }

    fn close(&mut self, _scene: &Scene<'_>, emit: &mut Emit<'_>) {
        self.end(emit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Script, ids};
    use super::*;
    use crate::privacy;

    fn search(script: &mut Script, seconds: i64, query: &str) {
        let query_hash = privacy::query_hash(query).to_string();
        script.at(seconds * 1000, Payload::Search { query_hash });
    }

    fn played(queries: &[(i64, &str)]) -> Script {
        let mut script = Script::observed();
        queries.iter().for_each(|&(seconds, query)| search(&mut script, seconds, query));
        script
    }

    /// G-H1.
    #[test]
    fn g_h1_three_queries_in_90_s_are_one() {
        let mut script = played(&[(0, "a"), (40, "b")]);
        assert_eq!(script.rows(), []);
        search(&mut script, 90, "c");
        let rows = script.rows();
        assert_eq!((rows.len(), rows[0].kind, rows[0].points), (1, SignalKind::SearchStruggle, 2));
        assert_eq!((rows[0].start, rows[0].end, ids(&rows[0])), (0, 90_000, vec!["e1", "e2", "e3"]));
        assert_eq!(script.rows_at(1_000_000), []);
    }

    /// G-H2.
    #[test]
    fn g_h2_one_query_asked_three_times_is_none() {
        assert_eq!(played(&[(0, "a"), (40, "A "), (90, "a")]).rows_at(1_000_000), []);
    }

    /// G-H3.
    #[test]
    fn g_h3_a_result_that_is_clicked_is_a_new_beginning() {
        for found in [Payload::ResultClick, Payload::CartAdd, Payload::ProductView] {
            let mut script = played(&[(0, "a"), (40, "b")]);
            script.at(50_000, found);
            search(&mut script, 90, "c");
            assert_eq!(script.rows_at(1_000_000), []);
        }
    }

    #[test]
    fn the_window_is_120_s() {
        assert_eq!(played(&[(0, "a"), (40, "b"), (120, "c")]).rows().len(), 1);
        assert_eq!(played(&[(0, "a"), (40, "b"), (121, "c")]).rows(), []);
        assert_eq!(played(&[(0, "a"), (40, "b"), (100, "a"), (121, "c")]).rows().len(), 1, "a was asked again");
    }

    #[test]
    fn more_queries_are_told_at_the_end() {
        let mut script = played(&[(0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "d")]);
        assert_eq!(script.rows().len(), 1);
        let rows = script.rows_at(124_001);
        assert_eq!((rows.len(), rows[0].rev, rows[0].count), (1, 1, 4));
    }
}
