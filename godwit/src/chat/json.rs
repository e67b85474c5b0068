//! `godwit chat --json`: one JSON object a line, commands on standard input, events on standard output. The
//! whole of it is described in docs/CHAT.md. A command's `ref`, any JSON value, comes back in every event
//! that the command causes.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{Cause, Client, Error, Event, EventStream, LocalId, Number, SendError, Sent, Target};
use proto::{ConversationId, DeviceId, UserId, v1};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::input::{self, Came, Signals};
use super::{Ended, FLUSH, FLUSH_INTERRUPTED, entry};

/// References of acknowledged sends that are remembered for a rejection.
const REFS_MAX: usize = 4096;
/// `Message.kind` of text.
const TEXT: u32 = 1;

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Command {
    Send {
        to: Option<String>,
        group: Option<String>,
        text: Option<String>,
        data: Option<String>,
        kind: Option<u32>,
    },
    Create {
        name: String,
        members: Vec<String>,
    },
    Add {
        group: String,
        users: Vec<String>,
    },
    Remove {
        group: String,
        users: Vec<String>,
    },
    Leave {
        group: String,
    },
    Rename {
        group: String,
        name: String,
    },
    Dissolve {
        group: String,
    },
    Block {
        user: String,
    },
    Unblock {
        user: String,
    },
    Members {
        group: String,
        #[serde(default)]
        min_no: u64,
    },
    History {
        user: Option<String>,
        group: Option<String>,
        #[serde(default)]
        from: u64,
        #[serde(default)]
        backward: bool,
        #[serde(default)]
        limit: u32,
    },
    Status {},
    Quit {
        flush_ms: Option<u64>,
    },
}

/// Why a command was not done: a code for programs, words for people.
#[derive(Debug)]
struct Failed {
    code: String,
    message: String,
}

struct Session {
    client: Client,
    user: UserId,
    device: DeviceId,
    live: bool,
    cursor: u64,
    /// References of sends that are not acknowledged, and of those that are.
    unacked: HashMap<LocalId, Value>,
    sent: HashMap<(ConversationId, Number), Value>,
    sent_order: VecDeque<(ConversationId, Number)>,
}

/// Runs until the end of the input, `quit`, a signal, or the server ends it.
pub(super) async fn run(
    client: Client,
    mut events: EventStream,
    user: &UserId,
    device: &DeviceId,
) -> std::io::Result<Ended> {
    let mut session = Session::new(client, user.clone(), device.clone());
    let (mut lines, mut signals) = (input::lines(), Signals::new()?);
    write("started", None, json!({ "user": user.as_str(), "device": device.as_str() }))?;
    let (ended, flush) = loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => if let Some(flush) = session.line(line).await? { break (Ended::Quit, flush) },
                None => break (Ended::Quit, FLUSH),
            },
            event = events.next() => match event {
                Some(event) => if session.event(event)? { break (Ended::Kicked, Duration::ZERO) },
                None => break (Ended::Kicked, Duration::ZERO),
            },
            came = signals.next() => break match came {
                Came::Interrupt => (Ended::Interrupted, FLUSH_INTERRUPTED),
                Came::Terminate => (Ended::Quit, FLUSH),
            },
        }
    };
    let left = session.leave(events, flush).await?;
    write("ended", None, json!({ "left": left }))?;
    Ok(ended)
}

impl Session {
    fn new(client: Client, user: UserId, device: DeviceId) -> Self {
        let (unacked, sent, sent_order) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Self { client, user, device, live: false, cursor: 0, unacked, sent, sent_order }
    }

    /// Writes on what comes while the outbox empties, but for entries: how many of them are still taken would depend on
    /// who is faster.
    async fn leave(mut self, mut events: EventStream, flush: Duration) -> std::io::Result<Option<usize>> {
        let client = self.client.clone();
        events.leave();
        let (left, written) = tokio::join!(client.close(flush), async {
            while let Some(event) = events.next().await {
                self.event(event)?;
            }
            Ok::<(), std::io::Error>(())
        });
        written.map(|()| left.ok())
    }

