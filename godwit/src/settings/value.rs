//! What a setting may hold, and how text and TOML become it. Never knows which settings there are.

use std::net::SocketAddr;

use figment::value::Value;

/// What a setting may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number in this range.
    Number { min: u64, max: u64 },
    /// Any text; empty for none.
    Text,
    /// An IP address and a port to listen on; port 0 lets the system choose.
    Listen,
    /// One of these.
    Choice(&'static [&'static str]),
    /// One or more of these.
    Choices(&'static [&'static str]),
}

/// A value of the right kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Bool(bool),
    Number(u64),
    Text(String),
    Listen(SocketAddr),
    List(Vec<String>),
}

impl Kind {
    /// Reads what stood in the environment or on the command line.
    pub(crate) fn read_text(self, text: &str) -> Result<Parsed, String> {
        let text = text.trim();
        match self {
            Kind::Bool => text.parse().map(Parsed::Bool).map_err(|_| self.valid()),
            Kind::Number { .. } => {
                let number = text.replace('_', "").parse().map_err(|_| self.valid())?;
                self.in_range(number)
            }
            Kind::Text | Kind::Listen | Kind::Choice(_) => self.read_word(text),
            Kind::Choices(_) => self
                .read_words(text.split(',').map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect()),
        }
    }

    /// Reads what stood in a TOML file.
    pub(crate) fn read_toml(self, value: &Value) -> Result<Parsed, String> {
        match (self, value) {
            (Kind::Bool, Value::Bool(_, given)) => Ok(Parsed::Bool(*given)),
            (Kind::Number { .. }, Value::Num(_, given)) => {
                let positive = given.to_i128().and_then(|n| u128::try_from(n).ok());
                let number = positive.or_else(|| given.to_u128()).and_then(|n| u64::try_from(n).ok());
                self.in_range(number.ok_or_else(|| self.valid())?)
            }
            (Kind::Text | Kind::Listen | Kind::Choice(_), Value::String(_, text)) => {
                self.read_word(text.trim())
            }
            (Kind::Choices(_), Value::Array(_, items)) => {
                let words: Option<Vec<String>> =
                    items.iter().map(|i| i.as_str().map(str::to_owned)).collect();
                self.read_words(words.ok_or_else(|| self.valid())?)
            }
            _ => Err(self.valid()),
        }
    }

    /// What is valid, for people.
    pub(crate) fn valid(self) -> String {
        match self {
            Kind::Bool => "true or false".into(),
            Kind::Number { min, max: u64::MAX } => format!("a whole number from {min}"),
            Kind::Number { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Text => "a text in quotes".into(),
            Kind::Listen => "an IP address and a port, such as 127.0.0.1:7100 or [::1]:7100".into(),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
            Kind::Choices(words) => format!("one or more of {}", words.join(", ")),
        }
    }

    fn in_range(self, number: u64) -> Result<Parsed, String> {
        match self {
            Kind::Number { min, max } if (min..=max).contains(&number) => Ok(Parsed::Number(number)),
            _ => Err(self.valid()),
        }
    }

    fn read_word(self, text: &str) -> Result<Parsed, String> {
        match self {
            Kind::Listen => text.parse().map(Parsed::Listen).map_err(|_| self.valid()),
            Kind::Choice(words) if !words.contains(&text) => Err(self.valid()),
            _ => Ok(Parsed::Text(text.to_owned())),
        }
    }

    fn read_words(self, given: Vec<String>) -> Result<Parsed, String> {
        let Kind::Choices(words) = self else { return Err(self.valid()) };
        let known = given.iter().all(|word| words.contains(&word.as_str()));
        if known && !given.is_empty() { Ok(Parsed::List(given)) } else { Err(self.valid()) }
    }
}

impl Parsed {
    /// As it is written in a TOML file.
    pub(crate) fn to_toml(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        match self {
            Parsed::Bool(given) => given.to_string(),
            Parsed::Number(given) => given.to_string(),
            Parsed::Text(given) => quoted(given),
            Parsed::Listen(given) => quoted(&given.to_string()),
            Parsed::List(given) => {
                format!("[{}]", given.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// As the layers hold it.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Parsed::Bool(given) => Value::from(*given),
            Parsed::Number(given) => Value::from(*given),
            Parsed::Text(given) => Value::from(given.as_str()),
            Parsed::Listen(given) => Value::from(given.to_string()),
            Parsed::List(given) => Value::from(given.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_what_is_asked_for() {
        let number = Kind::Number { min: 1, max: 10 };
        assert_eq!(number.read_text(" 1_0 "), Ok(Parsed::Number(10)));
        assert_eq!(number.read_text("11"), Err("a whole number from 1 to 10".into()));
        assert!(number.read_text("-1").is_err());
        assert_eq!(Kind::Bool.read_text("true"), Ok(Parsed::Bool(true)));
        assert!(Kind::Bool.read_text("yes").is_err());
        assert_eq!(
            Kind::Choices(&["a", "b"]).read_text("b, a"),
            Ok(Parsed::List(vec!["b".into(), "a".into()]))
        );
        assert!(Kind::Choices(&["a"]).read_text("").is_err());
        assert!(Kind::Listen.read_text("localhost:1").is_err());
    }

    #[test]
    fn toml_keeps_its_types() {
        assert!(Kind::Text.read_toml(&Value::from(7)).is_err());
        assert!(Kind::Number { min: 0, max: 9 }.read_toml(&Value::from("7")).is_err());
        assert!(Kind::Number { min: 0, max: 9 }.read_toml(&Value::from(-1)).is_err());
        assert_eq!(Kind::Number { min: 0, max: 9 }.read_toml(&Value::from(7_i64)), Ok(Parsed::Number(7)));
        assert_eq!(Kind::Choice(&["a"]).read_toml(&Value::from("a")), Ok(Parsed::Text("a".into())));
    }
}
