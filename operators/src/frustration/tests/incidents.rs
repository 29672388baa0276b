//! The golden examples of incidents, through the steps.

use serde_json::{Value, json};

use super::chain::{Chain, Tick};
use super::world::{To, last, script};

fn incidents(text: &str) -> Vec<Value> {
    let mut chain = Chain::new(1);
    chain.step(&Tick::of(&script(text), To::End)).incidents
}

const MINUTE: i64 = 60_000;

/// A click that nothing answers, on a page where that can be seen.
fn dead(ms: i64, target: &str) -> String {
    format!("{ms} click target_fp={target}\n")
}

fn rage(ms: i64, target: &str, page: &str) -> String {
    (0..3).map(|n| format!("{} click target_fp={target} page_key={page}\n", ms + n * 200)).collect()
}

const VIEW: &str = "-60000 page_view caps=reactions\n";

#[test]
fn g_i1_one_incident_that_opens_with_the_rage_click_and_closes_with_the_session() {
    let view = "59000 page_view caps=reactions page_key=/checkout\n";
    let text =
        format!("{VIEW}{}{view}{}2400000 key page_key=/checkout\n", dead(0, "#x"), rage(MINUTE, "#pay", "/checkout"));
    let rows = incidents(&text);
    let opened: Vec<&Value> = rows.iter().filter(|row| row["event"] == "opened").collect();
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0]["peak"], 8);
    let closed = last(&rows, "incident_id");
    assert_eq!(closed.len(), 1);
    let row = &closed[0];
    for (column, value) in [
        ("event", json!("closed")),
        ("state", json!("closed")),
        ("severity", json!("medium")),
        ("primary_kind", json!("rage_click")),
        ("about", json!("unresponsive")),
        ("subject", json!("#pay")),
        ("page_key", json!("/checkout")),
        ("kinds", json!("{\"rage_click\":1,\"dead_click\":1}")),
        ("outcome", json!("none")),
        ("session_id", json!("s1")),
        ("tenant_id", json!("t1")),
        ("evidence", json!(["e0003", "e0004", "e0005"])),
    ] {
        assert_eq!(row[column], value, "{column}");
    }
    let ids: Vec<i64> = rows.iter().filter_map(|row| row["rev"].as_i64()).collect();
    assert_eq!(ids, (0..rows.len() as i64).collect::<Vec<_>>(), "each row revises the one before");
}

#[test]
fn g_i2_twenty_lone_dead_clicks_are_none() {
    let clicks: String = (0..20).map(|n| dead(n * 6 * MINUTE, &format!("#x{n}"))).collect();
    assert_eq!(incidents(&format!("{VIEW}{clicks}")), Vec::<Value>::new());
}

#[test]
fn g_i3_the_fingerprint_is_that_of_the_vector() {
    let page = "/checkout/:id";
    let view = format!("-1000 page_view caps=reactions page_key={page}\n");
    let rows = incidents(&format!("{view}{}", rage(0, "[data-testid=pay]", page)));
    assert_eq!(last(&rows, "incident_id")[0]["fingerprint"], "b897387136311a911e69782fd72e27ed");
}

#[test]
fn g_p1_signals_of_the_checkout_are_worth_half_as_much_again() {
    let page = "/checkout";
    let fail = |ms: i64| {
        format!(
            "{ms} form_submit form_fp=#f submit_id={ms} page_key={page}\n{} form_error form_fp=#f submit_id={ms} page_key={page}\n",
            ms + 100
        )
    };
    let text = format!(
        "-1000 page_view caps=reactions,forms page_key={page}\n{}60000 click target_fp=#pay page_key={page}\n60010 dom_reaction page_key={page}\n\
         60100 js_error error_fp=x page_key={page}\n{}",
        rage(0, "#pay", page),
        [100_000, 110_000, 120_000].map(fail).concat()
    );
    let rows = last(&incidents(&text), "incident_id");
    assert_eq!((rows[0]["peak"].as_i64(), rows[0]["severity"].as_str()), (Some(6 + 7 + 7), Some("high")));
}