    /// Does one line; how long to wait at the end if it was the last.
    async fn line(&mut self, line: input::Line) -> std::io::Result<Option<Duration>> {
        let Some(bytes) = line else {
            fail(None, &Failed::usage(&"a line is over 1 MiB"))?;
            return Ok(None);
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let (reference, command) = match parse(&bytes) {
            Ok(parsed) => parsed,
            Err((reference, failed)) => {
                fail(reference, &failed)?;
                return Ok(None);
            }
        };
        if let Command::Quit { flush_ms } = command {
            return Ok(Some(flush_ms.map_or(FLUSH, Duration::from_millis)));
        }
        if let Err(failed) = self.command(command, reference.as_ref()).await? {
            fail(reference, &failed)?;
        }
        Ok(None)
    }

    async fn command(
        &mut self,
        command: Command,
        reference: Option<&Value>,
    ) -> std::io::Result<Result<(), Failed>> {
        let done = match command {
            Command::Members { group, min_no } => self.members(&group, min_no).await,
            Command::History { user, group, from, backward, limit } => match target(user, group) {
                Ok(of) => self.history(&of, from, backward, limit).await,
                Err(failed) => Err(failed),
            },
            Command::Status {} => Ok(("status", self.status())),
            Command::Quit { .. } => return Ok(Ok(())),
            send => self.send(send, reference).await,
        };
        match done {
            Ok((event, fields)) => write(event, reference.cloned(), fields).map(Ok),
            Err(failed) => Ok(Err(failed)),
        }
    }

    async fn send(
        &mut self,
        command: Command,
        reference: Option<&Value>,
    ) -> Result<(&'static str, Value), Failed> {
        let client = self.client.clone();
        let (conversation, local) = match command {
            Command::Send { to, group, text, data, kind } => {
                let to = target(to, group)?;
                let conversation = self.conversation(&to);
                (conversation, client.send(to, message(text, data, kind)?).await?)
            }
            Command::Create { name, members } => client.create_group(&name, &users(&members)?).await?,
            Command::Add { group, users: names } => {
                let group = group_id(&group)?;
                (group, client.add_members(group, &users(&names)?).await?)
            }
            Command::Remove { group, users: names } => {
                let group = group_id(&group)?;
                (group, client.remove_members(group, &users(&names)?).await?)
            }
            Command::Leave { group } => {
                let group = group_id(&group)?;
                (group, client.leave_group(group).await?)
            }
            Command::Rename { group, name } => {
                let group = group_id(&group)?;
                (group, client.rename_group(group, &name).await?)
            }
            Command::Dissolve { group } => {
                let group = group_id(&group)?;
                (group, client.dissolve_group(group).await?)
            }
            Command::Block { user } => {
                let user = user_id(&user)?;
                (ConversationId::direct(&self.user, &user), client.block(user).await?)
            }
            Command::Unblock { user } => {
                let user = user_id(&user)?;
                (ConversationId::direct(&self.user, &user), client.unblock(user).await?)
            }
            Command::Members { .. } | Command::History { .. } | Command::Status {} | Command::Quit { .. } => {
                return Err(Failed::usage(&"not a send"));
            }
        };
        if let Some(reference) = reference {
            self.unacked.insert(local, reference.clone());
        }
        Ok(("accepted", json!({ "local": local.0, "conversation": conversation.to_string() })))
    }

    async fn members(&self, group: &str, min_no: u64) -> Result<(&'static str, Value), Failed> {
        let id = group_id(group)?;
        let page = self.client.members(id, min_no).await?;
        let members: Vec<Value> = page.members.iter().map(entry::member).collect();
        let group = id.to_string();
        Ok(("members", json!({ "group": group, "name": page.name, "no": page.no, "members": members })))
    }

    async fn history(
        &self,
        of: &Target,
        from: u64,
        backward: bool,
        limit: u32,
    ) -> Result<(&'static str, Value), Failed> {
        let page = self.client.history(of, from, backward, limit).await?;
        let entries: Vec<Value> = page.entries.iter().map(|e| Value::Object(entry::fields(e))).collect();
        let conversation = self.conversation(of).to_string();
        Ok(("history", json!({ "conversation": conversation, "entries": entries, "more": page.more })))
    }

    fn status(&self) -> Value {
        let (user, device) = (self.user.as_str(), self.device.as_str());
        json!({ "user": user, "device": device, "connected": self.live, "seq": self.cursor })
    }

    /// Writes an event; whether the server ended it for good.
    fn event(&mut self, event: Event) -> std::io::Result<bool> {
        match event {
            Event::Connected { epoch, head } => {
                self.live = true;
                write("connected", None, json!({ "epoch": epoch, "head": head }))?;
            }
            Event::Disconnected { cause, retry_in_ms } => {
                self.live = false;
                let fields = json!({ "cause": cause.to_string(), "retry_in_ms": retry_in_ms });
                write("disconnected", None, with_code(fields, &cause))?;
                return Ok(retry_in_ms.is_none());
            }
            Event::Entry(entry) => {
                self.cursor = entry.seq;
                write("entry", None, Value::Object(entry::fields(&entry)))?;
            }
            Event::Truncated { first } => write("truncated", None, json!({ "first": first }))?,
            Event::Acked(sent) => {
                let reference = self.unacked.remove(&sent.local);
                if let Some(reference) = &reference {
                    self.remember(&sent, reference.clone());
                }
                write("acked", reference, of_sent(&sent))?;
            }
            Event::Refused { sent, code, name, detail } => {
                let reference = self.unacked.remove(&sent.local);
                let mut fields = of_sent(&sent);
                merge(&mut fields, json!({ "code": code, "name": name, "detail": detail }));
                write("refused", reference, fields)?;
            }
            Event::Rejected { conversation, number, code, name } => {
                let reference = self.sent.remove(&(conversation, number));
                let (id, Number { epoch, n }) = (conversation.to_string(), number);
                let fields =
                    json!({ "conversation": id, "epoch": epoch, "n": n, "code": code, "name": name });
                write("rejected", reference, fields)?;
            }
            Event::Kicked { code, reason } => {
                write("kicked", None, json!({ "code": code, "reason": reason }))?;
            }
        }
        Ok(false)
    }

    fn remember(&mut self, sent: &Sent, reference: Value) {
        let key = (sent.conversation, sent.number);
        if self.sent_order.len() >= REFS_MAX
            && let Some(oldest) = self.sent_order.pop_front()
        {
            self.sent.remove(&oldest);
        }
        self.sent_order.push_back(key);
        self.sent.insert(key, reference);
    }

    fn conversation(&self, target: &Target) -> ConversationId {
        match target {
            Target::User(user) => ConversationId::direct(&self.user, user),
            Target::Group(group) => *group,
        }
    }
}

impl Failed {
    fn usage(message: &dyn ToString) -> Self {
        Self { code: "USAGE".to_owned(), message: message.to_string() }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Send(SendError::Full) => "OUTBOX_FULL",
            Error::Send(SendError::TooLarge { .. }) => "TOO_LARGE",
            Error::Send(SendError::Invalid(_)) => "USAGE",
            Error::Send(SendError::Closed) | Error::Closed => "CLOSED",
            Error::Call(client::CallError::TimedOut) => "TIMED_OUT",
            Error::Call(client::CallError::TooMany) => "TOO_MANY_CALLS",
            Error::Call(client::CallError::Refused { name, .. }) => name,
            Error::Call(client::CallError::Malformed) => "MALFORMED",
            Error::Store(_) => "STORE",
        };
        Self { code: code.to_owned(), message: error.to_string() }
    }
}

