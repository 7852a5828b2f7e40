//! nginx: one process, `proxy_pass` to a keep-alive upstream.

use std::net::SocketAddr;

use super::{Running, Site};
use crate::Result;
use crate::process::Program;

/// Starts it.
pub fn start(site: &Site<'_>, listen: SocketAddr) -> Result<Running> {
    let backend = site.backends.http;
    let config = format!(
        "daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path tmp-body;
  proxy_temp_path tmp-proxy;
  fastcgi_temp_path tmp-fastcgi;
  uwsgi_temp_path tmp-uwsgi;
  scgi_temp_path tmp-scgi;
  keepalive_requests 1000000000;
  upstream backend {{
    server {backend};
    keepalive 1024;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {listen};
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
"
    );
    let (dir, file) = site.config("nginx", "nginx.conf", &config)?;
    let args = [
        "-p".into(),
        dir.clone().into_os_string(),
        "-c".into(),
        file.into_os_string(),
        "-e".into(),
        "stderr".into(),
    ];
    site.launch("nginx", &Program::named("nginx"), args, &dir, listen)
}
