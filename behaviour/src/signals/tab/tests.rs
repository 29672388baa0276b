use proptest::prelude::*;

use super::super::samples::{ALL_CAPS, Script, click, event, last};
use super::super::scene::Machine;
use super::super::{SignalKind, settings::Settings};
use super::*;
use crate::event::payload::*;
use crate::target::Traits;

fn with_mono(mut event: Event, load: &str, mono_ms: i64) -> Event {
    event.page_load = load.to_owned();
    event.mono_us = Some(mono_ms * 1000);
    event
}

fn rage_count(rows: &[Signal]) -> u32 {
    let rage = last(rows).into_iter().find(|row| row.kind == SignalKind::RageClick);
    rage.map_or(0, |row| row.count)
}

/// G-E3, as a signal: clicks whose uploads differ by 400 ms are as near as the browser's own clock says.
#[test]
fn g_e3_clicks_of_two_uploads_are_one_chain() {
    let mut script = Script::observed();
    let click =
        |number, ms, mono_ms| with_mono(event(number, ms, "/", Payload::Click(Box::new(click("#buy")))), "l1", mono_ms);
    script.feed(&click(1, 1000, 100)).feed(&click(2, 2200, 900)).feed(&click(3, 2300, 1000));
    assert_eq!(rage_count(&script.rows_at(60_000)), 3);
    let mut script = Script::observed();
    let without = |number, ms| event(number, ms, "/", Payload::Click(Box::new(super::super::samples::click("#buy"))));
    script.feed(&without(1, 1000)).feed(&without(2, 2200)).feed(&without(3, 2300));
    assert_eq!(rage_count(&script.rows_at(60_000)), 0, "by event time they are too far apart");
}

/// A browser that is not sure sends again. The second copy is received, and so corrected, at another time.
#[test]
fn an_event_that_is_sent_again_counts_once() {
    let click =
        |number, ms, mono_ms| with_mono(event(number, ms, "/", Payload::Click(Box::new(click("#buy")))), "l1", mono_ms);
    let count = |again: u64| {
        let mut script = Script::observed();
        script.feed(&click(1, 1000, 100)).feed(&click(2, 1300, 400)).feed(&click(again, 1900, 400));
        rage_count(&script.rows_at(60_000))
    };
    assert_eq!((count(2), count(3)), (0, 3), "another event of that time is another event");
}

/// An answer that event time puts before its click, and the browser's clock behind it.
#[test]
fn events_are_put_in_the_order_of_the_browsers_clock() {
    let page = |ms, mono| {
        let view = PageView { caps: ALL_CAPS, ..PageView::default() };
        with_mono(event(90, ms, "/", Payload::PageView(Box::new(view))), "l1", mono)
    };
    let click = with_mono(event(1, 5400, "/", Payload::Click(Box::new(click("#buy")))), "l1", 5000);
    let dom = with_mono(event(2, 5200, "/", Payload::Reaction(Answer::Dom)), "l1", 5100);
    let mut script = Script::new();
    script.feed(&page(0, 0)).feed(&dom).feed(&click);
    assert_eq!(script.rows_at(60_000), []);
}

#[test]
fn an_event_of_a_page_that_is_gone_says_nothing_about_the_next() {
    let view = |number, ms, load: &str| {
        let view = PageView { caps: ALL_CAPS, ..PageView::default() };
        let mut event = event(number, ms, "/", Payload::PageView(Box::new(view)));
        event.page_load = load.to_owned();
        event
    };
    let dom = |load: &str| {
        let mut event = event(9, 1100, "/", Payload::Reaction(Answer::Dom));
        event.page_load = load.to_owned();
        event
    };
    let mut at = event(3, 1000, "/", Payload::Click(Box::new(click("#buy"))));
    at.page_load = "l2".to_owned();
    let mut script = Script::new();
    script.feed(&view(1, 0, "l1")).feed(&view(2, 500, "l2")).feed(&at).feed(&dom("l1"));
    assert_eq!(script.rows_at(60_000).len(), 1, "dead all the same");
    assert_eq!(script.tab.strays(), 1);
}

#[test]
fn a_page_that_came_back_can_be_left_again() {
    let mut script = Script::observed();
    script.leave(0).click(1000, "#buy").click(1100, "#buy");
    script.page(1200, "/", PageView { caps: ALL_CAPS, ..PageView::default() }).click(1300, "#buy").click(1400, "#buy");
    assert_eq!(rage_count(&script.rows_at(60_000)), 0, "two clicks on each of two pages");
}

