//! placeholder
#![allow(dead_code, reason = "grows")]
mod clock; mod dense; mod judge; mod payload; mod plan; mod violations;
fn main() {}
