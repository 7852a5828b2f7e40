//! A web server with one page, in one colour.

use polyport_codecs::tokio_codec::Message;
use polyport_codecs::{Protocol, http};

use super::serve::{Answer, value};

/// Says who it is and what it was asked.
pub(super) struct Page {
    pub(super) colour: &'static str,
}

impl Answer for Page {
    fn protocol(&self) -> &'static dyn Protocol {
        &http::Http
    }

    fn keys(&self) -> &'static [&'static str] {
        &["method", "path"]
    }

    fn answer(&self, message: &Message, out: &mut Vec<u8>) {
        let (method, path) = (value(message, "method"), value(message, "path"));
        let text = format!(
            "{} {} from the {} server\n",
            method.as_deref().unwrap_or("?"),
            path.as_deref().unwrap_or("?"),
            self.colour
        );
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-server: {}\r\ncontent-length: {}\r\n\r\n",
            self.colour,
            text.len()
        );
        out.extend_from_slice(head.as_bytes());
        if method.as_deref() != Some("HEAD") {
            out.extend_from_slice(text.as_bytes());
        }
    }
}
