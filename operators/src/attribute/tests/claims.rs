//! Claims about single steps: when rows are emitted, late, duplicates, kept, and what happens at a bound.

use super::*;
use crate::kept::BATCH_ROWS;

#[test]
fn an_order_waits_until_the_watermark_has_passed_its_time() {
    let mut runner = Runner::new(Setup::default());
    assert_eq!(runner.pairs(&[row(5000, "o")], &[], 4000), [""; 0]);
    assert_eq!(runner.pairs(&[], &[row(4500, "c1")], 5000), [""; 0]);
    assert_eq!(runner.pairs(&[], &[row(5000, "c2")], 5001), ["o<-c2"]);
    assert_eq!(runner.pairs(&[], &[], 9000), [""; 0]);
}

#[test]
fn a_row_behind_the_watermark_before_the_tick_is_late_and_changes_nothing() {
    let mut runner = Runner::new(Setup::default());
    runner.step(&[row(5000, "o")], &[], 5000);
    let given = runner.step(&[row(4999, "late")], &[row(4999, "c1"), row(5000, "c0")], 6000);
    assert_eq!(given.rows.iter().map(|r| pair(r)).collect::<Vec<_>>(), ["o<-c0"]);
    assert_eq!(given.counts, Counts { input: 3, taken: 1, late: 2, ..Counts::default() });
    // The inputs differ in their columns: only late conversions fit the late output.
    assert_eq!(given.late.len(), 1);
    assert!(given.late[0].starts_with("late|u1|1|4999000|late|0|0|"), "{}", given.late[0]);
}

#[test]
fn late_touches_are_given_too_where_both_inputs_have_the_same_columns() {
    let mut runner = Runner::new(Setup { alike: true, ..Setup::default() });
    runner.step(&[], &[], 5000);
    let given = runner.step(&[row(1, "order")], &[row(2, "click"), row(7000, "in time")], 6000);
    assert_eq!(given.late.iter().map(|text| &text[..5]).collect::<Vec<_>>(), ["click", "order"]);
    assert_eq!(given.counts, Counts { input: 3, taken: 1, late: 2, ..Counts::default() });
}

#[test]
fn null_keys_never_match_and_are_not_kept() {
    let null = |name: &str| Row { item: None, ..row(10, name) };
    let mut runner = Runner::new(Setup::default());
    let given = runner.step(&[null("o")], &[null("c"), Row { user: None, ..row(10, "d") }], 5);
    assert_eq!(given.counts, Counts { input: 3, taken: 3, ..Counts::default() });
    assert_eq!(runner.state.kept(), [0, 1, 0]);
    let given = runner.step(&[], &[], 11);
    let hash = given.rows[0].rsplit('|').next().unwrap().to_string();
    assert_eq!(given.rows, [format!("o|u1|-|-|-|-|false|last_touch|-|-|10000|o|0|0|{hash}")]);
}

#[test]
fn keys_match_as_a_whole_and_not_as_joined_text() {
    let of = |user: &str, name: &str| Row { user: Some(user.into()), item: None, ..row(10, name) };
    let setup = Setup { keys: 1, ..Setup::default() };
    let clicks = [of("a", "c-a"), of("ab", "c-ab"), of("", "c-"), of("käse", "c-käse")];
    let given = run_once(setup, &[of("ab", "o1"), of("", "o2"), of("kase", "o3"), of("käse", "o4")], &clicks);
    let pairs: Vec<String> = given.rows.iter().map(|r| pair(r)).collect();
    assert_eq!(pairs, ["o1<-c-ab", "o2<-c-", "o3<--", "o4<-c-käse"]);
}

#[test]
fn the_first_in_per_key_order_wins_among_duplicates_of_one_tick() {
    let setup = Setup { dedupe_ms: Some(100), ..Setup::default() };
    let order = |time: i64, name: &str| Row { id: Some("id".into()), ..row(time, name) };
    let orders =
        [order(70, "third"), order(50, "first"), order(50, "first too"), order(150, "within"), order(151, "new")];
    let given = run_once(setup, &orders, &[]);
    assert_eq!(given.rows.iter().map(|r| pair(r)).collect::<Vec<_>>(), ["first<--", "new<--"]);
    assert_eq!(given.counts, Counts { input: 5, taken: 2, duplicate: 3, ..Counts::default() });
}

