//! What becomes of state under each kind of change, as job files.

use super::*;

/// The fates of a change of `JOB` in which no step says what it was called.
fn fates(old: &Shape, new: &Shape, rows: &dyn Fn(&str) -> u64) -> Fates {
    super::fates(old, new, &BTreeMap::new(), rows)
}

const JOB: &str = r#"
job: shop
sources:
  clicks:
    topic: clicks
    format: json
    schema: { event_id: string, user_id: string, item_id: string, kind: string, price: "decimal(12,2)", n: int64, ts: timestamp_ms }
    event_time: ts
    id: event_id
  orders:
    topic: orders
    format: json
    schema: { order_id: string, user_id: string, item_id: string, price: "decimal(12,2)", at: timestamp_ms, ts: timestamp_ms }
    event_time: ts
    id: order_id
steps:
  item_clicks:
    select: { from: clicks, where: "kind = 'click'", columns: [event_id, user_id, item_id, price, "n + 1 as m", ts] }
  minutes:
    window:
      from: item_clicks
      tumble: 1m
      by: [item_id]
      lateness: 1m
      aggregates:
        clicks: "count(*)"
        most: "max(price)"
        users: "count(distinct user_id)"
        sum_m: "sum(m)"
  attributed:
    attribute: { conversions: orders, touches: item_clicks, by: [user_id, item_id], window: 30m, model: last_touch }
sinks:
  out: { from: minutes, topic: out }
  credits: { from: attributed, file: { path: credits.jsonl } }
"#;

fn shape(text: &str) -> Shape {
    let (plan, _) = crate::check("job.yaml", text, &[]).unwrap_or_else(|report| {
        panic!("{}\n{text}", report.render(crate::fault::Style::Plain));
    });
    plan.shape().clone()
}

/// Replaces each pair, all of which must be there.
fn edited(changes: &[(&str, &str)]) -> String {
    edited_in(JOB, changes)
}

fn edited_in(job: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(job.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

fn part(fates: &Fates, name: &str) -> Part {
    fates.parts.iter().find(|part| part.name == name).unwrap_or_else(|| panic!("{name}: {fates:?}")).clone()
}

/// One line: fate, whether something is lost, notes.
fn told(changes: &[(&str, &str)], name: &str) -> String {
    told_in(JOB, changes, name)
}

fn told_in(job: &str, changes: &[(&str, &str)], name: &str) -> String {
    let fates = fates(&shape(job), &shape(&edited_in(job, changes)), &|_| 7);
    let Part { fate, notes, loses, .. } = part(&fates, name);
    format!("{fate:?}{} {}", if loses { "!" } else { "" }, notes.join("; "))
}

#[track_caller]
fn check(changes: &[(&str, &str)], name: &str, expected: &str) {
    let told = told(changes, name);
    assert!(told.starts_with(expected), "\n  {told}\nis not\n  {expected}\nfor {changes:?}");
}

#[test]
fn what_is_as_it_was_is_kept() {
    let fates = fates(&shape(JOB), &shape(JOB), &|_| 7);
    assert!(fates.parts.iter().all(|part| part.fate == Fate::Kept && !part.loses), "{fates:?}");
    assert!(fates.tables.values().flatten().all(|table| table.columns.is_none()), "no file is written anew: {fates:?}");
    // What reaches no state.
    for change in [("topic: out", "topic: out, timestamps: rfc3339"), ("count(*)", "COUNT( * )"), ("n + 1", "n+1")] {
        check(&[change], "minutes", "Kept ");
    }
    check(&[("max(price)", "max(price) filter (where true)")], "attributed", "Kept ");
}

#[test]
fn windows_keep_what_means_the_same() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("lateness: 1m", "lateness: 5m")],
            "Migrated its lateness was `1m` and is `5m`; windows that were emitted stay",
        ),
        (&[("        most: \"max(price)\"\n", "")], "Migrated `most` is dropped"),
        (
            &[("price: \"decimal(12,2)\", n", "price: \"decimal(14,2)\", n")],
            "Migrated `most` is widened from Decimal128(12, 2)",
        ),
        (&[("kind = 'click'", "kind = 'view'")], "Kept other rows reach it from now on"),
        (
            &[
                ("clicks: \"count(*)\"", "clicks: \"count(*)\"\n        more: \"min(n2)\""),
                ("n + 1 as m", "n + 1 as m\", \"n as n2"),
            ],
            "Reset! `more` is new: in windows that are open it lacks",
        ),
        (&[("max(price)", "min(price)")], "Reset! `most` is computed otherwise"),
        (&[("count(*)", "count(*) filter (where m > 3)")], "Reset! `clicks` is computed otherwise"),
        (&[("n + 1 as m", "n + 2 as m")], "Reset! `sum_m` is computed otherwise"),
        (&[("price: \"decimal(12,2)\", n", "price: \"decimal(12,3)\", n")], "Reset! `most` has another type"),
        (&[("tumble: 1m", "tumble: 5m")], "Reset! its every was `1m` and is `5m`; its size was"),
        (&[("tumble: 1m", "hop: { size: 2m, every: 1m }")], "Reset! its size was `1m` and is `2m`"),
        (&[("by: [item_id]\n", "by: [item_id, user_id]\n")], "Reset! its by was `item_id` and is `item_id, user_id`"),
        (
            &[("user_id, item_id, price, \"n", "user_id, \"lower(item_id) as item_id\", price, \"n")],
            "Reset! `item_id` is not what it was",
        ),
        (
            &[
                ("    event_time: ts\n    id: event_id", "    event_time: other\n    id: event_id"),
                ("n: int64", "n: int64, other: timestamp_ms"),
            ],
            "Reset! the event time of its rows is not what it was",
        ),
    ];
    for (changes, expected) in cases {
        check(changes, "minutes", expected);
    }
}

