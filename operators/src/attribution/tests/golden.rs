//! The golden examples, each under its name.

use super::*;

/// G-B1
#[test]
fn g_b1_each_model_divides_the_order() {
    let mut runner = Runner::base(settings());
    assert!(runner.step(&[], &[], &[], at(10, 20, 0)).is_empty(), "the watermark has not passed the order");
    runner.step(&[], &[], &[], at(10, 20, 0) + 1);
    runner.check("o1", "last_touch", &[("c2", 12_000)]);
    runner.check("o1", "first_touch", &[("c1", 12_000)]);
    runner.check("o1", "linear", &[("c1", 6_000), ("c2", 6_000)]);
    runner.check("o1", "position_based", &[("c1", 6_000), ("c2", 6_000)]);
    runner.check("o1", "time_decay", &[("c1", 1_333), ("c2", 10_667)]);
    runner.step(&[], &[], &[], i64::MAX);
    assert_eq!(runner.state.kept(), [0, 0], "nothing is kept after the last tick");
}

/// G-B2
#[test]
fn g_b2_a_millisecond_before_the_window_is_outside() {
    let mut runner = Runner::new(settings());
    let touches = [touch("c1", "email", at(9, 50, 0) - 1), touch("c2", "search", at(10, 12, 30))];
    runner.step(&[order("o1", at(10, 20, 0), 12_000)], &touches, &[], i64::MAX);
    for model in MODELS {
        runner.check("o1", model, &[("c2", 12_000)]);
    }
}

/// G-B3
#[test]
fn g_b3_a_click_of_the_order_s_millisecond_is_the_last_one_later_is_none() {
    for (late, last) in [(0, "c3"), (1, "c2")] {
        let mut runner = Runner::base(settings());
        runner.step(&[], &[touch("c3", "email", at(10, 20, 0) + late)], &[], i64::MAX);
        runner.check("o1", "last_touch", &[(last, 12_000)]);
    }
}

/// G-B4
#[test]
fn g_b4_an_order_told_again_changes_nothing() {
    let mut runner = Runner::base(settings());
    runner.step(&[], &[], &[], at(10, 20, 1));
    let table = runner.table.clone();
    let again = |id: &str, time, cents| Row { id: Some(id.to_owned()), ..order("o1", time, cents) };
    let both = [again("x1", at(10, 21, 0), 12_000), again("x2", at(10, 21, 0), 13_000)];
    assert!(runner.step(&both, &[], &[], at(12, 0, 0)).is_empty());
    assert!(runner.step(&[again("x3", at(12, 1, 0), 12_000)], &[], &[], i64::MAX).is_empty());
    assert_eq!(runner.table, table);
    let mut notices = runner.notices.clone();
    notices.sort();
    assert_eq!(
        (notices.len(), &notices[1..]),
        (3, &["duplicate_order o1 x1 -".to_owned(), "duplicate_order o1 x3 -".to_owned()][..])
    );
    assert!(notices[0].starts_with("conflict o1 x2 kept ") && notices[0].contains(", refused "), "{}", notices[0]);
}

/// G-B5
#[test]
fn g_b5_a_click_that_comes_late_takes_its_part() {
    let mut runner = Runner::base(settings());
    runner.step(&[], &[], &[], at(10, 20, 1));
    let changes = runner.step(&[], &[touch("c3", "social", at(10, 15, 0))], &[], at(10, 20, 2));
    let told = |model: &str| {
        let its = changes.iter().filter(|(_, row)| row.model == model);
        let mut its: Vec<String> = its.map(|(op, row)| format!("{op}{} {}", row.cents, row.touch_id)).collect();
        its.sort();
        its
    };
    assert_eq!(told("last_touch"), ["+12000 c3", "-12000 c2"]);
    assert_eq!(told("linear"), ["+4000 c1", "+4000 c2", "+4000 c3", "-6000 c1", "-6000 c2"]);
    assert!(told("first_touch").is_empty(), "what stays the same is not told again");
    runner.step(&[], &[], &[], at(10, 31, 0));
    runner.step(&[], &[touch("c4", "social", at(10, 15, 0))], &[], at(10, 31, 0));
    assert_eq!(runner.late, 1);
}

