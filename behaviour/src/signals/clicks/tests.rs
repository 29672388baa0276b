use super::super::presets::Preset;
use super::super::row::Signal;
use super::super::samples::{ALL_CAPS, Script, click, ids, last};
use super::super::settings::Settings;
use super::*;
use crate::event::payload::{Error, Leave, PageView, Reaction, Scroll};

fn error(error_fp: &str) -> Payload {
    Payload::Error(Box::new(Error { error_fp: error_fp.to_owned(), ..Error::default() }))
}

fn dom() -> Payload {
    Payload::Reaction(Answer::Dom)
}

fn kinds(rows: &[Signal]) -> Vec<SignalKind> {
    rows.iter().map(|row| row.kind).collect()
}

/// The kinds of signals after clicks on one button.
fn clicked(ms: &[i64]) -> Vec<Signal> {
    let mut script = Script::observed();
    ms.iter().for_each(|&ms| {
        script.click(ms, "#buy");
    });
    script.rows_at(60_000)
}

fn with_settings(settings: Settings) -> Script {
    let mut script = Script::with(settings);
    script.page(-60_000, "/", PageView { caps: ALL_CAPS, ..PageView::default() });
    script
}

/// G-R1, as rows: told when the chain is closed, and again when its clicks are judged.
#[test]
fn g_r1_a_rage_click_is_told_at_its_end_and_once_it_is_judged() {
    let mut script = Script::observed();
    for ms in [0, 300, 650, 900] {
        script.click(ms, "#buy");
    }
    assert_eq!(script.rows_at(1900), []);
    let rows = script.rows_at(1901);
    assert_eq!((kinds(&rows), rows[0].rev, rows[0].count), (vec![SignalKind::RageClick], 0, 4));
    assert_eq!((rows[0].start, rows[0].end, rows[0].points), (0, 900, 4));
    assert_eq!((rows[0].target_fp.as_str(), ids(&rows[0])), ("#buy", vec!["e1", "e2", "e3", "e4"]));
    assert_eq!(script.rows_at(7900), []);
    let judged = script.rows_at(7901);
    assert_eq!((judged.len(), judged[0].rev, judged[0].signal_id), (1, 1, rows[0].signal_id));
    assert_eq!(judged[0].flags.names().collect::<Vec<_>>(), ["dead"]);
    assert_eq!(script.rows_at(60_000), [], "no dead clicks beside it");
}

/// G-R7, as rows: a list that moves up under the pointer, each click answered.
#[test]
fn g_r7_a_list_that_answers_each_click_is_responsive() {
    let mut script = Script::observed();
    for (ms, target) in [(0, "li:1"), (200, "li:2"), (400, "li:3")] {
        script.click(ms, target).at(ms + 50, dom());
    }
    let rows = last(&script.rows_at(60_000));
    assert_eq!((kinds(&rows), rows[0].points), (vec![SignalKind::RageClick], 2));
    assert!(rows[0].flags.has(Flags::RESPONSIVE));
}

#[test]
fn one_unanswered_click_or_an_error_makes_a_rage_click_unresponsive() {
    let mut script = Script::observed();
    script.click(0, "#buy").at(50, dom()).click(200, "#buy").at(250, dom()).click(400, "#buy");
    assert_eq!(last(&script.rows_at(60_000))[0].points, 4);
    let mut script = Script::observed();
    for ms in [0, 200, 400] {
        script.click(ms, "#buy").at(ms + 50, dom());
    }
    script.at(2400, error("x"));
    let rows = last(&script.rows_at(60_000));
    assert_eq!((kinds(&rows), rows[0].points, rows[0].cause_fp.as_str()), (vec![SignalKind::RageClick], 4, "x"));
    assert!(rows[0].flags.has(Flags::ERROR));
}

#[test]
fn what_cannot_be_observed_is_not_responsive() {
    let mut script = Script::new();
    script.view("/");
    for ms in [0, 200, 400] {
        script.click(ms, "#buy").at(ms + 50, dom());
    }
    let rows = last(&script.rows_at(60_000));
    assert_eq!((kinds(&rows), rows[0].points, rows[0].flags), (vec![SignalKind::RageClick], 4, Flags::default()));
}

