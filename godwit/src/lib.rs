//! What the `godwit` binary does: reads settings, wires the parts together, runs them, and says how it ended. A
//! library only so that tests reach its decoders; nothing else is to depend on it.

mod args;
mod auth;
mod chat;
mod clock;
mod exit;
mod logs;
mod ops;
mod panics;
mod serve;
mod settings;
mod token;
mod version;

/// What must hold of whatever stands in settings, key files and command lines of `chat --json`; for tests and fuzz
/// targets.
pub mod check {
    pub use crate::auth::check_keys as keys;
    pub use crate::chat::check_line as line;
    pub use crate::settings::any_text::settings;
}

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use args::{Arguments, Command, ConfigCommand, ServeArguments, SettingsArguments};
use exit::{Exit, Failure};
use settings::{Memory, Mistake, Sources};

/// Does what the command line says, and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure);
            failure.exit.code()
        }
    }
}

/// As a log line where there is a log that takes it, so that whoever collects lines can read this one too.
fn report(failure: &Failure) {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(code = failure.exit as u8, error = %failure, "the process ends");
    } else {
        eprintln!("godwit: {failure}");
    }
}

/// To standard output; whoever closed it does not want to know.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => run_server(arguments),
        Command::Chat(arguments) => chat::run(arguments),
        Command::Token(arguments) => token::run(&arguments),
        Command::Config(ConfigCommand::Check(arguments)) => {
            let settings = settings::load(&sources(arguments)).map_err(|mistakes| mistaken(&mistakes))?;
            auth::of_issuer(&settings.auth)?;
            say("the settings are valid\n");
            Ok(())
        }
        Command::Config(ConfigCommand::Show(arguments)) => {
            let (text, mistakes) = settings::effective_toml(&sources(arguments));
            say(&text);
            if mistakes.is_empty() { Ok(()) } else { Err(mistaken(&mistakes)) }
        }
        Command::Config(ConfigCommand::Memory(arguments)) => {
            let settings = settings::load(&sources(arguments)).map_err(|mistakes| mistaken(&mistakes))?;
            say(&Memory::of(&settings).to_string());
            Ok(())
        }
        Command::Config(ConfigCommand::Default) => {
            say(&settings::default_toml());
            Ok(())
        }
    }
}

fn run_server(arguments: ServeArguments) -> Result<(), Failure> {
    let settings = settings::load(&sources(arguments.settings)).map_err(|mistakes| mistaken(&mistakes))?;
    logs::start(&settings.logs);
    panics::end_the_process();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve::run(settings, arguments.ports_file));
    // What still blocks has nothing left to lose.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

fn sources(arguments: SettingsArguments) -> Sources {
    arguments.sources(
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    )
}

fn mistaken(mistakes: &[Mistake]) -> Failure {
    let lines: Vec<String> = mistakes.iter().map(|mistake| format!("  {mistake}")).collect();
    let count = lines.len();
    let noun = if count == 1 { "mistake" } else { "mistakes" };
    Failure::new(Exit::Settings, anyhow::anyhow!("{count} {noun} in the settings\n{}", lines.join("\n")))
}