#[test]
fn a_page_without_a_view_is_a_page_of_which_nothing_is_known() {
    let mut script = Script::observed();
    script.click(0, "#buy").click(100, "#buy");
    let mut other = event(9, 200, "/next", Payload::Click(Box::new(click("#buy"))));
    other.page_load = "l2".to_owned();
    script.feed(&other);
    assert_eq!(script.rows_at(60_000), []);
}

#[test]
fn only_enabled_signals_are_told() {
    let only = super::super::settings::Enabled::only(&[SignalKind::RageClick]);
    let mut script = Script::with(Settings { enabled: only, ..Settings::default() });
    script.page(-10, "/", PageView { caps: ALL_CAPS, ..PageView::default() });
    script.click(0, "#a").click(10_000, "#b").click(10_100, "#b").click(10_200, "#b");
    let kinds: Vec<_> = script.rows_at(60_000).iter().map(|row| row.kind).collect();
    assert_eq!(kinds, [SignalKind::RageClick; 2]);
}

#[test]
fn what_a_tab_waits_for_is_known() {
    let mut script = Script::observed();
    assert_eq!(script.tab.due(&script.settings), None);
    script.click(0, "#buy");
    assert_eq!(script.tab.due(&script.settings), Some(1001));
    script.rows_at(1001);
    assert_eq!(script.tab.due(&script.settings), Some(7001));
    script.rows_at(7001);
    assert_eq!(script.tab.due(&script.settings), None);
}

#[test]
fn extreme_events_do_not_panic() {
    for time in [i64::MIN, -1, 0, i64::MAX] {
        for mono_us in [None, Some(i64::MIN), Some(i64::MAX)] {
            let mut script = Script::observed();
            for payload in [
                Payload::Click(Box::new(Click { pointer_down_ms: Some(i64::MAX), ..click("#x") })),
                Payload::LongTask { duration_ms: i64::MIN },
                Payload::Blank { blank_ms: i64::MIN },
                Payload::Request(Box::new(Request { status: Some(0), duration_ms: i64::MIN, ..Request::default() })),
                Payload::CursorBurst(CursorBurst {
                    reversals_x: 99,
                    path_px: i64::MAX,
                    span_ms: i64::MIN,
                    ..Default::default()
                }),
                Payload::CheckoutStarted,
                Payload::OrderCompleted,
            ] {
                let mut event = event(1, time, "/", payload);
                (event.mono_us, event.page_load) = (mono_us, "l".to_owned());
                script.feed(&event);
            }
            script.rows_at(i64::MAX);
            script.close(i64::MAX);
        }
    }
}

#[test]
fn held_events_are_bounded() {
    let mut script = Script::observed();
    for n in 0..5000 {
        script.feed(&with_mono(event(n, 1000, "/", Payload::Key), "l", 0));
        assert!(script.tab.held.len() <= HELD_MAX);
    }
}

/// However much comes, and with whatever names, the state of a tab stays small.
#[test]
fn the_state_of_a_hostile_tab_is_bounded() {
    for mono in [false, true] {
        let mut script = Script::observed();
        let mut random = 1_u64;
        let mut bytes_max = 0;
        for n in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mut payload = payload((random % 33) as u8, (random >> 8) as u8);
            payload.names_mut().into_iter().for_each(|name| *name = format!("{n}{}", "x".repeat(300)));
            let mut event = event(n, (n as i64) * 20, "/", payload);
            event.this.id = format!("{n}{}", "x".repeat(200));
            if mono {
                (event.mono_us, event.page_load) = (Some(n as i64 * 20_000), "l".to_owned());
            }
            event.cut();
            script.feed(&event);
            if n % 500 == 0 {
                bytes_max = bytes_max.max(serde_json::to_string(&script.tab).unwrap().len());
            }
        }
        assert!((10_000..STATE_BYTES_MAX).contains(&bytes_max), "{bytes_max}");
    }
}

/// What a tab of such events takes when written down, at most; 115 KiB were seen.
const STATE_BYTES_MAX: usize = 256 * 1024;

/// One event of a random visit: how long after the one before, its kind, and a number for what it says.
type Draw = (u16, u8, u8);

