//! `[[cluster]]`.

use std::collections::BTreeMap;

use polyport_codecs::Registry;

use super::{Key, Shape, Table};

/// Most that a bound of a breaker can be.
const BOUND: u64 = 1 << 30;

pub(super) static CLUSTER: Table = Table::new(
    "[[cluster]]",
    "CLUSTER in clusters.rs",
    "Servers that are alike, and how they are used.",
    &[
        Key::new("name", Shape::Text, "Its name in routes.").required(),
        Key::new(
            "endpoints",
            Shape::Array(&Shape::Either(&[Shape::Text, Shape::Table(&ENDPOINT)]), 1, 0),
            "Its servers: \"host:port\", or a table. These or discover must be given.",
        ),
        Key::new(
            "discover",
            Shape::Table(&DISCOVER),
            "Where its servers are found while the proxy runs.",
        ),
        Key::new(
            "balance",
            Shape::Either(&[
                Shape::Words(&["round-robin", "least-request", "ewma", "random"]),
                Shape::Table(&BALANCE),
            ]),
            "How an endpoint is chosen. Without it: MQTT by client-id, others in turn.",
        ),
        Key::new(
            "panic",
            Shape::Whole(0, 100),
            "Percent: while fewer endpoints are usable and no other level can take the load, health is ignored.",
        )
        .default("50"),
        Key::new(
            "slow-start",
            Shape::Duration,
            "How long an endpoint that became usable again warms up.",
        ),
        Key::new("locality", Shape::Table(&LOCALITY), "How zones are kept to."),
        Key::new(
            "subset-fallback",
            Shape::Words(&["none", "any"]),
            "Where no endpoint with a target's labels can be used: the request is refused, or any endpoint will do.",
        )
        .default("\"none\""),
        Key::new(
            "exchange",
            Shape::Words(&["natural", "ordered"]),
            "Ordered: one request at a time on each connection, for servers that answer one after the other.",
        )
        .default("\"natural\""),
        Key::new(
            "tls",
            Shape::Either(&[Shape::Flag, Shape::Table(&TLS)]),
            "TLS towards the endpoints; true is with the system's authorities.",
        )
        .default("false"),
        Key::new(
            "proxy-protocol",
            Shape::Words(&["v1", "v2"]),
            "The PROXY header that endpoints are sent. Connections are then one client's.",
        ),
        Key::new("http2", Shape::Flag, "HTTP goes to these endpoints over HTTP/2; gRPC needs it.")
            .default("false"),
        Key::new(
            "connect-timeout",
            Shape::Duration,
            "A connection set up, TLS included. Without it: that of [defaults].",
        ),
        Key::new(
            "connections",
            Shape::Whole(1, 1 << 20),
            "Shared connections to each endpoint, by each worker.",
        )
        .default("1"),
        Key::new(
            "max-connections",
            Shape::Whole(1, 1 << 20),
            "Connections of any sort to each endpoint, by each worker.",
        )
        .default("4096"),
        Key::new(
            "max-requests",
            Shape::Whole(1, 1 << 20),
            "Requests in flight to each endpoint, by each worker.",
        )
        .default("65536"),
        Key::new("idle-timeout", Shape::Duration, "How long an idle pooled connection is kept.")
            .default("\"60s\""),
        Key::new(
            "heartbeat",
            Shape::Duration,
            "How often an idle shared connection is probed, where the protocol can.",
        )
        .default("\"15s\""),
        Key::new("breaker", Shape::Table(&BREAKER), "Bounds that all workers count together."),
        Key::new(
            "health",
            Shape::Either(&[Shape::Duration, Shape::Table(&HEALTH)]),
            "Checks of its endpoints: how often they are asked for a connection, or a table.",
        ),
        Key::new(
            "outlier",
            Shape::Either(&[Shape::Flag, Shape::Table(&OUTLIER)]),
            "Endpoints to which requests fare badly are passed over for a while.",
        ),
        Key::new(
            "retry-budget",
            Shape::Table(&RETRY_BUDGET),
            "How many retries its endpoints bear.",
        ),
    ],
);

