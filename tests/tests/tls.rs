//! TLS on both sides of the proxy: curl, openssl and redis-cli before it, nginx
//! and redis-server behind it. Where the proxy is taken out, servers that speak
//! TLS themselves stand in for it.

use std::fs::File;
use std::net::SocketAddr;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use polyport_tests::certs::Certificate;
use polyport_tests::peers::{assert_wrk_clean, curl, curl_command, program, redis_cli, wrk};
use polyport_tests::process::{Running, finish, run};
use polyport_tests::{
    Authority, Backend, Config, Nginx, Proxy, Raw, RedisServer, direct, ports, relay,
};

/// What curl is told beside the URL: whom to trust, and that names lead to `address`.
fn arguments(address: SocketAddr, authority: &Authority) -> Vec<String> {
    let to = format!("::{address}");
    ["--http1.1", "--cacert", &authority.ca(), "--connect-to", &to].map(str::to_owned).to_vec()
}

/// The page at `url` as curl gets it; how curl failed where it did.
fn get(
    address: SocketAddr,
    authority: &Authority,
    url: &str,
    more: &[String],
) -> Result<String, String> {
    let mut command = curl_command(&["-f"]);
    command.args(arguments(address, authority)).args(more).arg(url);
    let (status, body, complaint) = finish("curl", command);
    if status.success() { Ok(body) } else { Err(complaint) }
}

/// What `openssl s_client` tells of a connection on which `input` is sent.
fn s_client(address: SocketAddr, more: &[&str], input: &str) -> String {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), input).expect("the input");
    let mut command = program("openssl");
    command.args(["s_client", "-connect", &address.to_string()]).args(more);
    if !input.is_empty() {
        command.arg("-ign_eof");
    }
    let stdin = Stdio::from(File::open(file.path()).expect("the input"));
    let (_, stdout, stderr) = Running::fed("openssl s_client", command, stdin).finish();
    stdout + &stderr
}

const CLOSE: &str = "GET /index.html HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n";

struct Edge {
    authority: Authority,
    a: Certificate,
    b: Certificate,
    nginx: Nginx,
    proxy: Proxy,
}

/// An edge with certificates for `a.example.com` (the default one), `b.example.com`
/// and `*.w.example.com`. `tls` are further keys of Polyport's table, `ssl` further
/// directives of the nginx that stands in for it.
fn edge(tls: &str, ssl: &str) -> Edge {
    edge_with(tls, ssl, |config| config)
}

fn edge_with(tls: &str, ssl: &str, more: impl FnOnce(Config) -> Config) -> Edge {
    let authority = Authority::new();
    let a = authority.issue("a", "/CN=first", "DNS:a.example.com");
    let b = authority.issue("b", "/CN=second", "DNS:b.example.com,DNS:*.w.example.com");
    let own = ports::free();
    let ssl = ssl.replace("CA", &authority.ca());
    let server = |name: &str, certificate: &Certificate| {
        let certificate = certificate.nginx("");
        format!(
            "server {{ listen {own} ssl http2; server_name {name}; {certificate} {ssl} include locations.conf; }}\n"
        )
    };
    let blocks = server("_", &a) + &server("b.example.com *.w.example.com", &b);
    let nginx = Nginx::with("", &blocks);
    let tls = tls.replace("CA", &authority.ca());
    let config = Config::new()
        .listener(&format!(
            "tls = {{ certificates = [{{ {} }}, {{ {} }}]{tls} }}",
            a.toml(),
            b.toml()
        ))
        .cluster("web", nginx.address, "");
    let proxy =
        more(config).route("web", "protocol = \"http\"", "web", "").direct("https", own).start();
    Edge { authority, a, b, nginx, proxy }
}

