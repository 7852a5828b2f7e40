//! `[overload]`, `user` and `group`.

use ipnet::IpNet;
use toml::de::DeValue;

use super::reader::Reader;
use crate::overload::Settings;
use crate::privileges::Identity;

pub(super) fn read(root: &mut Reader<'_, '_>) -> Settings {
    let mut settings = Settings::default();
    let Some(section) = root.section("overload", "[overload]") else { return settings };
    section.finish(&[
        "memory",
        "descriptors",
        "close-idle",
        "stop-accepting",
        "shed",
        "per-source",
        "per-source-prefix",
        "trusted",
    ]);
    settings.memory = section.size("memory");
    settings.descriptors = section.integer("descriptors", 1..=1 << 31).map(|count| count as usize);
    let percent = |key: &str, place: &mut u8| {
        if let Some(percent) = section.integer(key, 10..=100) {
            *place = percent as u8;
        }
    };
    percent("close-idle", &mut settings.close_idle);
    percent("stop-accepting", &mut settings.stop_accepting);
    percent("shed", &mut settings.shed);
    let steps = [
        ("stop-accepting", settings.stop_accepting, "close-idle", settings.close_idle),
        ("shed", settings.shed, "stop-accepting", settings.stop_accepting),
    ];
    for (later, at, earlier, before) in steps {
        if at < before {
            let span = section.get(later).or_else(|| section.get(earlier)).map(|v| v.span());
            let help = format!(
                "close-idle comes first, then stop-accepting, then shed: raise `{later}` or lower `{earlier}`"
            );
            let message = format!("`{later}` at {at} comes before `{earlier}` at {before}");
            section.source.error(span.unwrap_or(section.span.clone()), message, Some(help));
        }
    }
    settings.per_source = section.integer("per-source", 1..=1 << 20).map(|most| most as u32);
    if let Some(prefix) = section.integer("per-source-prefix", 1..=128) {
        settings.per_source_prefix = prefix as u8;
    }
    settings.trusted = trusted(&section);
    for key in ["per-source-prefix", "trusted"] {
        if let Some(value) = section.get(key)
            && section.get("per-source").is_none()
        {
            let help = "add per-source = 1000, or remove this";
            let message = format!("`{key}` without `per-source`");
            section.source.error(value.span(), message, Some(help.into()));
        }
    }
    settings
}

fn trusted(section: &Reader<'_, '_>) -> Vec<IpNet> {
    let Some(value) = section.get("trusted") else { return Vec::new() };
    let DeValue::Array(array) = value.get_ref() else {
        section.wrong(value, "an array of networks");
        return Vec::new();
    };
    let mut all = Vec::new();
    for value in array {
        let DeValue::String(text) = value.get_ref() else {
            section.wrong(value, "a network");
            continue;
        };
        match text
            .parse()
            .or_else(|_| text.parse().map(|address: std::net::IpAddr| IpNet::from(address)))
        {
            Ok(network) => all.push(network),
            Err(_) => {
                let help = "write an address or a network: \"10.0.0.7\" or \"10.0.0.0/8\"";
                let message = format!("`{text}` is no network");
                section.source.error(value.span(), message, Some(help.into()));
            }
        }
    }
    all
}

/// Who the process becomes.
pub(super) fn identity(root: &mut Reader<'_, '_>) -> Identity {
    let name = |key: &str| {
        let (name, span) = root.string(key)?;
        if name.is_empty() || name.contains('\0') {
            let help = format!("write a name or a number: {key} = \"polyport\"");
            root.source.error(span, format!("this names no {key}"), Some(help));
            return None;
        }
        Some(name.to_owned())
    };
    Identity { user: name("user"), group: name("group") }
}
