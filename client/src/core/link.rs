//! The link as the core sees it.
//!
//! ```text
//! Down ──time──▶ Due ──poll_link──▶ Dialing ──handle_connected──▶ Up (signing in ──SignInResult──▶ live)
//!   ▲                                  │ failed                     │ closed, kicked, silent, going away
//!   └──────────────────────────────────┴────────────────────────────┘
//! ```

use proto::{limits, v1};

use super::Millis;
use crate::backoff::Dice;

/// Without an answer to the sign-in for this long, the link is given up. Longer than a takeover takes.
const SIGN_IN_TIMEOUT_MS: u64 = 60_000;
/// What is taken for a heartbeat where the server does not say.
const HEARTBEAT_MS: u64 = 30_000;
const HEARTBEAT_MIN_MS: u64 = 10;
const HEARTBEAT_MAX_MS: u64 = 3_600_000;

/// Where the link stands.
#[derive(Debug)]
pub(crate) enum Link {
    /// None, and none wanted before the time given, if at all.
    Down { retry_at: Option<Millis> },
    /// One is wanted now.
    Due,
    /// The driver makes one.
    Dialing,
    /// There is one.
    Up(Box<Wire>),
}

/// A link that exists.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Until SignIn is written.
    pub(crate) token: Option<String>,
    /// The request id of SignIn.
    pub(crate) sign_in: u64,
    /// Bytes that may still be written before the server has answered the sign-in.
    pub(crate) budget_bytes: usize,
    /// Once signed in.
    pub(crate) session: Option<Session>,
    /// The server's farewell, if it said one.
    pub(crate) going: Option<Going>,
    sent: Millis,
    heard: Millis,
    pinged: Millis,
    /// A Ping is to be written.
    pub(crate) ping: bool,
}

/// What a sign-in granted.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) epoch: u64,
    pub(crate) since: Millis,
    pub(crate) heartbeat_ms: u64,
    pub(crate) sync_entries_max: u32,
}

/// The server goes away; this device moves at a time of its own.
#[derive(Debug)]
pub(crate) struct Going {
    /// From now on nothing new is written; what is on the way may be answered.
    pub(crate) move_at: Millis,
    /// The link is left now in any case.
    pub(crate) until: Millis,
    pub(crate) moving: bool,
}

/// What a link's deadline brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing, or something to write.
    Nothing,
    /// The server is silent.
    Silent,
    /// It is time to leave.
    Move,
}

impl Wire {
    pub(crate) fn new(now: Millis, token: String) -> Self {
        Self {
            budget_bytes: limits::UNAUTHENTICATED_BYTES_MAX.saturating_sub(token.len() + 512),
            token: Some(token),
            sign_in: 0,
            session: None,
            going: None,
            sent: now,
            heard: now,
            pinged: now,
            ping: false,
        }
    }

    pub(crate) fn sent(&mut self, now: Millis) {
        self.sent = now;
    }

    pub(crate) fn heard(&mut self, now: Millis) {
        self.heard = now;
    }

    pub(crate) fn pinged(&mut self, now: Millis) {
        (self.ping, self.pinged) = (false, now);
    }

    /// Whether new sends may be written.
    pub(crate) fn takes_sends(&self) -> bool {
        self.going.as_ref().is_none_or(|going| !going.moving)
    }

    pub(crate) fn deadline(&self) -> Millis {
        let Some(session) = &self.session else { return self.heard.after(SIGN_IN_TIMEOUT_MS) };
        let silent = self.heard.after(2 * session.heartbeat_ms);
        let ping = if self.ping { silent } else { self.ping_at(session.heartbeat_ms) };
        let going = self.going.as_ref().map_or(silent, |g| if g.moving { g.until } else { g.move_at });
        silent.min(ping).min(going)
    }

    /// `unanswered` sends wait on this link.
    pub(crate) fn handle_deadline(&mut self, now: Millis, unanswered: usize) -> Due {
        let Some(session) = &self.session else {
            return if now >= self.heard.after(SIGN_IN_TIMEOUT_MS) { Due::Silent } else { Due::Nothing };
        };
        if now >= self.heard.after(2 * session.heartbeat_ms) {
            return Due::Silent;
        }
        self.ping |= now >= self.ping_at(session.heartbeat_ms);
        self.leaves(now, unanswered)
    }

    /// Whether it is time to move.
    pub(crate) fn leaves(&mut self, now: Millis, unanswered: usize) -> Due {
        let Some(going) = &mut self.going else { return Due::Nothing };
        going.moving |= now >= going.move_at;
        let leave = going.moving && (unanswered == 0 || now >= going.until);
        if leave { Due::Move } else { Due::Nothing }
    }

    /// A period after anything was last sent, or last heard: an idle link is kept alive, and one on which
    /// only unanswered frames are sent is probed.
    fn ping_at(&self, heartbeat_ms: u64) -> Millis {
        self.sent.min(self.heard).max(self.pinged).after(heartbeat_ms)
    }
}

/// A heartbeat within what the server asks for, at random, so that devices spread.
pub(crate) fn heartbeat_ms(result: &v1::SignInResult, dice: &mut Dice) -> u64 {
    if result.heartbeat_max_ms == 0 {
        return HEARTBEAT_MS;
    }
    let max = u64::from(result.heartbeat_max_ms).clamp(HEARTBEAT_MIN_MS, HEARTBEAT_MAX_MS);
    let min = u64::from(result.heartbeat_min_ms).clamp(HEARTBEAT_MIN_MS, max);
    min + dice.below(max - min + 1)
}
