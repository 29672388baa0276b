//! Reads rows as the events of a ledger.

use arrow::array::{Array, AsArray, Decimal128Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use riverrun_behaviour::attribution::order::{Base, Extras, Item, revenue};
use riverrun_behaviour::attribution::touch::DIRECT;
use riverrun_behaviour::attribution::{Booking, ClickId, Keys, Line, OrderEvent, Touch, TouchKind};
use riverrun_dataflow::operator::StepError;
use riverrun_dataflow::schema::Hidden;

use super::AttributionSettings;

/// By which columns touches and conversions of one key are matched; if none is named, all of a key match.
#[derive(Clone, Debug, Default)]
pub struct MatchColumns {
    /// The advertiser's id of the click.
    pub click_id: Option<usize>,
    /// The account.
    pub person: Option<usize>,
    /// The device.
    pub device: Option<usize>,
}

/// What the columns of conversions say.
#[derive(Clone, Debug, Default)]
pub struct ConversionColumns {
    /// The order; without it, the row's id.
    pub order_id: Option<usize>,
    /// What it is worth.
    pub value: Option<usize>,
    /// The currency.
    pub currency: Option<usize>,
    /// Its lines.
    pub lines: Option<LineColumns>,
    /// What it is matched by.
    pub matches: MatchColumns,
}

/// What a list of structs says of the lines of an order.
#[derive(Clone, Debug)]
pub struct LineColumns {
    /// The list.
    pub list: usize,
    /// The field with the product.
    pub product: String,
    /// The field with the price of one.
    pub price: String,
    /// The field with how many; without it, one.
    pub quantity: Option<String>,
    /// The field with what is taken off the line.
    pub discount: Option<String>,
}

/// What the columns of touches say.
#[derive(Clone, Debug, Default)]
pub struct TouchColumns {
    /// `click`, `landing` or `view`; without it, clicks.
    pub kind: Option<usize>,
    /// Whether a view was seen; without it, all were.
    pub viewable: Option<usize>,
    /// The channel; null is direct.
    pub channel: Option<usize>,
    /// The campaign.
    pub campaign: Option<usize>,
    /// The creative.
    pub creative: Option<usize>,
    /// The product.
    pub product: Option<usize>,
    /// Where it was shown.
    pub placement: Option<usize>,
    /// What it is matched by.
    pub matches: MatchColumns,
}

/// What the columns of corrections say.
#[derive(Clone, Debug)]
pub struct CorrectionColumns {
    /// The order.
    pub order_id: usize,
    /// `refund`, `cancel` or `update`.
    pub kind: usize,
    /// What is given back, or the new total.
    pub amount: Option<usize>,
    /// The currency; without it, the order's.
    pub currency: Option<usize>,
}

/// A row as an event.
pub(super) enum Event {
    Touch(Box<Touch>),
    Order(Box<OrderEvent>),
}

impl Event {
    /// Returns its place in the total order of its key.
    pub fn order(&self) -> (i64, u8, &str) {
        match self {
            Event::Touch(touch) => touch.order(),
            Event::Order(order) => order.order(),
        }
    }
}

/// Why a row is bad.
pub(super) struct Refusal {
    pub code: &'static str,
    pub reason: String,
}

fn refusal<T>(code: &'static str, reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, reason: reason.into() })
}

/// Returns each row of a batch of an input as an event; none for a touch whose key has a null, as `has_null` says of a row.
pub(super) fn events(
    settings: &AttributionSettings,
    input: usize,
    batch: &RecordBatch,
    has_null: impl Fn(usize) -> bool,
) -> Result<Vec<Result<Option<Event>, Refusal>>, StepError> {
    let rows = 0..batch.num_rows();
    let common = Common::of(batch)?;
    match (input, &settings.correction) {
        (0, _) => {
            let conversions = Conversions::of(&settings.conversion, batch)?;
            Ok(rows.map(|row| conversions.event(&common, row, has_null(row)).map(Some)).collect())
        }
        (1, _) => {
            let touches = Touches::of(&settings.touch, batch)?;
            let event = |row| if has_null(row) { Ok(None) } else { touches.event(&common, row).map(Some) };
            Ok(rows.map(event).collect())
        }
        (_, Some(columns)) => {
            let corrections = Corrections::of(columns, batch)?;
            Ok(rows.map(|row| corrections.event(&common, row).map(Some)).collect())
        }
        (_, None) => Err(StepError::Internal("an attribution without corrections was given some".into())),
    }
}

/// A column of text; one of numbers is read as text.
struct Texts(Option<StringArray>);

impl Texts {
    fn of(batch: &RecordBatch, column: Option<usize>) -> Result<Texts, StepError> {
        let Some(column) = column else { return Ok(Texts(None)) };
        Texts::from(batch.column(column).as_ref())
    }

    fn from(column: &dyn Array) -> Result<Texts, StepError> {
        let texts = match column.data_type() {
            DataType::Utf8 => column.as_string::<i32>().clone(),
            _ => cast(column, &DataType::Utf8)?.as_string::<i32>().clone(),
        };
        Ok(Texts(Some(texts)))
    }

    fn at(&self, row: usize) -> Option<&str> {
        self.0.as_ref().filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row))
    }

    fn owned(&self, row: usize) -> Option<String> {
        self.at(row).map(str::to_owned)
    }
}

