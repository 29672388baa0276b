//! Scroll baseline behind a real `frustration`: what it takes back is what a recomputation in floating point takes back.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use proptest::prelude::*;
use riverrun_behaviour::signals::Settings;
use serde_json::Value;

use super::*;
use crate::frustration::Frustration;
use crate::frustration::tests::world::{SHARDS, To, World, event_schema, events, hashed, objects, script, settings};

const USUAL: UsualSettings = UsualSettings { views: 5, sigma: 1 };
const HOUR: Duration = Duration::from_secs(3600);

/// Both steps, one after the other.
struct Chain {
    frustration: World<Watch<Frustration>>,
    baseline: World<Watch<ScrollBaseline>>,
}

impl Chain {
    fn new(workers: usize, forget_after: Duration, bounds: ScrollBaselineBounds) -> Chain {
        let mut rules = Settings::default();
        rules.set("scroll", "page_ends", &["true"]).unwrap();
        let watching = Frustration::new(settings(rules), &event_schema()).unwrap();
        let schema = watching.schema().clone();
        let by = keys_in(&schema).iter().map(|name| schema.index_of(name).unwrap()).collect();
        let settings = ScrollBaselineSettings { by, usual: USUAL, forget_after, bounds };
        let baseline = ScrollBaseline::new(settings, &schema).unwrap();
        Chain {
            frustration: World::new(workers, move |shards| Watch::new(watching.clone(), shards)),
            baseline: World::new(workers, move |shards| Watch::new(baseline.clone(), shards)),
        }
    }

    fn calm(workers: usize) -> Chain {
        Chain::new(workers, HOUR * 24, ScrollBaselineBounds::default())
    }

    /// Returns what was told, and what was taken back.
    fn step(&mut self, rows: &[Value], to: To) -> (Vec<Value>, Vec<Value>) {
        let told = self.frustration.step(&[events(rows)], to).rows;
        let keyed: Vec<RecordBatch> = told.iter().map(|batch| hashed(batch, &keys_in(&batch.schema()))).collect();
        let back = self.baseline.step(&keyed, to).rows;
        assert_eq!(self.baseline.counts.late, 0, "what a step gives is late for none");
        (objects(&told), objects(&back))
    }

    fn restart(&mut self, workers: usize, rebase: &[u16]) {
        self.frustration.freeze(rebase);
        self.baseline.freeze(rebase);
        self.frustration.restore(workers);
        self.baseline.restore(workers);
    }
}

/// A view of a page by a session of its own: so many turns, half a second each, and it is left.
fn view(number: usize, minute: i64, page: &str, turns: i64) -> String {
    let at = minute * 60_000 + number as i64;
    let who = format!("page_key={page} session_id=s{number:02} tab_id=w{number:02} user_id=u{number}");
    let mut text = format!("{at} page_view caps=scroll {who}\n");
    for turn in 0..=turns + 1 {
        let top = if turn % 2 == 0 { 0 } else { 900 };
        text.push_str(&format!("{} scroll scroll_top={top} viewport_h=800 {who}\n", at + 1000 + turn * 500));
    }
    text.push_str(&format!("{} page_leave {who}\n", at + 20_000));
    text
}

/// What is taken back, by the formula: page by page in the order of time, of one time signals first.
fn naive(told: &[Value]) -> Vec<Value> {
    let mut heard: Vec<&Value> =
        told.iter().filter(|row| row["kind"] == "page_end" || row["kind"] == "excessive_scroll").collect();
    heard.sort_by_key(|row| (row["told"].as_i64(), row["kind"] == "page_end"));
    let mut pages: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut back = Vec::new();
    for row in heard {
        let views = pages.entry(row["page_key"].as_str().unwrap()).or_default();
        let count = row["count"].as_i64().unwrap() as f64;
        if row["kind"] == "page_end" {
            views.push(count);
            continue;
        }
        let n = views.len() as f64;
        let mean = views.iter().sum::<f64>() / n;
        let deviation = (views.iter().map(|view| (view - mean).powi(2)).sum::<f64>() / n).sqrt();
        if views.len() as u64 >= USUAL.views && count <= mean + USUAL.sigma as f64 * deviation + 1e-9 {
            let mut row = row.clone();
            (row["rev"], row["points"]) = (1.into(), 0.into());
            back.push(row);
        }
    }
    back.sort_by_key(Value::to_string);
    back
}

fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(Value::to_string);
    rows
}

