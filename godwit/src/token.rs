//! `godwit token`: tokens signed with the key of development mode, for trying things out.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use client::development::{self, Key};
use proto::{DeviceId, UserId};

use crate::exit::{Exit, Failure};

/// `godwit token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArguments {
    /// The user that the token names
    #[arg(long = "as", value_name = "USER")]
    user: UserId,
    /// The user's device that it names
    #[arg(long, default_value = "cli")]
    device: DeviceId,
    /// How long it is valid: a number with s, m, h or d
    #[arg(long, default_value = "30d", value_parser = life_s)]
    life: u64,
    /// The key to sign with [default: the one that `serve` made in the data directory]
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    key: Option<PathBuf>,
    /// The data directory of the server
    #[arg(long, value_name = "DIR", default_value = "./godwit-data")]
    data: PathBuf,
}

/// Prints a token.
pub(crate) fn run(arguments: &TokenArguments) -> Result<(), Failure> {
    let path = arguments.key.clone().unwrap_or_else(|| development::find_key(&arguments.data));
    let key = Key::read(&path)
        .context("no key to sign with; `godwit serve` makes one in its data directory in development mode")
        .map_err(|error| Failure::new(Exit::Settings, error))?;
    crate::say(&format!("{}\n", key.token(&arguments.user, &arguments.device, arguments.life)));
    Ok(())
}

fn life_s(text: &str) -> Result<u64, String> {
    let wrong = || "give a number with s, m, h or d, such as 30d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(unit_s).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::life_s;

    #[test]
    fn a_life_has_a_unit() {
        assert_eq!(life_s("30d"), Ok(2_592_000));
        assert_eq!(life_s("90s"), Ok(90));
        for wrong in ["", "d", "30", "0d", "1w", "-1d", "999999999999999999d", "3ä"] {
            assert!(life_s(wrong).is_err(), "{wrong}");
        }
    }
}
