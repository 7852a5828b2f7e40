//! Sessions whose messages are looked at: an endpoint is chosen once, by the first
//! message, and from then on each message is read, counted and, where a route
//! says so, refused or changed; what is refused is answered in the protocol, between
//! two messages of the server's.

use polyport_codecs::{After, Body, Fault, Head, Hop, Kind, Outcome, Side, Step};

use super::guard::{Denied, Stop};
use super::report::{Ending, Own};
use super::state::{DownId, DownState, UpId, UpState, Upstream};
use super::{Engine, Net, Tapped};
use crate::edit::{changes, render};
use crate::snapshot::Action as RouteAction;

impl Engine {
    /// Deals with the next piece of what a session's client says; how many bytes
    /// it took. `None`: it needs more.
    pub(super) fn converse(
        &mut self,
        id: DownId,
        up: UpId,
        rest: &[u8],
        net: &mut dyn Net,
    ) -> Option<usize> {
        let down = self.downs.get_mut(id)?;
        let dialogue = down.dialogue.as_mut()?;
        if dialogue.left > 0 {
            let count = usize::try_from(dialogue.left).unwrap_or(usize::MAX).min(rest.len());
            if count == 0 {
                return None;
            }
            dialogue.left -= count as u64;
            if !dialogue.dropping {
                self.pass_up(id, up, rest.get(..count).unwrap_or_default(), net);
            }
            return Some(count);
        }
        if dialogue.steps {
            let dropping = dialogue.dropping;
            return match self.step(id, rest)? {
                Step::Body(count) | Step::Framing(count) => {
                    if !dropping {
                        self.pass_up(id, up, rest.get(..count).unwrap_or_default(), net);
                    }
                    Some(count)
                }
                _ => {
                    self.downs.get_mut(id)?.dialogue.as_mut()?.steps = false;
                    Some(0)
                }
            };
        }
        if rest.is_empty() {
            return None;
        }
        self.refresh(id);
        let head = match self.downs.get_mut(id)?.parked_head.take() {
            Some(head) => head,
            None => match self.step(id, rest)? {
                Step::Head(head) => head,
                _ => return None,
            },
        };
        let message = rest.get(..head.len).unwrap_or_default();
        let mut changed = self.spares.take();
        self.log_message();
        let verdict = match head.kind {
            Kind::Request | Kind::Oneway => self.judge(id, &head, message, &mut changed),
            _ => Ok(()),
        };
        let verdict = match verdict {
            Ok(()) => Ok(()),
            Err(Stop::Refused(fault)) => Err(fault),
            // No session's protocol has answers of a route's own.
            Err(Stop::Answer(_)) => Err(Fault::Unsupported),
            Err(Stop::Reset) => {
                self.counters.messages += 1;
                self.counters.refused += 1;
                self.spares.give(changed);
                self.report_here(id, &head, message, Ending::Refused(None), Own::default());
                self.reset_down(id);
                return Some(head.len);
            }
            Err(Stop::Wait) => {
                self.spares.give(changed);
                let down = self.downs.get_mut(id)?;
                down.parked_head = Some(head);
                down.parked = true;
                return None;
            }
        };
        self.counters.messages += 1;
        if let Some(dialogue) = self.downs.get_mut(id).and_then(|down| down.dialogue.as_mut()) {
            dialogue.dropping = verdict.is_err();
            match head.body {
                Body::None => {}
                Body::Length(left) => dialogue.left = left,
                Body::Steps => dialogue.steps = true,
            }
            if head.patience > 0 {
                dialogue.patience = u64::from(head.patience);
            }
        }
        let ending = verdict.map_or_else(|fault| Ending::Refused(Some(fault)), |()| Ending::Passed);
        self.report_here(id, &head, message, ending, Own::default());
        match verdict {
            Ok(()) if changed.is_empty() => self.pass_up(id, up, message, net),
            Ok(()) => self.pass_up(id, up, &changed, net),
            Err(fault) => self.forbid(id, &head, message, fault),
        }
        self.spares.give(changed);
        Some(head.len)
    }

