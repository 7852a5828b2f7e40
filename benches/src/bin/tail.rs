//! One endpoint of three that answers much later than the others: what the balance makes of
//! it, as the 99th percentile of latency beside that of three healthy ones.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use polyport_benches::backend::late::Late;
use polyport_benches::backend::{Serve, dubbo, http};
use polyport_benches::load::{self, Drive};
use polyport_benches::process::{Program, Server, TempDir, free_address};
use polyport_benches::{Result, Workload};

/// Drives Polyport before three servers, first all alike and then one of them slow,
/// with each way of choosing among them.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds of each; they alternate, and the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds that are counted in each round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before counting begins, in which the balance may learn.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Connections, all open at once, one request in flight on each.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// What a healthy server takes, in milliseconds.
    #[arg(long, default_value_t = 4.0)]
    service: f64,
    /// How many times as long the slow one takes.
    #[arg(long, default_value_t = 50.0)]
    slower: f64,
    /// `dubbo` (shared connections) or `http` (a connection for each exchange).
    #[arg(long, default_value = "dubbo")]
    workload: String,
    /// What to choose by; what the binary does not know is left out.
    #[arg(long, value_delimiter = ',', default_values_t = [
        "round-robin".to_owned(), "random".to_owned(), "least-request".to_owned(), "ewma".to_owned()
    ])]
    balance: Vec<String>,
    /// Polyport's binary [default: the one beside this program].
    #[arg(long)]
    polyport: Option<PathBuf>,
    /// Exit with 1 where neither `least-request` nor `ewma` keeps the tail within this ratio.
    #[arg(long)]
    strict: Option<f64>,
}

/// Percentiles of one round, in milliseconds: 50th and 99th.
type Latency = (f64, f64);

fn main() -> ExitCode {
    match tails(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tail: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tails(args: &Args) -> Result<ExitCode> {
    let (workload, serve): (Workload, Serve) = match args.workload.as_str() {
        "dubbo" => (Workload::Dubbo, dubbo::serve),
        "http" => (Workload::Http, http::serve),
        other => return Err(format!("--workload {other}: choose dubbo or http").into()),
    };
    let servers = [Late::start(serve)?, Late::start(serve)?, Late::start(serve)?];
    let polyport = match &args.polyport {
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_exe()?.with_file_name("polyport"),
    };
    let dir = TempDir::new()?;
    let mut best = f64::INFINITY;
    println!(
        "{:<15} {:>11} {:>11} {:>11} {:>11} {:>10}",
        "balance", "p50", "p99", "slow p50", "slow p99", "p99 ratio"
    );
    for balance in &args.balance {
        let listen = free_address()?;
        let config = config(listen, &servers, workload, balance);
        let file = dir.path().join(format!("{balance}.toml"));
        std::fs::write(&file, config)?;
        let check = Command::new(&polyport).arg("check").arg("-c").arg(&file).output()?;
        if !check.status.success() {
            eprintln!("left out, this build does not know it: balance = \"{balance}\"");
            continue;
        }
        let program = Program::file(polyport.clone());
        let arguments = ["run".into(), "-c".into(), file.into_os_string()];
        let server = Server::start(balance, &program, &arguments, None, dir.path())?;
        let _server = server.ready(listen)?;
        let (mut healthy, mut slow) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            healthy.push(round(args, workload, listen, &servers, 1.0)?);
            slow.push(round(args, workload, listen, &servers, args.slower)?);
        }
        let (healthy, slow) = (median(healthy), median(slow));
        let ratio = slow.1 / healthy.1;
        println!(
            "{balance:<15} {:>8.2} ms {:>8.2} ms {:>8.2} ms {:>8.2} ms {ratio:>10.2}",
            healthy.0, healthy.1, slow.0, slow.1
        );
        if matches!(balance.as_str(), "least-request" | "ewma") {
            best = best.min(ratio);
        }
    }
    let missed = args.strict.is_some_and(|most| best > most);
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn config(listen: SocketAddr, servers: &[Late], workload: Workload, balance: &str) -> String {
    let endpoints: Vec<_> =
        servers.iter().map(|server| format!("\"{}\"", server.address)).collect();
    format!(
        r#"workers = 1

[[listener]]
address = "{listen}"

[[cluster]]
name = "all"
endpoints = [{}]
balance = "{balance}"

[[route]]
match = {{ protocol = "{}" }}
to = "all"
"#,
        endpoints.join(", "),
        workload.protocol()
    )
}

fn round(
    args: &Args,
    workload: Workload,
    to: SocketAddr,
    servers: &[Late],
    slower: f64,
) -> Result<Latency> {
    let service = Duration::try_from_secs_f64(args.service / 1000.0)?;
    for (at, server) in servers.iter().enumerate() {
        server.takes(if at == 0 { service.mul_f64(slower) } else { service });
    }
    let drive = Drive {
        connections: args.connections,
        depth: 1,
        warmup: Duration::try_from_secs_f64(args.warmup)?,
        duration: Duration::try_from_secs_f64(args.seconds)?,
    };
    let mut dialect = load::dialect(workload);
    let round = load::drive(to, &mut *dialect, drive, || Ok(Duration::ZERO))?;
    if let Some(error) = round.first_error {
        return Err(format!("a request went wrong: {error}").into());
    }
    let millis = |quantile| round.latency.quantile(quantile).as_secs_f64() * 1e3;
    Ok((millis(0.5), millis(0.99)))
}

/// The round whose tail is in the middle.
fn median(mut rounds: Vec<Latency>) -> Latency {
    rounds.sort_by(|one, other| one.1.total_cmp(&other.1));
    rounds.get(rounds.len() / 2).copied().unwrap_or_default()
}