/// A column of money in minor units.
enum Money {
    None,
    Whole(Int64Array),
    Decimal(Decimal128Array),
}

impl Money {
    fn of(batch: &RecordBatch, column: Option<usize>) -> Result<Money, StepError> {
        column.map_or(Ok(Money::None), |column| Money::from(batch.column(column).as_ref()))
    }

    fn from(column: &dyn Array) -> Result<Money, StepError> {
        match column.data_type() {
            DataType::Int64 => Ok(Money::Whole(column.as_primitive::<Int64Type>().clone())),
            DataType::Decimal128(..) => Ok(Money::Decimal(column.as_primitive::<Decimal128Type>().clone())),
            other => Err(StepError::Internal(format!("money of type {other}"))),
        }
    }

    fn at(&self, row: usize) -> Result<Option<i64>, Refusal> {
        let fits = |amount: i128| {
            i64::try_from(amount).or_else(|_| refusal("malformed", "its amount is too large to be divided exactly"))
        };
        match self {
            Money::Whole(amounts) if amounts.is_valid(row) => Ok(Some(amounts.value(row))),
            Money::Decimal(amounts) if amounts.is_valid(row) => fits(amounts.value(row)).map(Some),
            _ => Ok(None),
        }
    }
}

/// What all inputs have: event time and id.
struct Common {
    times: Int64Array,
    ids: StringArray,
}

impl Common {
    fn of(batch: &RecordBatch) -> Result<Common, StepError> {
        let column = |hidden: Hidden| {
            let column = batch.column_by_name(hidden.name());
            column.ok_or_else(|| StepError::Internal("an attribution needs event times and ids".into()))
        };
        Ok(Common {
            times: column(Hidden::Time)?.as_primitive::<Int64Type>().clone(),
            ids: column(Hidden::Id)?.as_string::<i32>().clone(),
        })
    }

    fn time(&self, row: usize) -> i64 {
        self.times.value(row).div_euclid(1000)
    }

    fn id(&self, row: usize) -> Result<String, Refusal> {
        match self.ids.is_valid(row) {
            true => Ok(self.ids.value(row).to_owned()),
            false => refusal("missing", "it has no id"),
        }
    }
}

struct Matches {
    click_id: Texts,
    person: Texts,
    device: Texts,
    /// Nothing is named: all of a key are one.
    is_whole_key: bool,
}

