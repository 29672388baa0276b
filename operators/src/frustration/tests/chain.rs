//! The three steps one after the other, as a job has them.

use arrow::array::RecordBatch;
use proptest::prelude::*;
use riverrun_behaviour::signals::Settings;
use serde_json::{Value, json};

use super::world::{To, World, event_schema, events, hashed, objects, script, settings};
use crate::frustration::Frustration;
use crate::incidents::{Incidents, IncidentsBounds, IncidentsSettings};
use crate::problems::{self, Gate, Problems, ProblemsBounds, ProblemsSettings};
use crate::watch::Watch;

/// A tick: its events, and how far time comes.
pub(super) struct Tick {
    events: Vec<RecordBatch>,
    to: To,
}

impl Tick {
    pub(super) fn of(rows: &[Value], to: To) -> Tick {
        Tick { events: vec![events(rows)], to }
    }
}

/// What came out of a tick.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Out {
    pub(super) signals: Vec<Value>,
    pub(super) incidents: Vec<Value>,
    pub(super) problems: Vec<Value>,
}

pub(super) struct Chain {
    frustration: World<Watch<Frustration>>,
    incidents: World<Watch<Incidents>>,
    problems: World<Watch<Problems>>,
}

impl Chain {
    pub(super) fn new(workers: usize) -> Chain {
        let of = |schema: &arrow::datatypes::Schema, names: &[String]| -> Vec<usize> {
            names.iter().map(|name| schema.index_of(name).unwrap()).collect()
        };
        let watching = Frustration::new(settings(Settings::default()), &event_schema()).unwrap();
        let by = of(watching.schema(), &crate::frustration::signal_keys_in(watching.schema()));
        let hour = std::time::Duration::from_secs(3600);
        let case = crate::incidents::Settings::default();
        let bounds = IncidentsBounds::default();
        let settings = IncidentsSettings { by, case, keep: hour, forget_after: 24 * hour, bounds };
        let incidents = Incidents::new(settings, watching.schema()).unwrap();
        let by = of(incidents.schema(), &problems::keys_in(incidents.schema()));
        let settings = ProblemsSettings { by, gate: Gate::default(), bounds: ProblemsBounds::default() };
        let problems = Problems::new(settings, incidents.schema()).unwrap();
        Chain {
            frustration: World::new(workers, move |shards| Watch::new(watching.clone(), shards)),
            incidents: World::new(workers, move |shards| Watch::new(incidents.clone(), shards)),
            problems: World::new(workers, move |shards| Watch::new(problems.clone(), shards)),
        }
    }

    pub(super) fn step(&mut self, tick: &Tick) -> Out {
        let signals = self.frustration.step(&tick.events, tick.to).rows;
        let incidents = self.incidents.step(&signals, tick.to).rows;
        let keyed: Vec<RecordBatch> =
            incidents.iter().map(|batch| hashed(batch, &problems::keys_in(&batch.schema()))).collect();
        let problems = self.problems.step(&keyed, tick.to).rows;
        assert_eq!(
            (self.incidents.counts.late, self.problems.counts.late),
            (0, 0),
            "what a step gives is late for none"
        );
        assert_eq!((self.incidents.counts.filtered, self.problems.counts.filtered), (0, 0));
        Out { signals: objects(&signals), incidents: objects(&incidents), problems: objects(&problems) }
    }

    fn restart(&mut self, workers: usize, rebase: &[u16]) {
        self.frustration.freeze(rebase);
        self.incidents.freeze(rebase);
        self.problems.freeze(rebase);
        self.frustration.restore(workers);
        self.incidents.restore(workers);
        self.problems.restore(workers);
    }
}

