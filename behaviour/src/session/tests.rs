//! Sessions against their golden examples, and against a naive recomputation.

use std::collections::BTreeMap;

use super::row::{Act, Issue, Owner, SessionRow, Visit, VisitSettings, VisitTally, session_row};
use super::*;
use crate::event::Class;
use crate::weight::Weight;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Keeps the ids of a session's events: what went where.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Ids(Vec<String>);

impl Tally for Ids {
    type Row = ();
    type Settings = ();

    fn add(&mut self, (): &(), mark: &Mark<'_>, (): &()) {
        self.0.push(mark.id.to_owned());
    }
}

/// An event of a test.
#[derive(Clone, Debug)]
struct Event {
    time: i64,
    id: String,
    class: Class,
    user: Option<&'static str>,
    campaign: Option<&'static str>,
    leaves: bool,
}

impl Event {
    fn interaction(time: i64) -> Self {
        Self { time, id: format!("e{time}"), class: Class::Interaction, user: None, campaign: None, leaves: false }
    }

    fn passive(time: i64) -> Self {
        Self { class: Class::Passive, ..Self::interaction(time) }
    }

    fn leave(time: i64) -> Self {
        Self { leaves: true, ..Self::passive(time) }
    }

    fn by(self, user: &'static str) -> Self {
        Self { user: Some(user), ..self }
    }

    fn from(self, campaign: &'static str) -> Self {
        Self { campaign: Some(campaign), ..self }
    }

    fn mark(&self) -> Mark<'_> {
        let plain = Mark::plain(self.time, &self.id, self.class);
        Mark { user: self.user, campaign: self.campaign, leaves: self.leaves, ..plain }
    }
}

/// Start, end, events and reason of each session.
type Spans = Vec<(i64, i64, u64, Option<Reason>)>;

fn spans(closed: &[Closed<Ids>]) -> Spans {
    let span = |closed: &Closed<Ids>| {
        let span = &closed.session.span;
        (span.start, span.end(), span.events, Some(closed.reason))
    };
    closed.iter().map(span).collect()
}

fn fold(rules: &Rules, events: &[Event]) -> (Vec<Closed<Ids>>, Vec<String>) {
    let (mut sessions, mut out, mut sessionless) = (Sessions::default(), Vec::new(), Vec::new());
    for event in events {
        if sessions.push(rules, &(), &event.mark(), &(), &mut out) == Placed::Sessionless {
            sessionless.push(event.id.clone());
        }
    }
    sessions.advance(rules, i64::MAX, &mut out);
    (out, sessionless)
}

#[track_caller]
fn check(rules: &Rules, events: &[Event], expected: &[(i64, i64, u64, Reason)]) {
    let expected: Spans = expected.iter().map(|(start, end, n, reason)| (*start, *end, *n, Some(*reason))).collect();
    assert_eq!(spans(&fold(rules, events).0), expected);
}

/// G-S1
#[test]
fn g_s1_a_gap_of_exactly_the_timeout_stays_inside() {
    let events = [0, 10 * MINUTE, 40 * MINUTE].map(Event::interaction);
    check(&Rules::default(), &events, &[(0, 40 * MINUTE, 3, Reason::Idle)]);
}

/// G-S2
#[test]
fn g_s2_a_millisecond_more_makes_two() {
    let events = [0, 10 * MINUTE, 40 * MINUTE + 1].map(Event::interaction);
    let late = 40 * MINUTE + 1;
    check(&Rules::default(), &events, &[(0, 10 * MINUTE, 2, Reason::Idle), (late, late, 1, Reason::Idle)]);
}

/// G-S4
#[test]
fn g_s4_a_session_has_a_greatest_length() {
    let events: Vec<Event> = (0..75).map(|n| Event::interaction(n * 20 * MINUTE)).collect();
    let expected =
        [(0, 24 * HOUR, 73, Reason::MaxDuration), (24 * HOUR + 20 * MINUTE, 24 * HOUR + 40 * MINUTE, 2, Reason::Idle)];
    check(&Rules::default(), &events, &expected);
}

/// G-S5
#[test]
fn g_s5_a_request_does_not_keep_a_session_alive() {
    let events = [Event::interaction(0), Event::passive(25 * MINUTE), Event::interaction(50 * MINUTE)];
    let (closed, sessionless) = fold(&Rules::default(), &events);
    assert_eq!(spans(&closed), [(0, 0, 2, Some(Reason::Idle)), (50 * MINUTE, 50 * MINUTE, 1, Some(Reason::Idle))]);
    assert_eq!(closed[0].session.tally.0, ["e0", "e1500000"]);
    assert!(sessionless.is_empty());
}

