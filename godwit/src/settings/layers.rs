//! Where settings come from, and what stood there: built in < file < environment < flags. Finds every
//! mistake that can be found in one value alone; what values mean together is `check`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::table::{self, Setting};
use super::value::Parsed;

/// What is read when no file is named.
pub(crate) const FILE_DEFAULT: &str = "godwit.toml";
/// What a setting's environment variable begins with.
pub(crate) const VARIABLE_PREFIX: &str = "GODWIT_";
/// The origin of what nobody set.
pub(crate) const BUILT_IN: &str = "built in";

/// What the outside world says, before anything is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// A settings file that must be there; otherwise [`FILE_DEFAULT`] if it is.
    pub(crate) file: Option<PathBuf>,
    /// Names and values of environment variables.
    pub(crate) variables: Vec<(String, String)>,
    /// (the flag as it was written, the key, the value).
    pub(crate) flags: Vec<(String, String, String)>,
}

/// Something that has to be put right before Godwit starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Where it stands: a file and key, a variable, a flag.
    pub(crate) origin: String,
    /// What is wrong, and what is valid.
    pub(crate) problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.problem)
    }
}

/// A value in force and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effective {
    /// The value.
    pub(crate) value: Parsed,
    /// "built in", the file's name, the variable or the flag.
    pub(crate) origin: String,
}

impl Effective {
    /// The origin as a mistake names it: a file holds many keys, a variable or flag only one.
    pub(crate) fn place(&self, key: &str) -> String {
        let file = !self.origin.starts_with("--") && !self.origin.starts_with(VARIABLE_PREFIX);
        if file { format!("{}:{key}", self.origin) } else { self.origin.clone() }
    }
}

/// Reads all sources. Every setting is in the answer, also where its value was a mistake (then as the
/// source below says).
pub(crate) fn read(sources: &Sources) -> (BTreeMap<&'static str, Effective>, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    let file = file(sources.file.as_deref(), &mut mistakes);
    let variables = variables(&sources.variables, &mut mistakes);
    let layers = file.into_iter().chain(variables).chain(flags(&sources.flags, &mut mistakes));
    (merged(layers), mistakes)
}

/// What a settings file with this text and these variables say; reads nothing from outside.
pub(crate) fn read_text(
    text: &str,
    given: &[(String, String)],
) -> (BTreeMap<&'static str, Effective>, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    let file = read_toml(FILE_DEFAULT, text, &mut mistakes);
    let variables = variables(given, &mut mistakes);
    (merged(file.into_iter().chain(variables)), mistakes)
}

fn merged(layers: impl Iterator<Item = Layer>) -> BTreeMap<&'static str, Effective> {
    let figment = layers.fold(Figment::new().merge(built_in()), |figment, layer| figment.merge(layer));
    table::SETTINGS.iter().map(|setting| (setting.key, effective(&figment, setting))).collect()
}

fn effective(figment: &Figment, setting: &Setting) -> Effective {
    let value = figment.find_value(setting.key).expect("every setting has a built-in value");
    let origin = figment.get_metadata(value.tag()).map_or(BUILT_IN.into(), |m| m.name.to_string());
    let value = setting.kind.read_toml(&value).expect("layers hold only values that were checked");
    Effective { value, origin }
}

/// The values of one source, all known and of the right kind.
struct Layer {
    origin: String,
    values: Vec<(&'static str, Parsed)>,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let mut root = Dict::new();
        for (key, parsed) in &self.values {
            let (section, name) = key.split_once('.').expect("keys have a section");
            let section = root.entry(section.into()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, names) = section {
                names.insert(name.into(), parsed.to_value());
            }
        }
        Ok(Profile::Default.collect(root))
    }
}

fn built_in() -> Layer {
    let values = table::SETTINGS.iter().map(|setting| (setting.key, setting.built_in())).collect();
    Layer { origin: BUILT_IN.into(), values }
}

fn file(named: Option<&Path>, mistakes: &mut Vec<Mistake>) -> Option<Layer> {
    let path = named.unwrap_or(Path::new(FILE_DEFAULT));
    let origin = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            mistakes.push(Mistake { origin, problem: format!("cannot be read: {error}") });
            return None;
        }
    };
    read_toml(&origin, &text, mistakes)
}

