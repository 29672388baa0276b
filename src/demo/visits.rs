//! Visits: what a visitor of the shop does on its pages, as the events that a tracker would send. Most get on well; some click on
//! what does not answer, and some of those again and again.

use std::fmt::Write;

use super::dice::Dice;

/// What a visitor did, as the shop sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Clicked on an item.
    Click,
    /// Ordered: the number of the order, and its price in cents.
    Order(u64, u64),
}

/// Who visits, and when.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// The visitor.
    pub user: u32,
    /// The number of the visit; unique.
    pub visit: u64,
    /// When it begins, in milliseconds since the epoch.
    pub begin_ms: i64,
}

/// Of a million visits, how many have a click that is not answered.
const DEAD_PPM: u32 = 60_000;
/// Of a million visits, how many have somebody who loses patience.
const RAGE_PPM: u32 = 25_000;
/// Of a million visits, how many have a click that ends in an error.
const ERROR_PPM: u32 = 10_000;
/// The browser of all visitors: without one they would be taken for programs.
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
/// Where it does not get on.
const TROUBLE: [(&str, &str); 3] = [
    ("/product/:id", "[data-testid=add-to-cart]"),
    ("/checkout", "[data-testid=pay]"),
    ("/cart", "[data-testid=voucher]"),
];

/// Returns the events of a visit: when each happened, and the row without a line end.
pub fn visit(dice: &mut Dice, who: Visitor, deeds: &[(i64, Deed)]) -> Vec<(i64, Vec<u8>)> {
    let mut pages = Pages { who, events: Vec::new() };
    pages.view(who.begin_ms, "/");
    let mut now = who.begin_ms;
    for (at, deed) in deeds {
        now = now.max(*at);
        match deed {
            Deed::Click => {
                pages.click(now, "/", "[data-testid=item]", Some(40 + dice.below(400)));
                pages.view(now + 600, "/product/:id");
            }
            Deed::Order(number, cents) => {
                pages.view(now - 1_500, "/checkout");
                pages.click(now - 500, "/checkout", "[data-testid=pay]", Some(200 + dice.below(1_500)));
                let of = format!(r#","order_id":"o{number}","amount_minor":{cents},"currency":"EUR""#);
                pages.event(now, "order_completed", "/checkout", &of);
            }
        }
    }
    now = trouble(dice, &mut pages, now + 2_000);
    let stays = i64::try_from(1_000 + dice.below(20_000)).expect("seconds");
    pages.event(now + stays, "page_leave", "/", r#","leave":"close""#);
    pages.events
}

/// What goes wrong in some visits, from a time on; returns the time after it.
fn trouble(dice: &mut Dice, pages: &mut Pages, mut now: i64) -> i64 {
    let (page, target) = TROUBLE[usize::try_from(dice.below(3)).expect("one of three")];
    if dice.chance(DEAD_PPM) {
        pages.view(now, page);
        now += 3_000;
        pages.click(now, page, target, None);
        // Long enough to see that nothing comes of it.
        now += 8_000;
    }
    if dice.chance(RAGE_PPM) {
        pages.view(now, page);
        now += 2_000;
        for _ in 0..4 + dice.below(4) {
            pages.click(now, page, target, None);
            now += i64::try_from(120 + dice.below(150)).expect("milliseconds");
        }
        now += 8_000;
    }
    if dice.chance(ERROR_PPM) {
        pages.view(now, page);
        now += 2_000;
        pages.click(now, page, target, Some(60));
        let error = r#","error_type":"TypeError","message":"cart is undefined""#;
        pages.event(now + 90, "js_error", page, error);
        now += 3_000;
    }
    now
}

/// The events of a visit, written down.
struct Pages {
    who: Visitor,
    events: Vec<(i64, Vec<u8>)>,
}

impl Pages {
    fn view(&mut self, at: i64, page: &str) {
        self.event(at, "page_view", page, r#","caps":"reactions""#);
    }

    /// A click, and after how many milliseconds the page answered, if it did.
    fn click(&mut self, at: i64, page: &str, target: &str, answer_ms: Option<u64>) {
        let mut more =
            format!(r#","target_fp":"{target}","target_traits":"interactive","x":120,"y":340,"button":0,"detail":1"#);
        match answer_ms {
            Some(ms) => write!(more, r#","reaction_dom_ms":{ms}"#).expect("memory takes it"),
            None => more.push_str(r#","is_measured":true"#),
        }
        self.event(at, "click", page, &more);
    }

    fn event(&mut self, at: i64, kind: &str, page: &str, more: &str) {
        let Visitor { user, visit, .. } = self.who;
        let number = self.events.len();
        let line = format!(
            r#"{{"event_id":"v{visit}-{number}","type":"{kind}","tenant_id":"shop","anonymous_id":"d{user}","session_id":"v{visit}","tab_id":"t{visit}","page_key":"{page}","user_agent":"{AGENT}","event_time":{at}{more}}}"#
        );
        self.events.push((at, line.into_bytes()));
    }
}
