//! Memory of connections that are open and silent: Polyport beside its peers.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use polyport_benches::backend::Backends;
use polyport_benches::cpu::Tree;
use polyport_benches::load::{self, Dialect, Found};
use polyport_benches::peers::{self, Peer, Running, Site};
use polyport_benches::process::{Program, Server, TempDir, free_address, settle};
use polyport_benches::{Result, Workload};
use tokio_rustls::rustls;

/// Opens many connections, makes one request on each, leaves them alone, and reads what the
/// proxy's memory has grown by.
#[derive(Debug, Parser)]
struct Args {
    /// Connections, all open at once. A proxy needs two descriptors for each where it joins
    /// client and server, as this program does, and many machines allow 20,000.
    #[arg(long, default_value_t = 9500)]
    connections: usize,
    /// What they speak; `tls` is HTTP/1.1 in TLS.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "http,redis,mqtt,http2,tls")]
    only: Vec<Kind>,
    /// Proxies to measure; who does not carry a protocol is left out there.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "polyport,haproxy,nginx,envoy,twemproxy"
    )]
    peers: Vec<Peer>,
    /// Seconds of silence before the memory is read.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Polyport's binary [default: the one beside this program].
    #[arg(long)]
    polyport: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Http,
    Redis,
    Mqtt,
    Http2,
    Tls,
}

impl Kind {
    fn workload(self) -> Workload {
        match self {
            Self::Http | Self::Tls => Workload::Http,
            Self::Redis => Workload::Redis,
            Self::Mqtt => Workload::Mqtt,
            Self::Http2 => Workload::Http2,
        }
    }

    fn name(self) -> &'static str {
        if self == Self::Tls { "tls" } else { self.workload().name() }
    }
}

/// Connections that are open before memory is first read: what is set up once is set up.
const FIRST: usize = 200;

fn main() -> ExitCode {
    match idle(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("idle: {error}");
            ExitCode::FAILURE
        }
    }
}

fn idle(args: &Args) -> Result<()> {
    if args.connections <= FIRST {
        return Err(format!("--connections must be more than {FIRST}").into());
    }
    settle(1)?;
    let polyport = match &args.polyport {
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_exe()?.with_file_name("polyport"),
    };
    let dir = TempDir::new()?;
    let backends = Backends::start(dir.path(), args.only.contains(&Kind::Redis))?;
    let site = Site { dir: dir.path(), core: 0, backends: &backends, polyport: &polyport };
    let certificate = Certificate::new(dir.path())?;
    for kind in &args.only {
        println!(
            "{}, {} idle connections\n{:<18} {:>12} {:>12} {:>12} {:>14} {:>8}",
            kind.name(),
            args.connections,
            "",
            "at first",
            "idle",
            "closed",
            "a connection",
            "ratio"
        );
        let mut ours = None;
        for peer in &args.peers {
            let Some(mode) = peer.mode(kind.workload()) else { continue };
            if *kind == Kind::Tls && matches!(peer, Peer::Three | Peer::Policies | Peer::Direct) {
                continue;
            }
            let name =
                if *kind == Kind::Tls { format!("{} tls", peer.name()) } else { mode.into() };
            let running = match kind {
                Kind::Tls => certificate.start(*peer, &site)?,
                _ => peers::start(*peer, kind.workload(), &site)?,
            };
            let each = measure(args, *kind, running, &name, &mut ours)
                .map_err(|error| format!("{name}: {error}"))?;
            if *peer == Peer::Polyport {
                ours = Some(each);
            }
        }
        println!();
    }
    Ok(())
}

