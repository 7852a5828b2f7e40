//! The real servers and clients, each in its own process.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::ports;
use crate::process::{Process, Running, root, run};

/// A file that `tests/install-peers.sh` puts there.
pub(crate) fn installed(path: &str) -> PathBuf {
    let path = root().join(".peers").join(path);
    assert!(path.exists(), "{} is missing; run tests/install-peers.sh", path.display());
    path
}

/// A program from the path, or from `/usr/sbin`, which users' paths leave out.
pub fn program(name: &str) -> Command {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&directories)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    Command::new(found.unwrap_or_else(|| panic!("{name} is missing; run tests/install-peers.sh")))
}

/// A story of `tests/peers/python/SCRIPT`.
pub fn python(script: &str, arguments: &[&str]) -> String {
    run(script, python_command(script, arguments))
}

/// The same, going on in the background.
pub fn python_start(script: &str, arguments: &[&str]) -> Running {
    Running::start(script, python_command(script, arguments))
}

pub(crate) fn python_command(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(installed("venv/bin/python"));
    command.env("PYTHONUNBUFFERED", "1").env("PYTHONPATH", installed("thrift"));
    command.arg(root().join("tests/peers/python").join(script)).args(arguments);
    command
}

pub(crate) fn node_command(script: &str, arguments: &[&str]) -> Command {
    let mut command = program("node");
    command
        .env("NODE_PATH", installed("node/node_modules"))
        .arg(root().join("tests/peers/node").join(script))
        .args(arguments);
    command
}

/// A story of `tests/peers/node/SCRIPT`.
pub fn node(script: &str, arguments: &[&str]) -> String {
    run(script, node_command(script, arguments))
}

/// The same, going on in the background.
pub fn node_start(script: &str, arguments: &[&str]) -> Running {
    Running::start(script, node_command(script, arguments))
}

/// `redis-cli` with the address filled in.
pub fn redis_cli(address: SocketAddr, arguments: &[&str]) -> String {
    run("redis-cli", at(program("redis-cli"), address, arguments))
}

/// `redis-benchmark` with the address filled in, in the background.
pub fn redis_benchmark(address: SocketAddr, arguments: &[&str]) -> Running {
    Running::start("redis-benchmark", at(program("redis-benchmark"), address, arguments))
}

fn at(mut command: Command, address: SocketAddr, arguments: &[&str]) -> Command {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    command.args(["-h", &host, "-p", &port]).args(arguments);
    command
}

/// `curl`, silent but for errors, that never waits for ever.
pub fn curl(arguments: &[&str]) -> String {
    run("curl", curl_command(arguments))
}

/// The same, not yet started.
pub fn curl_command(arguments: &[&str]) -> Command {
    let mut command = program("curl");
    command.args(["-q", "--silent", "--show-error", "--noproxy", "*", "--max-time", "50"]);
    command.args(arguments);
    command
}

/// `wrk` against `url`, in the background.
pub fn wrk(url: &str, arguments: &[&str]) -> Running {
    let mut command = program("wrk");
    command.args(arguments).arg(url);
    Running::start("wrk", command)
}

/// Panics unless `report` is of a `wrk` run without any error.
pub fn assert_wrk_clean(report: &str) {
    assert!(report.contains("Requests/sec"), "{report}");
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
}

/// A Redis server.
pub struct RedisServer {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    directory: TempDir,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts one that keeps nothing on disk.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// The same with further command-line settings.
    pub fn with(arguments: &[&str]) -> Self {
        let address = ports::free();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let process = Self::spawn(address, directory.path(), &arguments);
        Self { address, process, directory, arguments }
    }

    fn spawn(address: SocketAddr, directory: &Path, arguments: &[String]) -> Process {
        let mut command = program("redis-server");
        command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(directory).args(arguments);
        let mut process = Process::start("redis-server", command, directory);
        process.wait_for_port(address);
        process
    }

    /// Kills it on the spot.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, empty, where it was.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Self::spawn(self.address, self.directory.path(), &self.arguments);
    }

    /// One field of `INFO`, as the server itself tells it.
    pub fn info(&self, field: &str) -> u64 {
        let report = redis_cli(self.address, &["INFO"]);
        let line = report.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {field}"))
    }
}

/// An nginx that serves a directory and takes uploads.
pub struct Nginx {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    directory: TempDir,
}

impl Nginx {
    /// Starts one. `/index.html` is `hello\n`; `/count` tells connection and
    /// request number; `/none` is a 204; `/gzip.txt` comes chunked to those who
    /// accept gzip; `/trickle.bin` comes slowly; `PUT /up/NAME` stores; `/who`
    /// tells, a line each, what it knows of who asks.
    pub fn start() -> Self {
        Self::with("", "")
    }

    /// The same with further lines in its server's block, such as another `listen`,
    /// and further blocks, where `include locations.conf;` serves what it serves.
    pub fn with(server: &str, blocks: &str) -> Self {
        let address = ports::free();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        for name in ["www", "www/up", "tmp"] {
            fs::create_dir(path.join(name)).expect("a directory");
        }
        fs::write(path.join("www/index.html"), "hello\n").expect("a page");
        fs::write(path.join("www/gzip.txt"), "all work and no play\n".repeat(20_000))
            .expect("text");
        fs::write(path.join("www/trickle.bin"), vec![b't'; 8 << 20]).expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
        let file = path.join("nginx.conf");
        fs::write(&file, nginx_config(address, path, server, blocks)).expect("the config");
        let locations = LOCATIONS.replace("WWW", &path.join("www").display().to_string());
        fs::write(path.join("locations.conf"), locations).expect("the locations");
        let process = Self::spawn(address, path);
        Self { address, process, directory }
    }