#[test]
fn a_passive_event_starts_nothing() {
    let events =
        [Event::passive(0), Event::interaction(MINUTE), Event::passive(31 * MINUTE), Event::passive(31 * MINUTE + 1)];
    let (closed, sessionless) = fold(&Rules::default(), &events);
    assert_eq!(spans(&closed), [(MINUTE, MINUTE, 2, Some(Reason::Idle))]);
    assert_eq!(sessionless, ["e0", "e1860001"]);
}

/// G-S6
#[test]
fn g_s6_midnight_splits_where_it_is_asked_to() {
    let times = [23 * HOUR + 50 * MINUTE, 24 * HOUR + 5 * MINUTE];
    let events = times.map(Event::interaction);
    check(&Rules::default(), &events, &[(times[0], times[1], 2, Reason::Idle)]);
    let rules = Rules { midnight: Some(Zone::utc()), ..Rules::default() };
    check(&rules, &events, &[(times[0], times[0], 1, Reason::Midnight), (times[1], times[1], 1, Reason::Idle)]);
    let rules = Rules { midnight: Some(Zone::fixed(HOUR)), ..Rules::default() };
    check(&rules, &events, &[(times[0], times[1], 2, Reason::Idle)]);
}

/// G-S7
#[test]
fn g_s7_another_campaign_splits_where_it_is_asked_to() {
    let (ten, later) = (10 * HOUR, 10 * HOUR + 5 * MINUTE);
    let events = [Event::interaction(ten).from("A"), Event::interaction(later).from("B")];
    check(&Rules::default(), &events, &[(ten, later, 2, Reason::Idle)]);
    let rules = Rules { campaign_split: true, ..Rules::default() };
    check(&rules, &events, &[(ten, ten, 1, Reason::Campaign), (later, later, 1, Reason::Idle)]);
    let same = [Event::interaction(ten).from("A"), Event::interaction(later), Event::interaction(later + 1).from("A")];
    check(&rules, &same, &[(ten, later + 1, 3, Reason::Idle)]);
}

/// G-S8
#[test]
fn g_s8_another_account_splits() {
    let (ten, later) = (10 * HOUR, 10 * HOUR + 10 * MINUTE);
    let events = [Event::interaction(ten).by("A"), Event::interaction(later).by("B")];
    check(&Rules::default(), &events, &[(ten, ten, 1, Reason::UserSwitch), (later, later, 1, Reason::Idle)]);
    let rules = Rules { user_switch: false, ..Rules::default() };
    let (closed, _) = fold(&rules, &events);
    assert_eq!(spans(&closed), [(ten, later, 2, Some(Reason::Idle))]);
    assert_eq!(closed[0].session.span.user.as_deref(), Some("B"), "the account it closed with");
}

#[test]
fn signing_in_is_no_change_of_account() {
    let events =
        [Event::interaction(0), Event::interaction(1).by("A"), Event::interaction(2), Event::interaction(3).by("A")];
    check(&Rules::default(), &events, &[(0, 3, 4, Reason::Idle)]);
}

#[test]
fn silence_is_the_reason_before_all_others() {
    let rules = Rules { midnight: Some(Zone::utc()), campaign_split: true, max_duration_ms: HOUR, ..Rules::default() };
    let events = [Event::interaction(0).by("A").from("x"), Event::interaction(48 * HOUR).by("B").from("y")];
    check(&rules, &events, &[(0, 0, 1, Reason::Idle), (48 * HOUR, 48 * HOUR, 1, Reason::Idle)]);
}

/// G-S10
#[test]
fn g_s10_the_first_row_after_a_gap_is_in_the_new_session() {
    let events = [0, 31 * MINUTE, 31 * MINUTE + SECOND].map(Event::interaction);
    let expected = [(0, 0, 1, Reason::Idle), (31 * MINUTE, 31 * MINUTE + SECOND, 2, Reason::Idle)];
    check(&Rules::default(), &events, &expected);
}

/// G-S11
#[test]
fn g_s11_a_session_id_is_that_of_the_vector() {
    assert_eq!(session_id("t1", "dev-1", "e1").to_string(), "b5c524faa2fffb58e1cf6cb7ed458eef");
}

