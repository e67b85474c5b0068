//! The conn nodes: from which incarnation on their sessions are valid, and the index of sessions by node. The
//! index holds every valid session of the partition, whether its user is in memory or not; it may hold one
//! that has ended, never the other way round.

use std::collections::BTreeMap;

use proto::{DeviceId, UserId, v1};
use storage::tables::{Fence, SessionRow};

use crate::rows::id_heap;

/// A conn node, by its place in [`Nodes`]; means nothing outside of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NodeNo(u32);

/// A [`Fence`] without the name of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    incarnation: u64,
    link: u64,
    reactor: u32,
    node: NodeNo,
}

impl Place {
    /// Whether it is an earlier link of the same reactor: those are numbered as they sign in.
    pub(super) fn is_before(self, other: Self) -> bool {
        let reactor = |place: Self| (place.node, place.incarnation, place.reactor);
        reactor(self) == reactor(other) && self.link < other.link
    }
}

/// Whose session it is.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) user: UserId,
    pub(super) device: DeviceId,
}

/// The sessions of one incarnation, by reactor and link.
type Links = BTreeMap<(u32, u64), Holder>;

#[derive(Debug)]
struct Node {
    name: String,
    /// Sessions of lower incarnations have ended.
    floor: u64,
    incarnations: BTreeMap<u64, Links>,
}

/// Every node that a session or a floor names.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    numbers: BTreeMap<String, NodeNo>,
    nodes: Vec<Node>,
    sessions: usize,
    id_bytes: usize,
}

impl Nodes {
    /// Bytes of a session in the index: a tree is filled to two thirds.
    const SESSION_BYTES: usize = size_of::<((u32, u64), Holder)>() * 3 / 2;

    /// Raises the incarnation from which a node's sessions are valid. Those below leave the index.
    pub(super) fn raise(&mut self, node: &str, floor: u64) {
        let number = self.number(node);
        let Some(node) = self.node_mut(number) else { return };
        if floor <= node.floor {
            return;
        }
        node.floor = floor;
        let valid = node.incarnations.split_off(&floor);
        let ended = std::mem::replace(&mut node.incarnations, valid);
        self.sessions -= ended.values().map(BTreeMap::len).sum::<usize>();
        self.id_bytes -= ended.values().flat_map(BTreeMap::values).map(Holder::id_bytes).sum::<usize>();
    }

    pub(super) fn floor(&self, node: &str) -> u64 {
        self.find(node).map_or(0, |node| node.floor)
    }

    /// The nodes with a floor, in the order of their names.
    pub(super) fn floors(&self) -> Vec<v1::NodeFloor> {
        let nodes = self.numbers.values().filter_map(|number| self.node(*number));
        let floors = nodes.filter(|node| node.floor > 0);
        floors.map(|node| v1::NodeFloor { node: node.name.clone(), incarnation: node.floor }).collect()
    }

    /// The place that a fence names; its node becomes known.
    pub(super) fn place(&mut self, fence: &v1::Fence) -> Place {
        let node = self.number(&fence.node);
        Place { incarnation: fence.incarnation, link: fence.link, reactor: fence.reactor, node }
    }

    /// The place that a fence names, if its node is known: no session is at any other.
    pub(super) fn known_place(&self, fence: &v1::Fence) -> Option<Place> {
        let node = *self.numbers.get(&fence.node)?;
        Some(Place { incarnation: fence.incarnation, link: fence.link, reactor: fence.reactor, node })
    }

    /// The fence that names a place.
    pub(super) fn fence(&self, place: Place) -> Fence {
        Fence {
            node: self.node(place.node).map(|node| node.name.clone()).unwrap_or_default(),
            incarnation: place.incarnation,
            reactor: place.reactor,
            link: place.link,
        }
    }

    /// Whether sessions there are valid.
    pub(super) fn is_valid(&self, place: Place) -> bool {
        self.node(place.node).is_none_or(|node| place.incarnation >= node.floor)
    }

    /// Takes a valid session into the index; any other changes nothing.
    pub(super) fn insert(&mut self, place: Place, user: UserId, device: DeviceId) {
        let Some(node) = self.node_mut(place.node) else { return };
        if place.incarnation < node.floor {
            return;
        }
        let holder = Holder { user, device };
        let bytes = holder.id_bytes();
        let links = node.incarnations.entry(place.incarnation).or_default();
        match links.insert((place.reactor, place.link), holder) {
            None => self.sessions += 1,
            Some(old) => self.id_bytes -= old.id_bytes(),
        }
        self.id_bytes += bytes;
    }

    /// Takes a session out of the index.
    pub(super) fn remove(&mut self, place: Place) -> Option<Holder> {
        let node = self.node_mut(place.node)?;
        let links = node.incarnations.get_mut(&place.incarnation)?;
        let holder = links.remove(&(place.reactor, place.link))?;
        if links.is_empty() {
            node.incarnations.remove(&place.incarnation);
        }
        self.sessions -= 1;
        self.id_bytes -= holder.id_bytes();
        Some(holder)
    }

    pub(super) fn get(&self, node: &str, incarnation: u64, reactor: u32, link: u64) -> Option<&Holder> {
        self.find(node)?.incarnations.get(&incarnation)?.get(&(reactor, link))
    }

    /// The sessions of one incarnation of a node, by reactor and link.
    pub(super) fn links(&self, node: &str, incarnation: u64) -> impl Iterator<Item = (u32, u64, &Holder)> {
        let links = self.find(node).and_then(|node| node.incarnations.get(&incarnation));
        links.into_iter().flatten().map(|((reactor, link), holder)| (*reactor, *link, holder))
    }

    /// Whether a node has sessions of incarnations below this one.
    pub(super) fn has_below(&self, node: &str, incarnation: u64) -> bool {
        self.find(node).is_some_and(|node| node.incarnations.range(..incarnation).next().is_some())
    }

    /// How many sessions the index holds.
    pub(super) fn sessions(&self) -> usize {
        self.sessions
    }

    /// Bytes of memory of the index.
    pub(super) fn bytes(&self) -> usize {
        self.sessions * Self::SESSION_BYTES + self.id_bytes
    }

    /// The session as the tables index it.
    pub(super) fn row(&self, place: Place, user: &UserId, device: &DeviceId) -> SessionRow {
        SessionRow { fence: self.fence(place), user: user.clone(), device: device.clone() }
    }

    fn number(&mut self, name: &str) -> NodeNo {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = NodeNo(u32::try_from(self.nodes.len()).expect("nodes are counted in thousands"));
        self.nodes.push(Node { name: name.into(), floor: 0, incarnations: BTreeMap::new() });
        self.numbers.insert(name.into(), number);
        number
    }

    fn find(&self, name: &str) -> Option<&Node> {
        self.node(*self.numbers.get(name)?)
    }

    fn node(&self, number: NodeNo) -> Option<&Node> {
        self.nodes.get(number.0 as usize)
    }

    fn node_mut(&mut self, number: NodeNo) -> Option<&mut Node> {
        self.nodes.get_mut(number.0 as usize)
    }
}

impl Holder {
    fn id_bytes(&self) -> usize {
        id_heap(self.user.as_str()) + id_heap(self.device.as_str())
    }
}
