//! The ledger against a naive recomputation, on events at random.

use super::*;

/// A small seeded generator.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize].clone()
    }
}

#[derive(Clone, Debug)]
enum Event {
    Touch(Touch),
    Identify(i64, String, &'static str, &'static str),
    Order(OrderEvent),
}

impl Event {
    fn time(&self) -> i64 {
        match self {
            Event::Touch(touch) => touch.time,
            Event::Identify(time, ..) => *time,
            Event::Order(event) => event.time,
        }
    }
}

fn random_settings(dice: &mut Dice) -> Settings {
    Settings {
        windows: Windows {
            click_ms: 20 + dice.roll(60) as i64,
            view_ms: dice.pick(&[None, Some(30)]),
            half_life_ms: dice.pick(&[None, Some(17)]),
        },
        models: Model::ALL.to_vec(),
        strict_click_id: dice.roll(3) == 0,
        item_scope: dice.pick(&[ItemScope::Order, ItemScope::Product]),
        count_mode: dice.pick(&[CountMode::Every, CountMode::Every, CountMode::One]),
        dup_click_ms: dice.roll(5) as i64,
        transform: dice.pick(&[Transform::None, Transform::None, Transform::Exposure]),
        emission: dice.pick(&[Emission::Final, Emission::Eager]),
        lateness_ms: 1 + dice.roll(40) as i64,
    }
}

fn random_keys(dice: &mut Dice) -> Keys {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Keys {
        click_id: (dice.roll(6) == 0).then(|| ClickId { kind: "g".to_owned(), value: "1".to_owned() }),
        user: owned(dice.pick(&[None, Some("u1"), Some("u1"), Some("u2")])),
        anonymous: owned(dice.pick(&[None, Some("a1"), Some("a2")])),
    }
}

fn random_event(dice: &mut Dice, nth: usize, time: i64) -> Event {
    let product = |dice: &mut Dice| dice.pick(&[None, Some("A"), Some("B")]).map(str::to_owned);
    let order_id = dice.pick(&["o1", "o2", "o3"]);
    let id = format!("e{nth:02}");
    match dice.roll(10) {
        0..=4 => Event::Touch(Touch {
            kind: dice.pick(&[TouchKind::Click, TouchKind::Landing, TouchKind::View { is_viewable: true }]),
            keys: random_keys(dice),
            campaign: None,
            product: product(dice),
            ..touch(&id, dice.pick(&["email", "ads", "direct"]), time)
        }),
        5 => Event::Identify(time, id, dice.pick(&["a1", "a2"]), dice.pick(&["u1", "u2"])),
        6 | 7 => {
            let amounts = [dice.roll(50) as i64, dice.roll(50) as i64];
            let lines = amounts.map(|amount_minor| Line { product: product(dice), amount_minor }).to_vec();
            let booking = Booking::Completed { total_minor: amounts.iter().sum(), lines, keys: random_keys(dice) };
            Event::Order(event(&id, order_id, time, booking))
        }
        8 => Event::Order(refund(&id, order_id, time, 1 + dice.roll(60) as i64)),
        _ => {
            let updated = Booking::Updated { total_minor: dice.roll(90) as i64 };
            let booking = dice.pick(&[updated.clone(), updated, Booking::Cancelled]);
            Event::Order(event(&id, order_id, time, booking))
        }
    }
}

fn random_events(dice: &mut Dice) -> Vec<Event> {
    let mut time = 1_000;
    (0..30)
        .map(|nth| {
            time += dice.roll(8) as i64;
            random_event(dice, nth, time)
        })
        .collect()
}