/// The reference, if it can be made out, and the command.
fn parse(bytes: &[u8]) -> Result<(Option<Value>, Command), (Option<Value>, Failed)> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| (None, Failed::usage(&error)))?;
    let Value::Object(mut fields) = value else {
        return Err((None, Failed::usage(&"a command is a JSON object")));
    };
    let reference = fields.remove("ref");
    match serde_json::from_value(Value::Object(fields)) {
        Ok(command) => Ok((reference, command)),
        Err(error) => Err((reference, Failed::usage(&error))),
    }
}

/// What must hold of any line of the input: it is a command or a mistake, its reference comes back as it was, and
/// whatever it says, the answer is one line. For tests and fuzz targets.
pub fn check_line(bytes: &[u8]) {
    let (reference, text) = match parse(bytes) {
        Ok((reference, command)) => (reference, check_command(command)),
        Err((reference, failed)) => (reference, failed.message),
    };
    let said = line("error", reference.clone(), json!({ "message": text }));
    assert!(said.ends_with('\n') && said.matches('\n').count() == 1, "{said}");
    let back: Value = serde_json::from_str(&said).expect("what was just written");
    assert_eq!((back.get("ref"), back.get("message")), (reference.as_ref(), Some(&text.into())));
}

fn check_command(command: Command) -> String {
    let failed = match command {
        Command::Send { to, group, text, data, kind } => {
            target(to, group).and_then(|_| message(text, data, kind)).map(drop)
        }
        Command::History { user, group, .. } => target(user, group).map(drop),
        Command::Create { members, .. } => users(&members).map(drop),
        Command::Add { group, users: names } | Command::Remove { group, users: names } => {
            group_id(&group).and_then(|_| users(&names)).map(drop)
        }
        Command::Block { user } | Command::Unblock { user } => user_id(&user).map(drop),
        Command::Members { group, .. } => group_id(&group).map(drop),
        _ => Ok(()),
    };
    failed.err().map(|failed| failed.message).unwrap_or_default()
}

