//! What the behaviour jobs have written, added up: channels, visits, signs of frustration, conversion, the funnel, the experiment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{cents, money, percent};
use crate::output::{grouped, table};

/// The models of the board, and what they are called there.
const MODELS: [(&str, &str); 4] = [
    ("first_touch", "first touch"),
    ("last_touch", "last touch"),
    ("linear", "linear"),
    ("position_based", "position"),
];
/// The steps of the funnel, and what they are called on the board.
const STEPS: [(&str, &str); 4] =
    [("signed_up", "signed up"), ("created", "created"), ("ran", "ran"), ("deployed", "deployed a workflow")];
/// Places on the board where people do not get on.
const PLACES: usize = 2;

/// The sums of all behaviour jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Behaviour {
    /// What each model gives each channel, in cents, refunds taken off.
    pub channels: BTreeMap<String, BTreeMap<String, i64>>,
    /// Visits.
    pub visits: Visits,
    /// Signals by their kind.
    pub signals: BTreeMap<String, u64>,
    /// Incidents.
    pub incidents: Incidents,
    /// Conversion, in minutes that are closed.
    pub conversion: Conversion,
    /// How many people took each step of the funnel, and how long after the one before, all together.
    pub funnel: BTreeMap<String, Step>,
    /// By experiment and variant, what became of those who were first shown it.
    pub experiments: BTreeMap<String, BTreeMap<String, Shown>>,
}

/// Visits that are over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Visits {
    /// All.
    pub count: u64,
    /// Those that were more than a glance.
    pub engaged: u64,
    /// Those with an order.
    pub with_order: u64,
}

/// Incidents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Incidents {
    /// All that were opened.
    pub opened: u64,
    /// Where, on which page and what of it: how many.
    pub places: BTreeMap<String, u64>,
}

/// Clicks and orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Conversion {
    /// Clicks, each once.
    pub clicks: u64,
    /// Orders, each once.
    pub orders: i64,
    /// Orders that a click led to.
    pub credited_orders: i64,
    /// Orders of which something was given back.
    pub refunded_orders: u64,
    /// Worth of the orders, in cents.
    pub revenue_cents: i64,
    /// What corrections add to it: less than nothing where money was given back.
    pub corrections_cents: i64,
}

/// Those who were shown a variant, whose time to buy is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// All.
    pub users: u64,
    /// Those who bought.
    pub buyers: u64,
}

/// A step of the funnel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Step {
    /// People who took it.
    pub people: u64,
    /// How long after the step before, all together.
    pub after_ms: u64,
}

#[derive(Deserialize)]
struct Credit<'a> {
    op: String,
    model: String,
    channel: Option<String>,
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Visit {
    engaged: bool,
    orders: u64,
    is_bot: bool,
}

#[derive(Deserialize)]
struct Signal {
    rev: u64,
    kind: String,
}

#[derive(Deserialize)]
struct Incident {
    event: String,
    page_key: Option<String>,
    subject: Option<String>,
}

#[derive(Deserialize)]
struct Minute<'a> {
    clicks: u64,
    orders: i64,
    credited_orders: i64,
    refunded_orders: u64,
    #[serde(borrow)]
    revenue: &'a RawValue,
    #[serde(borrow)]
    corrections: &'a RawValue,
}

#[derive(Deserialize)]
struct User {
    experiment: String,
    variant: String,
    completed: bool,
}

#[derive(Deserialize)]
struct Progress {
    step: String,
    after_ms: Option<u64>,
}

impl Behaviour {
    /// Adds a row of a topic; a row that another program wrote to it is none of ours.
    pub fn add(&mut self, topic: &str, row: &[u8]) -> Option<()> {
        match topic {
            "attributed.credits.v1" => self.credit(&serde_json::from_slice(row).ok()?),
            "sessions.v1" => self.visit(&serde_json::from_slice(row).ok()?),
            "frustration.signals.v1" => self.signal(serde_json::from_slice(row).ok()?),
            "frustration.incidents.v1" => self.incident(&serde_json::from_slice(row).ok()?),
            "conversion.hourly.v1" => self.minute(&serde_json::from_slice(row).ok()?)?,
            "telemetry.progress.v1" => self.step(serde_json::from_slice(row).ok()?),
            "ab-test.users.v1" => self.user(serde_json::from_slice(row).ok()?),
            _ => return None,
        }
        Some(())
    }

    fn credit(&mut self, row: &Credit<'_>) {
        let cents = row.amount.and_then(|amount| cents(amount.get())).unwrap_or(0);
        let signed = if row.op == "-" { -cents } else { cents };
        let channel = row.channel.clone().unwrap_or_else(|| "direct".to_owned());
        *self.channels.entry(channel).or_default().entry(row.model.clone()).or_default() += signed;
    }

