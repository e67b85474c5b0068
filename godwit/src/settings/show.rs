//! Settings as people read them: the built-in ones with their documentation, and those in force with
//! where they come from. Never prints a password.

use std::fmt::Write as _;

use super::layers::{self, Mistake, Sources};
use super::table::{self, SETTINGS};
use super::value::{Kind, Parsed};

const COLUMNS: usize = 100;

/// A settings file with every setting at its built-in value, documented.
pub(crate) fn default_toml() -> String {
    let mut out =
        String::from("# Every setting of Godwit at its built-in value. Precedence: built in < this file <\n");
    out.push_str("# environment (GODWIT_SECTION__NAME) < flags.\n");
    let mut section = "";
    for setting in SETTINGS {
        heading(&mut out, &mut section, setting.key);
        comment(&mut out, setting.doc);
        comment(&mut out, setting.breaks);
        if !matches!(setting.kind, Kind::Text) {
            comment(&mut out, &format!("Valid: {}.", setting.kind.valid()));
        }
        let _ = writeln!(out, "{} = {}\n", table::name(setting.key), setting.built_in().to_toml());
    }
    out
}

/// The settings in force, each with its origin; and the mistakes, if there are any.
pub(crate) fn effective_toml(sources: &Sources) -> (String, Vec<Mistake>) {
    let (effective, _) = layers::read(sources);
    let mut out = String::new();
    let mut section = "";
    for setting in SETTINGS {
        heading(&mut out, &mut section, setting.key);
        let Some(found) = effective.get(setting.key) else { continue };
        let value = match &found.value {
            Parsed::Text(text) => Parsed::Text(masked(text)),
            other => other.clone(),
        };
        let _ = writeln!(out, "{} = {} # {}", table::name(setting.key), value.to_toml(), found.origin);
    }
    (out, super::load(sources).err().unwrap_or_default())
}

/// A URL without the password in it.
pub(crate) fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    match authority.rsplit_once('@').map(|(user, hosts)| (user.split_once(':'), hosts)) {
        Some((Some((user, _)), hosts)) => format!("{scheme}://{user}:***@{hosts}{path}"),
        _ => text.to_owned(),
    }
}

fn heading(out: &mut String, section: &mut &'static str, key: &'static str) {
    if *section != table::section(key) {
        *section = table::section(key);
        let _ = writeln!(out, "{}[{section}]", if out.is_empty() { "" } else { "\n" });
    }
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > COLUMNS {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}