    fn spawn(address: SocketAddr, directory: &Path) -> Process {
        let mut command = program("nginx");
        command.arg("-e").arg(directory.join("error.log"));
        command.arg("-p").arg(directory).arg("-c").arg(directory.join("nginx.conf"));
        let mut process = Process::start("nginx", command, directory);
        process.wait_for_port(address);
        process
    }

    /// The directory it serves.
    pub fn www(&self) -> PathBuf {
        self.directory.path().join("www")
    }

    /// `CONNECTION REQUEST-NUMBER METHOD URI STATUS` of every request so far.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default()
    }

    /// Kills it on the spot.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Self::spawn(self.address, self.directory.path());
    }
}

const LOCATIONS: &str = r#"
root WWW;
location = /count { return 200 "$connection $connection_requests\n"; }
location = /none { return 204; }
location = /gzip.txt { gzip on; gzip_types text/plain; }
location = /trickle.bin { limit_rate 256k; }
location /up/ { dav_methods PUT DELETE; create_full_put_path on; }
location = /who { return 200 "method=$request_method
protocol=$server_protocol
scheme=$scheme
host=$host
uri=$request_uri
tls=$ssl_protocol
sni=$ssl_server_name
verify=$ssl_client_verify
client=$ssl_client_s_dn
proxied=$proxy_protocol_addr
peer=$remote_addr
forwarded=$http_x_forwarded_for
"; }
"#;

fn nginx_config(address: SocketAddr, directory: &Path, server: &str, blocks: &str) -> String {
    let directory = directory.display();
    // One process, so that killing it is a crash of the whole server.
    format!(
        "daemon off;
master_process off;
pid {directory}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    types {{ text/plain txt html; }}
    default_type application/octet-stream;
    log_format short '$connection $connection_requests $request_method $uri $status';
    access_log {directory}/access.log short;
    client_body_temp_path {directory}/tmp/body;
    proxy_temp_path {directory}/tmp/proxy;
    fastcgi_temp_path {directory}/tmp/fastcgi;
    uwsgi_temp_path {directory}/tmp/uwsgi;
    scgi_temp_path {directory}/tmp/scgi;
    client_max_body_size 0;
    keepalive_requests 1000000;
    sendfile on;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tests:1m;
    if_modified_since before;
    server {{
        listen {address} backlog=4096;
        {server}
        include {directory}/locations.conf;
    }}
    {blocks}
}}
"
    )
}

/// A node process that prints `ready` when it serves.
pub(crate) fn serve(
    name: &'static str,
    script: &str,
    address: SocketAddr,
    directory: &TempDir,
) -> Process {
    serve_with(name, script, address, &[], directory)
}

pub(crate) fn serve_with(
    name: &'static str,
    script: &str,
    address: SocketAddr,
    more: &[&str],
    directory: &TempDir,
) -> Process {
    let port = address.port().to_string();
    let arguments = [&[port.as_str()], more].concat();
    let mut process = Process::start(name, node_command(script, &arguments), directory.path());
    process.wait_for("line saying it is ready", |process| process.log().contains("ready"));
    process
}

/// The HTTP server of node, for what nginx has no location for: echoes with
/// trailers, `100 Continue`, upgrades, slow replies. See `http-server.js`.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    _directory: TempDir,
}

impl Backend {
    /// Starts one.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// The same, speaking HTTP/2 and nothing else.
    pub fn http2() -> Self {
        Self::with(&["h2"])
    }

    fn with(more: &[&str]) -> Self {
        let (address, directory) = (ports::free(), tempfile::tempdir().expect("a directory"));
        let process = serve_with("http-server", "http-server.js", address, more, &directory);
        Self { address, process, _directory: directory }
    }

    /// Kills it on the spot.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// A Dubbo server with a hessian2 implementation that is not ours. See `dubbo-server.js`.
pub struct DubboServer {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    directory: TempDir,
}

impl DubboServer {
    /// Starts one.
    pub fn start() -> Self {
        let (address, directory) = (ports::free(), tempfile::tempdir().expect("a directory"));
        let process = serve("dubbo-server", "dubbo-server.js", address, &directory);
        Self { address, process, directory }
    }

    /// Kills it on the spot.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.process.kill();
        // A log of its own, so that the first one's `ready` is not taken for this one's.
        let directory = tempfile::tempdir().expect("a directory");
        self.process = serve("dubbo-server", "dubbo-server.js", self.address, &directory);
        self.directory = directory;
    }
}

/// A story of `dubbo-client.js` against `address`.
pub fn dubbo(address: SocketAddr, story: &str, arguments: &[&str]) -> String {
    let port = address.port().to_string();
    let mut all = vec![port.as_str(), story];
    all.extend_from_slice(arguments);
    node("dubbo-client.js", &all)
}

/// The same, going on in the background.
pub fn dubbo_start(address: SocketAddr, story: &str, arguments: &[&str]) -> Running {
    let port = address.port().to_string();
    let mut all = vec![port.as_str(), story];
    all.extend_from_slice(arguments);
    node_start("dubbo-client.js", &all)
}
