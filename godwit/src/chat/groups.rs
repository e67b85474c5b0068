//! The groups that this device has heard of, by name, kept in a small file beside its outbox: a name is a
//! convenience, so what cannot be read or written is done without.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proto::{ConversationId, v1};
use v1::entry::Event;

use super::screen::clean;

/// Names of groups.
#[derive(Debug)]
pub(super) struct Groups {
    path: PathBuf,
    names: BTreeMap<String, String>,
}

impl Groups {
    /// What was known in this directory.
    pub(super) fn open(dir: &Path) -> Self {
        let path = dir.join("groups.json");
        let names = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path, names: names.unwrap_or_default() }
    }

    /// The group with this name (the first, if several have it) or id.
    pub(super) fn find(&self, name: &str) -> Option<ConversationId> {
        let name = name.strip_prefix('#').unwrap_or(name);
        let named = self.names.iter().find(|(_, known)| *known == name).map(|(id, _)| id.as_str());
        named.unwrap_or(name).parse().ok()
    }

    /// What to call a group.
    pub(super) fn name(&self, group: &ConversationId) -> String {
        let id = group.to_string();
        let short = || id.get(..8).unwrap_or_default().to_owned();
        self.names.get(&id).filter(|name| !name.is_empty()).map_or_else(short, |name| clean(name))
    }

    /// Learns from an entry.
    pub(super) fn hear(&mut self, entry: &v1::Entry) {
        let Ok(group) = ConversationId::from_slice(&entry.conversation) else { return };
        match &entry.event {
            Some(Event::GroupCreated(created)) => self.learn(&group, &created.name),
            Some(Event::MembersAdded(added)) => self.learn(&group, &added.name),
            Some(Event::GroupRenamed(renamed)) => self.learn(&group, &renamed.name),
            _ => {}
        }
    }

    /// From now on the group is called so.
    pub(super) fn learn(&mut self, group: &ConversationId, name: &str) {
        let old = self.names.insert(group.to_string(), name.to_owned());
        if old.as_deref() != Some(name)
            && let Ok(bytes) = serde_json::to_vec_pretty(&self.names)
        {
            // Without the file the names are known until the end of this run.
            let new = self.path.with_extension("new");
            let _ = std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_name_and_by_id_in_the_next_run_too() {
        let dir = tempfile::tempdir().unwrap();
        let group: ConversationId = "00112233445566778899aabbccddeeff".parse().unwrap();
        let mut groups = Groups::open(dir.path());
        assert_eq!(groups.name(&group), "00112233");
        let renamed = Event::GroupRenamed(v1::GroupRenamed { name: "the\u{1b} crew".into() });
        let entry =
            v1::Entry { conversation: group.to_bytes(), event: Some(renamed), ..v1::Entry::default() };
        groups.hear(&entry);
        let groups = Groups::open(dir.path());
        assert_eq!(groups.find("#the\u{1b} crew"), Some(group));
        assert_eq!(groups.find(&group.to_string()), Some(group));
        assert_eq!(groups.find("crew"), None);
        assert!(!groups.name(&group).contains('\u{1b}'));
    }
}
