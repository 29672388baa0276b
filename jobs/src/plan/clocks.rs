//! `clocks` of a source: how event time is found where a record has none.

use arrow::datatypes::DataType;
use riverrun_connectors::format::clocks::Clocks;

use super::forward::Forward;
use super::stream::Stream;
use crate::fault::{Fault, codes};
use crate::spec::{ClocksSpec, SourceSpec};
use crate::yaml::Spanned;

impl Forward<'_> {
    /// Checks the columns that `clocks` names.
    pub(super) fn clocks(&mut self, who: &str, source: &SourceSpec, clocks: &Spanned<ClocksSpec>, stream: &Stream) {
        let ClocksSpec { client, sent, received, flag, .. } = &clocks.value;
        let is =
            |name: &str, fits: fn(&DataType) -> bool| stream.column(name).is_some_and(|field| fits(field.data_type()));
        for (key, name) in [("client", Some(client)), ("sent", sent.as_ref()), ("received", Some(received))] {
            let Some(name) = name else { continue };
            let attempt = format!("`clocks` of {who} has as `{key}`");
            let fits = |column: &str| is(column, |of| matches!(of, DataType::Timestamp(..)));
            self.named_column(stream, name, &attempt, fits, "a clock gives timestamps");
            if source.event_time.as_ref().is_some_and(|time| time.value == name.value) {
                let message = format!("{attempt} `{}`, which is the event time itself", name.value);
                let hint = "name another column of the schema as `event_time`; records need not have it";
                self.faults.push(Fault::error(codes::BAD_EVENT_TIME, name.span, message).hint(hint));
            }
        }
        if let Some(flag) = flag {
            let fits = |column: &str| is(column, |of| *of == DataType::Boolean);
            self.named_column(stream, flag, &format!("`clocks` of {who} has as `flag`"), fits, "a flag is a bool");
        }
        if source.event_time.is_none() {
            let message = format!("{who} has `clocks`, but no `event_time` for them to tell");
            let hint = "name a timestamp column of the schema as `event_time`; records need not have it";
            self.faults.push(Fault::error(codes::BAD_EVENT_TIME, clocks.span, message).hint(hint));
        }
    }
}

/// Returns the clocks as a decoder takes them.
pub(super) fn of(spec: &ClocksSpec) -> Clocks {
    let name = |name: &Spanned<String>| name.value.clone();
    Clocks {
        client: name(&spec.client),
        sent: spec.sent.as_ref().map(name),
        received: name(&spec.received),
        flag: spec.flag.as_ref().map(name),
        max_ahead: spec.max_ahead,
        max_past: spec.max_past,
    }
}