#[test]
fn an_id_is_compared_with_every_accepted_order_and_duplicates_do_not_prolong() {
    let setup = Setup { dedupe_ms: Some(100), ..Setup::default() };
    let order = |time: i64, name: &str| Row { id: Some("id".into()), ..row(time, name) };
    let mut runner = Runner::new(setup);
    assert_eq!(runner.step(&[order(1000, "a")], &[], 900).counts.taken, 1);
    assert_eq!(runner.step(&[order(1090, "b")], &[], 900).counts.duplicate, 1);
    assert_eq!(runner.step(&[order(1101, "c")], &[], 900).counts.taken, 1);
    // Both are remembered: one duplicates the first, the other the second, the third neither.
    let given = runner.step(&[order(905, "d"), order(1201, "e"), order(899, "late")], &[], 900);
    assert_eq!(given.counts, Counts { input: 3, duplicate: 2, late: 1, ..Counts::default() });
    assert_eq!(runner.step(&[order(1202, "f")], &[], 900).counts.taken, 1);
}

#[test]
fn only_the_same_key_and_id_is_a_duplicate() {
    let setup = Setup { dedupe_ms: Some(1_000_000), ..Setup::default() };
    let order = |user: Option<&str>, id: Option<&str>| Row {
        user: user.map(Into::into),
        id: id.map(Into::into),
        ..row(5, "o")
    };
    let mut runner = Runner::new(setup);
    let orders = [
        order(Some("u"), Some("1")),
        order(Some("u1"), Some("")),
        order(Some("u"), None),
        order(Some("u"), None),
        order(None, Some("1")),
    ];
    assert_eq!(runner.step(&orders, &[], 0).counts.taken, 5);
    assert_eq!(runner.step(&orders, &[], 0).counts, Counts { input: 5, taken: 2, duplicate: 3, ..Counts::default() });
}

#[test]
fn what_no_row_on_time_can_need_is_let_go() {
    let setup = Setup { dedupe_ms: Some(60_000), ..Setup::default() };
    let mut runner = Runner::new(setup);
    for second in 0..600 {
        let names: Vec<String> = (0..20).map(|n| format!("{second}-{n}")).collect();
        let user = |n: usize| Some(format!("u{}", (second * 7 + n as i64 * 3) % 1000));
        let rows = |every: usize| -> Vec<Row> {
            let rows = names.iter().enumerate().filter(|(n, _)| n % every == 0);
            rows.map(|(n, name)| Row { user: user(n), ..row(second * 1000 + 50 * n as i64, name) }).collect()
        };
        runner.step(&rows(10), &rows(1), second * 1000 - 2000);
        let [touches, pending, seen] = runner.state.kept();
        // 3 s of disorder and 1 s of window at 20 a second; a sweep comes when an eighth has run out, counted in seconds.
        assert!(touches <= 4 * 20 * 8 / 7 + 2 * 20, "{touches} touches at second {second}");
        assert!(pending <= 3 * 2 + 2, "{pending} orders at second {second}");
        assert!(seen <= 63 * 2 * 8 / 7 + 8, "{seen} ids at second {second}");
    }
    runner.step(&[], &[], 1_000_000);
    assert_eq!(runner.state.kept(), [0, 0, 0]);
    assert!(runner.state.bytes() < 64 * 1024, "{} bytes for nothing", runner.state.bytes());
}

#[test]
fn a_touch_from_far_ahead_does_not_hold_back_the_others() {
    let mut runner = Runner::new(Setup::default());
    let mut clicks: Vec<Row> = (0..5000).map(|n| row(n, "c")).collect();
    clicks.push(row(10_000_000, "far"));
    runner.step(&[], &clicks, 0);
    runner.step(&[], &[], 100_000);
    assert_eq!(runner.state.kept()[0], 1);
    assert_eq!(runner.pairs(&[row(10_000_500, "o")], &[], 20_000_000), ["o<-far"]);
}

#[test]
fn times_at_the_limits_neither_overflow_nor_hang() {
    for model in Model::ALL {
        for window_ms in [0, 1000, u64::MAX / 2] {
            let setup = Setup { model, window_ms, dedupe_ms: Some(u64::MAX / 2), ..Setup::default() };
            let times = [i64::MIN, i64::MIN / 1000, -1, 0, i64::MAX / 1000, i64::MAX];
            let rows: Vec<Row> = times.iter().map(|time| row(*time, &format!("{time}"))).collect();
            let mut runner = Runner::new(setup.clone());
            runner.step(&rows, &rows, i64::MIN / 1000);
            runner.step(&rows, &rows, i64::MAX / 1000);
            let given = runner.step(&[], &[], i64::MAX);
            assert_eq!(given.rows.iter().filter(|text| text.contains("|true|")).count(), given.rows.len());
            assert_eq!(runner.state.kept(), [0, 0, 0]);
            assert_eq!(runner.step(&rows, &rows, i64::MAX).counts.late, 12, "+inf has passed all");
        }
    }
}