#[test]
fn the_certificate_follows_the_name_asked_for() {
    let Edge { authority, proxy, .. } = &edge("", "");
    let address = proxy.address("https");
    for name in ["a.example.com", "b.example.com", "x.w.example.com", "B.Example.COM"] {
        let page = get(address, authority, &format!("https://{name}/index.html"), &[]);
        assert_eq!(page.as_deref(), Ok("hello\n"), "{name}");
    }
    // The first is shown to whoever names nobody known, or nobody at all.
    let names: [(&[&str], &str); 5] = [
        (&["-servername", "a.example.com"], "first"),
        (&["-servername", "y.w.example.com"], "second"),
        // nginx's own wildcards reach deeper than a certificate's.
        (&["-servername", "x.y.w.example.com"], if direct() { "second" } else { "first" }),
        (&["-servername", "unknown.test"], "first"),
        (&["-noservername"], "first"),
    ];
    for (name, subject) in names {
        let told = s_client(address, name, "");
        assert!(told.contains(&format!("subject=CN = {subject}")), "{name:?}: {told}");
    }
    // Not for this name: curl would notice.
    let page = get(address, authority, "https://c.example.com/index.html", &[]);
    assert!(page.is_err(), "{page:?}");
}

#[test]
fn versions_ciphers_and_alpn() {
    let Edge { proxy, .. } = &edge("", "");
    let address = proxy.address("https");
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let told = s_client(address, &[version], CLOSE);
        assert!(told.contains(name) && told.contains("hello\n"), "{told}");
    }
    let told = s_client(address, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], "");
    assert!(direct() || told.contains("alert"), "{told}");
    let told = s_client(address, &["-alpn", "http/1.1"], CLOSE);
    assert!(told.contains("ALPN protocol: http/1.1") && told.contains("hello\n"), "{told}");
    // Whoever asks for nothing, as redis-cli does, gets nothing.
    let told = s_client(address, &[], CLOSE);
    assert!(told.contains("No ALPN negotiated") && told.contains("hello\n"), "{told}");
    let told = s_client(address, &["-alpn", "h2,http/1.1"], "");
    assert!(told.contains("ALPN protocol: h2"), "{told}");
}

#[test]
fn sessions_are_resumed() {
    let Edge { proxy, .. } = &edge("", "");
    let address = proxy.address("https");
    let directory = tempfile::tempdir().expect("a temporary directory");
    for version in ["-tls1_2", "-tls1_3"] {
        let session = directory.path().join(version);
        let session = session.to_str().expect("a path");
        let name = ["-servername", "a.example.com", version];
        let first = s_client(address, &[&name[..], &["-sess_out", session]].concat(), CLOSE);
        assert!(first.contains("New, TLS") && first.contains("hello\n"), "{first}");
        let second = s_client(address, &[&name[..], &["-sess_in", session]].concat(), CLOSE);
        assert!(second.contains("Reused, TLS") && second.contains("hello\n"), "{second}");
    }
}

#[test]
fn client_certificates_are_required_where_the_config_says_so() {
    let tls = ", client-ca = \"CA\", client-auth = \"required\"";
    let Edge { authority, proxy, .. } =
        &edge(tls, "ssl_client_certificate CA; ssl_verify_client on;");
    let address = proxy.address("https");
    let url = "https://a.example.com/index.html";
    let client = authority.issue("client", "/CN=client", "DNS:client.example.com");
    assert_eq!(get(address, authority, url, &client.curl()).as_deref(), Ok("hello\n"));
    let stranger = Authority::new().issue("client", "/CN=client", "DNS:client.example.com");
    for certificate in [vec![], stranger.curl().to_vec()] {
        let page = get(address, authority, url, &certificate);
        assert!(page.is_err(), "{certificate:?}: {page:?}");
    }
}

#[test]
fn client_certificates_are_optional_where_the_config_says_so() {
    let tls = ", client-ca = \"CA\", client-auth = \"optional\"";
    let Edge { authority, proxy, .. } =
        &edge(tls, "ssl_client_certificate CA; ssl_verify_client optional;");
    let address = proxy.address("https");
    let url = "https://a.example.com/index.html";
    let client = authority.issue("client", "/CN=client", "DNS:client.example.com");
    for certificate in [vec![], client.curl().to_vec()] {
        let page = get(address, authority, url, &certificate);
        assert_eq!(page.as_deref(), Ok("hello\n"), "{certificate:?}");
    }
    // One that nobody trusts is worse than none.
    let strangers = Authority::new();
    let stranger = strangers.issue("client", "/CN=client", "DNS:client.example.com");
    let page = get(address, authority, url, &stranger.curl());
    assert!(page.is_err(), "{page:?}");
}

