//! What things are called in the namespace of a replay: the one place where a job or an output gets another name.
//!
//! | of the job | in the replay `NAME` |
//! |---|---|
//! | job `attribution` | `attribution@NAME`: state folder, log, tokens, transactional ids, metrics |
//! | topic `orders.v1` | `NAME.orders.v1`, dead letters alike |
//! | file `out/orders.jsonl` | `out/orders@NAME.jsonl` |
//! | lake `lake/orders` | `lake/orders@NAME` |

use xxhash_rust::xxh3::xxh3_64;

use crate::spec::SinkPlace;
use crate::spec::values::{job_name, resolve};

/// Characters that the name of a replay has at most: topics get it in front of theirs.
pub const NAME_MAX: usize = 40;

/// Checks the name of a replay.
pub fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match (1..=NAME_MAX).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('-') {
        true => Ok(()),
        false => Err(format!("is 1 to {NAME_MAX} of a-z, 0-9 and `-`, and does not begin with `-`")),
    }
}

/// Splits the name of a job that runs into that of its file and that of the replay, if it is one: `JOB`, or `JOB@NAME`. An error says
/// what such a name is.
pub fn split_job(name: &str) -> Result<(&str, Option<&str>), String> {
    let (job, replay) = name.split_once('@').map_or((name, None), |(job, replay)| (job, Some(replay)));
    job_name(job).map_err(|rule| format!("{rule}; that of a replay is JOB@NAME"))?;
    replay.map_or(Ok(()), check_name).map_err(|rule| format!("the name of a replay {rule}"))?;
    Ok((job, replay))
}

/// Returns the name of a replay that nobody named: the same for the same job and range, as it was asked for.
pub fn default_name(job: &str, asked: &str) -> String {
    format!("r-{:08x}", xxh3_64(format!("{job} {asked}").as_bytes()) >> 32)
}

/// Returns the name of the job that the replay `name` of `job` is. No job file can give it: it has an `@`.
pub(super) fn job(job: &str, name: &str) -> String {
    format!("{job}@{name}")
}

/// Gives an output its name in the replay `name`.
pub(super) fn rename(place: &mut SinkPlace, name: &str) {
    match place {
        SinkPlace::Topic { name: topic, dead_letters, .. } => {
            topic.value = in_front(&topic.value, name);
            if let Some(topic) = dead_letters {
                topic.value = in_front(&topic.value, name);
            }
        }
        // References are resolved before: what they stand for is part of the path that gets a suffix. One that cannot be is a
        // fault when the file is opened.
        SinkPlace::File(path) => path.value = resolve(&path.value).map_or(path.value.clone(), |it| suffixed(&it, name)),
        SinkPlace::Lake(lake) => {
            lake.path.value = resolve(&lake.path.value).map_or(lake.path.value.clone(), |it| folder(&it, name));
        }
        SinkPlace::Console => {}
    }
}

fn in_front(topic: &str, name: &str) -> String {
    format!("{name}.{topic}")
}

/// Returns a path with the name of a replay behind its last part, before the extension.
fn suffixed(path: &str, name: &str) -> String {
    let whole = path.trim_end_matches('/');
    let (folders, last) =
        whole.rsplit_once('/').map_or(("", whole), |(_, last)| (&path[..whole.len() - last.len()], last));
    match last.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => format!("{folders}{stem}@{name}.{extension}"),
        _ => format!("{folders}{last}@{name}{}", &path[whole.len()..]),
    }
}

/// Returns the place of a lake with the name of a replay behind it; at the root of a bucket, in a folder of that name.
fn folder(path: &str, name: &str) -> String {
    let whole = path.trim_end_matches('/');
    match whole.strip_prefix("s3://") {
        Some(bucket) if !bucket.contains('/') => format!("{whole}/@{name}"),
        _ => format!("{whole}@{name}{}", &path[whole.len()..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lake_of_a_replay_is_beside_that_of_its_job() {
        for (path, expected) in [
            ("lake/orders/", "lake/orders@n/"),
            ("lake/orders.v2", "lake/orders.v2@n"),
            ("s3://bucket/lake", "s3://bucket/lake@n"),
            ("s3://bucket/a/lake.v2", "s3://bucket/a/lake.v2@n"),
            ("s3://bucket", "s3://bucket/@n"),
        ] {
            assert_eq!(folder(path, "n"), expected);
            assert!(riverrun_state::Location::parse(expected).is_ok(), "{expected}");
        }
    }

    #[test]
    fn paths_get_the_name_before_their_extension() {
        let of = |path| suffixed(path, "n");
        assert_eq!(of("out.jsonl"), "out@n.jsonl");
        assert_eq!(of("a.b/out.v1.csv"), "a.b/out.v1@n.csv");
        assert_eq!(of("a.b/out"), "a.b/out@n");
        assert_eq!(of("/.hidden"), "/.hidden@n");
    }

    #[test]
    fn names_are_short_and_plain() {
        assert!(["a", "2026-01", &"x".repeat(40)].iter().all(|name| check_name(name).is_ok()));
        assert!(
            ["", "-", "-a", "A", "a.b", "a@b", "a/b", &"x".repeat(41)].iter().all(|name| check_name(name).is_err())
        );
    }

    #[test]
    fn the_name_of_a_replay_is_split_where_no_job_file_can_have_a_sign() {
        assert_eq!(split_job("shop"), Ok(("shop", None)));
        assert_eq!(split_job("shop@may-2"), Ok(("shop", Some("may-2"))));
        for bad in ["", "@", "shop@", "@may", "shop@-x", "shop@a@b", "shop@../x", "Shop", "shop@a/b"] {
            assert!(split_job(bad).is_err(), "{bad}");
        }
    }
}
