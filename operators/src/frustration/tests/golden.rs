//! The golden examples of the signals, through the step: each under its id.

use serde_json::Value;

use super::world::{To, World, events, last, objects, script, settings};
use crate::frustration::preset;

/// Everything can be observed, since a minute before time 0.
const OBSERVED: &str = "-60000 page_view caps=reactions,cursor,network,longtask,forms,scroll";

/// Returns what the step tells of a script.
fn rows(text: &str, with: &str) -> Vec<Value> {
    let mut world = World::watching(settings(preset(with, None).unwrap()), 1);
    let out = world.step(&[events(&script(text))], To::End);
    assert!(out.late.is_empty());
    objects(&out.rows)
}

/// Says what a row tells: kind, time, count, points, and what else.
fn told(row: &Value) -> String {
    let (start, end) = (row["start_time"].as_i64().unwrap(), row["end_time"].as_i64().unwrap());
    let kind = row["kind"].as_str().unwrap();
    let mut text = format!("{kind} {start}..{end} x{} p{}", row["count"], row["points"]);
    let flags = ["dead", "slow", "error", "responsive", "metronomic", "recovered"];
    for flag in flags.into_iter().filter(|flag| row[*flag] == true) {
        text.push_str(&format!(" {flag}"));
    }
    text.push_str(&row["direction"].as_str().map(|way| format!(" {way}")).unwrap_or_default());
    text
}

/// The last rows of the signals of a script on a page where everything can be observed.
fn observed(text: &str) -> Vec<String> {
    with("ours", &format!("{OBSERVED}\n{text}"))
}

fn with(preset: &str, text: &str) -> Vec<String> {
    last(&rows(text, preset), "signal_id").iter().map(told).collect()
}

fn clicks(times: &[i64]) -> String {
    times.iter().map(|ms| format!("{ms} click target_fp=#buy\n")).collect()
}

fn none() -> Vec<String> {
    Vec::new()
}

fn only(kind: &str, rows: Vec<String>) -> Vec<String> {
    rows.into_iter().filter(|row| row.starts_with(kind)).collect()
}

#[test]
fn g_r1_four_quick_clicks_are_one_signal_that_is_revised_once_it_is_judged() {
    let all = rows(&format!("{OBSERVED}\n{}", clicks(&[0, 300, 650, 900])), "ours");
    let revs: Vec<_> =
        all.iter().filter(|row| row["kind"] == "rage_click").map(|row| (row["rev"].as_i64(), told(row))).collect();
    let expected = ["rage_click 0..900 x4 p4", "rage_click 0..900 x4 p4 dead"];
    assert_eq!(revs, [(Some(0), expected[0].to_owned()), (Some(1), expected[1].to_owned())]);
    let first = all.iter().find(|row| row["kind"] == "rage_click").unwrap();
    // Told when it was decided, never before.
    assert_eq!((first["told"].as_i64(), first["target_fp"].as_str()), (Some(1901), Some("#buy")));
    assert_eq!(first["evidence"], serde_json::json!(["e0001", "e0002", "e0003", "e0004"]));
    assert_eq!(first["evidence_at"], serde_json::json!(["3:100", "3:200", "3:300", "3:400"]));
    assert_eq!(first["tenant_id"], "t1");
    assert_eq!(first["person"].as_str().map(str::len), Some(32), "a hash, never the name");
}

#[test]
fn g_r2_to_g_r6() {
    assert_eq!(only("rage", observed(&clicks(&[0, 900, 1800]))), none(), "G-R2");
    let posthog = with("posthog", &format!("{OBSERVED}\n{}", clicks(&[0, 900, 1800])));
    assert_eq!(only("rage", posthog).len(), 1, "G-R2, PostHog");
    assert_eq!(observed(&clicks(&[0, 500, 1000])), ["rage_click 0..1000 x3 p4 dead"], "G-R3");
    assert_eq!(only("rage", observed(&clicks(&[0, 500, 1001]))), none(), "G-R3");
    let selects = "0 click target_fp=#buy\n120 click target_fp=#buy selection=true\n240 click target_fp=#buy";
    assert_eq!(only("rage", observed(selects)), none(), "G-R4");
    let early = observed(&clicks(&[0, 2000, 2100, 2200]));
    assert_eq!(only("rage", early), ["rage_click 2000..2200 x3 p4 dead"], "G-R5");
    let split = observed(&clicks(&[0, 200, 400, 1401, 1500, 1600]));
    assert_eq!(split, ["rage_click 0..400 x3 p4 dead", "rage_click 1401..1600 x3 p4 dead"], "G-R6");
}