#[test]
fn rules_see_who_asked_and_for_which_name() {
    if direct() {
        return;
    }
    let (node, nginx) = (Backend::start(), Nginx::start());
    let tls = ", client-ca = \"CA\", client-auth = \"optional\"";
    let Edge { authority, proxy, .. } = &edge_with(tls, "", |config| {
        config
            .cluster("node", node.address, "")
            .cluster("other", nginx.address, "")
            .route(
                "san",
                "protocol = \"http\", \"tls.client.san\" = \"spiffe://shop/cart\"",
                "node",
                "",
            )
            .route(
                "dns",
                "protocol = \"http\", \"tls.client.san\" = \"cart.example.com\"",
                "node",
                "",
            )
            .route(
                "subject",
                "protocol = \"http\", \"tls.client.subject\" = { contains = \"special\" }",
                "node",
                "",
            )
            .route("sni", "protocol = \"http\", \"tls.sni\" = \"b.example.com\"", "node", "")
            .route(
                "old",
                "protocol = \"http\", path = \"/length\", \"tls.version\" = { contains = \"1.2\" }",
                "node",
                "",
            )
    });
    let address = proxy.address("https");
    let told = |url: &str, more: &[String]| get(address, authority, url, more);
    // Only node has it; nginx says 404, and curl fails.
    let page = |name: &str| format!("https://{name}/length?n=3");
    let plain = told(&page("a.example.com"), &[]);
    assert!(plain.is_err(), "{plain:?}");
    assert_eq!(told(&page("b.example.com"), &[]).as_deref(), Ok("xxx"));
    let old = ["--tls-max".to_owned(), "1.2".to_owned()];
    assert_eq!(told(&page("a.example.com"), &old).as_deref(), Ok("xxx"));
    let issue =
        |file: &str, subject: &str, names: &str| authority.issue(file, subject, names).curl();
    let cases = [
        (issue("uri", "/CN=a", "URI:spiffe://shop/cart"), true),
        (issue("dns", "/CN=b", "DNS:cart.example.com"), true),
        (issue("second", "/CN=c", "DNS:other.example.com,URI:spiffe://shop/cart"), true),
        (issue("subject", "/O=shop/CN=special one", "DNS:d.example.com"), true),
        (issue("none", "/CN=cart.example.com", "DNS:e.example.com"), false),
    ];
    for (certificate, expected) in cases {
        let page = told(&page("a.example.com"), &certificate);
        assert_eq!(page.is_ok(), expected, "{certificate:?}: {page:?}");
    }
}

#[test]
fn redis_speaks_tls_to_the_proxy_and_plain_behind_it() {
    let authority = Authority::new();
    let certificate = authority.server("redis.example.com");
    let own = ports::free();
    let redis = redis_with_tls(own, &authority, &certificate);
    let proxy = Config::new()
        .listener(&format!("tls = {{ certificates = [{{ {} }}] }}", certificate.toml()))
        .all("redis", redis.address)
        .direct("rediss", own)
        .start();
    let ca = authority.ca();
    let tls = ["--tls", "--cacert", &ca, "--sni", "redis.example.com"];
    let ask = |words: &[&str]| redis_cli(proxy.address("rediss"), &[&tls[..], words].concat());
    let value = "v".repeat(100_000);
    assert_eq!(ask(&["SET", "key", &value]), "OK\n");
    assert_eq!(ask(&["GET", "key"]).trim_end(), value);
    assert_eq!(ask(&["-r", "200", "INCR", "count"]).lines().last(), Some("200"));
    // Beside it, without TLS, on the same port.
    assert_eq!(redis_cli(proxy.address("redis"), &["GET", "count"]), "200\n");
}

fn redis_with_tls(
    address: SocketAddr,
    authority: &Authority,
    certificate: &Certificate,
) -> RedisServer {
    let text = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
    let (cert, key) = (text(&certificate.cert), text(&certificate.key));
    RedisServer::with(&[
        "--tls-port",
        &address.port().to_string(),
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &authority.ca(),
        "--tls-auth-clients",
        "optional",
    ])
}