/// G-B6
#[test]
fn g_b6_refunds_in_parts_end_at_zero_for_each_touch() {
    let mut runner = Runner::new(with_rules(|rules| rules.models = vec![Model::Linear]));
    let touches = [("a", 0), ("b", 1), ("c", 2)].map(|(id, minute)| touch(id, id, at(10, minute, 0)));
    runner.step(&[order("o1", at(10, 20, 0), 100)], &touches, &[], at(10, 21, 0));
    runner.check("o1", "linear", &[("a", 34), ("b", 33), ("c", 33)]);
    for (nth, cents) in [(1, [-17, -17, -16]), (2, [-17, -16, -17])] {
        let time = at(10, 20, 0) + nth * DAY;
        let mut changes = runner.step(&[], &[], &[refund(&format!("r{nth}"), "o1", time, 50)], time + 1);
        changes.sort_by(|a, b| a.1.touch_id.cmp(&b.1.touch_id));
        assert_eq!(changes.iter().map(|(_, row)| row.cents).collect::<Vec<_>>(), cents);
        let is_refund = |row: &Gave| row.reason == "refund" && row.conversions_ppm == 0 && row.booked == time;
        assert!(changes.iter().all(|(op, row)| op == "+" && is_refund(row)), "{changes:?}");
    }
    runner.check("o1", "linear", &[("a", 0), ("b", 0), ("c", 0)]);
}

/// Returns what each touch of a path of so many is given of an order.
fn divided(model: Model, touches: i64, cents: i64) -> Vec<i64> {
    let mut runner = Runner::new(with_rules(|rules| rules.models = vec![model]));
    let touches: Vec<Row> = (0..touches).map(|n| touch(&format!("t{n}"), "email", at(10, n, 0))).collect();
    runner.step(&[order("o1", at(10, 20, 0), cents)], &touches, &[], i64::MAX);
    runner.net("o1", model_name(model)).into_iter().map(|(_, cents)| cents).collect()
}

/// G-B7
#[test]
fn g_b7_a_touch_may_lose_a_unit_although_the_order_grew() {
    assert_eq!(divided(Model::PositionBased, 4, 3), [1, 1, 0, 1]);
    assert_eq!(divided(Model::PositionBased, 4, 4), [2, 0, 0, 2]);
}

/// G-B8
#[test]
fn g_b8_money_is_divided_to_the_cent() {
    assert_eq!(divided(Model::Linear, 3, 10_000), [3_334, 3_333, 3_333]);
    assert_eq!(divided(Model::PositionBased, 4, 100), [40, 10, 10, 40]);
    assert_eq!(divided(Model::PositionBased, 3, 999), [400, 200, 399]);
}

/// G-B9
#[test]
fn g_b9_a_refund_waits_for_its_order() {
    let mut runner = Runner::new(settings());
    assert!(runner.step(&[], &[], &[refund("r1", "o1", at(10, 19, 0), 2_000)], at(10, 19, 30)).is_empty());
    let touches = [touch("c1", "email", at(10, 10, 0)), touch("c2", "search", at(10, 12, 30))];
    let changes = runner.step(&[order("o1", at(10, 20, 0), 12_000)], &touches, &[], at(10, 20, 1));
    assert!(changes.iter().all(|(_, row)| row.booked == at(10, 20, 0)), "nothing is booked before the order");
    runner.check("o1", "last_touch", &[("c2", 10_000)]);
    assert!(runner.notices.is_empty());
}

