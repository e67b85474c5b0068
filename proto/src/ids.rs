//! Who and what: users and devices bring their own ids, conversations' ids are made of them.

use std::fmt;

use bytes::Bytes;
use compact_str::CompactString;
use sha2::{Digest, Sha256};

use crate::limits::ID_BYTES_MAX;

/// What is wrong with an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty, or over [`ID_BYTES_MAX`] bytes.
    #[error("an id has 1 to {max} bytes, this one has {0}", max = ID_BYTES_MAX)]
    Length(usize),
    /// A control character would make a mess of logs and terminals.
    #[error("an id has no control characters")]
    Control,
    /// A conversation id that is not 16 bytes long.
    #[error("a conversation id has 16 bytes, this one has {0}")]
    Conversation(usize),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(CompactString);

        impl $name {
            /// Takes an id from outside: 1 to 64 bytes of UTF-8 without control characters.
            ///
            /// # Errors
            /// What is wrong with it.
            pub fn new(text: &str) -> Result<Self, IdError> {
                if text.is_empty() || text.len() > ID_BYTES_MAX {
                    return Err(IdError::Length(text.len()));
                }
                if text.chars().any(char::is_control) {
                    return Err(IdError::Control);
                }
                Ok(Self(CompactString::new(text)))
            }

            /// The text of it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }
    };
}

name! {
    /// A user, by the app's own id. The key of the timelines log.
    UserId
}
name! {
    /// A device of a user; only (user, device) names a device.
    DeviceId
}

/// A direct pair or a group: the first 16 bytes of SHA-256 over what makes it. The key of the messages
/// log. A cryptographic hash, because users choose what goes into it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId([u8; 16]);

impl ConversationId {
    const DIRECT: u8 = 1;
    const GROUP: u8 = 2;

    /// The conversation of two users, in either order (or of one user with themselves):
    /// `SHA-256(0x01, len(a), a, len(b), b)` with `a <= b` as bytes and lengths of one byte.
    #[must_use]
    pub fn direct(one: &UserId, other: &UserId) -> Self {
        let (a, b) = if one <= other { (one, other) } else { (other, one) };
        Self::hash(Self::DIRECT, &[a.as_str(), b.as_str()])
    }

    /// The group that a device creates under a request key of its choice:
    /// `SHA-256(0x02, len(user), user, len(device), device, len(key), key)`.
    ///
    /// # Errors
    /// A key that is empty or over 64 bytes.
    pub fn group(creator: &UserId, device: &DeviceId, request_key: &str) -> Result<Self, IdError> {
        if request_key.is_empty() || request_key.len() > ID_BYTES_MAX {
            return Err(IdError::Length(request_key.len()));
        }
        Ok(Self::hash(Self::GROUP, &[creator.as_str(), device.as_str(), request_key]))
    }

    /// Takes an id from outside.
    ///
    /// # Errors
    /// Another length than 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
        bytes.try_into().map(Self).map_err(|_| IdError::Conversation(bytes.len()))
    }

    /// The 16 bytes of it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The 16 bytes of it, as messages carry them.
    #[must_use]
    pub fn to_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    fn hash(tag: u8, parts: &[&str]) -> Self {
        let mut sha = Sha256::new();
        sha.update([tag]);
        for part in parts {
            let length = u8::try_from(part.len()).expect("ids are at most 64 bytes");
            sha.update([length]);
            sha.update(part.as_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(sha.finalize().get(..16).expect("SHA-256 has 32 bytes"));
        Self(id)
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for ConversationId {
    type Err = IdError;

    /// Reads the 32 hexadecimal digits that `Display` writes.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Conversation(text.len() / 2);
        let number = u128::from_str_radix(text, 16).map_err(|_| wrong())?;
        if text.len() == 32 && !text.starts_with('+') { Ok(Self(number.to_be_bytes())) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> UserId {
        UserId::new(text).unwrap()
    }

    #[test]
    fn a_pair_has_one_id_whoever_asks() {
        let (ann, bob) = (user("ann"), user("bob"));
        assert_eq!(ConversationId::direct(&ann, &bob), ConversationId::direct(&bob, &ann));
        assert_ne!(ConversationId::direct(&ann, &ann), ConversationId::direct(&ann, &bob));
    }

    #[test]
    fn lengths_keep_parts_apart() {
        let a = ConversationId::direct(&user("a"), &user("bc"));
        let b = ConversationId::direct(&user("ab"), &user("c"));
        assert_ne!(a, b);
        let device = DeviceId::new("c").unwrap();
        assert_ne!(ConversationId::group(&user("a"), &device, "k").unwrap(), a);
    }

    #[test]
    fn ids_are_checked() {
        assert_eq!(UserId::new(""), Err(IdError::Length(0)));
        assert_eq!(UserId::new(&"x".repeat(65)), Err(IdError::Length(65)));
        assert_eq!(UserId::new("a\nb"), Err(IdError::Control));
        assert!(UserId::new(&"x".repeat(64)).is_ok());
        assert_eq!(ConversationId::from_slice(&[0; 15]), Err(IdError::Conversation(15)));
    }

    #[test]
    fn a_conversation_id_reads_back() {
        let id = ConversationId::direct(&user("ann"), &user("bob"));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(format!("+{}", "0".repeat(31)).parse::<ConversationId>().is_err());
    }
}