#[test]
fn plain_and_tls_share_one_port() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let Edge { authority, proxy, .. } =
        &edge_with("", "", |config| config.all("redis", redis.address));
    let address = proxy.address("https");
    let url = "http://a.example.com/index.html";
    let tls = ["--tls", "--insecure"];
    for _ in 0..3 {
        assert_eq!(get(address, authority, url, &[]).as_deref(), Ok("hello\n"));
        let secure = url.replace("http:", "https:");
        assert_eq!(get(address, authority, &secure, &[]).as_deref(), Ok("hello\n"));
        assert_eq!(redis_cli(address, &["PING"]), "PONG\n");
        assert_eq!(redis_cli(address, &[&tls[..], &["PING"]].concat()), "PONG\n");
    }
}

#[test]
fn plain_is_refused_where_tls_is_required() {
    if direct() {
        return;
    }
    let redis = RedisServer::start();
    let Edge { authority, proxy, .. } =
        &edge_with(", required = true", "", |config| config.all("redis", redis.address));
    let address = proxy.address("https");
    let page = get(address, authority, "https://a.example.com/index.html", &[]);
    assert_eq!(page.as_deref(), Ok("hello\n"));
    let page = get(address, authority, "http://a.example.com/index.html", &[]);
    assert!(page.is_err(), "{page:?}");
    let mut raw = Raw::say(address, "*1\r\n$4\r\nPING\r\n");
    let reply = raw.until_closed();
    assert!(!reply.contains("PONG"), "{reply:?}");
}

#[test]
fn a_hello_may_come_byte_by_byte() {
    let Edge { authority, proxy, .. } = &edge("", "");
    let slow = relay::bytewise(proxy.address("https"));
    for name in ["a.example.com", "b.example.com"] {
        let page = get(slow, authority, &format!("https://{name}/index.html"), &[]);
        assert_eq!(page.as_deref(), Ok("hello\n"), "{name}");
    }
}

#[test]
fn bodies_are_streamed_and_their_ends_are_told() {
    const LEN: u64 = 200 << 20;
    let Edge { authority, proxy, nginx, .. } = &edge("", "");
    let address = proxy.address("https");
    let path = nginx.www().join("big.bin");
    File::create(&path).and_then(|file| file.set_len(LEN)).expect("a sparse file");
    assert!(get(address, authority, "https://a.example.com/index.html", &[]).is_ok());
    let before = proxy.peak_memory();
    let size = ["-o", "/dev/null", "-w", "%{size_download}"].map(str::to_owned);
    let start = Instant::now();
    let got = get(address, authority, "https://a.example.com/big.bin", &size);
    assert_eq!(got, Ok(LEN.to_string()));
    println!("200 MiB down in {:?}", start.elapsed());
    let upload = ["-T".to_owned(), path.to_str().expect("a path").to_owned()];
    let got = get(address, authority, "https://a.example.com/up/big.bin", &upload);
    assert!(got.is_ok(), "{got:?}");
    println!("and up in {:?}", start.elapsed());
    let stored = std::fs::metadata(nginx.www().join("up/big.bin")).expect("the upload").len();
    assert_eq!(stored, LEN);
    let grown = proxy.peak_memory() - before;
    assert!(grown < 16 << 20, "memory grew by {} KiB", grown >> 10);
    // A body that ends with its connection: without close_notify curl would call it cut.
    let old = ["--http1.0".to_owned()];
    let got = get(address, authority, "https://a.example.com/index.html", &old);
    assert_eq!(got.as_deref(), Ok("hello\n"));
}

