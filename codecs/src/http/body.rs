//! What follows a head: nothing, so many bytes, chunks, or all until the end.

use super::fields::{field, is, is_text, line};
use super::refuse;
use crate::error::DecodeError;
use crate::frame::Step;
use crate::limits::Limits;

/// Longest chunk-size line, extensions included: extensions are rare and never
/// long, but each chunk may have one, so a longer one is an attack (CVE-2023-39326).
const CHUNK_LINE: usize = 256;

/// Bytes of extensions in one body beyond as many as it has of data: each may be
/// short and all of them endless.
const EXTENSIONS: usize = 16 << 10;

/// How the bytes after a head are framed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Framing {
    /// A chunk-size line comes next; extensions took `extra` bytes more than data so far.
    Size { extra: usize },
    /// So many bytes of a chunk are to come.
    Data { left: u64, extra: usize },
    /// The CRLF behind a chunk comes next.
    DataEnd { extra: usize },
    /// Trailer fields: so many, and so many bytes of them, were seen.
    Trailers { count: usize, bytes: usize },
    /// All is said but that it is over.
    Done,
    /// Everything until the connection ends.
    UntilClose,
}

impl Framing {
    /// The next step of the body, and how it goes on; `None` behind `End`.
    pub(super) fn step(
        self,
        buf: &[u8],
        limits: &Limits,
    ) -> Result<(Step, Option<Self>), DecodeError> {
        let wait = |framing: Self| Ok((Step::Need(buf.len() + 1), Some(framing)));
        match self {
            Self::Done => Ok((Step::End, None)),
            Self::UntilClose if buf.is_empty() => wait(self),
            Self::UntilClose => Ok((Step::Body(buf.len()), Some(self))),
            Self::Data { .. } if buf.is_empty() => wait(self),
            Self::Data { left, extra } => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                let left = left - count as u64;
                let next =
                    if left > 0 { Self::Data { left, extra } } else { Self::DataEnd { extra } };
                Ok((Step::Body(count), Some(next)))
            }
            Self::DataEnd { extra } => match buf {
                [b'\r', b'\n', ..] => Ok((Step::Framing(2), Some(Self::Size { extra }))),
                [] | [b'\r'] => Ok((Step::Need(2), Some(self))),
                _ => Err(refuse(400, 0, "a chunk that is not followed by CRLF")),
            },
            Self::Size { extra } => {
                let Some((text, next)) = line(buf, 0)? else {
                    if buf.len() > CHUNK_LINE {
                        return Err(refuse(400, 0, "a chunk-size line that is too long"));
                    }
                    return wait(self);
                };
                if next > CHUNK_LINE {
                    return Err(refuse(400, 0, "a chunk-size line that is too long"));
                }
                let (size, extension) = size(text)?;
                let extra = extra + extension;
                if extra > EXTENSIONS {
                    return Err(refuse(400, 0, "chunk extensions that are too long together"));
                }
                let following = match size {
                    0 => Self::Trailers { count: 0, bytes: 0 },
                    left => {
                        let data = usize::try_from(left).unwrap_or(usize::MAX);
                        Self::Data { left, extra: extra.saturating_sub(data) }
                    }
                };
                Ok((Step::Framing(next), Some(following)))
            }
            Self::Trailers { count, bytes } => {
                // The bound before the grammar, so that every split is refused alike.
                let seen = memchr::memchr(b'\n', buf).map_or(buf.len(), |end| end + 1);
                if bytes + seen > limits.head || count > limits.headers {
                    return Err(refuse(431, 0, "trailers that are too large"));
                }
                let Some((text, next)) = line(buf, 0)? else { return wait(self) };
                if text.is_empty() {
                    return Ok((Step::Framing(next), Some(Self::Done)));
                }
                let name = field(text, 0)?.name;
                // A receiver that merges trailers into the head would frame by them.
                if ["content-length", "transfer-encoding", "host"].iter().any(|no| is(name, no)) {
                    return Err(refuse(400, 0, "a trailer that belongs into the head"));
                }
                let following = Self::Trailers { count: count + 1, bytes: bytes + next };
                Ok((Step::Framing(next), Some(following)))
            }
        }
    }
}

/// The size at the front of a chunk-size line: hexadecimal digits, then nothing
/// or an extension (RFC 9112 section 7.1), and the extension's length.
fn size(text: &[u8]) -> Result<(u64, usize), DecodeError> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = text.split_at(digits);
    if digits.is_empty() || digits.len() > 15 {
        return Err(refuse(
            400,
            0,
            "a chunk size that is no hexadecimal number of at most 15 digits",
        ));
    }
    if !(rest.is_empty() || rest.first() == Some(&b';')) || !is_text(rest) || rest.contains(&b'\r')
    {
        return Err(refuse(400, digits.len(), "a chunk size that is followed by something else"));
    }
    let mut size = 0u64;
    for digit in digits {
        size = size << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or(0));
    }
    Ok((size, rest.len()))
}
