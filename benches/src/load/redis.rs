//! `GET key:N`, whose value tells N.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{Dialect, Found};
use crate::Result;

/// Keys there are.
const KEYS: u64 = 10_000;
const VALUE: usize = 64;
const REPLY: usize = b"$64\r\n".len() + VALUE + 2;

/// Redis, RESP2.
#[derive(Debug, Default)]
pub struct Redis;

impl Redis {
    /// It needs nothing.
    pub const fn new() -> Self {
        Self
    }
}

/// The number of the key that request `id` of `conn` asks for, spread over all keys.
fn key(conn: usize, id: u64) -> u64 {
    (conn as u64).wrapping_mul(7919).wrapping_add(id.wrapping_mul(4_241)) % KEYS
}

fn digits(mut number: u64) -> [u8; 5] {
    let mut text = [b'0'; 5];
    for place in text.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
    text
}

fn reply_to(number: u64) -> [u8; REPLY] {
    let mut reply = *b"$64\r\nvalue:-----:the quick brown fox jumps over the lazy dog, twice!!\r\n";
    reply[11..16].copy_from_slice(&digits(number));
    reply
}

impl Dialect for Redis {
    fn request(&mut self, conn: usize, id: u64, out: &mut Vec<u8>) {
        let mut request = *b"*2\r\n$3\r\nGET\r\n$9\r\nkey:-----\r\n";
        request[21..26].copy_from_slice(&digits(key(conn, id)));
        out.extend_from_slice(&request);
    }

    fn reply(
        &mut self,
        conn: usize,
        buf: &[u8],
        next: u64,
        _out: &mut Vec<u8>,
    ) -> std::result::Result<Found, String> {
        let want = reply_to(key(conn, next));
        let have = buf.len().min(REPLY);
        if buf[..have] != want[..have] {
            return Err(format!(
                "GET key:{:05} was answered with {:?}",
                key(conn, next),
                String::from_utf8_lossy(&buf[..have])
            ));
        }
        Ok(if have == REPLY { Found::Reply(REPLY, next) } else { Found::Part })
    }
}

/// Writes all keys to the redis-server at `address`.
pub fn seed(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let mut out = Vec::new();
    for number in 0..KEYS {
        let reply = reply_to(number);
        out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$9\r\nkey:");
        out.extend_from_slice(&digits(number));
        out.extend_from_slice(b"\r\n");
        // A bulk string is the same in a reply as in a request.
        out.extend_from_slice(&reply);
        if out.len() > 16 << 10 || number == KEYS - 1 {
            stream.write_all(&out)?;
            out.clear();
        }
    }
    let mut replies = vec![0; KEYS as usize * b"+OK\r\n".len()];
    stream.read_exact(&mut replies)?;
    match replies.chunks(5).all(|reply| reply == b"+OK\r\n") {
        true => Ok(()),
        false => Err("redis-server refused the keys".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_keys_value_is_refused() {
        let mut redis = Redis::new();
        let out = &mut Vec::new();
        redis.request(3, 9, out);
        assert_eq!(out.len(), 28);
        let right = reply_to(key(3, 9));
        assert_eq!(redis.reply(3, &right, 9, out), Ok(Found::Reply(REPLY, 9)));
        assert_eq!(redis.reply(3, &right[..20], 9, out), Ok(Found::Part));
        assert!(redis.reply(3, &right, 10, out).is_err());
        assert!(redis.reply(3, b"-ERR no route\r\n", 9, out).is_err());
    }
}