fn target(user: Option<String>, group: Option<String>) -> Result<Target, Failed> {
    match (user, group) {
        (Some(user), None) => user_id(&user).map(Target::User),
        (None, Some(group)) => group_id(&group).map(Target::Group),
        _ => Err(Failed::usage(&"give a user or a group, one of them")),
    }
}

fn user_id(text: &str) -> Result<UserId, Failed> {
    UserId::new(text).map_err(|error| Failed::usage(&error))
}

fn users(texts: &[String]) -> Result<Vec<UserId>, Failed> {
    texts.iter().map(|text| user_id(text)).collect()
}

fn group_id(text: &str) -> Result<ConversationId, Failed> {
    text.parse().map_err(|_| Failed::usage(&"a group's id has 32 hexadecimal digits"))
}

fn message(text: Option<String>, data: Option<String>, kind: Option<u32>) -> Result<v1::Message, Failed> {
    let data = match (text, data) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(data)) => STANDARD.decode(data).map_err(|error| Failed::usage(&error))?,
        _ => return Err(Failed::usage(&"give text or data (base64), one of them")),
    };
    Ok(v1::Message { kind: kind.unwrap_or(TEXT), data: data.into() })
}

fn of_sent(sent: &Sent) -> Value {
    let Number { epoch, n } = sent.number;
    json!({ "local": sent.local.0, "conversation": sent.conversation.to_string(), "epoch": epoch, "n": n })
}

fn with_code(mut fields: Value, cause: &Cause) -> Value {
    if let Cause::Closed { code, .. } | Cause::SignIn { code, .. } = cause {
        merge(&mut fields, json!({ "code": code }));
    }
    fields
}

fn merge(fields: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (fields, more) {
        fields.extend(more);
    }
}

fn fail(reference: Option<Value>, failed: &Failed) -> std::io::Result<()> {
    write("error", reference, json!({ "code": failed.code, "message": failed.message }))
}

/// One line: the event's name first, then the reference, then its fields.
fn write(event: &str, reference: Option<Value>, fields: Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(line(event, reference, fields).as_bytes())?;
    out.flush()
}

fn line(event: &str, reference: Option<Value>, fields: Value) -> String {
    let mut object = Map::new();
    object.insert("event".to_owned(), event.into());
    if let Some(reference) = reference {
        object.insert("ref".to_owned(), reference);
    }
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    format!("{}\n", Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_their_reference() {
        let (reference, command) = parse(br#"{"do":"send","to":"bob","text":"hi","ref":[7]}"#).unwrap();
        assert_eq!(reference, Some(json!([7])));
        assert!(matches!(command, Command::Send { to: Some(to), .. } if to == "bob"));
        for good in [
            r#"{"do":"create","name":"crew","members":["bob"]}"#,
            r#"{"do":"history","user":"bob","backward":true,"limit":5}"#,
            r#"{"do":"status"}"#,
            r#"{"do":"quit"}"#,
            r#"{"do":"quit","flush_ms":0}"#,
        ] {
            assert!(parse(good.as_bytes()).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_mistake_keeps_its_reference_as_far_as_it_can_be_read() {
        for (line, reference) in [
            ("{", None),
            ("[]", None),
            (r#"{"ref":"a"}"#, Some(json!("a"))),
            (r#"{"do":"fly","ref":1}"#, Some(json!(1))),
            (r#"{"do":"leave","ref":1}"#, Some(json!(1))),
            (r#"{"do":"status","extra":1,"ref":1}"#, Some(json!(1))),
        ] {
            let Err((kept, failed)) = parse(line.as_bytes()) else { panic!("{line} was taken") };
            assert_eq!((kept, failed.code.as_str()), (reference, "USAGE"), "{line}");
        }
    }

    #[test]
    fn a_body_is_text_or_base64() {
        let of = |text: Option<&str>, data: Option<&str>| {
            message(text.map(Into::into), data.map(Into::into), None).map(|m| m.data.to_vec())
        };
        assert_eq!(of(Some("hi"), None).ok(), Some(b"hi".to_vec()));
        assert_eq!(of(None, Some("//4=")).ok(), Some(vec![0xff, 0xfe]));
        assert!(of(None, None).is_err() && of(Some("a"), Some("b")).is_err() && of(None, Some("?")).is_err());
    }

    #[test]
    fn an_event_is_one_line() {
        let text = line("entry", Some(json!("r")), json!({ "text": "a\nb" }));
        assert!(text.ends_with('\n') && text.lines().count() == 1);
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back, json!({ "event": "entry", "ref": "r", "text": "a\nb" }));
    }
}
