//! A key/value store that knows a dozen commands.

use std::collections::BTreeMap;
use std::sync::Mutex;

use polyport_codecs::tokio_codec::Message;
use polyport_codecs::{Protocol, redis};

use super::serve::Answer;
use crate::lock::lock;

/// Keys and values, for as long as the demo runs.
#[derive(Default)]
pub(super) struct Store {
    values: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Answer for Store {
    fn protocol(&self) -> &'static dyn Protocol {
        &redis::Redis
    }

    fn keys(&self) -> &'static [&'static str] {
        &["command"]
    }

    fn answer(&self, message: &Message, out: &mut Vec<u8>) {
        let words = arguments(&message.bytes);
        let command = words.first().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
        let mut values = lock(&self.values);
        let word = |at: usize| words.get(at).copied().unwrap_or_default();
        match (command.as_slice(), words.len()) {
            (b"ping", 1) => out.extend_from_slice(b"+PONG\r\n"),
            (b"ping" | b"echo", 2) => bulk(word(1), out),
            (b"set", 3..) => {
                values.insert(word(1).to_vec(), word(2).to_vec());
                out.extend_from_slice(b"+OK\r\n");
            }
            (b"get", 2) => match values.get(word(1)) {
                Some(value) => bulk(value, out),
                None => out.extend_from_slice(b"$-1\r\n"),
            },
            (b"del", 2..) => {
                let gone = words.iter().skip(1).filter(|key| values.remove(**key).is_some());
                integer(gone.count() as i64, out);
            }
            (b"exists", 2..) => {
                let there = words.iter().skip(1).filter(|key| values.contains_key(**key));
                integer(there.count() as i64, out);
            }
            (b"incr", 2) => {
                let had = values
                    .get(word(1))
                    .map_or(Some(0), |value| std::str::from_utf8(value).ok()?.parse::<i64>().ok());
                match had.and_then(|had| had.checked_add(1)) {
                    Some(now) => {
                        values.insert(word(1).to_vec(), now.to_string().into_bytes());
                        integer(now, out);
                    }
                    None => {
                        out.extend_from_slice(b"-ERR value is not an integer or out of range\r\n")
                    }
                }
            }
            (b"dbsize", 1) => integer(values.len() as i64, out),
            (b"keys", 2) => {
                out.extend_from_slice(format!("*{}\r\n", values.len()).as_bytes());
                values.keys().for_each(|key| bulk(key, out));
            }
            (b"command" | b"config", _) => out.extend_from_slice(b"*0\r\n"),
            (name, _) => {
                let name = String::from_utf8_lossy(name);
                out.extend_from_slice(
                    format!("-ERR the demo's store cannot do '{name}' so\r\n").as_bytes(),
                );
            }
        }
    }
}

fn bulk(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(":{value}\r\n").as_bytes());
}

/// The words of a command that the codec has found whole.
fn arguments(bytes: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let mut rest = bytes;
    if !rest.starts_with(b"*") {
        let words = rest.split(|byte| byte.is_ascii_whitespace());
        return words.filter(|word| !word.is_empty()).collect();
    }
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let (line, after) = (&rest[..end], rest.get(end + 2..).unwrap_or_default());
        rest = after;
        if let Some(digits) = line.strip_prefix(b"$") {
            let len = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            let Some(word) = len.and_then(|len: usize| rest.get(..len)) else { break };
            words.push(word);
            rest = rest.get(word.len() + 2..).unwrap_or_default();
        }
    }
    words
}