/// G-R4, as rows: the selection seen as an event of its own.
#[test]
fn g_r4_a_selection_after_a_click_spoils_the_chain() {
    let mut script = Script::observed();
    script.click(0, "#buy").click(120, "#buy").at(150, Payload::Reaction(Answer::Selection)).click(240, "#buy");
    assert!(!kinds(&script.rows_at(60_000)).contains(&SignalKind::RageClick));
}

#[test]
fn scrolling_by_clicks_is_no_rage() {
    let mut script = Script::observed();
    for n in 0..4 {
        script.click(n * 200, "#down");
        script.at(n * 200 + 100, Payload::Scroll(Scroll { top: 100, viewport: 800, by_user: false }));
    }
    assert_eq!(script.rows_at(60_000), []);
}

#[test]
fn quick_clicks_on_what_is_made_for_them_are_no_rage() {
    for traits in [Traits::TEXT_FIELD, Traits::STEPS, Traits::SURFACE, Traits::SLIDER, Traits::KEYPAD] {
        let mut script = Script::observed();
        for n in 0..5 {
            script.at(n * 100, Payload::Click(Box::new(Click { traits, ..click("#x") })));
        }
        assert_eq!(script.rows_at(60_000), [], "{traits:?}");
    }
}

#[test]
fn what_the_site_ignores_is_not_told() {
    for (ignore, told) in [("rage", vec![SignalKind::DeadClick]), ("dead", vec![SignalKind::RageClick]), ("", vec![])] {
        let mut script = Script::observed();
        for n in 0..3 {
            script.at(n * 100, Payload::Click(Box::new(Click { ignore: Ignore::parse(ignore), ..click("#x") })));
        }
        assert_eq!(kinds(&last(&script.rows_at(60_000))), told, "{ignore}");
    }
    let mut script = Script::observed();
    script.at(0, Payload::Click(Box::new(Click { ignore: Ignore::parse("error dead"), ..click("#x") })));
    script.at(100, error("x"));
    assert_eq!(script.rows_at(60_000), []);
}

#[test]
fn keyboards_scripts_and_other_buttons_make_no_clicks() {
    for other in [
        Click { detail: 0, ..click("#x") },
        Click { x: 0, y: 0, ..click("#x") },
        Click { button: 1, ..click("#x") },
        Click { secondary_pointer: true, ..click("#x") },
    ] {
        let mut script = Script::observed();
        for n in 0..5 {
            script.at(n * 100, Payload::Click(Box::new(other.clone())));
        }
        assert_eq!(script.rows_at(60_000), [], "{other:?}");
    }
}

#[test]
fn a_label_and_its_control_are_one_click() {
    let label = Click { traits: Traits::INTERACTIVE.and(Traits::LABEL), ..click("#check") };
    for (echo_ms, count) in [(5, 3), (6, 6)] {
        let mut script = Script::observed();
        for n in 0..3 {
            script.at(n * 200, Payload::Click(Box::new(label.clone())));
            script.at(n * 200 + echo_ms, Payload::Click(Box::new(click("#check"))));
        }
        let rows = last(&script.rows_at(60_000));
        assert_eq!((rows[0].kind, rows[0].count), (SignalKind::RageClick, count));
    }
}

#[test]
fn a_label_without_a_known_control_takes_the_target_of_the_echo() {
    let label = Click { traits: Traits::INTERACTIVE.and(Traits::LABEL), ..click("label") };
    let mut script = Script::observed();
    script.at(0, Payload::Click(Box::new(label))).click(3, "#check");
    let rows = script.rows_at(60_000);
    assert_eq!((kinds(&rows), rows[0].target_fp.as_str()), (vec![SignalKind::DeadClick], "#check"));
}

/// G-D6, as a row.
#[test]
fn g_d6_a_dead_click_is_told_after_7000_ms() {
    let mut script = Script::observed();
    script.click(0, "#buy");
    assert_eq!(script.rows_at(7000), []);
    let rows = script.rows_at(7001);
    assert_eq!((kinds(&rows), rows[0].points, ids(&rows[0])), (vec![SignalKind::DeadClick], 2, vec!["e1"]));
    assert_eq!((rows[0].start, rows[0].end, rows[0].target_fp.as_str()), (0, 0, "#buy"));
}

/// G-D3, as a row: slow is told as soon as it is certain, and says how slow.
#[test]
fn g_d3_a_reaction_after_2501_ms_is_slow() {
    let mut script = Script::observed();
    script.click(0, "#buy").at(2501, dom());
    let rows = script.rows();
    assert_eq!((kinds(&rows), rows[0].end - rows[0].start), (vec![SignalKind::SlowClick], 2501));
    assert_eq!(script.rows_at(60_000), []);
}