/// Measures one proxy and prints its row; bytes a connection.
fn measure(
    args: &Args,
    kind: Kind,
    mut running: Running,
    name: &str,
    ours: &mut Option<f64>,
) -> Result<f64> {
    let server = running.server.as_mut().ok_or("there is no process")?;
    let tree = Tree::of(server.id())?;
    let mut dialect = load::dialect(kind.workload());
    let tls = (kind == Kind::Tls).then(trusting).transpose()?;
    let mut open = Vec::with_capacity(args.connections);
    let rest = Duration::try_from_secs_f64(args.seconds)?;
    let mut more = |to: usize, open: &mut Vec<Client>| -> Result<u64> {
        while open.len() < to {
            let at = open.len();
            let mut client = Client::connect(running.address, tls.clone())?;
            client.ask(at, &mut *dialect).map_err(|error| format!("connection {at}: {error}"))?;
            open.push(client);
        }
        std::thread::sleep(rest);
        resident(&tree)
    };
    let first = more(FIRST, &mut open)?;
    let idle = more(args.connections, &mut open)?;
    server.check()?;
    let spare = args.connections - FIRST;
    drop(open);
    std::thread::sleep(rest);
    let closed = resident(&tree)?;
    let each = idle.saturating_sub(first) as f64 / spare as f64;
    let ratio = ours.map_or(String::new(), |ours| format!("{:.2}", ours / each));
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    println!(
        "{name:<18} {:>12} {:>12} {:>12} {:>10.2} KiB {ratio:>8}",
        mib(first),
        mib(idle),
        mib(closed),
        each / 1024.0
    );
    Ok(each)
}

/// What the processes hold in memory, in bytes.
fn resident(tree: &Tree) -> Result<u64> {
    let mut all = 0;
    for pid in tree.pids() {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        all += kib.ok_or("no VmRSS in /proc")? << 10;
    }
    Ok(all)
}

enum Client {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Client {
    fn connect(to: SocketAddr, tls: Option<Arc<rustls::ClientConfig>>) -> Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let Some(tls) = tls else { return Ok(Self::Plain(stream)) };
        let name = rustls::pki_types::ServerName::try_from("shop.example")?;
        let session = rustls::ClientConnection::new(tls, name)?;
        Ok(Self::Tls(Box::new(rustls::StreamOwned::new(session, stream))))
    }

    fn write(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(out)?,
            Self::Tls(stream) => stream.write_all(out)?,
        }
        out.clear();
        Ok(())
    }

    fn read(&mut self, into: &mut Vec<u8>) -> Result<()> {
        let mut scratch = [0; 16 << 10];
        let got = match self {
            Self::Plain(stream) => stream.read(&mut scratch)?,
            Self::Tls(stream) => stream.read(&mut scratch)?,
        };
        if got == 0 {
            return Err("the proxy closed it".into());
        }
        into.extend_from_slice(scratch.get(..got).unwrap_or_default());
        Ok(())
    }

    /// Opens a session where the protocol has one, makes one request and checks its reply.
    fn ask(&mut self, at: usize, dialect: &mut dyn Dialect) -> Result<()> {
        let (mut out, mut came) = (Vec::new(), Vec::new());
        dialect.open(at, &mut out);
        self.write(&mut out)?;
        let said = loop {
            match dialect.opened(&came)? {
                Some(said) => break said,
                None => self.read(&mut came)?,
            }
        };
        came.drain(..said);
        dialect.request(at, 0, &mut out);
        self.write(&mut out)?;
        loop {
            let used = match dialect.reply(at, &came, 0, &mut out)? {
                Found::Part => {
                    self.read(&mut came)?;
                    0
                }
                Found::Aside(used) => used,
                Found::Reply(..) => return self.write(&mut out),
            };
            self.write(&mut out)?;
            came.drain(..used);
        }
    }
}

/// Takes any certificate: what is measured is the server's.
#[derive(Debug)]
struct Trusting(Arc<rustls::crypto::CryptoProvider>);

fn trusting() -> Result<Arc<rustls::ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

mod verify {
    use tokio_rustls::rustls::client::danger::{
        HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
    };
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use tokio_rustls::rustls::{DigitallySignedStruct, Error, SignatureScheme};

