//! What must hold of any text in the place of settings. A violation panics. For tests, and for the fuzz targets under
//! `fuzz/`.

use super::layers::{self, VARIABLE_PREFIX};
use super::show::masked;
use super::table::SETTINGS;
use super::value::Parsed;
use super::{check, layers::Mistake};

/// A settings file with this text is settings or named mistakes, and so is a variable whose name and value stand in
/// it; and what is in force, written as a file, is in force again.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (effective, mut mistakes) = layers::read_text(text, &[]);
    let file = written(|key| effective.get(key).map(|found| found.value.clone()));
    let (again, none) = layers::read_text(&file, &[]);
    assert!(none.is_empty(), "{none:?} in {file}");
    assert!(effective.iter().all(|(key, found)| again.get(key).map(|a| &a.value) == Some(&found.value)));
    check::check(&effective, &mut mistakes);
    are_named(&mistakes);
    let (name, value) = text.split_once('\n').unwrap_or((text, ""));
    let (effective, mut mistakes) =
        layers::read_text("", &[(format!("{VARIABLE_PREFIX}{name}"), value.to_owned())]);
    check::check(&effective, &mut mistakes);
    are_named(&mistakes);
    assert!(masked(text).len() <= text.len() + 3);
}

fn are_named(mistakes: &[Mistake]) {
    let unnamed = mistakes.iter().find(|mistake| mistake.origin.is_empty() || mistake.problem.is_empty());
    assert!(unnamed.is_none(), "{unnamed:?}");
}

fn written(value: impl Fn(&str) -> Option<Parsed>) -> String {
    let line = |key| format!("{key} = {}\n", value(key).map_or_else(String::new, |value| value.to_toml()));
    SETTINGS.iter().map(|setting| line(setting.key)).collect()
}
