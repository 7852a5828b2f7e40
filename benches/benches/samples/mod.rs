//! Messages to decode and to detect: a protocol's are a line each in [`all`].

use polyport_benches::backend::{bolt, mqtt, thrift};
use polyport_benches::load::dialect;
use polyport_benches::{Result, Workload};
use polyport_codecs::dubbo::call::Call;
use polyport_codecs::{Registry, Side};

/// A message.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// What it is, and by what it is routed.
    pub(crate) name: &'static str,
    /// The protocol's name in the registry.
    pub(crate) protocol: &'static str,
    /// Who wrote it.
    pub(crate) side: Side,
    /// What comes before it on every connection, once.
    pub(crate) opening: Vec<u8>,
    /// All of it, and nothing else.
    pub(crate) message: Vec<u8>,
    /// The keys that are wanted.
    pub(crate) keys: &'static [&'static str],
}

type Keys = &'static [&'static str];

fn request(
    protocol: &'static str,
    name: &'static str,
    message: impl Into<Vec<u8>>,
    keys: Keys,
) -> Sample {
    let (opening, message) = (Vec::new(), message.into());
    Sample { name, protocol, side: Side::Request, opening, message, keys }
}

fn reply(
    protocol: &'static str,
    name: &'static str,
    message: impl Into<Vec<u8>>,
    keys: Keys,
) -> Sample {
    Sample { side: Side::Reply, ..request(protocol, name, message, keys) }
}

impl Sample {
    fn after(self, opening: Vec<u8>) -> Self {
        Self { opening, ..self }
    }
}

/// The request that `compare` sends.
fn call(workload: Workload) -> Vec<u8> {
    let mut out = Vec::new();
    dialect(workload).request(0, 1, &mut out);
    out
}

/// What `compare` sends before it.
fn opening(workload: Workload) -> Vec<u8> {
    let mut out = Vec::new();
    dialect(workload).open(0, &mut out);
    out
}

/// What a backend of `compare` answers.
fn answer(serve: polyport_benches::backend::Serve, request: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    serve(request, &mut out)?;
    Ok(out)
}

/// Every sample whose protocol `registry` knows; the others are named on stderr.
pub(crate) fn all(registry: &Registry) -> Result<Vec<Sample>> {
    let get = "GET /shop/cart?page=2 HTTP/1.1\r\nhost: shop.example\r\nuser-agent: curl/8\r\naccept: */*\r\nx-tenant: acme\r\n\r\n";
    let post = "POST /shop/cart HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 0\r\n\r\n";
    let mut dubbo = Vec::new();
    Call {
        id: 1,
        interface: "com.shop.Orders",
        version: Some("1.0.0"),
        method: "find",
        arguments: &["42", "a somewhat longer argument of a call"],
        attachments: &[("path", "com.shop.Orders"), ("tenant", "acme"), ("trace", "0123456789")],
        oneway: false,
    }
    .encode(&mut dubbo);
    let dubbo = dubbo.as_slice();
    let (connect, publish) = (opening(Workload::Mqtt), call(Workload::Mqtt));
    let (connack, puback) = (answer(mqtt::serve, &connect)?, answer(mqtt::serve, &publish)?);
    let (in_thrift, in_bolt) = (call(Workload::Thrift), call(Workload::Bolt));
    let from_thrift = answer(thrift::serve, &in_thrift)?;
    let from_bolt = answer(bolt::serve, &in_bolt)?;
    let redis_get = "*2\r\n$3\r\nGET\r\n$7\r\nuser:42\r\n";
    let redis_set = "*3\r\n$3\r\nSET\r\n$7\r\nuser:42\r\n$5\r\nalice\r\n";
    let samples = vec![
        request("redis", "redis get", redis_get, &["command"]),
        request("redis", "redis set, by key", redis_set, &["command", "key"]),
        reply("redis", "redis bulk reply", "$5\r\nalice\r\n", &[]),
        request("http", "http get, by path", get, &["path"]),
        request("http", "http get, by header", get, &["path", "header.x-tenant"]),
        request("http", "http post, by path", post, &["path"]),
        request("dubbo", "dubbo, framing only", dubbo, &[]),
        request("dubbo", "dubbo, by method", dubbo, &["interface", "method"]),
        request("dubbo", "dubbo, by attachment", dubbo, &["attachment.tenant"]),
        request("thrift", "thrift, framing only", in_thrift.clone(), &[]),
        request("thrift", "thrift, by method", in_thrift, &["method"]),
        reply("thrift", "thrift reply", from_thrift, &[]),
        request("bolt", "bolt, framing only", in_bolt.clone(), &[]),
        request("bolt", "bolt, by method", in_bolt.clone(), &["service", "method"]),
        request("bolt", "bolt, by header", in_bolt, &["header.tenant"]),
        reply("bolt", "bolt response", from_bolt, &[]),
        request("mqtt", "mqtt publish, by topic", publish, &["topic"]).after(connect),
        reply("mqtt", "mqtt puback", puback, &[]).after(connack),
    ];
    let known = |sample: &Sample| {
        let known = registry.get(sample.protocol).is_some();
        if !known {
            eprintln!("skipped, no such protocol: {}", sample.name);
        }
        known
    };
    Ok(samples.into_iter().filter(known).collect())
}
