//! Any order of arrival within the lateness, any cut into ticks, any restarts with other numbers of workers: the same rows, and
//! those of the pure machines fed in order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use riverrun_behaviour::event::kind::{Class, Kind};
use riverrun_behaviour::signals::{Settings, Signal, Visit};
use riverrun_behaviour::target::StepWords;
use serde_json::{Value, json};

use super::world::{START, To, World, event_schema, events, objects, settings};
use crate::events::EventReader;

/// How late an event may arrive.
const DISORDER_MS: i64 = 5000;
const GAP_MS: i64 = 30 * 60_000;

/// An event, how much later than it happened it arrives, and what happens after the tick that it ends.
#[derive(Clone, Debug)]
struct Arrival {
    event: Value,
    delay: i64,
    ends_tick: bool,
    /// 0: nothing; 1: a checkpoint; more: and a restart with so many workers.
    after: usize,
    rebase: Vec<u16>,
}

fn event() -> impl Strategy<Value = Value> {
    let kind = prop::sample::select(vec![
        "page_view",
        "click",
        "click",
        "click",
        "click",
        "dom_reaction",
        "js_error",
        "form_change",
        "form_submit",
        "form_error",
        "network_request",
        "page_leave",
        "key",
        "search",
        "order_completed",
        "checkout_step",
        "coupon_denied",
        "swipe",
        "nonsense",
    ]);
    let when = prop_oneof![4 => 0i64..20_000, 1 => 0i64..4_000_000];
    (kind, when, 0usize..3, 0usize..2, 0usize..3, 0u64..1000).prop_map(|(kind, at, session, tab, thing, us)| {
        let things = ["#a", "#b", "#c"];
        json!({
            "at": at, "us": us, "type": kind, "tenant_id": "t1",
            "session_id": (kind != "swipe" || session > 0).then(|| format!("s{session}")),
            "tab_id": format!("w{tab}"), "page_key": (["/", "/checkout"][tab]), "user_id": format!("u{session}"),
            "user_agent": if thing == 2 && kind == "key" { "HeadlessChrome" } else { "Firefox/130.0" },
            "caps": "reactions,cursor,network,longtask,forms,scroll", "release": format!("1.{session}"),
            "nav_type": if thing == 0 { "reload" } else { "navigate" },
            "x": 100, "y": 100, "target_traits": "interactive", "target_fp": things[thing], "error_fp": things[thing],
            "form_fp": "#f", "field_fp": things[thing], "submit_id": "1", "status": ([500, 200, 404][thing]), "method": "GET",
            "route": "/api", "query": things[thing], "step": things[thing], "dx": 80, "dy": 0,
        })
    })
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let rebase = prop::collection::vec(0..super::world::SHARDS, 0..4);
    let one = (event(), 0..=DISORDER_MS, prop::bool::weighted(0.15), 0usize..5, rebase)
        .prop_map(|(event, delay, ends_tick, after, rebase)| Arrival { event, delay, ends_tick, after, rebase });
    prop::collection::vec(one, 1..90).prop_map(|mut all| {
        for (number, arrival) in all.iter_mut().enumerate() {
            arrival.event["event_id"] = json!(format!("e{number}"));
            arrival.event["position"] = json!(number);
        }
        all.sort_by_key(|arrival| arrival.event["at"].as_i64().unwrap() + arrival.delay);
        all
    })
}

/// Returns the rows of arrivals, tick by tick, with restarts if `restarts`.
fn run(arrivals: &[Arrival], restarts: bool) -> Vec<Value> {
    let mut world = World::watching(settings(Settings::default()), 1);
    let (mut rows, mut tick, mut greatest) = (Vec::new(), Vec::new(), i64::MIN);
    for arrival in arrivals {
        tick.push(arrival.event.clone());
        greatest = greatest.max(arrival.event["at"].as_i64().unwrap());
        if !arrival.ends_tick {
            continue;
        }
        rows.extend(objects(&world.step(&[events(&tick)], To::Ms(greatest - DISORDER_MS)).rows));
        tick.clear();
        if restarts && arrival.after > 0 {
            world.freeze(&arrival.rebase);
        }
        if restarts && arrival.after > 1 {
            world.restore(arrival.after - 1);
        }
    }
    rows.extend(objects(&world.step(&[events(&tick)], To::End).rows));
    assert_eq!((world.counts.late, world.kept()), (0, 0));
    rows.sort_by_key(Value::to_string);
    rows
}

