//! Who is let in, what hostile requests come to, where secrets are, and what is served encrypted.

use serde_json::{Value, json};

use super::{Managed, command_line, http};
use crate::oracle::Model;
use crate::support::Place;
use crate::support::jobs::{self, Over};

#[test]
fn each_route_lets_in_whom_it_says() {
    let place = Place::new();
    let first = format!("riverrun_first_{}", "a1".repeat(32));
    place.write("key", &first);
    let managed = Managed::at(place, &["--admin-key-file", "key"]);
    let address = managed.address();
    let bearer = |key: &str| format!("Authorization: Bearer {key}\r\n");
    let roles = ["viewer", "tapper", "operator", "editor", "admin"];
    let keys = roles.map(|role| {
        let body = json!({ "name": role, "role": role }).to_string();
        let headers = bearer(&first) + "Content-Type: application/json\r\n";
        let (code, _, made) = http(&address, "POST", "/api/v1/api-keys", &headers, &body);
        assert_eq!(code, 201, "{made}");
        serde_json::from_str::<Value>(&made).unwrap()["secret"].as_str().unwrap().to_owned()
    });
    let document = http(&address, "GET", "/api/v1/openapi.json", "", "").2;
    let document: Value = serde_json::from_str(&document).unwrap();
    let mut seen = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let said = operation["description"].as_str().unwrap();
            let Some(needs) = said.strip_prefix("role: ").map(|role| role.trim_end_matches('.')) else {
                assert!(path.ends_with("/openapi.json"), "{path} is open to everybody");
                continue;
            };
            let least = roles.iter().position(|role| *role == needs).unwrap();
            let path = path
                .replace("{job}", "shop")
                .replace("{savepoint}", "s")
                .replace("{operation}", "o")
                .replace("{operator}", "clicks")
                .replace("{kind}", "file")
                .replace("{key}", "k");
            let method = method.to_uppercase();
            assert_eq!(http(&address, &method, &path, "", "").0, 401, "{method} {path} without a key");
            assert_eq!(http(&address, &method, &path, &bearer("riverrun_a_b"), "").0, 401, "{method} {path}");
            for (rank, key) in keys.iter().enumerate() {
                let (code, head, body) = http(&address, &method, &path, &bearer(key), "");
                assert_eq!(code == 403, rank < least, "{method} {path} as {}: {code} {body}", roles[rank]);
                assert!(code != 401 && code < 500 && head.contains("x-request-id: "), "{method} {path}: {code} {body}");
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "{seen}");
    // What was asked for is written down, with who asked; no key stands there whole.
    let audit = http(&address, "GET", "/api/v1/audit?limit=1000", &bearer(&first), "").2;
    assert!(audit.contains("DELETE /api/v1/jobs/shop") && audit.contains("\"who\":\"first\""), "{audit}");
    assert!(keys.iter().chain([&first]).all(|key| !audit.contains(key.as_str())));
}

