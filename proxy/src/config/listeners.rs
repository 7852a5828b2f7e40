//! `[[listener]]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use polyport_codecs::{Protocol, Registry};
use toml::de::DeValue;

use super::diagnostic::suggest;
use super::outline::{Outline, said};
use super::reader::Reader;
use super::transport;
use crate::snapshot::{Fallback, Listener};

/// The listeners, and every protocol that one of them takes.
pub(super) fn read(
    root: &mut Reader<'_, '_>,
    registry: &Registry,
    outline: &mut Outline,
) -> (Vec<Listener>, Vec<&'static dyn Protocol>) {
    let enabled: Vec<&'static dyn Protocol> = registry.protocols().to_vec();
    let names: Vec<&str> = enabled.iter().map(|protocol| protocol.name()).collect();
    let mut listeners: Vec<Listener> = Vec::new();
    let mut addresses: BTreeMap<SocketAddr, ()> = BTreeMap::new();
    for section in root.sections("listener", "[[listener]]") {
        section.finish(&[
            "name",
            "address",
            "protocols",
            "fallback",
            "detect-timeout",
            "tls",
            "proxy-protocol",
        ]);
        let Some((text, span)) = section.required("address", "\"0.0.0.0:7000\"") else { continue };
        let Ok(address) = text.parse::<SocketAddr>() else {
            let help = "write an address with its port, such as \"0.0.0.0:7000\" or \"[::]:7000\"";
            section.source.error(span, format!("`{text}` is no address"), Some(help.into()));
            continue;
        };
        if address.port() != 0 && addresses.insert(address, ()).is_some() {
            section.source.error(span, format!("two listeners on {address}"), None);
        }
        let find = |name: &str, span: std::ops::Range<usize>| {
            let found = names.iter().position(|known| *known == name);
            if found.is_none() {
                let help = suggest(name, names.iter().copied())
                    .unwrap_or_else(|| format!("there are {}", names.join(", ")));
                section.source.error(span, format!("unknown protocol `{name}`"), Some(help));
            }
            found
        };
        let protocols: Vec<usize> = match section.get("protocols").map(|v| (v, v.get_ref())) {
            None => (0..enabled.len()).collect(),
            Some((_, DeValue::Array(array))) => {
                let mut wanted: Vec<usize> = array
                    .iter()
                    .filter_map(|value| match value.get_ref() {
                        DeValue::String(name) => find(name, value.span()),
                        _ => {
                            section.wrong(value, "a protocol's name");
                            None
                        }
                    })
                    .collect();
                wanted.sort_unstable();
                wanted.dedup();
                wanted
            }
            Some((value, _)) => {
                section.wrong(value, "an array of protocols' names");
                continue;
            }
        };
        let fallback = match section.string("fallback") {
            None | Some(("close", _)) => Fallback::Close,
            Some((super::TCP, _)) => Fallback::Tcp,
            Some((name, span)) => find(name, span).map_or(Fallback::Close, Fallback::Protocol),
        };
        let detectable = protocols.iter().filter_map(|at| enabled.get(*at).copied()).collect();
        let name = section.string("name");
        let name = name.map_or_else(|| address.to_string(), |(name, _)| name.to_owned());
        outline.listeners.insert(name.clone(), said(&section));
        listeners.push(Listener {
            name,
            retired: false,
            address,
            protocols,
            detectable,
            fallback,
            tls: transport::server(&section),
            proxy_protocol: transport::proxy_header(&section),
            detect_timeout: section.duration("detect-timeout").unwrap_or(Duration::from_secs(5)),
        });
    }
    (listeners, enabled)
}
