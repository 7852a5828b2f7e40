//! Who may pass: the one place that refuses messages by rule, and tells of it.

use std::sync::Arc;

use polyport_codecs::{Fault, View};
use polyport_router::Route;

use super::Engine;
use super::fault::{Fate, holds};
use super::state::DownId;
use crate::audit::{Line, Sink};
use crate::edit::Reply;
use crate::guard::{Audit, Guard, Wrong};
use crate::snapshot::Action as RouteAction;

/// Denials that a worker tells one by one in a second.
const TOLD: u64 = 1000;

/// Why a message does not pass now.
pub(super) enum Stop {
    /// It gets a native error.
    Refused(Fault),
    /// It gets this answer.
    Answer(Arc<Reply>),
    /// Its connection is reset.
    Reset,
    /// It has to wait; its connection is woken.
    Wait,
}

/// Why a rule refused a message, in the audit log's words.
#[derive(Debug, Clone, Copy)]
pub(super) enum Denied {
    Rule,
    Only,
    Limit(usize),
    Default,
}

/// Where a worker tells of denials, and how many it told.
#[derive(Default)]
pub(super) struct Auditor {
    sink: Option<Sink>,
    /// The second that it counts in.
    second: u64,
    told: u64,
    suppressed: u64,
}

impl Auditor {
    /// One for this audit; a file is opened elsewhere.
    pub(super) fn new(audit: &Audit) -> Self {
        let sink = (*audit == Audit::Log).then(crate::audit::log);
        Self { sink, ..Self::default() }
    }

    /// Whether there is room for one more line in this second.
    fn may_tell(&mut self, now: u64) -> Option<&Sink> {
        self.sink.as_ref()?;
        if now / 1000 != self.second {
            self.turn(now / 1000);
        }
        self.told += 1;
        if self.told > TOLD {
            self.suppressed += 1;
            return None;
        }
        self.sink.as_ref()
    }

    /// Another second begins.
    fn turn(&mut self, second: u64) {
        (self.second, self.told) = (second, 0);
        if self.suppressed > 0
            && let Some(sink) = &self.sink
            && sink(Line::suppressed(self.suppressed))
        {
            self.suppressed = 0;
        }
    }
}

impl Engine {
    /// Tells of denials that were only counted, once their second is over.
    pub(super) fn tell_suppressed(&mut self) {
        if self.auditor.suppressed > 0 && self.now / 1000 != self.auditor.second {
            self.auditor.turn(self.now / 1000);
        }
    }

    /// Denials are told there from now on.
    pub fn audit_to(&mut self, sink: Sink) {
        self.auditor.sink = Some(sink);
    }

    /// Whether a message may take its route now. Asked again of a message that waits, it
    /// counts and draws nothing twice.
    pub(super) fn check(
        &mut self,
        id: DownId,
        route: (usize, &Route<RouteAction>),
        guard: &Guard,
        view: &View<'_>,
    ) -> Result<Fate, Stop> {
        let Some(down) = self.downs.get(id) else { return Err(Stop::Refused(Fault::ShuttingDown)) };
        let fate = match down.fate {
            Some(fate) => fate,
            None => {
                self.permit(id, route, guard, view).map_err(Stop::Refused)?;
                let fate = self.draw(id, guard, view);
                if let Some(down) = self.downs.get_mut(id) {
                    down.fate = Some(fate);
                }
                fate
            }
        };
        if fate.until > self.now {
            return Err(Stop::Wait);
        }
        match fate.ends.and_then(|at| guard.faults.get(at)).map(|fault| &fault.what) {
            Some(Wrong::Abort(fault)) => Err(Stop::Refused(*fault)),
            Some(Wrong::Respond(reply)) => Err(Stop::Answer(reply.clone())),
            Some(Wrong::Reset) => Err(Stop::Reset),
            _ => Ok(fate),
        }
    }

    /// Whether the rules let a message take its route; takes its tokens.
    pub(super) fn permit(
        &mut self,
        id: DownId,
        route: (usize, &Route<RouteAction>),
        guard: &Guard,
        view: &View<'_>,
    ) -> Result<(), Fault> {
        let fixed = guard.only.as_ref().is_some_and(|only| only.fixed);
        let known = fixed && self.downs.get(id).is_some_and(|down| down.let_in == Some(route.0));
        if !known && !holds(guard.only.as_ref(), view) {
            self.denied(id, Some(route), Denied::Only, view);
            return Err(Fault::Denied);
        }
        if fixed
            && !known
            && let Some(down) = self.downs.get_mut(id)
        {
            down.let_in = Some(route.0);
        }
        if let Err(limit) = guard.limits.take(view, self.micros) {
            self.denied(id, Some(route), Denied::Limit(limit), view);
            return Err(Fault::Overloaded);
        }
        Ok(())
    }