#[test]
fn g_r7_a_list_that_answers_each_click_is_responsive() {
    let list = "0 click target_fp=li:1\n50 dom_reaction\n200 click target_fp=li:2\n250 dom_reaction\n400 click target_fp=li:3\n450 dom_reaction";
    assert_eq!(observed(list), ["rage_click 0..400 x3 p2 responsive"]);
}

#[test]
fn g_r8_posthogs_sequence_fires_twice() {
    // Moved off the origin, where clicks of the keyboard seem to be.
    let taps = [(0, 10), (10, 20), (5, 40), (5, 80), (5, 100), (5, 110), (5, 1120), (5, 1121), (5, 1122)];
    let text: String = taps.iter().map(|(at, ms)| format!("{ms} click x={} y={}\n", at + 50, at + 50)).collect();
    let rages = only("rage", with("posthog", &text));
    assert_eq!(rages, ["rage_click 10..110 x6 p4", "rage_click 1120..1122 x3 p4"]);
}

#[test]
fn g_d1_to_g_d11() {
    let after = |reaction: &str| observed(&format!("0 click target_fp=#buy\n{reaction}"));
    assert_eq!(after("0 dom_reaction"), none(), "G-D1");
    assert_eq!(after("2500 dom_reaction"), none(), "G-D2");
    assert_eq!(after("2501 dom_reaction"), ["slow_click 0..2501 x1 p2"], "G-D3");
    assert_eq!(after("7000 dom_reaction"), ["slow_click 0..7000 x1 p2"], "G-D4");
    assert_eq!(after("7001 dom_reaction"), ["dead_click 0..0 x1 p2"], "G-D5");
    assert_eq!(after(""), ["dead_click 0..0 x1 p2"], "G-D6");
    assert_eq!(after("300 scroll scroll_top=10 viewport_h=800"), none(), "G-D7");
    assert_eq!(after("301 scroll scroll_top=10 viewport_h=800"), ["dead_click 0..0 x1 p2"], "G-D7");
    assert_eq!(observed("-600 visibility\n0 click target_fp=#buy"), none(), "G-D8");
    assert_eq!(observed("-59000 visibility\n0 click target_fp=#buy"), ["dead_click 0..0 x1 p2"], "G-D8");
    assert_eq!(observed("0 click target_fp=#home tag=a href=/home"), none(), "G-D9");
    assert_eq!(with("ours", "-60000 page_view\n0 click target_fp=#buy"), none(), "G-D10");
    // G-D11: looked at only between two thresholds, it is still dead.
    let mut world = World::watching(settings(preset("ours", None).unwrap()), 1);
    let text = format!("{OBSERVED}\n0 click target_fp=#buy");
    assert_eq!(objects(&world.step(&[events(&script(&text))], To::Ms(2600)).rows), Vec::<Value>::new());
    assert_eq!(objects(&world.step(&[], To::Ms(7001)).rows), Vec::<Value>::new());
    assert_eq!(objects(&world.step(&[], To::Ms(7002)).rows).len(), 1);
}

#[test]
fn g_x1_to_g_x4() {
    let click = "0 click target_fp=#buy\n100 dom_reaction";
    assert_eq!(observed(&format!("{click}\n1999 js_error error_fp=x")), ["error_click 0..1999 x1 p5"], "G-X1");
    assert_eq!(observed(&format!("{click}\n2001 js_error error_fp=x")), none(), "G-X2");
    let two = format!(
        "{click}\n500 click target_fp=#buy\n600 dom_reaction\n800 js_error error_fp=x\n900 js_error error_fp=y"
    );
    assert_eq!(observed(&two), ["error_click 500..800 x1 p5"], "G-X3");
    let noise: String = (0..8).map(|n| format!("{} js_error error_fp=x\n", n * 3000)).collect();
    assert_eq!(observed(&format!("{noise}10000 click target_fp=#buy\n10100 dom_reaction")), none(), "G-X4");
}

