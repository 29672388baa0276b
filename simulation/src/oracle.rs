//! What should have come out: everything computed anew from the input and the recorded ticks, in plain lines, nothing fast.

use std::collections::{BTreeMap, BTreeSet};

use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::tick::{SplitMark, Tick};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::scene::Scene;
use crate::world::Inner;

/// Rows by sink and tick, each as JSON with its keys in order.
type Output = BTreeMap<(&'static str, Tick), Vec<String>>;

/// A good row.
#[derive(Clone)]
struct Row {
    /// In microseconds.
    time: i128,
    split: u32,
    position: u64,
    value: Value,
}

impl Row {
    fn place(&self) -> (i128, String, u32, u64) {
        let id = self.value["order_id"].as_str().unwrap_or_default().to_owned();
        (self.time, id, self.split, self.position)
    }

    fn key(&self) -> String {
        json!([self.value["user"], self.value["item"]]).to_string()
    }
}

/// Looks at what the world holds after a job came to its end. Returns what is wrong.
pub fn verdict(scene: &Scene, world: &Inner, balance: &BTreeMap<String, Counts>) -> Result<(), String> {
    if let Some(wrong) = &world.wrong {
        return Err(wrong.clone());
    }
    let mut calm = Calm::new(scene);
    for (tick, entry) in (1..).zip(world.journal.values()) {
        if entry.record.tick != tick {
            return Err(format!("tick {tick} was never made final"));
        }
        calm.tick(scene, world, tick)?;
    }
    calm.check_all_read(scene)?;
    let found = written(world)?;
    for key in calm.output.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let (mut wanted, mut found) =
            (calm.output.get(key).cloned().unwrap_or_default(), found.get(key).cloned().unwrap_or_default());
        wanted.sort();
        found.sort();
        if wanted != found {
            let lost: Vec<_> = wanted.iter().filter(|row| !found.contains(row)).collect();
            let extra: Vec<_> = found.iter().filter(|row| !wanted.contains(row)).collect();
            let (w, f) = (wanted.len(), found.len());
            return Err(format!("{key:?}: {f} rows, {w} expected; lost {lost:?}; not expected {extra:?}"));
        }
    }
    let balance: BTreeMap<&str, Counts> = balance.iter().map(|(name, counts)| (name.as_str(), *counts)).collect();
    calm.balance.retain(|_, counts| *counts != Counts::default());
    match balance == calm.balance {
        true => Ok(()),
        false => Err(format!("the balance is {balance:?}, expected {:?}", calm.balance)),
    }
}

/// What the lanes hold; checks their order.
fn written(world: &Inner) -> Result<BTreeMap<(&str, Tick), Vec<String>>, String> {
    let mut all: BTreeMap<(&str, Tick), Vec<String>> = BTreeMap::new();
    let mut homes: BTreeMap<(&str, String), u32> = BTreeMap::new();
    for ((sink, lane), state) in &world.lanes {
        let mut before = 0;
        for (tick, rows) in &state.ticks {
            if *tick <= before {
                return Err(format!("lane {lane} of {sink} has tick {tick} after tick {before}: DOUBLED"));
            }
            before = *tick;
            let order = |row: &(i64, Vec<u8>)| (row.0, xxh3_64(&row.1), row.1.clone());
            if !rows.iter().map(order).collect::<Vec<_>>().is_sorted() {
                return Err(format!("tick {tick} of lane {lane} of {sink} is not in canonical order"));
            }
            for (_, bytes) in rows {
                let mut value: Value = serde_json::from_slice(bytes).map_err(|e| format!("{sink}: {e}"))?;
                let fields = value.as_object_mut().ok_or("a row is no object")?;
                // Its words are the decoder's own affair. `arrived` is added by a mutant that only comparing derivations finds out.
                fields.remove("reason");
                fields.remove("arrived");
                let key = if sink == "counts" { value["user"].to_string() } else { value.to_string() };
                if *homes.entry((sink, key.clone())).or_insert(*lane) != *lane && sink == "counts" {
                    return Err(format!("key {key} of {sink} is on two lanes"));
                }
                all.entry((sink, *tick)).or_default().push(sorted(&value));
            }
        }
    }
    Ok(all)
}

/// JSON with its keys in order.
fn sorted(value: &Value) -> String {
    let fields: BTreeMap<&String, &Value> = value.as_object().into_iter().flatten().collect();
    fields.iter().map(|(name, value)| format!("{name}={value} ")).collect()
}

/// The calm world: no crash, one thread, every row kept.
struct Calm {
    output: Output,
    balance: BTreeMap<&'static str, Counts>,
    /// The recorded clock after each tick.
    nows: Vec<i64>,
    marks: BTreeMap<u32, SplitMark>,
    watermarks: [i128; 2],
    touches: Vec<Row>,
    accepted: Vec<Row>,
    waiting: Vec<Row>,
    windows: BTreeMap<(i128, String), Vec<Row>>,
}

