//! Select: drops the rows that a `where` refuses and computes columns; stateless.
