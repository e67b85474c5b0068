//! Error codes: one table for devices, the API and the logs. A number once given keeps its meaning.

use crate::v1;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $retry:ident;)*) => {
        /// An error code. The table in docs/PROTOCOL.md lists all of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Code { $($(#[$doc])* $variant = $number),* }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The number on the wire.
            #[must_use]
            pub fn number(self) -> u32 { self as u32 }

            /// The name on the wire and in logs.
            #[must_use]
            pub fn name(self) -> &'static str { match self { $(Code::$variant => $name),* } }

            /// What a device does about it.
            #[must_use]
            pub fn retry(self) -> v1::Retry { match self { $(Code::$variant => v1::Retry::$retry),* } }

            /// The code with this number; none where a newer peer knows more.
            #[must_use]
            pub fn from_number(number: u32) -> Option<Code> {
                match number { $($number => Some(Code::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// A frame or field that does not make sense by itself; the detail names the field.
    InvalidArgument = 1000, "INVALID_ARGUMENT", Never;
    /// A body, name or list over its limit. A send is to be voided.
    TooLarge = 1001, "TOO_LARGE", Never;
    /// No API method of this name.
    UnknownMethod = 1002, "UNKNOWN_METHOD", Never;
    /// A frame of a kind that this server does not know.
    UnknownFrame = 1003, "UNKNOWN_FRAME", Never;

    /// The token does not verify: bad signature, wrong issuer or audience, malformed.
    BadToken = 1100, "BAD_TOKEN", Reauth;
    /// The token has expired.
    TokenExpired = 1101, "TOKEN_EXPIRED", Reauth;
    /// A frame other than SignIn before the link was signed in.
    NotSignedIn = 1102, "NOT_SIGNED_IN", Reauth;

    /// Not a member of the conversation.
    NotMember = 1200, "NOT_MEMBER", Never;
    /// A member, but not one who may do this.
    NotAllowed = 1201, "NOT_ALLOWED", Never;
    /// One of the two users blocks the other.
    Blocked = 1202, "BLOCKED", Never;

    /// No such group.
    NoSuchConversation = 1300, "NO_SUCH_CONVERSATION", Never;
    /// The group was dissolved.
    Dissolved = 1301, "DISSOLVED", Never;
    /// A group of this id exists.
    AlreadyExists = 1302, "ALREADY_EXISTS", Never;
    /// The group would have more members than it may.
    GroupFull = 1303, "GROUP_FULL", Never;
    /// An operator had this record skipped, because it broke a stage.
    Skipped = 1304, "SKIPPED", Never;

    /// A queue is full; the send was not taken.
    Busy = 1400, "BUSY", Backoff;
    /// Whoever answers this is not reachable at the moment.
    Unavailable = 1401, "UNAVAILABLE", Backoff;
    /// An earlier send of this link was refused: that one first.
    RefusedEarlier = 1402, "REFUSED_EARLIER", Backoff;
    /// The link sends faster than it may.
    RateLimited = 1403, "RATE_LIMITED", After;

    /// The send leaves a gap in (epoch, n); the send named is the one that is missing.
    OutOfOrder = 1500, "OUT_OF_ORDER", Resync;
    /// The cursor is above the head, or a page was not whole: ask again.
    StaleRead = 1501, "STALE_READ", Backoff;

    /// The server broke its own rule; the detail is a request id for its log.
    Internal = 1900, "INTERNAL", Backoff;
}

/// An error on its way to a device: a code and a detail for the developer's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.name())]
pub struct Fault {
    /// What it is.
    pub code: Code,
    /// For RATE_LIMITED, and for a sign-in that is turned away: how long to wait, in milliseconds. Otherwise 0.
    pub after_ms: u32,
    /// Says which field or limit, with the figures. No tokens, no bodies.
    pub detail: String,
}

impl Fault {
    /// A fault without a waiting time.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, after_ms: 0, detail: detail.into() }
    }

    /// The frame that tells a device.
    #[must_use]
    pub fn to_error(&self, send: Option<v1::SendRef>) -> v1::Error {
        v1::Error {
            code: self.code.number(),
            name: self.code.name().into(),
            retry: self.code.retry().into(),
            after_ms: self.after_ms,
            detail: self.detail.clone(),
            send,
        }
    }
}

impl From<crate::ids::IdError> for Fault {
    fn from(error: crate::ids::IdError) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn numbers_and_names_are_unique_and_read_back() {
        for (i, a) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::from_number(a.number()), Some(*a));
            for b in &Code::ALL[i + 1..] {
                assert!(a.number() < b.number(), "{a:?} and {b:?} are out of order");
                assert_ne!(a.name(), b.name());
            }
        }
    }
}
