//! A select, a plain attribution, and windows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Calm, Cut, Row, SECOND, Steps, minus};

/// What the steps have seen.
#[derive(Default)]
pub(super) struct Windows {
    touches: Vec<Row>,
    accepted: Vec<Row>,
    waiting: Vec<Row>,
    windows: BTreeMap<(i128, String), Vec<Row>>,
}

const KEY: [&str; 2] = ["user", "item"];

impl Steps for Windows {
    fn tick(&mut self, cut: &Cut, calm: &mut Calm) {
        let [clicks, orders] = [&cut.rows[0], &cut.rows[1]];
        let shown: Vec<Row> = clicks.iter().filter(|row| row.value["n"].as_i64() > Some(2)).cloned().collect();
        let counts = calm.counts("shown");
        counts.input += clicks.len() as u64;
        counts.taken += shown.len() as u64;
        counts.out += shown.len() as u64;
        counts.filtered += (clicks.len() - shown.len()) as u64;
        self.count(cut, &shown, calm);
        self.credit(cut, orders, &shown, calm);
    }

    fn home(&self, sink: &str) -> Option<&'static str> {
        (sink == "counts").then_some("user")
    }

    fn changes(&self) -> Option<&'static str> {
        None
    }
}

impl Windows {
    fn count(&mut self, cut: &Cut, shown: &[Row], calm: &mut Calm) {
        let size = 10 * SECOND;
        let (mut late, mut taken) = (0, 0);
        for row in shown {
            if row.time < minus(cut.before[0], SECOND) {
                late += 1;
                let value = json!({ "user": row.value["user"], "item": row.value["item"], "n": row.value["n"] });
                calm.put("late", &value);
            } else {
                taken += 1;
                let start = row.time.div_euclid(size) * size;
                self.windows.entry((start, row.value["user"].to_string())).or_default().push(row.clone());
            }
        }
        let due = |start: i128| start + size - 1 + SECOND < cut.watermarks[0];
        let closed: Vec<_> = self.windows.keys().filter(|(start, _)| due(*start)).cloned().collect();
        for key in &closed {
            let rows = self.windows.remove(key).unwrap_or_default();
            let total: i64 = rows.iter().filter_map(|row| row.value["n"].as_i64()).sum();
            let value = json!({ "window_start": key.0 / 1000, "window_end": (key.0 + size) / 1000,
                "user": rows[0].value["user"], "rows": rows.len(), "total": total });
            calm.put("counts", &value);
        }
        let counts = calm.counts("counts");
        counts.input += shown.len() as u64;
        counts.taken += taken;
        counts.late += late;
        counts.out += closed.len() as u64;
    }

    fn credit(&mut self, cut: &Cut, orders: &[Row], shown: &[Row], calm: &mut Calm) {
        let before = cut.before[0].min(cut.before[1]);
        let counts = calm.counts("credited");
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
        orders.sort_by(|one, other| one.place().cmp(&other.place()));
        for order in orders {
            let twin = |other: &Row| {
                other.key(&KEY) == order.key(&KEY)
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
        let watermark = cut.watermarks[0].min(cut.watermarks[1]);
        let (due, left): (Vec<Row>, Vec<Row>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|order| order.time < watermark);
        self.waiting = left;
        counts.out += due.len() as u64;
        for order in due {
            let value = self.credited(&order);
            calm.put("credited", &value);
        }
    }

    fn credited(&self, order: &Row) -> Value {
        let touches = self.touches.iter().filter(|touch| {
            !order.value["user"].is_null()
                && touch.key(&KEY) == order.key(&KEY)
                && (0..=20 * SECOND).contains(&(order.time - touch.time))
        });
        let touch = touches.max_by(|one, other| one.place().cmp(&other.place()));
        let of = |name: &str| touch.map_or(Value::Null, |touch| touch.value[name].clone());
        json!({ "order_id": order.value["order_id"], "user": order.value["user"], "item": order.value["item"],
            "price": order.value["price"], "ts": order.value["ts"],
            "touch_user": of("user"), "touch_item": of("item"), "touch_n": of("n"),
            "attributed": touch.is_some(), "model": "last_touch",
            "weight_ppm": touch.map(|_| 1_000_000),
            "time_to_convert_ms": touch.map(|touch| ((order.time - touch.time) / 1000) as i64) })
    }
}
