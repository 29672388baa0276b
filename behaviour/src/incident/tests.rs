//! Incidents and problems against their golden examples.

use std::collections::BTreeMap;

use super::case::{Outcome, Owner, SIGNALS_MAX, Settings};
use super::points::{Group, assess, fingerprint};
use super::problem::MEMBERS_MAX;
use super::*;
use crate::identity::{Id, identity};
use crate::signals::{Flags, Signal, SignalKind as Kind};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const OWNER: Owner<'_> = Owner { tenant: "t1", session: "s1" };

fn signal(kind: Kind, points: u32, target: &str, page: &str, end: i64) -> Signal {
    let hard = !matches!(kind, Kind::ThrashedCursor | Kind::ExcessiveScroll | Kind::QuickBack | Kind::Jank);
    Signal {
        signal_id: identity(&["sig", &format!("{kind:?}"), target, &end.to_string()]),
        rev: 0,
        kind,
        page_key: page.to_owned(),
        target_fp: target.to_owned(),
        cause_fp: String::new(),
        start: end - 10,
        end,
        count: 1,
        flags: Flags::default(),
        points,
        hard,
        evidence: Vec::new(),
    }
}

fn judged(signals: &[Signal]) -> points::Assessment {
    assess(&Scoring::default(), &signals.iter().collect::<Vec<_>>()).expect("there are signals")
}

/// G-P1
#[test]
fn g_p1_signals_of_the_checkout_are_worth_half_as_much_again() {
    let page = "/checkout";
    let found = judged(&[
        signal(Kind::RageClick, 4, "#pay", page, 0),
        signal(Kind::ErrorClick, 5, "#pay", page, MINUTE),
        signal(Kind::SubmitFailures, 5, "#form", page, 4 * MINUTE),
    ]);
    assert_eq!(found.peak, 6 + 7 + 7);
    assert_eq!(Scoring::default().severity(found.peak), Severity::High);
}

/// G-P2
#[test]
fn g_p2_a_repeat_is_worth_half() {
    let dead: Vec<Signal> = (0..4).map(|n| signal(Kind::DeadClick, 2, "#x", "/", n * SECOND)).collect();
    let found = judged(&dead);
    assert_eq!((found.peak, found.total), (3, 3));
    assert_eq!(Scoring::default().severity(found.peak), Severity::Low);
    assert_eq!(found.opened_at, None);
}

/// G-P3
#[test]
fn g_p3_soft_signals_alone_open_nothing() {
    let soft = [Kind::ThrashedCursor, Kind::ExcessiveScroll, Kind::QuickBack];
    let found = judged(&soft.map(|kind| signal(kind, 1, "", "/", 0)));
    assert_eq!((found.peak, found.opened_at), (3, None));
    let many: Vec<Signal> = (0..9).map(|n| signal(Kind::Jank, 1, &n.to_string(), "/", n)).collect();
    assert_eq!((judged(&many).peak, judged(&many).opened_at), (9, None));
}

/// G-P4
#[test]
fn g_p4_six_points_with_a_hard_signal_open() {
    let found = judged(&[signal(Kind::RageClick, 4, "#a", "/", 0), signal(Kind::DeadClick, 2, "#b", "/", SECOND)]);
    assert_eq!((found.peak, found.opened_at), (6, Some(SECOND)));
    assert_eq!(Scoring::default().severity(6), Severity::Medium);
    assert_eq!(
        [5, 14, 15, 24, 25].map(|peak| Scoring::default().severity(peak)),
        [Severity::Low, Severity::Medium, Severity::High, Severity::High, Severity::Critical]
    );
}

#[test]
fn points_count_for_less_than_five_minutes() {
    let pair = |apart| [signal(Kind::RageClick, 4, "#a", "/", 0), signal(Kind::DeadClick, 2, "#b", "/", apart)];
    assert_eq!(judged(&pair(5 * MINUTE - 1)).peak, 6);
    assert_eq!(judged(&pair(5 * MINUTE)).peak, 4, "the span is open at its beginning");
}

#[test]
fn a_crash_and_a_stuck_checkout_open_alone() {
    for kind in [Kind::AppCrash, Kind::CheckoutStuck] {
        assert_eq!(judged(&[signal(kind, 5, "", "/", 7)]).opened_at, Some(7), "{kind:?}");
        assert_eq!(judged(&[signal(kind, 0, "", "/", 7)]).opened_at, None, "it came right");
        let soft = Signal { hard: false, ..signal(kind, 2, "", "/", 7) };
        assert_eq!(judged(&[soft]).opened_at, None, "a page that was not taken over is no crash");
    }
    assert_eq!(judged(&[signal(Kind::ErrorClick, 5, "", "/", 7)]).opened_at, None);
}

