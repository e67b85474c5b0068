//! A person's conversation: what is typed goes out, what arrives is shown above the prompt.

use std::collections::{HashMap, VecDeque};

use client::{Cause, Client, Event, EventStream, LocalId, Number, Sent, Target};
use proto::{ConversationId, DeviceId, UserId, v1};

use super::command::{self, Command};
use super::groups::Groups;
use super::screen::{Screen, Typed, clean, time_of_day};
use super::{Ended, FLUSH, FLUSH_INTERRUPTED, entry};

/// Messages of a conversation that are shown on entering it.
const HISTORY: u32 = 20;
/// Own texts that are remembered until their entry comes.
const SENT_MAX: usize = 1024;

/// Who talks.
pub(super) struct Me {
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    pub(super) server: String,
}

/// A conversation at the terminal.
pub(super) struct Talk {
    me: Me,
    client: Client,
    groups: Groups,
    target: Option<Target>,
    live: bool,
    /// The highest number that was shown, by conversation: a page of history and the timeline overlap.
    shown: HashMap<ConversationId, u64>,
    /// What was said and not yet acknowledged, and what was and has no entry yet.
    unacked: VecDeque<(LocalId, String)>,
    sent: VecDeque<(ConversationId, Number, String)>,
}

impl Talk {
    pub(super) fn new(me: Me, client: Client, groups: Groups, target: Option<Target>) -> Self {
        let (shown, unacked, sent) = (HashMap::new(), VecDeque::new(), VecDeque::new());
        Self { me, client, groups, target, live: false, shown, unacked, sent }
    }

    /// Until somebody ends it.
    pub(super) async fn run(mut self, mut events: EventStream) -> anyhow::Result<Ended> {
        let mut screen = Screen::open(&self.prompt())?;
        let Me { user, server, .. } = &self.me;
        screen.print(&format!("You are {user}; connecting to {server} … (/help shows what you can do)"))?;
        let ended = loop {
            tokio::select! {
                typed = screen.next() => match typed? {
                    Typed::End => break Ended::Quit,
                    Typed::Interrupt => break Ended::Interrupted,
                    Typed::Line(line) => if !self.line(&mut screen, &line).await? { break Ended::Quit },
                },
                event = events.next() => {
                    let Some(event) = event else { break Ended::Kicked };
                    if !self.event(&mut screen, event).await? { break Ended::Kicked }
                }
            }
        };
        self.leave(&mut screen, events, ended).await?;
        Ok(ended)
    }

    async fn leave(self, screen: &mut Screen, mut events: EventStream, ended: Ended) -> anyhow::Result<()> {
        let flush = if ended == Ended::Interrupted { FLUSH_INTERRUPTED } else { FLUSH };
        // What was shown counts as read; what comes now is left to the next time.
        events.leave();
        let (left, ()) =
            tokio::join!(self.client.close(flush), async { while events.next().await.is_some() {} });
        screen.close()?;
        match left {
            Ok(0) => {}
            Ok(left) => eprintln!("{left} not sent yet: they go out when you are here again."),
            Err(error) => eprintln!("{error}: what is not sent yet goes out when you are here again."),
        }
        Ok(())
    }

    /// Does what was typed; no longer if it was to leave.
    async fn line(&mut self, screen: &mut Screen, line: &str) -> anyhow::Result<bool> {
        match command::parse(line) {
            Ok(Command::Quit) => return Ok(false),
            Ok(command) => {
                if let Err(error) = self.command(screen, command).await {
                    screen.print(&format!("  ✗ {error:#}"))?;
                }
            }
            Err(hint) => screen.print(&format!("  ✗ {hint}"))?,
        }
        Ok(true)
    }

