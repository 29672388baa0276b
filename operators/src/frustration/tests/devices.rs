//! Sessions that are those of a device.

use std::time::Duration;

use riverrun_behaviour::session::session_id;
use riverrun_behaviour::signals::Settings;
use serde_json::{Value, json};

use super::world::{To, World, device_events, event_schema, last, objects, script, settings};
use crate::frustration::{Frustration, FrustrationSettings, Sessions, keys_in};
use crate::watch::Watch;

const MINUTE: i64 = 60_000;

fn watching(workers: usize) -> World<Watch<Frustration>> {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let sessions = Sessions::of_device(minutes(30), minutes(24 * 60));
    let by = keys_in(&event_schema(), &sessions);
    assert_eq!(by, ["tenant_id", "anonymous_id"]);
    let by = by.iter().map(|name| event_schema().index_of(name).unwrap()).collect();
    World::watching(FrustrationSettings { sessions, by, ..settings(Settings::default()) }, workers)
}

/// Events of one device, which name no session.
fn device(text: &str) -> Vec<Value> {
    let mut rows = script(text);
    for row in &mut rows {
        row["session_id"] = Value::Null;
        row["anonymous_id"] = json!("dev-1");
    }
    rows
}

fn told(text: &str) -> Vec<Value> {
    objects(&watching(1).step(&[device_events(&device(text))], To::End).rows)
}

fn ids(rows: &[Value]) -> Vec<String> {
    last(rows, "signal_id").iter().map(|row| row["session_id"].as_str().unwrap().to_owned()).collect()
}

fn session(first: &str) -> String {
    session_id("t1", "dev-1", first).to_string()
}

#[test]
fn silence_tells_sessions_apart_and_they_have_the_ids_of_sessions_elsewhere() {
    let view = "0 page_view caps=reactions\n";
    let late = |ms: i64| {
        format!("{view}1000 click target_fp=#a\n{ms} page_view caps=reactions\n{} click target_fp=#b", ms + 10)
    };
    assert_eq!(ids(&told(&late(1000 + 30 * MINUTE))), [session("e0000"), session("e0000")]);
    let rows = told(&late(1001 + 30 * MINUTE));
    assert_eq!(ids(&rows), [session("e0000"), session("e0002")]);
    let ends: Vec<_> =
        rows.iter().filter(|row| row["kind"] == "session_end").map(|row| row["end_time"].as_i64()).collect();
    assert_eq!(ends, [Some(1000), Some(1011 + 30 * MINUTE)]);
}

#[test]
fn another_account_ends_the_session_at_once() {
    let text = "0 page_view caps=reactions\n1000 click target_fp=#a\n9000 identify user_id=u2\n9100 page_view caps=reactions user_id=u2\n9200 click target_fp=#b user_id=u2";
    let rows = told(text);
    assert_eq!(ids(&rows), [session("e0000"), session("e0002")]);
    let end = rows.iter().find(|row| row["kind"] == "session_end").unwrap();
    assert_eq!((end["told"].as_i64(), end["session_id"].as_str()), (Some(9000), Some(session("e0000").as_str())));
}

/// G-C3, in another session of the same device.
#[test]
fn an_order_in_a_later_session_makes_good_what_came_before() {
    let stuck: String = (1..15).map(|n| format!("{} key page_key=/checkout\n", n * 10_000)).collect();
    let text = format!(
        "0 page_view caps=forms page_key=/checkout\n1 checkout_step step=pay page_key=/checkout\n2 coupon_denied page_key=/checkout\n\
         3 coupon_denied page_key=/checkout\n{stuck}150000 identify user_id=u2\n160000 page_view user_id=u2\n900000 order_completed user_id=u2\n"
    );
    let stuck =
        |rows: &[Value]| last(rows, "signal_id").into_iter().find(|row| row["kind"] == "checkout_stuck").unwrap();
    let row = stuck(&told(&text));
    assert_eq!((row["points"].as_i64(), row["recovered"].as_bool()), (Some(0), Some(true)));
    let row = stuck(&told(&text.replace("order_completed", "key")));
    assert_eq!(row["points"], 8);
}

/// One tick or many, with a restart after each: the same rows.
#[test]
fn ticks_and_restarts_change_no_row() {
    let mut text = String::new();
    for n in 0..40 {
        let at = n * 7 * MINUTE + (n % 5) * 9 * MINUTE;
        let user = if n % 11 < 6 { "u1" } else { "u2" };
        text.push_str(&format!(
            "{at} page_view caps=reactions user_id={user}\n{} click target_fp=#a user_id={user}\n",
            at + 500
        ));
    }
    let mut rows = device(&text);
    rows.sort_by_key(|row| row["at"].as_i64());
    let calm = objects(&watching(1).step(&[device_events(&rows)], To::End).rows);
    assert!(calm.iter().filter(|row| row["kind"] == "session_end").count() > 5);
    let (mut world, mut given) = (watching(1), Vec::new());
    for (number, part) in rows.chunks(3).enumerate() {
        let to = part.iter().filter_map(|row| row["at"].as_i64()).max().unwrap();
        given.extend(objects(&world.step(&[device_events(part)], To::Ms(to)).rows));
        world.freeze(&[number as u16 % 8]);
        world.restore(1 + number % 3);
    }
    given.extend(objects(&world.step(&[], To::End).rows));
    given.sort_by_key(|row| (row["told"].as_i64(), row["rev"].as_i64(), row.to_string()));
    assert_eq!(given, calm);
    assert_eq!(world.kept(), 0);
}