#[test]
fn what_is_usual_for_its_page_is_taken_back_and_nothing_else() {
    let mut text = String::new();
    for number in 0..6 {
        text.push_str(&view(number, number as i64, "/table", 7 + number as i64 % 2));
        text.push_str(&view(20 + number, number as i64, "/home", 0));
    }
    text.push_str(&view(40, 10, "/table", 8));
    text.push_str(&view(41, 11, "/table", 14));
    text.push_str(&view(42, 12, "/home", 7));
    let mut rows = script(&text);
    rows.sort_by_key(|row| row["at"].as_i64());
    let (told, back) = Chain::calm(1).step(&rows, To::End);
    assert_eq!(told.iter().filter(|row| row["kind"] == "page_end").count(), 15);
    let sessions: Vec<&str> = back.iter().map(|row| row["session_id"].as_str().unwrap()).collect();
    // 8 are not above 7.5 and 0.5; 14 are, and so are 7 on a page where nobody turns.
    assert_eq!(sessions, ["s40"]);
    let signal = told.iter().find(|row| row["session_id"] == "s40" && row["kind"] == "excessive_scroll").unwrap();
    let row = &back[0];
    assert_eq!((&row["signal_id"], &row["rev"], &row["points"]), (&signal["signal_id"], &1.into(), &0.into()));
    for column in
        ["told", "count", "page_key", "person", "start_time", "end_time", "evidence", "evidence_at", "tenant_id"]
    {
        assert_eq!(row[column], signal[column], "{column}");
    }
}

#[test]
fn a_page_that_nobody_views_any_more_is_forgotten() {
    let text: String = (0..6).map(|number| view(number, number as i64, "/table", 8)).collect();
    let mut chain = Chain::new(1, HOUR, ScrollBaselineBounds::default());
    chain.step(&script(&text), To::Ms(60 * 60_000));
    assert_eq!(chain.baseline.kept(), 1);
    let (_, back) = chain.step(&script(&view(10, 66, "/table", 8)), To::Ms(70 * 60_000));
    assert_eq!((back.len(), chain.baseline.kept()), (0, 1), "it begins anew");
    chain.step(&[], To::Ms(300 * 60_000));
    assert_eq!(chain.baseline.kept(), 0);
}

#[test]
fn too_many_pages_stop_the_job() {
    let bounds = ScrollBaselineBounds { pages_max: 2, ..ScrollBaselineBounds::default() };
    let rule = ScrollBaseline::new(
        ScrollBaselineSettings { by: vec![], usual: USUAL, forget_after: HOUR, bounds },
        &Frustration::new(settings(Settings::default()), &event_schema()).unwrap().schema().clone(),
    )
    .unwrap();
    let reason = rule.check(3, 0).unwrap_err().to_string();
    assert!(reason.contains("3 pages, and 2 are allowed"), "{reason}");
    assert!(rule.check(2, 0).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// One tick or many, any order of arrival inside a tick, restarts with other workers: the same rows, those of the formula.
    #[test]
    fn it_is_the_formula_whatever_the_cut(
        views in prop::collection::vec((0i64..30, 0usize..2, 0i64..12), 1..40),
        cut in 1usize..8,
        workers in prop::collection::vec(1usize..4, 20),
        rebase in prop::collection::vec(0..SHARDS, 0..4),
        seed in any::<u64>(),
    ) {
        let text: String = views
            .iter()
            .enumerate()
            .map(|(number, (minute, page, turns))| view(number, *minute, ["/a", "/b"][*page], *turns))
            .collect();
        let mut rows = script(&text);
        rows.sort_by_key(|row| row["at"].as_i64());
        let (told, back) = Chain::calm(1).step(&rows, To::End);
        let naive = naive(&told);
        prop_assert_eq!(sorted(back), naive.clone());

        let mut chain = Chain::calm(2);
        let mut given = Vec::new();
        for (number, part) in rows.chunks(rows.len().div_ceil(cut)).enumerate() {
            let to = part.iter().filter_map(|row| row["at"].as_i64()).max().unwrap();
            let mut part = part.to_vec();
            part.sort_by_key(|row| (row["position"].as_u64().unwrap() ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            given.extend(chain.step(&part, To::Ms(to)).1);
            chain.restart(workers[number], &rebase);
        }
        given.extend(chain.step(&[], To::End).1);
        prop_assert_eq!(sorted(given), naive);
    }
}