/// Net amount per order, model and touch, worked out for all events at once with none of the ledger's parts but the weights of
/// a path and the division of money.
fn naive(settings: &Settings, events: &[Event]) -> BTreeMap<(String, Model, String), i64> {
    let mut touches: Vec<&Touch> =
        events.iter().filter_map(|event| if let Event::Touch(t) = event { Some(t) } else { None }).collect();
    touches.sort_by_key(|touch| touch.order());
    let mut orders: Vec<&OrderEvent> =
        events.iter().filter_map(|event| if let Event::Order(o) = event { Some(o) } else { None }).collect();
    orders.sort_by_key(|event| event.order());
    let person = |keys: &Keys, time: i64, until: i64| -> Option<String> {
        let mut its: Vec<(i64, String, &str)> = Vec::new();
        for event in events {
            if let Event::Identify(at, id, anonymous, user) = event
                && keys.anonymous.as_deref() == Some(*anonymous)
            {
                its.push((*at, id.clone(), user));
            }
        }
        its.sort();
        let after = its.iter().find(|(at, ..)| *at >= time && *at <= until);
        let before = its.iter().rev().find(|(at, ..)| *at < time);
        keys.user.clone().or(after.or(before).map(|(.., user)| (*user).to_owned()))
    };
    let (mut net, mut consumed) = (BTreeMap::new(), Vec::new());
    let mut seen: Vec<&str> = Vec::new();
    for order in &orders {
        let Booking::Completed { total_minor, lines, keys } = &order.booking else { continue };
        if seen.contains(&order.order_id.as_str()) {
            continue;
        }
        seen.push(&order.order_id);
        let mut path: Vec<&Touch> = Vec::new();
        let mut by_click_id: Vec<&Touch> = Vec::new();
        for (nth, touch) in touches.iter().enumerate() {
            let age = order.time - touch.time;
            let window =
                if touch.kind.is_view() { settings.windows.view_ms.unwrap_or(-1) } else { settings.windows.click_ms };
            let is_repeated = touches[..nth].iter().any(|other| touch.repeats(other, settings.dup_click_ms));
            if age < 0 || age > window || is_repeated || consumed.contains(&touch.id) {
                continue;
            }
            let same_click = keys.click_id.is_some() && keys.click_id == touch.keys.click_id;
            let its_person = person(&touch.keys, touch.time, order.time);
            let same_person = its_person.is_some() && its_person == person(keys, order.time, order.time);
            let same_device = keys.anonymous.is_some() && keys.anonymous == touch.keys.anonymous;
            if same_click {
                by_click_id.push(touch);
            }
            if same_click || same_person || same_device {
                path.push(touch);
            }
        }
        if settings.strict_click_id && !by_click_id.is_empty() {
            path = by_click_id;
        }
        if path.iter().any(|touch| !touch.kind.is_view()) {
            path.retain(|touch| !touch.kind.is_view());
        }
        if settings.count_mode == CountMode::One {
            consumed.extend(path.iter().map(|touch| touch.id.clone()));
        }
        if settings.transform == Transform::Exposure {
            path.dedup_by(|later, earlier| later.channel == earlier.channel);
        }
        let (mut total, mut refunded, mut is_void) = (*total_minor, 0, false);
        for correction in orders.iter().filter(|event| event.order_id == order.order_id && !is_telling(event)) {
            match correction.booking {
                _ if is_void => {}
                Booking::Updated { total_minor } => (total, refunded) = (total_minor, refunded.min(total_minor)),
                Booking::Refunded { amount_minor } => refunded = total.min(refunded + amount_minor),
                _ => (refunded, is_void) = (total, true),
            }
        }
        let whole = [Line { product: None, amount_minor: 1 }];
        let by_product = settings.item_scope == ItemScope::Product;
        let lines: &[Line] = if by_product { lines } else { &whole };
        let mut line_weights: Vec<u64> = lines.iter().map(|line| line.amount_minor as u64).collect();
        if line_weights.iter().all(|weight| *weight == 0) {
            line_weights.fill(1);
        }
        for model in Model::ALL {
            for (amount, sign) in [(total, 1), (refunded, -1)] {
                for (line, part) in lines.iter().zip(split(amount, &line_weights)) {
                    let mut its: Vec<&Touch> = path.clone();
                    if by_product {
                        let own = |touch: &&Touch| line.product.is_some() && touch.product == line.product;
                        let has_own = path.iter().any(own);
                        its.retain(|touch| if has_own { own(touch) } else { touch.product.is_none() });
                    }
                    let steps: Vec<Step> = its
                        .iter()
                        .map(|touch| Step { age_ms: order.time - touch.time, is_direct: touch.channel == "direct" })
                        .collect();
                    let is_view = path.first().is_some_and(|touch| touch.kind.is_view());
                    let weights = model.weights(&steps, settings.windows.half_life_ms(is_view));
                    let mut give = |touch: &str, part: i64| {
                        *net.entry((order.order_id.clone(), model, touch.to_owned())).or_default() += sign * part;
                    };
                    if its.is_empty() {
                        give("(none)", part);
                    }
                    its.iter().zip(split(part, &weights)).for_each(|(touch, part)| give(&touch.id, part));
                }
            }
        }
    }
    net.retain(|_, amount| *amount != 0);
    net
}

fn is_telling(event: &OrderEvent) -> bool {
    matches!(event.booking, Booking::Completed { .. })
}

