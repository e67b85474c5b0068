//! A user in memory, and as its row. Decides nothing.

use bytes::Bytes;
use prost::Message;
use proto::{DeviceId, Tick, UserId, v1};

use super::SessionGrant;
use super::nodes::{Nodes, Place};
use crate::rows::{Weigh, id_heap};
use crate::settings::StateError;
use crate::sorted::Sorted;

/// A user's timeline and devices.
#[derive(Debug)]
pub(super) struct User {
    /// The highest seq.
    pub(super) head: u64,
    /// The lowest seq that is kept; head + 1 when none is.
    pub(super) first: u64,
    /// By device. May hold sessions of nodes that are gone, until the row changes the next time.
    pub(super) sessions: Sorted<DeviceId, Session>,
    pub(super) cursors: Sorted<DeviceId, Cursor>,
    /// Sessions that left the row and are to leave the stored index once the row without them is stored.
    pub(super) ended: Vec<Ended>,
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) place: Place,
    /// The tick of its start.
    pub(super) epoch: u64,
    pub(super) class: Box<str>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    /// Every entry up to it is safe on the device.
    pub(super) seq: u64,
    /// The tick of the device's last sign-in.
    pub(super) used: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) place: Place,
    pub(super) device: DeviceId,
    pub(super) at: Tick,
}

impl Default for User {
    fn default() -> Self {
        Self { head: 0, first: 1, sessions: Sorted::default(), cursors: Sorted::default(), ended: Vec::new() }
    }
}

impl User {
    /// Reads the stored row.
    pub(super) fn from_row(user: &UserId, row: Bytes, nodes: &mut Nodes) -> Result<Self, StateError> {
        let wrong =
            |cause: &dyn std::fmt::Display| StateError::unreadable(format!("the row of user {user}"), cause);
        let row = v1::UserRow::decode(row).map_err(|e| wrong(&e))?;
        let mut this = Self {
            head: row.head,
            first: row.first.max(1),
            sessions: Sorted::with_capacity(row.sessions.len()),
            cursors: Sorted::with_capacity(row.cursors.len()),
            ended: Vec::new(),
        };
        for session in row.sessions {
            let device: DeviceId = session.device.parse().map_err(|e| wrong(&e))?;
            let fence = session.fence.ok_or_else(|| wrong(&"a session without a link"))?;
            let place = nodes.place(&fence);
            let class = session.device_class.into();
            this.sessions.insert(device, Session { place, epoch: session.epoch, class });
        }
        for cursor in row.cursors {
            let device: DeviceId = cursor.device.parse().map_err(|e| wrong(&e))?;
            this.cursors.insert(device, Cursor { seq: cursor.seq, used: cursor.used });
        }
        Ok(this)
    }

    /// The row that is stored.
    pub(super) fn to_row(&self, nodes: &Nodes) -> Bytes {
        let sessions = self.sessions.iter().map(|(device, session)| {
            let fence = nodes.fence(session.place);
            v1::SessionState {
                device: device.to_string(),
                device_class: session.class.to_string(),
                fence: Some(fence_message(fence)),
                epoch: session.epoch,
            }
        });
        let cursors = self.cursors.iter().map(|(device, cursor)| v1::DeviceCursor {
            device: device.to_string(),
            seq: cursor.seq,
            used: cursor.used,
        });
        let (sessions, cursors) = (sessions.collect(), cursors.collect());
        v1::UserRow { head: self.head, first: self.first, sessions, cursors }.encode_to_vec().into()
    }

    /// The device whose session is there.
    pub(super) fn device_at(&self, place: Place) -> Option<&DeviceId> {
        self.sessions.iter().find(|(_, session)| session.place == place).map(|(device, _)| device)
    }

    /// Takes a session out of the row.
    pub(super) fn end(&mut self, device: &DeviceId, at: Tick) -> Option<Place> {
        let place = self.sessions.remove(device)?.place;
        self.ended.push(Ended { place, device: device.clone(), at });
        Some(place)
    }

    /// Takes the sessions of nodes that are gone out of the row. To be called whenever the row changes, and
    /// only then: what is in a row depends on its tick alone.
    pub(super) fn drop_ended(&mut self, nodes: &Nodes, at: Tick) {
        if self.sessions.iter().all(|(_, session)| nodes.is_valid(session.place)) {
            return;
        }
        let invalid = self.sessions.iter().filter(|(_, session)| !nodes.is_valid(session.place));
        let devices: Vec<DeviceId> = invalid.map(|(device, _)| device.clone()).collect();
        for device in devices {
            self.end(&device, at);
        }
    }

    /// What a device's session is answered.
    pub(super) fn grant(&self, user: &UserId, device: &DeviceId, nodes: &Nodes) -> Option<SessionGrant> {
        let session = self.sessions.get(device)?;
        Some(SessionGrant {
            fence: nodes.fence(session.place),
            user: user.clone(),
            epoch: session.epoch,
            head: self.head,
            first: self.first,
            cursor: self.cursors.get(device).map_or(0, |cursor| cursor.seq),
            best_cursor: self.cursors.iter().map(|(_, cursor)| cursor.seq).max().unwrap_or(0),
        })
    }
}

/// A fence as messages carry it.
pub(super) fn fence_message(fence: storage::tables::Fence) -> v1::Fence {
    v1::Fence { node: fence.node, incarnation: fence.incarnation, reactor: fence.reactor, link: fence.link }
}

impl Weigh for User {
    fn weight(&self) -> usize {
        let sessions = self.sessions.iter().map(|(device, s)| id_heap(device.as_str()) + s.class.len());
        let cursors = self.cursors.keys().map(|device| id_heap(device.as_str()));
        let ids = sessions.sum::<usize>() + cursors.sum::<usize>();
        let ended = self.ended.capacity() * size_of::<Ended>();
        size_of::<Self>() + self.sessions.heap() + self.cursors.heap() + ended + ids
    }
}
