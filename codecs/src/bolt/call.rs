//! Whole calls and replies, for tools, demos and tests. What the content says is the caller's.

use super::block;
use super::header::{self, Form, Header};

/// The class that SOFARPC's requests name.
pub const REQUEST_CLASS: &str = "com.alipay.sofa.rpc.core.request.SofaRequest";

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// Version 1.
    #[default]
    V1,
    /// Version 2 without a checksum.
    V2,
    /// Version 2 with a CRC32 behind it.
    V2Checked,
}

impl Version {
    const fn form(self, codec: u8) -> Form {
        let (version, switches) = match self {
            Self::V1 => (0, 0),
            Self::V2 => (2, 0),
            Self::V2Checked => (2, 1),
        };
        Form { version, switches, codec, command_version: 1 }
    }
}

/// A part of a message is longer than its length can say: 65,535 bytes for a class
/// or a header block, 4 GiB for a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a class name or a header block of more than 65,535 bytes, or a content of 4 GiB")]
pub struct TooLong;

/// A call.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The id that its reply will carry.
    pub id: u32,
    /// How it is written.
    pub version: Version,
    /// What its content is: 1 hessian2, 11 protobuf, 12 json.
    pub codec: u8,
    /// Milliseconds that its sender waits.
    pub timeout: i32,
    /// The class of its content.
    pub class: &'a str,
    /// The header block, in order.
    pub headers: &'a [(&'a str, &'a str)],
    /// Its content, as it is.
    pub content: &'a [u8],
    /// No reply is wanted.
    pub oneway: bool,
}

impl Default for Call<'_> {
    fn default() -> Self {
        Self {
            id: 0,
            version: Version::V1,
            codec: 12,
            timeout: 3000,
            class: REQUEST_CLASS,
            headers: &[],
            content: b"",
            oneway: false,
        }
    }
}

impl Call<'_> {
    /// Appends the call as one message.
    ///
    /// # Errors
    /// Where a part is too long; nothing is appended then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let header = Header {
            form: self.version.form(self.codec),
            kind: if self.oneway { header::ONEWAY } else { header::REQUEST },
            command: header::CALL,
            id: self.id,
            timeout: self.timeout,
            status: 0,
            class: 0,
            block: 0,
            content: 0,
        };
        let block = block_of(self.headers);
        let fits = header::write(&header, self.class.as_bytes(), &block, self.content, out);
        if fits { Ok(()) } else { Err(TooLong) }
    }
}

fn block_of(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block::put(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

/// A reply that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The call that it answers.
    pub id: u32,
    /// 0: the call reached its service.
    pub status: u16,
    /// Its header block; nulls are left out.
    pub headers: Vec<(String, String)>,
    /// Its content, as it is.
    pub content: Vec<u8>,
}

/// What a status means, in the words of SOFABolt.
pub const fn meaning(status: u16) -> &'static str {
    match status {
        0 => "success",
        1 => "error",
        2 => "server exception",
        4 => "server thread pool busy",
        5 => "communication error",
        6 => "no processor found",
        7 => "timeout",
        8 => "client send error",
        9 => "codec exception",
        16 => "connection closed",
        17 => "server cannot serialize",
        18 => "server cannot deserialize",
        _ => "unknown",
    }
}

/// Bytes of the message that begins in `front`, as soon as that many are there as say it.
pub fn size(front: &[u8]) -> Option<u64> {
    header::read(front).ok().map(|header| header.size())
}

/// Reads one whole reply; `None` where it is none, or its checksum is another's.
pub fn decode_reply(message: &[u8]) -> Option<Reply> {
    let header = header::read(message).ok()?;
    if header.kind != header::RESPONSE || header.size() != message.len() as u64 {
        return None;
    }
    if header.form.checked() {
        let (told, real) = header::checksums(message)?;
        (told == real).then_some(())?;
    }
    let block = message.get(header.block_at()..header.content_at())?;
    let mut headers = Vec::new();
    for entry in block::entries(block) {
        let entry = entry.ok()?;
        let text = |range| Some(String::from_utf8_lossy(block.get(range)?).into_owned());
        if let (Some(name), Some(value)) = (entry.name, entry.value) {
            headers.push((text(name)?, text(value)?));
        }
    }
    let end = header.content_at() + usize::try_from(header.content).ok()?;
    let content = message.get(header.content_at()..end)?.to_vec();
    Some(Reply { id: header.id, status: header.status, headers, content })
}

/// Appends a reply to the call that `to` names, written as the call was.
///
/// # Errors
/// Where a part is too long; nothing is appended then.
pub fn encode_reply(
    to: crate::ReplyTo,
    status: u16,
    headers: &[(&str, &str)],
    content: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let header = Header {
        form: Form::from_token(to.token),
        kind: header::RESPONSE,
        command: header::REPLY,
        id: to.id as u32,
        timeout: 0,
        status,
        class: 0,
        block: 0,
        content: 0,
    };
    let fits = header::write(&header, b"", &block_of(headers), content, out);
    if fits { Ok(()) } else { Err(TooLong) }
}