#[test]
fn the_primary_signal_has_the_most_points_then_the_worse_kind_then_is_the_earlier() {
    let primary = |signals: &[Signal]| signals[judged(signals).primary].kind;
    let rage = signal(Kind::RageClick, 4, "#a", "/", 5);
    assert_eq!(primary(&[signal(Kind::ErrorClick, 3, "#a", "/", 1), rage.clone()]), Kind::RageClick);
    assert_eq!(primary(&[rage.clone(), signal(Kind::NetworkErrors, 4, "", "/", 9)]), Kind::RageClick);
    assert_eq!(primary(&[rage.clone(), signal(Kind::AppCrash, 4, "", "/", 9)]), Kind::AppCrash);
    let twice = [signal(Kind::RageClick, 4, "#b", "/", 3), rage];
    assert_eq!(judged(&twice).primary, 0);
}

/// G-I3, of a signal.
#[test]
fn g_i3_a_fingerprint_is_that_of_the_vector() {
    let target = "[data-testid=pay]";
    for kind in [Kind::RageClick, Kind::DeadClick, Kind::SlowClick, Kind::DeadSwipe] {
        let its = fingerprint("t1", &signal(kind, 1, target, "/checkout/:id", 0));
        assert_eq!(its.to_string(), "b897387136311a911e69782fd72e27ed", "{kind:?}");
    }
    let form = fingerprint("t1", &signal(Kind::SubmitFailures, 1, target, "/checkout/:id", 0));
    assert_ne!(form.to_string(), "b897387136311a911e69782fd72e27ed");
}

fn publish(case: &mut Case, now: i64) -> Vec<Told> {
    let mut out = Vec::new();
    case.publish(&Settings::default(), OWNER, now, &mut out);
    out
}