    /// What becomes of a message that no route matches.
    pub(super) fn unrouted(&mut self, id: DownId, view: &View<'_>) -> Fault {
        if !self.snapshot.access.deny {
            return Fault::NoRoute;
        }
        self.denied(id, None, Denied::Default, view);
        Fault::Denied
    }

    /// Whether a message on a connection held for its client may pass: its route was
    /// chosen by the message that took the connection, but the rules are the same.
    pub(super) fn permit_held(&mut self, id: DownId, buf: &[u8]) -> Result<(), Fault> {
        let snapshot = self.config_of_down(id);
        if !snapshot.access.strict {
            return Ok(());
        }
        let down = self.downs.get_mut(id).ok_or(Fault::ShuttingDown)?;
        let metadata = down.metadata.take().ok_or(Fault::ShuttingDown)?;
        let view = metadata.view(buf);
        let verdict = match snapshot.routes.choose(&view) {
            None if snapshot.access.deny => Err(self.unrouted(id, &view)),
            None => Ok(()),
            Some(route) => match &route.1.then {
                RouteAction::Deny => {
                    self.denied(id, Some(route), Denied::Rule, &view);
                    Err(Fault::Denied)
                }
                RouteAction::Respond(_) => Err(Fault::Denied),
                RouteAction::Forward(forward) => match &forward.guard {
                    Some(guard) => self.permit(id, route, guard, &view),
                    None => Ok(()),
                },
            },
        };
        if let Some(down) = self.downs.get_mut(id) {
            down.metadata = Some(metadata);
        }
        verdict
    }

    /// Tells that a message was denied, within bounds.
    pub(super) fn denied(
        &mut self,
        id: DownId,
        route: Option<(usize, &Route<RouteAction>)>,
        why: Denied,
        view: &View<'_>,
    ) {
        let snapshot = self.config_of_down(id);
        self.measure_denial(route.and_then(|(at, _)| snapshot.route_id(at)), why);
        if route.is_some_and(|(at, _)| snapshot.access.silent.get(at).copied().unwrap_or(false)) {
            return;
        }
        let now = self.now;
        let (Some(sink), Some(down)) = (self.auditor.may_tell(now), self.downs.get(id)) else {
            return;
        };
        let mut line = Line(serde_json::Map::new());
        if let Some(listener) = snapshot.listeners.get(down.listener) {
            line.set("listener", &listener.name);
        }
        line.set("source.ip", down.peer.source.ip().to_canonical().to_string());
        let protocol = down.protocol.and_then(|at| snapshot.protocols.get(at));
        line.set("protocol", protocol.map_or("tcp", |enabled| enabled.protocol.name()));
        if let Some(tls) = &down.peer.tls {
            if let Some(subject) = &tls.client_subject {
                line.set("tls.client.subject", subject);
            }
            if let Some(names) = &tls.client_san {
                line.set("tls.client.san", names);
            }
        }
        let guard = match route.map(|(_, route)| &route.then) {
            Some(RouteAction::Forward(forward)) => forward.guard.as_deref(),
            _ => None,
        };
        line.set(
            "reason",
            match why {
                Denied::Rule => "deny".to_owned(),
                Denied::Only => "only".to_owned(),
                Denied::Default => "default".to_owned(),
                Denied::Limit(at) => match guard.and_then(|guard| guard.limits.0.get(at)) {
                    Some(limit) => format!("limit: {limit}"),
                    None => "limit".to_owned(),
                },
            },
        );
        if let Some((_, route)) = route {
            line.set("route", &route.name);
            let only = guard.and_then(|guard| guard.only.as_ref());
            let only = only.map_or(&[][..], |only| &only.predicates);
            let limits = guard.map_or(&[][..], |guard| &guard.limits.0);
            let asked = route.when.iter().chain(only).map(|predicate| &predicate.slot);
            let names: Vec<&str> = snapshot.interest.names().collect();
            for slot in asked.chain(limits.iter().flat_map(|limit| limit.slots())) {
                if let (Some(name), Some(value)) = (names.get(usize::from(slot.0)), view.get(*slot))
                {
                    line.set(name, value);
                }
            }
        }
        if !sink(line) {
            self.auditor.suppressed += 1;
        }
    }
}