#[test]
fn g_u1_to_g_u3() {
    let there = |b: i64, a: i64| {
        with(
            "ours",
            &format!(
                "0 page_view page_key=/a\n{b} page_view page_key=/b\n{a} page_view page_key=/a nav_type=back_forward"
            ),
        )
    };
    assert_eq!(there(1000, 4000), ["quick_back 1000..4000 x1 p1"], "G-U1");
    assert_eq!(there(1000, 6001), none(), "G-U2");
    assert_eq!(there(1000, 1100), none(), "G-U3");
}

#[test]
fn g_t1_to_g_t3() {
    let moves = |every: i64, count: i64, held: &str| -> String {
        let one = |n: i64| format!("{} mouse_move x={} y=50{held}\n", n * every, if n % 2 == 0 { 0 } else { 80 });
        (0..count).map(one).collect()
    };
    let text = format!("{OBSERVED}\n{}", moves(100, 12, ""));
    let all = rows(&text, "ours");
    assert_eq!(told(&all[0]), "thrashed_cursor 200..1100 x10 p1", "G-T1");
    assert_eq!(all[0]["told"], 3101, "G-T1");
    assert_eq!(observed(&moves(250, 20, "")), none(), "G-T2");
    assert_eq!(observed(&moves(100, 12, " held=true")), none(), "G-T3");
}

#[test]
fn g_sc1_and_g_sc2() {
    let scroll = |tops: &[i64]| -> String {
        let line = |(n, top): (usize, &i64)| format!("{} scroll scroll_top={top} viewport_h=800\n", n * 1700);
        tops.iter().enumerate().map(line).collect()
    };
    let wild = [0, 900, 100, 1000, 200, 1100, 100, 900];
    assert_eq!(observed(&scroll(&wild)).len(), 1, "G-SC1");
    assert!(observed(&scroll(&wild))[0].starts_with("excessive_scroll "), "G-SC1");
    assert_eq!(observed(&scroll(&wild[..4])), none(), "G-SC2");
}

#[test]
fn g_f1_to_g_f6() {
    let change = |ms: i64, field: &str| format!("{ms} form_change form_fp=#order field_fp={field}\n");
    let f1 = format!("{}{}20000 page_leave leave=navigation", change(0, "name"), change(8000, "phone"));
    assert_eq!(observed(&f1), ["form_abandon 0..20000 x2 p3"], "G-F1");
    assert_eq!(observed(&format!("{}4000 page_leave leave=navigation", change(0, "name"))), none(), "G-F2");
    let f3 = format!("{f1}\n30000 page_view caps=forms\n320000 form_submit form_fp=#order submit_id=9\n400000 key");
    assert_eq!(observed(&f3), ["form_abandon 0..20000 x2 p0 recovered"], "G-F3");
    let fail = |ms: i64| {
        format!(
            "{ms} form_submit form_fp=#order submit_id={ms}\n{} form_error form_fp=#order submit_id={ms}\n",
            ms + 500
        )
    };
    let f4 = [0, 40_000, 90_000].map(fail).concat();
    assert_eq!(observed(&f4), ["submit_failures 0..90000 x3 p5"], "G-F4");
    let all = rows(&format!("{OBSERVED}\n{f4}{}", fail(100_000)), "ours");
    let revs: Vec<_> = all
        .iter()
        .filter(|row| row["signal_id"].is_string())
        .map(|row| (row["rev"].as_i64(), row["count"].as_i64()))
        .collect();
    assert_eq!(revs, [(Some(0), Some(3)), (Some(1), Some(4))], "G-F4");
    let f5 =
        format!("{}20000 form_submit form_fp=#order submit_id=20000\n{}", [0, 10_000].map(fail).concat(), fail(30_000));
    assert_eq!(observed(&f5), none(), "G-F5");
    assert_eq!(observed(&[0, 240_000, 301_000].map(fail).concat()), none(), "G-F6");
}

