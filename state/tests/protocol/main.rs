//! The log protocol, checked by looking at every order in which processes can act, pause and die (RELIABILITY 6.4).
//!
//! The gate checks a small world and that each broken rule is found out. `RIVERRUN_PROTOCOL=full cargo test --release
//! -p riverrun-state --test protocol` checks the whole one: three generations, three ticks, two deaths, collection.

mod model;
mod recovered;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use model::{Change, Config, Event, Mutant, World};
use recovered::Recovered;
use xxhash_rust::xxh3::Xxh3;

/// What the checker found.
struct Checked {
    states: usize,
    /// What is wrong, and the acts that lead there.
    violation: Option<(String, Vec<String>)>,
}

/// Looks at every world that can be reached, the near ones first, until one is wrong. Of a world that was looked at a fingerprint stays,
/// and how it was reached: whole ones would fill the memory of the machine long before the end.
fn check(config: &Config) -> Checked {
    let mut recovered = Recovered::default();
    let first = World::new(config);
    let mut known = HashMap::from([(fingerprint(&first), 0)]);
    let mut ahead = VecDeque::from([first]);
    // Each world's predecessor, and by which of its acts.
    let mut reached: Vec<(u32, u16)> = vec![(0, 0)];
    // Which worlds are settled, and which lead to which by what processes do of their own accord.
    let (mut settled, mut ways): (Vec<bool>, Vec<(u32, u32)>) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(world) = ahead.pop_front() {
        let lost = || world.lost(config).then(|| "the job is done and rows are missing".to_owned());
        if let Some(what) = world.violation().or_else(lost) {
            return Checked { states: reached.len(), violation: Some((what, trace(config, &reached, at))) };
        }
        settled.push(world.settled(config));
        for (number, (event, successor)) in (0..).zip(world.successors(config, &mut recovered)) {
            let next = *known.entry(fingerprint(&successor)).or_insert_with(|| {
                reached.push((at, number));
                ahead.push_back(successor);
                reached.len() as u32 - 1
            });
            if matches!(event, Event::Act { .. }) {
                ways.push((next, at));
            }
        }
        at += 1;
    }
    let stuck = stuck(settled, ways).map(|at| {
        let what = "nothing is wrong, and whatever happens now, the job is never done".to_owned();
        (what, trace(config, &reached, at))
    });
    Checked { states: reached.len(), violation: stuck }
}

/// Returns the first world from which no way leads to one that is settled; `ways` are from a world to those before it.
fn stuck(mut settled: Vec<bool>, mut ways: Vec<(u32, u32)>) -> Option<u32> {
    ways.sort_unstable();
    let mut ahead: Vec<u32> = (0..).zip(&settled).filter(|(_, settled)| **settled).map(|(at, _)| at).collect();
    while let Some(at) = ahead.pop() {
        let from = ways.partition_point(|(to, _)| *to < at);
        for (_, before) in ways[from..].iter().take_while(|(to, _)| *to == at) {
            if !std::mem::replace(&mut settled[*before as usize], true) {
                ahead.push(*before);
            }
        }
    }
    settled.iter().position(|settled| !settled).map(|at| at as u32)
}

/// 128 bits: that two of a billion worlds share them is less likely than one in 10^20.
fn fingerprint(world: &World) -> u128 {
    let mut hasher = Xxh3::new();
    world.hash(&mut hasher);
    hasher.digest128()
}

/// Returns the acts that lead from the first world to one that was reached.
fn trace(config: &Config, reached: &[(u32, u16)], mut at: u32) -> Vec<String> {
    let mut numbers = Vec::new();
    while at > 0 {
        let (from, number) = reached[at as usize];
        numbers.push(number);
        at = from;
    }
    let (mut world, mut recovered) = (World::new(config), Recovered::default());
    let step = |number: &u16| {
        let (event, next) = world.successors(config, &mut recovered).swap_remove(usize::from(*number));
        world = next;
        event.to_string()
    };
    numbers.iter().rev().map(step).collect()
}

const SMALL: Config = Config {
    generations: 2,
    ticks: 2,
    crashes: 2,
    checkpoints: 2,
    retained: 1,
    backups: 0,
    damages: 0,
    changes: None,
    mutant: None,
};

/// The rule that is broken, and the world in which it shows.
const MUTANTS: [(Mutant, Config); 16] = [
    (Mutant::TakenIsSuccess, SMALL),
    (Mutant::CheckThenWrite, SMALL),
    (Mutant::NoFloorCheck, SMALL),
    (Mutant::DeleteBeforeFloor, SMALL),
    (Mutant::ReadBeforeFence, SMALL),
    (Mutant::SinkBeforeLog, SMALL),
    (Mutant::CheckpointBeforeSink, SMALL),
    (Mutant::CheckpointBeforeLog, SMALL),
    (Mutant::CheckpointBeforeParts, SMALL),
    (Mutant::NoTokenCompare, SMALL),
    (Mutant::NotDerivedAgain, SMALL),
    (Mutant::AnyBuild, Config { changes: Some(Change::Build), ..SMALL }),
    (Mutant::AnyPlan, Config { changes: Some(Change::Plan), ..SMALL }),
    (Mutant::TokenTakenOnFaith, Config { backups: 1, ..SMALL }),
    (Mutant::AheadIsRefused, SMALL),
    (Mutant::NeverLooksAgain, SMALL),
];

fn assert_holds(what: &str, config: &Config) {
    let Checked { states, violation } = check(config);
    if let Some((wrong, acts)) = violation {
        panic!("{what}: {wrong}, after\n  {}", acts.join("\n  "));
    }
    println!("{what}: holds in {states} states");
}

#[test]
fn the_protocol_holds_in_every_order_of_acts() {
    assert_holds("two generations", &SMALL);
    assert_holds("the sink is restored from a backup", &Config { backups: 1, ..SMALL });
    assert_holds("the newest checkpoint is damaged", &Config { damages: 1, retained: 2, ..SMALL });
    assert_holds("another build comes", &Config { changes: Some(Change::Build), ..SMALL });
    assert_holds("another plan comes", &Config { changes: Some(Change::Plan), ..SMALL });
}

#[test]
fn every_broken_rule_is_found_out() {
    for (mutant, config) in MUTANTS {
        let Checked { states, violation } = check(&Config { mutant: Some(mutant), ..config });
        let Some((wrong, acts)) = violation else {
            panic!("{mutant:?} is not found out in {states} states");
        };
        println!("{mutant:?}: {wrong}; {} acts, {states} states", acts.len());
    }
}

#[test]
fn the_whole_world_holds() {
    if std::env::var("RIVERRUN_PROTOCOL").as_deref() != Ok("full") {
        println!("left out: RIVERRUN_PROTOCOL=full checks three generations and three ticks, which takes minutes");
        return;
    }
    assert_holds("three generations", &Config { generations: 3, ticks: 3, ..SMALL });
    let misfortunes = Config { generations: 3, backups: 1, damages: 1, retained: 2, ..SMALL };
    assert_holds("three generations, a backup and a damage", &misfortunes);
}