/// Lets events arrive out of order, each within the lateness, with publications and restarts in between.
fn arrive(dice: &mut Dice, settings: &Settings, events: &[Event]) -> Reader {
    let mut arrivals: Vec<(i64, &Event)> =
        events.iter().map(|event| (event.time() + dice.roll(settings.lateness_ms as u64) as i64, event)).collect();
    arrivals.sort_by_key(|(arrival, _)| *arrival);
    let mut reader = Reader::new(settings.clone());
    for (arrival, event) in arrivals {
        if dice.roll(3) == 0 {
            reader.advance(arrival);
            check_sums(&reader);
        }
        if dice.roll(4) == 0 {
            reader.restart();
        }
        let taken = match event.clone() {
            Event::Touch(touch) => reader.touch(touch),
            Event::Identify(time, id, anonymous, user) => reader.ledger.push_identify(time, &id, anonymous, user),
            Event::Order(event) => reader.order(event),
        };
        assert_eq!(taken, Taken::Taken);
    }
    reader.advance(1_000_000);
    check_sums(&reader);
    reader
}

/// Of each order, all models give the same in all, and the weights of the order's own rows are a million.
fn check_sums(reader: &Reader) {
    let mut amounts: BTreeMap<(&str, Model), (i64, i64)> = BTreeMap::new();
    for row in reader.rows.keys() {
        let sums = amounts.entry((&row.order_id, row.model)).or_default();
        sums.0 += row.amount_minor;
        sums.1 += if row.reason == Reason::Order { row.weight_ppm } else { 0 };
    }
    let net: BTreeMap<&str, i64> = amounts.iter().map(|((order_id, _), (amount, _))| (*order_id, *amount)).collect();
    for ((order_id, model), (amount, ppm)) in &amounts {
        assert_eq!((*amount, *ppm), (net[order_id], 1_000_000), "{order_id} {model:?}");
    }
}

#[test]
fn the_ledger_ends_as_the_naive_one_in_any_order_of_arrival() {
    for seed in 1..150 {
        let mut dice = Dice(seed);
        let settings = random_settings(&mut dice);
        let events = random_events(&mut dice);
        let reader = arrive(&mut dice, &settings, &events);
        let mut found: BTreeMap<(String, Model, String), i64> = BTreeMap::new();
        for row in reader.rows.keys() {
            *found.entry((row.order_id.clone(), row.model, touch_id(row))).or_default() += row.amount_minor;
        }
        found.retain(|_, amount| *amount != 0);
        assert_eq!(found, naive(&settings, &events), "seed {seed}");
        let again = arrive(&mut dice, &settings, &events);
        assert_eq!(again.rows, reader.rows, "seed {seed}: another order of arrival");
        assert_eq!(again.paths, reader.paths, "seed {seed}: another order of arrival");
        let sorted = |reader: &Reader| {
            let mut notices: Vec<String> = reader.notices.iter().map(|notice| format!("{notice:?}")).collect();
            notices.sort();
            notices
        };
        assert_eq!(sorted(&again), sorted(&reader), "seed {seed}: another order of arrival");
        let closed = |reader: &Reader| {
            let mut closed = reader.closed.clone();
            closed.sort();
            closed
        };
        assert_eq!(closed(&again), closed(&reader), "seed {seed}: another order of arrival");
    }
}

/// Told the time only when it is due, a ledger says the same at the same times as one that is told every millisecond.
#[test]
fn nothing_happens_before_it_is_due() {
    for seed in 1..60 {
        let mut dice = Dice(seed);
        let settings = random_settings(&mut dice);
        let events = random_events(&mut dice);
        let (mut always, mut when_due) = (Reader::new(settings.clone()), Reader::new(settings.clone()));
        let (mut skipped, mut woken) = (0, 0);
        for time in 990..1_500 {
            let mut is_fed = false;
            for event in events.iter().filter(|event| event.time() == time) {
                for reader in [&mut always, &mut when_due] {
                    match event.clone() {
                        Event::Touch(touch) => reader.touch(touch),
                        Event::Identify(time, id, device, user) => reader.ledger.push_identify(time, &id, device, user),
                        Event::Order(event) => reader.order(event),
                    };
                }
                is_fed = true;
            }
            let changes = always.advance(time);
            if is_fed || when_due.ledger.due(&settings).is_some_and(|due| due < time) {
                assert_eq!(when_due.advance(time), changes, "seed {seed} at {time}");
                woken += 1;
            } else {
                assert!(changes.is_empty(), "seed {seed} at {time}");
                skipped += 1;
            }
            assert_eq!(when_due.notices, always.notices, "seed {seed} at {time}");
            assert_eq!(when_due.closed, always.closed, "seed {seed} at {time}");
        }
        assert!(skipped > woken, "seed {seed}: {woken} times of {}", skipped + woken);
        let due = always.ledger.due(&settings).map(|due| due > 1_500);
        assert!(due.unwrap_or(always.ledger.is_empty()), "what is left is due later");
        when_due.advance(i64::MAX);
        assert!(when_due.ledger.is_empty() && when_due.ledger.due(&settings).is_none());
    }
}