#[test]
fn only_the_aggregate_that_changed_begins_anew() {
    let fates = fates(&shape(JOB), &shape(&edited(&[("max(price)", "min(price)")])), &|_| 7);
    let [TableFate { columns: Some(columns), .. }] = &fates.tables["minutes"][..] else { panic!("{fates:?}") };
    let lost: Vec<_> = columns.iter().enumerate().filter(|(_, from)| from.is_none()).map(|(at, _)| at).collect();
    assert_eq!((columns.len(), lost), (8, vec![3]), "{columns:?}");
}

#[test]
fn attributions_keep_what_means_the_same() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("window: 30m", "window: 40m")], "Migrated its window was `30m` and is `40m`; touches that had left"),
        (&[("model: last_touch", "model: first_touch")], "Migrated its model was `last_touch`"),
        (&[("window: 30m", "window: 30m, dedupe_for: 48h")], "Migrated its dedupe_for was"),
        (
            &[("item_id, price, \"n + 1 as m\", ts", "item_id, price, kind, \"n + 1 as m\", ts")],
            "Migrated `kind` is null in the rows that it has kept so far",
        ),
        (
            &[
                ("item_id, price, \"n + 1 as m\", ts", "item_id, price, n, \"n + 1 as m\", ts"),
                ("n: int64", "n: int64!"),
            ],
            "Reset! `n` may not be null, and was not kept",
        ),
        (
            &[("price: \"decimal(12,2)\", at", "price: \"decimal(12,2)\", coupon: string, at")],
            "Migrated `coupon` is null",
        ),
        (&[("price: \"decimal(12,2)\", at", "price: \"decimal(20,2)\", at")], "Migrated `price` is widened"),
        (&[("price: \"decimal(12,2)\", at", "price: float64, at")], "Reset! `price` was of the type Decimal128(12, 2)"),
        (&[(", at: timestamp_ms", "")], "Migrated `at` is dropped"),
        (
            &[("n + 1 as m", "n + 2 as m")],
            "Kept `m` has another definition; rows that it has kept have it by the former",
        ),
        (&[("by: [user_id, item_id]", "by: [user_id]")], "Reset! its by was"),
        (&[("    id: order_id\n", "")], "Migrated the id of its rows is dropped"),
        (
            &[("    event_time: ts\n    id: order_id", "    event_time: at\n    id: order_id")],
            "Reset! the event time of its rows",
        ),
    ];
    for (changes, expected) in cases {
        check(changes, "attributed", expected);
    }
}

#[test]
fn steps_sources_and_sinks_come_and_go() {
    check(
        &[("  minutes:\n", "  per_minute:\n"), ("from: minutes", "from: per_minute")],
        "minutes",
        "Gone! its state is dropped",
    );
    check(&[("  minutes:\n", "  per_minute:\n"), ("from: minutes", "from: per_minute")], "per_minute", "New ");
    check(&[("  out: { from: minutes, topic: out }\n", "")], "minutes", "Gone!");
    check(&[("  out: { from: minutes, topic: out }\n", "")], "out", "Gone! nothing more is written to topic out");
    check(
        &[("topic: out }", "topic: out }\n  more: { from: minutes, topic: more }")],
        "more",
        "New it writes to topic more",
    );
    check(&[("topic: out }", "topic: elsewhere }")], "out", "Reset! it writes to topic elsewhere");
    check(&[("credits.jsonl }", "credits.jsonl }, format: csv")], "credits", "Kept! rows of two forms");
    check(&[("topic: clicks", "topic: clicks.v2")], "clicks", "Reset! it reads topic clicks.v2 from its beginning");
    check(&[("topic: clicks", "topic: clicks.v2")], "minutes", "Kept ");
    let window =
        "  item_clicks:\n    window: { from: clicks, tumble: 1m, by: [item_id], aggregates: { n: \"count(*)\" } }\n";
    let old = JOB.replace("minutes:", "attributed2:").replace("from: minutes", "from: attributed2");
    let new = old.replace("  attributed2:\n", &format!("{}  attributed2:\n", window.replace("item_clicks", "extra")));
    assert_eq!(part(&fates(&shape(&old), &shape(&new), &|_| 7), "attributed2").fate, Fate::Kept);
}

