//! Health checks: a call without arguments, to which any answer will do.

use std::sync::Arc;

use super::call::{Encoding, Message, Transport};
use super::envelope::CALL;
use crate::frame::ReplyTo;
use crate::health::{
    Answered, BadOption, Beat, HealthAsk, HealthCheck, HealthOption, HealthWay, Say, Verdict,
};

pub(super) const WAYS: &[HealthWay] = &[HealthWay {
    name: super::NAME,
    options: &[
        HealthOption::new("method", "what is called, without arguments", "ping"),
        HealthOption::new("transport", "framed, unframed or header", "framed"),
        HealthOption::new("encoding", "binary or compact", "binary"),
    ],
    streams: false,
}];

pub(super) fn check(ask: &HealthAsk<'_>) -> Result<Arc<dyn HealthCheck>, BadOption> {
    let method = ask.word("method")?;
    let transport = match ask.word("transport")? {
        None | Some("framed") => Transport::Framed,
        Some("unframed") => Transport::Unframed,
        Some("header") => Transport::Header,
        Some(_) => {
            return Err(BadOption::new("transport", "there are framed, unframed and header"));
        }
    };
    let encoding = match ask.word("encoding")? {
        None | Some("binary") => Encoding::Binary,
        Some("compact") => Encoding::Compact,
        Some(_) => return Err(BadOption::new("encoding", "there are binary and compact")),
    };
    let Some(method) = method else {
        let idle = ["transport", "encoding"].into_iter().find(|name| !ask.all(name).is_empty());
        return match idle {
            Some(name) => Err(BadOption::new(name, "without a `method` nothing is called")),
            None => Ok(Beat::new(Vec::new())),
        };
    };
    if method.is_empty() || method.len() > 1024 {
        return Err(BadOption::new("method", "a method's name has 1 to 1024 bytes"));
    }
    let mut call = Vec::new();
    let name = method.as_bytes();
    let (kind, seqid, headers, body) = (CALL, 1, &[][..], &[0][..]);
    Message { transport, encoding, kind, name, seqid, headers, body }.encode(&mut call);
    Ok(Arc::new(Call(call)))
}

/// These bytes, on a connection of their own: some servers serve one connection after
/// the other, and a kept one would be in everybody's way.
struct Call(Vec<u8>);

impl HealthCheck for Call {
    fn say(&self, round: usize, _: &str, out: &mut Vec<u8>) -> Say {
        if round > 0 {
            return Say::Over { keep: false };
        }
        out.extend_from_slice(&self.0);
        Say::Ask(ReplyTo::default())
    }

    /// A server that throws, or knows no such method, has read the call and answered it.
    fn judge(&self, _: usize, _: &Answered<'_>) -> Verdict {
        Verdict::Well
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::read;
    use super::*;

    fn said(all: &[(&str, &str)]) -> Result<Vec<u8>, BadOption> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), vec![(*value).to_owned()]);
        let options: Vec<_> = all.iter().map(own).collect();
        let mut out = Vec::new();
        check(&HealthAsk { way: "thrift", options: &options })?.say(0, "server", &mut out);
        Ok(out)
    }

    #[test]
    fn a_call_is_said_in_every_form() {
        for (transport, encoding) in
            [("framed", "binary"), ("unframed", "compact"), ("header", "compact")]
        {
            let all = [("method", "ping"), ("transport", transport), ("encoding", encoding)];
            let call = read(&said(&all).expect("a check")).expect("a call");
            assert_eq!((call.kind, &call.name[..]), (1, &b"ping"[..]));
            assert_eq!((call.transport.as_str(), call.encoding.as_str()), (transport, encoding));
        }
    }

    #[test]
    fn without_a_method_a_connection_is_enough() {
        assert_eq!(said(&[]), Ok(Vec::new()));
        for all in [[("transport", "framed")], [("encoding", "json")], [("method", "")]] {
            assert!(said(&all).is_err(), "{all:?}");
        }
    }
}
