//! Sessions that turn out to be programs': what was told of them is taken back.

use serde_json::{Value, json};

use super::chain::{Chain, Tick};
use super::world::{To, script};

const VIEW: &str = "0 page_view caps=reactions page_key=/checkout\n";

/// A rage click that opens an incident, then `clicks` clicks, `gap` ms apart.
fn after_rage(clicks: i64, gap: impl Fn(i64) -> i64) -> String {
    let rage: String =
        (0..3).map(|n| format!("{} click target_fp=#pay page_key=/checkout\n", 1000 + n * 170)).collect();
    let mut at = 600_000;
    let mut text = format!("{VIEW}{rage}");
    for n in 0..clicks {
        text.push_str(&format!(
            "{at} click target_fp=#x{n} x={} page_key=/checkout\n{} dom_reaction\n",
            n * 200,
            at + 9
        ));
        at += gap(n);
    }
    text
}

fn told(rows: &[Value], column: &str) -> Vec<Value> {
    rows.iter().map(|row| row[column].clone()).collect()
}

#[test]
fn a_metronomes_incident_closes_as_a_bots_and_its_problem_is_none() {
    let text = after_rage(20, |_| 2000);
    let mut chain = Chain::new(1);
    let before = chain.step(&Tick::of(&script(&text), To::Ms(605_000)));
    assert_eq!(told(&before.incidents, "event"), [json!("opened")]);
    assert_eq!(before.problems.last().map(|row| row["sessions"].clone()), Some(json!(1)));
    let after = chain.step(&Tick::of(&[], To::End));
    assert_eq!(told(&after.signals, "kind"), [json!("bot"), json!("session_end")]);
    let last = after.incidents.last().unwrap();
    assert_eq!((&last["event"], &last["outcome"], &last["state"]), (&json!("closed"), &json!("bot"), &json!("closed")));
    assert_eq!(after.incidents.len(), 1, "the end of the session has nothing to add");
    assert_eq!(after.problems.last().map(|row| row["sessions"].clone()), Some(json!(0)));
}

#[test]
fn a_bot_is_told_apart_before_its_incident_opens() {
    // Nineteen even clicks are a person's; the twentieth is not, and what follows it says nothing.
    let rage = "640000 click target_fp=#pay page_key=/checkout\n640170 click target_fp=#pay page_key=/checkout\n640350 click target_fp=#pay page_key=/checkout\n";
    let kinds = |clicks| {
        let text = format!("{}{rage}", after_rage(clicks, |_| 2000).replace(VIEW, "").replace("#pay", "#y"));
        let quiet: String = text.lines().filter(|line| !line.contains("#y")).map(|line| format!("{line}\n")).collect();
        let out = Chain::new(1).step(&Tick::of(&script(&format!("{VIEW}{quiet}")), To::End));
        (out.signals.iter().any(|row| row["kind"] == "rage_click"), out.incidents.len())
    };
    assert!(kinds(19).0 && kinds(19).1 > 0);
    assert_eq!(kinds(20), (false, 0));
}

#[test]
fn hands_that_click_now_and_then_are_no_bots() {
    let out = Chain::new(1).step(&Tick::of(&script(&after_rage(30, |n| 2000 + n * 7)), To::End));
    assert!(!told(&out.signals, "kind").contains(&json!("bot")));
    assert_eq!(out.incidents.last().map(|row| row["outcome"].clone()), Some(json!("none")));
}
