//! Jobs in several processes, each a thread with a mesh of its own: what one process gives, stopped and crashed like it.

use std::path::Path;
use std::thread::JoinHandle;

use super::live::{is_finished, live_graph, numbers};
use super::*;
use crate::mesh::{Address, MeshConfig, MeshMeter, Place};

fn mesh(folder: &Path, place: Place) -> Arc<Mesh> {
    let config = MeshConfig {
        job: "test".into(),
        plan: "p".into(),
        build: "b".into(),
        generation: 1,
        place,
        peers: (0..place.processes).map(|process| Address::Unix(folder.join(format!("p{process}")))).collect(),
        listen: None,
        tls: None,
        startup: Duration::from_secs(60),
        beat: Duration::from_millis(100),
        dead: Duration::from_secs(60),
    };
    Mesh::form(&config, MeshMeter::new(place.process, place.processes), &|| false).unwrap()
}

/// What came of each process.
type Ran = Vec<Result<Snapshot, EngineError>>;

/// Runs a job in as many processes as there are controls, with so many workers each.
fn run_in(world: &Arc<World>, graph: &Graph, workers: usize, controls: &[Arc<Control>]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let processes = controls.len();
    // Decided once, by the one that leads, and before anybody begins.
    let (recovery, tokens) = (recovery(world), tokens(world));
    let start = |(process, control): (usize, &Arc<Control>)| -> JoinHandle<Result<Snapshot, EngineError>> {
        let place = Place { process, processes, workers };
        let (world, graph, control) = (world.clone(), graph.clone(), control.clone());
        let (recovery, tokens, folder) = (recovery.clone(), tokens.clone(), folder.path().to_owned());
        std::thread::spawn(move || {
            let mesh = mesh(&folder, place);
            let observer = Arc::new(Observer::default());
            let own = place.own();
            let mut job = job_on(&world, graph, (own, place.all()), recovery, control, observer.clone());
            if process > 0 {
                job.journal = Box::new(Nobodys);
            }
            let elsewhere = tokens.into_iter().filter(|(lane, _)| !job.lanes.contains_key(lane)).collect();
            run_among(job, Others { mesh, lanes: elsewhere })?;
            Ok(observer.snapshot())
        })
    };
    let running: Vec<_> = controls.iter().enumerate().map(start).collect();
    running.into_iter().map(|process| process.join().unwrap()).collect()
}

/// The journal of a process that does not lead.
struct Nobodys;
impl Journal for Nobodys {
    fn append_ticks(&mut self, _: &[JournalEntry]) -> Result<(), JournalError> {
        panic!("it is process 0 that writes the log")
    }
    fn append_checkpoint(&mut self, _: CheckpointParts) -> Result<(), JournalError> {
        panic!("it is process 0 that writes the log")
    }
}

fn controls(processes: usize) -> Vec<Arc<Control>> {
    (0..processes).map(|_| Control::new()).collect()
}

#[test]
fn any_number_of_processes_gives_the_same_bytes() {
    let (want, snapshot) = calm(1, 2000, 2);
    for (processes, workers) in [(2, 1), (3, 1), (2, 2)] {
        let world = Arc::new(World::new(1, 2000));
        let ran = run_in(&world, &graph(&world), workers, &controls(processes));
        assert_eq!(world.output(), want, "{processes} processes with {workers} workers");
        let snapshots: Vec<Snapshot> = ran.into_iter().map(Result::unwrap).collect();
        assert_eq!(snapshots[0].balance, snapshot.balance);
        // What another process decoded last may not be told any more.
        assert!(snapshots.iter().all(|snapshot| snapshot.last), "all know that it was the last tick");
    }
}

