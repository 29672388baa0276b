//! `riverrun why`: a row is traced to the input records that it rests on.

use serde_json::{Value, json};

use crate::oracle::Model;
use crate::support::jobs::{self, Over};
use crate::support::{Place, Shop};

/// The raw records of a shop's input files, by the value of a column.
fn records(place: &Place, files: &str, column: &str) -> Vec<(String, Value)> {
    let paths = place.files_below("in").into_iter().filter(|path| path.to_string_lossy().contains(files));
    let lines = paths.flat_map(|path| {
        let text = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>()
    });
    lines.filter_map(|record| Some((record[column].as_str()?.to_owned(), record.clone()))).collect()
}

fn of<'a>(records: &'a [(String, Value)], id: &str) -> Vec<&'a Value> {
    records.iter().filter(|(other, _)| other == id).map(|(_, record)| record).collect()
}

#[test]
fn an_attributed_order_is_traced_to_its_order_and_its_click() {
    let place = Place::new();
    Shop { seed: 77, rows: 600, ..Shop::default() }.open().write(&place);
    place.write("job.yaml", jobs::attribution(Over::Files, Model::Last));
    place.run("job.yaml").workers(2).succeed();
    let (clicks, orders) = (records(&place, "clicks", "event_id"), records(&place, "orders", "order_id"));
    let rows = place.rows("out.jsonl");
    let named = |row: &&Value| row["order_id"].is_string() && row["touch_event_id"].is_string();
    let credited = rows.iter().filter(named).collect::<Vec<_>>();
    assert!(credited.len() > 3, "{} orders were credited", credited.len());
    for row in credited.into_iter().step_by(7) {
        let (order, click) = (row["order_id"].as_str().unwrap(), row["touch_event_id"].as_str().unwrap());
        let told = place.riverrun(&["why", "job.yaml", order, "-o", "json"]).succeed().document();
        let found = &told["rows"][0];
        assert_eq!((&found["row"], &found["sink"], &found["column"]), (row, &json!("out"), &json!("order_id")));
        let evidence = found["evidence"].as_array().unwrap();
        let told_of = |id: &str, source: &str| -> Vec<&Value> {
            let own = evidence.iter().filter(|piece| piece["id"] == json!(id) && piece["source"] == json!(source));
            own.map(|piece| &piece["record"]).collect()
        };
        assert_eq!(told_of(order, "orders"), of(&orders, order));
        assert_eq!(told_of(click, "clicks"), of(&clicks, click));
        let text = String::from_utf8(place.riverrun(&["why", "job.yaml", order]).succeed().stdout).unwrap();
        assert!(text.contains("rests on") && text.contains(click) && text.contains("clicks, split"), "{text}");
    }
    let alone = rows.iter().find(|row| row["order_id"].is_string() && row["touch_event_id"].is_null());
    let order = alone.expect("some order has no click")["order_id"].as_str().unwrap();
    let told = place.riverrun(&["why", "job.yaml", order, "-o", "json"]).succeed().document();
    let evidence = told["rows"][0]["evidence"].as_array().unwrap();
    assert!(evidence.iter().all(|piece| piece["source"] == json!("orders")), "{told}");
}

#[test]
fn what_cannot_be_told_is_said() {
    let place = Place::new();
    Shop { seed: 78, rows: 200, ..Shop::default() }.open().write(&place);
    place.write("job.yaml", jobs::attribution(Over::Files, Model::Last));
    place.riverrun(&["why", "job.yaml", "o1"]).fail(3, &["there is no state folder"]);
    place.run("job.yaml").succeed();
    place.riverrun(&["why", "job.yaml", "no-such-order"]).fail(3, &["no row that `no-such-order` names", "order_id"]);
    let rows = place.rows("out.jsonl");
    let order = rows.iter().find_map(|row| row["order_id"].as_str()).unwrap();
    for path in place.files_below("in") {
        if path.to_string_lossy().contains("orders") {
            std::fs::write(path, "{}\n").unwrap();
        }
    }
    place.riverrun(&["why", "job.yaml", order]).fail(78, &["changed while the job was using it"]);
}

/// The bundled job `frustration`, with files in place of topics.
fn frustration() -> String {
    let job = include_str!("../../jobs/frustration.yaml");
    let job = job.replace("    topic: raw.events.v1\n", "    file: { path: \"in/*.jsonl\" }\n");
    ["signals", "incidents", "problems"].into_iter().fold(job, |job, name| {
        job.replace(&format!("topic: frustration.{name}.v1"), &format!("file: {{ path: {name}.jsonl }}"))
    })
}

