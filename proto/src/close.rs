//! Close codes: why the server closes a link. The same numbers on TCP (in Kick) and WebSocket.
//! 3000–3499: connect again; 3500–3999: do not; 4000–4999 belong to the application.

macro_rules! closes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// A close code. The table in docs/PROTOCOL.md lists all of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Close { $($(#[$doc])* $variant = $number),* }

        impl Close {
            /// Every code, in the order of the numbers.
            pub const ALL: &'static [Close] = &[$(Close::$variant),*];

            /// The number on the wire.
            #[must_use]
            pub fn number(self) -> u32 { u32::from(self as u16) }

            /// The reason on the wire and in logs.
            #[must_use]
            pub fn name(self) -> &'static str { match self { $(Close::$variant => $name),* } }

            /// The code with this number; none where a newer peer knows more.
            #[must_use]
            pub fn from_number(number: u32) -> Option<Close> {
                match number { $($number => Some(Close::$variant),)* _ => None }
            }
        }
    };
}

closes! {
    /// The node is shut down in good order.
    GoingAway = 3000, "going away";
    /// Nothing was heard from the device for longer than the idle time.
    IdleTimeout = 3001, "idle timeout";
    /// The device does not read.
    WriteStall = 3002, "write stall";
    /// The sign-in was not confirmed in time.
    SignInTimeout = 3003, "sign-in timeout";
    /// A record could not be appended to the log; what is not acknowledged is to be resent.
    AppendFailed = 3004, "append failed";
    /// The node lost its lease: its sessions no longer count.
    LeaseLost = 3005, "lease lost";
    /// The session is not known to the owner of the user's timeline: sign in again.
    SessionUnknown = 3006, "session unknown";
    /// No room for another link at the moment.
    Overloaded = 3007, "overloaded";
    /// The link sends faster than it may.
    RateExceeded = 3008, "rate exceeded";

    /// The bytes are not the protocol.
    Malformed = 3500, "malformed";
    /// A frame over the size limit.
    FrameTooLarge = 3501, "frame too large";
    /// A frame that its state does not allow, such as one before SignIn or a second SignIn.
    OutOfState = 3502, "out of state";
    /// More unacknowledged sends than allowed.
    TooManyUnacked = 3503, "too many unacknowledged sends";
    /// The token was turned down; connect again with another one.
    Unauthorized = 3504, "unauthorized";
    /// The same device signed in on a newer link.
    Replaced = 3505, "replaced by a newer link of this device";
    /// The device policy gave the place to another device.
    DevicePolicy = 3506, "signed in on another device";
    /// A protocol revision that this server does not speak.
    UnsupportedProtocol = 3507, "unsupported protocol";
    /// Too much was sent before signing in.
    UnauthenticatedBudget = 3508, "unauthenticated budget";
}

impl Close {
    /// How long a device waits at least before it connects again, in milliseconds.
    #[must_use]
    pub fn after_ms(self) -> u32 {
        if self == Self::Overloaded { 5_000 } else { 0 }
    }
}

/// Whether a device that was closed with this number connects again by itself.
#[must_use]
pub fn reconnects(number: u32) -> bool {
    number < 3500
}

#[cfg(test)]
mod tests {
    use super::Close;

    #[test]
    fn numbers_read_back_and_rise() {
        for (i, a) in Close::ALL.iter().enumerate() {
            assert_eq!(Close::from_number(a.number()), Some(*a));
            assert!(Close::ALL[i + 1..].iter().all(|b| a.number() < b.number()));
        }
    }
}