#[test]
fn a_step_that_has_kept_nothing_loses_nothing() {
    let changed = shape(&edited(&[("tumble: 1m", "tumble: 5m")]));
    let Part { fate, loses, .. } = part(&fates(&shape(JOB), &changed, &|_| 0), "minutes");
    assert_eq!((fate, loses), (Fate::Kept, false));
}

#[test]
fn what_is_called_otherwise_is_found_again() {
    check(
        &[("clicks: \"count(*)\"", "all_clicks: \"count(*)\"")],
        "minutes",
        "Migrated `all_clicks` was called `clicks`",
    );
    check(
        &[("price: \"decimal(12,2)\", at", "amount: { path: price, type: \"decimal(12,2)\" }, at")],
        "attributed",
        "Migrated `amount` was called `price`",
    );
    let swapped =
        [("max(price)", "count(distinct user_id)"), ("users: \"count(distinct user_id)\"", "users: \"max(price)\"")];
    check(&swapped, "minutes", "Migrated `most` was called `users`; `users` was called `most`");
    // A name that is there is believed first.
    let taken = [("max(price)", "min(price)"), ("users: \"count(distinct user_id)\"", "users: \"max(price)\"")];
    check(&taken, "minutes", "Reset! `most` is computed otherwise");
    let renamed =
        edited(&[("  minutes:\n", "  per_minute:\n    was: minutes\n"), ("from: minutes", "from: per_minute")]);
    let was = BTreeMap::from([("per_minute".to_owned(), "minutes".to_owned())]);
    let told = super::fates(&shape(JOB), &shape(&renamed), &was, &|_| 7);
    let Part { fate, notes, loses, .. } = part(&told, "per_minute");
    assert_eq!((fate, loses, notes[0].as_str()), (Fate::Migrated, false, "it was called `minutes`"));
    assert!(!told.parts.iter().any(|part| part.name == "minutes"), "it is not gone: {told:?}");
    assert_eq!((told.former("per_minute"), told.former("attributed")), ("minutes", "attributed"));
    // From then on the line is without effect.
    let told = super::fates(&shape(&renamed), &shape(&renamed), &was, &|_| 7);
    assert_eq!(part(&told, "per_minute").fate, Fate::Kept);
}

#[test]
fn sessions_go_on_by_the_same_rules_only() {
    const VISITS: &str = r#"
job: visits
sources:
  events:
    topic: events
    schema: { id: string, user: string, account: string, kind: string, n: int64, ts: timestamp_ms }
    event_time: ts
    id: id
steps:
  visits:
    sessionize:
      from: events
      by: [user]
      gap: 30m
      extend_when: "kind <> 'ping'"
      split: { user_switch: account }
      aggregates: { rows: "count(*)", most: "max(n)" }
sinks:
  out: { from: visits, topic: out }
"#;
    let told = |from: &str, to: &str| {
        assert!(VISITS.contains(from), "{from}");
        let fates = fates(&shape(VISITS), &shape(&VISITS.replacen(from, to, 1)), &|_| 7);
        let Part { fate, notes, loses, .. } = part(&fates, "visits");
        format!("{fate:?}{} {}", if loses { "!" } else { "" }, notes.join("; "))
    };
    for (from, to, expected) in [
        ("topic: out", "topic: out, timestamps: epoch_ms", "Kept "),
        ("kind <> 'ping'", "kind<>'ping'", "Kept "),
        ("gap: 30m", "gap: 20m", "Reset! its gap was `30m` and is `20m`"),
        ("gap: 30m", "gap: 30m\n      lateness: 1h", "Reset! its lateness was `10m` and is `1h`"),
        ("kind <> 'ping'", "kind <> 'pong'", "Reset! its extend_when was"),
        ("{ user_switch: account }", "{}", "Reset! its user_switch was"),
        ("by: [user]", "by: [account]", "Reset! its by was"),
        ("max(n)", "min(n)", "Reset! `most` is computed otherwise"),
        (", most: \"max(n)\"", "", "Migrated `most` is dropped"),
    ] {
        let told = told(from, to);
        assert!(told.starts_with(expected), "{told}\nis not\n{expected}");
    }
}

const STREAMS: &str = r#"
job: streams
sources:
  orders:
    topic: orders
    schema: { order_id: string, user_id: string, price: "decimal(12,2)", at: timestamp_ms, ts: timestamp_ms }
    event_time: ts
    id: order_id
  clicks:
    topic: clicks
    schema: { click_id: string, buyer: string, channel: string, ts: timestamp_ms }
    event_time: ts
    id: click_id
