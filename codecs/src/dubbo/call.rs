//! Whole calls and replies, for tools, demos and tests: strings in, a scalar out.

use super::header::{self, REQUEST, TWO_WAY};
use crate::hessian::{Reader, Scalar, write};

/// A call whose arguments are strings.
#[derive(Debug, Clone, Default)]
pub struct Call<'a> {
    /// The id that its reply will carry.
    pub id: u64,
    /// The service's interface.
    pub interface: &'a str,
    /// The service's version; none is sent as null.
    pub version: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// Its arguments.
    pub arguments: &'a [&'a str],
    /// Attachments.
    pub attachments: &'a [(&'a str, &'a str)],
    /// No reply is wanted.
    pub oneway: bool,
}

impl Call<'_> {
    /// Appends the call as one message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        write::string("2.0.2", &mut body);
        write::string(self.interface, &mut body);
        match self.version {
            Some(version) => write::string(version, &mut body),
            None => body.push(b'N'),
        }
        write::string(self.method, &mut body);
        write::string(&"Ljava/lang/String;".repeat(self.arguments.len()), &mut body);
        for argument in self.arguments {
            write::string(argument, &mut body);
        }
        write::map(self.attachments.iter().copied(), &mut body);
        let way = if self.oneway { 0 } else { TWO_WAY };
        header::write(REQUEST | way | 2, 0, self.id, &body, out);
    }
}

/// A reply that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The call that it answers.
    pub id: u64,
    /// 20: the call reached its service.
    pub status: u8,
    /// What the service returned; an error's text where the status is not 20.
    /// `Err`: it threw, or returned something that is no scalar.
    pub value: Result<String, String>,
}

/// Reads one whole reply; `None` where it is none.
pub fn decode_reply(message: &[u8]) -> Option<Reply> {
    let header = header::read(message)?;
    let (mut reader, mut scratch) = (Reader::new(message, header::LEN), Vec::new());
    let thrown = if header.status == 20 {
        match reader.int().ok()? {
            2 | 5 => {
                return Some(Reply { id: header.id, status: 20, value: Ok("null".into()) });
            }
            code => matches!(code, 0 | 3),
        }
    } else {
        true
    };
    let text = match reader.scalar(&mut scratch) {
        Ok(Some(Scalar::Text(text))) => {
            String::from_utf8_lossy(reader.text(text, &scratch)).into_owned()
        }
        Ok(Some(Scalar::Integer(value))) => value.to_string(),
        Ok(Some(Scalar::Bool(value))) => value.to_string(),
        Ok(Some(Scalar::Double(value))) => value.to_string(),
        Ok(Some(Scalar::Null)) => "null".into(),
        Ok(None) | Err(_) => format!("an object of {} bytes", message.len() - header::LEN),
    };
    let value = if thrown { Err(text) } else { Ok(text) };
    Some(Reply { id: header.id, status: header.status, value })
}

/// Appends a reply that returns a string.
pub fn encode_reply(id: u64, value: &str, out: &mut Vec<u8>) {
    let mut body = vec![0x91];
    write::string(value, &mut body);
    header::write(2, 20, id, &body, out);
}

/// Appends a reply that throws, with a string for an exception.
pub fn encode_exception(id: u64, why: &str, out: &mut Vec<u8>) {
    let mut body = vec![0x90];
    write::string(why, &mut body);
    header::write(2, 20, id, &body, out);
}
