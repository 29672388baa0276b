//! The names of sessions: made of the tenant, the key and the first row, so that every run gives the same ones.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use riverrun_behaviour::identity::{Id, identity};

use super::SessionizeSettings;

/// Stands first in what a session's id is made of.
const KIND: &str = "ses/1";

/// The columns of a batch that name sessions.
pub(super) struct Names<'b> {
    tenant: Option<&'b ArrayRef>,
    /// The other key columns, in their order.
    device: Vec<&'b ArrayRef>,
}

impl<'b> Names<'b> {
    pub(super) fn of(settings: &SessionizeSettings, batch: &'b RecordBatch) -> Names<'b> {
        let device = settings.by.iter().filter(|column| settings.tenant != Some(**column));
        Names {
            tenant: settings.tenant.map(|column| batch.column(column)),
            device: device.map(|column| batch.column(*column)).collect(),
        }
    }

    /// Returns the same for key columns alone, in their order.
    pub(super) fn of_keys(settings: &SessionizeSettings, keys: &'b [ArrayRef]) -> Names<'b> {
        let place = settings.tenant.and_then(|tenant| settings.by.iter().position(|column| *column == tenant));
        let device = keys.iter().enumerate().filter(|(at, _)| Some(*at) != place).map(|(_, column)| column);
        Names { tenant: place.map(|place| &keys[place]), device: device.collect() }
    }

    /// Returns the id of the session that `row`, whose own id is `first`, opens.
    pub(super) fn session(&self, row: usize, first: &str) -> Id {
        let tenant = self.tenant.map_or(Cow::Borrowed(""), |column| text(column, row));
        if let [device] = self.device.as_slice() {
            return identity(&[KIND, &tenant, &text(device, row), first]);
        }
        let device: Vec<Cow<'_, str>> = self.device.iter().map(|column| text(column, row)).collect();
        let mut parts: Vec<&str> = vec![KIND, &tenant];
        parts.extend(device.iter().map(|part| part.as_ref()));
        parts.push(first);
        identity(&parts)
    }
}

/// Returns a value as text; null as the empty one.
fn text(column: &ArrayRef, row: usize) -> Cow<'_, str> {
    match column.data_type() {
        _ if column.is_null(row) => Cow::Borrowed(""),
        DataType::Utf8 => Cow::Borrowed(column.as_string::<i32>().value(row)),
        _ => Cow::Owned(array_value_to_string(column, row).unwrap_or_default()),
    }
}
