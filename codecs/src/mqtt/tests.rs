//! Packets in, what they are out; and what the proxy says itself.

mod client;
mod generated;
mod spoken;

use super::wire::{put_text, put_varint};
use super::*;
use crate::testing::{Transcript, assert_splits_agree};

const WANTED: [&str; 17] = [
    "kind",
    "size",
    "packet",
    "method",
    "version",
    "client-id",
    "username",
    "clean-start",
    "keep-alive",
    "will.topic",
    "will.qos",
    "topic",
    "share-name",
    "qos",
    "retain",
    "dup",
    "user-property.tenant",
];

fn decode(side: Side, limits: &Limits, input: &[u8], cuts: &[usize]) -> Transcript {
    let interest = Interest::of(WANTED);
    let codec = Mqtt.compile(limits, &interest);
    assert_splits_agree(codec.as_ref(), &interest, side, input, cuts)
}

/// What a client's packets are, whole and byte by byte.
fn client(input: &[u8]) -> Transcript {
    decode(Side::Request, &Limits::default(), input, &(0..input.len()).collect::<Vec<_>>())
}

fn broker(input: &[u8]) -> Transcript {
    decode(Side::Reply, &Limits::default(), input, &(0..input.len()).collect::<Vec<_>>())
}

fn value<'a>(all: &'a Transcript, at: usize, key: &str) -> &'a str {
    let found = all.messages[at].metadata.iter().find(|(name, _)| name == key);
    found.map_or("", |(_, value)| std::str::from_utf8(value).expect("text"))
}

/// A packet of that first byte, its length filled in.
fn packet(first: u8, rest: &[&[u8]]) -> Vec<u8> {
    let rest = rest.concat();
    let mut out = vec![first];
    put_varint(rest.len(), &mut out);
    out.extend(rest);
    out
}

fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(text.as_bytes(), &mut out);
    out
}

/// Properties with their length; nothing before 5.0.
fn properties(level: u8, all: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    if level == 5 {
        put_varint(all.concat().len(), &mut out);
        out.extend(all.concat());
    }
    out
}

fn user(name: &str, value: &str) -> Vec<u8> {
    [vec![0x26], text(name), text(value)].concat()
}

/// CONNECT of client `c`, keep-alive 10, with what `flags` announce behind it.
fn connect_with(level: u8, flags: u8, all: &[&[u8]], rest: &[&[u8]]) -> Vec<u8> {
    let name = text(if level == 3 { "MQIsdp" } else { "MQTT" });
    let rest = rest.concat();
    packet(0x10, &[&name, &[level, flags, 0, 10], &properties(level, all), &text("c"), &rest])
}

fn connect(level: u8) -> Vec<u8> {
    connect_with(level, 2, &[], &[])
}

/// PUBLISH with the identifier 7 where the flags call for one.
fn publish(level: u8, flags: u8, topic: &str, all: &[&[u8]], payload: &[u8]) -> Vec<u8> {
    let id: &[u8] = if flags & 6 == 0 { &[] } else { &[0, 7] };
    packet(0x30 | flags, &[&text(topic), id, &properties(level, all), payload])
}

/// SUBSCRIBE with the identifier 9.
fn subscribe(level: u8, filters: &[(&str, u8)]) -> Vec<u8> {
    let filters: Vec<u8> = filters
        .iter()
        .flat_map(|(filter, options)| [text(filter), vec![*options]].concat())
        .collect();
    packet(0x82, &[&[0, 9], &properties(level, &[]), &filters])
}

/// UNSUBSCRIBE with the identifier 9.
fn unsubscribe(level: u8, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(|filter| text(filter)).collect();
    packet(0xa2, &[&[0, 9], &properties(level, &[]), &filters])
}

const LEVELS: [u8; 3] = [3, 4, 5];
