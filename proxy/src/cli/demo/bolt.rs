//! A SOFARPC service whose contents are text.

use polyport_codecs::bolt::{self, call};
use polyport_codecs::tokio_codec::Message;
use polyport_codecs::{Kind, Protocol};

use super::serve::{Answer, value};

/// Answers every method with what it was asked.
pub(super) struct Stock;

impl Answer for Stock {
    fn protocol(&self) -> &'static dyn Protocol {
        &bolt::Bolt
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service", "method", "header.tenant"]
    }

    fn answer(&self, message: &Message, out: &mut Vec<u8>) {
        match message.head.kind {
            Kind::Heartbeat => bolt::Bolt.answer(&message.head, &message.bytes, out),
            Kind::Request => {
                let tenant = value(message, "header.tenant");
                let text = format!(
                    "{}.{} answered for {}",
                    value(message, "service").as_deref().unwrap_or("?"),
                    value(message, "method").as_deref().unwrap_or("?"),
                    tenant.as_deref().unwrap_or("anybody")
                );
                // A few short texts always fit.
                let _ = call::encode_reply(message.head.reply_to, 0, &[], text.as_bytes(), out);
            }
            _ => {}
        }
    }
}
