//! The top of a config, and its small tables.

use super::clusters::CLUSTER;
use super::listeners::LISTENER;
use super::routes::ROUTE;
use super::{Key, Shape, Table};

/// The config itself.
pub static ROOT: Table = Table::new(
    "the config",
    "ROOT in settings.rs",
    "One TOML file. File names in it are relative to its folder.",
    &[
        Key::new(
            "workers",
            Shape::Whole(1, 1024),
            "Threads, each with its own sockets and pools. Without it: one a core.",
        ),
        Key::new(
            "user",
            Shape::Text,
            "Who the process becomes once its ports are bound, a name or number. Without it: it stays who it is.",
        ),
        Key::new("group", Shape::Text, "The group that it becomes. Without it: the user's own."),
        Key::new(
            "zone",
            Shape::Text,
            "Where this proxy runs: endpoints of the same zone come first.",
        ),
        Key::new(
            "listener",
            Shape::Array(&Shape::Table(&LISTENER), 1, 0),
            "Where clients connect; one at least.",
        )
        .required(),
        Key::new(
            "cluster",
            Shape::Array(&Shape::Table(&CLUSTER), 0, 0),
            "Servers that are alike, and how they are used.",
        ),
        Key::new(
            "route",
            Shape::Array(&Shape::Table(&ROUTE), 0, 0),
            "Rules, of which the first that matches a message decides.",
        ),
        Key::new("defaults", Shape::Table(&DEFAULTS), "Times where routes and clusters name none."),
        Key::new("limits", Shape::Table(&LIMITS), "What one message or client may cost."),
        Key::new("admin", Shape::Table(&ADMIN), "Where operators ask how the proxy is."),
        Key::new(
            "access-log",
            Shape::Array(&Shape::Table(&ACCESS_LOG), 0, 0),
            "Where a line is written of what became of each message.",
        ),
        Key::new(
            "overload",
            Shape::Table(&OVERLOAD),
            "What gives way before descriptors or memory run out.",
        ),
        Key::new("reload", Shape::Table(&RELOAD), "When the config is read again."),
        Key::new("metrics", Shape::Table(&METRICS), "How the figures for Prometheus are told."),
        Key::new(
            "access",
            Shape::Table(&ACCESS),
            "What becomes of messages that no route matches, and who is told of denials.",
        ),
    ],
);

static DEFAULTS: Table = Table::new(
    "[defaults]",
    "DEFAULTS in settings.rs",
    "Times where routes and clusters name none.",
    &[
        Key::new("timeout", Shape::Duration, "Of routes that say none.").default("\"15s\""),
        Key::new(
            "stream-timeout",
            Shape::Duration,
            "A request or reply whose body is under way: how long nothing may move.",
        )
        .default("\"300s\""),
        Key::new(
            "session-timeout",
            Shape::Duration,
            "Of routes that say none. Without it: no bound.",
        ),
        Key::new(
            "idle-timeout",
            Shape::Duration,
            "A client's connection on which nothing is in flight.",
        )
        .default("\"1h\""),
        Key::new("read-timeout", Shape::Duration, "A message begun and not gone on with.")
            .default("\"30s\""),
        Key::new(
            "write-timeout",
            Shape::Duration,
            "A peer that takes none of the bytes waiting for it.",
        )
        .default("\"30s\""),
        Key::new(
            "drain-timeout",
            Shape::Duration,
            "How long clients that are to leave are served and waited for.",
        )
        .default("\"30s\""),
        Key::new(
            "drain-quiet",
            Shape::Duration,
            "The connection of such a client ends when nothing has been on it for so long.",
        )
        .default("\"1s\""),
        Key::new(
            "upgrade-timeout",
            Shape::Duration,
            "How long another binary may take to be ready in a hot upgrade.",
        )
        .default("\"30s\""),
        Key::new("connect-timeout", Shape::Duration, "Of clusters that say none.")
            .default("\"1s\""),
        Key::new(
            "deadlines",
            Shape::Flag,
            "Dubbo's attachments are read for how long the client waits.",
        )
        .default("false"),
    ],
);

static LIMITS: Table = Table::new(
    "[limits]",
    "LIMITS in settings.rs",
    "What one message or client may cost.",
    &[
        Key::new("head", Shape::Size, "Bytes of what routing may look at.").default("\"64KiB\""),
        Key::new(
            "whole-message",
            Shape::Size,
            "Bytes of a message that is held as one piece; longer ones are streamed.",
        )
        .default("\"64KiB\""),
        Key::new(
            "frame",
            Shape::Size,
            "Bytes of one frame; codecs lower it to what their peers accept.",
        )
        .default("\"512MiB\""),
        Key::new(
            "body",
            Shape::Size,
            "HTTP: bytes of a declared request body. Without it: no bound.",
        ),
        Key::new("request-line", Shape::Size, "HTTP/1.1: bytes of the request line.")
            .default("\"8KiB\""),
        Key::new("headers", Shape::Whole(1, 1 << 31), "HTTP: fields of one head.").default("100"),
        Key::new("depth", Shape::Whole(1, 1 << 31), "Nesting of values.").default("64"),
        Key::new("elements", Shape::Whole(1, 1 << 31), "Elements of one message.")
            .default("1048576"),
        Key::new(
            "thrift-old-binary",
            Shape::Flag,
            "The old binary encoding, which cannot be detected: its listener names thrift alone.",
        )
        .default("false"),
        Key::new(
            "bolt-go-away",
            Shape::Flag,
            "Bolt clients of version 1 that are to leave are sent MOSN's go-away.",
        )
        .default("false"),
        Key::new(
            "buffer",
            Shape::Size,
            "Bytes waiting for a peer above which whoever feeds it is not read.",
        )
        .default("\"64KiB\""),
        Key::new(
            "out-of-turn",
            Shape::Size,
            "Bytes of replies that came before their turn, above which the connection is cut.",
        )
        .default("\"8MiB\""),
        Key::new(
            "in-flight",
            Shape::Whole(1, 1 << 31),
            "Requests of one client's connection above which it is not read.",
        )
        .default("1024"),
        Key::new("connections", Shape::Whole(1, 1 << 31), "Clients' connections of each worker.")
            .default("65536"),
    ],
);