    impl ServerCertVerifier for super::Trusting {
        fn verify_server_cert(
            &self,
            _end: &CertificateDer<'_>,
            _between: &[CertificateDer<'_>],
            _name: &ServerName<'_>,
            _ocsp: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _end: &CertificateDer<'_>,
            _signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _message: &[u8],
            _end: &CertificateDer<'_>,
            _signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}

/// A key and its certificate, in one file each and in one file together.
struct Certificate {
    key: PathBuf,
    cert: PathBuf,
    both: PathBuf,
}

impl Certificate {
    fn new(dir: &Path) -> Result<Self> {
        let [key, cert, both] = ["tls.key", "tls.crt", "tls.pem"].map(|name| dir.join(name));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-subj", "/CN=shop.example", "-days", "30", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .output()
            .map_err(|error| format!("cannot run openssl: {error}"))?;
        if !output.status.success() {
            return Err(format!("openssl: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let text = std::fs::read_to_string(&cert)? + &std::fs::read_to_string(&key)?;
        std::fs::write(&both, text)?;
        Ok(Self { key, cert, both })
    }

    /// Starts a proxy that opens TLS and sends HTTP/1.1 on in the clear.
    fn start(&self, peer: Peer, site: &Site<'_>) -> Result<Running> {
        let (listen, backend) = (free_address()?, site.backends.http);
        let (key, cert) = (self.key.display(), self.cert.display());
        let (ip, port) = (listen.ip(), listen.port());
        let (name, text, args): (_, _, &[&str]) = match peer {
            Peer::Polyport => (
                "polyport",
                format!(
                    "workers = 1\n[[listener]]\naddress = \"{listen}\"\ntls = {{ certificates = \
                     [{{ cert = \"{cert}\", key = \"{key}\" }}] }}\n[[cluster]]\nname = \"http\"\n\
                     endpoints = [\"{backend}\"]\n[[route]]\nmatch = {{ protocol = \"http\" }}\n\
                     to = \"http\"\n"
                ),
                &["run", "-c"],
            ),
            Peer::Haproxy => (
                "haproxy",
                format!(
                    "global\n  nbthread 1\n  maxconn 9900\ndefaults\n  mode http\n  \
                     http-reuse always\n  timeout connect 5s\n  timeout client 1h\n  \
                     timeout server 1h\nfrontend all\n  bind {listen} ssl crt {}\n  \
                     default_backend backend\nbackend backend\n  server one {backend}\n",
                    self.both.display()
                ),
                &["-db", "-f"],
            ),
            Peer::Nginx => ("nginx", nginx(listen, backend, self), &["-e", "stderr", "-c"]),
            Peer::Envoy => (
                "envoy",
                ENVOY
                    .replace("IP", &ip.to_string())
                    .replace("LISTEN", &port.to_string())
                    .replace("BACKEND", &backend.port().to_string())
                    .replace("CERT", &cert.to_string())
                    .replace("KEY", &key.to_string())
                    .replace("FILTER", peers::envoy::HTTP),
                &["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"],
            ),
            _ => return Err("it opens no TLS".into()),
        };
        let dir = site.dir.join(format!("{name}-tls"));
        std::fs::create_dir_all(&dir)?;
        let file = dir.join(if name == "envoy" { "envoy.yaml" } else { "config" });
        std::fs::write(&file, text)?;
        let program = match peer {
            Peer::Polyport => Program::file(site.polyport.to_owned()),
            _ => Program::named(name),
        };
        let args: Vec<OsString> =
            args.iter().map(OsString::from).chain([file.into_os_string()]).collect();
        let server = Server::start(name, &program, &args, Some(site.core), &dir)?.ready(listen)?;
        Ok(Running { address: listen, server: Some(server) })
    }
}

fn nginx(listen: SocketAddr, backend: SocketAddr, certificate: &Certificate) -> String {
    let (key, cert) = (certificate.key.display(), certificate.cert.display());
    let dir = certificate.key.with_file_name("nginx-tls");
    let dir = dir.display();
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {dir}/nginx.pid;\n\
         error_log stderr crit;\nevents {{ worker_connections 19900; }}\nhttp {{\n  \
         access_log off;\n  client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n  \
         fastcgi_temp_path {dir}/fastcgi;\n  uwsgi_temp_path {dir}/uwsgi;\n  \
         scgi_temp_path {dir}/scgi;\n  upstream backend {{ server {backend}; keepalive 1024; }}\n  \
         server {{\n    listen {listen} ssl;\n    ssl_certificate {cert};\n    \
         ssl_certificate_key {key};\n    location / {{\n      proxy_pass http://backend;\n      \
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n"
    )
}

const ENVOY: &str = r#"static_resources:
  listeners:
  - name: all
    address: { socket_address: { address: IP, port_value: LISTEN } }
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - { certificate_chain: { filename: CERT }, private_key: { filename: KEY } }
      filters:FILTER  clusters:
  - name: backend
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: IP, port_value: BACKEND } } }
"#;