#[test]
fn g_n1_to_g_n3() {
    let failed = |ms: i64| format!("{ms} network_request method=POST route=/cart/:id status=500\n");
    let all = rows(&format!("{OBSERVED}\n{}", [0, 6000, 12_000].map(failed).concat()), "ours");
    assert_eq!(told(&all[0]), "network_errors 0..12000 x3 p4", "G-N1");
    assert_eq!(all[0]["cause_fp"], "POST /cart/:id 5xx", "G-N1");
    let missing = |(ms, route): (i64, &str)| format!("{ms} network_request method=GET route={route} status=404\n");
    assert_eq!(observed(&[(0, "/a.png"), (6000, "/b.png"), (12_000, "/c.png")].map(missing).concat()), none(), "G-N2");
    assert_eq!(observed(&[0, 1000, 2000].map(failed).concat()), none(), "G-N3");
    let clicked = [0, 1000, 2000].map(|ms| format!("{ms} click target_fp=#add\n{}", failed(ms + 100))).concat();
    assert_eq!(only("network", observed(&clicked)).len(), 1, "G-N3");
}

#[test]
fn g_l1_to_g_l3() {
    let loads = |times: &[i64]| {
        let reload = |ms: &i64| format!("{ms} page_view page_key=/list nav_type=reload\n");
        format!("0 page_view page_key=/list\n{}", times.iter().map(reload).collect::<String>())
    };
    assert_eq!(with("ours", &loads(&[5000, 15_000, 40_000])), ["reload_loop 5000..40000 x3 p4"], "G-L1");
    assert_eq!(with("ours", &loads(&(1..20).map(|n| n * 30_000).collect::<Vec<_>>())), none(), "G-L2");
    let l3 = rows(&loads(&(1..=15).map(|n| n * 20_000).collect::<Vec<_>>()), "ours");
    let revs: Vec<String> = l3.iter().filter(|row| row["signal_id"].is_string()).map(told).collect();
    assert_eq!(revs, ["reload_loop 20000..60000 x3 p4", "reload_loop 20000..100000 x5 p0 metronomic"], "G-L3");
}

#[test]
fn g_c1_to_g_c3() {
    let fail = |s: i64| {
        let (ms, id) = (s * 1000, s);
        format!("{ms} form_submit form_fp=#pay submit_id={id}\n{} form_error form_fp=#pay submit_id={id}\n", ms + 100)
    };
    let keys = |from: i64, to: i64| (from..=to).step_by(10).map(|s| format!("{} key\n", s * 1000)).collect::<String>();
    let view = "-1000 page_view page_key=/checkout caps=forms\n0 checkout_step step=payment\n";
    let on_checkout = |text: &str| text.replace('\n', " page_key=/checkout\n");
    let c1 = on_checkout(&format!("{}{}{}{}{}", keys(10, 60), fail(61), keys(70, 100), fail(101), keys(110, 150)));
    let c1 = format!("{}{c1}", view.replace("payment\n", "payment page_key=/checkout\n"));
    assert_eq!(only("checkout_stuck", with("ours", &c1)).len(), 1, "G-C1");
    let c1_rows = rows(&c1, "ours");
    let stuck = c1_rows.iter().find(|row| row["kind"] == "checkout_stuck").unwrap();
    assert_eq!((stuck["points"].as_i64(), stuck["hard"].as_bool()), (Some(8), Some(true)), "G-C1");
    let idle = [100, 300, 500].map(|s| format!("{} key\n", s * 1000)).concat();
    let c2 = on_checkout(&format!("{idle}{}{}", fail(600), fail(601)));
    let c2 = format!("{}{c2}", view.replace("payment\n", "payment page_key=/checkout\n"));
    assert_eq!(only("checkout_stuck", with("ours", &c2)), none(), "G-C2");
    let c3 = with("ours", &format!("{c1}1320000 order_completed page_key=/thanks\n"));
    let stuck = only("checkout_stuck", c3);
    assert_eq!(stuck.len(), 1, "G-C3");
    assert!(stuck[0].ends_with(" p0 recovered"), "G-C3: {stuck:?}");
}

