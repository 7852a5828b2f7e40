//! How endpoints are met with TLS.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Pair, Stamps, TlsError, files, provider};

/// A cluster's `tls`, as the config says it.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Who may vouch for the endpoints; the system's authorities where it is not said.
    pub ca: Option<PathBuf>,
    /// The name that endpoints must prove; their own, as the config writes it, where it is not said.
    pub server_name: Option<String>,
    /// What we prove ourselves by.
    pub own: Option<Pair>,
    /// What is asked for by ALPN.
    pub alpn: Vec<String>,
}

/// A cluster's side of TLS, shared by all workers.
#[derive(Debug)]
pub struct ClientTls {
    settings: Settings,
    held: RwLock<(Arc<ClientConfig>, Stamps)>,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// Where one cannot be read or does not fit the others.
    pub fn load(settings: Settings) -> Result<Self, TlsError> {
        let stamps = stamps(&settings);
        let config = config(&settings)?;
        Ok(Self { settings, held: RwLock::new((config, stamps)) })
    }

    /// The config for a new connection.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The name that the endpoint written as `host` must prove; none where that is no name.
    pub fn name(&self, host: &str) -> Option<ServerName<'static>> {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).ok()
    }

    /// Reads the files again if they have changed; whether it did.
    ///
    /// # Errors
    /// Where the new ones cannot be used; the old ones stay.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let stamps = stamps(&self.settings);
        if self.held.read().unwrap_or_else(PoisonError::into_inner).1 == stamps {
            return Ok(false);
        }
        let fresh = config(&self.settings);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.1 = stamps;
        held.0 = fresh?;
        Ok(true)
    }
}

fn stamps(settings: &Settings) -> Stamps {
    let own = settings.own.iter().flat_map(|pair| [&pair.cert, &pair.key]);
    Stamps::of(settings.ca.iter().chain(own))
}

fn config(settings: &Settings) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::of("", error))?
        .with_root_certificates(files::roots(settings.ca.as_deref())?);
    let mut config = match &settings.own {
        None => builder.with_no_client_auth(),
        Some(pair) => builder
            .with_client_auth_cert(files::chain(&pair.cert)?, files::key(&pair.key)?)
            .map_err(|error| TlsError::of(&pair.key, error))?,
    };
    config.alpn_protocols = settings.alpn.iter().map(|name| name.as_bytes().into()).collect();
    Ok(Arc::new(config))
}