/// G-D9.
#[test]
fn g_d9_a_link_is_no_candidate() {
    let mut script = Script::observed();
    let link = Click { traits: Traits::LINK.and(Traits::INTERACTIVE), ..click("#home") };
    script.at(0, Payload::Click(Box::new(link)));
    assert_eq!(script.rows_at(60_000), []);
}

/// G-D10.
#[test]
fn g_d10_without_the_capability_there_is_no_verdict() {
    let mut script = Script::new();
    script.view("/").click(0, "#buy");
    let measured = Click { reaction: Some(Reaction::default()), ..click("#other") };
    script.at(5000, Payload::Click(Box::new(measured)));
    assert_eq!(script.rows_at(60_000), []);
}

#[test]
fn what_the_browser_measured_is_judged_at_once() {
    let mut script = Script::observed();
    let reaction = Some(Reaction { dom_ms: Some(4000), ..Reaction::default() });
    script.at(0, Payload::Click(Box::new(Click { reaction, ..click("#buy") })));
    assert_eq!(kinds(&script.rows_at(1001)), [SignalKind::SlowClick], "once it is clear that it is alone");
}

#[test]
fn answers_count_from_when_the_pointer_went_down() {
    let held = |ms: i64| Click { pointer_down_ms: Some(ms), ..click("#buy") };
    let mut script = Script::observed();
    script.at(900, dom()).at(1000, Payload::Click(Box::new(held(200))));
    assert_eq!(script.rows_at(60_000), [], "it was answered before the button was let go");
    let mut script = Script::observed();
    script.at(700, dom()).at(1000, Payload::Click(Box::new(held(200))));
    assert_eq!(kinds(&script.rows_at(60_000)), [SignalKind::DeadClick], "what came before that is no answer");
}

#[test]
fn every_kind_of_answer_is_seen_as_an_event() {
    use crate::event::payload::Request;
    for answer in [
        dom(),
        Payload::Reaction(Answer::Open),
        Payload::Input,
        Payload::Reaction(Answer::Focus),
        Payload::Request(Box::default()),
        Payload::PageView(Box::default()),
        Payload::PageLeave(Leave::Navigation),
    ] {
        let mut script = Script::observed();
        script.click(0, "#buy").at(200, answer.clone());
        assert_eq!(script.rows_at(60_000), [], "{answer:?}");
    }
    let denied = Request { denied_host: true, ..Request::default() };
    let mut script = Script::observed();
    script.click(0, "#buy").at(200, Payload::Request(Box::new(denied)));
    assert_eq!(script.rows_at(60_000).len(), 1, "a host that does not matter answers nothing");
}

#[test]
fn a_request_answers_from_its_start() {
    let request = |duration_ms| {
        Payload::Request(Box::new(crate::event::payload::Request {
            status: Some(200),
            duration_ms,
            ..crate::event::payload::Request::default()
        }))
    };
    let mut script = Script::observed();
    script.click(0, "#buy").at(5000, request(4800));
    assert_eq!(script.rows_at(60_000), []);
    let mut script = Script::observed();
    script.click(0, "#buy").at(5000, request(1000));
    assert_eq!(kinds(&script.rows_at(60_000)), [SignalKind::SlowClick]);
}

#[test]
fn closing_the_tab_leaves_a_young_click_unjudged() {
    for (closed, told) in [(2499, 0), (2500, 1)] {
        let mut script = Script::observed();
        script.click(0, "#buy").at(closed, Payload::PageLeave(Leave::Close));
        assert_eq!(script.rows_at(60_000).len(), told, "{closed}");
    }
}

#[test]
fn a_target_clicked_just_before_is_no_candidate() {
    assert_eq!(clicked(&[0, 999]).len(), 1);
    assert_eq!(clicked(&[0, 1001]).len(), 2);
}

/// G-X1.
#[test]
fn g_x1_an_error_after_1999_ms_is_the_clicks() {
    let mut script = Script::observed();
    script.click(0, "#buy").at(100, dom()).at(1999, error("x"));
    let rows = script.rows_at(60_000);
    assert_eq!((kinds(&rows), rows[0].points), (vec![SignalKind::ErrorClick], 5));
    assert_eq!((rows[0].cause_fp.as_str(), ids(&rows[0])), ("x", vec!["e1", "e3"]));
}