/// G-I1
#[test]
fn g_i1_a_session_has_one_incident() {
    let mut case = Case::default();
    let dead = signal(Kind::DeadClick, 2, "#x", "/", 10 * HOUR);
    case.push(dead.clone());
    assert!(publish(&mut case, 0).is_empty(), "a candidate is not told");
    assert!(case.is_candidate());
    case.push(signal(Kind::RageClick, 4, "#pay", "/checkout", 10 * HOUR + MINUTE));
    let told = publish(&mut case, 0);
    let [Told::Opened(row)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((row.peak, row.severity, row.opened_at), (8, Severity::Medium, 10 * HOUR + MINUTE));
    assert_eq!((row.primary, row.group, row.page_key.as_str()), (Kind::RageClick, Group::Unresponsive, "/checkout"));
    assert_eq!(row.fingerprint, identity(&["ufse/1", "t1", "unresponsive", "/checkout", "#pay"]));
    assert_eq!(row.incident_id, identity(&["inc/1", "t1", "s1", &dead.signal_id.to_string()]));
    assert_eq!(row.kinds, BTreeMap::from([(Kind::RageClick, 1), (Kind::DeadClick, 1)]));
    case.close();
    let told = publish(&mut case, 1);
    let [Told::Closed(closed)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*closed, IncidentRow { state: State::Closed, rev: 1, ..row.clone() });
}

/// G-I2
#[test]
fn g_i2_single_dead_clicks_far_apart_are_no_incident() {
    let mut case = Case::default();
    for n in 0..20 {
        case.push(signal(Kind::DeadClick, 2, &format!("#{n}"), "/", n * 6 * MINUTE));
        assert!(publish(&mut case, n).is_empty());
    }
    case.close();
    assert!(publish(&mut case, 99).is_empty());
    assert!(case.is_candidate());
}

fn opened() -> Case {
    let mut case = Case::default();
    case.push(signal(Kind::RageClick, 4, "#a", "/", HOUR));
    case.push(signal(Kind::DeadClick, 2, "#b", "/", HOUR + SECOND));
    assert!(matches!(publish(&mut case, 0)[..], [Told::Opened(_)]));
    case
}

#[test]
fn changes_are_told_together_but_the_end_at_once() {
    let mut case = opened();
    case.push(signal(Kind::DeadClick, 2, "#c", "/", HOUR + 2 * SECOND));
    assert!(publish(&mut case, 10 * SECOND).is_empty());
    case.push(signal(Kind::DeadClick, 2, "#d", "/", HOUR + 3 * SECOND));
    let told = publish(&mut case, 30 * SECOND);
    assert!(matches!(&told[..], [Told::Updated(row)] if row.total == 10 && row.rev == 1), "{told:?}");
    assert!(publish(&mut case, 90 * SECOND).is_empty(), "nothing new");
    case.recover(2 * HOUR);
    assert!(publish(&mut case, 31 * SECOND).is_empty());
    case.close();
    let told = publish(&mut case, 32 * SECOND);
    let [Told::Closed(row)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((row.outcome, row.recovered_at), (Outcome::Recovered, Some(2 * HOUR)));
}

#[test]
fn a_new_wording_replaces_and_an_old_one_changes_nothing() {
    let mut case = opened();
    let stuck = Signal { rev: 1, ..signal(Kind::CheckoutStuck, 8, "", "/checkout", HOUR + MINUTE) };
    case.push(stuck.clone());
    case.push(Signal { rev: 0, points: 1, ..stuck.clone() });
    let told = publish(&mut case, HOUR);
    assert_eq!(told[0].row().total, 6 + 12);
    case.push(Signal { rev: 2, points: 0, end: HOUR + 5 * MINUTE, ..stuck });
    let told = publish(&mut case, 2 * HOUR);
    assert_eq!((told[0].row().total, told[0].row().signals.len()), (6, 3));
}

#[test]
fn an_open_incident_stays_open_when_its_signals_come_right() {
    let mut case = Case::default();
    let stuck = signal(Kind::CheckoutStuck, 8, "", "/checkout", HOUR);
    case.push(stuck.clone());
    assert!(matches!(publish(&mut case, 0)[..], [Told::Opened(_)]));
    case.push(Signal { rev: 1, points: 0, ..stuck });
    let told = publish(&mut case, MINUTE);
    assert!(matches!(&told[..], [Told::Updated(row)] if row.total == 0 && row.opened_at == HOUR), "{told:?}");
}

#[test]
fn a_late_signal_corrects_a_closed_incident_under_its_name() {
    let mut case = opened();
    case.close();
    let name = publish(&mut case, 1)[0].row().incident_id;
    case.push(signal(Kind::ErrorClick, 5, "#z", "/", HOUR - SECOND));
    let told = publish(&mut case, HOUR);
    let [Told::Updated(row)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((row.incident_id, row.state, row.rev, row.total), (name, State::Closed, 2, 11));
}

#[test]
fn of_two_sessions_that_become_one_the_earlier_incident_survives() {
    let mut later = Case::default();
    for n in 0..2 {
        later.push(signal(Kind::ErrorClick, 5, &format!("#{n}"), "/", 2 * HOUR + n));
    }
    let mut out = Vec::new();
    later.publish(&Settings::default(), Owner { tenant: "t1", session: "s2" }, 0, &mut out);
    let loser = out[0].row().incident_id;
    let mut case = opened();
    case.absorb(later);
    let told = publish(&mut case, HOUR);
    let [Told::Updated(gone), Told::Updated(row)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((gone.incident_id, gone.state, gone.merged_into), (loser, State::Merged, Some(row.incident_id)));
    assert_eq!((row.total, row.state, row.signals.len()), (16, State::Open, 4));
}

#[test]
fn after_some_quiet_there_may_be_a_new_incident() {
    let scope = Scope::Gap { quiet_ms: 5 * MINUTE, age_ms: 30 * MINUTE };
    let settings = Settings { scope, ..Settings::default() };
    let mut case = Case::default();
    for (n, end) in [0, 5 * MINUTE, 10 * MINUTE + 1].into_iter().enumerate() {
        case.push(signal(Kind::AppCrash, 8, &format!("#{n}"), "/", end));
    }
    let mut out = Vec::new();
    case.publish(&settings, OWNER, 0, &mut out);
    let told: Vec<(State, usize)> = out.iter().map(|told| (told.row().state, told.row().signals.len())).collect();
    assert_eq!(told, [(State::Open, 2), (State::Closed, 2), (State::Open, 1)]);
}

#[test]
fn a_case_is_bounded() {
    let mut case = Case::default();
    for n in 0..SIGNALS_MAX as i64 + 3 {
        case.push(signal(Kind::ErrorClick, 5, &n.to_string(), "/", n));
        case.describe(Some(identity(&["p"])), Some(&n.to_string()));
    }
    assert_eq!(case.dropped(), 3);
    let told = publish(&mut case, 0);
    let row = told[0].row();
    assert_eq!((row.signals.len(), row.releases.len()), (50, case::RELEASES_MAX));
}

#[test]
fn the_last_row_does_not_depend_on_the_order_of_arrival_nor_on_restarts() {
    let mut seed = 11_u64;
    let mut roll = |sides: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % sides
    };
    let kinds = [Kind::RageClick, Kind::DeadClick, Kind::ErrorClick, Kind::Jank, Kind::NetworkErrors];
    for round in 0..200 {
        let mut all: Vec<Signal> = (0..12)
            .map(|n| {
                let kind = kinds[roll(5) as usize];
                let page = ["/", "/cart"][roll(2) as usize];
                Signal {
                    rev: 1,
                    ..signal(kind, 1 + roll(5) as u32, ["#a", "#b"][roll(2) as usize], page, n * 40 * SECOND)
                }
            })
            .collect();
        let ends: Vec<IncidentRow> = (0..2)
            .filter_map(|_| {
                let mut case = Case::default();
                let mut told = Vec::new();
                // The name is that of the first signal there was: here always the same.
                case.push(all.iter().min_by_key(|signal| signal.order()).cloned().unwrap());
                told.extend(publish(&mut case, 0));
                for at in (1..all.len()).rev() {
                    all.swap(at, roll(at as u64 + 1) as usize);
                }
                for signal in &all {
                    case.push(Signal { rev: 0, points: 9, ..signal.clone() });
                    case.push(signal.clone());
                    if roll(3) == 0 {
                        told.extend(publish(&mut case, roll(HOUR as u64) as i64));
                    }
                    case = serde_json::from_str(&serde_json::to_string(&case).unwrap()).unwrap();
                }
                case.close();
                told.extend(publish(&mut case, 2 * HOUR));
                let revs: Vec<u32> = told.iter().map(|told| told.row().rev).collect();
                assert_eq!(revs, (0..revs.len() as u32).collect::<Vec<_>>());
                told.last().map(|told| IncidentRow { rev: 0, ..told.row().clone() })
            })
            .collect();
        if let [one, other] = &ends[..] {
            let known = |row: &IncidentRow| IncidentRow { opened_at: 0, ..row.clone() };
            assert_eq!(known(one), known(other), "round {round}");
        }
    }
}

// Problems.

fn incident(name: &str, person: &str, severity: Severity, last: i64) -> IncidentRow {
    let mut case = opened();
    case.close();
    let row = publish(&mut case, HOUR).pop().unwrap().row().clone();
    IncidentRow {
        incident_id: identity(&[name]),
        session: name.to_owned(),
        person: Some(identity(&[person])),
        severity,
        first: last - MINUTE,
        last,
        rev: 0,
        ..row
    }
}

struct Watch {
    gate: Gate,
    problem: Problem,
    rows: Vec<ProblemRow>,
    tickets: Vec<Notification>,
}

impl Watch {
    fn new() -> Self {
        Self { gate: Gate::default(), problem: Problem::new(Id([7; 16])), rows: Vec::new(), tickets: Vec::new() }
    }

    fn advance(&mut self, to: i64) {
        self.problem = serde_json::from_str(&serde_json::to_string(&self.problem).unwrap()).unwrap();
        self.problem.advance(&self.gate, to, &mut self.rows, &mut self.tickets);
    }
}

#[test]
fn five_sessions_of_three_persons_deserve_a_ticket() {
    for (persons, sessions, passes) in [(3, 5, true), (2, 5, false), (3, 4, false)] {
        let mut watch = Watch::new();
        for n in 0..sessions {
            let person = format!("p{}", n % persons);
            watch.problem.insert(&incident(&format!("s{n}"), &person, Severity::High, HOUR));
        }
        watch.advance(2 * HOUR);
        assert_eq!((watch.rows.len(), watch.rows[0].passes), (1, passes));
        assert_eq!((watch.rows[0].sessions, watch.rows[0].persons), (sessions, persons));
        assert_eq!(watch.tickets.len(), usize::from(passes));
    }
}

#[test]
fn two_critical_sessions_deserve_a_ticket_but_no_sign_in_does() {
    let mut watch = Watch::new();
    watch.problem.insert(&incident("s0", "p", Severity::Critical, HOUR));
    watch.advance(HOUR);
    assert!(!watch.rows[0].passes);
    watch.problem.insert(&incident("s1", "p", Severity::Low, HOUR));
    watch.advance(HOUR + 5 * MINUTE);
    assert!(watch.rows[1].passes);
    let mut watch = Watch::new();
    for n in 0..9 {
        let its = incident(&format!("s{n}"), &n.to_string(), Severity::Critical, HOUR);
        watch.problem.insert(&IncidentRow { group: Group::Auth, ..its });
    }
    watch.advance(2 * HOUR);
    assert!(!watch.rows[0].passes && watch.tickets.is_empty());
}

#[test]
fn an_incident_counts_for_a_day() {
    let mut watch = Watch::new();
    watch.problem.insert(&incident("s0", "p", Severity::Low, HOUR + 1));
    watch.advance(i64::MAX);
    let seen: Vec<(i64, usize)> = watch.rows.iter().map(|row| (row.window_end, row.sessions)).collect();
    assert_eq!(seen, [(HOUR + 5 * MINUTE, 1), (25 * HOUR + 5 * MINUTE, 0)]);
    assert!(watch.problem.is_empty());
}

#[test]
fn being_told_the_time_more_often_changes_nothing() {
    let run = |steps: i64| {
        let mut watch = Watch::new();
        for n in 0..20 {
            let its = incident(&format!("s{n}"), &format!("p{n}"), Severity::Medium, n * 17 * MINUTE);
            watch.problem.insert(&its);
        }
        for step in 1..=steps {
            watch.advance(step * 40 * HOUR / steps);
        }
        (watch.rows, watch.tickets)
    };
    let once = run(1);
    assert!(once.0.len() > 20 && !once.1.is_empty());
    assert_eq!(once, run(97));
}

#[test]
fn a_problem_is_told_again_when_it_doubled_and_four_hours_passed() {
    let mut watch = Watch::new();
    let add = |watch: &mut Watch, from: usize, to: usize, at: i64| {
        for n in from..to {
            watch.problem.insert(&incident(&format!("s{n}"), &format!("p{n}"), Severity::Medium, at));
        }
        watch.advance(at + 5 * MINUTE);
        watch.tickets.len()
    };
    assert_eq!(add(&mut watch, 0, 5, HOUR), 1);
    assert_eq!(add(&mut watch, 5, 10, 2 * HOUR), 1, "too early");
    assert_eq!(add(&mut watch, 10, 11, 6 * HOUR), 2);
    assert_eq!(add(&mut watch, 11, 12, 11 * HOUR), 2, "not twice as many");
    watch.problem.insert(&incident("s99", "p", Severity::High, 12 * HOUR));
    watch.advance(13 * HOUR);
    assert_eq!(watch.tickets.len(), 3, "worse");
    assert!(matches!(watch.tickets[..], [Notification::First(_), Notification::Again(_), Notification::Again(_)]));
}

#[test]
fn an_incident_is_counted_as_it_was_told_last_and_may_be_taken_away() {
    let mut watch = Watch::new();
    let row = incident("s0", "p", Severity::Low, HOUR);
    watch.problem.insert(&IncidentRow { rev: 1, severity: Severity::High, ..row.clone() });
    watch.problem.insert(&row);
    watch.problem.insert(&incident("s1", "p", Severity::Low, HOUR));
    watch.advance(HOUR);
    assert_eq!((watch.rows[0].severity, watch.rows[0].sessions), (Some(Severity::High), 2));
    assert_eq!(watch.rows[0].worst, [identity(&["s0"]), identity(&["s1"])]);
    watch.problem.insert(&IncidentRow { rev: 2, state: State::Merged, ..row });
    watch.problem.retract(identity(&["s1"]));
    watch.advance(2 * HOUR);
    assert_eq!(watch.rows.last().map(|row| row.sessions), Some(0));
    assert!(watch.problem.is_empty());
}

#[test]
fn a_problem_is_bounded() {
    let mut problem = Problem::new(Id([7; 16]));
    let row = incident("s", "p", Severity::Low, HOUR);
    for n in 0..MEMBERS_MAX as i64 + 2 {
        problem.insert(&IncidentRow { incident_id: identity(&[&n.to_string()]), last: n, ..row.clone() });
    }
    assert_eq!(problem.forgotten(), 2);
}
