//! Connections that leave for another process, and those that come from one.
//!
//! A client's connection can go where nothing of it is under way: between two messages,
//! with no reply owed and nothing held for it upstream. One that is busy is not asked for
//! its next message until then; what it sends meanwhile waits in its socket. What cannot
//! go (TLS, streams of a connection that carries many, sessions) is drained.

use std::rc::Rc;

use polyport_codecs::Profile;

use super::pool::Party;
use super::state::{ConnId, DownId, DownState, Downstream};
use super::{Engine, Peer};

/// Most bytes of a message begun that go along; a larger one is waited for.
const MOST: usize = 128 << 10;

/// Which connections the other process takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heir {
    /// By listener: the protocols (indices into the snapshot's) whose connections it takes.
    /// An empty list: none at all, not even those whose protocol is not known yet.
    pub takes: Vec<Vec<usize>>,
}

impl Heir {
    fn wants(&self, down: &Downstream) -> bool {
        let Some(protocols) = self.takes.get(down.listener) else { return false };
        match down.protocol {
            Some(protocol) => protocols.contains(&protocol),
            None => !protocols.is_empty(),
        }
    }
}

/// A connection that has left the engine, to be taken in by another.
#[derive(Debug)]
pub struct Departing {
    /// Which it was.
    pub conn: ConnId,
    /// What there is to know of it.
    pub facts: Carried,
}

/// All that an engine has to know of a connection that another had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Index into the snapshot's listeners.
    pub listener: usize,
    /// Index into the snapshot's protocols; `None`: not known yet.
    pub protocol: Option<usize>,
    /// The client.
    pub peer: Rc<Peer>,
    /// The state that the client has set up. May hold secrets: never logged.
    pub profile: Profile,
    /// What the decoder remembers from message to message
    /// ([`Decoder::memory`](polyport_codecs::Decoder::memory)).
    pub memory: Vec<u8>,
    /// What was read and not consumed: [`Engine::received`] is to be given it.
    pub bytes: Vec<u8>,
}

impl Engine {
    /// From now on connections that `heir` takes leave as soon as they can
    /// ([`Engine::next_departing`]); [`Engine::drain`] spares them.
    pub fn relinquish(&mut self, heir: Heir) {
        self.heir = Some(heir);
        let downs: Vec<DownId> = self.downs.iter().map(|(id, _)| id).collect();
        for id in downs {
            let Some(down) = self.downs.get_mut(id) else { continue };
            match down.state {
                // Looked at again, it is held back if it can go.
                DownState::Idle if down.parked_head.is_none() => {
                    down.parked = true;
                    self.wake_down(id);
                }
                DownState::Detecting => self.leavers.push(id),
                _ => {}
            }
        }
    }

    /// There is nobody any more to take connections: those that are left stay.
    pub fn disown(&mut self) {
        self.heir = None;
        self.leavers.clear();
        let downs: Vec<DownId> = self.downs.iter().map(|(id, _)| id).collect();
        for id in downs {
            if self.downs.get(id).is_some_and(|down| down.parked_head.is_none()) {
                self.wake_down(id);
            }
            // As all others have by now, in a drain.
            self.begin_to_leave(id);
            self.tell(id);
        }
    }

    /// Whether connections leave for another process.
    pub fn has_heir(&self) -> bool {
        self.heir.is_some()
    }

    /// Whether this connection is to leave once it can, and so is not drained.
    fn can_go(&self, down: &Downstream) -> bool {
        // Its bytes are the socket's: no TLS, no stream.
        let heir = self.heir.as_ref();
        let own = !down.stream && down.peer.tls.is_none();
        // One that its client was asked to leave keeps to that.
        own && down.leaving.is_none() && heir.is_some_and(|heir| heir.wants(down))
    }

    /// Whether a drain is to pass this connection by: it leaves when it can.
    pub(super) fn goes_elsewhere(&self, id: DownId) -> bool {
        self.heir.is_some()
            && self.downs.get(id).is_some_and(|down| {
                !matches!(down.state, DownState::Session(_) | DownState::Closing { .. })
                    && self.can_go(down)
            })
    }

    /// Whether a connection that stands between two messages begins no other here, `unread`
    /// bytes of which came already.
    pub(super) fn holds_back(&mut self, id: DownId, unread: usize) -> bool {
        if self.heir.is_none() {
            return false;
        }
        let Some(down) = self.downs.get(id) else { return false };
        let between = down.parked_head.is_none()
            && down.waiting.is_none()
            && (down.held.is_none() || down.releasing);
        let remembers = down.decoder.as_ref().is_none_or(|decoder| decoder.memory().is_some());
        if !between || down.eof || unread > MOST || !remembers || !self.can_go(down) {
            return false;
        }
        if let Some(down) = self.downs.get_mut(id) {
            down.parked = true;
        }
        self.leavers.push(id);
        true
    }

    /// A connection that came while others leave follows them.
    pub(super) fn follows(&mut self, id: DownId) {
        if self.heir.is_some() {
            self.leavers.push(id);
        }
    }

    /// The next connection that leaves: it is forgotten here, and its socket no longer ours.
    pub fn next_departing(&mut self) -> Option<Departing> {
        loop {
            let id = self.leavers.pop()?;
            let Some(down) = self.downs.get(id) else { continue };
            // One that still waits for something is put on the list again when it has it.
            if !self.can_go(down) || !is_clear(down) {
                continue;
            }
            let memory = down.decoder.as_ref().map_or(Some(Vec::new()), |had| had.memory());
            let Some(memory) = memory else { continue };
            let Some(down) = self.downs.remove(id) else { continue };
            self.measure_departure(&down);
            let profile = self.profiles.get(down.profile);
            let profile = profile.map(|state| state.profile.clone()).unwrap_or_default();
            self.drop_profile(down.profile, Party::Downstream);
            let Downstream { listener, protocol, peer, input: bytes, .. } = *down;
            let facts = Carried { listener, protocol, peer, profile, memory, bytes };
            return Some(Departing { conn: ConnId::Down(id), facts });
        }
    }

    /// Takes in a connection that another engine had; [`Carried::bytes`] are to be given to
    /// [`Engine::received`] next. `None` where it cannot be had: close it.
    pub fn adopt(&mut self, facts: &Carried) -> Option<ConnId> {
        let conn = match facts.protocol {
            None => self.accept(facts.listener, facts.peer.clone())?,
            Some(protocol) => self.accept_as(facts.listener, facts.peer.clone(), protocol)?,
        };
        let ConnId::Down(id) = conn else { return None };
        let known = match self.downs.get_mut(id).and_then(|down| down.decoder.as_mut()) {
            Some(decoder) => decoder.recall(&facts.memory),
            None => facts.memory.is_empty(),
        };
        if !known {
            self.close_down(id);
            return None;
        }
        if facts.profile != Profile::default() {
            let at = self.profile_index(facts.profile.clone());
            self.use_profile(at, Party::Downstream);
            if let Some(down) = self.downs.get_mut(id) {
                let had = std::mem::replace(&mut down.profile, at);
                self.drop_profile(had, Party::Downstream);
            }
        }
        Some(conn)
    }
}

/// Whether nothing of a connection is under way.
fn is_clear(down: &Downstream) -> bool {
    matches!(down.state, DownState::Idle | DownState::Detecting)
        && down.in_flight == 0
        && down.lanes.is_empty()
        && down.out.is_empty()
        && down.holding_back.is_empty()
        && down.held.is_none()
        && down.waiting.is_none()
        && down.parked_head.is_none()
        && down.input.len() <= MOST
        && !down.eof
}