#[test]
fn a_reader_that_does_not_read_costs_little() {
    let Edge { proxy, nginx, .. } = &edge("", "");
    let address = proxy.address("https");
    let path = nginx.www().join("big.bin");
    File::create(&path).and_then(|file| file.set_len(500 << 20)).expect("a sparse file");
    let before = proxy.peak_memory();
    // curl reads no faster than it is told to; what it leaves lies in the sockets.
    let readers: Vec<Running> = (0..4)
        .map(|_| {
            let mut command = curl_command(&["-k", "--http1.1", "-o", "/dev/null"]);
            command.args(["--limit-rate", "50k", "--max-time", "3"]);
            command.arg(format!("https://{address}/big.bin"));
            Running::start("curl", command)
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.finish().0.code(), Some(28), "it should run into its own time limit");
    }
    let grown = proxy.peak_memory() - before;
    assert!(grown < 16 << 20, "memory grew by {} KiB", grown >> 10);
}

#[test]
fn wrk_finds_no_error() {
    let Edge { proxy, .. } = &edge("", "");
    let url = format!("https://{}/index.html", proxy.address("https"));
    assert_wrk_clean(&wrk(&url, &["-t", "2", "-c", "32", "-d", "2s"]).succeed());
}

#[test]
fn certificates_are_reloaded_when_their_files_change() {
    if direct() {
        return;
    }
    let Edge { authority, a, b, proxy, .. } = &edge("", "");
    let address = proxy.address("https");
    let serial = |name: &str| {
        let mut command = program("openssl");
        let (address, pem) = (address.to_string(), s_client(address, &["-servername", name], ""));
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let at =
            pem.find("-----BEGIN").unwrap_or_else(|| panic!("no certificate at {address}: {pem}"));
        std::fs::write(file.path(), &pem[at..]).expect("writing");
        command.args(["x509", "-noout", "-serial", "-in"]).arg(file.path());
        run("openssl x509", command).trim().trim_start_matches("serial=").to_owned()
    };
    assert_eq!(serial("a.example.com"), a.serial());
    // Some six seconds long: a connection that all of this must leave alone.
    let mut command = curl_command(&["-f", "-o", "/dev/null", "-r", "0-1500000"]);
    command.args(arguments(address, authority)).arg("https://a.example.com/trickle.bin");
    let open = Running::start("curl", command);
    let soon = |name: &str, wanted: &str| {
        let start = Instant::now();
        while serial(name) != wanted {
            assert!(start.elapsed() < Duration::from_secs(6), "{name}: still the old one");
            sleep(Duration::from_millis(100));
        }
    };
    let new = authority.issue("a", "/CN=first", "DNS:a.example.com");
    soon("a.example.com", &new.serial());
    assert_eq!(serial("b.example.com"), b.serial());
    // A file that is broken changes nothing; the one that mends it does.
    std::fs::write(&b.cert, "not a certificate\n").expect("writing");
    sleep(Duration::from_millis(2500));
    let page = get(address, authority, "https://b.example.com/index.html", &[]);
    assert_eq!(page.as_deref(), Ok("hello\n"));
    let new = authority.issue("b", "/CN=second", "DNS:b.example.com");
    soon("b.example.com", &new.serial());
    open.succeed();
}

/// An nginx that speaks TLS as `backend.example.com`; `ssl` are further directives.
fn secure_nginx(authority: &Authority, ssl: &str) -> (Nginx, SocketAddr) {
    let own = ports::free();
    let certificate = authority.server("backend.example.com").nginx("");
    let ssl = ssl.replace("CA", &authority.ca());
    let block =
        format!("server {{ listen {own} ssl; {certificate} {ssl} include locations.conf; }}");
    (Nginx::with("", &block), own)
}

/// Where `/who` is, whoever answers.
fn who(proxy: &Proxy, authority: &Authority, client: &Certificate) -> Result<String, String> {
    let scheme = if direct() { "https" } else { "http" };
    let more = if direct() { client.curl().to_vec() } else { Vec::new() };
    let url = format!("{scheme}://backend.example.com/who");
    get(proxy.address("http"), authority, &url, &more)
}

