//! nginx: one process; `proxy_pass` to a keep-alive upstream for HTTP, and the
//! stream module for what it does not read.

use std::net::SocketAddr;

use super::{Running, Site};
use crate::process::Program;
use crate::{Result, Workload};

/// Starts it for one workload.
pub fn start(workload: Workload, site: &Site<'_>, listen: SocketAddr) -> Result<Running> {
    let program = Program::named("nginx");
    let backend = site.backend(workload);
    let (module, traffic) = match workload {
        Workload::Http => (String::new(), http(&listen.to_string(), backend)),
        Workload::Http2 => (String::new(), http(&format!("{listen} http2"), backend)),
        _ => (stream_module(&program)?, stream(listen, backend)),
    };
    let config = format!(
        "{module}daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 19900; }}
{traffic}"
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
    site.launch("nginx", &program, args, &dir, listen)
}

fn http(listen: &str, backend: SocketAddr) -> String {
    format!(
        "http {{
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
    )
}

fn stream(listen: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "stream {{
  access_log off;
  server {{
    listen {listen};
    proxy_pass {backend};
    proxy_timeout 1h;
  }}
}}
"
    )
}

/// The line that loads the stream module; nothing where it is built in.
fn stream_module(program: &Program) -> Result<String> {
    let output = std::process::Command::new(program.path())
        .arg("-V")
        .output()
        .map_err(|error| format!("cannot run nginx: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let mut options = said.split_ascii_whitespace();
    if options.clone().any(|option| option == "--with-stream") {
        return Ok(String::new());
    }
    let modules = options.find_map(|option| option.strip_prefix("--modules-path="));
    let file = format!("{}/ngx_stream_module.so", modules.unwrap_or("modules"));
    if std::path::Path::new(&file).is_file() {
        return Ok(format!("load_module {file};\n"));
    }
    Err("nginx has no stream module (libnginx-mod-stream in Debian)".into())
}
