//! Aggregates: SQL text such as `count(*) filter (where x > 1)`, and the typed, columnar accumulators behind it.
