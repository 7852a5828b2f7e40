//! `tls` and `proxy-protocol`, of listeners and of clusters.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use polyport_codecs::proxy_protocol::Version;
use toml::de::DeValue;

use super::reader::Reader;
use crate::snapshot::ProxyHeader;
use crate::tls::server::{ClientAuth, ServerTls};
use crate::tls::{Pair, TlsError, client, server};

/// What clients may choose by ALPN where the config does not say.
const ALPN: [&str; 2] = ["h2", "http/1.1"];

/// A file, relative to the config's folder.
fn file(section: &Reader<'_, '_>, text: &str) -> PathBuf {
    section.source.folder().join(text)
}

fn complain(section: &Reader<'_, '_>, span: Range<usize>, error: &TlsError) {
    section.source.error(span, error.to_string(), None);
}

/// A listener's `tls`.
pub(super) fn server(listener: &Reader<'_, '_>) -> Option<Arc<ServerTls>> {
    let section = listener.section("tls", "tls")?;
    section.finish(&[
        "certificates",
        "client-ca",
        "client-auth",
        "alpn",
        "passthrough",
        "required",
    ]);
    let mut settings = server::Settings {
        pairs: pairs(&section),
        client_ca: section.string("client-ca").map(|(text, _)| file(&section, text)),
        client_auth: ClientAuth::None,
        alpn: strings(&section, "alpn")
            .unwrap_or_else(|| ALPN.iter().map(|&name| name.into()).collect()),
        passthrough: strings(&section, "passthrough")
            .unwrap_or_default()
            .into_iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        required: section.boolean("required").unwrap_or(false),
    };
    settings.client_auth = match section.string("client-auth") {
        None if settings.client_ca.is_some() => ClientAuth::Required,
        None => ClientAuth::None,
        Some((word, span)) => {
            let auth = match word {
                "required" => ClientAuth::Required,
                "optional" => ClientAuth::Optional,
                "none" => ClientAuth::None,
                other => {
                    let help = "there are \"required\", \"optional\" and \"none\"";
                    let message = format!("unknown client-auth `{other}`");
                    section.source.error(span.clone(), message, Some(help.into()));
                    ClientAuth::None
                }
            };
            if auth != ClientAuth::None && settings.client_ca.is_none() {
                let message = "client-auth without a client-ca to vouch for clients".to_owned();
                section.source.error(span, message, Some("add client-ca = \"ca.crt\"".into()));
            }
            auth
        }
    };
    if settings.pairs.is_empty() {
        if !section.source.failed() {
            let help = "add certificates = [{ cert = \"server.crt\", key = \"server.key\" }]";
            let message = "tls without a certificate".to_owned();
            section.source.error(section.span.clone(), message, Some(help.into()));
        }
        return None;
    }
    match ServerTls::load(settings) {
        Ok(tls) => Some(Arc::new(tls)),
        Err(error) => {
            complain(&section, section.span.clone(), &error);
            None
        }
    }
}

fn pairs(section: &Reader<'_, '_>) -> Vec<Pair> {
    let Some(value) = section.get("certificates") else { return Vec::new() };
    let DeValue::Array(array) = value.get_ref() else {
        section.wrong(value, "an array of { cert = \"…\", key = \"…\" }");
        return Vec::new();
    };
    let mut all = Vec::new();
    for value in array {
        let DeValue::Table(table) = value.get_ref() else {
            section.wrong(value, "{ cert = \"server.crt\", key = \"server.key\" }");
            continue;
        };
        let pair = Reader::new(section.source, table, value.span(), "a certificate");
        pair.finish(&["cert", "key"]);
        let cert = pair.required("cert", "\"server.crt\"");
        let key = pair.required("key", "\"server.key\"");
        if let (Some((cert, _)), Some((key, _))) = (cert, key) {
            all.push(Pair { cert: file(&pair, cert), key: file(&pair, key) });
        }
    }
    all
}

fn strings(section: &Reader<'_, '_>, key: &str) -> Option<Vec<String>> {
    let value = section.get(key)?;
    let DeValue::Array(array) = value.get_ref() else {
        section.wrong(value, "an array of strings");
        return None;
    };
    let text = |value: &super::reader::Value<'_>| match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        _ => {
            section.wrong(value, "a string");
            None
        }
    };
    Some(array.iter().filter_map(text).collect())
}

/// A listener's `proxy-protocol`.
pub(super) fn proxy_header(listener: &Reader<'_, '_>) -> ProxyHeader {
    match listener.string("proxy-protocol") {
        None | Some(("off", _)) => ProxyHeader::None,
        Some(("optional", _)) => ProxyHeader::Optional,
        Some(("required", _)) => ProxyHeader::Required,
        Some((other, span)) => {
            let help = "there are \"required\", \"optional\" and \"off\"";
            let message = format!("unknown proxy-protocol `{other}`");
            listener.source.error(span, message, Some(help.into()));
            ProxyHeader::None
        }
    }
}

/// A cluster's `tls`; `true` means: with the system's authorities.
pub(super) fn client(cluster: &Reader<'_, '_>, http2: bool) -> Option<Arc<client::ClientTls>> {
    let value = cluster.get("tls")?;
    let mut settings = client::Settings::default();
    match value.get_ref() {
        DeValue::Boolean(false) => return None,
        DeValue::Boolean(true) => {}
        _ => {
            let section = cluster.section("tls", "tls")?;
            section.finish(&["ca", "server-name", "cert", "key"]);
            settings.ca = section.string("ca").map(|(text, _)| file(&section, text));
            settings.server_name = section.string("server-name").map(|(name, span)| {
                let known = tokio_rustls::rustls::pki_types::ServerName::try_from(name);
                if known.is_err() {
                    section.source.error(span, format!("`{name}` is no server name"), None);
                }
                name.to_owned()
            });
            settings.own = match (section.string("cert"), section.string("key")) {
                (Some((cert, _)), Some((key, _))) => {
                    Some(Pair { cert: file(&section, cert), key: file(&section, key) })
                }
                (None, None) => None,
                (Some((_, span)), None) | (None, Some((_, span))) => {
                    let message = "`cert` and `key` go together".to_owned();
                    section.source.error(span, message, Some("add the other".into()));
                    None
                }
            };
        }
    }
    if http2 {
        settings.alpn = vec!["h2".into()];
    }
    match client::ClientTls::load(settings) {
        Ok(tls) => Some(Arc::new(tls)),
        Err(error) => {
            complain(cluster, value.span(), &error);
            None
        }
    }
}

/// A cluster's `proxy-protocol`.
pub(super) fn proxy_version(cluster: &Reader<'_, '_>) -> Option<Version> {
    match cluster.string("proxy-protocol")? {
        ("v1", _) => Some(Version::V1),
        ("v2", _) => Some(Version::V2),
        (other, span) => {
            let help = "there are \"v1\" and \"v2\"";
            let message = format!("unknown proxy-protocol `{other}`");
            cluster.source.error(span, message, Some(help.into()));
            None
        }
    }
}
