//! Sessions that pass as they are, whose clients can be told that they end: what their servers
//! say is followed, and cut where the last words may stand once it is time.

use polyport_codecs::{Fault, ReplyTo};

use super::state::{DownId, UpId};
use super::{Engine, Net};

impl Engine {
    /// A session has begun that the request `opened` asked for.
    pub(super) fn sew(&mut self, id: DownId, protocol: usize, opened: ReplyTo) {
        let Some(enabled) = self.snapshot.protocols.get(protocol) else { return };
        let Some(seam) = enabled.protocol.seam(opened) else { return };
        let Some(down) = self.downs.get_mut(id) else { return };
        down.seam = Some(seam);
        // One on a stream leaves by itself: its connection cannot tell it.
        self.begin_to_leave(id);
    }

    /// What a session's server says, for its client.
    pub(super) fn pass_joined(&mut self, id: DownId, up: UpId, piece: &[u8], net: &mut dyn Net) {
        let now = self.now;
        let Some(down) = self.downs.get_mut(id) else { return };
        let Some(seam) = &mut down.seam else { return self.pass_down(id, up, None, piece, net) };
        let over = down.leaving.as_ref().is_some_and(|leaving| leaving.farewell <= now);
        let count = seam.advance(piece, over);
        let ends = over && seam.is_between();
        if count > 0 {
            self.pass_down(id, up, None, piece.get(..count).unwrap_or_default(), net);
        }
        if ends {
            self.end_session(id, Fault::ShuttingDown);
        }
    }

    /// The client of a session that the proxy ends is told so, where words may stand.
    pub(super) fn part(&mut self, id: DownId, fault: Fault) {
        let Some(down) = self.downs.get_mut(id) else { return };
        let Some(seam) = down.seam.take().filter(|seam| seam.is_between()) else { return };
        // What befell its server is no word of ours.
        let ours = matches!(fault, Fault::ShuttingDown | Fault::Expired | Fault::Timeout);
        if ours && !down.eof {
            seam.farewell(fault, down.out.tail(&mut self.spares));
            self.mark_down(id);
        }
    }
}