#[test]
fn upstreams_are_spoken_to_in_tls() {
    let authority = Authority::new();
    let client = authority.issue("client", "/CN=the proxy", "DNS:proxy.example.com");
    let (_nginx, address) =
        secure_nginx(&authority, "ssl_client_certificate CA; ssl_verify_client on;");
    let tls = format!(
        "tls = {{ ca = \"{}\", server-name = \"backend.example.com\", {} }}",
        authority.ca(),
        client.toml()
    );
    let proxy = Config::new()
        .cluster("secure", address, &tls)
        .route("all", "protocol = \"http\"", "secure", "")
        .direct("http", address)
        .start();
    for _ in 0..3 {
        let told = who(&proxy, &authority, &client).expect("an answer");
        for line in ["sni=backend.example.com", "verify=SUCCESS", "client=CN=the proxy"] {
            assert!(told.lines().any(|each| each == line), "{line} is not in {told}");
        }
    }
    if !direct() {
        // Handshakes are dear: one connection serves one client after another.
        let url = "http://a.test/count";
        let first = get(proxy.address("http"), &authority, url, &[]).expect("a count");
        let second = get(proxy.address("http"), &authority, url, &[]).expect("a count");
        assert_eq!(first.split(' ').next(), second.split(' ').next(), "{first} {second}");
    }
}

#[test]
fn an_upstream_that_is_not_who_it_should_be_is_not_spoken_to() {
    if direct() {
        return;
    }
    let authority = Authority::new();
    let client = authority.issue("client", "/CN=the proxy", "DNS:proxy.example.com");
    let (nginx, address) = secure_nginx(&authority, "");
    let (ca, strangers) = (authority.ca(), Authority::new());
    let cases = [
        ("another name", format!("ca = \"{ca}\", server-name = \"other.example.com\""), address),
        (
            "another authority",
            format!("ca = \"{}\", server-name = \"backend.example.com\"", strangers.ca()),
            address,
        ),
        (
            "no TLS there",
            format!("ca = \"{ca}\", server-name = \"backend.example.com\""),
            nginx.address,
        ),
    ];
    for (what, tls, address) in cases {
        let proxy = Config::new()
            .cluster("secure", address, &format!("tls = {{ {tls} }}"))
            .route("all", "protocol = \"http\"", "secure", "")
            .start();
        let mut raw = Raw::connect(proxy.address("http"));
        for _ in 0..2 {
            raw.send("GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n");
            let head = raw.http_response().0;
            let native = head.starts_with("HTTP/1.1 502") || head.starts_with("HTTP/1.1 503");
            assert!(native, "{what}: {head}");
        }
    }
    assert_eq!(nginx.access_log().matches("/index.html").count(), 0, "a request got through");
    // And the one with the right ones is.
    let tls = format!("tls = {{ ca = \"{ca}\", server-name = \"backend.example.com\" }}");
    let proxy = Config::new()
        .cluster("secure", address, &tls)
        .route("all", "protocol = \"http\"", "secure", "")
        .start();
    assert!(who(&proxy, &authority, &client).is_ok());
}

#[test]
fn a_client_certificate_that_is_missing_upstream_is_the_servers_to_refuse() {
    if direct() {
        return;
    }
    let authority = Authority::new();
    let (_nginx, address) =
        secure_nginx(&authority, "ssl_client_certificate CA; ssl_verify_client on;");
    let tls =
        format!("tls = {{ ca = \"{}\", server-name = \"backend.example.com\" }}", authority.ca());
    let proxy = Config::new()
        .cluster("secure", address, &tls)
        .route("all", "protocol = \"http\"", "secure", "")
        .start();
    let mut raw = Raw::say(proxy.address("http"), "GET /who HTTP/1.1\r\nHost: a\r\n\r\n");
    let (head, body) = raw.http_response();
    assert!(head.starts_with("HTTP/1.1 400") && body.contains("certificate"), "{head}{body}");
}