#[test]
fn times_at_the_ends_of_the_range_do_no_harm() {
    let events =
        [Event::interaction(i64::MIN), Event::interaction(0), Event::leave(i64::MAX), Event::interaction(i64::MAX)];
    let rules = Rules { idle_timeout_ms: i64::MAX, max_duration_ms: i64::MAX, ..Rules::default() };
    assert_eq!(fold(&rules, &events).0.len(), 1, "the longest gap there is stays open; the first one ended at zero");
    let (closed, _) = fold(&Rules::default(), &events);
    assert_eq!(closed.len(), 2, "the last one cannot be passed: no time is after it");
}

// Visits.

const OWNER: Owner<'_> = Owner { tenant: "t1", salt: "salt", device_key: "dev-1" };

fn rows(events: &[(Event, Visit)]) -> Vec<SessionRow> {
    let (rules, settings) = (Rules::default(), VisitSettings::default());
    let (mut sessions, mut out) = (Sessions::<VisitTally>::default(), Vec::new());
    for (event, visit) in events {
        sessions.push(&rules, &settings, &event.mark(), visit, &mut out);
    }
    sessions.advance(&rules, i64::MAX, &mut out);
    let row = |closed: &Closed<VisitTally>| {
        let issue = Issue { anchor: &closed.session.span.first_id, reason: Some(closed.reason), rev: 0 };
        session_row(OWNER, &settings, &closed.session, issue)
    };
    out.iter().map(row).collect()
}

fn view(time: i64, page_key: &str) -> (Event, Visit) {
    (Event::interaction(time), Visit { act: Act::PageView { page_key: page_key.to_owned() }, ..Visit::default() })
}

/// G-S9
#[test]
fn g_s9_a_visit_of_more_than_ten_seconds_is_engaged() {
    for (left, engaged) in [(10 * SECOND, false), (10 * SECOND + 1, true)] {
        let rows = rows(&[view(0, "/"), (Event::leave(left), Visit::default())]);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].end, rows[0].duration_ms), (left, left));
        assert_eq!((rows[0].engaged, rows[0].bounced), (engaged, !engaged), "{left}");
    }
}

#[test]
fn two_views_or_a_key_event_make_a_visit_engaged() {
    assert!(rows(&[view(0, "/"), view(1, "/b")])[0].engaged);
    let key = (Event::interaction(1), Visit { act: Act::Key, ..Visit::default() });
    assert!(rows(&[view(0, "/"), key])[0].engaged);
    let other = (Event::interaction(1), Visit::default());
    assert!(!rows(&[view(0, "/"), other])[0].engaged);
}

#[test]
fn a_visit_s_row_has_its_pages_and_its_orders_once() {
    let order = |time, id: &str, revenue_minor, currency: &str| {
        let act = Act::Order { order_id: id.to_owned(), revenue_minor, currency: currency.to_owned() };
        (Event::passive(time), Visit { act, ..Visit::default() })
    };
    let campaign = Visit { campaign: Some("spring".to_owned()), ..view(1, "/b").1 };
    let events = [
        view(0, "/a"),
        (Event::interaction(1).by("u1"), campaign),
        order(2, "o1", 5_000, "EUR"),
        order(3, "o1", 5_000, "EUR"),
        order(4, "o2", 700, "USD"),
        order(5, "o3", i64::MAX, "EUR"),
    ];
    let row = &rows(&events)[0];
    assert_eq!((row.entry_page.as_deref(), row.exit_page.as_deref()), (Some("/a"), Some("/b")));
    assert_eq!((row.page_views, row.interactions, row.orders), (2, 2, 3));
    assert_eq!((row.revenue_minor, row.currency.as_deref()), (i64::MAX, Some("EUR")), "money saturates");
    assert_eq!(row.campaign.as_deref(), Some("spring"));
    assert_eq!(row.person, Some(crate::identity::identity(&["salt", "u1"])));
    assert_eq!(row.session_id, session_id("t1", "dev-1", "e0"));
    assert!(!row.is_bot);
}

#[test]
fn a_visit_is_a_bot_s_from_one_sign_on() {
    let fast: Vec<_> = (0..=300).map(|n| (Event::interaction(n), Visit::default())).collect();
    assert_eq!(rows(&fast)[0].bot_reason, Some(bots::BotReason::InteractionRate));
    assert!(!rows(&fast[..300])[0].is_bot);
}

