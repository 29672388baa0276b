//! Expressions: SQL text made into a typed expression over the columns of a stream, and evaluated batch by batch.
