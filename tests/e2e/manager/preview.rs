//! Previews by a manager: rows as they would be written, within bounds, and nothing left of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Managed, http};

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
    let headers = "Content-Type: application/json\r\n";
    let (code, _, body) = http(&managed.address(), "POST", "/api/v1/jobs:preview", headers, &body.to_string());
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
