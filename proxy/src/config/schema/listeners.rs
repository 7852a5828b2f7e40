//! `[[listener]]`.

use super::{Key, Shape, Table};

pub(super) static LISTENER: Table = Table::new(
    "[[listener]]",
    "LISTENER in listeners.rs",
    "An address where clients connect.",
    &[
        Key::new("address", Shape::Text, "Where to listen: \"0.0.0.0:7000\", \"[::]:7000\".")
            .required(),
        Key::new(
            "name",
            Shape::Text,
            "Its name in rules and in the log. Without it: its address.",
        ),
        Key::new(
            "protocols",
            Shape::Array(&Shape::Protocol(&[]), 0, 0),
            "The protocols detected here; a single one is taken as given. Without it: all.",
        ),
        Key::new(
            "fallback",
            Shape::Protocol(&["close", "tcp"]),
            "What becomes of a connection that no protocol recognises: it is closed, carried as it is (tcp), or taken for a protocol.",
        )
        .default("\"close\""),
        Key::new(
            "detect-timeout",
            Shape::Duration,
            "How long a PROXY header, the TLS handshake and the first bytes may take.",
        )
        .default("\"5s\""),
        Key::new(
            "tls",
            Shape::Table(&TLS),
            "TLS is opened here; plain connections are served on the same port.",
        ),
        Key::new(
            "proxy-protocol",
            Shape::Words(&["required", "optional", "off"]),
            "A PROXY header, version 1 or 2, before everything else. Whoever may connect is believed.",
        )
        .default("\"off\""),
    ],
);

static TLS: Table = Table::new(
    "tls of a listener",
    "TLS in listeners.rs",
    "How TLS is opened.",
    &[
        Key::new(
            "certificates",
            Shape::Array(&Shape::Table(&CERTIFICATE), 1, 0),
            "A client is shown the one for the name it asks for; the first where none fits.",
        )
        .required(),
        Key::new("client-ca", Shape::Text, "A file: who may vouch for clients."),
        Key::new(
            "client-auth",
            Shape::Words(&["required", "optional", "none"]),
            "Whether clients show a certificate. Without it: required where there is a client-ca, else none.",
        ),
        Key::new("alpn", Shape::Array(&Shape::Text, 0, 0), "What is offered, best first.")
            .default("[\"h2\", \"http/1.1\"]"),
        Key::new(
            "passthrough",
            Shape::Array(&Shape::Text, 0, 0),
            "Names (\"*.shop.example\" for all below) that are not opened but routed as tls.",
        ),
        Key::new("required", Shape::Flag, "Connections without TLS are closed.").default("false"),
    ],
);

static CERTIFICATE: Table = Table::new(
    "a certificate",
    "CERTIFICATE in listeners.rs",
    "Two files in PEM.",
    &[
        Key::new("cert", Shape::Text, "The chain's file.").required(),
        Key::new("key", Shape::Text, "The private key's file.").required(),
    ],
);
