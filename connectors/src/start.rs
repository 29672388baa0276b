//! Where a topic begins to be read when the job is new.

use std::collections::BTreeMap;
use std::fmt;

/// Where a source begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the first record that there is.
    #[default]
    Earliest,
    /// After the last record that there is.
    Latest,
    /// At the first record of each partition with this timestamp or a later one, in milliseconds since the epoch.
    Time(i64),
    /// At these offsets; a partition that is not named begins at its first record.
    Offsets(BTreeMap<u32, u64>),
}

/// A text says no place to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a start is `earliest`, `latest`, a time such as `2026-01-31T12:00:00Z`, or offsets by partition such as `0:1200,1:1187`"
)]
pub struct StartError;

impl Start {
    /// Reads a start. `time` reads a time, in milliseconds since the epoch.
    pub fn parse(text: &str, time: impl Fn(&str) -> Option<i64>) -> Result<Start, StartError> {
        match text {
            "earliest" => return Ok(Start::Earliest),
            "latest" => return Ok(Start::Latest),
            _ => {}
        }
        if let Some(millis) = time(text) {
            return Ok(Start::Time(millis));
        }
        let mut offsets = BTreeMap::new();
        for pair in text.split(',') {
            let (partition, offset) = pair.trim().split_once(':').ok_or(StartError)?;
            let partition = partition.parse().map_err(|_| StartError)?;
            let offset = offset.trim().parse().map_err(|_| StartError)?;
            if offsets.insert(partition, offset).is_some() {
                return Err(StartError);
            }
        }
        Ok(Start::Offsets(offsets))
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Earliest => f.write_str("earliest"),
            Start::Latest => f.write_str("latest"),
            Start::Time(millis) => write!(f, "time {millis}"),
            Start::Offsets(offsets) => {
                let pairs: Vec<String> = offsets.iter().map(|(p, o)| format!("{p}:{o}")).collect();
                f.write_str(&pairs.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_words_times_and_offsets() {
        let time = |text: &str| (text == "then").then_some(7);
        let parse = |text| Start::parse(text, time);
        assert_eq!(parse("earliest"), Ok(Start::Earliest));
        assert_eq!(parse("latest"), Ok(Start::Latest));
        assert_eq!(parse("then"), Ok(Start::Time(7)));
        assert_eq!(parse("0:12, 3:5"), Ok(Start::Offsets(BTreeMap::from([(0, 12), (3, 5)]))));
        for wrong in ["", "first", "0", "0:", "0:1,0:2", "0:1,", "-1:2"] {
            assert_eq!(parse(wrong), Err(StartError), "{wrong}");
        }
    }
}
