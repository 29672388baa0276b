//! A moment of the past: where the topics of a job begin or end.

use std::collections::BTreeMap;

use riverrun_connectors::start::Start;

use crate::spec::values;

/// Where topics begin or end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At the first record that there is.
    Earliest,
    /// After the last record that there is.
    Latest,
    /// At the first record of each partition with this timestamp or a later one, in milliseconds since the epoch.
    Time(i64),
    /// At these offsets, by topic and partition.
    Offsets(BTreeMap<String, BTreeMap<u32, u64>>),
}

/// What a moment is, for a message.
const FORMS: &str = "is no moment; one is `earliest`, `latest`, a date such as `2026-01-31`, a time such as `2026-01-31T12:00:00Z`, an age such as `2h` \
or `7d`, or offsets such as `raw.clicks.v1:0=120,1=90`";

impl Moment {
    /// Reads a moment; ages are taken back from `now`, in milliseconds since the epoch.
    pub fn parse(text: &str, now: i64) -> Result<Moment, String> {
        match text {
            "earliest" => return Ok(Moment::Earliest),
            "latest" => return Ok(Moment::Latest),
            _ if text.contains('=') => return offsets(text),
            _ => {}
        }
        if let Ok(time) = values::time(text) {
            return Ok(Moment::Time(time.0.div_euclid(1000)));
        }
        let age = values::duration(text).ok().and_then(|age| i64::try_from(age.as_millis()).ok());
        match age {
            Some(age) => Ok(Moment::Time(now.saturating_sub(age))),
            None => Err(FORMS.to_owned()),
        }
    }

    /// Returns the topics that it names.
    pub(super) fn topics(&self) -> Vec<&str> {
        match self {
            Moment::Offsets(topics) => topics.keys().map(String::as_str).collect(),
            Moment::Earliest | Moment::Latest | Moment::Time(_) => Vec::new(),
        }
    }

    /// Returns where it is in `topic`; `unnamed` where it names offsets of others.
    pub(super) fn of_topic(&self, topic: &str, unnamed: Start) -> Start {
        match self {
            Moment::Earliest => Start::Earliest,
            Moment::Latest => Start::Latest,
            Moment::Time(millis) => Start::Time(*millis),
            Moment::Offsets(topics) => topics.get(topic).cloned().map_or(unnamed, Start::Offsets),
        }
    }
}

/// Reads offsets: `TOPIC:PARTITION=OFFSET`, joined by commas; a topic holds until the next one is named.
fn offsets(text: &str) -> Result<Moment, String> {
    let mut topics: BTreeMap<String, BTreeMap<u32, u64>> = BTreeMap::new();
    let mut topic: Option<&str> = None;
    for part in text.split(',').map(str::trim) {
        let (place, offset) = part.split_once('=').ok_or(FORMS)?;
        let partition = match place.rsplit_once(':') {
            Some((named, partition)) => {
                topic = Some(named.trim());
                partition
            }
            None => place,
        };
        let topic = topic.filter(|name| values::topic_name(name).is_ok()).ok_or_else(|| {
            format!("names a topic before its first partition, such as `raw.clicks.v1:0=120`; `{part}` has none")
        })?;
        let number =
            |text: &str| text.trim().parse::<u64>().map_err(|_| format!("has `{text}` where a number should be"));
        let partition = u32::try_from(number(partition)?).map_err(|_| format!("has no partition {partition}"))?;
        let offset = number(offset)?;
        if topics.entry(topic.to_owned()).or_default().insert(partition, offset).is_some() {
            return Err(format!("names partition {partition} of `{topic}` twice"));
        }
    }
    Ok(Moment::Offsets(topics))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_words_times_ages_and_offsets() {
        let parse = |text| Moment::parse(text, 10_000_000_000);
        assert_eq!(parse("earliest"), Ok(Moment::Earliest));
        assert_eq!(parse("latest"), Ok(Moment::Latest));
        assert_eq!(parse("1970-01-02"), Ok(Moment::Time(86_400_000)));
        assert_eq!(parse("1970-01-01T00:00:01+01:00"), Ok(Moment::Time(-3_599_000)));
        assert_eq!(parse("2h"), Ok(Moment::Time(10_000_000_000 - 7_200_000)));
        let clicks = ("a.b".to_owned(), BTreeMap::from([(0, 12), (1, 5)]));
        let orders = ("c".to_owned(), BTreeMap::from([(7, 0)]));
        assert_eq!(parse("a.b:0=12, 1=5,c:7=0"), Ok(Moment::Offsets(BTreeMap::from([clicks, orders]))));
        for wrong in ["", "yesterday", "0=1", "a:x=1", "a:0=", "a:0=1,0=2", "a:0=1,", "a b:0=1", "-2h"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn topics_without_offsets_are_read_whole() {
        let moment = Moment::parse("a:0=12", 0).unwrap();
        assert_eq!(moment.of_topic("a", Start::Earliest), Start::Offsets(BTreeMap::from([(0, 12)])));
        assert_eq!(moment.of_topic("b", Start::Latest), Start::Latest);
    }
}