/// What the pure machines say, fed in order: a session is closed when nothing was done for half an hour.
fn pure(arrivals: &[Arrival]) -> Vec<Signal> {
    let rows: Vec<Value> = arrivals.iter().map(|arrival| arrival.event.clone()).collect();
    let batch = events(&rows);
    let rows = EventReader::of(&event_schema()).unwrap();
    let rows = rows.rows(&batch).unwrap();
    let mut sessions: BTreeMap<&str, Vec<(i64, u8, String, usize)>> = BTreeMap::new();
    for row in 0..rows.len() {
        let (Some(kind), Some(session)) = (rows.kinds[row], rows.session(row)) else { continue };
        if rows.bot(row).is_none() {
            sessions.entry(session).or_default().push((rows.time_us(row), kind.rank(), rows.id(row).to_owned(), row));
        }
    }
    let (settings, mut said) = (Settings::default(), Vec::new());
    for (session, mut order) in sessions {
        order.sort();
        let mut visit: Option<(Visit, i64)> = None;
        for (_, _, _, row) in order {
            let event = rows.event(row, &StepWords::default()).unwrap();
            if let Some((mut before, active)) = visit.take_if(|(_, active)| event.time > *active + 2 * GAP_MS + 1) {
                before.close(active + GAP_MS, &settings, &mut said);
                before.advance(i64::MAX, &settings, &mut said);
            }
            let (visit, active) = visit.get_or_insert_with(|| (Visit::new("t1", session), event.time));
            if event.time > *active + GAP_MS {
                visit.advance(*active + GAP_MS + 1, &settings, &mut said);
                visit.close(*active + GAP_MS, &settings, &mut said);
            }
            visit.push(rows.tab(row), &event, &settings, &mut said);
            if rows.kinds[row].is_some_and(|kind: Kind| kind.class() == Class::Interaction)
                && rows.class(row) == Class::Interaction
            {
                *active = event.time;
            }
        }
        if let Some((mut visit, active)) = visit {
            visit.advance(active + GAP_MS + 1, &settings, &mut said);
            visit.close(active + GAP_MS, &settings, &mut said);
            visit.advance(i64::MAX, &settings, &mut said);
        }
    }
    said
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn arrival_ticks_and_restarts_change_no_row(arrivals in arrivals()) {
        let calm = run(&arrivals, false);
        prop_assert_eq!(&run(&arrivals, true), &calm);
        let mut at_once = arrivals.clone();
        at_once.iter_mut().for_each(|arrival| arrival.ends_tick = false);
        at_once.reverse();
        prop_assert_eq!(&run(&at_once, false), &calm);
    }

    /// Events that are sent twice change nothing but what is counted.
    #[test]
    fn duplicates_change_no_row(arrivals in arrivals()) {
        let calm = run(&arrivals, false);
        let twice: Vec<Arrival> = arrivals
            .iter()
            .flat_map(|arrival| [Arrival { ends_tick: false, ..arrival.clone() }, arrival.clone()])
            .collect();
        prop_assert_eq!(&run(&twice, false), &calm);
    }

    /// Sessions whose client keeps an id for longer than a session lasts are begun anew by the step, which the pure run does in
    /// its own way: they are left out here.
    #[test]
    fn signals_are_those_of_the_pure_machines(mut arrivals in arrivals()) {
        arrivals.retain(|arrival| arrival.event["at"].as_i64().unwrap() <= 20_000);
        let brief = |row: &Value| (row["signal_id"].to_string(), row["rev"].as_i64(), row["points"].as_i64(), row["end_time"].as_i64());
        let given: Vec<_> = run(&arrivals, true).iter().filter(|row| row["signal_id"].is_string()).map(brief).collect();
        let mut wanted: Vec<_> = pure(&arrivals)
            .iter()
            .map(|signal| {
                let id = format!("\"{}\"", signal.signal_id);
                (id, Some(i64::from(signal.rev)), Some(i64::from(signal.points)), Some(signal.end - START))
            })
            .collect();
        let mut given = given;
        given.sort();
        wanted.sort();
        prop_assert_eq!(given, wanted);
    }
}

/// What is left out is counted: without a session, of an unknown type, of a bot.
#[test]
fn rows_that_are_left_out_are_counted() {
    let mut rows = super::world::script(
        "0 click\n1 nonsense\n2 click session_id=null\n3 click user_agent=HeadlessChrome\n4 click is_bot=true",
    );
    rows[4]["is_bot"] = json!(true);
    let mut world = World::watching(settings(Settings::default()), 2);
    world.step(&[events(&rows)], To::Ms(10));
    assert_eq!((world.counts.input, world.counts.taken, world.counts.filtered), (5, 1, 4));
}

