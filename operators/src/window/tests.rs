mod cases;
mod oracle;
mod world;

use proptest::prelude::*;

use world::{Row, Spans, Tick, World, row};

/// A tick: its rows, and how far the watermark moves.
fn ticks() -> impl Strategy<Value = Vec<Tick>> {
    let tick = (prop::collection::vec(row(), 0..40), 0i64..90);
    (prop::collection::vec(tick, 1..8), -100i64..0).prop_map(|(ticks, from)| {
        let mut watermark = from;
        let mut made: Vec<Tick> = Vec::new();
        for (rows, step) in ticks {
            watermark += step;
            made.push(Tick { rows, watermark: Some(watermark) });
        }
        made.push(Tick { rows: Vec::new(), watermark: None });
        made
    })
}

fn spans() -> impl Strategy<Value = Spans> {
    (1i64..60, 1i64..61, 0i64..40).prop_map(|(size, every, lateness)| Spans { size, every: every.min(size), lateness })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Rows in any order, with ties, duplicates, nulls and late ones among them, in any batches and on any number of workers,
    /// give in each tick what a recomputation of everything from its definition gives.
    #[test]
    fn windows_equal_a_naive_recomputation(ticks in ticks(), spans in spans(), workers in 1usize..5, cut in 1usize..9) {
        let mut world = World::new(spans, workers, world::AGGREGATES);
        world.cut = cut;
        let expected = oracle::run(&ticks, spans);
        for (number, tick) in ticks.iter().enumerate() {
            prop_assert_eq!(world.step(tick), expected[number].clone(), "tick {}", number);
        }
        prop_assert_eq!(world.groups(), 0);
    }

    /// A run that is stopped and restored at any ticks, with another number of workers each time, from bases and deltas, gives
    /// what an uninterrupted run gives.
    #[test]
    fn a_restored_run_equals_an_uninterrupted_one(
        ticks in ticks(),
        spans in spans(),
        acts in prop::collection::vec((0usize..4, 1usize..6, prop::collection::vec(0u16..world::SHARDS, 0..6)), 9),
    ) {
        let mut calm = World::new(spans, 1, world::AGGREGATES);
        let mut world = World::new(spans, 2, world::AGGREGATES);
        for (number, (tick, (act, workers, rebase))) in ticks.iter().zip(acts).enumerate() {
            prop_assert_eq!(world.step(tick), calm.step(tick), "tick {}", number);
            if act > 0 {
                world.freeze(&rebase);
            }
            if act > 1 {
                world.restore(workers);
                prop_assert_eq!(world.groups(), calm.groups());
            }
        }
    }

    /// The order of rows within a tick, and the batches they come in, reach nothing that comes out.
    #[test]
    fn arrival_order_reaches_no_output(ticks in ticks(), spans in spans(), cut in 1usize..9) {
        let mut there = World::new(spans, 1, world::AGGREGATES);
        let mut back = World::new(spans, 1, world::AGGREGATES);
        there.cut = cut;
        for tick in &ticks {
            let turned: Vec<Row> = tick.rows.iter().rev().cloned().collect();
            let turned = Tick { rows: turned, watermark: tick.watermark };
            prop_assert_eq!(there.step(tick), back.step(&turned));
        }
    }

    /// Keys that share a hash stay apart.
    #[test]
    fn colliding_hashes_mix_no_keys(ticks in ticks(), spans in spans(), hashes in 1u64..3) {
        let mut world = World::new(spans, 1, world::AGGREGATES);
        world.hashes = Some(hashes);
        let expected = oracle::run(&ticks, spans);
        for (number, tick) in ticks.iter().enumerate() {
            prop_assert_eq!(world.step(tick), expected[number].clone(), "tick {}", number);
        }
    }

    /// Times next to the ends of what 64 bits hold neither overflow nor vanish.
    #[test]
    fn extreme_times_are_counted(
        times in prop::collection::vec(prop::sample::select(vec![
            i64::MIN, i64::MIN + 1, i64::MIN + 70, -1, 0, i64::MAX - 70, i64::MAX - 1, i64::MAX,
        ]), 1..20),
        size in prop::sample::select(vec![1i64, 7, 60, i64::MAX]),
        lateness in prop::sample::select(vec![0i64, 9, i64::MAX]),
        watermarks in prop::collection::vec(prop::sample::select(vec![i64::MIN, i64::MIN + 5, 0, i64::MAX - 3]), 0..4),
    ) {
        let spans = Spans { size, every: size, lateness };
        let mut world = World::new(spans, 1, &[("rows", "count(*)")]);
        let rows = times.iter().map(|time| Row { time: *time, ..Row::default() }).collect();
        let mut counted = world.step(&Tick { rows, watermark: Some(i64::MIN) }).rows;
        let mut sorted = watermarks;
        sorted.sort_unstable();
        for watermark in sorted.into_iter().map(Some).chain([None]) {
            counted.extend(world.step(&Tick { rows: Vec::new(), watermark }).rows);
        }
        let sum: usize = counted.iter().map(|row| row.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum();
        prop_assert_eq!(sum, times.len());
    }
}
