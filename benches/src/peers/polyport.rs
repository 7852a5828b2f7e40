//! Polyport: every protocol on the one port, so that detection and routing are in the price.

use std::net::SocketAddr;
use std::process::Command;

use polyport_codecs::Registry;

use super::{Running, Site};
use crate::policies;
use crate::process::Program;
use crate::{Result, Workload};

/// Starts it; the same config for all workloads.
pub fn start(workload: Workload, site: &Site<'_>, listen: SocketAddr) -> Result<Running> {
    let registry = Registry::builtin();
    // A config that names an unknown protocol would be refused as a whole.
    let known = |workload: &Workload| registry.get(workload.protocol()).is_some();
    if !known(&workload) {
        return Err(format!("this build knows no protocol {}", workload.protocol()).into());
    }
    let mut config = format!("workers = 1\n\n[[listener]]\naddress = \"{listen}\"\n");
    for workload in Workload::ALL.into_iter().filter(known) {
        let (name, backend) = (workload.name(), site.backend(workload));
        if workload.protocol() != name {
            continue;
        }
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

/// Starts it with three endpoints for this workload alone, and every policy where `all`.
pub fn start_three(
    workload: Workload,
    site: &Site<'_>,
    listen: SocketAddr,
    all: bool,
) -> Result<Running> {
    let name = if all { "policies" } else { "three" };
    let check = |text: &str| {
        let Ok((_, file)) = site.config(name, "check.toml", text) else { return false };
        let output = Command::new(site.polyport).arg("check").arg("-c").arg(file).output();
        output.is_ok_and(|output| output.status.success())
    };
    let policies = if all { policies::known(check) } else { Vec::new() };
    let to = [(workload.protocol(), site.backend(workload))];
    let text = policies::config(listen, &to, &policies);
    let (dir, file) = site.config(name, "polyport.toml", &text)?;
    let program = Program::file(site.polyport.to_owned());
    site.launch(name, &program, ["run".into(), "-c".into(), file.into_os_string()], &dir, listen)
}
