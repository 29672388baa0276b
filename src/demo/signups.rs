//! Sign-ups: people who try the shop's product for automating work, and how far they come: the telemetry of a funnel.

use super::dice::Dice;

/// What is done, of a million of those who did the step before how many do it, and after how many milliseconds at most.
const STEPS: [(&str, u32, u64); 3] = [
    ("workflow_created", 720_000, 180_000),
    ("workflow_run", 830_000, 90_000),
    ("workflow_deployed", 600_000, 240_000),
];
/// Of a million people, how many deploy what they never ran.
const SKIP_PPM: u32 = 20_000;
/// How long somebody takes at least, in milliseconds.
const LEAST_MS: u64 = 4_000;

/// Returns what a person, whose number is unique, does from `begin_ms` on: when, and the row without a line end.
pub fn sign_up(dice: &mut Dice, person: u64, channel: &str, begin_ms: i64) -> Vec<(i64, Vec<u8>)> {
    let plan = ["free", "free", "free", "pro", "team"][usize::try_from(dice.below(5)).expect("one of five")];
    let mut rows = Vec::new();
    let mut event = |at: i64, what: &str| {
        let line = format!(
            r#"{{"event_id":"p{person}-{}","user_id":"p{person}","event":"{what}","channel":"{channel}","plan":"{plan}","ts":{at}}}"#,
            rows.len()
        );
        rows.push((at, line.into_bytes()));
    };
    event(begin_ms, "user_signed_up");
    let mut now = begin_ms;
    for (what, share, most_ms) in STEPS {
        let skips = what == "workflow_run" && dice.chance(SKIP_PPM);
        if !skips && !dice.chance(share) {
            break;
        }
        now += i64::try_from(LEAST_MS + dice.mostly_small(most_ms)).expect("minutes");
        if !skips {
            event(now, what);
        }
    }
    rows
}