// Live.

/// Lets live sessions run and keeps the table that a reader of their changes would have.
#[derive(Clone, Default)]
struct Reader {
    live: Live<Ids>,
    table: BTreeMap<String, Change<Ids>>,
    moved: Vec<(String, String)>,
    sessionless: Vec<String>,
}

impl Reader {
    fn push(&mut self, event: &Event) -> Placed {
        self.live.push(&event.mark(), ())
    }

    fn advance(&mut self, rules: &Rules, lateness_ms: i64, to: i64) -> Vec<Change<Ids>> {
        let mut out = Output::default();
        self.live.advance(rules, &(), lateness_ms, to, &mut out);
        for change in &out.changes {
            match change.weight {
                Weight::Retract => {
                    let old = self.table.remove(&change.anchor).expect("what is retracted is there");
                    assert_eq!((&old.session, old.rev), (&change.session, change.rev));
                }
                Weight::Insert => {
                    assert!(self.table.insert(change.anchor.clone(), change.clone()).is_none(), "one row per name");
                }
            }
        }
        self.moved.extend(out.moved.into_iter().map(|moved| (moved.from, moved.to)));
        self.sessionless.extend(out.sessionless.into_iter().map(|(id, ())| id));
        out.changes
    }

    fn spans(&self) -> Spans {
        let span = |change: &Change<Ids>| {
            let span = &change.session.span;
            (span.start, span.end(), span.events, change.reason)
        };
        let mut spans: Spans = self.table.values().map(span).collect();
        spans.sort_by_key(|span| span.0);
        spans
    }

    fn sessions(&self) -> Vec<(Session<Ids>, Option<Reason>)> {
        let mut all: Vec<_> = self.table.values().map(|row| (row.session.clone(), row.reason)).collect();
        all.sort_by_key(|(session, _)| session.span.start);
        all
    }
}

/// G-S3
#[test]
fn g_s3_a_late_event_that_bridges_two_sessions_merges_them() {
    let rules = Rules { idle_timeout_ms: 5, ..Rules::default() };
    let mut reader = Reader::default();
    for time in [10, 12, 20] {
        reader.push(&Event::interaction(time));
    }
    reader.advance(&rules, 100, 20);
    assert_eq!(reader.spans(), [(10, 12, 2, Some(Reason::Idle)), (20, 20, 1, None)]);
    reader.push(&Event::interaction(16));
    let changes = reader.advance(&rules, 100, 20);
    let told: Vec<_> = changes.iter().map(|change| (change.weight, change.anchor.as_str(), change.rev)).collect();
    assert_eq!(told, [(Weight::Retract, "e20", 0), (Weight::Retract, "e10", 0), (Weight::Insert, "e10", 1)]);
    assert_eq!(reader.spans(), [(10, 20, 4, None)]);
    assert_eq!(reader.moved, [("e20".to_owned(), "e10".to_owned())]);
}

#[test]
fn the_name_stays_when_an_earlier_event_comes_late() {
    let rules = Rules { idle_timeout_ms: 5, ..Rules::default() };
    let mut reader = Reader::default();
    reader.push(&Event::interaction(10));
    reader.advance(&rules, 100, 10);
    reader.push(&Event::interaction(8));
    reader.advance(&rules, 100, 10);
    assert_eq!(reader.table.keys().collect::<Vec<_>>(), ["e10"]);
    assert_eq!(reader.table["e10"].rev, 1);
    assert_eq!(reader.spans(), [(8, 10, 2, None)]);
}

#[test]
fn a_late_event_may_cut_a_session_in_two() {
    let rules = Rules { idle_timeout_ms: 5, ..Rules::default() };
    let mut reader = Reader::default();
    for event in [Event::interaction(10).by("A"), Event::interaction(12), Event::interaction(14)] {
        reader.push(&event);
    }
    reader.advance(&rules, 100, 14);
    reader.push(&Event::interaction(11).by("B"));
    reader.advance(&rules, 100, 14);
    assert_eq!(reader.spans(), [(10, 10, 1, Some(Reason::UserSwitch)), (11, 14, 3, None)]);
    assert_eq!(reader.table.keys().collect::<Vec<_>>(), ["e10", "e11"]);
}

