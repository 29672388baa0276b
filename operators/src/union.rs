//! Union: several inputs of one schema become one stream; stateless.
