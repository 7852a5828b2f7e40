//! What a listener offers to clients that come with TLS.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::rustls::server::{
    ClientHello, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ServerConfig, ServerConnection};

use super::{Pair, Stamps, TlsError, files, names, provider};
use crate::engine::TlsFacts;

/// Sessions that can be taken up again, a listener.
const SESSIONS: usize = 16_384;

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They may.
    Optional,
    /// They must.
    Required,
}

/// A listener's `tls`, as the config says it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The first serves whoever names no other.
    pub pairs: Vec<Pair>,
    /// Who may vouch for clients.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// What is offered by ALPN, best first.
    pub alpn: Vec<String>,
    /// Names (`*.` in front for all below) that are passed on without being opened.
    pub passthrough: Vec<String>,
    /// Connections without TLS are turned away.
    pub required: bool,
}

/// A listener's side of TLS, shared by all workers.
#[derive(Debug)]
pub struct ServerTls {
    settings: Settings,
    certificates: Arc<Certificates>,
    with_alpn: Arc<ServerConfig>,
    /// For clients none of whose ALPN names we know: they may speak what detection tells.
    without_alpn: Arc<ServerConfig>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// Where one cannot be read or does not fit the others.
    pub fn load(settings: Settings) -> Result<Self, TlsError> {
        let provider = provider();
        let certificates = Arc::new(Certificates {
            pairs: settings.pairs.clone(),
            held: RwLock::new(Held::load(&settings.pairs)?),
        });
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::of("", error))?;
        let builder = match (&settings.client_ca, settings.client_auth) {
            (_, ClientAuth::None) => builder.with_no_client_auth(),
            (ca, auth) => {
                let roots = files::roots(ca.as_deref())?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match auth {
                    ClientAuth::Required => verifier,
                    _ => verifier.allow_unauthenticated(),
                };
                let built = verifier.build();
                builder.with_client_cert_verifier(
                    built.map_err(|error| TlsError::of(ca.clone().unwrap_or_default(), error))?,
                )
            }
        };
        let mut config = builder.with_cert_resolver(certificates.clone());
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.ticketer = tokio_rustls::rustls::crypto::ring::Ticketer::new()
            .map_err(|error| TlsError::of("", error))?;
        let without_alpn = Arc::new(config.clone());
        config.alpn_protocols = settings.alpn.iter().map(|name| name.as_bytes().into()).collect();
        Ok(Self { settings, certificates, with_alpn: Arc::new(config), without_alpn })
    }

    /// Whether connections for `name` are passed on without being opened.
    pub fn passes(&self, name: Option<&str>) -> bool {
        let Some(name) = name else { return false };
        self.settings.passthrough.iter().any(|wanted| match wanted.strip_prefix("*.") {
            Some(below) => {
                name.strip_suffix(below).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            None => wanted == name,
        })
    }

    /// Whether connections without TLS are turned away.
    pub fn required(&self) -> bool {
        self.settings.required
    }

    /// The config for a client that offers these by ALPN.
    pub fn config<'a>(&self, mut offered: impl Iterator<Item = &'a [u8]>) -> Arc<ServerConfig> {
        let known =
            offered.any(|name| self.settings.alpn.iter().any(|ours| ours.as_bytes() == name));
        if known { self.with_alpn.clone() } else { self.without_alpn.clone() }
    }

    /// Reads the certificates again if their files have changed; whether it did.
    ///
    /// # Errors
    /// Where the new ones cannot be used; the old ones stay.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        self.certificates.refresh()
    }
}

/// What a finished handshake tells.
pub(crate) fn facts(connection: &ServerConnection) -> TlsFacts {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let client = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|certificate| names::of(certificate));
    TlsFacts {
        sni: connection.server_name().map(str::to_ascii_lowercase),
        version: match connection.protocol_version() {
            Some(tokio_rustls::rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        },
        alpn: connection.alpn_protocol().map(text),
        client_san: client.as_ref().map(|names| names.alternative.join(",")),
        client_subject: client.map(|names| names.subject),
    }
}

#[derive(Debug)]
struct Certificates {
    pairs: Vec<Pair>,
    held: RwLock<Held>,
}

#[derive(Debug)]
struct Held {
    default: Arc<CertifiedKey>,
    /// By name; `*.` in front stands for one label.
    named: HashMap<String, Arc<CertifiedKey>>,
    stamps: Stamps,
}

impl Held {
    fn load(pairs: &[Pair]) -> Result<Self, TlsError> {
        let provider = provider();
        let stamps = Stamps::of(pairs.iter().flat_map(|pair| [&pair.cert, &pair.key]));
        let mut default = None;
        let mut named = HashMap::new();
        for pair in pairs {
            let certified = files::certified(pair, &provider)?;
            let found = certified.cert.first().map(|own| names::of(own)).unwrap_or_default();
            let common = found.common.filter(|_| found.dns.is_empty());
            for name in found.dns.into_iter().chain(common) {
                named.entry(name.to_ascii_lowercase()).or_insert_with(|| certified.clone());
            }
            default.get_or_insert(certified);
        }
        match default {
            Some(default) => Ok(Self { default, named, stamps }),
            None => Err(TlsError::of("", "there is no certificate")),
        }
    }

    fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let found = name.map(str::to_ascii_lowercase).and_then(|name| {
            let one_up = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            self.named.get(&name).or_else(|| self.named.get(&one_up()?))
        });
        found.unwrap_or(&self.default).clone()
    }
}

impl Certificates {
    fn refresh(&self) -> Result<bool, TlsError> {
        let stamps = Stamps::of(self.pairs.iter().flat_map(|pair| [&pair.cert, &pair.key]));
        if self.held.read().unwrap_or_else(PoisonError::into_inner).stamps == stamps {
            return Ok(false);
        }
        let fresh = Held::load(&self.pairs);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        match fresh {
            Ok(fresh) => {
                *held = fresh;
                Ok(true)
            }
            Err(error) => {
                // Said once; looked at again when the files change again.
                held.stamps = stamps;
                Err(error)
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        Some(held.choose(hello.server_name()))
    }
}
