//! A reference model of the specification, and what it has found.

mod found;