#[test]
fn g_j1_to_g_j3() {
    let slow = "0 interaction latency_ms=600\n20000 interaction latency_ms=700\n40000 interaction latency_ms=550";
    assert_eq!(observed(slow), ["jank 0..40000 x3 p1"], "G-J1");
    let shown = "0 page_view caps=longtask,reactions\n20000 long_task duration_ms=2100\n";
    assert_eq!(only("jank", with("ours", &format!("{shown}20300 click target_fp=#buy\n"))).len(), 1, "G-J2");
    assert_eq!(with("ours", shown), none(), "G-J3");
}

#[test]
fn g_a1_and_g_a2() {
    let gone = "0 dom_drop removed_pct=85";
    assert_eq!(observed(&format!("{gone}\n1999 js_error error_fp=x")), ["app_crash 0..1999 x1 p8"], "G-A1");
    assert_eq!(observed(&format!("{gone}\n2000 js_error error_fp=x")), none(), "G-A1");
    assert_eq!(observed(&format!("{gone}\n10 page_view page_key=/other")), none(), "G-A2");
}

#[test]
fn g_w1_to_g_w3() {
    assert_eq!(observed("0 swipe dx=-80 dy=5 target_fp=#carousel"), ["dead_swipe 0..0 x1 p2 left"], "G-W1");
    assert_eq!(observed("0 swipe dx=20 dy=22 target_fp=#carousel"), none(), "G-W2");
    assert_eq!(observed("0 swipe dx=-80 dy=5 answered_while_down=true"), none(), "G-W3");
}

#[test]
fn g_h1_to_g_h3() {
    let search = |(s, query): (i64, &str)| format!("{} search query={query}\n", s * 1000);
    assert_eq!(
        observed(&[(0, "a"), (40, "b"), (90, "c")].map(search).concat()),
        ["search_struggle 0..90000 x3 p2"],
        "G-H1"
    );
    let mut same = script(&format!("{OBSERVED}\n{}", [(0, "a"), (40, "A"), (90, "a")].map(search).concat()));
    same[2]["query"] = "A ".into();
    let mut world = World::watching(settings(preset("ours", None).unwrap()), 1);
    assert_eq!(objects(&world.step(&[events(&same)], To::End).rows), Vec::<Value>::new(), "G-H2");
    let found = [(0, "a"), (40, "b")].map(search).concat() + "50000 result_click\n" + &search((90, "c"));
    assert_eq!(observed(&found), none(), "G-H3");
}

/// G-E3, through the step: clicks whose uploads differ by 400 ms are as near as the browser's own clock says.
#[test]
fn g_e3_the_browsers_clock_counts_within_a_page_load() {
    let mut rows =
        script("0 page_view caps=reactions\n100 click target_fp=#a\n700 click target_fp=#a\n1500 click target_fp=#a");
    for (row, mono) in rows.iter_mut().zip([0.0, 100.0, 500.0, 900.0]) {
        row["mono_ms"] = mono.into();
        row["page_load_id"] = "l1".into();
    }
    let mut world = World::watching(settings(preset("ours", None).unwrap()), 1);
    let told: Vec<String> =
        last(&objects(&world.step(&[events(&rows)], To::End).rows), "signal_id").iter().map(told).collect();
    assert_eq!(only("rage", told).len(), 1);
}

/// A click of an upload that is sent again, 700 ms later by its corrected time, is no third click.
#[test]
fn what_is_sent_again_is_no_further_click() {
    let text = "0 page_view caps=reactions\n100 click target_fp=#a\n400 click target_fp=#a\n1100 click target_fp=#a event_id=again";
    let rages = |id: &str| {
        let mut rows = script(text);
        for (row, mono) in rows.iter_mut().zip([0.0, 100.0, 400.0, 400.0]) {
            row["mono_ms"] = mono.into();
            row["page_load_id"] = "l1".into();
        }
        rows[3]["event_id"] = id.into();
        let mut world = World::watching(settings(preset("ours", None).unwrap()), 1);
        let given = last(&objects(&world.step(&[events(&rows)], To::End).rows), "signal_id");
        only("rage", given.iter().map(told).collect()).len()
    };
    assert_eq!((rages("e0002"), rages("e0009")), (0, 1));
}
