//! Certificates and keys from PEM files.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::{Pair, TlsError};

pub(super) fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::of(file, error))?;
    if all.is_empty() {
        return Err(TlsError::of(file, "there is no certificate in it"));
    }
    Ok(all)
}

pub(super) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| TlsError::of(file, error))
}

/// The pair, ready for use; its key must be the certificate's.
pub(super) fn certified(
    pair: &Pair,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let certified = CertifiedKey::from_der(chain(&pair.cert)?, key(&pair.key)?, provider)
        .map_err(|error| TlsError::of(&pair.key, error))?;
    Ok(Arc::new(certified))
}

/// The authorities of `file`; the system's where there is none.
pub(super) fn roots(file: Option<&Path>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(file) => {
            for certificate in chain(file)? {
                roots.add(certificate).map_err(|error| TlsError::of(file, error))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = "the system has no certificate authorities; name a file with `ca`";
                return Err(TlsError::of("", why));
            }
        }
    }
    Ok(Arc::new(roots))
}