const MIN: i128 = i64::MIN as i128;
const MAX: i128 = i64::MAX as i128;
const SECOND: i128 = 1_000_000;

fn minus(time: i128, by: i128) -> i128 {
    if time == MIN || time == MAX { time } else { time - by }
}

impl Calm {
    fn new(scene: &Scene) -> Calm {
        let split = |id: u32| {
            (
                id,
                SplitMark {
                    split: id,
                    from: 0,
                    to: 0,
                    rows: 0,
                    xxh3: 0,
                    greatest: riverrun_dataflow::EventTime::MIN,
                    idle: false,
                    at_end: false,
                    ended: false,
                },
            )
        };
        let splits = scene.splits.iter().map(|splits| splits.len()).sum::<usize>() as u32;
        Calm {
            output: Output::new(),
            balance: BTreeMap::new(),
            nows: Vec::new(),
            marks: (0..splits).map(split).collect(),
            watermarks: [MIN; 2],
            touches: Vec::new(),
            accepted: Vec::new(),
            waiting: Vec::new(),
            windows: BTreeMap::new(),
        }
    }

    fn put(&mut self, sink: &'static str, tick: Tick, value: &Value) {
        self.output.entry((sink, tick)).or_default().push(sorted(value));
    }

    fn tick(&mut self, scene: &Scene, world: &Inner, tick: Tick) -> Result<(), String> {
        let record = &world.journal[&tick].record;
        if tick == 1 {
            self.nows.push(world.begun);
        }
        let [clicks, orders] = self.read(scene, tick, &record.splits)?;
        let before = self.watermarks;
        self.move_time(scene);
        let recorded: Vec<i128> = record.watermarks.iter().map(|time| i128::from(time.0)).collect();
        if recorded != self.watermarks {
            return Err(format!("tick {tick}: the watermarks are {recorded:?}, expected {:?}", self.watermarks));
        }
        let last = *self.nows.last().expect("the clock began");
        if record.now < last {
            return Err(format!("tick {tick}: the recorded clock went back from {last} to {}", record.now));
        }
        self.nows.push(record.now);
        let shown: Vec<Row> = clicks.iter().filter(|row| row.value["n"].as_i64() > Some(2)).cloned().collect();
        let counts = self.balance.entry("shown").or_default();
        counts.input += clicks.len() as u64;
        counts.taken += shown.len() as u64;
        counts.out += shown.len() as u64;
        counts.filtered += (clicks.len() - shown.len()) as u64;
        self.count(tick, &shown, before[0]);
        self.credit(tick, &orders, &shown, before[0].min(before[1]));
        Ok(())
    }

    /// Reads the rows of a tick; what cannot be read goes to the bad rows.
    fn read(&mut self, scene: &Scene, tick: Tick, marks: &[SplitMark]) -> Result<[Vec<Row>; 2], String> {
        let mut rows = [Vec::new(), Vec::new()];
        let clicks = scene.splits[0].len() as u32;
        let now = self.nows[(tick.saturating_sub(scene.in_flight)) as usize];
        for mark in marks {
            let source = usize::from(mark.split >= clicks);
            let number = mark.split - if source == 1 { clicks } else { 0 };
            let known = self.marks[&mark.split].clone();
            if mark.from != known.to || mark.to - mark.from != mark.rows {
                return Err(format!(
                    "tick {tick}: split {} was read from {}, not from {}",
                    mark.split, mark.from, known.to
                ));
            }
            let mut greatest = i128::from(known.greatest.0);
            for position in mark.from..mark.to {
                let text = &scene.splits[source][number as usize][position as usize].text;
                let mut counts = Counts { input: 1, ..Counts::default() };
                let value = serde_json::from_str::<Value>(text).ok();
                let time = value.as_ref().and_then(|value| value["ts"].as_i64()).map(|ms| i128::from(ms) * 1000);
                let in_time = |time: i128| scene.bounded || time <= i128::from(now) + 3600 * SECOND;
                match value.zip(time.filter(|time| in_time(*time))) {
                    Some((value, time)) => {
                        counts.taken += 1;
                        counts.out += 1;
                        greatest = greatest.max(time);
                        rows[source].push(Row { time, split: mark.split, position, value });
                    }
                    None => {
                        counts.bad += 1;
                        if source == 0 {
                            let bad = json!({ "source": "clicks", "split": number.to_string(), "position": position, "code": "malformed",
                                "raw": text, "raw_base64": null, "raw_length": text.len() });
                            self.put("bad", tick, &bad);
                        }
                    }
                }
                *self.balance.entry(["clicks", "orders"][source]).or_default() += counts;
            }
            if i128::from(mark.greatest.0) != greatest {
                return Err(format!("tick {tick}: the greatest time of split {} is not {greatest}", mark.split));
            }
            self.marks.insert(mark.split, mark.clone());
        }
        Ok(rows)
    }