#[test]
fn what_comes_after_the_lateness_is_late_and_changes_nothing() {
    let rules = Rules { idle_timeout_ms: 5, ..Rules::default() };
    let mut reader = Reader::default();
    reader.push(&Event::interaction(100));
    reader.advance(&rules, 10, 120);
    let before = reader.spans();
    assert_eq!(reader.push(&Event::interaction(109)), Placed::Late);
    assert_eq!(reader.push(&Event::interaction(110)), Placed::Joined, "just in time");
    reader.advance(&rules, 10, 121);
    assert_eq!(reader.spans()[..1], before[..]);
    reader.advance(&rules, 10, i64::MAX);
    assert!(reader.live.is_empty(), "nothing is kept of a key that has fallen silent");
}

#[test]
fn too_many_kept_events_are_settled_before_their_time() {
    let rules = Rules::default();
    let (mut live, mut out) = (Live::<()>::default(), Output::default());
    let count = live::HELD_MAX as i64 + 10;
    for time in 0..count {
        live.push(&Mark::plain(time, "e", Class::Interaction), ());
    }
    live.advance(&rules, &(), HOUR, count, &mut out);
    assert_eq!((live.held(), out.forced), (live::HELD_MAX, 10));
    assert_eq!(live.push(&Mark::plain(9, "e", Class::Interaction), ()), Placed::Late);
    assert_eq!(out.changes.len(), 1);
    assert_eq!(out.changes[0].session.span.events, count as u64);
}

#[test]
fn a_visit_becomes_a_bot_s_after_it_was_published() {
    let (rules, settings) = (Rules::default(), VisitSettings::default());
    let (mut live, mut out) = (Live::<VisitTally>::default(), Output::default());
    let is_bot = |change: &Change<VisitTally>| {
        let issue = Issue { anchor: &change.anchor, reason: change.reason, rev: change.rev };
        (change.weight, session_row(OWNER, &settings, &change.session, issue).is_bot)
    };
    let (event, visit) = view(0, "/");
    live.push(&event.mark(), visit);
    live.advance(&rules, &settings, MINUTE, 0, &mut out);
    let driven = Visit { bot: bots::by_browser(Some("HeadlessChrome"), false), ..Visit::default() };
    live.push(&Event::interaction(1).mark(), driven);
    live.advance(&rules, &settings, MINUTE, 1, &mut out);
    let told: Vec<(Weight, bool)> = out.changes.iter().map(is_bot).collect();
    assert_eq!(told, [(Weight::Insert, false), (Weight::Retract, false), (Weight::Insert, true)]);
}

// Properties.

/// A small seeded generator.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn random_rules(dice: &mut Dice) -> Rules {
    Rules {
        idle_timeout_ms: 1 + dice.roll(8) as i64,
        max_duration_ms: 5 + dice.roll(40) as i64,
        user_switch: dice.roll(4) > 0,
        midnight: (dice.roll(3) == 0).then(|| Zone::fixed(dice.roll(1_000) as i64)),
        campaign_split: dice.roll(2) == 0,
        referrer_split: false,
    }
}

/// Random events in total order.
fn random_events(dice: &mut Dice, count: usize) -> Vec<Event> {
    let mut time = 86_400_000 - 100;
    let event = |nth: usize| {
        time += [0, 0, 1, 1, 2, 3, 5, 9][dice.roll(8) as usize];
        let mut event = if dice.roll(4) == 0 { Event::passive(time) } else { Event::interaction(time) };
        event.id = format!("e{nth:03}");
        event.leaves = event.class == Class::Passive && dice.roll(2) == 0;
        event.user = [None, None, None, Some("A"), Some("A"), Some("B")][dice.roll(6) as usize];
        event.campaign = [None, None, Some("x"), Some("y")][dice.roll(4) as usize];
        event
    };
    (0..count).map(event).collect()
}

