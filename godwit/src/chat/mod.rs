//! `godwit chat`: a client for people ([`talk`]) and, with `--json`, for programs ([`json`]). Speaks to the
//! server only through the client library; never touches the server's data but for its development key.

mod command;
mod entry;
mod groups;
mod input;
mod json;
mod screen;
mod talk;

pub use json::check_line;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use client::core::Settings;
use client::development::{self, Key};
use client::store::{File, OpenError};
use client::{Client, Config, EventStream, Start, TokenSource, fixed_token};
use proto::{DeviceId, UserId};

use crate::exit::{Exit, Failure};

/// How long a token of the development key is valid; a new one is made for every link.
const TOKEN_LIFE_S: u64 = 24 * 3600;
/// How long leaving waits for the server to take what was said.
const FLUSH: Duration = Duration::from_secs(5);
/// The same after Ctrl-C.
const FLUSH_INTERRUPTED: Duration = Duration::from_millis(500);

/// `godwit chat`.
#[derive(Debug, Args)]
pub(crate) struct ChatArguments {
    /// Who you are
    #[arg(long = "as", value_name = "NAME")]
    user: Option<UserId>,
    /// Whom to talk to
    #[arg(long, value_name = "USER", conflicts_with = "group")]
    to: Option<UserId>,
    /// Or the group to talk to: its name, if you have been in it here, or its id
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Where the server is; several are tried in turn
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:7100")]
    server: Vec<String>,
    /// The server's data directory, where its development key is
    #[arg(long, value_name = "DIR", default_value = "./godwit-data")]
    data: PathBuf,
    /// The development key, if it is elsewhere
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    key: Option<PathBuf>,
    /// A token instead of a key; it says who you are
    #[arg(long, value_name = "TOKEN", env = "GODWIT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Which of your devices this is [default: cli, or what the token says]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceId>,
    /// What sort of device it is
    #[arg(long, value_name = "CLASS", default_value = "desktop")]
    class: String,
    /// What a device that was never here before begins with: the last so many entries, "best" (what your
    /// other devices have not read) or "all" [default: 20; with --json: all]
    #[arg(long, value_name = "N|best|all", value_parser = start)]
    from: Option<Start>,
    /// Where to keep what is not sent yet and how far you have read
    /// [default: chat/NAME-DEVICE in the data directory]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Speak JSON lines on stdin and stdout, as docs/CHAT.md describes
    #[arg(long)]
    json: bool,
}

/// Who this is, and how it is proven.
struct Identity {
    user: UserId,
    device: DeviceId,
    token: TokenSource,
}

/// How a conversation at the terminal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// By its user.
    Quit,
    /// By Ctrl-C.
    Interrupted,
    /// By the server, for good.
    Kicked,
}

/// Runs until its user, or the server, ends it.
pub(crate) fn run(arguments: ChatArguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(chat(arguments));
    // A thread that waits for standard input does not hold the process up.
    runtime.shutdown_background();
    match ended? {
        Ended::Quit => Ok(()),
        Ended::Interrupted => Err(Failure::new(Exit::Interrupted, anyhow!("interrupted"))),
        Ended::Kicked => Err(Failure::new(Exit::Failed, anyhow!("the server ended the session"))),
    }
}

async fn chat(arguments: ChatArguments) -> Result<Ended, Failure> {
    let identity = identity(&arguments).map_err(|error| Failure::new(Exit::Settings, error))?;
    let (user, device) = (identity.user.clone(), identity.device.clone());
    let state = arguments.state.clone().unwrap_or_else(|| state_dir(&arguments.data, &user, &device));
    let (client, events) = connect(&arguments, identity, &state)?;
    if arguments.json {
        return Ok(json::run(client, events, &user, &device).await?);
    }
    let groups = groups::Groups::open(&state);
    let target = match (&arguments.to, &arguments.group) {
        (Some(user), _) => Some(client::Target::User(user.clone())),
        (None, Some(group)) => Some(groups.find(group).map(client::Target::Group).ok_or_else(|| {
            let unknown = anyhow!("no group {group:?} is known here; give its id, or /group NEW one");
            Failure::new(Exit::Settings, unknown)
        })?),
        (None, None) => None,
    };
    let me = talk::Me { user, device, server: arguments.server.join(",") };
    Ok(talk::Talk::new(me, client, groups, target).run(events).await?)
}

