mod cases;
mod live;
mod oracle;
mod world;

use proptest::prelude::*;

use world::{Row, Settings, Tick, World, row};

/// Ticks with a watermark that goes on by some steps.
fn ticks() -> impl Strategy<Value = Vec<Tick>> {
    let tick = (prop::collection::vec(row(), 0..30), 0i64..90);
    (prop::collection::vec(tick, 1..8), -60i64..60).prop_map(|(ticks, from)| {
        let mut watermark = from;
        let mut made: Vec<Tick> = Vec::new();
        for (rows, step) in ticks {
            watermark += step;
            made.push(Tick { rows, watermark: Some(watermark * world::MS) });
        }
        made.push(Tick { rows: Vec::new(), watermark: None });
        made
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    (1i64..40, 1i64..100, 0i64..40, any::<bool>(), any::<[bool; 4]>(), any::<bool>()).prop_map(
        |(gap, max_duration, lateness, passive, [user, campaign, referrer, midnight], leave)| Settings {
            gap,
            max_duration: max_duration.max(gap),
            lateness,
            passive,
            user,
            campaign,
            referrer,
            midnight,
            leave,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Rows in any order, with ties, nulls and late ones among them, in any batches and on any number of workers, give in each
    /// tick what the fold of the rules gives that is told every row in order.
    #[test]
    fn sessions_equal_the_fold_of_the_rules(
        ticks in ticks(), settings in settings(), workers in 1usize..4, cut in 1usize..9,
    ) {
        let mut world = World::new(settings, workers);
        world.cut = cut;
        let expected = oracle::run(&ticks, settings);
        for (number, tick) in ticks.iter().enumerate() {
            prop_assert_eq!(world.step(tick), expected[number].clone(), "tick {}", number);
        }
        prop_assert_eq!(world.kept(), [0, 0]);
    }

    /// A run that is stopped and restored at any ticks, with another number of workers each time, from bases and deltas, gives
    /// what an uninterrupted run gives.
    #[test]
    fn a_restored_run_equals_an_uninterrupted_one(
        ticks in ticks(),
        settings in settings(),
        acts in prop::collection::vec((0usize..4, 1usize..5, prop::collection::vec(0u16..world::SHARDS, 0..6)), 9),
    ) {
        let mut calm = World::new(settings, 1);
        let mut world = World::new(settings, 2);
        for (number, (tick, (act, workers, rebase))) in ticks.iter().zip(acts).enumerate() {
            prop_assert_eq!(world.step(tick), calm.step(tick), "tick {}", number);
            if act > 0 {
                world.freeze(&rebase);
            }
            if act > 1 {
                world.restore(workers);
                prop_assert_eq!(world.kept()[0], calm.kept()[0]);
            }
        }
    }

    /// The order of rows within a tick, and the batches they come in, reach nothing that comes out.
    #[test]
    fn arrival_order_reaches_no_output(ticks in ticks(), settings in settings(), cut in 1usize..9) {
        let mut there = World::new(settings, 1);
        let mut back = World::new(settings, 1);
        there.cut = cut;
        for tick in &ticks {
            let turned: Vec<Row> = tick.rows.iter().rev().cloned().collect();
            let turned = Tick { rows: turned, watermark: tick.watermark };
            prop_assert_eq!(there.step(tick), back.step(&turned));
        }
    }

    /// How the rows are cut into ticks does not change which sessions there are, as long as none is late.
    #[test]
    fn the_cut_into_ticks_changes_no_session(ticks in ticks(), settings in settings()) {
        let all: Vec<Row> = ticks.iter().flat_map(|tick| tick.rows.iter().cloned()).collect();
        let patient = |parts: Vec<Vec<Row>>| -> Vec<String> {
            let mut world = World::new(settings, 1);
            let parts = parts.into_iter().map(|rows| Tick { rows, watermark: Some(i64::MIN) });
            let last = Tick { rows: Vec::new(), watermark: None };
            let mut rows: Vec<String> = parts.chain([last]).flat_map(|tick| world.step(&tick).rows).collect();
            rows.sort();
            rows
        };
        let in_order = {
            let mut sorted = all.clone();
            sorted.sort_by_key(|row| row.time);
            let mut world = World::new(settings, 1);
            let mut rows = Vec::new();
            for row in sorted {
                let watermark = Some(row.time - 1);
                rows.extend(world.step(&Tick { rows: vec![row], watermark }).rows);
            }
            rows.extend(world.step(&Tick { rows: Vec::new(), watermark: None }).rows);
            rows.sort();
            rows
        };
        prop_assert_eq!(&patient(vec![all]), &in_order);
        prop_assert_eq!(&patient(ticks.iter().map(|tick| tick.rows.clone()).collect()), &in_order);
    }

    /// Keys that share a hash stay apart. No row waits: a row that did would have its hash made anew.
    #[test]
    fn colliding_hashes_mix_no_keys(ticks in ticks(), settings in settings(), hashes in 1u64..3) {
        let mut world = World::new(settings, 1);
        world.hashes = Some(hashes);
        let whole = Tick { rows: ticks.into_iter().flat_map(|tick| tick.rows).collect(), watermark: None };
        prop_assert_eq!(world.step(&whole), oracle::run(&[whole], settings).remove(0));
    }

    /// Times next to the ends of what 64 bits hold neither overflow nor vanish.
    #[test]
    fn extreme_times_are_counted(
        times in prop::collection::vec(prop::sample::select(vec![
            i64::MIN, i64::MIN + 1, i64::MIN + 70, -1, 0, i64::MAX - 70, i64::MAX - 1, i64::MAX,
        ]), 1..20),
        gap in prop::sample::select(vec![1i64, 60, i64::MAX / 1000]),
        lateness in prop::sample::select(vec![0i64, 9, i64::MAX / 1000]),
        mut watermarks in prop::collection::vec(prop::sample::select(vec![i64::MIN, i64::MIN + 5, 0, i64::MAX - 3]), 0..4),
    ) {
        let mut world = World::new(Settings { gap, lateness, max_duration: i64::MAX / 1000, ..Settings::default() }, 1);
        let rows = times.iter().map(|time| Row { time: *time, ..Row::default() }).collect();
        watermarks.sort_unstable();
        let mut counted = world.step(&Tick { rows, watermark: Some(i64::MIN) }).rows;
        for watermark in watermarks.into_iter().map(Some).chain([None]) {
            counted.extend(world.step(&Tick { rows: Vec::new(), watermark }).rows);
        }
        let sum: usize = counted.iter().map(|row| world::events_of(row)).sum();
        prop_assert_eq!(sum, times.len());
    }
}
