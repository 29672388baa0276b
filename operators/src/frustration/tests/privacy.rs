//! The privacy floor of the three steps: whatever a page sends, none of it that is about a person comes out.

use super::chain::{Chain, Tick};
use super::world::{To, script};

/// Every column that can say something private does.
const PRIVATE: &str = "
    0 page_view caps=reactions,network,forms,scroll page_key=https://secret.example/Pay?card=SECRET referrer_key=/?SECRET
    1000 click tag=div text=SECRET aria_label=SECRET href=https://secret.example/?SECRET
    1150 click tag=div text=SECRET aria_label=SECRET href=https://secret.example/?SECRET
    1300 click tag=div text=SECRET aria_label=SECRET href=https://secret.example/?SECRET
    1400 js_error error_type=TypeError message=SECRET_of_SECRET
    5000 click tag=button text=Pay role=button
    5100 dom_reaction
    6000 network_request method=POST route=https://secret.example/cart/7?token=SECRET status=500
    12000 click tag=button text=Pay role=button
    12100 dom_reaction
    13000 network_request method=POST route=https://secret.example/cart/8?token=SECRET status=500
    19000 click tag=button text=Pay role=button
    19100 dom_reaction
    20000 network_request method=POST route=https://secret.example/cart/9?token=SECRET status=500
    30000 search query=SECRET_one
    40000 search query=SECRET_two
    50000 search query=SECRET_three
";

#[test]
fn nothing_private_comes_out() {
    let mut rows = script(PRIVATE);
    for row in &mut rows {
        row["user_id"] = "secret@mail.example".into();
        row["anonymous_id"] = "SECRET-device".into();
        row["user_agent"] = "Mozilla/5.0 (SECRET 203.0.113.9)".into();
        row["page_key"] = "https://secret.example/Pay/?card=SECRET#SECRET".into();
    }
    let out = Chain::new(1).step(&Tick::of(&rows, To::End));
    let kinds: Vec<&str> = out.signals.iter().filter_map(|row| row["kind"].as_str()).collect();
    for kind in ["rage_click", "network_errors", "search_struggle"] {
        assert!(kinds.contains(&kind), "{kind} is told: {kinds:?}");
    }
    assert!(!out.incidents.is_empty() && !out.problems.is_empty());
    for row in out.signals.iter().chain(&out.incidents).chain(&out.problems) {
        assert!(!row.to_string().to_lowercase().contains("secret"), "{row}");
    }
    assert!(out.signals.iter().filter(|row| row["page_key"].is_string()).all(|row| row["page_key"] == "/pay"));
}