    async fn command(&mut self, screen: &mut Screen, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Nothing | Command::Quit => {}
            Command::Help => screen.print(command::HELP)?,
            Command::Who => screen.print(&self.who())?,
            Command::Say(text) => self.say(screen, text).await?,
            Command::To(name) => self.go_to(screen, &name).await?,
            Command::Group { name, members } => {
                let (group, _) = self.client.create_group(&name, &members).await?;
                self.groups.learn(&group, &name);
                self.target = Some(Target::Group(group));
                screen.prompt(&self.prompt())?;
            }
            Command::Add(users) => drop(self.client.add_members(self.group()?, &users).await?),
            Command::Remove(users) => drop(self.client.remove_members(self.group()?, &users).await?),
            Command::Rename(name) => drop(self.client.rename_group(self.group()?, &name).await?),
            Command::Leave => drop(self.client.leave_group(self.group()?).await?),
            Command::Dissolve => drop(self.client.dissolve_group(self.group()?).await?),
            Command::Members => self.members(screen).await?,
            Command::History(count) => self.history(screen, count).await?,
            Command::Block(user) => drop(self.client.block(self.user(user)?).await?),
            Command::Unblock(user) => drop(self.client.unblock(self.user(user)?).await?),
        }
        Ok(())
    }

    async fn say(&mut self, screen: &mut Screen, text: String) -> anyhow::Result<()> {
        let Some(target) = &self.target else { anyhow::bail!("to whom? type /to NAME first") };
        let local = self.client.send_text(target.clone(), &text).await?;
        if !self.live {
            screen.print(&format!("  … {} (waits for the server)", clean(&text)))?;
        }
        remember(&mut self.unacked, (local, text));
        Ok(())
    }

    async fn go_to(&mut self, screen: &mut Screen, name: &str) -> anyhow::Result<()> {
        let target = match self.groups.find(name) {
            Some(group) => Target::Group(group),
            None if name.starts_with('#') => anyhow::bail!("no group {name} is known here"),
            None => Target::User(UserId::new(name.strip_prefix('@').unwrap_or(name))?),
        };
        self.target = Some(target);
        screen.prompt(&self.prompt())?;
        if self.live {
            self.history(screen, HISTORY).await?;
        }
        Ok(())
    }

    async fn members(&self, screen: &mut Screen) -> anyhow::Result<()> {
        let group = self.group()?;
        let min_no = self.shown.get(&group).copied().unwrap_or(0);
        let members = self.client.members(group, min_no).await?;
        let names = members.members.iter().map(|member| {
            let owner = if member.role() == v1::Role::Owner { " (owner)" } else { "" };
            format!("{}{owner}", clean(&member.user))
        });
        screen.print(&format!("  {} in #{}: {}", members.members.len(), clean(&members.name), join(names)))
    }

    async fn history(&mut self, screen: &mut Screen, count: u32) -> anyhow::Result<()> {
        let Some(target) = &self.target else { anyhow::bail!("of what? type /to NAME first") };
        let page = self.client.history(target, 0, true, count).await?;
        if page.more {
            screen.print("  … (/history N shows more)")?;
        }
        for entry in page.entries.iter().rev() {
            if let Some(line) = self.show(entry) {
                screen.print(&line)?;
            }
        }
        Ok(())
    }

    /// Shows what happened; no longer if the server ended it for good.
    async fn event(&mut self, screen: &mut Screen, event: Event) -> anyhow::Result<bool> {
        match event {
            Event::Connected { .. } => {
                screen.print("  connected")?;
                let first = !std::mem::replace(&mut self.live, true) && self.shown.is_empty();
                if first && self.target.is_some() {
                    // A conversation without a beginning has no history: nothing to complain about.
                    let _ = self.history(screen, HISTORY).await;
                }
            }
            Event::Disconnected { cause, retry_in_ms } => {
                self.live = false;
                return self.disconnected(screen, &cause, retry_in_ms);
            }
            Event::Entry(entry) => self.entry(screen, &entry)?,
            Event::Truncated { .. } => screen.print("  older messages are no longer kept by the server")?,
            Event::Acked(sent) => self.acked(&sent),
            Event::Rejected { conversation, number, name, .. } => {
                let text = self.forget(&conversation, number).unwrap_or_default();
                screen.print(&format!("  ✗ not delivered: {}: {}", entry::reason(&name), clean(&text)))?;
            }
            Event::Refused { sent, name, .. } => {
                let text = self.take_unacked(sent.local).unwrap_or_default();
                screen.print(&format!("  ✗ not taken: {}: {}", entry::reason(&name), clean(&text)))?;
            }
            Event::Kicked { .. } => {}
        }
        Ok(true)
    }

    fn disconnected(&self, screen: &mut Screen, cause: &Cause, retry: Option<u64>) -> anyhow::Result<bool> {
        let why = clean(&cause.to_string());
        match retry {
            Some(0) => {}
            Some(ms) => screen.print(&format!("  {why}; trying again in {} s", ms.div_ceil(1000)))?,
            None => screen.print(&format!("  {why}"))?,
        }
        Ok(retry.is_some())
    }

    fn entry(&mut self, screen: &mut Screen, entry: &v1::Entry) -> anyhow::Result<()> {
        self.groups.hear(entry);
        if matches!(entry.event, Some(v1::entry::Event::GroupRenamed(_) | v1::entry::Event::GroupCreated(_)))
        {
            screen.prompt(&self.prompt())?;
        }
        if matches!(entry.event, Some(v1::entry::Event::Rejected(_))) {
            return Ok(());
        }
        let Ok(conversation) = ConversationId::from_slice(&entry.conversation) else { return Ok(()) };
        if self.is_own(entry) {
            self.forget(&conversation, Number { epoch: entry.epoch, n: entry.n });
        }
        if entry.no > 0 && self.shown.get(&conversation).is_some_and(|shown| entry.no <= *shown) {
            return Ok(());
        }
        match self.show(entry) {
            Some(line) => screen.print(&line),
            None => Ok(()),
        }
    }

    /// An entry as a line: when, where (if not here), who, what.
    fn show(&mut self, entry: &v1::Entry) -> Option<String> {
        let conversation = ConversationId::from_slice(&entry.conversation).ok()?;
        let shown = self.shown.entry(conversation).or_insert(0);
        *shown = entry.no.max(*shown);
        let (time, text) = (time_of_day(entry.time_us), entry::text(entry)?);
        let mine = entry.sender == self.me.user.as_str();
        let who = if mine { "you".to_owned() } else { clean(&entry.sender) };
        let mark = if mine && entry::is_said(entry) { " ✓" } else { "" };
        let here = self.target.as_ref().is_some_and(|target| self.conversation(target) == conversation);
        let place = match entry.peer.as_str() {
            _ if here => String::new(),
            "" => format!("#{} ", self.groups.name(&conversation)),
            peer if mine => format!("(to {}) ", clean(peer)),
            _ => "(to you) ".to_owned(),
        };
        Some(match entry::is_said(entry) {
            true => format!("{time} {place}{who}: {text}{mark}"),
            false => format!("{time} {place}* {who} {text}"),
        })
    }

    fn acked(&mut self, sent: &Sent) {
        if let Some(text) = self.take_unacked(sent.local) {
            remember(&mut self.sent, (sent.conversation, sent.number, text));
        }
    }

    fn take_unacked(&mut self, local: LocalId) -> Option<String> {
        let index = self.unacked.iter().position(|(known, _)| *known == local)?;
        self.unacked.remove(index).map(|(_, text)| text)
    }

    fn forget(&mut self, conversation: &ConversationId, number: Number) -> Option<String> {
        let index = self.sent.iter().position(|(c, n, _)| c == conversation && *n == number)?;
        self.sent.remove(index).map(|(_, _, text)| text)
    }

    fn is_own(&self, entry: &v1::Entry) -> bool {
        entry.sender == self.me.user.as_str() && entry.device == self.me.device.as_str()
    }

    fn conversation(&self, target: &Target) -> ConversationId {
        match target {
            Target::User(user) => ConversationId::direct(&self.me.user, user),
            Target::Group(group) => *group,
        }
    }

    fn group(&self) -> anyhow::Result<ConversationId> {
        match &self.target {
            Some(Target::Group(group)) => Ok(*group),
            _ => anyhow::bail!("you are not in a group here: /to GROUP first"),
        }
    }

    fn user(&self, named: Option<UserId>) -> anyhow::Result<UserId> {
        match (named, &self.target) {
            (Some(user), _) => Ok(user),
            (None, Some(Target::User(user))) => Ok(user.clone()),
            (None, _) => anyhow::bail!("whom?"),
        }
    }

    fn place(&self) -> String {
        match &self.target {
            Some(Target::User(user)) => clean(user.as_str()),
            Some(Target::Group(group)) => format!("#{}", self.groups.name(group)),
            None => "nobody yet".to_owned(),
        }
    }

    fn prompt(&self) -> String {
        let me = clean(self.me.user.as_str());
        if self.target.is_some() { format!("{me} → {}> ", self.place()) } else { format!("{me}> ") }
    }

    fn who(&self) -> String {
        let Me { user, device, server } = &self.me;
        let state = if self.live { "connected" } else { "not connected" };
        let mut out = format!("  you are {user} on device {device}, {state} to {server}");
        out.push_str(&format!(", talking to {}", self.place()));
        if let Some(Target::Group(group)) = &self.target {
            out.push_str(&format!(" (id {group})"));
        }
        if !self.unacked.is_empty() {
            out.push_str(&format!("; {} not sent yet", self.unacked.len()));
        }
        out
    }
}

fn remember<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() >= SENT_MAX {
        list.pop_front();
    }
    list.push_back(item);
}

fn join(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