/// The fold, written for all events at once and with no state but the list of sessions: each is looked at anew.
fn naive(rules: &Rules, events: &[Event]) -> (Vec<(Vec<String>, Reason)>, Vec<String>) {
    let (mut sessions, mut sessionless): (Vec<(Vec<&Event>, Option<Reason>)>, _) = (Vec::new(), Vec::new());
    for event in events {
        let last = sessions.last_mut().filter(|(members, _)| {
            let last = members.iter().rfind(|member| member.class == Class::Interaction).unwrap();
            event.time - last.time <= rules.idle_timeout_ms
        });
        let Some((members, reason)) = last else {
            match event.class {
                Class::Interaction => sessions.push((vec![event], None)),
                Class::Passive => sessionless.push(event.id.clone()),
            }
            continue;
        };
        let last = members.iter().rfind(|member| member.class == Class::Interaction).unwrap();
        let user = members.iter().find_map(|member| member.user);
        let cut = [
            (Reason::UserSwitch, rules.user_switch && user.is_some() && event.user.is_some() && user != event.user),
            (Reason::MaxDuration, event.time - members[0].time > rules.max_duration_ms),
            (Reason::Midnight, rules.midnight.as_ref().is_some_and(|zone| zone.day(event.time) != zone.day(last.time))),
            (
                Reason::Campaign,
                rules.campaign_split && event.campaign.is_some() && members[0].campaign != event.campaign,
            ),
        ];
        match cut.iter().find(|(_, holds)| *holds && event.class == Class::Interaction) {
            Some((why, _)) => {
                *reason = Some(*why);
                sessions.push((vec![event], None));
            }
            None => members.push(event),
        }
    }
    let ids = |(members, reason): (Vec<&Event>, Option<Reason>)| {
        (members.iter().map(|member| member.id.clone()).collect(), reason.unwrap_or(Reason::Idle))
    };
    (sessions.into_iter().map(ids).collect(), sessionless)
}

#[test]
fn the_fold_is_the_naive_one() {
    for seed in 1..400 {
        let mut dice = Dice(seed);
        let rules = random_rules(&mut dice);
        let events = random_events(&mut dice, 60);
        let (closed, sessionless) = fold(&rules, &events);
        let found: Vec<_> = closed.into_iter().map(|closed| (closed.session.tally.0, closed.reason)).collect();
        assert_eq!((found, sessionless), naive(&rules, &events), "seed {seed}");
    }
}

#[test]
fn saving_and_telling_the_time_change_nothing() {
    for seed in 1..200 {
        let mut dice = Dice(seed);
        let rules = random_rules(&mut dice);
        let events = random_events(&mut dice, 40);
        let (mut sessions, mut out) = (Sessions::<Ids>::default(), Vec::new());
        for event in &events {
            for to in event.time - 3..=event.time {
                sessions.advance(&rules, to, &mut out);
            }
            let saved = serde_json::to_string(&sessions).unwrap();
            sessions = serde_json::from_str(&saved).unwrap();
            sessions.push(&rules, &(), &event.mark(), &(), &mut out);
        }
        sessions.advance(&rules, i64::MAX, &mut out);
        assert_eq!(out, fold(&rules, &events).0, "seed {seed}");
    }
}

/// Lets events arrive out of order, each at most `lateness` of event time after its turn, with publications in between.
fn arrive(dice: &mut Dice, rules: &Rules, events: &[Event], lateness: i64) -> Reader {
    let mut arrivals: Vec<(i64, &Event)> =
        events.iter().map(|event| (event.time + dice.roll(lateness as u64) as i64, event)).collect();
    arrivals.sort_by_key(|(arrival, _)| *arrival);
    let mut reader = Reader::default();
    for (arrival, event) in arrivals {
        if dice.roll(3) == 0 {
            // The watermark may be as far as the arrival: no event is then later than the lateness allows.
            reader.advance(rules, lateness, arrival);
        }
        if dice.roll(3) == 0 {
            let saved = serde_json::to_string(&reader.live).unwrap();
            reader.live = serde_json::from_str(&saved).unwrap();
        }
        assert_eq!(reader.push(event), Placed::Joined);
    }
    reader.advance(rules, lateness, i64::MAX);
    reader
}

#[test]
fn live_sessions_end_as_the_final_ones_in_any_order_of_arrival() {
    for seed in 1..150 {
        let mut dice = Dice(seed);
        let rules = random_rules(&mut dice);
        let events = random_events(&mut dice, 50);
        let (closed, sessionless) = fold(&rules, &events);
        let expected: Vec<_> = closed.into_iter().map(|closed| (closed.session, Some(closed.reason))).collect();
        let lateness = 1 + dice.roll(30) as i64;
        let reader = arrive(&mut dice, &rules, &events, lateness);
        assert_eq!(reader.sessions(), expected, "seed {seed}");
        assert_eq!(reader.sessionless, sessionless, "seed {seed}");
        assert!(reader.live.is_empty());
        for (name, row) in &reader.table {
            assert!(row.session.tally.0.contains(name), "seed {seed}: a session has the event that names it");
        }
    }
}
