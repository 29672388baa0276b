//! Touches: what may be credited with an order, and which orders it may be credited with.

use serde::{Deserialize, Serialize};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// The channel of a touch that nobody sent.
pub const DIRECT: &str = "direct";

/// The id that an advertiser gave a click.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClickId {
    /// Whose id it is.
    pub kind: String,
    /// The id.
    pub value: String,
}

/// What a touch and an order have in common if they belong together. An address or a browser's name is never one of these,
/// nor is a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Keys {
    /// The click's id at the advertiser.
    pub click_id: Option<ClickId>,
    /// The account.
    pub user: Option<String>,
    /// The device.
    pub anonymous: Option<String>,
}

impl Keys {
    /// Returns one name for who it is: the account, else the device, else the click; they are told apart.
    pub(super) fn name(&self) -> String {
        match (&self.user, &self.anonymous, &self.click_id) {
            (Some(user), ..) => format!("u:{user}"),
            (None, Some(anonymous), _) => format!("a:{anonymous}"),
            (None, None, Some(ClickId { kind, value })) => format!("c:{kind}:{value}"),
            (None, None, None) => String::new(),
        }
    }
}

/// How surely a touch belongs to an order; the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// The same click id.
    ClickId,
    /// The same person.
    Person,
    /// The same device.
    Device,
}

/// Returns how surely two belong together, if they do; the persons are those of the accounts or, where none is named, of the
/// devices' signings-in.
pub fn tier(touch: &Keys, touch_person: Option<&str>, order: &Keys, order_person: Option<&str>) -> Option<Tier> {
    fn same<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
        one.is_some() && one == other
    }
    if same(touch.click_id.as_ref(), order.click_id.as_ref()) {
        Some(Tier::ClickId)
    } else if same(touch_person, order_person) {
        Some(Tier::Person)
    } else if same(touch.anonymous.as_deref(), order.anonymous.as_deref()) {
        Some(Tier::Device)
    } else {
        None
    }
}

/// What kind of touch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TouchKind {
    /// A page view that an advertisement led to: it has a campaign or a click id.
    Landing,
    /// A promotion or product that was shown.
    View {
        /// Whether at least half of it was visible for a second. Another view never counts.
        is_viewable: bool,
    },
    /// A click on a promotion or a product.
    Click,
}

impl TouchKind {
    /// Returns the rank of the event's type among events of one millisecond.
    pub fn rank(self) -> u8 {
        match self {
            TouchKind::Landing => 1,
            TouchKind::View { .. } => 2,
            TouchKind::Click => 3,
        }
    }

    /// Says whether it is only a view.
    pub fn is_view(self) -> bool {
        matches!(self, TouchKind::View { .. })
    }
}

/// Something that may have led to an order. Those of bots and of the shop's own people are not to be pushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// Event time, milliseconds.
    pub time: i64,
    /// Id of the event: the touch's own.
    pub id: String,
    /// What kind it is.
    pub kind: TouchKind,
    /// What it is matched by.
    pub keys: Keys,
    /// The channel, [`DIRECT`] if nobody sent the visitor.
    pub channel: String,
    /// The campaign.
    pub campaign: Option<String>,
    /// The creative.
    pub creative: Option<String>,
    /// The product.
    pub product: Option<String>,
    /// The place where it was shown.
    pub placement: Option<String>,
}

impl Touch {
    /// Returns its place in the total order.
    pub fn order(&self) -> (i64, u8, &str) {
        (self.time, self.kind.rank(), &self.id)
    }

    /// Says whether `self` repeats `before`, an earlier touch: a click of the same person (account or device) on the same
    /// campaign, creative, product and placement, at most `within_ms` after it.
    pub fn repeats(&self, before: &Touch, within_ms: i64) -> bool {
        let same = |one: &Option<String>, other: &Option<String>| one.is_some() && one == other;
        let is_by_the_same =
            same(&self.keys.user, &before.keys.user) || same(&self.keys.anonymous, &before.keys.anonymous);
        self.kind == TouchKind::Click
            && before.kind == TouchKind::Click
            && self.time.saturating_sub(before.time) <= within_ms
            && is_by_the_same
            && (&self.campaign, &self.creative, &self.product, &self.placement)
                == (&before.campaign, &before.creative, &before.product, &before.placement)
    }
}

/// How long before an order a touch may be, in milliseconds; both ends count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Clicks and landings.
    pub click_ms: i64,
    /// Views; none means that views are never credited.
    pub view_ms: Option<i64>,
    /// After which age a touch counts half; none means a quarter of the window.
    pub half_life_ms: Option<i64>,
}

impl Default for Windows {
    /// Half an hour for clicks, no views.
    fn default() -> Self {
        Self { click_ms: 30 * MINUTE_MS, view_ms: None, half_life_ms: None }
    }
}

impl Windows {
    /// Seven days for clicks, one for views.
    pub fn meta() -> Self {
        Self { click_ms: 7 * DAY_MS, view_ms: Some(DAY_MS), half_life_ms: Some(7 * DAY_MS) }
    }

    /// Thirty days for clicks, one for views. Views that the visitor engaged with are not told apart.
    pub fn google_ads() -> Self {
        Self { click_ms: 30 * DAY_MS, view_ms: Some(DAY_MS), half_life_ms: Some(7 * DAY_MS) }
    }

    /// Ninety days for clicks, no views.
    pub fn ga4() -> Self {
        Self { click_ms: 90 * DAY_MS, view_ms: None, half_life_ms: Some(7 * DAY_MS) }
    }

    /// Thirty days for clicks, no views.
    pub fn snowplow() -> Self {
        Self { click_ms: 30 * DAY_MS, view_ms: None, half_life_ms: Some(7 * DAY_MS) }
    }

    /// Returns the window of a kind of touch, none if it is never credited.
    pub fn of(&self, kind: TouchKind) -> Option<i64> {
        match kind {
            TouchKind::Landing | TouchKind::Click => Some(self.click_ms),
            TouchKind::View { is_viewable: true } => self.view_ms,
            TouchKind::View { is_viewable: false } => None,
        }
    }

    /// Returns the longest window.
    pub fn longest_ms(&self) -> i64 {
        self.view_ms.unwrap_or(0).max(self.click_ms)
    }

    /// Returns the half-life of a path of clicks, or of one of views.
    pub fn half_life_ms(&self, is_view: bool) -> i64 {
        let window = if is_view { self.view_ms.unwrap_or(self.click_ms) } else { self.click_ms };
        self.half_life_ms.unwrap_or(window / 4).max(1)
    }

    /// Says whether a touch of this kind and time is in the window of an order.
    pub fn hold(&self, kind: TouchKind, touch_time: i64, order_time: i64) -> bool {
        touch_time <= order_time && self.of(kind).is_some_and(|window| order_time.saturating_sub(touch_time) <= window)
    }
}
