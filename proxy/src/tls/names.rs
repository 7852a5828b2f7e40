//! What a certificate says of its owner.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Names in a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// The subject, as RFC 4514 would write it.
    pub(super) subject: String,
    /// Its common name.
    pub(super) common: Option<String>,
    /// DNS names, URIs, mail addresses and IP addresses among its alternative names.
    pub(super) alternative: Vec<String>,
    /// The DNS names among these.
    pub(super) dns: Vec<String>,
}

/// The names in a certificate; none where it cannot be read.
pub(super) fn of(der: &[u8]) -> Names {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Names::default() };
    let mut names = Names {
        subject: certificate.subject().to_string(),
        common: certificate
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .map(str::to_owned),
        ..Names::default()
    };
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => {
                    names.dns.push(name.to_ascii_lowercase());
                    names.alternative.push((*name).to_owned());
                }
                GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
                    names.alternative.push((*name).to_owned());
                }
                GeneralName::IPAddress(bytes) => {
                    let four: Option<[u8; 4]> = (*bytes).try_into().ok();
                    let sixteen: Option<[u8; 16]> = (*bytes).try_into().ok();
                    names.alternative.extend(
                        four.map(|four| std::net::IpAddr::from(four).to_string()).or_else(|| {
                            sixteen.map(|sixteen| std::net::IpAddr::from(sixteen).to_string())
                        }),
                    );
                }
                _ => {}
            }
        }
    }
    names
}