    fn visit(&mut self, row: &Visit) {
        if !row.is_bot {
            self.visits.count += 1;
            self.visits.engaged += u64::from(row.engaged);
            self.visits.with_order += u64::from(row.orders > 0);
        }
    }

    fn signal(&mut self, row: Signal) {
        // Later revisions are the same signal again.
        if row.rev == 0 {
            *self.signals.entry(row.kind).or_default() += 1;
        }
    }

    fn incident(&mut self, row: &Incident) {
        if row.event == "opened" {
            self.incidents.opened += 1;
            let said = [&row.page_key, &row.subject].map(|text| text.as_deref().unwrap_or_default());
            *self.incidents.places.entry(said.join(" ").trim().to_owned()).or_default() += 1;
        }
    }

    fn minute(&mut self, row: &Minute<'_>) -> Option<()> {
        let sums = &mut self.conversion;
        sums.clicks += row.clicks;
        sums.orders += row.orders;
        sums.credited_orders += row.credited_orders;
        sums.refunded_orders += row.refunded_orders;
        sums.revenue_cents += cents(row.revenue.get())?;
        sums.corrections_cents += cents(row.corrections.get())?;
        Some(())
    }

    fn step(&mut self, row: Progress) {
        let step = self.funnel.entry(row.step).or_default();
        step.people += 1;
        step.after_ms += row.after_ms.unwrap_or(0);
    }

    fn user(&mut self, row: User) {
        let shown = self.experiments.entry(row.experiment).or_default().entry(row.variant).or_default();
        shown.users += 1;
        shown.buyers += u64::from(row.completed);
    }

    /// Returns what is known as one line.
    pub fn line(&self) -> String {
        let people = |step: &str| grouped(self.funnel.get(step).map_or(0, |step| step.people));
        format!(
            "{} visits, {} signals, {} incidents; {} signed up, {} deployed",
            grouped(self.visits.count),
            grouped(self.signals.values().sum()),
            grouped(self.incidents.opened),
            people("signed_up"),
            people("deployed")
        )
    }

    /// Returns what is known, line by line; at most 13 lines of at most 79 characters.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.channel_lines();
        lines.push(String::new());
        let Conversion { clicks, orders, credited_orders, refunded_orders, revenue_cents, corrections_cents } =
            self.conversion;
        let count = |orders: i64| u64::try_from(orders).unwrap_or(0);
        lines.push(format!(
            "conversion  {} of clicks; {} of orders given back; net revenue {}",
            percent(count(credited_orders), clicks),
            percent(refunded_orders, count(orders)),
            money(revenue_cents + corrections_cents)
        ));
        let Visits { count, engaged, with_order } = self.visits;
        lines.push(format!(
            "visits      {} over; {} engaged, {} with an order",
            grouped(count),
            percent(engaged, count),
            percent(with_order, count)
        ));
        lines.push(format!("frustration {}", self.signal_line()));
        lines.push(format!("incidents   {}", self.incident_line()));
        lines.push(format!("funnel      {}", self.funnel_line()));
        lines.push(format!("experiment  {}", self.experiment_line()));
        lines
    }

    fn channel_lines(&self) -> Vec<String> {
        let mut channels: Vec<_> = self.channels.iter().collect();
        let of = |sums: &BTreeMap<String, i64>, model: &str| sums.get(model).copied().unwrap_or(0);
        channels.sort_by_key(|(channel, sums)| (-of(sums, "last_touch"), (*channel).clone()));
        let rows = channels.into_iter().take(5).map(|(channel, sums)| {
            let name = if channel == "(none)" { "no touch" } else { channel.as_str() };
            let mut row = vec![name.to_owned()];
            row.extend(MODELS.map(|(model, _)| money(of(sums, model))));
            row
        });
        let mut header = vec!["net revenue by"];
        header.extend(MODELS.map(|(_, name)| name));
        let text = table(&header, &[1, 2, 3, 4], rows.collect()).to_string();
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    fn signal_line(&self) -> String {
        let mut kinds: Vec<_> = self.signals.iter().collect();
        kinds.sort_by_key(|(kind, count)| (std::cmp::Reverse(**count), (*kind).clone()));
        let said =
            kinds.into_iter().take(3).map(|(kind, count)| format!("{} {}", grouped(*count), kind.replace('_', " ")));
        joined(said, ", ")
    }

    fn incident_line(&self) -> String {
        let mut places: Vec<_> = self.incidents.places.iter().collect();
        places.sort_by_key(|(place, count)| (std::cmp::Reverse(**count), (*place).clone()));
        let said = places.into_iter().take(PLACES).map(|(place, _)| short(place, 28));
        match self.incidents.opened {
            0 => "-".to_owned(),
            opened => format!("{}; most: {}", grouped(opened), joined(said, ", ")),
        }
    }

    fn funnel_line(&self) -> String {
        let people = |step: &str| self.funnel.get(step).map_or(0, |step| step.people);
        let mut before = None;
        let said = STEPS.iter().map(|(step, name)| {
            let rate = before.map_or(String::new(), |before| format!("{} ", percent(people(step), before)));
            before = Some(people(step));
            match rate.is_empty() {
                true => format!("{} {name}", grouped(people(step))),
                false => format!("{rate}{name}"),
            }
        });
        joined(said, " > ")
    }

    /// Returns the experiment that most people were shown.
    fn experiment_line(&self) -> String {
        let people = |variants: &BTreeMap<String, Shown>| variants.values().map(|shown| shown.users).sum::<u64>();
        let Some((name, variants)) = self.experiments.iter().max_by_key(|(_, variants)| people(variants)) else {
            return "-".to_owned();
        };
        let said = variants.iter().take(3).map(|(variant, Shown { users, buyers })| {
            format!("{} {} of {}", short(variant, 8), percent(*buyers, *users), grouped(*users))
        });
        format!("{}: {} bought", short(name, 12), joined(said, ", "))
    }
}