impl Matches {
    fn of(columns: &MatchColumns, batch: &RecordBatch) -> Result<Matches, StepError> {
        let MatchColumns { click_id, person, device } = *columns;
        Ok(Matches {
            click_id: Texts::of(batch, click_id)?,
            person: Texts::of(batch, person)?,
            device: Texts::of(batch, device)?,
            is_whole_key: click_id.is_none() && person.is_none() && device.is_none(),
        })
    }

    fn keys(&self, row: usize) -> Keys {
        if self.is_whole_key {
            return Keys { user: Some(String::new()), ..Keys::default() };
        }
        let click_id = self.click_id.owned(row).map(|value| ClickId { kind: String::new(), value });
        Keys { click_id, user: self.person.owned(row), anonymous: self.device.owned(row) }
    }
}

struct Conversions {
    order_id: Option<Texts>,
    value: Option<Money>,
    currency: Texts,
    lines: Option<Lines>,
    matches: Matches,
}

impl Conversions {
    fn of(columns: &ConversionColumns, batch: &RecordBatch) -> Result<Conversions, StepError> {
        Ok(Conversions {
            order_id: columns.order_id.map(|column| Texts::of(batch, Some(column))).transpose()?,
            value: columns.value.map(|column| Money::of(batch, Some(column))).transpose()?,
            currency: Texts::of(batch, columns.currency)?,
            lines: columns.lines.as_ref().map(|lines| Lines::of(lines, batch)).transpose()?,
            matches: Matches::of(&columns.matches, batch)?,
        })
    }

    /// Returns a conversion as an event; one whose key has a null matches nothing.
    fn event(&self, common: &Common, row: usize, has_null: bool) -> Result<Event, Refusal> {
        let id = common.id(row)?;
        let order_id = match &self.order_id {
            Some(texts) => texts.owned(row).unwrap_or_default(),
            None => id.clone(),
        };
        let (told, lines) = self.lines.as_ref().map_or(Ok((0, Vec::new())), |lines| lines.at(row))?;
        let total_minor = match &self.value {
            None => told,
            Some(value) => match value.at(row)? {
                Some(value) => value,
                None => return refusal("missing", "it has no value"),
            },
        };
        let keys = if has_null { Keys::default() } else { self.matches.keys(row) };
        let booking = Booking::Completed { total_minor, lines, keys };
        let currency = self.currency.owned(row).unwrap_or_default();
        Ok(Event::Order(Box::new(OrderEvent { time: common.time(row), id, order_id, currency, booking })))
    }
}

/// The lines of orders, as lists of structs.
struct Lines {
    ends: Vec<i32>,
    valid: Vec<bool>,
    product: Texts,
    price: Money,
    quantity: Option<Int64Array>,
    discount: Money,
}

impl Lines {
    fn of(columns: &LineColumns, batch: &RecordBatch) -> Result<Lines, StepError> {
        let list = batch.column(columns.list).as_list::<i32>();
        let items: &StructArray = list.values().as_struct();
        let field = |name: &String| {
            items.column_by_name(name).ok_or_else(|| StepError::Internal(format!("lines have no field `{name}`")))
        };
        Ok(Lines {
            ends: list.value_offsets().to_vec(),
            valid: (0..list.len()).map(|row| list.is_valid(row)).collect(),
            product: Texts::from(field(&columns.product)?.as_ref())?,
            price: Money::from(field(&columns.price)?.as_ref())?,
            quantity: match &columns.quantity {
                Some(name) => Some(field(name)?.as_primitive::<Int64Type>().clone()),
                None => None,
            },
            discount: match &columns.discount {
                Some(name) => Money::from(field(name)?.as_ref())?,
                None => Money::None,
            },
        })
    }