#[test]
fn g_p2_to_g_p4() {
    let same: String = (0..4).map(|n| dead(n * 10_000, "#x")).collect();
    assert_eq!(incidents(&format!("{VIEW}{same}")), Vec::<Value>::new(), "G-P2: 3 points");
    let back =
        "0 page_view page_key=/a\n1000 page_view page_key=/b\n4000 page_view page_key=/a nav_type=back_forward\n";
    assert_eq!(incidents(back), Vec::<Value>::new(), "G-P3: soft signals open nothing");
    let text = format!("{VIEW}{}{}", rage(0, "#a", "/"), dead(60_000, "#b"));
    let rows = last(&incidents(&text), "incident_id");
    assert_eq!((rows[0]["peak"].as_i64(), rows[0]["severity"].as_str()), (Some(6), Some("medium")), "G-P4");
}

#[test]
fn an_order_is_the_outcome() {
    let text = format!("{VIEW}{}{}120000 order_completed\n", rage(0, "#a", "/"), dead(60_000, "#b"));
    let rows = last(&incidents(&text), "incident_id");
    assert_eq!((rows[0]["outcome"].as_str(), rows[0]["recovered_at"].as_i64()), (Some("recovered"), Some(120_000)));
}

/// A click that is followed by an error outweighs the rage click before: the incident is about something else now.
#[test]
fn an_incident_that_gets_another_fingerprint_leaves_the_former() {
    let text = format!(
        "{VIEW}{}{}100000 click target_fp=#c\n100010 dom_reaction\n100100 js_error error_fp=boom\n",
        rage(0, "#a", "/"),
        dead(60_000, "#b")
    );
    let rows = incidents(&text);
    let moved: Vec<&Value> = rows.iter().filter(|row| row["event"] == "moved").collect();
    assert_eq!(moved.len(), 1);
    let opened = rows.iter().find(|row| row["event"] == "opened").unwrap();
    let closed = rows.iter().find(|row| row["event"] == "closed").unwrap();
    assert_eq!((&moved[0]["fingerprint"], &moved[0]["about"]), (&opened["fingerprint"], &Value::Null));
    assert_ne!(moved[0]["fingerprint"], closed["fingerprint"]);
    assert_eq!(closed["about"], "error");
    assert!(moved[0]["rev"].as_i64() < closed["rev"].as_i64());
    let mut chain = Chain::new(1);
    let problems = chain.step(&Tick::of(&script(&text), To::End)).problems;
    let newest = last(&problems, "fingerprint");
    let sessions = |fingerprint: &Value| {
        newest.iter().find(|row| row["fingerprint"] == *fingerprint).map(|row| row["sessions"].as_i64().unwrap())
    };
    assert_eq!(sessions(&closed["fingerprint"]), Some(1));
    assert_ne!(sessions(&opened["fingerprint"]), Some(1), "it is counted where it belongs");
}

#[test]
fn five_sessions_of_three_persons_are_worth_a_ticket_once() {
    let session = |n: i64| {
        let text = format!("{VIEW}{}{}", rage(n * 1000, "#pay", "/"), dead(60_000 + n, "#b"));
        let mut rows = script(&text);
        for row in &mut rows {
            row["session_id"] = json!(format!("s{n}"));
            row["event_id"] = json!(format!("{n}-{}", row["event_id"].as_str().unwrap()));
            row["user_id"] = json!(format!("u{}", n % 3));
        }
        rows
    };
    let four: Vec<Value> = (0..4).flat_map(session).collect();
    let five: Vec<Value> = (0..5).flat_map(session).collect();
    let problems = |rows: &[Value]| Chain::new(1).step(&Tick::of(rows, To::End)).problems;
    let row = last(&problems(&four), "fingerprint").pop().unwrap();
    assert_eq!((row["sessions"].as_i64(), row["passes"].as_bool()), (Some(4), Some(false)));
    let rows = problems(&five);
    let row = last(&rows, "fingerprint").pop().unwrap();
    assert_eq!(
        (row["sessions"].as_i64(), row["persons"].as_i64(), row["passes"].as_bool()),
        (Some(5), Some(3), Some(true))
    );
    assert_eq!((row["about"].as_str(), row["subject"].as_str()), (Some("unresponsive"), Some("#pay")));
    assert_eq!(row["worst"].as_array().map(Vec::len), Some(3));
    let noticed: Vec<_> = rows.iter().filter_map(|row| row["notify"].as_str()).collect();
    assert_eq!(noticed, ["first"]);
}