fn joined(parts: impl Iterator<Item = String>, between: &str) -> String {
    let text = parts.collect::<Vec<_>>().join(between);
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Returns a text with its end left out, if it is longer than so many characters.
fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums() -> Behaviour {
        let mut sums = Behaviour::default();
        let mut add = |topic: &str, row: &str| sums.add(topic, row.as_bytes()).unwrap();
        add("attributed.credits.v1", r#"{"op":"+","model":"last_touch","channel":"email","amount":10.50}"#);
        add("attributed.credits.v1", r#"{"op":"-","model":"last_touch","channel":"email","amount":0.50}"#);
        add("attributed.credits.v1", r#"{"op":"+","model":"last_touch","channel":"(none)","amount":-1.05}"#);
        add("sessions.v1", r#"{"engaged":true,"orders":2,"is_bot":false}"#);
        add("sessions.v1", r#"{"engaged":true,"orders":2,"is_bot":true}"#);
        add("frustration.signals.v1", r#"{"rev":0,"kind":"rage_click"}"#);
        add("frustration.signals.v1", r#"{"rev":1,"kind":"rage_click"}"#);
        add(
            "frustration.incidents.v1",
            r##"{"event":"opened","page_key":"/checkout","about":"unresponsive","subject":"#pay"}"##,
        );
        add("frustration.incidents.v1", r#"{"event":"closed","page_key":"/checkout","about":"x","subject":"y"}"#);
        add(
            "conversion.hourly.v1",
            r#"{"clicks":10,"orders":4,"credited_orders":2,"refunded_orders":1,"revenue":20.00,"corrections":-5.5}"#,
        );
        add("telemetry.progress.v1", r#"{"step":"signed_up","after_ms":null}"#);
        add("telemetry.progress.v1", r#"{"step":"created","after_ms":1000}"#);
        for (variant, completed) in [("new", true), ("new", false), ("old", false)] {
            let row = format!(r#"{{"experiment":"checkout","variant":"{variant}","completed":{completed}}}"#);
            add("ab-test.users.v1", &row);
        }
        sums
    }

    #[test]
    fn rows_are_added_up_by_what_they_say() {
        let sums = sums();
        assert_eq!(sums.channels["email"]["last_touch"], 1000);
        assert_eq!(sums.channels["(none)"]["last_touch"], -105);
        assert_eq!(sums.visits, Visits { count: 1, engaged: 1, with_order: 1 });
        assert_eq!((sums.signals["rage_click"], sums.incidents.opened), (1, 1));
        assert_eq!(sums.conversion.corrections_cents, -550);
        assert_eq!(sums.funnel["created"], Step { people: 1, after_ms: 1000 });
    }

    #[test]
    fn it_is_said_in_lines_that_fit_a_terminal() {
        for sums in [Behaviour::default(), sums()] {
            let lines = sums.lines();
            assert!(lines.len() <= 13 && lines.iter().all(|line| line.chars().count() <= 79), "{lines:#?}");
        }
        let text = sums().lines().join("\n");
        assert!(text.contains("20.0 % of clicks; 25.0 % of orders given back; net revenue 14.50"), "{text}");
        assert_eq!(sums().line(), "1 visits, 1 signals, 1 incidents; 1 signed up, 0 deployed");
        assert!(text.contains("checkout: new 50.0 % of 2, old 0.0 % of 1 bought"), "{text}");
        assert!(text.contains("1 signed up > 100.0 % created > 0.0 % ran"), "{text}");
    }
}
