//! What the proxy answers itself.

use polyport_codecs::{After, Answer, Fault, Head, Kind, ReplyTo};

use super::Engine;
use super::log::How;
use super::report::Ending;
use super::state::DownId;
use crate::edit::Reply;

impl Engine {
    /// Answers a message as its route says.
    pub(super) fn answer(
        &mut self,
        id: DownId,
        protocol: usize,
        head: &Head,
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
        self.log_local(How::Answered, reply.status.into(), out.len());
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
        self.report_here(id, head, message, Ending::Failed { fault, cut: false });
        self.refuse(id, protocol, head, message, fault);
    }

    /// Answers a message with a native error. The caller counts it.
    pub(super) fn refuse(
        &mut self,
        id: DownId,
        protocol: usize,
        head: &Head,
        message: &[u8],
        fault: Fault,
    ) {
        if head.kind == Kind::Oneway {
            self.log_refused(id, protocol, head, message, fault, 0);
            return;
        }
        let mut reply = self.spares.take();
        let to = self.parting(id, protocol, head.reply_to);
        let after = self.local_reply(protocol, to, head.noted(message), fault, &mut reply);
        self.log_refused(id, protocol, head, message, fault, reply.len());
        // Where it is to leave anyhow, what else was read is answered, too.
        let leaving = self.downs.get(id).is_some_and(|down| down.leaving.is_some());
        let leaves = fault == Fault::ShuttingDown && !leaving;
        let close = after == After::Close || head.last || leaves;
        self.owe(id, reply, close);
        if close {
            self.stop_reading(id);
        }
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