    /// Whether a message may pass: by the route of each thing that it is about. One that no
    /// route matches passes, as its session was let in, unless what is not allowed is
    /// denied. Where a route changes it, `changed` is what passes in its stead. Faults are
    /// drawn once, by the first of its routes.
    fn judge(
        &mut self,
        id: DownId,
        head: &Head,
        message: &[u8],
        changed: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let snapshot = self.config_of_down(id);
        let gone = || Stop::Refused(Fault::ShuttingDown);
        let (mut first, mut told, mut pace) = (true, true, 0);
        loop {
            let down = self.downs.get_mut(id).ok_or_else(gone)?;
            let protocol = down.protocol.and_then(|at| snapshot.protocols.get(at));
            let metadata = down.metadata.take().ok_or_else(gone)?;
            let view = metadata.view(message);
            let found = snapshot.routes.choose(&view);
            let verdict = match found.map(|(at, route)| (at, route, &route.then)) {
                Some((_, _, RouteAction::Deny)) => {
                    self.denied(id, found, Denied::Rule, &view);
                    Err(Stop::Refused(Fault::Denied))
                }
                Some((_, _, RouteAction::Respond(_))) => Err(Stop::Refused(Fault::Denied)),
                Some((at, route, RouteAction::Forward(forward))) => {
                    let passed = match &forward.guard {
                        None => Ok(()),
                        Some(guard) if first => {
                            self.check(id, (at, route), guard, &view).map(|fate| pace = fate.pace)
                        }
                        Some(guard) => {
                            self.permit(id, (at, route), guard, &view).map_err(Stop::Refused)
                        }
                    };
                    passed.and_then(|()| match (&forward.edits, protocol) {
                        (Some(edits), Some(enabled))
                            if !edits.request.is_empty() && changed.is_empty() =>
                        {
                            let mut values = self.spares.take();
                            render(&edits.request, &view, &mut values);
                            let done = changes(&edits.request, &values, |changes| {
                                let hop = Hop::neutral(Side::Request);
                                enabled.protocol.rewrite(head, message, &hop, changes, changed)
                            });
                            self.spares.give(values);
                            done.map_err(|_| Stop::Refused(Fault::Unsupported))
                        }
                        _ => Ok(()),
                    })
                }
                None if snapshot.access.deny => Err(Stop::Refused(self.unrouted(id, &view))),
                None => Ok(()),
            };
            if first {
                self.pace_message(id, pace);
            }
            first = false;
            let fault = match &verdict {
                Err(Stop::Refused(fault)) => Some(*fault),
                _ => None,
            };
            if self.logger.as_ref().is_some_and(|logger| logger.wants_messages())
                && !matches!(verdict, Err(Stop::Wait))
                && (told || verdict.is_err())
            {
                // Of several things that it is about, the first is told, or the one refused.
                told = false;
                let route = found.map(|(_, route)| route.name.as_str());
                self.log_choice(id, true, route, &view);
            }
            if let Some(tap) = &self.tap
                && !matches!(verdict, Err(Stop::Wait))
            {
                tap(&Tapped {
                    protocol: protocol.map_or("tcp", |enabled| enabled.protocol.name()),
                    dialect: protocol.map_or("tcp", |of| of.protocol.dialect(head.dialect)),
                    kind: head.kind,
                    route: found.map(|(_, route)| route.name.as_str()),
                    cluster: None,
                    endpoint: None,
                    fault,
                    view,
                    snapshot: &snapshot,
                });
            }
            let down = self.downs.get_mut(id).ok_or_else(gone)?;
            if !matches!(verdict, Err(Stop::Wait)) {
                down.fate = None;
            }
            let more = match (&mut down.decoder, down.metadata.insert(metadata)) {
                (Some(decoder), metadata) => verdict.is_ok() && decoder.another(message, metadata),
                _ => false,
            };
            if !more {
                return verdict;
            }
        }
    }

    /// Answers a message that may not pass.
    fn forbid(&mut self, id: DownId, head: &Head, message: &[u8], fault: Fault) {
        self.counters.refused += 1;
        let Some(protocol) = self.downs.get(id).and_then(|down| down.protocol) else { return };
        let mut reply = self.spares.take();
        let note = head.noted(message);
        let after = self.local_reply(protocol, head.reply_to, note, fault, &mut reply);
        let Some(down) = self.downs.get_mut(id) else { return };
        let DownState::Session(up) = down.state else { return };
        let between =
            self.ups.get(up).is_none_or(|upstream| matches!(upstream.state, UpState::Idle));
        if between {
            down.out.tail(&mut self.spares).extend_from_slice(&reply);
            self.mark_down(id);
        } else if let Some(dialogue) = &mut down.dialogue {
            dialogue.waiting.extend_from_slice(&reply);
        }
        self.spares.give(reply);
        if after == After::Close {
            if let Some(dialogue) = self.downs.get_mut(id).and_then(|down| down.dialogue.as_mut()) {
                // What there is to say is said.
                dialogue.over = true;
            }
            self.close_up(up, fault);
        }
    }

