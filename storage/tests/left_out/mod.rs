//! Tests that cannot run here: they say so, and fail in CI.

#![allow(dead_code, reason = "not every test needs both")]

/// Whether a test of `what` can run; where it cannot, because `why`, that is said. Never false in CI.
pub(crate) fn can(what: &str, holds: bool, why: &str) -> bool {
    assert!(holds || std::env::var("CI").is_err(), "{what} cannot run, because {why}");
    if !holds {
        println!("left out: {what}, because {why}");
    }
    holds
}

/// The value of a variable that `cargo xtask test` sets, which a test of `what` needs.
pub(crate) fn given(what: &str, variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    can(what, value.is_some(), &format!("{variable} is not set"));
    value
}