/// G-B10
#[test]
fn g_b10_each_product_is_credited_to_its_touches() {
    let of = |id: &str, product: Option<&str>, minute| Row {
        product: product.map(str::to_owned),
        ..touch(id, "email", at(10, minute, 0))
    };
    let touches = [of("cA", Some("A"), 1), of("cB", Some("B"), 2), of("c0", None, 3)];
    type Amounts = &'static [(&'static str, i64)];
    let cases: [(&[usize], Amounts); 3] = [
        (&[0, 1, 2], &[("cA", 3_000), ("cB", 2_000)]),
        (&[0, 2], &[("c0", 2_000), ("cA", 3_000)]),
        (&[0], &[("-", 2_000), ("cA", 3_000)]),
    ];
    for (there, amounts) in cases {
        let mut settings = with_rules(|rules| rules.item_scope = ItemScope::Product);
        let (product, price) = ("product".to_owned(), "price".to_owned());
        settings.conversion.lines = Some(LineColumns { list: 10, product, price, quantity: None, discount: None });
        settings.conversion.value = None;
        let mut runner = Runner::new(settings);
        let touches: Vec<Row> = there.iter().map(|nth| touches[*nth].clone()).collect();
        let lines = vec![("A".to_owned(), 3_000), ("B".to_owned(), 2_000)];
        runner.step(&[Row { lines, ..order("o1", at(10, 20, 0), 1) }], &touches, &[], at(11, 0, 0));
        runner.check("o1", "last_touch", amounts);
        runner.step(
            &[],
            &[],
            &[refund("r1", "o1", at(11, 0, 0), 4_999), refund("r2", "o1", at(11, 0, 1), 1)],
            i64::MAX,
        );
        assert!(runner.net("o1", "last_touch").iter().all(|(_, cents)| *cents == 0));
    }
}

/// G-B11
#[test]
fn g_b11_a_click_takes_all_from_views() {
    let day = |rules: &mut Settings| rules.windows = Windows { view_ms: Some(DAY), ..Windows::default() };
    let mut runner = Runner::base(with_rules(day));
    runner.step(&[], &[view("v1", at(10, 19, 30))], &[], i64::MAX);
    runner.check("o1", "last_touch", &[("c2", 12_000)]);
    for (settings, expected, through) in [(with_rules(day), "v1", "view"), (settings(), "-", "-")] {
        let mut runner = Runner::new(settings);
        let hidden = Row { product: Some("hidden".to_owned()), ..view("v2", at(10, 19, 40)) };
        runner.step(&[order("o1", at(10, 20, 0), 12_000)], &[view("v1", at(10, 19, 30)), hidden], &[], i64::MAX);
        runner.check("o1", "last_touch", &[(expected, 12_000)]);
        assert!(runner.table.keys().all(|row| row.through == through));
    }
}

/// G-B12
#[test]
fn g_b12_direct_touches_are_passed_over_unless_there_are_no_others() {
    for (channels, last, non_direct) in
        [(["email", "search", "direct", "direct"], "t3", "t1"), (["direct", "direct", "direct", "direct"], "t3", "t3")]
    {
        let mut runner = Runner::new(settings());
        // A touch without a channel is direct.
        let named = |n: usize, channel: &str| Row {
            channel: Some(channel.to_owned()).filter(|_| n != 2),
            ..touch(&format!("t{n}"), channel, at(10, n as i64, 0))
        };
        let touches: Vec<Row> = channels.iter().enumerate().map(|(n, channel)| named(n, channel)).collect();
        runner.step(&[order("o1", at(10, 20, 0), 500)], &touches, &[], i64::MAX);
        runner.check("o1", "last_touch", &[(last, 500)]);
        runner.check("o1", "last_non_direct", &[(non_direct, 500)]);
    }
}

/// G-B13
#[test]
fn g_b13_of_one_millisecond_the_id_decides() {
    let mut runner = Runner::new(settings());
    let touches = [touch("k2", "a", at(10, 0, 0)), touch("k1", "b", at(10, 0, 0))];
    runner.step(&[order("o1", at(10, 20, 0), 500)], &touches, &[], i64::MAX);
    runner.check("o1", "last_touch", &[("k2", 500)]);
    runner.check("o1", "first_touch", &[("k1", 500)]);
}

