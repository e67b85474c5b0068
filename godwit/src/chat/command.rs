//! What a person types: a text, or a command that begins with a slash. Pure.

use proto::UserId;

/// Shown for /help.
pub(super) const HELP: &str = "\
Type a message and press Enter. Commands:
  /to NAME                     talk to a user, or to a group (#NAME where a user has the same name)
  /group NEW NAME USER…        make a group with these users and talk to it (NAME in \"…\" if it has spaces)
  /add USER…  /remove USER…    members of this group
  /rename NAME                 this group
  /leave  /dissolve            this group
  /members                     of this group
  /history [N]                 the last N messages here (20)
  /block [USER]  /unblock [USER]
  /who                         you, the server, whom you talk to
  /quit                        or Ctrl-D
A message that begins with a slash: type two. Marks: ✓ in the conversation, … waiting, ✗ not delivered.";

const COMMANDS: [&str; 16] = [
    "/to",
    "/group",
    "/add",
    "/remove",
    "/rename",
    "/leave",
    "/dissolve",
    "/members",
    "/history",
    "/block",
    "/unblock",
    "/who",
    "/quit",
    "/exit",
    "/help",
    "/?",
];

/// A line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Nothing,
    Say(String),
    To(String),
    Group { name: String, members: Vec<UserId> },
    Add(Vec<UserId>),
    Remove(Vec<UserId>),
    Rename(String),
    Leave,
    Dissolve,
    Members,
    History(u32),
    Block(Option<UserId>),
    Unblock(Option<UserId>),
    Who,
    Quit,
    Help,
}

/// Understands a line, or says what is wrong with it.
pub(super) fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim_end();
    if line.trim().is_empty() {
        return Ok(Command::Nothing);
    }
    if let Some(text) = line.strip_prefix("//") {
        return Ok(Command::Say(format!("/{text}")));
    }
    if !line.starts_with('/') {
        return Ok(Command::Say(line.to_owned()));
    }
    let words = words(line)?;
    let (name, rest) = words.split_first().ok_or("give a command")?;
    let users = || rest.iter().map(|word| user(word)).collect::<Result<Vec<_>, _>>();
    let some_users = || users().and_then(|users| if users.is_empty() { Err(need(name)) } else { Ok(users) });
    let maybe = || rest.first().map(|word| user(word)).transpose();
    Ok(match name.as_str() {
        "/to" => Command::To(only(name, rest)?),
        "/group" => group(rest)?,
        "/add" => Command::Add(some_users()?),
        "/remove" => Command::Remove(some_users()?),
        "/rename" => Command::Rename(rest.join(" ")).some_name(name)?,
        "/leave" => Command::Leave,
        "/dissolve" => Command::Dissolve,
        "/members" => Command::Members,
        "/history" => Command::History(count(rest)?),
        "/block" => Command::Block(maybe()?),
        "/unblock" => Command::Unblock(maybe()?),
        "/who" => Command::Who,
        "/quit" | "/exit" => Command::Quit,
        "/help" | "/?" => Command::Help,
        unknown => return Err(suggest(unknown)),
    })
}

impl Command {
    fn some_name(self, command: &str) -> Result<Self, String> {
        if matches!(&self, Command::Rename(name) if name.is_empty()) { Err(need(command)) } else { Ok(self) }
    }
}

fn group(rest: &[String]) -> Result<Command, String> {
    let usage = "type /group NEW NAME USER…, such as: /group NEW crew bob carol";
    match rest {
        [new, name, members @ ..] if new.eq_ignore_ascii_case("new") => {
            let members = members.iter().map(|word| user(word)).collect::<Result<_, _>>()?;
            Ok(Command::Group { name: name.clone(), members })
        }
        _ => Err(usage.to_owned()),
    }
}

fn user(word: &str) -> Result<UserId, String> {
    UserId::new(word.strip_prefix('@').unwrap_or(word)).map_err(|error| format!("{word}: {error}"))
}

fn count(rest: &[String]) -> Result<u32, String> {
    let Some(word) = rest.first() else { return Ok(20) };
    word.parse()
        .ok()
        .filter(|n| (1..=200).contains(n))
        .ok_or_else(|| "give a number from 1 to 200".to_owned())
}

fn only(command: &str, rest: &[String]) -> Result<String, String> {
    match rest {
        [word] => Ok(word.clone()),
        _ => Err(need(command)),
    }
}

fn need(command: &str) -> String {
    let line = HELP.lines().find(|line| line.contains(command)).unwrap_or_default();
    format!("usage: {}", line.trim())
}

fn suggest(unknown: &str) -> String {
    let near = COMMANDS.iter().map(|known| (strsim::damerau_levenshtein(unknown, known), known));
    match near.min() {
        Some((distance, known)) if distance <= 2 => format!("no command {unknown}; did you mean {known}?"),
        _ => format!("no command {unknown}; /help shows all, and // says a text that begins with a slash"),
    }
}

/// Words, some of them in quotes.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => (quoted, any) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    if quoted { Err("a \" is missing".to_owned()) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(names: &[&str]) -> Vec<UserId> {
        names.iter().map(|name| UserId::new(name).unwrap()).collect()
    }

    #[test]
    fn lines_are_understood() {
        let group = |name: &str, members| Command::Group { name: name.into(), members: users(members) };
        for (line, command) in [
            ("", Command::Nothing),
            ("  ", Command::Nothing),
            (" hello  you ", Command::Say(" hello  you".into())),
            ("//to is a command", Command::Say("/to is a command".into())),
            ("/to bob", Command::To("bob".into())),
            ("/group NEW crew bob @carol", group("crew", &["bob", "carol"])),
            ("/group new \"book club\"", group("book club", &[])),
            ("/add bob", Command::Add(users(&["bob"]))),
            ("/remove bob carol", Command::Remove(users(&["bob", "carol"]))),
            ("/rename book club", Command::Rename("book club".into())),
            ("/leave", Command::Leave),
            ("/dissolve", Command::Dissolve),
            ("/members", Command::Members),
            ("/history", Command::History(20)),
            ("/history 5", Command::History(5)),
            ("/block", Command::Block(None)),
            ("/unblock bob", Command::Unblock(Some(users(&["bob"]).remove(0)))),
            ("/who", Command::Who),
            ("/quit", Command::Quit),
            ("/help", Command::Help),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn mistakes_are_explained() {
        for (line, hint) in [
            ("/quti", "did you mean /quit?"),
            ("/usr/bin is full", "//"),
            ("/to", "usage: /to"),
            ("/add", "usage: /add"),
            ("/rename", "usage: /rename"),
            ("/group crew", "/group NEW"),
            ("/history many", "1 to 200"),
            ("/group NEW \"crew bob", "\" is missing"),
            ("/block \"\"", "1 to 64"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(hint), "{line}: {error}");
        }
    }
}