static ENDPOINT: Table = Table::new(
    "an endpoint",
    "ENDPOINT in clusters.rs",
    "One server.",
    &[
        Key::new("address", Shape::Text, "\"host:port\".").required(),
        Key::new("weight", Shape::Whole(1, 10_000), "Its share.").default("1"),
        Key::new("labels", Shape::Labels, "Names and values that routes choose by."),
        Key::new("zone", Shape::Text, "Where it is."),
        Key::new(
            "priority",
            Shape::Whole(0, 255),
            "Endpoints of a higher number get what the lower ones cannot carry.",
        )
        .default("0"),
    ],
);

static DISCOVER: Table = Table::new(
    "discover",
    "DISCOVER in clusters.rs",
    "Endpoints that come and go while the proxy runs, from one of dns, srv and file.",
    &[
        Key::new("dns", Shape::Text, "\"host:port\": all addresses of a name."),
        Key::new("srv", Shape::Text, "\"_service._tcp.name\": SRV records."),
        Key::new(
            "file",
            Shape::Text,
            "A file, TOML or JSON, with endpoints as a cluster has them.",
        ),
        Key::new(
            "every",
            Shape::Duration,
            "The least pause between two questions or looks, 100ms to 5m. Without it: 5s, for a file 500ms.",
        ),
        Key::new(
            "resolver",
            Shape::Array(&Shape::Text, 1, 0),
            "DNS servers to ask, with their ports. Without it: the system's.",
        ),
        Key::new(
            "empty",
            Shape::Words(&["keep", "believe"]),
            "What an answer without any endpoint means: the last ones stay, or there are none.",
        )
        .default("\"keep\""),
        Key::new("weight", Shape::Whole(1, 10_000), "Of all endpoints.").default("1"),
        Key::new("labels", Shape::Labels, "Of all endpoints."),
        Key::new("zone", Shape::Text, "Of all endpoints."),
        Key::new("priority", Shape::Whole(0, 255), "Of all endpoints.").default("0"),
    ],
);

static BALANCE: Table = Table::new(
    "balance",
    "BALANCE in clusters.rs",
    "The same value of a metadata key finds the same endpoint. Messages without it go in turn.",
    &[
        Key::new("hash", Shape::Text, "The key, by a hash ring."),
        Key::new("maglev", Shape::Text, "The key, by a Maglev table; instead of hash."),
        Key::new(
            "bound",
            Shape::Number(1.0, 100.0),
            "1.25: no endpoint gets more than 1.25 times its share of a worker's requests in flight.",
        ),
    ],
);

static LOCALITY: Table = Table::new(
    "locality",
    "LOCALITY in clusters.rs",
    "How zones are kept to.",
    &[Key::new(
        "min-local",
        Shape::Whole(1, 100),
        "Percent of our zone's weight that must be usable for it to get all of the load.",
    )
    .default("70")],
);

static TLS: Table = Table::new(
    "tls of a cluster",
    "TLS in clusters.rs",
    "TLS towards the endpoints.",
    &[
        Key::new(
            "ca",
            Shape::Text,
            "A file: who vouches for the endpoints. Without it: the system's authorities.",
        ),
        Key::new(
            "server-name",
            Shape::Text,
            "The name that they must prove. Without it: each endpoint's host.",
        ),
        Key::new("cert", Shape::Text, "A file: our own certificate; with key."),
        Key::new("key", Shape::Text, "A file: its private key."),
    ],
);

static BREAKER: Table = Table::new(
    "breaker",
    "BREAKER in clusters.rs",
    "Bounds that all workers count together. Over a bound a request is answered that there is overload.",
    &[
        Key::new(
            "connections",
            Shape::Whole(1, BOUND),
            "Connections of any sort to the cluster. Without it: no bound.",
        ),
        Key::new(
            "requests",
            Shape::Whole(1, BOUND),
            "Requests in flight to the cluster. Without it: no bound.",
        ),
        Key::new(
            "pending",
            Shape::Whole(0, BOUND),
            "Requests that wait for a connection; 0: none waits.",
        )
        .default("1024"),
        Key::new("endpoint", Shape::Table(&BREAKER_ENDPOINT), "The same of each endpoint."),
    ],
);

