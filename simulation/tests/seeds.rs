//! A few seeds of each kind, past failures first. `scripts/test.sh simulate` plays many more, with the release build.

use riverrun_simulation::command;
use riverrun_simulation::mutant::Mutant;
use riverrun_simulation::play::{Judged, Options, Played, judge, play};
use riverrun_simulation::scene::{Scene, Script};

fn assert_passes(seed: u64, options: Options) -> Played {
    let played = play(seed, options);
    let again = command::again(seed, options);
    let how = "again, with its events: cargo run -p riverrun-simulation --";
    assert_eq!(played.failure, None, "seed {seed}; {how} {again}");
    played
}

#[test]
fn what_failed_once_passes() {
    let past = command::past().unwrap();
    assert!(past.len() >= 24, "only {} seeds are kept in simulation/seeds", past.len());
    for (seed, options) in past {
        assert_passes(seed, options);
    }
}

#[test]
fn no_row_is_lost_or_doubled_wherever_the_process_is_killed() {
    for (script, seeds) in [(Script::Windows, 8), (Script::Ledger, 5)] {
        let played: Vec<Played> =
            (0..seeds).map(|seed| assert_passes(seed, Options { script, ..Options::default() })).collect();
        let crashes: u64 = played.iter().map(|played| played.crashes).sum();
        assert!(crashes > 4, "only {crashes} crashes");
        // What is given nothing is proved nothing of.
        for sink in Scene::of(script, 0).plan.sink_names() {
            let is_its = |(place, bytes): (&(String, u32), &Vec<u8>)| place.0 == sink && !bytes.is_empty();
            assert!(played.iter().any(|played| played.output.iter().any(is_its)), "no row for {sink}");
        }
    }
}

#[test]
fn a_store_that_fails_delays_and_loses_nothing() {
    for (script, seeds) in [(Script::Windows, 4), (Script::Ledger, 2)] {
        for seed in 0..seeds {
            assert_passes(seed, Options { script, faulty_store: true, ..Options::default() });
        }
    }
}

#[test]
fn a_store_that_fails_excuses_no_other_failure() {
    let broken = Options { faulty_store: true, mutant: Some(Mutant::ArrivalOrder), ..Options::default() };
    let failure = play(9, broken).failure.unwrap_or_default();
    assert!(failure.contains("not deterministic"), "{failure}");
}

#[test]
fn a_job_that_is_drained_and_killed_gives_out_what_it_read_and_is_finished() {
    let bytes = |played: &Played| played.output.values().map(Vec::len).sum::<usize>();
    let mut early = 0;
    for seed in (0..60).filter(|seed| Scene::of(Script::Windows, *seed).drains) {
        assert_passes(seed, Options::default());
        let whole = play(seed, Options { calm: true, ..Options::default() });
        early += usize::from(bytes(&play(seed, Options::default())) < bytes(&whole));
    }
    assert!(early > 1, "only {early} were drained before they had read everything");
}

#[test]
fn bounded_input_gives_the_same_bytes_with_any_workers_and_crashes() {
    for (script, seeds) in [(Script::Windows, 4), (Script::Ledger, 3)] {
        for seed in (0..seeds).filter(|seed| Scene::of(script, *seed).bounded) {
            let calm = assert_passes(seed, Options { script, workers: 1, calm: true, ..Options::default() });
            let wild = play(seed, Options { script, ..Options::default() });
            assert_eq!(calm.output, wild.output, "seed {seed} of {}", script.word());
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for (script, seed) in [(Script::Windows, 3), (Script::Ledger, 4)] {
        let options = Options { script, telling: true, ..Options::default() };
        let (one, two) = (play(seed, options), play(seed, options));
        let differs = one.events.iter().zip(&two.events).position(|(a, b)| a != b);
        let shown = differs.map(|at| (&one.events[at], &two.events[at]));
        assert_eq!((one.trace, one.events.len()), (two.trace, two.events.len()), "seed {seed}: {shown:?}");
        assert_eq!(one.output, two.output, "seed {seed}");
    }
}

#[test]
fn broken_rules_are_found_out() {
    for script in Script::ALL {
        for mutant in [Mutant::RowsFirst, Mutant::TokenFirst, Mutant::PartMissing] {
            let judged = judge(script, mutant, 40);
            assert!(matches!(judged, Judged::Found { .. }), "{mutant:?} in {}: {judged:?}", script.word());
        }
    }
}

#[test]
fn in_a_broken_world_a_job_ends_well_or_says_what_is_broken() {
    for world in Mutant::WORLDS {
        let judged = judge(Script::Windows, world, 5);
        assert!(matches!(judged, Judged::Found { .. }), "{world:?}: {judged:?}");
    }
}