#[test]
fn redis_speaks_plain_to_the_proxy_and_tls_behind_it() {
    if direct() {
        return;
    }
    let authority = Authority::new();
    let certificate = authority.server("redis.example.com");
    let own = ports::free();
    let mut redis = redis_with_tls(own, &authority, &certificate);
    let tls =
        format!("tls = {{ ca = \"{}\", server-name = \"redis.example.com\" }}", authority.ca());
    let proxy = Config::new()
        .cluster("redis", own, &tls)
        .route("redis", "protocol = \"redis\"", "redis", "")
        .start();
    let address = proxy.address("redis");
    let value = "v".repeat(100_000);
    assert_eq!(redis_cli(address, &["SET", "key", &value]), "OK\n");
    assert_eq!(redis_cli(address, &["GET", "key"]).trim_end(), value);
    // Pipelined: many replies in few records.
    let mut raw = Raw::connect(address);
    raw.send("*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".repeat(2000));
    for number in 1..=2000 {
        assert_eq!(raw.until("\r\n"), format!(":{number}\r\n"));
    }
    redis.kill();
    raw.send("*1\r\n$4\r\nPING\r\n");
    let reply = raw.until_or_end("\r\n");
    assert!(reply.as_ref().is_ok_and(|reply| reply.starts_with('-')), "{reply:?}");
    redis.restart();
    let start = Instant::now();
    while redis_cli(address, &["PING"]) != "PONG\n" {
        assert!(start.elapsed() < Duration::from_secs(15), "it does not come back");
        sleep(Duration::from_millis(200));
    }
}

#[test]
fn names_to_be_passed_through_are_not_looked_into() {
    let others = Authority::new();
    let certificate = others.issue("raw", "/CN=raw", "DNS:raw.example.com,DNS:*.raw.example.com");
    let own = ports::free();
    let block =
        format!("server {{ listen {own} ssl; {} include locations.conf; }}", certificate.nginx(""));
    let (raw, deep) = (Nginx::with("", &block), ports::free());
    let block = format!(
        "server {{ listen {deep} ssl; {} include locations.conf; }}",
        certificate.nginx("")
    );
    let wild = Nginx::with("", &block);
    std::fs::write(wild.www().join("index.html"), "wild\n").expect("a page");
    let passthrough = ", passthrough = [\"raw.example.com\", \"*.raw.example.com\"]";
    let Edge { authority, proxy, .. } = &edge_with(passthrough, "", |config| {
        config
            .cluster("raw", own, "")
            .cluster("wild", deep, "")
            .route("raw", "protocol = \"tls\", \"tls.sni\" = \"raw.example.com\"", "raw", "")
            .route(
                "wild",
                "protocol = \"tls\", \"tls.sni\" = { suffix = \".raw.example.com\" }",
                "wild",
                "",
            )
            .direct("raw", own)
            .direct("wild", deep)
    });
    let url = "https://raw.example.com/index.html";
    for address in [proxy.address("raw"), relay::bytewise(proxy.address("raw"))] {
        assert_eq!(get(address, &others, url, &[]).as_deref(), Ok("hello\n"));
    }
    let told = get(proxy.address("raw"), &others, "https://raw.example.com/who", &[]);
    let told = told.expect("an answer");
    assert!(told.contains("sni=raw.example.com\n") && told.contains("tls=TLSv1"), "{told}");
    let url = "https://x.raw.example.com/index.html";
    assert_eq!(get(proxy.address("wild"), &others, url, &[]).as_deref(), Ok("wild\n"));
    // The others' certificate is still the edge's own.
    let page = get(proxy.address("https"), authority, "https://a.example.com/index.html", &[]);
    assert_eq!(page.as_deref(), Ok("hello\n"));
    let page = get(proxy.address("https"), authority, "https://raw.example.com/index.html", &[]);
    assert!(page.is_err(), "not the edge's to answer: {page:?}");
    // Much passes both ways.
    let path = raw.www().join("big.bin");
    File::create(&path).and_then(|file| file.set_len(100 << 20)).expect("a sparse file");
    let before = proxy.peak_memory();
    let size = ["-o", "/dev/null", "-w", "%{size_download}"].map(str::to_owned);
    let got = get(proxy.address("raw"), &others, "https://raw.example.com/big.bin", &size);
    assert_eq!(got, Ok((100u64 << 20).to_string()));
    let grown = proxy.peak_memory() - before;
    assert!(grown < 16 << 20, "memory grew by {} KiB", grown >> 10);
}