/// Sessions in which people do not get on, in one order of time.
fn troubles() -> impl Strategy<Value = Vec<Value>> {
    let trouble = prop::sample::select(vec!["rage", "dead", "error", "order", "reloads", "stuck", "robot"]);
    let one = (trouble, 0usize..4, 0i64..90, 0usize..3);
    prop::collection::vec(one, 1..25).prop_map(|troubles| {
        let mut text = String::new();
        for session in 0..4 {
            text.push_str(&format!(
                "0 page_view caps=reactions,forms,network session_id=s{session} user_id=u{session}\n"
            ));
        }
        for (trouble, session, minute, target) in troubles {
            let at = minute * 60_000 + 1000 + session as i64;
            let who = format!("session_id=s{session} user_id=u{} release=1.{target}", session % 3);
            let line = |ms: i64, what: &str| format!("{} {what} {who}\n", at + ms);
            match trouble {
                "rage" => (0..3).for_each(|n| text.push_str(&line(n * 150, &format!("click target_fp=#t{target}")))),
                "dead" => text.push_str(&line(0, &format!("click target_fp=#t{target}"))),
                "error" => {
                    text.push_str(&line(0, "click target_fp=#e"));
                    text.push_str(&line(10, "dom_reaction"));
                    text.push_str(&line(90, &format!("js_error error_fp=x{target}")));
                }
                "robot" => (0..21).for_each(|n| text.push_str(&line(n * 100, &format!("click target_fp=#r{n}")))),
                "reloads" => (0..4)
                    .for_each(|n| text.push_str(&line(n * 5000 + n * n, "page_view nav_type=reload caps=reactions"))),
                "stuck" => {
                    text.push_str(&line(0, "checkout_step step=pay page_key=/checkout"));
                    (1..15).for_each(|n| text.push_str(&line(n * 10_000, "key page_key=/checkout")));
                    (0..3).for_each(|n| text.push_str(&line(141_000 + n, "coupon_denied page_key=/checkout")));
                    text.push_str(&line(150_000, "key page_key=/checkout"));
                }
                _ => text.push_str(&line(0, "order_completed")),
            }
        }
        let mut rows = script(&text);
        rows.sort_by_key(|row| row["at"].as_i64());
        rows
    })
}

fn merged(outs: Vec<Out>) -> Out {
    let mut all = Out::default();
    for mut out in outs {
        all.signals.append(&mut out.signals);
        all.incidents.append(&mut out.incidents);
        all.problems.append(&mut out.problems);
    }
    for rows in [&mut all.signals, &mut all.incidents, &mut all.problems] {
        rows.sort_by_key(Value::to_string);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// One tick or many, with restarts after every one of them and another number of workers each time: the same rows.
    #[test]
    fn ticks_and_restarts_change_no_row(
        rows in troubles(),
        cut in 1usize..12,
        workers in prop::collection::vec(1usize..4, 60),
        rebase in prop::collection::vec(0..super::world::SHARDS, 0..5),
    ) {
        let calm = merged(vec![Chain::new(1).step(&Tick::of(&rows, To::End))]);
        let mut chain = Chain::new(2);
        let mut outs = Vec::new();
        let greatest = |part: &[Value]| part.iter().filter_map(|row| row["at"].as_i64()).max().unwrap();
        let parts: Vec<&[Value]> = rows.chunks(rows.len().div_ceil(cut)).collect();
        let end = greatest(&rows);
        for (number, part) in parts.iter().enumerate() {
            let tick = if number + 1 == parts.len() { To::Ms(end) } else { To::Ms(greatest(part)) };
            outs.push(chain.step(&Tick::of(part, tick)));
            chain.restart(workers[number], &rebase);
        }
        outs.push(chain.step(&Tick::of(&[], To::End)));
        let mut given = merged(outs);
        // At the end of time a problem is looked at for the last time when the job's clock says: the hops before are the same.
        let mut calm = calm;
        for rows in [&mut given.problems, &mut calm.problems] {
            rows.retain(|row| row["window_end"].as_i64().is_some_and(|hop| hop <= end));
        }
        prop_assert_eq!(given, calm);
    }

    /// Every signal rests on an event, and belongs to at most one incident.
    #[test]
    fn signals_have_evidence_and_belong_to_one_incident(rows in troubles()) {
        let out = Chain::new(2).step(&Tick::of(&rows, To::End));
        for row in out.signals.iter().filter(|row| row["signal_id"].is_string()) {
            let evidence = row["evidence"].as_array().unwrap();
            prop_assert!(!evidence.is_empty() && evidence.len() == row["evidence_at"].as_array().unwrap().len());
        }
        let mut owner: std::collections::BTreeMap<String, Value> = Default::default();
        for incident in &out.incidents {
            for signal in incident["signals"].as_array().unwrap() {
                let known = owner.entry(signal.to_string()).or_insert_with(|| incident["incident_id"].clone());
                prop_assert_eq!(&*known, &incident["incident_id"]);
            }
        }
        let ids: std::collections::BTreeSet<String> = out.incidents.iter().filter_map(|row| row["incident_id"].as_str()).map(str::to_owned).collect();
        for id in ids {
            let last = out.incidents.iter().filter(|row| row["incident_id"] == id).max_by_key(|row| row["rev"].as_i64());
            prop_assert_eq!(last.map(|row| row["state"].clone()), Some(json!("closed")), "it closes with its session");
        }
    }
}
