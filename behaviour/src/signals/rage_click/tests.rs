use proptest::prelude::*;

use super::super::presets::Preset;
use super::super::settings::Limit;
use super::*;

fn tap(ms: i64) -> Tap {
    Tap { at_us: ms * 1000, x: 10, y: 10, target: mark("#buy"), ..Tap::default() }
}

/// Start, end (ms) and count of each chain that is a rage click.
fn rages(taps: &[Tap], settings: &Rage) -> Vec<(i64, i64, u32)> {
    let mut machine = RageClick::default();
    let mut chains: Vec<Chain> = taps.iter().filter_map(|tap| machine.push(tap, settings).closed).collect();
    chains.extend(machine.close());
    let rages = chains.iter().filter(|chain| chain.is_rage());
    rages.map(|chain| (chain.first_us / 1000, chain.last_us / 1000, chain.count)).collect()
}

fn ours(ms: &[i64]) -> Vec<(i64, i64, u32)> {
    rages(&ms.iter().map(|&ms| tap(ms)).collect::<Vec<_>>(), &Rage::default())
}

/// G-R1.
#[test]
fn g_r1_four_quick_clicks_are_one_signal() {
    assert_eq!(ours(&[0, 300, 650, 900]), [(0, 900, 4)]);
}

/// G-R2.
#[test]
fn g_r2_three_slow_clicks_are_none_unless_gaps_alone_count() {
    assert_eq!(ours(&[0, 900, 1800]), []);
    let taps = [tap(0), tap(900), tap(1800)];
    assert_eq!(rages(&taps, &Preset::Posthog.settings().rage), [(0, 1800, 3)]);
}

/// G-R3.
#[test]
fn g_r3_a_window_of_exactly_1000_ms_is_inside() {
    assert_eq!(ours(&[0, 500, 1000]), [(0, 1000, 3)]);
    assert_eq!(ours(&[0, 500, 1001]), []);
}

/// G-R4.
#[test]
fn g_r4_clicks_that_select_text_are_none() {
    let taps = [tap(0), Tap { spoils: true, ..tap(120) }, tap(240)];
    assert_eq!(rages(&taps, &Rage::default()), []);
}

/// G-R5.
#[test]
fn g_r5_an_early_click_does_not_join() {
    assert_eq!(ours(&[0, 2000, 2100, 2200]), [(2000, 2200, 3)]);
}

/// G-R6.
#[test]
fn g_r6_a_gap_of_1001_ms_splits() {
    assert_eq!(ours(&[0, 200, 400, 1401, 1500, 1600]), [(0, 400, 3), (1401, 1600, 3)]);
    assert_eq!(ours(&[0, 200, 400, 1400, 1500, 1600]), [(0, 1600, 6)], "1000 ms do not");
}

/// G-R7.
#[test]
fn g_r7_one_point_is_one_spot_whatever_is_there() {
    let taps = [("li:1", 0), ("li:2", 200), ("li:3", 400)].map(|(name, ms)| Tap { target: mark(name), ..tap(ms) });
    assert_eq!(rages(&taps, &Rage::default()), [(0, 400, 3)]);
    assert_eq!(rages(&taps, &Preset::Datadog.settings().rage), [], "one that needs the same target");
}

/// The clicks (x, y, ms) at which the pattern becomes complete, counted from 1.
fn found(taps: &[(i32, i32, i64)], settings: &Rage) -> Vec<usize> {
    let mut machine = RageClick::default();
    let mut at = |&(x, y, ms): &(i32, i32, i64)| {
        machine.push(&Tap { at_us: ms * 1000, x, y, ..Tap::default() }, settings).is_found_now
    };
    let found: Vec<bool> = taps.iter().map(&mut at).collect();
    found.iter().enumerate().filter(|(_, found)| **found).map(|(at, _)| at + 1).collect()
}

/// G-R8: PostHog's published sequence that goes quiet and begins anew.
#[test]
fn g_r8_posthogs_sequence_fires_at_the_third_and_the_ninth() {
    let taps = [
        (0, 0, 10),
        (10, 10, 20),
        (5, 5, 40),
        (5, 5, 80),
        (5, 5, 100),
        (5, 5, 110),
        (5, 5, 1120),
        (5, 5, 1121),
        (5, 5, 1122),
    ];
    assert_eq!(found(&taps, &Preset::Posthog.settings().rage), [3, 9]);
}

/// The other outcomes that PostHog's tests publish for their default numbers, on points of our own.
#[test]
fn posthogs_other_sequences_come_out_as_theirs() {
    let settings = Preset::Posthog.settings().rage;
    assert_eq!(found(&[(0, 0, 10), (10, 10, 20), (5, 5, 40), (5, 5, 50)], &settings), [3], "fires once");
    let moved = [(0, 0, 10), (9, 9, 25), (4, 4, 45), (4, 4, 85), (4, 4, 105), (35, 4, 120), (35, 4, 130), (35, 4, 140)];
    assert_eq!(found(&moved, &settings), [3, 8], "31 px away another chain begins");
    assert_eq!(found(&[(5, 5, 10), (5, 5, 20), (5, 5, 4000)], &settings), [0; 0], "too far apart in time");
    assert_eq!(found(&[(0, 0, 10), (10, 10, 20), (50, 10, 40)], &settings), [0; 0], "too far apart in space");
    let two = Rage { clicks: 2, ..settings.clone() };
    assert_eq!(found(&[(0, 0, 0), (0, 0, 100)], &two), [2]);
    let quick = Rage { gap: Limit::below(100), ..settings.clone() };
    assert_eq!(found(&[(0, 0, 0), (0, 0, 50), (0, 0, 500)], &quick), [0; 0]);
    let exact = Rage { radius_px: 5, ..settings };
    assert_eq!(found(&[(0, 0, 0), (6, 0, 50), (6, 0, 80)], &exact), [0; 0]);
}

