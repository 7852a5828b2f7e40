//! `[admin]`.

use std::net::SocketAddr;

use super::reader::Reader;
use crate::admin::Settings;

pub(super) fn read(root: &mut Reader<'_, '_>) -> Option<Settings> {
    let section = root.section("admin", "[admin]")?;
    section.finish(&["address", "socket", "write"]);
    let address = section.string("address").and_then(|(text, span)| {
        let address: Option<SocketAddr> = text.parse().ok();
        let address = address.filter(|address| address.ip().is_loopback());
        if address.is_none() {
            let help = "write a loopback address with its port, such as \"127.0.0.1:7001\"";
            let message = format!("`{text}` is no loopback address");
            section.source.error(span, message, Some(help.into()));
        }
        address
    });
    let socket = section.string("socket").and_then(|(path, span)| {
        if path.is_empty() || path.len() > LONGEST {
            let help = format!("write a path of 1 to {LONGEST} bytes: systems take no longer ones");
            section.source.error(span, "this is no path for a socket".into(), Some(help));
            return None;
        }
        Some(section.source.folder().join(path))
    });
    if section.get("address").is_none() && section.get("socket").is_none() {
        let help = "add address = \"127.0.0.1:7001\" or socket = \"admin.sock\"";
        let message = "[admin] without `address` or `socket`".to_owned();
        section.source.error(section.span.clone(), message, Some(help.into()));
    }
    Some(Settings { address, socket, write: section.boolean("write").unwrap_or(false) })
}

/// What `sockaddr_un` holds, less its closing NUL.
const LONGEST: usize = 107;
