//! The sessions by the fold of the rules: every row kept, put in order, folded one by one.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, TimestampMicrosecondArray};
use riverrun_behaviour::event::Class;
use riverrun_behaviour::identity::identity;
use riverrun_behaviour::session::{Closed, Mark, Placed, Rules, Session, Sessions, Tally};
use serde::{Deserialize, Serialize};

use super::world::{Came, MS, Row, Settings, Tick, batch, text};
use crate::sessionize::{reason_word, zone_of};

type Key = (Option<String>, Option<i64>);

/// What the rows of a session add up to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    rows: Vec<Kept>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// What orders rows of one key.
    place: (i64, Option<String>, u32, u64),
    n: Option<i64>,
    f: Option<f64>,
    s: Option<String>,
}

impl Tally for Sum {
    type Row = Kept;
    type Settings = ();

    fn add(&mut self, (): &(), _: &Mark<'_>, row: &Kept) {
        self.rows.push(row.clone());
    }
}

fn rules(settings: Settings) -> Rules {
    Rules {
        idle_timeout_ms: settings.gap * MS,
        max_duration_ms: settings.max_duration * MS,
        user_switch: settings.user,
        // Times are microseconds here: a day of the zone is 86.4 s of them, which the tests do not reach.
        midnight: settings.midnight.then(|| zone_of("UTC").unwrap()),
        campaign_split: settings.campaign,
        referrer_split: settings.referrer,
    }
}

/// What comes out in each tick.
pub(super) fn run(ticks: &[Tick], settings: Settings) -> Vec<Came> {
    let rules = rules(settings);
    let mut waiting: Vec<Row> = Vec::new();
    let mut sessions: BTreeMap<Key, Sessions<Sum>> = BTreeMap::new();
    let (mut before, mut all) = (i64::MIN, Vec::new());
    for tick in ticks {
        let mut came = Came::default();
        for row in &tick.rows {
            let limit = if before == i64::MIN { before } else { before - settings.lateness * MS };
            if row.time < limit {
                came.late.push(text(&batch(std::slice::from_ref(row), None), 0, 12));
            } else if row.n == Some(0) {
                came.bad.push(format!("{} {} division by zero", row.split, row.position));
            } else {
                waiting.push(row.clone());
            }
        }
        let watermark = tick.watermark.unwrap_or(i64::MAX).max(before);
        let limit = match watermark {
            i64::MAX => i64::MAX,
            i64::MIN => i64::MIN,
            watermark => watermark - settings.lateness * MS,
        };
        waiting.sort_by(order);
        let due = waiting.partition_point(|row| row.time < limit);
        for row in waiting.drain(..due) {
            push(&rules, settings, &mut sessions, &row, &mut came);
        }
        for (key, sessions) in &mut sessions {
            let mut closed = Vec::new();
            sessions.advance(&rules, limit, &mut closed);
            came.rows.extend(closed.iter().map(|closed| result(key, closed)));
        }
        before = watermark;
        came.sort();
        all.push(came);
    }
    all
}

fn push(rules: &Rules, settings: Settings, sessions: &mut BTreeMap<Key, Sessions<Sum>>, row: &Row, came: &mut Came) {
    let kind = row.kind.as_deref();
    // A condition that is null is not true.
    let is_interaction = !settings.passive || kind.is_some_and(|kind| kind != "passive" && kind != "leave");
    let id = row.id.clone().unwrap_or_else(|| format!("{}:{}", row.split, row.position));
    let mark = Mark {
        time: row.time,
        rank: 0,
        id: &id,
        class: if is_interaction { Class::Interaction } else { Class::Passive },
        user: row.user.as_deref().filter(|_| settings.user),
        campaign: row.campaign.as_deref(),
        referrer: row.s.as_deref(),
        leaves: settings.leave && kind == Some("leave"),
    };
    let key = (row.k.clone(), row.j);
    let mut closed = Vec::new();
    let place = (row.time, row.id.clone(), row.split, row.position);
    let kept = Kept { place, n: row.n, f: row.f, s: row.s.clone() };
    let placed = sessions.entry(key.clone()).or_default().push(rules, &(), &mark, &kept, &mut closed);
    came.rows.extend(closed.iter().map(|closed| result(&key, closed)));
    if placed == Placed::Sessionless {
        came.sessionless.push(text(&batch(std::slice::from_ref(row), None), 0, 12));
    }
}

/// The per-key order; what is equal in it goes by the content of the user's columns.
fn order(a: &Row, b: &Row) -> Ordering {
    let hidden = (a.time, &a.id, a.split, a.position).cmp(&(b.time, &b.id, b.split, b.position));
    let content = |row: &Row| (row.k.clone(), row.j, row.kind.clone(), row.user.clone(), row.campaign.clone(), row.n);
    hidden
        .then_with(|| content(a).cmp(&content(b)))
        .then_with(|| match (a.f, b.f) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        })
        .then_with(|| a.s.cmp(&b.s))
}

fn result(key: &Key, closed: &Closed<Sum>) -> String {
    let Session { span, tally } = &closed.session;
    let rows = &tally.rows;
    let device = key.1.map_or(String::new(), |j| j.to_string());
    let id = identity(&["ses/1", "", key.0.as_deref().unwrap_or(""), &device, &span.first_id]).to_string();
    let time = |time: i64| show(Arc::new(TimestampMicrosecondArray::from(vec![time])));
    let number = |number: Option<i64>| number.map_or("null".to_owned(), |number| number.to_string());
    let texts: std::collections::BTreeSet<&String> = rows.iter().filter_map(|row| row.s.as_ref()).collect();
    let sum = |values: Vec<i64>| (!values.is_empty()).then(|| values.iter().sum());
    let floats: Vec<f64> = rows.iter().filter_map(|row| row.f).collect();
    let floats = (!floats.is_empty()).then(|| floats.iter().fold(0.0, |sum, f| sum + f));
    let parts = [
        id,
        time(span.start),
        time(span.end()),
        reason_word(closed.reason).to_owned(),
        key.0.clone().unwrap_or("null".to_owned()),
        number(key.1),
        rows.len().to_string(),
        number(sum(rows.iter().filter_map(|row| row.n).collect())),
        texts.len().to_string(),
        // Rows that are one in all that orders them go by value.
        rows.iter().map(|row| (&row.place, &row.s)).min().and_then(|(_, s)| s.clone()).unwrap_or("null".to_owned()),
        number(rows.iter().map(|row| (&row.place, row.n)).max().and_then(|(_, n)| n)),
        floats.map_or("null".to_owned(), |sum| show(Arc::new(Float64Array::from(vec![sum])))),
        number(sum(rows.iter().filter_map(|row| row.n).map(|n| 10 / n).collect())),
    ];
    parts.join(" | ")
}

fn show(column: ArrayRef) -> String {
    arrow::util::display::array_value_to_string(&column, 0).unwrap()
}