/// G-X2.
#[test]
fn g_x2_an_error_after_2001_ms_is_none() {
    let mut script = Script::observed();
    script.click(0, "#buy").at(100, dom()).at(2001, error("x"));
    assert_eq!(script.rows_at(60_000), []);
}

/// G-X3.
#[test]
fn g_x3_only_the_newest_click_has_one_error() {
    let mut script = Script::observed();
    script.click(0, "#buy").at(100, dom()).click(500, "#buy").at(600, dom());
    script.at(800, error("x")).at(900, error("y"));
    let rows = script.rows_at(60_000);
    assert_eq!((kinds(&rows), rows[0].start, rows[0].cause_fp.as_str()), (vec![SignalKind::ErrorClick], 500, "x"));
}

/// G-X4.
#[test]
fn g_x4_an_error_that_comes_all_the_time_is_noise() {
    let mut script = Script::observed();
    for n in 0..4 {
        script.at(n * 3000, error("x"));
    }
    script.click(10_000, "#buy").at(10_100, dom());
    for n in 4..8 {
        script.at(n * 3000, error("x"));
    }
    assert_eq!(script.rows_at(60_000), []);
}

#[test]
fn an_error_on_another_page_is_not_the_clicks() {
    let mut script = Script::observed();
    script.click(0, "#buy").page(500, "/other", PageView::default()).at(600, error("x"));
    assert_eq!(script.rows_at(60_000), []);
    let noise = Payload::Error(Box::new(Error { noise: true, ..Error::default() }));
    let mut script = Script::observed();
    script.click(0, "#buy").at(100, dom()).at(200, noise);
    assert_eq!(script.rows_at(60_000), []);
}

#[test]
fn a_chain_ends_with_its_page() {
    let mut script = Script::observed();
    script.click(0, "#buy").click(100, "#buy").page(200, "/", PageView::default()).click(300, "#buy");
    assert!(!kinds(&script.rows_at(60_000)).contains(&SignalKind::RageClick));
    let mut script = Script::observed();
    script.click(0, "#buy").click(100, "#buy").click(200, "#buy").leave(300);
    let rows = script.rows();
    assert_eq!(
        rows.iter().map(|row| (row.kind, row.rev)).collect::<Vec<_>>(),
        [(SignalKind::RageClick, 0), (SignalKind::RageClick, 1)]
    );
    assert!(rows[1].flags.has(Flags::RESPONSIVE), "leaving answered them");
}

#[test]
fn sentry_calls_five_clicks_on_a_dead_button_rage() {
    let play = |count: i64, answered: bool| {
        let mut script = with_settings(Preset::Sentry.clicks_only());
        (0..count).for_each(|n| {
            script.click(n * 1000, "#buy");
        });
        if answered {
            script.at(count * 1000, dom());
        }
        kinds(&script.rows_at(60_000))
    };
    assert_eq!(play(5, false), [SignalKind::RageClick]);
    assert!(!play(4, false).contains(&SignalKind::RageClick));
    assert!(!play(5, true).contains(&SignalKind::RageClick), "slow is not dead");
}

#[test]
fn datadog_sets_flags_on_its_rage_clicks() {
    let mut script = with_settings(Preset::Datadog.clicks_only());
    script.click(0, "#buy").at(50, dom()).click(200, "#buy").click(400, "#buy").at(450, dom()).at(900, error("x"));
    let rows = last(&script.rows_at(60_000));
    assert_eq!(kinds(&rows), [SignalKind::RageClick]);
    assert_eq!(rows[0].flags.names().collect::<Vec<_>>(), ["dead", "error"]);
}

#[test]
fn an_endless_chain_is_one_signal_of_bounded_size() {
    let clicks: Vec<i64> = (0..2000).map(|n| n * 20).collect();
    let rows = last(&clicked(&clicks));
    assert_eq!((rows.len(), rows[0].count, rows[0].evidence.len(), rows[0].end), (1, 2000, EVIDENCE_MAX, 39_980));
}

#[test]
fn the_51st_dead_click_is_marked() {
    let mut script = Script::observed();
    for n in 0..60 {
        script.click(n * 10_000, &format!("#b{n}"));
    }
    let rows = script.rows_at(1_000_000);
    assert_eq!((rows.len(), rows[50].kind), (51, SignalKind::Capped));
}