#[test]
fn a_signal_and_its_incident_are_traced_to_the_clicks_that_made_them() {
    let place = Place::new();
    let event = |id: &str, kind: &str, ms: i64| {
        json!({
            "event_id": id, "source": "web", "tenant_id": "shop", "type": kind, "event_time": 1_760_000_000_000_i64 + ms,
            "session_id": "s", "tab_id": "w", "anonymous_id": "d", "user_agent": "Mozilla/5.0 (X11) Firefox/130.0",
            "page_key": "/checkout", "x": 40, "y": 50, "target_fp": "#pay", "target_traits": "interactive",
        })
    };
    let clicks = [1000, 1300, 1600].map(|ms| event(&format!("c{ms}"), "click", ms));
    let rows: Vec<String> =
        std::iter::once(&event("p", "page_view", 0)).chain(&clicks).map(|row| format!("{row}\n")).collect();
    place.write("in/a.jsonl", rows.concat()).write("job.yaml", frustration());
    place.run("job.yaml").succeed();
    for (file, id) in [("signals.jsonl", "signal_id"), ("incidents.jsonl", "incident_id")] {
        let row = place.rows(file).pop().expect("three quick clicks are a rage click on a checkout");
        let told = place.riverrun(&["why", "job.yaml", row[id].as_str().unwrap(), "-o", "json"]).succeed().document();
        let found = told["rows"].as_array().unwrap().iter().rfind(|found| found["column"] == json!(id)).unwrap();
        assert_eq!(found["row"], row);
        let records: Vec<&Value> = found["evidence"].as_array().unwrap().iter().map(|piece| &piece["record"]).collect();
        assert_eq!(records, clicks.iter().collect::<Vec<_>>(), "{told}");
        assert_eq!(told["notes"], json!([]));
    }
}

#[test]
fn each_model_names_the_click_that_it_credits() {
    let place = Place::new();
    let at = |seconds: i64| 1_700_000_000_000 + seconds * 1000;
    let clicks = [("c1", "email", 0), ("c2", "search", 600)].map(|(id, channel, seconds)| {
        json!({ "event_id": id, "user_id": "u", "item_id": "i", "event_type": "click", "channel": channel, "ts": at(seconds) })
    });
    let order = json!({ "order_id": "o1", "user_id": "u", "item_id": "i", "price": 12.5, "ts": at(1000) });
    place
        .write("c.jsonl", format!("{}\n{}\n", clicks[0], clicks[1]))
        .write("o.jsonl", format!("{order}\n"))
        .write("r.jsonl", "");
    let files =
        [("sources.clicks", "c"), ("sources.orders", "o"), ("sources.corrections", "r"), ("sinks.credits", "credits")];
    let others = [("sinks.notices", "n"), ("sinks.channel_hours", "h")];
    let sets: Vec<String> =
        files.iter().chain(&others).map(|(what, name)| format!("{what}.file.path={name}.jsonl")).collect();
    let with = |arguments: &[&str]| sets.iter().fold(place.riverrun(arguments), |command, set| command.set(set));
    with(&["run", "attribution-models"]).succeed();
    let told = with(&["why", "attribution-models", "o1", "-o", "json"]).succeed().document();
    let rows = told["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 9, "three models credit one click, three both: {told}");
    for found in rows {
        let credited = clicks.iter().find(|click| click["event_id"] == found["row"]["touch_id"]).unwrap();
        let records: Vec<&Value> = found["evidence"].as_array().unwrap().iter().map(|piece| &piece["record"]).collect();
        assert!(records.contains(&credited) && records.contains(&&order), "{found}");
    }
}

/// Through a funnel, a join and another funnel.
#[test]
fn a_buyer_in_an_experiment_is_traced_to_the_first_exposure_and_the_order() {
    let place = Place::new();
    let at = |seconds: i64| 1_700_000_000_000 + seconds * 1000;
    let exposures = [("a1", 3), ("a2", 1), ("a3", 9)].map(|(id, seconds)| {
        json!({ "assignment_id": id, "experiment": "checkout", "variant": "new", "user_id": "u", "ts": at(seconds) })
    });
    let order = json!({ "order_id": "o1", "user_id": "u", "price": 12.5, "ts": at(60) });
    place.write("a.jsonl", exposures.iter().map(|row| format!("{row}\n")).collect::<String>());
    place.write("o.jsonl", format!("{order}\n"));
    let files = [("sources.assignments", "a"), ("sources.orders", "o"), ("sinks.users", "users")];
    let others = [("sinks.results", "r"), ("sinks.variants", "v"), ("sinks.conflicts", "c")];
    let sets: Vec<String> =
        files.iter().chain(&others).map(|(what, name)| format!("{what}.file.path={name}.jsonl")).collect();
    let with = |arguments: &[&str]| sets.iter().fold(place.riverrun(arguments), |command, set| command.set(set));
    with(&["run", "ab-test"]).succeed();
    let told = with(&["why", "ab-test", "u", "-o", "json"]).succeed().document();
    let found = told["rows"].as_array().unwrap().iter().find(|found| found["sink"] == json!("users")).unwrap();
    let records: Vec<&Value> = found["evidence"].as_array().unwrap().iter().map(|piece| &piece["record"]).collect();
    assert_eq!(records, [&exposures[1], &order], "{told}");
}
