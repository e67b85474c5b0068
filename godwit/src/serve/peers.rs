//! Connections to other processes of this deployment: one per address, made when first used, probed while
//! silent, mended by themselves.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// How long connecting may take.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How often a silent connection is probed, and how long the answer may take.
const PROBE_EVERY: Duration = Duration::from_secs(3);
/// Addresses remembered; past it, all are forgotten and connections in use live on by themselves.
const ADDRESSES_MAX: usize = 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Peers {
    channels: Mutex<HashMap<String, Channel>>,
}

impl Peers {
    /// The connection to `host:port`, made or not yet.
    pub(super) fn channel(&self, address: &str) -> Result<Channel, String> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        if channels.len() >= ADDRESSES_MAX {
            channels.clear();
        }
        let channel = endpoint(address)?.connect_lazy();
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

fn endpoint(address: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    Ok(endpoint
        .connect_timeout(CONNECT_WITHIN)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PROBE_EVERY)
        .keep_alive_timeout(PROBE_EVERY)
        .keep_alive_while_idle(true))
}
