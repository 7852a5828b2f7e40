//! What the proxy answers itself.

use polyport_codecs::{After, Answer, Fault, Head, Kind, ReplyTo};

use super::Engine;
use super::report::{Ending, Own};
use super::state::DownId;
use crate::edit::Reply;

impl Engine {
    /// Answers a message as its route says.
    pub(super) fn answer(
        &mut self,
        id: DownId,
        protocol: usize,
        head: &Head,
        message: &[u8],
        reply: &Reply,
        values: &[u8],
    ) {
        let snapshot = self.snapshot.clone();
        let Some(enabled) = snapshot.protocols.get(protocol) else { return };
        let mut rest = values;
        let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(reply.headers.len());
        for (name, _) in &reply.headers {
            let Some((len, after)) = rest.split_first_chunk::<4>() else { break };
            let (value, after) = after.split_at(after.len().min(u32::from_ne_bytes(*len) as usize));
            headers.push((name, value));
            rest = after;
        }
        let answer = Answer { status: reply.status, headers: &headers, body: &reply.body };
        let mut out = self.spares.take();
        let to = self.parting(id, protocol, head.reply_to);
        let after = enabled.protocol.respond(to, &answer, &mut out);
        let close = after != Some(After::Keep) || head.last;
        let own = Own { status: reply.status.into(), bytes: out.len() };
        self.report_here(id, head, message, Ending::Local, own);
        self.owe(id, out, close);
        if close {
            self.stop_reading(id);
        }
    }

    /// Answers a message that goes nowhere with a native error.
    pub(super) fn turn_away(
        &mut self,
        id: DownId,
        protocol: usize,
        head: &Head,
        message: &[u8],
        fault: Fault,
    ) {
        self.counters.requests += 1;
        self.counters.faults += 1;
        self.refuse(id, protocol, head, message, fault);
    }

    /// Answers a message with a native error, and reports that. The caller counts it.
    pub(super) fn refuse(
        &mut self,
        id: DownId,
        protocol: usize,
        head: &Head,
        message: &[u8],
        fault: Fault,
    ) {
        let how = Ending::Failed { fault, cut: false };
        let status = self.fault_status(protocol, head.reply_to, fault);
        if head.kind == Kind::Oneway {
            self.report_here(id, head, message, how, Own { status, bytes: 0 });
            return;
        }
        let mut reply = self.spares.take();
        let to = self.parting(id, protocol, head.reply_to);
        let after = self.local_reply(protocol, to, head.noted(message), fault, &mut reply);
        self.report_here(id, head, message, how, Own { status, bytes: reply.len() });
        // Where it is to leave anyhow, what else was read is answered, too.
        let leaving = self.downs.get(id).is_some_and(|down| down.leaving.is_some());
        let leaves = fault == Fault::ShuttingDown && !leaving;
        let close = after == After::Close || head.last || leaves;
        self.owe(id, reply, close);
        if close {
            self.stop_reading(id);
        }
    }

    /// The status of such an error; 0 where the protocol has none.
    pub(super) fn fault_status(&self, protocol: usize, to: ReplyTo, fault: Fault) -> u32 {
        let enabled = self.snapshot.protocols.get(protocol);
        enabled.map_or(0, |enabled| enabled.protocol.fault_status(to, fault))
    }

    pub(super) fn local_reply(
        &self,
        protocol: usize,
        to: ReplyTo,
        note: &[u8],
        fault: Fault,
        reply: &mut Vec<u8>,
    ) -> After {
        match self.snapshot.protocols.get(protocol) {
            Some(enabled) => enabled.protocol.local_reply(to, note, fault, fault.as_str(), reply),
            None => After::Close,
        }
    }
}