#[test]
fn what_only_begins_like_tls_is_closed() {
    if direct() {
        return;
    }
    let Edge { authority, proxy, .. } = &mut edge(", passthrough = [\"raw.example.com\"]", "");
    let address = proxy.address("https");
    let cases: [&[u8]; 6] = [
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff\x01\x00\xff\xfb\x03\x03",
        b"\x16\x03\x01\x00\x00\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\x00\x2a\x02\x00\x00\x26\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"\x16\x03\x03\x00\x01\x00\x15\x03\x03\x00\x02\x02\x28",
    ];
    for case in cases {
        let mut raw = Raw::say(address, case);
        raw.try_send([0; 64]);
        // An alert at most, then the end.
        let reply = raw.until_closed();
        assert!(
            reply.len() < 32 && (reply.is_empty() || reply.starts_with('\u{15}')),
            "{case:?}: {reply:?}"
        );
        let page = get(address, authority, "https://a.example.com/index.html", &[]);
        assert_eq!(page.as_deref(), Ok("hello\n"));
    }
    // Garbage after a good handshake: one client's connection ends, no more.
    let told = s_client(address, &[], "\0\0\0\0 nonsense\r\n\r\n");
    assert!(!told.contains("HTTP/1.1 200"), "{told}");
    proxy.assert_alive();
}

#[test]
fn half_handshakes_hold_up_nobody_and_end() {
    if direct() {
        return;
    }
    let Edge { authority, proxy, .. } = &mut edge("", "");
    let address = proxy.address("https");
    let before = proxy.peak_memory();
    // The start of a hello that promises 512 bytes.
    let mut start = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    let half: Vec<Raw> = (0..300)
        .map(|number| {
            start.push(b'r');
            Raw::say(address, &start[..start.len().min(11 + number % 100)])
        })
        .collect();
    let begun = Instant::now();
    for _ in 0..5 {
        let page = get(address, authority, "https://a.example.com/index.html", &[]);
        assert_eq!(page.as_deref(), Ok("hello\n"));
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "held up: {:?}", begun.elapsed());
    for mut raw in half {
        let reply = raw.until_closed();
        assert!(reply.len() < 32, "{reply:?}");
    }
    let grown = proxy.peak_memory() - before;
    assert!(grown < 30 << 20, "memory grew by {} KiB", grown >> 10);
    proxy.assert_alive();
}

#[test]
fn a_drain_ends_tls_connections_in_order() {
    if direct() {
        return;
    }
    let backend = Backend::start();
    let Edge { authority, proxy, .. } = &mut edge_with("", "", |config| {
        config
            .cluster("node", backend.address, "")
            .route("node", "protocol = \"http\", path = \"/slow\"", "node", "")
            .counted()
    });
    let mut command = curl_command(&["-f"]);
    command.args(arguments(proxy.address("https"), authority));
    command.arg("https://a.example.com/slow?ms=2000");
    let page = Running::start("curl", command);
    proxy.until_asked(1);
    proxy.terminate();
    assert_eq!(page.succeed(), "slow");
    assert_eq!(proxy.wait().and_then(|status| status.code()), Some(0));
}

#[test]
fn whoever_comes_in_the_clear_is_sent_to_tls() {
    if direct() {
        return;
    }
    let authority = Authority::new();
    let certificate = authority.server("a.example.com");
    let nginx = Nginx::start();
    let proxy = Config::new()
        .listener(&format!("tls = {{ certificates = [{{ {} }}] }}", certificate.toml()))
        .cluster("web", nginx.address, "")
        .section(
            "[[route]]\nname = \"clear\"\nmatch = { protocol = \"http\", scheme = \"http\" }\n\
             redirect = { to = \"https://{host}{path}\", status = 308 }",
        )
        .route("web", "protocol = \"http\", scheme = \"https\"", "web", "")
        .start();
    let address = proxy.address("http");
    let clear = format!("http://{address}/index.html");
    let told = curl(&["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", &clear]);
    assert_eq!(told, format!("308 https://{}/index.html", address.ip()));
    for version in ["--http1.1", "--http2"] {
        let page = "https://a.example.com/index.html";
        let page = get(address, &authority, page, &[version.to_owned()]);
        assert_eq!(page.as_deref(), Ok("hello\n"), "{version}");
    }
}