static BREAKER_ENDPOINT: Table = Table::new(
    "breaker.endpoint",
    "BREAKER_ENDPOINT in clusters.rs",
    "Bounds of each endpoint.",
    &[
        Key::new("connections", Shape::Whole(1, BOUND), "Connections. Without it: no bound."),
        Key::new("requests", Shape::Whole(1, BOUND), "Requests. Without it: no bound."),
    ],
);

static HEALTH: Table = Table {
    more: Some(options),
    ..Table::new(
        "health",
        "HEALTH in clusters.rs",
        "Checks of the endpoints. Those that fail get no new requests until they pass again.",
        &[
            Key::new("every", Shape::Duration, "From one check to the next.").default("\"5s\""),
            Key::new(
                "timeout",
                Shape::Duration,
                "One check, from the connection to the last answer.",
            )
            .default("\"1s\""),
            Key::new(
                "unhealthy",
                Shape::Whole(1, 1000),
                "Failed checks in a row after which an endpoint is not used.",
            )
            .default("3"),
            Key::new("healthy", Shape::Whole(1, 1000), "Passed ones after which it is used again.")
                .default("2"),
            Key::new(
                "jitter",
                Shape::Whole(0, 100),
                "Each pause is up to so many percent longer or shorter.",
            )
            .default("10"),
            Key::new(
                "protocol",
                Shape::Check,
                "What is spoken. Without it a connection is all that is asked.",
            ),
        ],
    )
};

/// What the protocols' checks can be told, each key once.
fn options(registry: &Registry) -> Vec<Key> {
    let mut all = BTreeMap::new();
    for way in registry.protocols().iter().flat_map(|protocol| protocol.health_ways()) {
        for option in way.options {
            let key = Key::new(option.name, Shape::Values, option.about);
            all.entry(option.name).or_insert(key);
        }
    }
    all.into_values().collect()
}

static OUTLIER: Table = Table::new(
    "outlier",
    "OUTLIER in clusters.rs",
    "When an endpoint to which requests fare badly is passed over, and for how long.",
    &[
        Key::new(
            "consecutive",
            Shape::Whole(0, 1_000_000),
            "Failures in a row that eject; 0: none do.",
        )
        .default("5"),
        Key::new(
            "success-rate",
            Shape::Either(&[Shape::Number(1.0, 100.0), Shape::Table(&SUCCESS_RATE)]),
            "The least percentage of requests that must fare well in an interval.",
        ),
        Key::new(
            "latency",
            Shape::Number(1.1, 1000.0),
            "A mean latency of more than so many times the median of the others' ejects.",
        ),
        Key::new("every", Shape::Duration, "The interval.").default("\"10s\""),
        Key::new("base", Shape::Duration, "How long a first ejection lasts.").default("\"30s\""),
        Key::new("max", Shape::Duration, "The longest ejection.").default("\"300s\""),
        Key::new("cap", Shape::Whole(1, 100), "Percent of the endpoints that may be out at once.")
            .default("50"),
        Key::new(
            "min-requests",
            Shape::Whole(1, 1_000_000_000),
            "Requests in the interval without which an endpoint is not judged by rate or latency.",
        )
        .default("50"),
        Key::new(
            "min-endpoints",
            Shape::Whole(2, 1 << 20),
            "Endpoints with so many requests, without which they are not compared.",
        )
        .default("3"),
    ],
);

static SUCCESS_RATE: Table = Table::new(
    "success-rate",
    "SUCCESS_RATE in clusters.rs",
    "The least rate, compared with the other endpoints'.",
    &[Key::new(
        "deviation",
        Shape::Number(0.1, 10.0),
        "So many standard deviations below the mean of all endpoints.",
    )
    .required()],
);

static RETRY_BUDGET: Table = Table::new(
    "retry-budget",
    "RETRY_BUDGET in clusters.rs",
    "How many retries the endpoints bear, by each worker.",
    &[
        Key::new("percent", Shape::Whole(0, 1000), "Retries per 100 requests.").default("20"),
        Key::new("burst", Shape::Whole(0, 1_000_000), "Retries saved up at most.").default("1000"),
    ],
);