    /// Returns what all lines of an order add up to, and the lines.
    fn at(&self, row: usize) -> Result<(i64, Vec<Line>), Refusal> {
        if !self.valid[row] {
            return Ok((0, Vec::new()));
        }
        let range = self.ends[row] as usize..self.ends[row + 1] as usize;
        let mut items = Vec::with_capacity(range.len());
        for at in range.clone() {
            let Some(price_minor) = self.price.at(at)? else {
                return refusal("missing", "one of its lines has no price");
            };
            let quantity = self.quantity.as_ref().filter(|all| all.is_valid(at)).map_or(1, |all| all.value(at));
            items.push(Item { price_minor, quantity, discount_minor: self.discount.at(at)?.unwrap_or(0) });
        }
        let (total, amounts) = revenue(&items, Extras::default(), Base::default());
        let lines = range.zip(amounts).map(|(at, amount_minor)| Line { product: self.product.owned(at), amount_minor });
        Ok((total, lines.collect()))
    }
}

struct Touches {
    kind: Texts,
    viewable: Option<arrow::array::BooleanArray>,
    channel: Texts,
    /// Campaign, creative, product, placement.
    says: [Texts; 4],
    matches: Matches,
}

impl Touches {
    fn of(columns: &TouchColumns, batch: &RecordBatch) -> Result<Touches, StepError> {
        let text = |column| Texts::of(batch, column);
        Ok(Touches {
            kind: text(columns.kind)?,
            viewable: columns.viewable.map(|column| batch.column(column).as_boolean().clone()),
            channel: text(columns.channel)?,
            says: [text(columns.campaign)?, text(columns.creative)?, text(columns.product)?, text(columns.placement)?],
            matches: Matches::of(&columns.matches, batch)?,
        })
    }

    fn event(&self, common: &Common, row: usize) -> Result<Event, Refusal> {
        let viewable = || self.viewable.as_ref().is_none_or(|seen| seen.is_valid(row) && seen.value(row));
        let kind = match self.kind.at(row) {
            None | Some("click") => TouchKind::Click,
            Some("landing") => TouchKind::Landing,
            Some("view") => TouchKind::View { is_viewable: viewable() },
            Some(other) => {
                return refusal("malformed", format!("its kind is {other:?}, which is none of click, landing, view"));
            }
        };
        let [campaign, creative, product, placement] = self.says.each_ref().map(|says| says.owned(row));
        Ok(Event::Touch(Box::new(Touch {
            time: common.time(row),
            id: common.id(row)?,
            kind,
            keys: self.matches.keys(row),
            channel: self.channel.at(row).unwrap_or(DIRECT).to_owned(),
            campaign,
            creative,
            product,
            placement,
        })))
    }
}

struct Corrections {
    order_id: Texts,
    kind: Texts,
    amount: Money,
    currency: Texts,
}

impl Corrections {
    fn of(columns: &CorrectionColumns, batch: &RecordBatch) -> Result<Corrections, StepError> {
        Ok(Corrections {
            order_id: Texts::of(batch, Some(columns.order_id))?,
            kind: Texts::of(batch, Some(columns.kind))?,
            amount: Money::of(batch, columns.amount)?,
            currency: Texts::of(batch, columns.currency)?,
        })
    }

    fn event(&self, common: &Common, row: usize) -> Result<Event, Refusal> {
        let amount = || match self.amount.at(row)? {
            Some(amount) => Ok(amount),
            None => refusal("missing", "it has no amount"),
        };
        let booking = match self.kind.at(row) {
            Some("refund" | "order_refunded") => Booking::Refunded { amount_minor: amount()? },
            Some("update" | "order_updated") => Booking::Updated { total_minor: amount()? },
            Some("cancel" | "order_cancelled") => Booking::Cancelled,
            None => return refusal("missing", "it does not say what kind of correction it is"),
            Some(other) => {
                return refusal("malformed", format!("its kind is {other:?}, which is none of refund, cancel, update"));
            }
        };
        Ok(Event::Order(Box::new(OrderEvent {
            time: common.time(row),
            id: common.id(row)?,
            order_id: self.order_id.owned(row).unwrap_or_default(),
            currency: self.currency.owned(row).unwrap_or_default(),
            booking,
        })))
    }
}