/// The values of a settings file; none where it is no TOML.
fn read_toml(origin: &str, text: &str, mistakes: &mut Vec<Mistake>) -> Option<Layer> {
    let origin = origin.to_owned();
    let table: toml::Table = match toml::from_str(text) {
        Ok(table) => table,
        Err(error) => {
            let problem = format!("is not TOML: {}", error.to_string().trim_end());
            mistakes.push(Mistake { origin, problem });
            return None;
        }
    };
    let mut values = Vec::new();
    match Value::serialize(table) {
        Ok(Value::Dict(_, root)) => {
            for (section, inner) in root {
                file_section(&origin, &section, &inner, &mut values, mistakes);
            }
        }
        _ => mistakes.push(Mistake { origin: origin.clone(), problem: "is not a table of settings".into() }),
    }
    Some(Layer { origin, values })
}

fn file_section(
    origin: &str,
    section: &str,
    inner: &Value,
    values: &mut Vec<(&'static str, Parsed)>,
    mistakes: &mut Vec<Mistake>,
) {
    let Value::Dict(_, names) = inner else {
        mistakes.push(unknown(format!("{origin}:{section}"), section));
        return;
    };
    if !table::is_section(section) && names.is_empty() {
        mistakes.push(unknown(format!("{origin}:{section}"), section));
    }
    for (name, value) in names {
        let key = format!("{section}.{name}");
        let place = format!("{origin}:{key}");
        match table::find(&key) {
            None => mistakes.push(unknown(place, &key)),
            Some(setting) => match setting.kind.read_toml(value) {
                Ok(parsed) => values.push((setting.key, parsed)),
                Err(valid) => mistakes.push(wrong(place, &shown(value), &valid)),
            },
        }
    }
}

/// A variable without a double underscore may be another's (a container platform's, say), unless it is a
/// setting's name with the wrong underscores.
fn variables<'a>(
    given: &'a [(String, String)],
    mistakes: &mut Vec<Mistake>,
) -> impl Iterator<Item = Layer> + use<'a> {
    let mut layers = Vec::new();
    for (name, text) in given {
        let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
        let key = rest.to_ascii_lowercase().replacen("__", ".", 1);
        let misspelt = || table::SETTINGS.iter().any(|s| s.key.replace('.', "_") == key.replace("__", "_"));
        if key.contains('.') || misspelt() {
            layers.extend(text_layer(name.clone(), &key, text, mistakes));
        }
    }
    layers.into_iter()
}

fn flags<'a>(
    given: &'a [(String, String, String)],
    mistakes: &mut Vec<Mistake>,
) -> impl Iterator<Item = Layer> + use<'a> {
    let layers: Vec<Layer> =
        given.iter().filter_map(|(flag, key, text)| text_layer(flag.clone(), key, text, mistakes)).collect();
    layers.into_iter()
}

fn text_layer(origin: String, key: &str, text: &str, mistakes: &mut Vec<Mistake>) -> Option<Layer> {
    let Some(setting) = table::find(key) else {
        mistakes.push(unknown(origin, key));
        return None;
    };
    match setting.kind.read_text(text) {
        Ok(parsed) => Some(Layer { origin, values: vec![(setting.key, parsed)] }),
        Err(valid) => {
            mistakes.push(wrong(origin, &format!("{text:?}"), &valid));
            None
        }
    }
}

fn unknown(origin: String, key: &str) -> Mistake {
    let nearest = table::nearest(key);
    let as_variable = origin.starts_with(VARIABLE_PREFIX);
    let name = |key: &str| if as_variable { table::variable(key) } else { key.to_owned() };
    let problem = match nearest {
        Some(near) => format!("there is no such setting; did you mean {}?", name(near)),
        None => "there is no such setting; `godwit config default` lists them all".into(),
    };
    Mistake { origin, problem }
}

fn wrong(origin: String, given: &str, valid: &str) -> Mistake {
    Mistake { origin, problem: format!("{given} is not valid; valid is {valid}") }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Bool(_, given) => given.to_string(),
        Value::Num(_, number) => number.to_i128().map_or_else(|| "this number".into(), |n| n.to_string()),
        Value::Array(..) => "this list".into(),
        _ => "this".into(),
    }
}
