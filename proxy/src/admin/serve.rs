//! The API's sockets, and who may use them.
//!
//! A browser will send requests to loopback for any page it shows. So the name that a
//! request was sent to must be this machine's own (a page may have its name resolve to
//! 127.0.0.1), what changes something must carry a header that other pages' requests cannot
//! have, and requests that a browser says are another page's are refused. No answer
//! permits others to read it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode, header::HeaderName};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::api::{self, Refusal};
use super::{Admin, Settings};
use crate::privileges::Identity;
use crate::worker::StartError;

/// Connections at a time; further ones wait to be accepted.
const CLIENTS: usize = 64;

/// Bytes of a request's body.
const BODY: usize = 64 << 10;

/// Bytes of a request's head.
const HEAD: usize = 16 << 10;

/// How long a client may take over a request's head, and a connection be idle.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an answer may take to begin.
const ANSWER: Duration = Duration::from_secs(90);

/// How long the listeners rest when the system refuses a connection.
const REST: Duration = Duration::from_millis(200);

/// What the page may do: use what comes from here, and be shown in no other's frame.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The header that whoever changes something sends, with any value.
const INTENT: &str = "x-polyport";

/// Sockets that are bound.
pub struct Sockets {
    /// On loopback.
    pub tcp: Option<std::net::TcpListener>,
    /// A file's; its name is taken away again when this is dropped.
    pub unix: Option<UnixSocket>,
}

/// A unix socket and its file.
pub struct UnixSocket {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Sockets {
    /// Gives the socket's file to whom the process is going to be; call it as root.
    ///
    /// # Errors
    /// Where there is no such user, or the file cannot be given away.
    pub fn give_to(&self, identity: &Identity) -> Result<(), StartError> {
        if let (Some(unix), true) = (&self.unix, identity.is_some()) {
            let (user, group) = identity.owner()?;
            std::os::unix::fs::chown(&unix.path, user, group)?;
        }
        Ok(())
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // A process that came after this one may have taken the name.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds what the settings name; `had`: what a process before this one listened on.
///
/// # Errors
/// Where an address or a path cannot be had.
pub fn bind(settings: &Settings, had: Option<std::net::TcpListener>) -> io::Result<Sockets> {
    let told = |what: String| {
        move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
    };
    let tcp = match settings.address {
        Some(address) => Some(
            had.map_or_else(|| std::net::TcpListener::bind(address), Ok)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .map_err(told(format!("[admin] cannot listen on {address}")))?,
        ),
        None => None,
    };
    let unix = match &settings.socket {
        Some(path) => Some(
            bind_unix(path)
                .map_err(told(format!("[admin] cannot listen on {}", path.display())))?,
        ),
        None => None,
    };
    Ok(Sockets { tcp, unix })
}

/// Takes the name, whether or not a process before this one has left it, in one step and
/// only when nobody else can use it.
fn bind_unix(path: &Path) -> io::Result<UnixSocket> {
    use std::os::unix::fs::FileTypeExt;
    if fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
        return Err(io::Error::other("there is a file of that name that is no socket"));
    }
    let mut own = path.as_os_str().to_owned();
    own.push(format!(".{}", std::process::id()));
    let own = PathBuf::from(own);
    let _ = fs::remove_file(&own);
    let listener = std::os::unix::net::UnixListener::bind(&own)?;
    let named = (|| {
        listener.set_nonblocking(true)?;
        fs::set_permissions(&own, fs::Permissions::from_mode(0o600))?;
        let inode = fs::symlink_metadata(&own)?.ino();
        fs::rename(&own, path)?;
        Ok(inode)
    })();
    match named {
        Ok(inode) => Ok(UnixSocket { listener, path: path.to_owned(), inode }),
        Err(error) => {
            let _ = fs::remove_file(&own);
            Err(error)
        }
    }
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Via {
    Tcp,
    Unix,
}

/// Answers requests; never ends.
pub async fn serve(sockets: Sockets, admin: Arc<Admin>) {
    let permits = Arc::new(Semaphore::new(CLIENTS));
    let tcp = sockets.tcp.map(TcpListener::from_std).transpose();
    let file = sockets.unix;
    let unix = file.as_ref().map(|unix| unix.listener.try_clone().and_then(UnixListener::from_std));
    let (tcp, unix) = match (tcp, unix.transpose()) {
        (Ok(tcp), Ok(unix)) => (tcp, unix),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "admin: nothing is served");
            return std::future::pending().await;
        }
    };
    let tcp = async {
        let Some(listener) = tcp else { return };
        let router = router(admin.clone(), Via::Tcp);
        accept(&permits, router, async || Ok(listener.accept().await?.0)).await;
    };
    let unix = async {
        let Some(listener) = unix else { return };
        let router = router(admin.clone(), Via::Unix);
        accept(&permits, router, async || Ok(listener.accept().await?.0)).await;
    };
    tokio::join!(tcp, unix);
    drop(file);
}

async fn accept<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    permits: &Arc<Semaphore>,
    router: Router,
    next: impl AsyncFn() -> io::Result<S>,
) {
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = match next().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "admin: cannot accept");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(HEAD)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // A client that is slow or leaves is no matter of the proxy's.
            let _ = served.await;
            drop(permit);
        });
    }
}

fn router(admin: Arc<Admin>, via: Via) -> Router {
    let guarded = admin.clone();
    api::routes()
        .merge(super::page::routes())
        .fallback(async || {
            Refusal::not_found("there is nothing here; GET /api lists what there is")
        })
        .method_not_allowed_fallback(async || {
            Refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "not by this method; GET /api lists what there is".into(),
            )
        })
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(admin)
        .layer(middleware::from_fn_with_state((via, guarded), guard))
}