    /// The least over splits that are neither idle nor ended, two seconds back; never backwards.
    fn move_time(&mut self, scene: &Scene) {
        let clicks = scene.splits[0].len() as u32;
        let own = |source: usize| self.marks.values().filter(move |mark| usize::from(mark.split >= clicks) == source);
        let live = |source: usize| {
            let live = own(source).filter(|mark| !mark.ended && !mark.idle);
            live.map(|mark| minus(i128::from(mark.greatest.0), 2 * SECOND)).min()
        };
        let ended = |source: usize| own(source).all(|mark| mark.ended);
        let others = [0, 1].into_iter().filter(|source| !ended(*source)).filter_map(live).min();
        let moved = [0, 1].map(|source| match (ended(source), live(source)) {
            (true, _) => MAX,
            (false, Some(time)) => time,
            (false, None) => others.unwrap_or(self.watermarks[source]),
        });
        self.watermarks = [0, 1].map(|source| self.watermarks[source].max(moved[source]));
    }

    fn count(&mut self, tick: Tick, shown: &[Row], before: i128) {
        let size = 10 * SECOND;
        let (mut late, mut taken) = (0, 0);
        for row in shown {
            if row.time < minus(before, SECOND) {
                late += 1;
                let value = json!({ "user": row.value["user"], "item": row.value["item"], "n": row.value["n"] });
                self.put("late", tick, &value);
            } else {
                taken += 1;
                let start = row.time.div_euclid(size) * size;
                self.windows.entry((start, row.value["user"].to_string())).or_default().push(row.clone());
            }
        }
        let watermark = self.watermarks[0];
        let due = |start: i128| start + size - 1 + SECOND < watermark;
        let closed: Vec<_> = self.windows.keys().filter(|(start, _)| due(*start)).cloned().collect();
        for key in &closed {
            let rows = self.windows.remove(key).unwrap_or_default();
            let total: i64 = rows.iter().filter_map(|row| row.value["n"].as_i64()).sum();
            let value = json!({ "window_start": key.0 / 1000, "window_end": (key.0 + size) / 1000,
                "user": rows[0].value["user"], "rows": rows.len(), "total": total });
            self.put("counts", tick, &value);
        }
        let counts = self.balance.entry("counts").or_default();
        counts.input += shown.len() as u64;
        counts.taken += taken;
        counts.late += late;
        counts.out += closed.len() as u64;
    }

    fn credit(&mut self, tick: Tick, orders: &[Row], shown: &[Row], before: i128) {
        let mut counts = self.balance.remove("credited").unwrap_or_default();
        counts.input += (orders.len() + shown.len()) as u64;
        for touch in shown {
            if touch.time < before {
                counts.late += 1;
            } else {
                counts.taken += 1;
                self.touches.push(touch.clone());
            }
        }
        let mut orders = orders.to_vec();
        orders.sort_by_key(Row::place);
        for order in orders {
            let twin = |other: &Row| {
                other.key() == order.key()
                    && other.value["order_id"] == order.value["order_id"]
                    && (other.time - order.time).abs() <= 60 * SECOND
            };
            if order.time < before {
                counts.late += 1;
            } else if self.accepted.iter().any(twin) {
                counts.duplicate += 1;
            } else {
                counts.taken += 1;
                self.accepted.push(order.clone());
                self.waiting.push(order);
            }
        }
        let watermark = self.watermarks[0].min(self.watermarks[1]);
        let (due, left): (Vec<Row>, Vec<Row>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|order| order.time < watermark);
        self.waiting = left;
        counts.out += due.len() as u64;
        for order in due {
            let value = self.credited(&order);
            self.put("credited", tick, &value);
        }
        self.balance.insert("credited", counts);
    }

    fn credited(&self, order: &Row) -> Value {
        let touches = self.touches.iter().filter(|touch| {
            !order.value["user"].is_null()
                && touch.key() == order.key()
                && (0..=20 * SECOND).contains(&(order.time - touch.time))
        });
        let touch = touches.max_by_key(|touch| touch.place());
        let of = |name: &str| touch.map_or(Value::Null, |touch| touch.value[name].clone());
        json!({ "order_id": order.value["order_id"], "user": order.value["user"], "item": order.value["item"],
            "price": order.value["price"], "ts": order.value["ts"],
            "touch_user": of("user"), "touch_item": of("item"), "touch_n": of("n"),
            "attributed": touch.is_some(), "model": "last_touch",
            "weight_ppm": touch.map(|_| 1_000_000),
            "time_to_convert_ms": touch.map(|touch| ((order.time - touch.time) / 1000) as i64) })
    }

    /// Every split was read to its end, or the job was drained.
    fn check_all_read(&self, scene: &Scene) -> Result<(), String> {
        if scene.drains && self.marks.values().all(|mark| mark.ended) {
            return Ok(());
        }
        let all = scene.splits.iter().flat_map(|splits| splits.iter());
        for (mark, lines) in self.marks.values().zip(all) {
            if mark.to != lines.len() as u64 {
                return Err(format!("split {} was read to {} of {}", mark.split, mark.to, lines.len()));
            }
        }
        Ok(())
    }
}
