//! Window: aggregates rows per key in spans of event time, back to back (tumble) or overlapping (hop).
