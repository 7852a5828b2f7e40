//! A service of text in, text out.

use polyport_codecs::thrift::{self, call};
use polyport_codecs::tokio_codec::Message;
use polyport_codecs::{Kind, Protocol};

use super::serve::{Answer, value};

/// Answers every method with what it was asked.
pub(super) struct Goods;

impl Answer for Goods {
    fn protocol(&self) -> &'static dyn Protocol {
        &thrift::Thrift
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service", "method"]
    }

    fn answer(&self, message: &Message, out: &mut Vec<u8>) {
        let Some(asked) = call::read(&message.bytes) else { return };
        if message.head.kind != Kind::Request {
            return;
        }
        let method = value(message, "method").unwrap_or_default();
        let service = value(message, "service");
        let arguments: Vec<String> = call::fields(asked.encoding, &asked.body)
            .into_iter()
            .map(|(_, argument)| match argument {
                call::Value::Text(text) => String::from_utf8_lossy(&text).into_owned(),
                other => format!("{other:?}"),
            })
            .collect();
        let text = format!(
            "{}.{method}({}) answered by goods",
            service.as_deref().unwrap_or("Goods"),
            arguments.join(", ")
        );
        let mut body = Vec::new();
        call::text_field(asked.encoding, 0, text.as_bytes(), &mut body);
        let reply = call::Message {
            transport: asked.transport,
            encoding: asked.encoding,
            kind: 2,
            name: method.as_bytes(),
            seqid: asked.seqid,
            headers: &[],
            body: &body,
        };
        reply.encode(out);
    }
}
