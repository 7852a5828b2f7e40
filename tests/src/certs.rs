//! Certificates for one test, made by the `openssl` command.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::peers::program;
use crate::process::run;

/// Nothing of the machine's own `openssl.cnf` gets in: its defaults mark every
/// certificate as an authority's.
const SETTINGS: &str = "[req]\ndistinguished_name = name\nprompt = no\n[name]\n";

/// A certificate authority that only its own test trusts.
pub struct Authority {
    directory: TempDir,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("openssl.cnf"), SETTINGS).expect("the settings");
        let authority = Self { directory };
        let mut command = authority.request("ca", "/CN=polyport test authority");
        command.args(["-addext", "basicConstraints=critical,CA:TRUE"]);
        command.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        run("openssl req", command);
        authority
    }

    /// Its own certificate, for those who are to trust it.
    pub fn ca(&self) -> String {
        text(&self.file("ca.crt"))
    }

    /// A certificate for clients and servers, kept in files called `file`.
    /// `subject` is like `/O=shop/CN=client`, `names` like `DNS:a.test,IP:127.0.0.1`.
    /// Issued again under the same name, it replaces the former one, as a renewal would.
    pub fn issue(&self, file: &str, subject: &str, names: &str) -> Certificate {
        let mut command = self.request(&format!("{file}.new"), subject);
        command.arg("-CA").arg(self.file("ca.crt")).arg("-CAkey").arg(self.file("ca.key"));
        command.args(["-addext", &format!("subjectAltName={names}")]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        command.args(["-addext", "extendedKeyUsage=serverAuth,clientAuth"]);
        run("openssl req", command);
        // The key first: whoever looks between the two sees a pair that does not match.
        for end in ["key", "crt"] {
            let new = self.file(&format!("{file}.new.{end}"));
            std::fs::rename(new, self.file(&format!("{file}.{end}"))).expect("renaming");
        }
        Certificate {
            cert: self.file(&format!("{file}.crt")),
            key: self.file(&format!("{file}.key")),
        }
    }

    /// One for a server of `host`.
    pub fn server(&self, host: &str) -> Certificate {
        self.issue(host, &format!("/CN={host}"), &format!("DNS:{host}"))
    }

    fn request(&self, file: &str, subject: &str) -> Command {
        let mut command = program("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-nodes", "-days", "30", "-subj", subject, "-config"]);
        command.arg(self.file("openssl.cnf"));
        command.arg("-keyout").arg(self.file(&format!("{file}.key")));
        command.arg("-out").arg(self.file(&format!("{file}.crt")));
        command
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Certificate {
    /// As Polyport's config has it: `cert = "…", key = "…"`.
    pub fn toml(&self) -> String {
        format!("cert = \"{}\", key = \"{}\"", text(&self.cert), text(&self.key))
    }

    /// As nginx's config has it, with `prefix` before the names of the directives.
    pub fn nginx(&self, prefix: &str) -> String {
        let (cert, key) = (text(&self.cert), text(&self.key));
        format!("{prefix}ssl_certificate {cert}; {prefix}ssl_certificate_key {key};")
    }

    /// As curl takes it.
    pub fn curl(&self) -> [String; 4] {
        ["--cert".to_owned(), text(&self.cert), "--key".to_owned(), text(&self.key)]
    }

    /// Its serial number, in hexadecimal.
    pub fn serial(&self) -> String {
        let mut command = program("openssl");
        command.args(["x509", "-noout", "-serial", "-in"]).arg(&self.cert);
        let line = run("openssl x509", command);
        line.trim().trim_start_matches("serial=").to_owned()
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path that is text").to_owned()
}