fn payload(kind: u8, what: u8) -> Payload {
    let form = Form {
        form_fp: format!("#f{}", what % 2),
        field_fp: format!("field{}", what % 3),
        submit_id: format!("s{}", what % 4),
        ..Form::default()
    };
    let target = ["#a", "#b", "#c", ""][usize::from(what % 4)];
    let answers = [Answer::Dom, Answer::Focus, Answer::Selection, Answer::Visibility, Answer::Open];
    let status = [None, Some(200), Some(500), Some(0), Some(401), Some(404)][usize::from(what % 6)];
    match kind {
        0..8 => {
            let place = 100 + i32::from(what % 3) * 20;
            let traits = if what < 200 { Traits::INTERACTIVE.and(Traits::MAIN_BUTTON) } else { Traits::TEXT_FIELD };
            let selection = what == 77;
            Payload::Click(Box::new(Click { x: place, traits, selection, ..click(target) }))
        }
        8 => Payload::Reaction(answers[usize::from(what % 5)]),
        9 => Payload::Error(Box::new(Error {
            error_fp: format!("x{}", what % 3),
            hydration: what > 250,
            ..Error::default()
        })),
        10 => Payload::Request(Box::new(Request {
            endpoint_fp: format!("GET /{}", what % 3),
            status,
            initiator: form.submit_id,
            ..Request::default()
        })),
        11 => Payload::FormChange(form),
        12 => Payload::FormSubmit(form),
        13 => Payload::FormError(form),
        14 => Payload::PageLeave(if what < 128 { Leave::Navigation } else { Leave::Close }),
        15 | 16 => {
            let navigation = [Navigation::Navigate, Navigation::Reload, Navigation::BackForward][usize::from(what % 3)];
            Payload::PageView(Box::new(PageView { navigation, caps: ALL_CAPS, ..PageView::default() }))
        }
        17 => Payload::Search { query_hash: (what % 4).to_string() },
        18 => Payload::LongTask { duration_ms: i64::from(what) * 10 },
        19 => Payload::Responded { latency_ms: i64::from(what) * 4 },
        20 => Payload::DomDrop { removed_pct: what },
        21 => Payload::CheckoutStep { step: (what % 2).to_string() },
        22 => {
            if what < 20 {
                Payload::OrderCompleted
            } else {
                Payload::CouponDenied
            }
        }
        23 => Payload::Swipe(Box::new(Swipe { dx: i32::from(what), pointers: 1, ..Swipe::default() })),
        24..28 => Payload::MouseMove(MouseMove { x: i32::from(what) * 5, y: 0, ..MouseMove::default() }),
        28..31 => Payload::Scroll(Scroll { top: i32::from(what) * 10, viewport: 800, by_user: true }),
        _ => Payload::Key,
    }
}

/// A random visit in the total order; `mono`: with a monotonic clock that strays from event time.
fn visit(draws: &[Draw], mono: bool) -> Vec<Event> {
    let mut ms = 0;
    let mut events: Vec<Event> = Vec::new();
    for (number, &(gap, kind, what)) in draws.iter().enumerate() {
        ms += i64::from(gap);
        let page = ["/a", "/b", "/c"][usize::from(what % 3)];
        let mut event = event(number as u64, ms, page, payload(kind, what));
        if mono {
            event.page_load = "l".to_owned();
            event.mono_us = Some((ms + i64::from(what % 7) * 100) * 1000);
        }
        events.push(event);
    }
    events.sort_by(Event::total_order);
    events
}

/// Checks that `R` is nothing but what its beginning is, until an event wakes it.
fn sleeps_until_woken<R: Machine + std::fmt::Debug>(events: &[Event], settings: &Settings) {
    let page = Page { caps: ALL_CAPS, ..Page::default() };
    let scene = Scene { settings, page: &page };
    let (mut ledger, mut out) = (Ledger::new("t1", "s1"), Vec::new());
    let mut desk = Desk::new(settings, &mut ledger, &mut out);
    let mut emit = desk.emit();
    let mut rule = R::default();
    for event in events.iter().filter(|event| !R::wakes(&event.payload)) {
        let at_us = event.time * 1000;
        rule.see(&Seen { event, at_us }, &scene, &mut emit);
        rule.fire(at_us, &scene, &mut emit);
        rule.leave(&Moment { at_us, time: event.time, how: Leave::Navigation }, &scene, &mut emit);
        rule.close(&scene, &mut emit);
        assert_eq!((&rule, rule.due_us(settings)), (&R::default(), None), "after {event:?}");
    }
    assert!(emit.notes.is_empty() && emit.successes.is_empty() && emit.out.is_empty());
}

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    // Mostly quick, now and then a long pause.
    let gap = prop_oneof![6 => 0u16..400, 2 => 400u16..3000, 1 => 3000u16..u16::MAX];
    prop::collection::vec((gap, 0u8..33, any::<u8>()), 0..80)
}

