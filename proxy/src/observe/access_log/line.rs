//! What is remembered of a request for its line.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use polyport_codecs::View;

use super::{AccessLogs, Show, VALUE};
use crate::observe::redact::{MASK, looks_secret};

/// Where some text is among [`Line::values`].
type Span = Option<(u32, u32)>;

/// A request that may get a line, between its route and its end. Boxes of it are reused, and
/// their lists keep their memory.
pub struct Line {
    /// The logs as they were when it began.
    #[expect(clippy::redundant_allocation, reason = "the inner count is shared by threads")]
    pub(crate) logs: Option<Rc<Arc<AccessLogs>>>,
    /// The logs that may write it, a bit each.
    pub(crate) wanted: u32,
    /// Those of them whose share it is in.
    pub(crate) lucky: u32,
    values: Vec<u8>,
    /// By position in [`super::AccessLogs::keys`].
    spans: Vec<Span>,
    route: Span,
    /// The client's address.
    pub(crate) source: SocketAddr,
    /// Names the client's connection within its worker.
    pub(crate) connection: u64,
    /// When it was first given to an upstream connection, µs.
    pub(crate) given: Option<u64>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            logs: None,
            wanted: 0,
            lucky: 0,
            values: Vec::new(),
            spans: Vec::new(),
            route: None,
            source: (Ipv4Addr::UNSPECIFIED, 0).into(),
            connection: 0,
            given: None,
        }
    }
}

impl Line {
    /// Makes it ready for another request.
    pub(crate) fn clear(&mut self) {
        let (mut values, mut spans) =
            (std::mem::take(&mut self.values), std::mem::take(&mut self.spans));
        values.clear();
        spans.clear();
        *self = Self { values, spans, ..Self::default() };
    }

    /// Bytes of memory that it keeps.
    pub(crate) fn kept(&self) -> usize {
        self.values.capacity()
    }

    fn copy(&mut self, value: &[u8]) -> Span {
        let start = u32::try_from(self.values.len()).ok()?;
        self.values.extend_from_slice(value);
        Some((start, u32::try_from(value.len()).ok()?))
    }

    /// Copies what the logs that want it show of a message.
    pub(crate) fn fill(&mut self, logs: &AccessLogs, route: Option<&str>, view: &View<'_>) {
        self.route = route.and_then(|name| self.copy(name.as_bytes()));
        for key in &logs.keys {
            let value = view.get(key.slot).filter(|_| key.logs & self.wanted != 0);
            let span = value.and_then(|value| {
                let hidden = match key.show {
                    Show::Hidden => true,
                    Show::Checked => looks_secret(value),
                    Show::Revealed => false,
                };
                let value = if hidden { MASK.as_bytes() } else { value };
                self.copy(value.get(..VALUE).unwrap_or(value))
            });
            self.spans.push(span);
        }
    }

    fn text(&self, span: Span) -> Option<&[u8]> {
        let (start, len) = span?;
        let start = start as usize;
        self.values.get(start..start + len as usize)
    }

    /// The route's name.
    pub(crate) fn route(&self) -> Option<&[u8]> {
        self.text(self.route)
    }

    /// What is shown of a key, by its position among the logs' keys.
    pub(crate) fn key(&self, at: usize) -> Option<&[u8]> {
        self.text(self.spans.get(at).copied().flatten())
    }
}
