//! Reads effective values by key and type, and says where each stands. Every key asked for here is in the
//! table, which the test of the built-in settings proves by reading them all.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::layers::{BUILT_IN, Effective, Mistake};
use super::table::{self, SETTINGS};
use super::value::Parsed;

/// Effective values, and the mistakes found in them so far.
pub(crate) struct Reader<'a> {
    pub(crate) values: &'a BTreeMap<&'static str, Effective>,
    pub(crate) mistakes: &'a mut Vec<Mistake>,
}

impl Reader<'_> {
    /// Adds a mistake about a setting.
    pub(crate) fn mistake(&mut self, key: &str, problem: impl Into<String>) {
        let origin = self.place(key);
        self.mistakes.push(Mistake { origin, problem: problem.into() });
    }

    /// Adds what a part of Godwit finds wrong with its own settings: texts that name settings of a section
    /// without the section.
    pub(crate) fn mistakes_of(&mut self, section: &str, texts: Vec<String>) {
        for text in texts {
            let named = |name: &&str| {
                text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == *name)
            };
            let names =
                SETTINGS.iter().filter(|s| table::section(s.key) == section).map(|s| table::name(s.key));
            let key = names.clone().filter(named).map(|name| format!("{section}.{name}"));
            let key = key.max_by_key(|key| self.is_set(key)).unwrap_or_else(|| section.to_owned());
            self.mistake(&key, text);
        }
    }

    /// Where a setting stands: a file and key, a variable, a flag; the key alone where nobody set it.
    pub(crate) fn place(&self, key: &str) -> String {
        match self.values.get(key) {
            Some(effective) if effective.origin != BUILT_IN => effective.place(key),
            _ => key.to_owned(),
        }
    }

    /// Whether somebody set it.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|effective| effective.origin != BUILT_IN)
    }

    pub(crate) fn text(&self, key: &str) -> String {
        match self.parsed(key) {
            Parsed::Text(text) => text.clone(),
            other => unreachable!("{key} is a text, not {other:?}"),
        }
    }

    pub(crate) fn number(&self, key: &str) -> u64 {
        match self.parsed(key) {
            Parsed::Number(number) => *number,
            other => unreachable!("{key} is a number, not {other:?}"),
        }
    }

    pub(crate) fn count(&self, key: &str) -> u32 {
        u32::try_from(self.number(key)).expect("the table's ranges of counts fit")
    }

    pub(crate) fn size(&self, key: &str) -> usize {
        usize::try_from(self.number(key)).expect("the table's ranges of sizes fit")
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        match self.parsed(key) {
            Parsed::Bool(given) => *given,
            other => unreachable!("{key} is true or false, not {other:?}"),
        }
    }

    pub(crate) fn listen(&self, key: &str) -> SocketAddr {
        match self.parsed(key) {
            Parsed::Listen(address) => *address,
            other => unreachable!("{key} is an address, not {other:?}"),
        }
    }

    pub(crate) fn list(&self, key: &str) -> &[String] {
        match self.parsed(key) {
            Parsed::List(words) => words,
            other => unreachable!("{key} is a list, not {other:?}"),
        }
    }

    fn parsed(&self, key: &str) -> &Parsed {
        &self.values.get(key).expect("every key that is read is in the table").value
    }
}
