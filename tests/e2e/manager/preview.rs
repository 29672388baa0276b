//! Previews by a manager: rows as they would be written, within bounds, and nothing left of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Managed, fill, http};
use crate::support::Place;

/// The events of an answer: name and data.
fn events(body: &str) -> Vec<(String, Value)> {
    let field =
        |event: &str, name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    let whole: String = body.lines().filter(|line| !is_chunk(line)).map(|line| format!("{line}\n")).collect();
    let events = whole.split("\n\n").filter(|event| event.contains("event: "));
    events.map(|event| (field(event, "event: "), serde_json::from_str(&field(event, "data: ")).unwrap())).collect()
}

/// Lengths of pieces stand between them.
fn is_chunk(line: &str) -> bool {
    !line.is_empty() && line.chars().all(|c| c.is_ascii_hexdigit())
}

fn preview(managed: &Managed, body: &Value) -> (u16, String) {
    preview_at(&managed.address(), body)
}

fn preview_at(address: &str, body: &Value) -> (u16, String) {
    let headers = "Content-Type: application/json\r\n";
    let (code, _, body) = http(address, "POST", "/api/v1/jobs:preview", headers, &body.to_string());
    (code, body)
}

#[test]
fn the_first_rows_are_shown_and_nothing_is_written_or_left() {
    let managed = Managed::with_traffic(795);
    let text = String::from_utf8(managed.place.read("job.yaml")).unwrap();
    let asked = |more: Value| {
        let mut body = json!({ "spec": { "file": "job.yaml", "text": text } });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let (code, body) = preview(&managed, &asked(json!({ "sink": "out", "limit": 3 })));
    let told = events(&body);
    assert_eq!((code, told.len()), (200, 4), "{body}");
    let here = managed.place.riverrun(&["preview", "job.yaml", "--topics", "topics", "-o", "json"]);
    let here = here.args(&["--sink", "out", "--limit", "3"]).succeed();
    let here: Vec<Value> = crate::support::place::json_lines(&here.stdout);
    for ((event, row), here) in told.iter().zip(&here) {
        assert_eq!((event.as_str(), &row["sink"], &row["row"]), ("row", &json!("out"), &here["row"]));
    }
    assert_eq!(told[3], ("end".to_owned(), json!({ "rows": 3, "reason": "done" })));

    // A live topic has no end: time does. The process ends with it.
    let (_, body) = preview(&managed, &asked(json!({ "sink": "late", "limit": 1000, "seconds": 1 })));
    let told = events(&body);
    assert_eq!(told.last().unwrap().1["reason"], "done", "{body}");

    for (more, code, says) in [
        (json!({ "sink": "nothing" }), 404, "its sinks are"),
        (json!({ "limit": 0 }), 400, "limit"),
        (json!({ "limit": 1001 }), 400, "limit"),
        (json!({ "seconds": 121 }), 400, "seconds"),
        (json!({ "spec": { "file": "f", "text": "job: x" } }), 422, "sources"),
        (
            json!({ "spec": { "file": "f", "text": text.replace("topic: clicks", "file: { path: /etc/passwd }") } }),
            422,
            "/etc/passwd",
        ),
        (json!({ "spec": { "file": "f", "text": text, "topics": "kafka://127.0.0.1:1" } }), 422, "may not talk to"),
    ] {
        let (found, body) = preview(&managed, &asked(more.clone()));
        assert!(found == code && body.contains(says), "{more}: {found} {body}");
    }
    // What goes wrong while it runs is told at its end.
    let missing = text.replace("topic: clicks", "topic: nowhere");
    let (code, body) = preview(&managed, &json!({ "spec": { "file": "job.yaml", "text": missing }, "seconds": 20 }));
    let told = events(&body);
    let (event, end) = told.last().unwrap_or_else(|| panic!("{code} {body}"));
    assert!(event == "end" && ["failed", "done"].contains(&end["reason"].as_str().unwrap()), "{end}");
    if end["reason"] == "failed" {
        assert!(end["message"].as_str().unwrap().contains("nowhere"), "{end}");
    }

    // Nothing was written, nothing is kept, nobody lives.
    assert!(!managed.place.path("topics/out").exists());
    let left = || managed.place.path("manager/previews").read_dir().map_or(0, Iterator::count);
    let until =
        |is: &dyn Fn() -> bool| (0..600).any(|_| is() || (std::thread::sleep(Duration::from_millis(50)), false).1);
    assert!(until(&|| left() == 0), "{} folders are left", left());
    assert_eq!(managed.cli(&["list"]).succeed().document()["jobs"], json!([]));
}

#[test]
fn a_secret_of_a_preview_is_where_it_is_needed_and_gone_with_it() {
    let managed = Managed::with_traffic(796);
    let text = String::from_utf8(managed.place.read("job.yaml")).unwrap();
    let spec = json!({ "file": "job.yaml", "text": text, "set": ["description=${env:WORD}"] });
    let (code, body) = preview(&managed, &json!({ "spec": spec, "limit": 1 }));
    assert!(code == 422 && body.contains("WORD"), "{code} {body}");
    let secrets = json!({ "WORD": "swordfish" });
    let (code, body) = preview(&managed, &json!({ "spec": spec, "secrets": secrets, "limit": 1 }));
    assert!(code == 200 || code == 422, "{code} {body}");
    assert!(!body.contains("swordfish"), "{body}");
    let left = || managed.place.path("manager/secrets").read_dir().map_or(0, Iterator::count);
    assert!((0..600).any(|_| left() == 0 || (std::thread::sleep(Duration::from_millis(50)), false).1), "{}", left());
}

#[test]
fn a_preview_is_held_to_its_bounds_and_there_are_so_many_at_once() {
    let place = Place::new();
    fill(&place, 797);
    let managed = Managed::at(place, &["--files", "."]);
    // Rows of a hundred kilobytes: what may be said is full before there are as many as were asked for.
    let row = json!({ "text": "x".repeat(100_000), "ts": crate::support::shop::START_MS }).to_string();
    managed.place.write("in.jsonl", format!("{row}\n").repeat(100));
    let text = "job: long\nsources:\n  rows: { file: { path: in.jsonl }, schema: { text: string, ts: timestamp_ms }, event_time: ts }\n\
                sinks:\n  out: { from: rows, file: { path: out.jsonl } }\n";
    let (code, body) = preview(&managed, &json!({ "spec": { "file": "long.yaml", "text": text }, "limit": 1000 }));
    let told = events(&body);
    let (event, end) = told.last().unwrap_or_else(|| panic!("{code} {}", body.len()));
    assert_eq!((event.as_str(), &end["reason"]), ("end", &json!("size")), "{end}");
    let rows = told.len() as u64 - 1;
    assert!((70..90).contains(&rows) && end["rows"] == rows, "{rows}: {end}");

    // Live topics that nobody writes to: each is there for its time, and the next one is told to come later.
    let text = String::from_utf8(managed.place.read("job.yaml")).unwrap();
    let asked = json!({ "spec": { "file": "job.yaml", "text": text }, "sink": "late", "seconds": 20 });
    let folders = || managed.place.path("manager/previews").read_dir().map_or(0, Iterator::count);
    let until = |what: &str, is: &dyn Fn() -> bool| {
        let came = (0..1200).any(|_| is() || (std::thread::sleep(Duration::from_millis(50)), false).1);
        assert!(came, "{what}");
    };
    until("the first to be gone", &|| folders() == 0);
    let address = managed.address();
    std::thread::scope(|scope| {
        let four: Vec<_> = (0..4).map(|_| scope.spawn(|| preview_at(&address, &asked))).collect();
        until("four previews", &|| folders() == 4);
        let (code, body) = preview(&managed, &asked);
        assert!(code == 503 && body.contains("so many previews"), "{code} {body}");
        for one in four {
            let (code, body) = one.join().unwrap();
            assert_eq!((code, &events(&body).last().unwrap().1["reason"]), (200, &json!("done")), "{body}");
        }
    });
    until("all to be gone", &|| folders() == 0);
    let (code, _) = preview(&managed, &json!({ "spec": { "file": "job.yaml", "text": text }, "limit": 1 }));
    assert_eq!(code, 200);
}
