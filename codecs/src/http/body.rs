//! What follows a head: nothing, so many bytes, chunks, or all until the end.

use super::fields::{field, is_text, line};
use super::refuse;
use crate::error::DecodeError;
use crate::frame::Step;
use crate::limits::Limits;

/// Longest chunk-size line, extensions included: extensions are rare and never
/// long, but each chunk may have one, so a longer one is an attack (CVE-2023-39326).
const CHUNK_LINE: usize = 256;

/// How the bytes after a head are framed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Framing {
    /// A chunk-size line comes next.
    Size,
    /// So many bytes of a chunk are to come.
    Data(u64),
    /// The CRLF behind a chunk comes next.
    DataEnd,
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
            Self::Data(_) if buf.is_empty() => wait(self),
            Self::Data(left) => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                let left = left - count as u64;
                let next = if left > 0 { Self::Data(left) } else { Self::DataEnd };
                Ok((Step::Body(count), Some(next)))
            }
            Self::DataEnd => match buf {
                [b'\r', b'\n', ..] => Ok((Step::Framing(2), Some(Self::Size))),
                [] | [b'\r'] => Ok((Step::Need(2), Some(self))),
                _ => Err(refuse(400, 0, "a chunk that is not followed by CRLF")),
            },
            Self::Size => {
                let Some((text, next)) = line(buf, 0)? else {
                    if buf.len() > CHUNK_LINE {
                        return Err(refuse(400, 0, "a chunk-size line that is too long"));
                    }
                    return wait(self);
                };
                if next > CHUNK_LINE {
                    return Err(refuse(400, 0, "a chunk-size line that is too long"));
                }
                let following = match size(text)? {
                    0 => Self::Trailers { count: 0, bytes: 0 },
                    size => Self::Data(size),
                };
                Ok((Step::Framing(next), Some(following)))
            }
            Self::Trailers { count, bytes } => {
                if bytes + buf.len().min(limits.head) > limits.head && bytes > 0
                    || count > limits.headers
                {
                    let whole = line(buf, 0)?.map_or(buf.len(), |(_, next)| next);
                    if bytes + whole > limits.head || count > limits.headers {
                        return Err(refuse(431, 0, "trailers that are too large"));
                    }
                }
                let Some((text, next)) = line(buf, 0)? else {
                    if buf.len() > limits.head {
                        return Err(refuse(431, 0, "trailers that are too large"));
                    }
                    return wait(self);
                };
                if text.is_empty() {
                    return Ok((Step::Framing(next), Some(Self::Done)));
                }
                field(text, 0)?;
                let following = Self::Trailers { count: count + 1, bytes: bytes + next };
                Ok((Step::Framing(next), Some(following)))
            }
        }
    }
}

/// The size at the front of a chunk-size line: hexadecimal digits, then nothing
/// or an extension (RFC 9112 section 7.1).
fn size(text: &[u8]) -> Result<u64, DecodeError> {
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
    Ok(size)
}
