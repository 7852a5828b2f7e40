//! Checks that any codec's decoders must pass; for tests and fuzz targets, also
//! of protocols that live outside this crate.

use crate::codec::{Codec, Decoder, Side};
use crate::error::DecodeError;
use crate::frame::{Body, Head, Step};
use crate::interest::Interest;
use crate::metadata::Metadata;

/// One message as a stream showed it, whatever the pieces it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The head, with `len` and `body` zeroed where the message came in steps:
    /// only those may depend on how the input was split.
    pub head: Head,
    /// All of the message's bytes, head included, framing included.
    pub bytes: Vec<u8>,
    /// Bytes of `bytes` that were [`Step::Framing`].
    pub framing: usize,
    /// Every key and value, in slot order.
    pub metadata: Vec<(String, Vec<u8>)>,
    /// Whether its end was seen.
    pub ended: bool,
}

/// Everything a decoder said about a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The messages, in order; the last may be unfinished.
    pub messages: Vec<Seen>,
    /// How the stream went wrong, if it did.
    pub error: Option<DecodeError>,
    /// Bytes left that no step consumed.
    pub unread: usize,
}

/// Decodes `input` cut at `cuts` (offsets, any order, out-of-range ones ignored),
/// then the end of the connection.
///
/// # Panics
/// Where the decoder breaks the contract of [`crate::Decoder`]: asks for bytes it
/// has, consumes bytes it was not shown, or makes no progress.
#[allow(clippy::panic)]
pub fn transcript(
    codec: &dyn Codec,
    interest: &Interest,
    side: Side,
    input: &[u8],
    cuts: &[usize],
) -> Transcript {
    transcript_of(codec.decoder(side).as_mut(), interest, input, cuts)
}

/// [`transcript`] of a decoder that was made ready: told of requests, say.
///
/// # Panics
/// As [`transcript`].
#[allow(clippy::panic)]
pub fn transcript_of(
    decoder: &mut dyn Decoder,
    interest: &Interest,
    input: &[u8],
    cuts: &[usize],
) -> Transcript {
    let mut meta = Metadata::new(interest);
    let mut cuts: Vec<usize> = cuts.iter().copied().filter(|cut| *cut < input.len()).collect();
    cuts.push(input.len());
    cuts.sort_unstable();
    cuts.dedup();
    let mut all = Transcript { messages: Vec::new(), error: None, unread: 0 };
    let mut at = 0;
    let mut skip: u64 = 0;
    let mut need = 0;
    let mut in_steps = false;
    for cut in cuts {
        loop {
            let buf = input.get(at..cut).unwrap_or_default();
            if skip > 0 {
                let taken = skip.min(buf.len() as u64);
                skip -= taken;
                at += taken as usize;
                if let Some(seen) = all.messages.last_mut() {
                    seen.bytes.extend_from_slice(&buf[..taken as usize]);
                    seen.ended = skip == 0;
                }
                if skip > 0 {
                    break;
                }
                continue;
            }
            if buf.len() < need || (buf.is_empty() && !in_steps) {
                break;
            }
            let step = match decoder.decode(buf, &mut meta) {
                Ok(step) => step,
                Err(error) => {
                    all.error = Some(error);
                    all.unread = input.len() - at;
                    return all;
                }
            };
            need = 0;
            match step {
                Step::Need(more) => {
                    assert!(more > buf.len(), "asked for {more} bytes and has {}", buf.len());
                    need = more;
                    break;
                }
                Step::Head(head) => {
                    assert!(!in_steps, "a head inside a message");
                    assert!(head.len > 0 && head.len <= buf.len(), "head of {} bytes", head.len);
                    let view = meta.view(buf);
                    let metadata = view
                        .iter(interest)
                        .map(|(key, value)| (key.to_owned(), value.to_vec()))
                        .collect();
                    at += head.len;
                    in_steps = head.body == Body::Steps;
                    if let Body::Length(len) = head.body {
                        assert!(len > 0, "a body of no bytes is no body");
                        skip = len;
                    }
                    all.messages.push(Seen {
                        bytes: buf[..head.len].to_vec(),
                        head: Head { len: 0, body: Body::None, ..head },
                        framing: 0,
                        metadata,
                        ended: head.body == Body::None,
                    });
                }
                Step::Body(len) | Step::Framing(len) => {
                    assert!(in_steps, "a body outside a message");
                    assert!(len > 0 && len <= buf.len(), "step of {len} bytes");
                    at += len;
                    if let Some(seen) = all.messages.last_mut() {
                        seen.bytes.extend_from_slice(&buf[..len]);
                        seen.framing += if matches!(step, Step::Framing(_)) { len } else { 0 };
                    }
                }
                Step::End => {
                    assert!(in_steps, "an end outside a message");
                    in_steps = false;
                    if let Some(seen) = all.messages.last_mut() {
                        seen.ended = true;
                    }
                }
            }
        }
    }
    all.unread = input.len() - at;
    match decoder.eof(input.get(at..).unwrap_or_default()) {
        Ok(true) => {
            if let Some(seen) = all.messages.last_mut() {
                seen.ended = true;
            }
        }
        Ok(false) => {}
        Err(error) => all.error = Some(error),
    }
    all
}

/// Asserts that `input` cut at `cuts` gives the messages that the uncut input
/// gives, up to the same error (whose offset may differ, as it counts from the
/// bytes not yet consumed).
///
/// # Panics
/// Where it does not.
#[allow(clippy::panic)]
pub fn assert_splits_agree(
    codec: &dyn Codec,
    interest: &Interest,
    side: Side,
    input: &[u8],
    cuts: &[usize],
) -> Transcript {
    assert_decoders_agree(&|| codec.decoder(side), interest, input, cuts)
}

/// [`assert_splits_agree`] with decoders that `make` makes ready, each time alike.
///
/// # Panics
/// As [`assert_splits_agree`].
#[allow(clippy::panic)]
pub fn assert_decoders_agree(
    make: &dyn Fn() -> Box<dyn Decoder>,
    interest: &Interest,
    input: &[u8],
    cuts: &[usize],
) -> Transcript {
    let whole = transcript_of(make().as_mut(), interest, input, &[]);
    let split = transcript_of(make().as_mut(), interest, input, cuts);
    assert_eq!(
        whole.error.as_ref().map(|error| (error.kind, error.status)),
        split.error.as_ref().map(|error| (error.kind, error.status)),
        "cut at {cuts:?}: {:?} against {:?}",
        whole.error,
        split.error
    );
    // An unfinished message before an error may show more or less of its body.
    let finished = |all: &Transcript| {
        all.messages.iter().filter(|seen| seen.ended).cloned().collect::<Vec<_>>()
    };
    assert_eq!(finished(&whole), finished(&split), "cut at {cuts:?}");
    whole
}