#[test]
fn hostile_requests_are_refused_as_problems() {
    let managed = Managed::at(Place::new(), &[]);
    let address = managed.address();
    for (method, path, headers, body, code) in [
        ("GET", "/api/v1/jobs/..%2f..%2fetc%2fpasswd", "", "", 400),
        ("GET", "/api/v1/jobs/%2e%2e/logs", "", "", 400),
        ("GET", "/api/v1/jobs/a%00b", "", "", 400),
        ("DELETE", "/api/v1/jobs/shop/savepoints/..%2fx", "", "", 400),
        ("GET", "/api/v1/operations/..%2f..%2fx", "", "", 400),
        ("GET", "/api/v1/jobs?limit=-1", "", "", 400),
        ("GET", "/api/v1/jobs?limit=100000000000000000000000", "", "", 400),
        ("GET", "/api/v1/nothing", "", "", 404),
        ("PATCH", "/api/v1/jobs", "", "", 405),
        ("PUT", "/api/v1/jobs/shop", "Content-Type: application/json\r\n", "{", 400),
        ("PUT", "/api/v1/jobs/shop", "Content-Type: application/json\r\n", r#"{"spec":{},"more":1}"#, 400),
        ("PUT", "/api/v1/jobs/shop", "Content-Type: text/plain\r\n", "{}", 400),
        ("POST", "/api/v1/jobs/shop/stop", "", "", 404),
        ("GET", "/api/v1/jobs", "Origin: http://evil.example\r\n", "", 403),
    ] {
        let (status, head, text) = http(&address, method, path, headers, body);
        assert_eq!(status, code, "{method} {path}: {text}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert!(head.contains("application/problem+json") && problem["status"] == code, "{head} {problem}");
        assert!(problem["code"].is_string() && problem["detail"].is_string(), "{problem}");
    }
    let long = "x".repeat(3 << 20);
    let (status, ..) = http(&address, "PUT", "/api/v1/jobs/shop", "Content-Type: application/json\r\n", &long);
    assert_eq!(status, 413);
    // Nobody but the manager itself uses its folder.
    managed
        .place
        .riverrun(&["serve", "--data", "manager", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .fail(5, &["another manager"]);
    managed
        .place
        .riverrun(&["serve", "--data", "m2", "--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0"])
        .fail(2, &["API key"]);
}

#[test]
fn a_secret_is_nowhere_but_where_it_is_kept() {
    let canary = "swordfish-4711-canary";
    let place = Place::new();
    place.write("job.yaml", jobs::attribution(Over::Topics, Model::Last));
    // Nobody answers there: the job tries, and says so.
    let managed = Managed::at(place, &["--allow-host", "127.0.0.1"]);
    let topics = "kafka://127.0.0.1:1?sasl.username=me&sasl.mechanism=PLAIN&security.protocol=SASL_PLAINTEXT&sasl.password=${env:CANARY}";
    let submit = managed.cli(&["submit", "job.yaml", "--topics", topics]).args(&["--timeout", "2s"]);
    submit.fail(78, &["CANARY", "riverrun submit"]);
    let told = submit.env("CANARY", canary).finish();
    let kept = managed.place.path("manager/secrets/attribution/CANARY");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), canary, "{told}");
    let mut seen = vec![told.to_string()];
    for path in [
        "jobs",
        "jobs/attribution",
        "jobs/attribution/status",
        "jobs/attribution/events",
        "jobs/attribution/logs",
        "audit",
    ] {
        seen.push(http(&managed.address(), "GET", &format!("/api/v1/{path}"), "", "").2);
    }
    for pid in managed.alive() {
        seen.push(command_line(pid));
        seen.push(
            String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()).into_owned(),
        );
    }
    for path in managed.place.files_below("manager").into_iter().filter(|path| *path != kept) {
        seen.push(String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned());
    }
    assert!(seen.len() > 10 && seen.iter().any(|text| text.contains("sasl.username=me")));
    assert!(seen.iter().all(|text| !text.contains(canary)), "the secret stands where it should not");
}

/// An authority, and a certificate that it gives to an address of this machine.
const CERTIFICATES: &str = r#"
set -e
new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
openssl req -x509 $new -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
openssl req $new -subj /CN=manager -keyout key.pem -out manager.csr
echo "subjectAltName=IP:127.0.0.1" >extensions
openssl x509 -req -in manager.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out cert.pem
"#;

#[test]
fn the_api_is_served_encrypted_to_who_trusts_its_certificate() {
    let place = Place::new();
    let made = std::process::Command::new("sh").args(["-c", CERTIFICATES]).current_dir(place.folder()).output();
    if !made.is_ok_and(|made| made.status.success()) {
        eprintln!("SKIPPED: there is no openssl to make a certificate with, so nobody has served the API encrypted");
        return;
    }
    place.write("no.pem", "no certificate");
    let serve = ["serve", "--data", "m2", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--tls-key", "key.pem"];
    place.riverrun(&serve).args(&["--tls-cert", "no.pem"]).fail(78, &["no.pem"]);
    let managed = Managed::at(place, &["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    assert!(managed.server().starts_with("https://"), "{}", managed.server());
    managed.cli(&["list", "--server-ca", "ca.pem"]).succeed();
    managed.cli(&["list"]).fail(7, &["cannot be reached"]);
    let plain = format!("http://{}", managed.address());
    managed.place.riverrun(&["list", "--server", &plain]).fail(7, &["cannot be reached"]);
}
