//! Envoy: one worker, its own filter for each protocol, no access log, no admin
//! port, circuit breakers out of the way; all else as it comes.

use std::net::SocketAddr;

use super::{Running, Site};
use crate::load::dubbo::INTERFACE;
use crate::process::Program;
use crate::{Result, Workload};

const REDIS: &str = r#"
      - name: envoy.filters.network.redis_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: redis
          settings: { op_timeout: 10s }
          prefix_routes: { catch_all_route: { cluster: backend } }
"#;

/// The filter for HTTP of any version, to the cluster `backend`.
pub const HTTP: &str = r#"
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{ match: { prefix: "/" }, route: { cluster: backend } }]
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#;

fn dubbo() -> String {
    format!(
        r#"
      - name: envoy.filters.network.dubbo_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.dubbo_proxy.v3.DubboProxy
          stat_prefix: dubbo
          protocol_type: Dubbo
          serialization_type: Hessian2
          multiple_route_config:
            name: dubbo
            route_config:
            - name: shop
              interface: {INTERFACE}
              routes:
              - match: {{ method: {{ name: {{ exact: echo }} }} }}
                route: {{ cluster: backend }}
"#
    )
}

/// The call's bytes past its head go through unread, as they may where both ends
/// are framed.
const THRIFT: &str = r#"
      - name: envoy.filters.network.thrift_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.thrift_proxy.v3.ThriftProxy
          stat_prefix: thrift
          transport: FRAMED
          protocol: BINARY
          payload_passthrough: true
          route_config:
            name: thrift
            routes: [{ match: { method_name: "" }, route: { cluster: backend } }]
"#;

/// Starts it for one workload.
pub fn start(workload: Workload, site: &Site<'_>, listen: SocketAddr) -> Result<Running> {
    let backend = site.backend(workload);
    let filter = match workload {
        Workload::Redis => REDIS.to_owned(),
        Workload::Dubbo => dubbo(),
        Workload::Thrift => THRIFT.to_owned(),
        // Which version a client speaks is seen by its first bytes.
        Workload::Http | Workload::Http2 => HTTP.to_owned(),
        Workload::Bolt | Workload::Mqtt => return Err("Envoy has no filter for this".into()),
    };
    let (ip, port) = (listen.ip(), listen.port());
    let (to_ip, to_port) = (backend.ip(), backend.port());
    let filter = filter.trim_matches('\n');
    let config = format!(
        r#"static_resources:
  listeners:
  - name: all
    address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }}
    filter_chains:
    - filters:
{filter}
  clusters:
  - name: backend
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds:
      - {{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }}
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {to_ip}, port_value: {to_port} }} }} }}
"#
    );
    let (dir, file) = site.config("envoy", "envoy.yaml", &config)?;
    let args = [
        "-c".into(),
        file.into_os_string(),
        "--concurrency".into(),
        "1".into(),
        "--disable-hot-restart".into(),
        "-l".into(),
        "error".into(),
    ];
    site.launch("envoy", &Program::named("envoy"), args, &dir, listen)
}