/// The outcomes that Datadog's tests publish for a list of clicks, on times of our own.
#[test]
fn datadogs_lists_of_clicks_come_out_as_theirs() {
    let settings = Preset::Datadog.settings().rage;
    let count = |taps: &[Tap]| rages(taps, &settings).len();
    let spoilt = Tap { spoils: true, ..tap(0) };
    assert_eq!(count(&[tap(0), tap(0), tap(0)]), 1, "three at once");
    assert_eq!(count(&[tap(0), tap(0)]), 0, "two at once");
    assert_eq!(count(&[tap(0), spoilt, tap(0)]), 0, "one selects or scrolls");
    assert_eq!(count(&[tap(0), tap(2000), tap(2000)]), 0, "one long before two");
    assert_eq!(count(&[tap(0), tap(2000), tap(2000), tap(2000)]), 1, "one long before three");
    assert_eq!(count(&[tap(0), tap(0), tap(0), tap(2000)]), 1, "three long before one");
    let away = Tap { x: 111, ..tap(20) };
    assert_eq!(count(&[tap(0), tap(10), away]), 0, "101 px away");
    assert_eq!(count(&[tap(0), tap(10), Tap { x: 110, ..away }]), 1, "100 px away");
}

#[test]
fn openreplay_and_amplitude_have_numbers_of_their_own() {
    let openreplay = Preset::OpenReplay.settings().rage;
    assert_eq!(rages(&[tap(0), tap(299), tap(598)], &openreplay).len(), 1);
    assert_eq!(rages(&[tap(0), tap(300), tap(599)], &openreplay).len(), 0);
    let amplitude = Preset::Amplitude.settings().rage;
    assert_eq!(rages(&[tap(0), tap(100), tap(200), tap(999)], &amplitude).len(), 1);
    assert_eq!(rages(&[tap(0), tap(100), tap(200), tap(1000)], &amplitude).len(), 0);
    let creeping = |step: i32| [0, 1, 2, 3].map(|n| Tap { x: n * step, ..tap(i64::from(n) * 10) });
    assert_eq!(rages(&creeping(16), &amplitude).len(), 1, "all in a box of 48 px");
    assert_eq!(rages(&creeping(17), &amplitude).len(), 0, "all in a box of 51 px");
}

#[test]
fn a_double_click_is_one_act_where_it_is_waited_for() {
    let pairs =
        |ms: &[i64]| rages(&ms.iter().map(|&ms| Tap { pairs: true, ..tap(ms) }).collect::<Vec<_>>(), &Rage::default());
    assert_eq!(pairs(&[0, 100, 400, 500]), [], "two double clicks");
    assert_eq!(pairs(&[0, 100, 400, 500, 800, 900]), [(0, 900, 3)], "three double clicks");
    assert_eq!(ours(&[0, 100, 400, 500]), [(0, 500, 4)], "elsewhere each click counts");
}

#[test]
fn extreme_places_and_times_do_not_overflow() {
    let far = |x, y, at_us| Tap { at_us, x, y, target: 1, ..Tap::default() };
    for space in [Space::TargetOrNear, Space::Near, Space::TargetAndNear, Space::Target, Space::TargetAndBox] {
        let settings = Rage { space, same_target_px: i32::MAX, radius_px: i32::MAX, ..Rage::default() };
        let mut machine = RageClick::default();
        machine.push(&far(i32::MIN, i32::MIN, i64::MIN), &settings);
        machine.push(&far(i32::MAX, i32::MAX, i64::MAX), &settings);
        assert!(machine.due_us(&settings).is_some());
    }
}

/// The rule in plain words: cut the clicks where a neighbour is too late or elsewhere; a piece is a rage click if any three of
/// it lie within a second and none of it spoils.
fn naive(taps: &[Tap]) -> Vec<(i64, i64, u32)> {
    let apart = |a: &Tap, b: &Tap| {
        let (dx, dy) = (f64::from(a.x - b.x), f64::from(a.y - b.y));
        let same = a.target == b.target && a.target != 0 && dx.hypot(dy) <= 100.0;
        b.at_us - a.at_us > 1_000_000 || !(same || dx.abs() + dy.abs() < 30.0)
    };
    let pieces = taps.chunk_by(|a, b| !apart(a, b));
    let is_rage = |piece: &&[Tap]| {
        let mut any = false;
        for i in 0..piece.len() {
            for j in i + 1..piece.len() {
                for k in j + 1..piece.len() {
                    any |= piece[k].at_us - piece[i].at_us <= 1_000_000;
                }
            }
        }
        any && piece.iter().all(|tap| !tap.spoils)
    };
    let row = |piece: &[Tap]| (piece[0].at_us / 1000, piece[piece.len() - 1].at_us / 1000, piece.len() as u32);
    pieces.filter(is_rage).map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_chain_gives_what_a_naive_recomputation_gives(
        steps in prop::collection::vec((0..14i64, 0..4i32, 0..3u64, 0..20u8), 0..40)
    ) {
        let mut ms = 0;
        let taps: Vec<Tap> = steps.into_iter().map(|(gap, place, target, spoils)| {
            ms += gap * 100;
            Tap { at_us: ms * 1000, x: place * 28, y: place * 5, target, spoils: spoils == 0, pairs: false }
        }).collect();
        prop_assert_eq!(rages(&taps, &Rage::default()), naive(&taps));
    }
}