fn connect(
    arguments: &ChatArguments,
    identity: Identity,
    state: &Path,
) -> Result<(Client, EventStream), Failure> {
    let Identity { user, device, token } = identity;
    let store = File::open(state, &user, &device).map_err(|error| store_failure(error, &user, &device))?;
    let mut settings = Settings::new(user, device);
    settings.device_class.clone_from(&arguments.class);
    settings.start = arguments.from.unwrap_or(if arguments.json { Start::All } else { Start::Latest(20) });
    let addresses = arguments.server.clone();
    Ok(Client::connect(Config { addresses, settings, token, store: Box::new(store) }))
}

fn store_failure(error: OpenError, user: &UserId, device: &DeviceId) -> Failure {
    match error {
        OpenError::InUse(_) => {
            let hint = format!("{user} is already here on device {device}: give another one, --device NAME");
            Failure::new(Exit::Data, anyhow!(hint))
        }
        other => Failure::new(Exit::Data, other),
    }
}

fn identity(arguments: &ChatArguments) -> anyhow::Result<Identity> {
    if let Some(token) = &arguments.token {
        let (user, device) = claims(token).context("--token is not a JWT with the claims sub and did")?;
        anyhow::ensure!(
            arguments.user.as_ref().is_none_or(|name| *name == user),
            "the token is for {user}, not for --as"
        );
        anyhow::ensure!(
            arguments.device.as_ref().is_none_or(|name| *name == device),
            "the token is for device {device}, not for --device"
        );
        return Ok(Identity { user, device, token: fixed_token(token.clone()) });
    }
    let user = arguments.user.clone().context("say who you are: --as NAME")?;
    let device = match &arguments.device {
        Some(device) => device.clone(),
        None => DeviceId::new("cli")?,
    };
    let path = arguments.key.clone().unwrap_or_else(|| development::find_key(&arguments.data));
    let key = Key::read(&path).with_context(|| {
        let dir = arguments.data.display();
        format!(
            "no key to sign in with: is `godwit serve` running in development mode with its data in {dir}?"
        )
    })?;
    let (for_user, for_device) = (user.clone(), device.clone());
    let token: TokenSource = Box::new(move || {
        let token = key.token(&for_user, &for_device, TOKEN_LIFE_S);
        Box::pin(async move { Ok(token) })
    });
    Ok(Identity { user, device, token })
}

/// What a token says of itself; the server verifies it.
fn claims(token: &str) -> anyhow::Result<(UserId, DeviceId)> {
    let part = token.split('.').nth(1).context("no claims")?;
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?;
    let claim =
        |name: &str| claims.get(name).and_then(serde_json::Value::as_str).context("a claim is missing");
    Ok((UserId::new(claim("sub")?)?, DeviceId::new(claim("did")?)?))
}

/// `chat/NAME-DEVICE`, with whatever a file name cannot have written as %XX.
fn state_dir(data: &Path, user: &UserId, device: &DeviceId) -> PathBuf {
    let plain = |text: &str| -> String {
        let mut out = String::new();
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'+' => out.push(char::from(byte)),
                other => out.push_str(&format!("%{other:02X}")),
            }
        }
        out
    };
    data.join("chat").join(format!("{}-{}", plain(user.as_str()), plain(device.as_str())))
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "best" => Ok(Start::Best),
        "all" => Ok(Start::All),
        number => number.parse().map(Start::Latest).map_err(|_| "give a number, best or all".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(user: &str, device: &str) -> (UserId, DeviceId) {
        (UserId::new(user).unwrap(), DeviceId::new(device).unwrap())
    }

    #[test]
    fn no_two_devices_share_a_directory_and_none_is_outside() {
        let dir = |user, device| {
            let (user, device) = ids(user, device);
            state_dir(Path::new("d"), &user, &device)
        };
        assert_eq!(dir("ann", "cli"), Path::new("d/chat/ann-cli"));
        assert_ne!(dir("a-b", "c"), dir("a", "b-c"));
        assert_eq!(dir("../x", "é"), Path::new("d/chat/%2E%2E%2Fx-%C3%A9"));
    }

    #[test]
    fn a_token_says_who_it_is_for() {
        let (user, device) = ids("ann", "phone");
        let token = Key::generate().token(&user, &device, 60);
        assert_eq!(claims(&token).unwrap(), (user, device));
        for wrong in ["", "a.b.c", "a.e30.c"] {
            assert!(claims(wrong).is_err(), "{wrong}");
        }
    }
}
