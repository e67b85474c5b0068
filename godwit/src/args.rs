//! The command line. Turns flags into settings sources; decides nothing.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::chat::ChatArguments;
use crate::settings::Sources;
use crate::token::TokenArguments;
use crate::{exit, version};

/// Instant messaging for apps: a message, once acknowledged, always arrives.
#[derive(Debug, Parser)]
#[command(name = "godwit", version = version::SHORT, long_version = version::LONG, after_help = exit::HELP)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server: all roles in one process, or some of them
    #[command(after_help = exit::HELP)]
    Serve(ServeArguments),
    /// Talk to somebody: in the terminal, or with --json as a program
    Chat(ChatArguments),
    /// Print a token of development mode
    Token(TokenArguments),
    /// Check or show settings
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Report every mistake; exit 0 without one, 2 otherwise
    Check(SettingsArguments),
    /// Print the settings in force, each with where it comes from
    Show(SettingsArguments),
    /// Print the bytes of memory that the process may take at the most, by part
    Memory(SettingsArguments),
    /// Print a settings file with everything in it, documented
    Default,
}

/// `godwit serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    pub(crate) settings: SettingsArguments,
    /// Write the addresses that are listened on, as JSON, once ready
    #[arg(long, value_name = "FILE")]
    pub(crate) ports_file: Option<PathBuf>,
}

/// Flags that set settings. Each has a file key and an environment variable too.
#[derive(Debug, Default, Args)]
pub(crate) struct SettingsArguments {
    /// The settings file [default: ./godwit.toml, if there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// node.roles: conn,logic,api or some of them
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
    /// node.name: this process among its peers
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// node.data: the data directory
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// storage.log: embedded, embedded:DIR or kafka://HOST:PORT[,…][/PREFIX]
    #[arg(long, value_name = "URL")]
    log: Option<String>,
    /// storage.store: embedded, embedded:DIR or scylla://HOST:PORT[,…]/KEYSPACE
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// conn.listen: where devices connect
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// ops.listen: /readyz, /metrics and the like
    #[arg(long, value_name = "ADDRESS")]
    ops_listen: Option<String>,
    /// node.listen: push streams between processes
    #[arg(long, value_name = "ADDRESS")]
    node_listen: Option<String>,
    /// api.listen: queries between processes
    #[arg(long, value_name = "ADDRESS")]
    api_listen: Option<String>,
    /// Any setting, as often as needed
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

impl SettingsArguments {
    /// The sources that these arguments and the environment make.
    pub(crate) fn sources(self, environment: impl Iterator<Item = (String, String)>) -> Sources {
        let named = [
            ("--roles", "node.roles", self.roles),
            ("--name", "node.name", self.name),
            ("--data", "node.data", self.data),
            ("--log", "storage.log", self.log),
            ("--store", "storage.store", self.store),
            ("--listen", "conn.listen", self.listen),
            ("--ops-listen", "ops.listen", self.ops_listen),
            ("--node-listen", "node.listen", self.node_listen),
            ("--api-listen", "api.listen", self.api_listen),
        ];
        let named =
            named.into_iter().filter_map(|(flag, key, value)| Some((flag.into(), key.into(), value?)));
        let set = self.set.into_iter().map(|(key, value)| (format!("--set {key}"), key, value));
        Sources { file: self.config, variables: environment.collect(), flags: named.chain(set).collect() }
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("give KEY=VALUE, such as node.name=a")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_flag_sets_a_setting() {
        let flags = [
            "--roles=conn,logic,api",
            "--name=n",
            "--data=d",
            "--log=embedded",
            "--store=embedded",
            "--listen=127.0.0.1:1",
            "--ops-listen=127.0.0.1:2",
            "--node-listen=127.0.0.1:3",
            "--api-listen=127.0.0.1:4",
            "--set=conn.linger_ms=5",
        ];
        let arguments = ["godwit", "config", "check"].into_iter().chain(flags);
        let Command::Config(ConfigCommand::Check(settings)) = Arguments::parse_from(arguments).command else {
            panic!("another command");
        };
        let sources = settings.sources(std::iter::empty());
        assert_eq!(sources.flags.len(), flags.len());
        crate::settings::load(&sources).unwrap();
    }
}
