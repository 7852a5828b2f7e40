//! `workers`, `[defaults]`, `[limits]`.

use std::time::Duration;

use super::reader::Reader;
use crate::snapshot::{Buffers, Timeouts};

/// What `[limits]` says.
pub(super) struct AllLimits {
    pub(super) codec: polyport_codecs::Limits,
    buffers: Buffers,
}

/// What clusters have where they say nothing else.
pub(super) struct ClusterDefaults {
    pub(super) connect_timeout: Duration,
    /// Clients' deadlines are looked for where that means looking deeper.
    pub(super) deadlines: bool,
}

pub(super) fn limits(root: &mut Reader<'_, '_>) -> AllLimits {
    let mut codec = polyport_codecs::Limits::default();
    let mut buffers =
        Buffers { high: 64 << 10, out_of_turn: 8 << 20, in_flight: 1024, connections: 65_536 };
    if let Some(section) = root.section("limits", "[limits]") {
        let size = |key: &str, place: &mut usize| {
            if let Some(size) = section.size(key) {
                *place = usize::try_from(size).unwrap_or(usize::MAX);
            }
        };
        size("head", &mut codec.head);
        size("whole-message", &mut codec.whole);
        size("request-line", &mut codec.request_line);
        size("buffer", &mut buffers.high);
        size("out-of-turn", &mut buffers.out_of_turn);
        if let Some(frame) = section.size("frame") {
            codec.frame = frame;
        }
        if let Some(body) = section.size("body") {
            codec.body = body;
        }
        let count = |key: &str, place: &mut usize| {
            if let Some(count) = section.integer(key, 1..=1 << 31) {
                *place = count as usize;
            }
        };
        count("depth", &mut codec.depth);
        count("elements", &mut codec.elements);
        count("headers", &mut codec.headers);
        codec.thrift_old_binary = section.boolean("thrift-old-binary").unwrap_or(false);
        codec.bolt_go_away = section.boolean("bolt-go-away").unwrap_or(false);
        count("in-flight", &mut buffers.in_flight);
        count("connections", &mut buffers.connections);
        section.finish(&[
            "head",
            "whole-message",
            "request-line",
            "buffer",
            "out-of-turn",
            "frame",
            "body",
            "depth",
            "elements",
            "headers",
            "thrift-old-binary",
            "bolt-go-away",
            "in-flight",
            "connections",
        ]);
    }
    AllLimits { codec, buffers }
}

pub(super) fn buffers(limits: &AllLimits) -> Buffers {
    limits.buffers
}

pub(super) fn defaults(root: &mut Reader<'_, '_>) -> (Timeouts, ClusterDefaults) {
    let mut timeouts = Timeouts {
        request: Duration::from_secs(15),
        stream: Duration::from_secs(300),
        session: None,
        idle: Duration::from_secs(3600),
        read: Duration::from_secs(30),
        write: Duration::from_secs(30),
        drain: Duration::from_secs(30),
        upgrade: Duration::from_secs(30),
        quiet: Duration::from_secs(1),
    };
    let mut clusters =
        ClusterDefaults { connect_timeout: Duration::from_secs(1), deadlines: false };
    if let Some(section) = root.section("defaults", "[defaults]") {
        let set = |key: &str, place: &mut Duration| {
            if let Some(duration) = section.duration(key) {
                *place = duration;
            }
        };
        set("timeout", &mut timeouts.request);
        set("stream-timeout", &mut timeouts.stream);
        set("idle-timeout", &mut timeouts.idle);
        set("read-timeout", &mut timeouts.read);
        set("write-timeout", &mut timeouts.write);
        set("drain-timeout", &mut timeouts.drain);
        set("upgrade-timeout", &mut timeouts.upgrade);
        set("drain-quiet", &mut timeouts.quiet);
        set("connect-timeout", &mut clusters.connect_timeout);
        timeouts.session = section.duration("session-timeout");
        clusters.deadlines = section.boolean("deadlines").unwrap_or(false);
        section.finish(&[
            "timeout",
            "stream-timeout",
            "session-timeout",
            "idle-timeout",
            "read-timeout",
            "write-timeout",
            "drain-timeout",
            "upgrade-timeout",
            "drain-quiet",
            "connect-timeout",
            "deadlines",
        ]);
    }
    (timeouts, clusters)
}

/// One worker a core, unless told otherwise.
pub(super) fn workers(root: &mut Reader<'_, '_>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    root.integer("workers", 1..=1024).map_or(cores, |workers| workers as usize)
}

/// Whether the config file is read again when it changes.
pub(super) fn watches(root: &mut Reader<'_, '_>) -> bool {
    let Some(section) = root.section("reload", "[reload]") else { return false };
    section.finish(&["watch"]);
    section.boolean("watch").unwrap_or(false)
}
