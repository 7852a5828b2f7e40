//! Polyport: every protocol on the one port, so that detection and routing are in the price.

use std::net::SocketAddr;

use super::{Running, Site};
use crate::process::Program;
use crate::{Result, Workload};

/// Starts it; the same config for all workloads.
pub fn start(site: &Site<'_>, listen: SocketAddr) -> Result<Running> {
    let mut config = format!("workers = 1\n\n[[listener]]\naddress = \"{listen}\"\n");
    for workload in Workload::ALL {
        let (name, backend) = (workload.name(), site.backend(workload));
        config.push_str(&format!(
            r#"
[[cluster]]
name = "{name}"
endpoints = ["{backend}"]

[[route]]
name = "{name}"
match = {{ protocol = "{name}" }}
to = "{name}"
"#
        ));
    }
    let (dir, file) = site.config("polyport", "polyport.toml", &config)?;
    let program = Program::file(site.polyport.to_owned());
    let args = ["run".into(), "-c".into(), file.into_os_string()];
    site.launch("polyport", &program, args, &dir, listen)
}
