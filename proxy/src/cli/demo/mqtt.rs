//! A broker for as long as the demo runs: it delivers to whoever is subscribed,
//! at QoS 0, and keeps nothing.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use polyport_codecs::mqtt::Mqtt;
use polyport_codecs::tokio_codec::{Message, MessageCodec};
use polyport_codecs::{Interest, Limits, Protocol, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Sender, channel};
use tokio_util::codec::Decoder;

use super::serve::{LONGEST, accept, value};
use crate::lock::lock;

/// Messages that wait for one subscriber; more are dropped, as QoS 0 allows.
const WAITING: usize = 64;

/// What is published: topic and payload.
type Published = Arc<(Vec<u8>, Vec<u8>)>;

struct Subscriber {
    filters: Vec<Vec<u8>>,
    queue: Sender<Published>,
}

#[derive(Default)]
struct Broker {
    clients: AtomicU64,
    subscribers: Mutex<HashMap<u64, Subscriber>>,
}

/// Starts it; where it listens.
pub(super) fn broker() -> io::Result<SocketAddr> {
    let broker = Arc::new(Broker::default());
    accept(move |stream| {
        let broker = broker.clone();
        async move {
            let client = broker.clients.fetch_add(1, Ordering::Relaxed);
            let served = session(stream, client, &broker).await;
            broker.with(|all| all.remove(&client));
            served
        }
    })
}

async fn session(mut stream: TcpStream, client: u64, broker: &Broker) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let interest = Interest::of(["packet", "version", "client-id"]);
    let codec = Mqtt.compile(&Limits::default(), &interest);
    let mut packets = MessageCodec::new(codec.as_ref(), &interest, Side::Request, LONGEST);
    let (mut input, mut out) = (BytesMut::new(), Vec::new());
    let (queue, mut published) = channel::<Published>(WAITING);
    broker.with(|all| all.insert(client, Subscriber { filters: Vec::new(), queue }));
    let mut five = false;
    loop {
        tokio::select! {
            read = stream.read_buf(&mut input) => if read? == 0 { return Ok(()) },
            Some(message) = published.recv() => publish(&message, five, &mut out),
        }
        while let Some(packet) = packets.decode(&mut input).map_err(io::Error::other)? {
            five |= value(&packet, "version").as_deref() == Some("5.0");
            if broker.answer(client, five, &packet, &mut out).is_none() {
                return stream.write_all(&out).await;
            }
        }
        stream.write_all(&out).await?;
        out.clear();
    }
}

impl Broker {
    fn with<T>(&self, what: impl FnOnce(&mut HashMap<u64, Subscriber>) -> T) -> T {
        what(&mut lock(&self.subscribers))
    }

    /// Answers one packet; `None`: the session is over.
    fn answer(&self, client: u64, five: bool, packet: &Message, out: &mut Vec<u8>) -> Option<()> {
        let first = *packet.bytes.first()?;
        let start = packet.bytes.iter().skip(1).position(|byte| byte & 0x80 == 0)? + 2;
        let mut rest = packet.bytes.get(start..)?;
        match value(packet, "packet").as_deref()? {
            "connect" => {
                let named = value(packet, "client-id").is_some_and(|name| !name.is_empty());
                let name = format!("demo-{client}");
                let mut more = Vec::new();
                if five && !named {
                    // Assigned Client Identifier.
                    more.push(0x12);
                    text(name.as_bytes(), &mut more);
                }
                let mut body = vec![0, 0];
                if five {
                    body.push(more.len() as u8);
                    body.extend(more);
                }
                send(0x20, &body, out);
            }
            "publish" => {
                let qos = first >> 1 & 3;
                let topic = take_text(&mut rest)?;
                let id = if qos > 0 { take(&mut rest, 2)? } else { &[] };
                if five {
                    properties(&mut rest)?;
                }
                let message = Arc::new((topic.to_vec(), rest.to_vec()));
                self.with(|all| {
                    let fits = |to: &&Subscriber| {
                        to.filters.iter().any(|filter| matches(filter, &message.0))
                    };
                    // A subscriber whose queue is full misses this one.
                    all.values()
                        .filter(fits)
                        .for_each(|to| drop(to.queue.try_send(message.clone())));
                });
                match qos {
                    0 => {}
                    1 => send(0x40, id, out),
                    _ => send(0x50, id, out),
                }
            }
            "pubrel" => send(0x70, take(&mut rest, 2)?, out),
            word @ ("subscribe" | "unsubscribe") => {
                let mut body = take(&mut rest, 2)?.to_vec();
                if five {
                    properties(&mut rest)?;
                    body.push(0);
                }
                let mut filters = Vec::new();
                while !rest.is_empty() {
                    filters.push(take_text(&mut rest)?.to_vec());
                    if word == "subscribe" {
                        take(&mut rest, 1)?;
                    }
                }
                if five || word == "subscribe" {
                    body.resize(body.len() + filters.len(), 0);
                }
                self.with(|all| {
                    let own = &mut all.get_mut(&client)?.filters;
                    own.retain(|had| !filters.contains(had));
                    if word == "subscribe" {
                        own.extend(filters);
                    }
                    Some(())
                })?;
                send(if word == "subscribe" { 0x90 } else { 0xb0 }, &body, out);
            }
            "pingreq" => send(0xd0, &[], out),
            "disconnect" => return None,
            _ => {}
        }
        Some(())
    }
}

fn publish(message: &(Vec<u8>, Vec<u8>), five: bool, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    text(&message.0, &mut body);
    if five {
        body.push(0);
    }
    body.extend_from_slice(&message.1);
    send(0x30, &body, out);
}

/// One packet: its type, its length in digits to base 128, its body.
fn send(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    let mut len = body.len();
    loop {
        let digit = (len & 0x7f) as u8;
        len >>= 7;
        out.push(if len > 0 { digit | 0x80 } else { digit });
        if len == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
}

fn text(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [high, low] = take(rest, 2)?.first_chunk::<2>()?;
    take(rest, usize::from(u16::from_be_bytes([*high, *low])))
}

/// Leaves out the properties of 5.0.
fn properties(rest: &mut &[u8]) -> Option<()> {
    let (mut len, mut shift) = (0, 0);
    loop {
        let digit = *take(rest, 1)?.first()?;
        len |= usize::from(digit & 0x7f) << shift;
        shift += 7;
        if digit & 0x80 == 0 {
            break;
        }
    }
    take(rest, len).map(drop)
}

/// Whether a subscription's filter takes a topic: `+` is any one level, `#` all below.
fn matches(filter: &[u8], topic: &[u8]) -> bool {
    let mut levels = topic.split(|byte| *byte == b'/');
    for wanted in filter.split(|byte| *byte == b'/') {
        match (wanted, levels.next()) {
            (b"#", _) => return true,
            (b"+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn filters_take_topics() {
        for (filter, topic, expected) in [
            ("pumps/#", "pumps/7/state", true),
            ("pumps/#", "pumps", true),
            ("pumps/+/state", "pumps/7/state", true),
            ("pumps/+", "pumps/7/state", false),
            ("pumps/7", "pumps/7", true),
            ("pumps", "pumps/7", false),
        ] {
            assert_eq!(matches(filter.as_bytes(), topic.as_bytes()), expected, "{filter} {topic}");
        }
    }
}
