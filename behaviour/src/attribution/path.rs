//! Transforms of a path: which of its touches stand for it. A path is a list, never a joined text: names may contain anything.

use serde::{Deserialize, Serialize};

/// Which touches of a path are kept. The channel decides which touches are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// All of them.
    #[default]
    None,
    /// The first of each run of the same channel.
    Exposure,
    /// The first of each channel.
    First,
    /// All but the run of this channel at the end, unless there is nothing else.
    RemoveIfLastAndNotAll(String),
    /// All but those of this channel, unless there is nothing else.
    RemoveIfNotAll(String),
}

impl Transform {
    /// Returns the places of the touches that are kept, ascending.
    pub fn kept(&self, path: &[&str]) -> Vec<usize> {
        let all = 0..path.len();
        match self {
            Transform::None => all.collect(),
            Transform::Exposure => all.filter(|at| *at == 0 || path[*at - 1] != path[*at]).collect(),
            Transform::First => all.filter(|at| !path[..*at].contains(&path[*at])).collect(),
            Transform::RemoveIfLastAndNotAll(channel) => {
                let end = path.iter().rposition(|step| step != channel).map_or(path.len(), |last| last + 1);
                (0..end).collect()
            }
            Transform::RemoveIfNotAll(channel) if path.iter().all(|step| step == channel) => all.collect(),
            Transform::RemoveIfNotAll(channel) => all.filter(|at| path[*at] != channel).collect(),
        }
    }

    /// Returns the channels that are kept.
    pub fn apply(&self, path: &[&str]) -> Vec<String> {
        self.kept(path).into_iter().map(|at| path[at].to_owned()).collect()
    }
}

/// Returns how often each channel is in a path, in the order in which they first come.
pub fn frequency(path: &[&str]) -> Vec<(String, usize)> {
    let count = |channel: &str| path.iter().filter(|step| **step == channel).count();
    Transform::First.apply(path).into_iter().map(|channel| (channel.clone(), count(&channel))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: [&str; 8] = ["D", "A", "B", "B", "C", "D", "C", "C"];

    #[track_caller]
    fn check(transform: Transform, path: &[&str], expected: &str) {
        assert_eq!(transform.apply(path).join(" "), expected);
    }

    #[test]
    fn a_path_is_shortened_as_its_transform_says() {
        check(Transform::None, &PATH, "D A B B C D C C");
        check(Transform::Exposure, &PATH, "D A B C D C");
        check(Transform::First, &PATH, "D A B C");
        let counts: Vec<String> = frequency(&PATH).iter().map(|(channel, n)| format!("{channel}({n})")).collect();
        assert_eq!(counts.join(" "), "D(2) A(1) B(2) C(3)");
    }

    #[test]
    fn a_channel_is_removed_unless_it_is_all_there_is() {
        check(Transform::RemoveIfLastAndNotAll("C".to_owned()), &PATH, "D A B B C D");
        check(Transform::RemoveIfLastAndNotAll("A".to_owned()), &PATH, "D A B B C D C C");
        check(Transform::RemoveIfLastAndNotAll("C".to_owned()), &["C", "C"], "C C");
        check(Transform::RemoveIfNotAll("C".to_owned()), &PATH, "D A B B D");
        check(Transform::RemoveIfNotAll("C".to_owned()), &["C", "C"], "C C");
        check(Transform::RemoveIfNotAll("C".to_owned()), &[], "");
    }

    #[test]
    fn a_name_with_an_arrow_in_it_is_one_name() {
        check(Transform::Exposure, &["a > b", "a", "b"], "a > b a b");
    }
}