/// Ends all as one that failed, and the others as those who lost it.
fn how_it_ended(ran: Ran, seed: u64) -> bool {
    let mut failed = 0;
    let mut well = 0;
    for process in ran {
        match process {
            Ok(_) => well += 1,
            Err(EngineError::Sink { .. } | EngineError::Journal(_)) => failed += 1,
            Err(EngineError::Mesh(MeshError::Lost { reason, .. })) => assert!(reason.contains("crash"), "{reason}"),
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(well == 0 || failed == 0, "seed {seed}: {well} ended well, {failed} failed");
    failed == 0
}

#[test]
fn crashes_of_any_process_and_other_numbers_of_them_change_no_byte() {
    for seed in 0..6 {
        let (want, _) = calm(seed, 600, 1);
        let world = Arc::new(World::new(seed, 600));
        let mut random = Random(seed + 1000);
        let mut crashes = 0;
        loop {
            let fuse = if crashes < 6 { random.below(9) as i64 } else { -1 };
            world.fuse.store(fuse, Ordering::SeqCst);
            let processes = 2 + random.below(2) as usize;
            let ran = run_in(&world, &graph(&world), 1 + random.below(2) as usize, &controls(processes));
            if how_it_ended(ran, seed) {
                break;
            }
            crashes += 1;
        }
        assert_eq!(world.output(), want, "seed {seed}, {crashes} crashes");
    }
}

#[test]
fn a_stop_of_any_process_stops_all_after_one_tick() {
    for seed in 0..6 {
        let world = Arc::new(World::new(seed, 900));
        let good = world.lines.iter().flatten().filter(|line| line.contains(',')).count();
        let written = |world: &World| numbers(world).values().map(Vec::len).sum::<usize>();
        let mut random = Random(seed + 77);
        let mut lives = 0;
        world.fuse.store(-1, Ordering::SeqCst);
        while written(&world) < good {
            lives += 1;
            assert!(lives < 200, "seed {seed}: no progress");
            let controls = controls(2 + random.below(2) as usize);
            let stopper = controls[random.below(controls.len() as u64) as usize].clone();
            let (done, before) = (world.clone(), written(&world));
            let more = before + random.below(400) as usize;
            let stopping = std::thread::spawn(move || {
                for _ in 0..30_000 {
                    std::thread::park_timeout(Duration::from_millis(1));
                    if written(&done) >= good.min(more) {
                        break;
                    }
                }
                stopper.stop();
            });
            let ran = run_in(&world, &live_graph(&world), 1, &controls);
            stopping.join().unwrap();
            for process in ran {
                assert!(!process.unwrap().last);
            }
            let recorded = world.log.lock().unwrap().last().map_or(0, |entry| entry.record.tick);
            let kept = world.checkpoints.lock().unwrap().last().map_or(0, |parts| parts.tick);
            assert_eq!(kept, recorded, "seed {seed}: whoever comes next has nothing to repeat");
        }
        for (key, mut found) in numbers(&world) {
            found.sort_unstable();
            assert!(found.iter().copied().eq(1..=found.len() as i64), "seed {seed}, {key}: {found:?}");
        }
    }
}

#[test]
fn a_drain_by_any_process_finishes_the_job_for_all() {
    for seed in 0..6 {
        let world = Arc::new(World::new(seed, 600));
        let mut random = Random(seed + 277);
        for life in 0.. {
            assert!(life < 100, "seed {seed}: it is never finished");
            let fuse = if life > 3 { -1 } else { random.below(12) as i64 };
            world.fuse.store(fuse, Ordering::SeqCst);
            let controls = controls(2 + random.below(2) as usize);
            let drainer = controls[random.below(controls.len() as u64) as usize].clone();
            let pause = random.below(30);
            let draining = std::thread::spawn(move || {
                std::thread::park_timeout(Duration::from_millis(pause));
                drainer.drain();
            });
            let ran = run_in(&world, &live_graph(&world), 1 + random.below(2) as usize, &controls);
            draining.join().unwrap();
            let all_know = ran.iter().all(|process| process.as_ref().is_ok_and(|snapshot| snapshot.last));
            if how_it_ended(ran, seed) {
                assert!(all_know, "seed {seed}: no row will ever follow");
                break;
            }
        }
        is_finished(&world, seed);
    }
}

/// The controls, how each process ended, and whether the second deed was done before the end.
type Disturbed = (Vec<Arc<Control>>, Vec<Snapshot>, bool);

/// What is done to the control of a process.
type Deed = (usize, fn(&Control));

/// Runs a live job in several processes, while two things are done to two of its controls, at moments that the seed says. Returns
/// whether the second was done before the end, too.
fn disturbed(world: &Arc<World>, random: &mut Random, acts: [Deed; 2]) -> Disturbed {
    let controls = controls(3);
    let acting: Vec<_> = acts
        .into_iter()
        .map(|(process, act)| {
            // Close together: they are to meet.
            let (control, pause) = (controls[process].clone(), Duration::from_micros(random.below(6000)));
            std::thread::spawn(move || {
                // Not before it is at its work: what is wished earlier is decided on all at once.
                while control.ahead() == 0 && !control.ended() {
                    std::thread::yield_now();
                }
                std::thread::park_timeout(pause);
                act(&control);
                !control.ended()
            })
        })
        .collect();
    let ran = run_in(world, &live_graph(world), 1, &controls);
    let in_time = acting.into_iter().map(|act| act.join().unwrap()).last();
    let snapshots: Vec<Snapshot> = ran.into_iter().map(Result::unwrap).collect();
    let lasts: Vec<bool> = snapshots.iter().map(|snapshot| snapshot.last).collect();
    assert!(lasts.iter().all(|last| *last == lasts[0]), "some have drained, others have stopped: {lasts:?}");
    (controls, snapshots, in_time == Some(true))
}

#[test]
fn a_drain_that_meets_a_stop_finishes_the_job_for_all_or_for_none() {
    let mut drained = 0;
    for seed in 0..12 {
        let world = Arc::new(World::new(seed, 400));
        world.fuse.store(-1, Ordering::SeqCst);
        let mut random = Random(seed + 377);
        let (one, other) = (random.below(3) as usize, random.below(3) as usize);
        let (_, snapshots, _) = disturbed(&world, &mut random, [(one, Control::stop), (other, Control::drain)]);
        drained += u64::from(snapshots[0].last);
        if !snapshots[0].last {
            // Nothing is half drained: the next life takes it up, and can be drained.
            let (_, snapshots, _) = disturbed(&world, &mut random, [(one, Control::drain), (other, Control::drain)]);
            assert!(snapshots[0].last, "seed {seed}");
        }
        is_finished(&world, seed);
    }
    println!("{drained} of 12 drains came before the last tick was decided on");
}

#[test]
fn a_job_that_stops_to_go_on_rests_if_somebody_wants_it_to_and_is_drained_now_or_then() {
    for seed in 0..12 {
        let mut random = Random(seed + 477);
        let world = Arc::new(World::new(seed, 400));
        world.fuse.store(-1, Ordering::SeqCst);
        // New input is found by the process that leads, and that one is told to stop.
        let (controls, snapshots, in_time) =
            disturbed(&world, &mut random, [(0, Control::stop_to_go_on), (0, Control::stop)]);
        assert!(!snapshots[0].last);
        let go_on: Vec<bool> = controls.iter().map(|control| control.goes_on()).collect();
        assert!(go_on == [false; 3] || !in_time, "seed {seed}: it rests, {go_on:?}");
        let (controls, snapshots, _) =
            disturbed(&world, &mut random, [(0, Control::stop_to_go_on), (0, Control::drain)]);
        if !snapshots[0].last {
            let go_on: Vec<bool> = controls.iter().map(|control| control.goes_on()).collect();
            assert_eq!(go_on, [true; 3], "seed {seed}: the next life is drained");
            disturbed(&world, &mut random, [(0, Control::drain), (0, Control::drain)]);
        }
        is_finished(&world, seed);
    }
}