#[test]
fn a_cancellation_takes_the_conversion_and_a_new_total_is_no_difference() {
    let mut runner = Runner::base(settings());
    let update = correction("update", "u1", "o1", at(11, 0, 0), Some(10_000));
    runner.step(&[], &[], &[update], at(11, 0, 1));
    runner.check("o1", "linear", &[("c1", 5_000), ("c2", 5_000)]);
    let cancel = correction("cancel", "x1", "o1", at(12, 0, 0), None);
    let changes = runner.step(&[], &[], &[cancel], at(12, 0, 1));
    assert_eq!(
        changes.iter().filter(|(_, row)| row.model == "linear").map(|(_, row)| row.conversions_ppm).sum::<i64>(),
        -1_000_000
    );
    for model in MODELS {
        assert!(runner.net("o1", model).iter().all(|(_, cents)| *cents == 0), "{model}");
    }
    runner.step(&[], &[], &[refund("r1", "o1", at(13, 0, 0), 1), refund("r2", "o9", at(13, 0, 0), 1)], i64::MAX);
    runner.notices.sort();
    assert_eq!(runner.notices, ["unmatched o1 r1 cancelled", "unmatched o9 r2 no_order"]);
}

#[test]
fn a_click_again_within_a_second_is_one_click() {
    let mut runner = Runner::new(with_rules(|rules| rules.models = vec![Model::Linear]));
    let again = |id: &str, late| Row { campaign: Some("sale".into()), ..touch(id, "email", at(10, 0, 0) + late) };
    let touches = [again("c1", 0), again("c2", 1_000), again("c3", 2_001)];
    runner.step(&[order("o1", at(10, 20, 0), 500)], &touches, &[], i64::MAX);
    runner.check("o1", "linear", &[("c1", 250), ("c3", 250)]);
    assert_eq!(runner.notices, ["duplicate_click - c2 -"]);
}

#[test]
fn rows_of_a_key_match_by_click_id_person_or_device() {
    let text = |text: &str| Some(text.to_owned());
    let touches = [
        Row { click_id: text("g1"), ..touch("by_click", "ads", at(10, 1, 0)) },
        Row { person: text("p1"), ..touch("by_person", "email", at(10, 2, 0)) },
        Row { device: text("d1"), ..touch("by_device", "search", at(10, 3, 0)) },
        Row {
            person: text("p2"),
            device: text("d2"),
            click_id: text("g2"),
            ..touch("by_none", "social", at(10, 4, 0))
        },
    ];
    let bought =
        Row { click_id: text("g1"), person: text("p1"), device: text("d1"), ..order("o1", at(10, 20, 0), 300) };
    for (strict, expected) in
        [(false, &[("by_click", 100), ("by_device", 100), ("by_person", 100)][..]), (true, &[("by_click", 300)][..])]
    {
        let mut settings = with_rules(|rules| {
            rules.models = vec![Model::Linear];
            rules.strict_click_id = strict;
        });
        let matches = MatchColumns { click_id: Some(3), person: Some(1), device: Some(2) };
        (settings.conversion.matches, settings.touch.matches) = (matches.clone(), matches);
        let mut runner = Runner::new(settings);
        runner.step(std::slice::from_ref(&bought), &touches, &[], i64::MAX);
        runner.check("o1", "linear", expected);
    }
}

#[test]
fn eager_rows_come_with_the_order() {
    let mut runner = Runner::new(with_rules(|rules| rules.emission = Emission::Eager));
    let given =
        runner.step(&[order("o1", at(10, 20, 0), 500)], &[touch("c1", "email", at(10, 0, 0))], &[], at(9, 0, 0));
    assert_eq!(given.len(), MODELS.len());
    let corrected = runner.step(&[], &[touch("c2", "email", at(10, 1, 0))], &[], at(9, 0, 0));
    assert!(corrected.iter().any(|(op, row)| op == "-" && row.touch_id == "c1"));
    runner.check("o1", "last_touch", &[("c2", 500)]);
}

#[test]
fn a_touch_is_consumed_where_each_counts_once() {
    let mut runner = Runner::new(with_rules(|rules| rules.count_mode = CountMode::One));
    let orders = [order("o1", at(10, 5, 0), 100), order("o2", at(10, 6, 0), 200)];
    runner.step(&orders, &[touch("c1", "email", at(10, 0, 0))], &[], i64::MAX);
    runner.check("o1", "last_touch", &[("c1", 100)]);
    runner.check("o2", "last_touch", &[("-", 200)]);
}