steps:
  once: { deduplicate: { from: orders, within: 1d, compare: [price] } }
  near: { join: { left: once, right: clicks, on: ["user_id = buyer"], within: { before: 30m } } }
  touches: { select: { from: clicks, columns: [click_id, "buyer as user_id", channel, ts] } }
  credited:
    attribute:
      conversions: once
      touches: touches
      by: [user_id]
      window: 30m
      models: [linear]
      order: { value: price }
      touch: { channel: channel }
sinks:
  near: { from: near, topic: near }
  credited: { from: credited, topic: credited }
"#;

#[test]
fn keys_pairs_and_ledgers_keep_what_means_the_same() {
    type Changes = &'static [(&'static str, &'static str)];
    let cases: &[(&str, Changes, &str)] = &[
        ("once", &[], "Kept "),
        (
            "once",
            &[("within: 1d", "within: 2d")],
            "Migrated its within was `1d` and is `2d`; what had left the former span",
        ),
        (
            "once",
            &[("compare: [price]", "compare: [price], lateness: 1m")],
            "Migrated its lateness was `0s` and is `1m`",
        ),
        ("once", &[("compare: [price]", "compare: [at]")], "Migrated it compares something else: what comes again"),
        ("once", &[(", compare: [price]", "")], "Migrated it compares nothing any more"),
        (
            "once",
            &[("price: \"decimal(12,2)\", at", "price: { path: amount, type: \"decimal(12,2)\" }, at")],
            "Migrated it compares something else",
        ),
        (
            "once",
            &[("from: orders, within", "from: orders, by: [user_id], within")],
            "Reset! its by was `__id` and is `user_id`",
        ),
        ("once", &[("id: order_id\n  clicks", "id: user_id\n  clicks")], "Reset! "),
        ("near", &[], "Kept "),
        ("near", &[("before: 30m", "before: 40m")], "Migrated its within was `30m before to 0s after`"),
        ("near", &[("before: 30m }", "before: 30m }, kind: left")], "Reset! its kind was `inner` and is `left`"),
        ("near", &[("\"user_id = buyer\"", "\"order_id = click_id\"")], "Reset! its on was `user_id = buyer`"),
        ("near", &[("buyer: string, channel", "buyer: string, extra: string, channel")], "Migrated `extra` is null"),
        ("credited", &[], "Kept "),
        ("credited", &[("[linear]", "[linear, last_touch]")], "Migrated its models was `linear`"),
        ("credited", &[("window: 30m", "window: 40m")], "Migrated its window was `30m`"),
        (
            "credited",
            &[("by: [user_id]", "by: [user_id]\n      match: { device: user_id }")],
            "Reset! its match was `all of a key`",
        ),
        (
            "credited",
            &[("order: { value: price }", "order: { value: price, currency: user_id }")],
            "Reset! its order was",
        ),
        (
            "credited",
            &[(
                "models: [linear]\n      order: { value: price }\n      touch: { channel: channel }",
                "model: last_touch",
            )],
            "Reset! its state version was `ledger 1` and is `1`",
        ),
    ];
    for (name, changes, expected) in cases {
        let told = told_in(STREAMS, changes, name);
        assert!(told.starts_with(expected), "\n  {told}\nis not\n  {expected}\nfor {changes:?}");
    }
}

#[test]
fn hashes_of_what_is_compared_no_more_are_forgotten_and_all_else_of_a_key_is_kept() {
    let changed = edited_in(STREAMS, &[("compare: [price]", "compare: [at]")]);
    let told = fates(&shape(STREAMS), &shape(&changed), &|_| 7);
    let [TableFate { columns: Some(columns), .. }] = &told.tables["once"][..] else { panic!("{told:?}") };
    let kept: Vec<Option<&str>> = columns.iter().map(Option::as_deref).collect();
    assert_eq!(kept, [Some("hash"), Some("second_hash"), None, Some("__time")]);
    assert!(!part(&told, "once").loses);
    // Without the comparison before there is nothing to forget, and what was kept is said to be compared by nobody.
    let without = edited_in(STREAMS, &[(", compare: [price]", "")]);
    let told = fates(&shape(&without), &shape(STREAMS), &|_| 7);
    assert!(part(&told, "once").notes[0].starts_with("it compares from now on"), "{told:?}");
    // What is compared as before is not touched, whatever else changes.
    let wider = edited_in(STREAMS, &[("within: 1d", "within: 2d")]);
    let told = fates(&shape(STREAMS), &shape(&wider), &|_| 7);
    assert_eq!(told.tables["once"], [TableFate { table: "keys".into(), columns: None }]);
}