static ADMIN: Table = Table::new(
    "[admin]",
    "ADMIN in settings.rs",
    "Where operators ask how the proxy is.",
    &[
        Key::new(
            "address",
            Shape::Text,
            "Host and port, on loopback: \"127.0.0.1:7001\". This or socket must be given.",
        ),
        Key::new(
            "socket",
            Shape::Text,
            "A unix socket; only the user that the proxy runs as may use it.",
        ),
        Key::new(
            "write",
            Shape::Flag,
            "Endpoints may be drained, the config reloaded, the log level changed.",
        )
        .default("false"),
    ],
);

static ACCESS_LOG: Table = Table::new(
    "[[access-log]]",
    "ACCESS_LOG in settings.rs",
    "Where a line is written of what became of each message, and what stands on it.",
    &[
        Key::new("to", Shape::Text, "\"stdout\", \"stderr\", or a file.").required(),
        Key::new(
            "format",
            Shape::Text,
            "\"json\", or a template: \"{time} {source.ip} {route} {status} {duration}\".",
        )
        .default("\"json\""),
        Key::new(
            "keys",
            Shape::Array(&Shape::Text, 0, 0),
            "Metadata keys that JSON lines have beside their fields.",
        ),
        Key::new(
            "match",
            Shape::Logged,
            "Of which messages: as a route's match, and what became of them. Without it: of all.",
        ),
        Key::new("sample", Shape::Number(0.0, 100.0), "Of how many of a hundred, drawn by chance.")
            .default("100"),
        Key::new(
            "errors",
            Shape::Words(&["all", "sampled"]),
            "Whether failures get their line whatever sample says, or are sampled, too.",
        )
        .default("\"all\""),
        Key::new("messages", Shape::Flag, "Of the messages within sessions, too.").default("false"),
        Key::new(
            "reveal",
            Shape::Array(&Shape::Text, 0, 0),
            "Metadata keys that are written although they may hold secrets.",
        ),
        Key::new(
            "buffer",
            Shape::Size,
            "Bytes of lines that wait to be written, above which lines are dropped.",
        )
        .default("\"8MiB\""),
    ],
);

static OVERLOAD: Table = Table::new(
    "[overload]",
    "OVERLOAD in settings.rs",
    "What gives way before descriptors or memory run out.",
    &[
        Key::new(
            "memory",
            Shape::Size,
            "Bytes that the process may use. Without it: what the control group allows.",
        ),
        Key::new(
            "descriptors",
            Shape::Whole(1, 1 << 31),
            "Descriptors for connections to clients and endpoints. Without it: what the system allows.",
        ),
        Key::new(
            "close-idle",
            Shape::Whole(10, 100),
            "Percent of either from which idle connections are closed.",
        )
        .default("85"),
        Key::new(
            "stop-accepting",
            Shape::Whole(10, 100),
            "Percent of either from which no connections are accepted.",
        )
        .default("95"),
        Key::new(
            "shed",
            Shape::Whole(10, 100),
            "Percent of the memory from which new requests are refused.",
        )
        .default("98"),
        Key::new(
            "per-source",
            Shape::Whole(1, 1 << 20),
            "Connections that one address may have at once. Without it: no bound.",
        ),
        Key::new(
            "per-source-prefix",
            Shape::Whole(1, 128),
            "Bits of an IPv6 address that count as one source.",
        )
        .default("64"),
        Key::new(
            "trusted",
            Shape::Array(&Shape::Text, 0, 0),
            "Addresses and networks that may have any number.",
        ),
    ],
);

static METRICS: Table = Table::new(
    "[metrics]",
    "METRICS in settings.rs",
    "How the figures for Prometheus are told.",
    &[
        Key::new(
            "buckets",
            Shape::Array(&Shape::Number(0.000_001, 86_400.0), 1, 50),
            "Upper bounds of the histograms' buckets in seconds, rising.",
        ),
        Key::new(
            "exemplars",
            Shape::Text,
            "A metadata key: buckets show its value for one of the requests that they count.",
        ),
        Key::new(
            "series",
            Shape::Whole(100, 10_000_000),
            "About so many time series may be about routes, and as many about clusters and endpoints.",
        ),
    ],
);

static RELOAD: Table = Table::new(
    "[reload]",
    "RELOAD in settings.rs",
    "When the config is read again; SIGHUP asks for it in any case.",
    &[Key::new("watch", Shape::Flag, "Whenever the file changes.").default("false")],
);

static ACCESS: Table = Table::new(
    "[access]",
    "ACCESS in settings.rs",
    "What becomes of messages that no route matches, and who is told of denials.",
    &[
        Key::new(
            "default",
            Shape::Words(&["allow", "deny"]),
            "What no route matches is denied, messages within sessions too; or is answered that there is no route.",
        )
        .default("\"allow\""),
        Key::new(
            "audit",
            Shape::Either(&[Shape::Flag, Shape::Text]),
            "Where denials are told: true is the log, false nowhere, a file's name a file that lines are appended to.",
        )
        .default("true"),
    ],
);
