//! What the app may ask for. Every call travels to the driver's task over one bounded queue; where that is
//! full the caller waits.

use std::time::Duration;

use bytes::Bytes;
use proto::limits::GROUP_MEMBERS_MAX;
use proto::{ConversationId, UserId, v1};
use tokio::sync::{mpsc, oneshot};
use v1::send::Body;

use super::stream::EventStream;
use super::{Config, task};
use crate::calls::CallError;
use crate::core::SendError;
use crate::outbox::{LocalId, Target};

/// Asks that wait for the driver's task.
const ASKS_MAX: usize = 64;
/// How long a query may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// `Message.kind` of text.
const TEXT: u32 = 1;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The send was not accepted; nothing of it is kept.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The query has no result.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The store failed, and the client has ended. Whether the send is in the store shows when it is opened
    /// again.
    #[error("the store failed: {0}")]
    Store(String),
    /// The client has ended.
    #[error("the client is closed")]
    Closed,
}

/// What the driver's task is asked.
#[derive(Debug)]
pub(super) enum Ask {
    Send { to: Target, body: Body, reply: oneshot::Sender<Result<LocalId, Error>> },
    CreateGroup { name: String, members: Vec<UserId>, reply: Reply<(ConversationId, LocalId)> },
    Call { method: &'static str, request: Bytes, timeout: Duration, reply: Reply<Bytes> },
    Close { flush: Duration, reply: Reply<usize> },
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// One device of one user, connected as long as it can be. Cheap to clone; when the last clone is dropped
/// the client closes.
#[derive(Clone, Debug)]
pub struct Client {
    asks: mpsc::Sender<Ask>,
}

impl Client {
    /// Starts a client on the present Tokio runtime. It connects by itself, now and whenever it has to
    /// again; the stream tells.
    #[must_use]
    pub fn connect(config: Config) -> (Client, EventStream) {
        let (asks, receiver) = mpsc::channel(ASKS_MAX);
        let (events, taken, stream) = EventStream::new();
        tokio::spawn(task::run(config, receiver, events, taken));
        (Client { asks }, stream)
    }

    /// Sends a text. When this returns, it is in the store and will be sent, whatever happens, as long as the app takes
    /// its events: each ack is one, and while hundreds wait for the app nothing more goes out.
    ///
    /// # Errors
    /// It was not accepted.
    pub async fn send_text(&self, to: Target, text: &str) -> Result<LocalId, Error> {
        let data = Bytes::copy_from_slice(text.as_bytes());
        self.send(to, v1::Message { kind: TEXT, data }).await
    }

    /// Sends a message of any kind. When this returns, it is in the store and will be sent.
    ///
    /// # Errors
    /// It was not accepted.
    pub async fn send(&self, to: Target, message: v1::Message) -> Result<LocalId, Error> {
        self.command(to, Body::Message(message)).await
    }

    /// Creates a group with this user as its owner. It exists once its entry arrives.
    ///
    /// # Errors
    /// It was not accepted.
    pub async fn create_group(
        &self,
        name: &str,
        members: &[UserId],
    ) -> Result<(ConversationId, LocalId), Error> {
        let (name, members) = (name.to_owned(), members.to_vec());
        self.ask(|reply| Ask::CreateGroup { name, members, reply }).await?
    }

    /// Adds members to a group.
    ///
    /// # Errors
    /// It was not accepted.
    pub async fn add_members(&self, group: ConversationId, users: &[UserId]) -> Result<LocalId, Error> {
        let users = names(users);
        self.command(Target::Group(group), Body::AddMembers(v1::AddMembers { users })).await
    }

    /// Removes members from a group; its owner may.
    ///
    /// # Errors
    /// It was not accepted.
    pub async fn remove_members(&self, group: ConversationId, users: &[UserId]) -> Result<LocalId, Error> {
        let users = names(users);
        self.command(Target::Group(group), Body::RemoveMembers(v1::RemoveMembers { users })).await
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// It was not accepted.
    pub async fn leave_group(&self, group: ConversationId) -> Result<LocalId, Error> {
        self.command(Target::Group(group), Body::LeaveGroup(v1::LeaveGroup {})).await
    }

    /// Gives a group another name; its owner may.
    ///
    /// # Errors
    /// It was not accepted.
    pub async fn rename_group(&self, group: ConversationId, name: &str) -> Result<LocalId, Error> {
        let rename = v1::RenameGroup { name: name.to_owned() };
        self.command(Target::Group(group), Body::RenameGroup(rename)).await
    }

    /// Ends a group for all; its owner may.
    ///
    /// # Errors
    /// It was not accepted.
    pub async fn dissolve_group(&self, group: ConversationId) -> Result<LocalId, Error> {
        self.command(Target::Group(group), Body::DissolveGroup(v1::DissolveGroup {})).await
    }

    /// From now on that user's messages to this one are rejected, and the other way round.
    ///
    /// # Errors
    /// It was not accepted.
    pub async fn block(&self, user: UserId) -> Result<LocalId, Error> {
        self.command(Target::User(user), Body::Block(v1::Block {})).await
    }

    /// Takes a block back.
    ///
    /// # Errors
    /// It was not accepted.
    pub async fn unblock(&self, user: UserId) -> Result<LocalId, Error> {
        self.command(Target::User(user), Body::Unblock(v1::Unblock {})).await
    }

    /// All members of a group, at least as new as its number `min_no`.
    ///
    /// # Errors
    /// There is no answer, or it is no.
    pub async fn members(&self, group: ConversationId, min_no: u64) -> Result<v1::MembersResponse, Error> {
        let mut all = v1::MembersResponse::default();
        let mut after = String::new();
        while all.members.len() <= GROUP_MEMBERS_MAX {
            let request =
                v1::MembersRequest { group: group.to_bytes(), min_no, after: after.clone(), limit: 0 };
            let page: v1::MembersResponse = self.call("godwit.v1.Groups/Members", &request).await?;
            all.members.extend(page.members);
            (all.name, all.no) = (page.name, page.no);
            if !page.more {
                return Ok(all);
            }
            // Members come in the order of their ids.
            if page.next <= after {
                break;
            }
            after = page.next;
        }
        Err(Error::Call(CallError::Malformed))
    }

    /// A page of a conversation: with `backward` up to `limit` entries below number `from` (0: from the
    /// end), newest first; otherwise above it.
    ///
    /// # Errors
    /// There is no answer, or it is no.
    pub async fn history(
        &self,
        of: &Target,
        from: u64,
        backward: bool,
        limit: u32,
    ) -> Result<v1::HistoryResponse, Error> {
        let of = match of {
            Target::User(user) => v1::history_request::Of::User(user.as_str().to_owned()),
            Target::Group(group) => v1::history_request::Of::Group(group.to_bytes()),
        };
        let request = v1::HistoryRequest { of: Some(of), from, backward, limit, min_no: 0 };
        self.call("godwit.v1.Conversations/History", &request).await
    }

    /// Ends the client: waits for acks of what is in the outbox for at most `flush`, then leaves. How many
    /// sends are left in the store; they go out when it is opened again.
    ///
    /// # Errors
    /// The client had ended before, because its store failed, the stream of events was dropped or it was closed already:
    /// the store knows what is left.
    pub async fn close(&self, flush: Duration) -> Result<usize, Error> {
        self.ask(|reply| Ask::Close { flush, reply }).await?
    }

    async fn command(&self, to: Target, body: Body) -> Result<LocalId, Error> {
        self.ask(|reply| Ask::Send { to, body, reply }).await?
    }

    async fn call<Q, R>(&self, method: &'static str, request: &Q) -> Result<R, Error>
    where
        Q: prost::Message,
        R: prost::Message + Default,
    {
        let request = Bytes::from(request.encode_to_vec());
        let timeout = CALL_TIMEOUT;
        let response = self.ask(|reply| Ask::Call { method, request, timeout, reply }).await??;
        R::decode(response).map_err(|_| Error::Call(CallError::Malformed))
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)
    }
}

fn names(users: &[UserId]) -> Vec<String> {
    users.iter().map(|user| user.as_str().to_owned()).collect()
}