#[test]
fn an_input_of_many_batches_gives_batches_of_bounded_size() {
    let orders: Vec<Row> = (0..20_000).map(|n| row(n, &format!("o{n}"))).collect();
    let mut runner = Runner::new(Setup { dedupe_ms: Some(1), ..Setup::default() });
    let now = TestTick { orders, clicks: vec![row(0, "c")], watermark: i64::MAX, last: true };
    let out = runner.try_step(&now).unwrap();
    assert_eq!(out.rows.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [BATCH_ROWS, BATCH_ROWS, 3616]);
    assert!(out.rows.iter().all(|batch| batch.schema() == *runner.state.plan.schema()));
}

#[test]
fn rows_of_much_text_go_out_in_batches_that_arrow_can_hold() {
    let long = |name: &str| name.repeat(9 << 20);
    let orders: Vec<Row> = (0..6).map(|n| Row { name: long("o"), ..row(n, "short id") }).collect();
    let clicks = vec![Row { name: long("c"), ..row(0, "c") }];
    let mut runner = Runner::new(Setup::default());
    runner.try_step(&TestTick { orders, clicks, watermark: 0, last: false }).unwrap();
    let sizes = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>();
    let frozen = runner.state.freeze(&[vec![], (0..8).collect()]).unwrap();
    let frozen: Vec<_> = frozen.into_iter().map(|table| table.gather().unwrap()).collect();
    assert_eq!(sizes(&frozen[1].base), [6], "they are written from where they are kept");
    let out = runner.try_step(&TestTick { watermark: 10, ..TestTick::default() }).unwrap();
    assert_eq!(sizes(&out.rows), [2, 2, 2]);
}

#[test]
fn a_bound_stops_the_job_and_names_its_setting() {
    let bounds = AttributeBounds { max_touches: 10, max_touches_per_key: 5, max_pending: 3, max_seen: 3 };
    let setup = Setup { bounds, dedupe_ms: Some(1000), ..Setup::default() };
    let stopped = |orders: Vec<Row>, clicks: Vec<Row>, watermark: i64| {
        let now = TestTick { orders, clicks, watermark, last: false };
        match Runner::new(setup.clone()).try_step(&now) {
            Ok(_) => String::new(),
            Err(StepError::Bound(reason)) => reason,
            Err(other) => panic!("{other}"),
        }
    };
    let of_users = |n: i64| (0..n).map(|n| Row { user: Some(format!("u{n}")), ..row(n, &format!("{n}")) }).collect();
    let of_one = |n: i64| (0..n).map(|n| row(n, &format!("{n}"))).collect();
    assert_eq!(stopped(of_users(3), of_users(10), 0), "");
    assert_eq!(stopped(vec![], of_one(5), 0), "");
    assert!(stopped(vec![], of_users(11), 0).contains("`max_touches`"));
    let crowded = stopped(vec![], of_one(6), 0);
    assert!(crowded.contains("`max_touches_per_key`") && crowded.contains("user = `u1`, item = `1`"), "{crowded}");
    assert!(stopped(of_users(4), vec![], 10).contains("`max_seen`"));
    assert!(stopped(of_users(4), vec![], 10_000).is_empty(), "what is not needed does not count");
    let pending = Setup { dedupe_ms: None, ..setup.clone() };
    let now = TestTick { orders: of_users(4), ..TestTick::default() };
    assert!(
        matches!(Runner::new(pending).try_step(&now), Err(StepError::Bound(reason)) if reason.contains("`max_pending`"))
    );
}

#[test]
fn the_columns_are_the_documented_ones() {
    let attribute = Setup::default().attribute();
    let names: Vec<&str> = attribute.schema().fields().iter().map(|f| f.name().as_str()).collect();
    let wanted = "order user item touch_click touch_user touch_item attributed model weight_ppm time_to_convert_ms \
                  __time __id __split __position __hash";
    assert_eq!(names.join(" "), wanted);
    assert!(attribute.schema().field(3).is_nullable(), "an order without a touch has nulls there");
    assert_eq!(attribute.late_schema(), &Setup::default().schema("order"));
}

#[test]
fn settings_that_do_not_fit_the_inputs_are_refused() {
    let setup = Setup { ids: false, dedupe_ms: None, ..Setup::default() };
    let mut settings = setup.attribute().settings;
    settings.dedupe_for = Some(Duration::ZERO);
    let (orders, clicks) = (setup.schema("order"), setup.schema("click"));
    assert!(Attribute::new(settings.clone(), &orders, &clicks).is_err_and(|e| e.to_string().contains("without an id")));
    settings.dedupe_for = None;
    settings.touch_keys.reverse();
    assert!(Attribute::new(settings, &orders, &clicks).is_err_and(|e| e.to_string().contains("differ in type")));
}

#[test]
fn models_are_known_by_their_names() {
    for model in Model::ALL {
        assert_eq!(Model::named(model.name()), Some(model));
    }
    assert_eq!(Model::named("linear"), None);
}