/// The rows of a visit. `restart`: before which event the state is saved and restored; `tick`: how often the time is told, in ms.
fn play(events: &[Event], restart: Option<usize>, tick: Option<i64>) -> Vec<Signal> {
    let settings = Settings::default();
    let (mut tab, mut ledger, mut out) = (Tab::default(), Ledger::new("t1", "s1"), Vec::new());
    let mut now = 0;
    for (at, event) in events.iter().enumerate() {
        if restart.is_none_or(|restart| restart == at) && tick.is_none() {
            let saved = serde_json::to_string(&(&tab, &ledger)).unwrap();
            (tab, ledger) = serde_json::from_str(&saved).unwrap();
        }
        let mut desk = Desk::new(&settings, &mut ledger, &mut out);
        if let Some(tick) = tick {
            while now < event.time {
                now = (now + tick).min(event.time);
                tab.advance(now, &mut desk);
            }
        }
        tab.push(event, &mut desk);
    }
    let end = events.last().map_or(0, |event| event.time) + 100_000;
    let mut desk = Desk::new(&settings, &mut ledger, &mut out);
    tab.advance(end, &mut desk);
    tab.close(end, &mut desk);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_rule_sleeps_until_it_is_woken(draws in draws()) {
        let (events, settings) = (visit(&draws, false), Settings::default());
        sleeps_until_woken::<Clicks>(&events, &settings);
        sleeps_until_woken::<QuickBack>(&events, &settings);
        sleeps_until_woken::<ThrashedCursor>(&events, &settings);
        sleeps_until_woken::<ExcessiveScroll>(&events, &settings);
        sleeps_until_woken::<Forms>(&events, &settings);
        sleeps_until_woken::<NetworkErrors>(&events, &settings);
        sleeps_until_woken::<ReloadLoop>(&events, &settings);
        sleeps_until_woken::<Jank>(&events, &settings);
        sleeps_until_woken::<AppCrash>(&events, &settings);
        sleeps_until_woken::<DeadSwipe>(&events, &settings);
        sleeps_until_woken::<SearchStruggle>(&events, &settings);
        sleeps_until_woken::<Checkout>(&events, &settings);
    }

    #[test]
    fn a_restart_before_every_event_changes_nothing(draws in draws(), mono: bool) {
        let events = visit(&draws, mono);
        prop_assert_eq!(play(&events, None, None), play(&events, Some(usize::MAX), None));
    }

    #[test]
    fn telling_the_time_more_often_changes_nothing(draws in draws(), mono: bool, tick in 1i64..5000) {
        let events = visit(&draws, mono);
        let tick = tick.max(7);
        prop_assert_eq!(play(&events, Some(usize::MAX), Some(tick)), play(&events, Some(usize::MAX), None));
    }

    #[test]
    fn the_order_of_arrival_changes_nothing(draws in draws(), mono: bool, by in 1usize..80) {
        let events = visit(&draws, mono);
        let mut shuffled = events.clone();
        if !shuffled.is_empty() {
            let by = by % shuffled.len();
            shuffled.rotate_left(by);
            shuffled.reverse();
        }
        shuffled.sort_by(Event::total_order);
        prop_assert_eq!(&events, &shuffled);
        prop_assert_eq!(play(&events, Some(usize::MAX), None), play(&shuffled, Some(usize::MAX), None));
    }

    #[test]
    fn every_row_rests_on_events_and_revisions_count_up(draws in draws(), mono: bool) {
        let rows = play(&visit(&draws, mono), Some(usize::MAX), None);
        let mut revs = std::collections::BTreeMap::new();
        for row in &rows {
            prop_assert!(!row.evidence.is_empty() && row.evidence.len() <= 20);
            prop_assert!(row.start <= row.end, "{:?}", row);
            let next = revs.entry(row.signal_id).or_insert(0);
            prop_assert_eq!(row.rev, *next, "{:?}", row);
            *next += 1;
        }
        let told = last(&rows).len();
        prop_assert!(told <= 201);
    }
}

/// The random visits are worth their name only if they have signals of many kinds.
#[test]
fn random_visits_have_signals_of_many_kinds() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut kinds = std::collections::BTreeMap::new();
    for _ in 0..300 {
        let draws = draws().new_tree(&mut runner).unwrap().current();
        for row in play(&visit(&draws, false), Some(usize::MAX), None) {
            *kinds.entry(row.kind).or_insert(0) += 1;
        }
    }
    assert!(kinds.len() >= 10, "{kinds:?}");
}
