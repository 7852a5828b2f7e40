//! A service with one interface, in one version.

use polyport_codecs::dubbo::{self, call};
use polyport_codecs::tokio_codec::Message;
use polyport_codecs::{Kind, Protocol};

use super::serve::{Answer, value};

/// Answers every method with who it is and what it was asked.
pub(super) struct Orders {
    pub(super) version: &'static str,
}

impl Answer for Orders {
    fn protocol(&self) -> &'static dyn Protocol {
        &dubbo::Dubbo
    }

    fn keys(&self) -> &'static [&'static str] {
        &["interface", "method", "attachment.tenant"]
    }

    fn answer(&self, message: &Message, out: &mut Vec<u8>) {
        match message.head.kind {
            Kind::Heartbeat => dubbo::Dubbo.answer(&message.head, &message.bytes, out),
            Kind::Request => {
                let tenant = value(message, "attachment.tenant");
                let text = format!(
                    "{}.{} answered by {} for {}",
                    value(message, "interface").as_deref().unwrap_or("?"),
                    value(message, "method").as_deref().unwrap_or("?"),
                    self.version,
                    tenant.as_deref().unwrap_or("anybody")
                );
                call::encode_reply(message.head.reply_to.id, &text, out);
            }
            _ => {}
        }
    }
}
