//! `[[route]]`, and what is asked of metadata.

use super::{Key, Shape, Table};

pub(super) static ROUTE: Table = Table::new(
    "[[route]]",
    "ROUTE in routes.rs",
    "A rule. It sends (to), refuses (deny), or answers (redirect, respond).",
    &[
        Key::new("name", Shape::Text, "Its name in logs, explain and templates."),
        Key::new(
            "match",
            Shape::Match,
            "Metadata keys and what is asked of their values; all must hold. Without it: everything.",
        ),
        Key::new(
            "to",
            Shape::Either(&[
                Shape::Text,
                Shape::Table(&TARGET),
                Shape::Array(&Shape::Either(&[Shape::Text, Shape::Table(&TARGET)]), 1, 0),
            ]),
            "A cluster's name, a table, or an array of them, of which one is drawn by weight.",
        ),
        Key::new("deny", Shape::Flag, "Refused with the protocol's own error.").default("false"),
        Key::new("redirect", Shape::Table(&REDIRECT), "HTTP: the client is sent elsewhere."),
        Key::new("respond", Shape::Table(&RESPOND), "HTTP: the answer itself."),
        Key::new(
            "timeout",
            Shape::Duration,
            "From a whole request to the end of its reply. Without it: that of [defaults].",
        ),
        Key::new(
            "stream-timeout",
            Shape::Duration,
            "A request or reply whose body is under way: how long nothing may move. Without it: that of [defaults].",
        ),
        Key::new(
            "session-timeout",
            Shape::Duration,
            "How long a session (MQTT, WebSocket, opaque TCP) may last. Without it: that of [defaults].",
        ),
        Key::new(
            "idle-timeout",
            Shape::Duration,
            "How long nothing may move in a session, either way. Without it: no bound.",
        ),
        Key::new(
            "sticky",
            Shape::Text,
            "A metadata key: the same value always takes the same arm of a split.",
        ),
        Key::new(
            "only",
            Shape::Match,
            "As match: of the messages that take this route, these are let in and all others denied.",
        ),
        Key::new(
            "limit",
            Shape::Either(&[
                Shape::Rate,
                Shape::Table(&LIMIT),
                Shape::Array(&Shape::Either(&[Shape::Rate, Shape::Table(&LIMIT)]), 1, 8),
            ]),
            "How many messages may come in a time: \"100/s\", a table, or an array of them.",
        ),
        Key::new(
            "retry",
            Shape::Table(&RETRY),
            "When a request is tried again, at another endpoint where there is one.",
        ),
        Key::new(
            "mirror",
            Shape::Either(&[Shape::Text, Shape::Table(&MIRROR)]),
            "Where copies of requests go: a cluster's name, or a table.",
        ),
        Key::new(
            "fault",
            Shape::Either(&[Shape::Table(&FAULT), Shape::Array(&Shape::Table(&FAULT), 1, 16)]),
            "What goes wrong on purpose.",
        ),
        Key::new("audit", Shape::Flag, "Whether its denials are told.").default("true"),
        Key::new("request", Shape::Table(&REQUEST), "Changes to requests."),
        Key::new("response", Shape::Table(&RESPONSE), "Changes to their replies."),
    ],
);

static TARGET: Table = Table::new(
    "a target",
    "TARGET in routes.rs",
    "A cluster, perhaps some endpoints of it only, and its share.",
    &[
        Key::new("cluster", Shape::Text, "Its name.").required(),
        Key::new("labels", Shape::Labels, "Only endpoints that have these."),
        Key::new("weight", Shape::Whole(0, 1_000_000), "This arm's share.").default("1"),
    ],
);

static REDIRECT: Table = Table::new(
    "redirect",
    "REDIRECT in routes.rs",
    "HTTP: the client is sent elsewhere.",
    &[
        Key::new("to", Shape::Text, "A template: \"https://{host}{path}\".").required(),
        Key::new("status", Shape::OneOf(&[301, 302, 303, 307, 308]), "The status.").default("302"),
    ],
);

static RESPOND: Table = Table::new(
    "respond",
    "RESPOND in routes.rs",
    "HTTP: the answer itself.",
    &[
        Key::new("status", Shape::Whole(200, 599), "The status.").default("200"),
        Key::new("body", Shape::Text, "As it is, not a template."),
        Key::new("content-type", Shape::Text, "Of the body.").default("\"text/plain\""),
        Key::new("headers", Shape::Labels, "Names and templates."),
    ],
);

static LIMIT: Table = Table::new(
    "a limit",
    "LIMIT in routes.rs",
    "How many messages may come in a time. What is over is refused as overload.",
    &[
        Key::new("rate", Shape::Rate, "\"100/s\", \"5/m\", \"1000/h\".").required(),
        Key::new(
            "burst",
            Shape::Whole(1, 1 << 32),
            "How many may come at once. Without it: the rate's number.",
        ),
        Key::new(
            "by",
            Shape::Either(&[Shape::Text, Shape::Array(&Shape::Text, 1, 0)]),
            "A metadata key, or several: each value has a limit of its own. Without it: all share one.",
        ),
        Key::new(
            "values",
            Shape::Whole(1, 1 << 20),
            "With by: how many values at once there is room for.",
        )
        .default("10000"),
    ],
);