    /// Deals with the next piece of what a session's server says.
    pub(super) fn converse_up(
        &mut self,
        id: UpId,
        down: DownId,
        rest: &[u8],
        net: &mut dyn Net,
    ) -> Option<usize> {
        let upstream = self.ups.get_mut(id)?;
        match upstream.state {
            UpState::Body { left, to } => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                if count == 0 {
                    return None;
                }
                let left = left - count as u64;
                upstream.state = if left > 0 { UpState::Body { left, to } } else { UpState::Idle };
                self.pass_down(down, id, None, rest.get(..count).unwrap_or_default(), net);
                if left == 0 {
                    self.say_waiting(down);
                }
                Some(count)
            }
            UpState::Steps { .. } => match self.step_up(id, rest)? {
                Step::Body(count) | Step::Framing(count) => {
                    self.pass_down(down, id, None, rest.get(..count).unwrap_or_default(), net);
                    Some(count)
                }
                _ => {
                    self.ups.get_mut(id)?.state = UpState::Idle;
                    self.say_waiting(down);
                    Some(0)
                }
            },
            UpState::Idle => {
                if rest.is_empty() {
                    return None;
                }
                let Step::Head(head) = self.step_up(id, rest)? else { return None };
                let upstream = self.ups.get_mut(id)?;
                let mut first = false;
                match head.body {
                    Body::None => {}
                    Body::Length(left) => upstream.state = UpState::Body { left, to: None },
                    Body::Steps => upstream.state = UpState::Steps { to: None },
                }
                if let Some(dialogue) =
                    self.downs.get_mut(down).and_then(|down| down.dialogue.as_mut())
                {
                    first = head.kind == Kind::Response && !dialogue.begun;
                    if first {
                        dialogue.begun = true;
                        self.counters.answered += 1;
                    }
                    if head.patience > 0 {
                        // The server wants another silence than the client proposed.
                        dialogue.patience = u64::from(head.patience);
                    }
                    dialogue.over |=
                        head.last || (head.kind == Kind::Response && head.outcome != Outcome::Ok);
                }
                if first {
                    let (outcome, status) = (head.outcome, head.status);
                    let how = match outcome {
                        Outcome::Ok => Ending::Opened,
                        _ => Ending::Replied { outcome, status },
                    };
                    self.report_opening(down, how);
                }
                self.pass_down(down, id, None, rest.get(..head.len).unwrap_or_default(), net);
                Some(head.len)
            }
        }
    }

    /// The server's message is over: our own words can go.
    fn say_waiting(&mut self, id: DownId) {
        if let Some(down) = self.downs.get_mut(id)
            && let Some(dialogue) = &mut down.dialogue
            && !dialogue.waiting.is_empty()
        {
            let waiting = std::mem::take(&mut dialogue.waiting);
            down.out.tail(&mut self.spares).extend_from_slice(&waiting);
            self.mark_down(id);
        }
    }

    /// A session's upstream is gone: the client is told, where it can be.
    pub(super) fn take_leave(&mut self, id: DownId, upstream: &Upstream, fault: Fault) {
        let snapshot = self.snapshot.clone();
        let Some(down) = self.downs.get_mut(id) else { return };
        let Some(dialogue) = down.dialogue.take() else { return self.part(id, fault) };
        let between = matches!(upstream.state, UpState::Idle) && upstream.input.is_empty();
        let Some(enabled) = down.protocol.and_then(|at| snapshot.protocols.get(at)) else { return };
        if !between || dialogue.over || down.eof {
            self.counters.abandoned += u64::from(!dialogue.begun);
            return;
        }
        let mut unanswered = None;
        let out = down.out.tail(&mut self.spares);
        out.extend_from_slice(&dialogue.waiting);
        if dialogue.begun {
            enabled.protocol.farewell(dialogue.opened, fault, out);
        } else {
            self.counters.faults += 1;
            unanswered = Some(Ending::Failed { fault, cut: false });
            enabled.protocol.local_reply(dialogue.opened, b"", fault, fault.as_str(), out);
        }
        self.mark_down(id);
        if let Some(how) = unanswered {
            self.report_opening(id, how);
        }
    }

    /// Ends a session from our side.
    pub(super) fn end_session(&mut self, id: DownId, fault: Fault) {
        match self.downs.get(id).map(|down| &down.state) {
            Some(DownState::Session(up)) => self.close_up(*up, fault),
            _ => self.close_down(id),
        }
    }
}
