//! The core on Tokio: one task per client, which owns the device, its store and its link.

mod client;
mod stream;
mod task;

use futures::future::BoxFuture;

use crate::core::Settings;
use crate::store::Store;

pub use client::{Client, Error};
pub use stream::EventStream;

/// What the app is told when there is no token.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

/// Asked for a token before every link, so that it can give a fresh one.
pub type TokenSource = Box<dyn Fn() -> BoxFuture<'static, Result<String, TokenError>> + Send + Sync>;

/// What a client needs.
pub struct Config {
    /// `host:port` of the servers; tried in turn.
    pub addresses: Vec<String>,
    /// Who this is, and how it begins.
    pub settings: Settings,
    /// Where tokens come from; [`fixed_token`] for one that does not change.
    pub token: TokenSource,
    /// What outlives the process.
    pub store: Box<dyn Store>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { addresses, settings, .. } = self;
        f.debug_struct("Config").field("addresses", addresses).field("settings", settings).finish()
    }
}

/// A source of one and the same token.
#[must_use]
pub fn fixed_token(token: String) -> TokenSource {
    Box::new(move || {
        let token = token.clone();
        Box::pin(async move { Ok(token) })
    })
}
