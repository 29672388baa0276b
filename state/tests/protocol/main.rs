//! The log protocol, checked by looking at every order in which processes can act, pause and die (RELIABILITY 6.4).
//!
//! The gate checks a small world and that each broken rule is found out. `RIVERRUN_PROTOCOL=full cargo test -p riverrun-state
//! --release --test protocol` checks the whole one: three generations, three ticks, two deaths, collection.

mod model;
mod recovered;

use std::collections::HashMap;
use std::rc::Rc;

use model::{Change, Config, Mutant, World};
use recovered::Recovered;

/// What the checker found.
struct Checked {
    states: usize,
    /// What is wrong, and the acts that lead there.
    violation: Option<(String, Vec<String>)>,
}

/// Looks at every world that can be reached, the near ones first, until one is wrong.
fn check(config: &Config) -> Checked {
    let mut recovered = Recovered::default();
    let first = Rc::new(World::new(config));
    let mut known: HashMap<Rc<World>, usize> = HashMap::from([(first.clone(), 0)]);
    // Each world with the one it was reached from.
    let mut reached = vec![(first, 0)];
    let mut next = 0;
    while next < reached.len() {
        let world = reached[next].0.clone();
        let lost = || world.lost(config).then(|| "the job is done and rows are missing".to_owned());
        if let Some(what) = world.violation().or_else(lost) {
            let trace = trace(config, &reached, next, &mut recovered);
            return Checked { states: reached.len(), violation: Some((what, trace)) };
        }
        for (_, successor) in world.successors(config, &mut recovered) {
            if !known.contains_key(&successor) {
                let successor = Rc::new(successor);
                known.insert(successor.clone(), reached.len());
                reached.push((successor, next));
            }
        }
        next += 1;
    }
    Checked { states: reached.len(), violation: None }
}

fn trace(config: &Config, reached: &[(Rc<World>, usize)], mut at: usize, recovered: &mut Recovered) -> Vec<String> {
    let mut acts = Vec::new();
    while at > 0 {
        let (world, from) = &reached[at];
        let before = reached[*from].0.successors(config, recovered);
        acts.extend(before.into_iter().find(|(_, after)| after == &**world).map(|(act, _)| act));
        at = *from;
    }
    acts.reverse();
    acts
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
const MUTANTS: [(Mutant, Config); 12] = [
    (Mutant::TakenIsSuccess, SMALL),
    (Mutant::CheckThenWrite, SMALL),
    (Mutant::NoFloorCheck, SMALL),
    (Mutant::DeleteBeforeFloor, SMALL),
    (Mutant::ReadBeforeFence, SMALL),
    (Mutant::SinkBeforeLog, SMALL),
    (Mutant::CheckpointBeforeSink, SMALL),
    (Mutant::NoTokenCompare, SMALL),
    (Mutant::NotDerivedAgain, SMALL),
    (Mutant::AnyBuild, Config { changes: Some(Change::Build), ..SMALL }),
    (Mutant::AnyPlan, Config { changes: Some(Change::Plan), ..SMALL }),
    (Mutant::TokenTakenOnFaith, Config { backups: 1, ..SMALL }),
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
