//! A real Prometheus, and what it says of texts, rules and queries.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::peers::{curl, program};
use crate::ports;
use crate::process::{Process, Running, root, run};

/// A Prometheus that scrapes one address every second.
pub struct Prometheus {
    /// Where its API is.
    pub address: SocketAddr,
    _process: Process,
    _directory: TempDir,
}

/// A file of `examples/monitoring`.
pub fn example(name: &str) -> PathBuf {
    root().join("examples/monitoring").join(name)
}

/// Panics unless `promtool check KIND FILE` is content.
pub fn promtool_check(kind: &str, file: &Path) -> String {
    let mut command = program("promtool");
    command.args(["check", kind]).arg(file);
    run("promtool", command)
}

/// Panics unless promtool reads this text and finds nothing to blame in it.
pub fn promtool_check_metrics(text: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("metrics");
    fs::write(&file, text).expect("the text");
    let mut command = program("promtool");
    command.args(["check", "metrics"]);
    let stdin = Stdio::from(File::open(file).expect("the text"));
    let (status, said, complaint) = Running::fed("promtool", command, stdin).finish();
    assert!(status.success(), "promtool: {said}{complaint}\n{text}");
}

impl Prometheus {
    /// Starts one that scrapes `target` as the job `polyport` and loads these rules.
    pub fn start(target: SocketAddr, rules: &Path) -> Self {
        let address = ports::free();
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [{:?}]\n\
             scrape_configs:\n  - job_name: polyport\n    static_configs:\n      \
             - targets: [\"{target}\"]\n",
            rules.display().to_string()
        );
        fs::write(&file, text).expect("its config");
        let mut command = program("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--enable-feature=exemplar-storage", "--log.level=warn"])
            .current_dir(directory.path());
        let mut process = Process::start("prometheus", command, directory.path());
        process.wait_for_port(address);
        Self { address, _process: process, _directory: directory }
    }

    /// The `data` of an answer of its API, where it is a success.
    fn ask(&self, path: &str, more: &[&str]) -> Result<Value, String> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let text = curl(&[&["-G", url.as_str()], more].concat());
        let answer: Value =
            serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => Err(text),
        }
    }

    /// What an expression comes to now: the result's series.
    ///
    /// # Errors
    /// What Prometheus says against it.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let data = self.ask("query", &["--data-urlencode", &format!("query={expression}")])?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// The first series' value, if there is one.
    pub fn value(&self, expression: &str) -> Option<f64> {
        let series = self.query(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        series.first()?["value"][1].as_str()?.parse().ok()
    }

    /// All rules that it has loaded.
    pub fn rules(&self) -> Vec<Value> {
        let data = self.ask("rules", &[]).expect("the rules");
        let groups = data["groups"].as_array().cloned().unwrap_or_default();
        let rules = |group: &Value| group["rules"].as_array().cloned().unwrap_or_default();
        groups.iter().flat_map(rules).collect()
    }

    /// The exemplars of an expression's series in the last minutes.
    pub fn exemplars(&self, expression: &str) -> Vec<Value> {
        let query = format!("query={expression}");
        let data = self.ask(
            "query_exemplars",
            &[
                "--data-urlencode",
                &query,
                "--data-urlencode",
                "start=0",
                "--data-urlencode",
                "end=9999999999",
            ],
        );
        let series = data.expect("exemplars").as_array().cloned().unwrap_or_default();
        let all = |of: &Value| of["exemplars"].as_array().cloned().unwrap_or_default();
        series.iter().flat_map(all).collect()
    }
}