#[test]
fn an_event_that_is_sent_twice_is_a_duplicate() {
    let rows = super::world::script("0 click target_fp=#a\n200 click target_fp=#a\n200 click target_fp=#a\n300 key");
    let mut twice = rows.clone();
    twice[2]["event_id"] = rows[1]["event_id"].clone();
    for (rows, rages, duplicates) in [(&rows, 1, 0), (&twice, 0, 1)] {
        let mut world = World::watching(settings(Settings::default()), 1);
        let out = objects(&world.step(&[events(rows)], To::End).rows);
        assert_eq!(out.iter().filter(|row| row["kind"] == "rage_click" && row["rev"] == 0).count(), rages);
        assert_eq!((world.counts.duplicate, world.counts.taken), (duplicates, 4 - duplicates));
    }
}

#[test]
fn a_late_event_goes_to_the_late_output_and_to_no_session() {
    let rows = super::world::script("0 click\n999 click\n1000 click");
    let mut world = World::watching(settings(Settings::default()), 1);
    world.step(&[], To::Ms(1000));
    let out = world.step(&[events(&rows)], To::Ms(1001));
    assert_eq!(out.late.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    assert_eq!((world.counts.late, world.counts.taken), (2, 1));
    let waiting = super::super::FrustrationSettings {
        lateness: std::time::Duration::from_secs(1),
        ..settings(Settings::default())
    };
    let mut world = World::watching(waiting, 1);
    world.step(&[], To::Ms(1000));
    world.step(&[events(&rows)], To::Ms(1001));
    assert_eq!((world.counts.late, world.counts.taken), (0, 3));
}

#[test]
fn a_session_is_forgotten_when_it_has_nothing_more_to_say() {
    let mut world = World::watching(settings(Settings::default()), 1);
    let rows = super::world::script("0 page_view caps=reactions\n1000 click target_fp=#a");
    let quiet = super::world::script("0 key session_id=s2");
    world.step(&[events(&rows), events(&quiet)], To::Ms(2000));
    assert_eq!(world.kept(), 2);
    // The dead click of s1 could be made good by an order for half an hour more.
    let out = objects(&world.step(&[], To::Ms(1000 + GAP_MS + 2)).rows);
    assert_eq!(world.kept(), 1);
    assert_eq!(out.last().map(|row| row["kind"].clone()), Some(json!("session_end")));
    assert_eq!(out.last().map(|row| row["end_time"].clone()), Some(json!(1000)));
    world.step(&[], To::Ms(1000 + 2 * GAP_MS + 10));
    assert_eq!(world.kept(), 0);
}

#[test]
fn an_order_in_a_session_with_signals_is_a_goal() {
    let mut world = World::watching(settings(Settings::default()), 1);
    let text = "0 page_view caps=reactions\n1 order_completed\n1000 click target_fp=#a\n9000 order_completed";
    let out = objects(&world.step(&[events(&super::world::script(text))], To::End).rows);
    let kinds: Vec<_> = out.iter().map(|row| (row["kind"].as_str().unwrap(), row["told"].as_i64().unwrap())).collect();
    assert_eq!(kinds, [("dead_click", 8001), ("goal", 9000), ("session_end", 9000 + GAP_MS + 1)]);
    assert_eq!(out[1]["evidence"], json!(["e0003"]));
    assert!(out[1]["signal_id"].is_null() && out[1]["points"].is_null());
}

#[test]
fn more_sessions_than_the_bound_stop_the_job() {
    let bounds = super::super::FrustrationBounds { sessions_max: 1, waiting_max: 10 };
    let settings = super::super::FrustrationSettings { bounds, ..settings(Settings::default()) };
    let step = |text: &str| {
        let state = super::super::Frustration::new(settings.clone(), &event_schema()).unwrap();
        let mut state = state.on(riverrun_dataflow::graph::ShardRange { worker: 0, workers: 1, shards: 8 });
        let tick = riverrun_dataflow::tick::StepTick {
            tick: 1,
            now: 0,
            before: riverrun_dataflow::EventTime::MIN,
            watermark: riverrun_dataflow::EventTime::MIN,
            last: false,
        };
        let batches = vec![vec![events(&super::world::script(text))]];
        use riverrun_dataflow::operator::Operator;
        state.step(batches, &tick, &mut Default::default()).map_err(|error| error.to_string())
    };
    assert!(step("0 click").is_ok());
    assert!(step("0 click\n0 click session_id=s2").unwrap_err().contains("2 sessions, and 1 are allowed"));
    assert!(step(&"0 click\n".repeat(11)).unwrap_err().contains("11 events wait"));
}