static RETRY: Table = Table::new(
    "retry",
    "RETRY in routes.rs",
    "When a request is tried again, at another endpoint where there is one.",
    &[
        Key::new("attempts", Shape::Whole(1, 10), "Further tries after the first.").default("1"),
        Key::new(
            "on",
            Shape::Array(&Shape::Text, 1, 0),
            "connect-failure, reset, timeout, unavailable, overloaded, server-error; for HTTP also statuses: 503, 5xx, grpc-aborted.",
        )
        .default("[\"connect-failure\", \"reset\", \"unavailable\"]"),
        Key::new(
            "per-try",
            Shape::Duration,
            "How long each try may take. Without it: as long as the request.",
        ),
        Key::new("backoff", Shape::Duration, "The longest wait before the first retry.")
            .default("\"25ms\""),
        Key::new("max-backoff", Shape::Duration, "No wait is longer.").default("\"250ms\""),
        Key::new("idempotent", Shape::Flag, "Every request of this route may be sent twice.")
            .default("false"),
        Key::new(
            "buffer",
            Shape::Size,
            "Bytes of a request above which it is not tried again; at most 16MiB.",
        )
        .default("\"64KiB\""),
    ],
);

static MIRROR: Table = Table::new(
    "a mirror",
    "MIRROR in routes.rs",
    "Where copies of requests go; their answers are dropped.",
    &[
        Key::new("cluster", Shape::Text, "Its name.").required(),
        Key::new("labels", Shape::Labels, "Only endpoints that have these."),
        Key::new("percent", Shape::Number(0.0, 100.0), "How many requests are copied.")
            .default("100"),
        Key::new(
            "requests",
            Shape::Whole(1, 1_000_000),
            "Copies in flight by each worker, above which none is made.",
        )
        .default("100"),
        Key::new(
            "buffer",
            Shape::Size,
            "Bytes of a request above which it is not copied; at most 16MiB.",
        )
        .default("\"64KiB\""),
    ],
);

static FAULT: Table = Table::new(
    "a fault",
    "FAULT in routes.rs",
    "What goes wrong on purpose: one of delay, abort, reset and bandwidth.",
    &[
        Key::new("delay", Shape::Duration, "The message waits so long."),
        Key::new(
            "abort",
            Shape::Either(&[
                Shape::Words(&[
                    "unavailable",
                    "overloaded",
                    "denied",
                    "timeout",
                    "connect-failed",
                    "upstream-reset",
                    "no-route",
                    "unsupported",
                    "shutting-down",
                ]),
                Shape::Whole(200, 599),
            ]),
            "It is answered with the protocol's own words for this; for HTTP also a status.",
        ),
        Key::new("reset", Shape::Flag, "True: its connection is reset; of HTTP/2 its stream."),
        Key::new(
            "bandwidth",
            Shape::Bandwidth,
            "\"100KiB/s\": bodies and sessions are read no faster.",
        ),
        Key::new("percent", Shape::Number(0.0, 100.0), "How many of a hundred messages meet it.")
            .default("100"),
        Key::new("match", Shape::Match, "Which messages may meet it. Without it: all."),
    ],
);

static REQUEST: Table = Table::new(
    "request",
    "REQUEST in routes.rs",
    "Changes to requests. Values are templates: {KEY} is a key's value in the request.",
    &[
        Key::new("set", Shape::Texts, "This value and no other."),
        Key::new("append", Shape::Texts, "One more value."),
        Key::new("remove", Shape::Array(&Shape::Text, 0, 0), "Keys to leave out."),
        Key::new(
            "replace-prefix",
            Shape::Pairs,
            "How a value begins, and how it is to begin: { path = [\"/api/\", \"/\"] }.",
        ),
    ],
);

static RESPONSE: Table = Table::new(
    "response",
    "RESPONSE in routes.rs",
    "Changes to replies. Values are templates: {KEY} is a key's value in the request.",
    &[
        Key::new("set", Shape::Texts, "This value and no other."),
        Key::new("append", Shape::Texts, "One more value."),
        Key::new("remove", Shape::Array(&Shape::Text, 0, 0), "Keys to leave out."),
    ],
);

/// What is asked of a value, all at once.
pub(super) static MATCHER: Table = Table::new(
    "a matcher",
    "MATCHER in routes.rs",
    "What is asked of a value; all of these must hold.",
    &[
        Key::new("prefix", Shape::Text, "It begins so."),
        Key::new("suffix", Shape::Text, "It ends so."),
        Key::new("contains", Shape::Text, "It has this in it."),
        Key::new("regex", Shape::Text, "A regular expression matches all of it."),
        Key::new("present", Shape::Flag, "Whether there is a value at all."),
        Key::new("in", Shape::Either(&[Shape::Values, Shape::Flag]), "It is one of these."),
        Key::new("min", Shape::Number(f64::MIN, f64::MAX), "A number, this or more."),
        Key::new("max", Shape::Number(f64::MIN, f64::MAX), "A number, this or less."),
        Key::new("cidr", Shape::Values, "An address of these networks."),
        Key::new("not", Shape::Matcher, "This does not hold."),
        Key::new("any", Shape::Array(&Shape::Matcher, 0, 0), "One of these holds."),
    ],
);