/// Refuses what is not to be answered, bounds the rest, and puts on every answer what
/// browsers need to know.
async fn guard(
    State((via, admin)): State<(Via, Arc<Admin>)>,
    request: Request,
    next: Next,
) -> Response {
    let _asked = Asked::new(&admin);
    let mut response =
        match judge(via, admin.write, request.method(), request.uri().path(), request.headers()) {
            Some(refusal) => refusal.into_response(),
            None => match tokio::time::timeout(ANSWER, next.run(request)).await {
                Ok(response) => response,
                Err(_) => {
                    Refusal(StatusCode::GATEWAY_TIMEOUT, "it takes too long".into()).into_response()
                }
            },
        };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A request from its coming to its answer, or to the end of whoever asked.
struct Asked<'a>(&'a Admin);

impl<'a> Asked<'a> {
    fn new(admin: &'a Admin) -> Self {
        admin.unanswered.fetch_add(1, Ordering::Relaxed);
        Self(admin)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a request is not answered.
fn judge(
    via: Via,
    write: bool,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Option<Refusal> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if via == Via::Tcp && text(HOST).is_some_and(|host| !is_local(host)) {
        let why = "the Host header names another machine; use 127.0.0.1 or localhost";
        return Some(Refusal(StatusCode::FORBIDDEN, why.into()));
    }
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let elsewhere = site.is_some_and(|site| !matches!(site, "same-origin" | "none"))
        || text(ORIGIN)
            .is_some_and(|origin| Some(origin.trim_start_matches("http://")) != text(HOST));
    if elsewhere && path.starts_with("/api") {
        let why = "this comes from another web page, which may not use the API";
        return Some(Refusal(StatusCode::FORBIDDEN, why.into()));
    }
    if method == Method::GET || method == Method::HEAD {
        return None;
    }
    let json = text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    if !json && !headers.contains_key(INTENT) {
        let why = "send the header `x-polyport: 1`, so that no other web page can ask for this";
        return Some(Refusal(StatusCode::FORBIDDEN, why.into()));
    }
    // A question that is too long for a URL; it changes nothing.
    if write || path == "/api/explain" {
        return None;
    }
    let why = "this proxy's admin API only reads; set `write = true` in [admin] to change that";
    Some(Refusal(StatusCode::FORBIDDEN, why.into()))
}

/// Whether a Host header names this machine by a name that nobody else can give it.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_s_own_names_are_local() {
        for host in
            ["localhost", "LOCALHOST:7001", "127.0.0.1:7001", "127.9.9.9", "[::1]:7001", "[::1]"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:7001",
            "10.0.0.1",
            "[2001:db8::1]:1",
            "evil.example:localhost",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }

    fn judged(
        via: Via,
        write: bool,
        method: &Method,
        path: &str,
        headers: &[(&'static str, &'static str)],
    ) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        judge(via, write, method, path, &headers).is_some()
    }

    #[test]
    fn pages_from_elsewhere_are_refused() {
        let local = ("host", "127.0.0.1:7001");
        let refused = |method: &Method, headers: &[(&'static str, &'static str)]| {
            judged(Via::Tcp, true, method, "/api/reload", headers)
        };
        assert!(!refused(&Method::GET, &[local]));
        assert!(refused(&Method::GET, &[("host", "evil.example:7001")]));
        assert!(refused(&Method::GET, &[local, ("sec-fetch-site", "cross-site")]));
        // A page of another port of this machine is another page, too.
        assert!(refused(&Method::GET, &[local, ("sec-fetch-site", "same-site")]));
        assert!(!refused(&Method::GET, &[local, ("sec-fetch-site", "same-origin")]));
        assert!(refused(&Method::POST, &[local]));
        assert!(refused(&Method::POST, &[local, ("content-type", "text/plain")]));
        assert!(!refused(&Method::POST, &[local, ("x-polyport", "1")]));
        assert!(!refused(&Method::POST, &[local, ("content-type", "application/json")]));
        let own = ("origin", "http://127.0.0.1:7001");
        assert!(!refused(&Method::POST, &[local, own, ("x-polyport", "1")]));
        let other = ("origin", "http://127.0.0.1:3000");
        assert!(refused(&Method::POST, &[local, other, ("x-polyport", "1")]));
        assert!(refused(&Method::POST, &[local, ("origin", "null"), ("x-polyport", "1")]));
    }

    #[test]
    fn nothing_is_changed_unless_the_config_says_so() {
        let headers = [("host", "localhost"), ("x-polyport", "1")];
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            for via in [Via::Tcp, Via::Unix] {
                assert!(judged(via, false, &method, "/api/reload", &headers), "{method}");
                assert!(!judged(via, true, &method, "/api/reload", &headers), "{method}");
            }
        }
        assert!(!judged(Via::Tcp, false, &Method::POST, "/api/explain", &headers));
    }

    #[test]
    fn a_unix_socket_is_its_owner_s_and_replaces_what_was_left() {
        let folder = std::env::temp_dir().join(format!("polyport-admin-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("admin.sock");
        let first = bind_unix(&path).expect("a socket");
        let mode = fs::symlink_metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = bind_unix(&path).expect("in place of the first");
        drop(first);
        assert!(path.exists(), "the second's name is not the first's to take");
        drop(second);
        assert!(!path.exists());
        fs::write(&path, "a file").expect("a file");
        assert!(bind_unix(&path).is_err());
        fs::remove_dir_all(&folder).expect("no folder");
    }
}
