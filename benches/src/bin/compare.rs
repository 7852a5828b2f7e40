//! Polyport beside its peers: CPU per request, in alternating rounds on the same cores.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use polyport_benches::aims::{Stage, Verdict, judge};
use polyport_benches::backend::Backends;
use polyport_benches::load::{self, Drive};
use polyport_benches::peers::{self, Peer, Running, Site};
use polyport_benches::process::{TempDir, settle};
use polyport_benches::table::{Row, Table};
use polyport_benches::{Result, Workload};

/// What all policies together may cost, as a ratio of CPU per request.
const POLICIES: f64 = 1.15;

/// Drives Polyport and its peers with the same load, in turn, and compares the
/// CPU time that each takes per request.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds of each peer; they alternate (A B C A B C ...).
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that are counted in each round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before counting begins in each round.
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Connections, all open at once.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests in flight on each connection; a table for each depth.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    depth: Vec<usize>,
    /// Workloads to run (HTTP at depth 1 only).
    #[arg(long, value_delimiter = ',', default_values_t = Workload::ALL.map(Shown))]
    only: Vec<Shown<Workload>>,
    /// Proxies to compare; `direct` is none, to see what generator and backend can do.
    #[arg(long, value_delimiter = ',', default_values_t = Peer::DEFAULT.map(Shown))]
    peers: Vec<Shown<Peer>>,
    /// Polyport's binary [default: the one beside this program].
    #[arg(long)]
    polyport: Option<PathBuf>,
    /// The core of the proxy under test.
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of the load generator and the backends.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Also write all rounds, tables and verdicts to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1 where a first aim that was measured is not met.
    #[arg(long)]
    strict: bool,
}

/// An argument that is shown by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown<T>(T);

impl<T: clap::ValueEnum> std::str::FromStr for Shown<T> {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        T::from_str(text, true).map(Self).map_err(|_| {
            let names: Vec<String> =
                T::value_variants().iter().map(|v| Self(v.clone()).to_string()).collect();
            format!("choose among {}", names.join(", "))
        })
    }
}

impl<T: clap::ValueEnum> std::fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

#[derive(serde::Serialize)]
struct Report<'a> {
    seconds: f64,
    tables: &'a [Table],
    aims: &'a [Verdict],
}

fn main() -> ExitCode {
    match compare(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<ExitCode> {
    if args.rounds == 0 || args.connections == 0 || args.depth.contains(&0) {
        return Err("--rounds, --connections and --depth must be at least 1".into());
    }
    let polyport = binary(args)?;
    settle(args.load_core)?;
    let workloads: Vec<Workload> = args.only.iter().map(|shown| shown.0).collect();
    let dir = TempDir::new()?;
    let mut backends = Backends::start(dir.path(), workloads.contains(&Workload::Redis))?;
    let mut tables = Vec::new();
    let mut missed = false;
    for workload in workloads {
        for depth in &args.depth {
            if *depth > 1 && !workload.pipelines() {
                continue;
            }
            let site = Site {
                dir: dir.path(),
                core: args.proxy_core,
                backends: &backends,
                polyport: &polyport,
            };
            let table = measure(args, workload, *depth, &site)?;
            println!("{}", table.text());
            if let Some(ratio) = table.between(Peer::Policies, Peer::Three) {
                let met = if ratio <= POLICIES { "met" } else { "NOT MET" };
                println!("all policies on: {ratio:.3} x none, <= {POLICIES} wanted: {met}\n");
                missed |= ratio > POLICIES;
            }
            tables.push(table);
            backends.check()?;
        }
    }
    let verdicts = judge(&tables);
    if args.peers.contains(&Shown(Peer::Polyport)) {
        println!("aims, CPU per request as a ratio");
        for verdict in &verdicts {
            println!("{verdict}");
        }
    }
    if let Some(file) = &args.json {
        let report = Report { seconds: args.seconds, tables: &tables, aims: &verdicts };
        std::fs::write(file, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    let wrong = tables.iter().flat_map(|table| &table.rows).any(|row| row.errors() > 0);
    if wrong {
        eprintln!("compare: there were errors; figures of such a row mean nothing");
    }
    missed |= verdicts.iter().any(|v| v.aim.stage == Stage::First && v.met.is_some_and(|met| !met));
    Ok(if wrong || (args.strict && missed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Polyport's binary; that it is missing is an error only where it is to run.
fn binary(args: &Args) -> Result<PathBuf> {
    let path = match &args.polyport {
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_exe()?.with_file_name("polyport"),
    };
    let ours = [Peer::Polyport, Peer::Three, Peer::Policies];
    if args.peers.iter().any(|peer| ours.contains(&peer.0)) && !path.is_file() {
        return Err(format!(
            "{} is missing: build it (cargo build --release -p polyport), name it with \
             --polyport FILE, or leave it out with --peers twemproxy,nginx,haproxy,envoy",
            path.display()
        )
        .into());
    }
    Ok(path)
}

/// All rounds of one workload at one depth, the proxies started afresh.
fn measure(args: &Args, workload: Workload, depth: usize, site: &Site<'_>) -> Result<Table> {
    let mut rows = Vec::new();
    let mut running: Vec<Running> = Vec::new();
    for Shown(peer) in &args.peers {
        if peer.mode(workload).is_some() {
            running.push(peers::start(*peer, workload, site)?);
            rows.push(Row::new(*peer));
        }
    }
    let drive = Drive {
        connections: args.connections,
        depth,
        warmup: Duration::try_from_secs_f64(args.warmup)?,
        duration: Duration::try_from_secs_f64(args.seconds)?,
    };
    let mut dialect = load::dialect(workload);
    for at in 1..=args.rounds {
        for (row, proxy) in rows.iter_mut().zip(&mut running) {
            progress(&format!(
                "{} depth {depth}: round {at} of {}, {}",
                workload.name(),
                args.rounds,
                row.peer.name()
            ));
            let round = load::drive(proxy.address, &mut *dialect, drive, || match &proxy.server {
                Some(server) => server.cpu(),
                None => Ok(Duration::ZERO),
            })
            .map_err(|error| format!("{}: {error}", row.peer.name()))?;
            if let Some(server) = &mut proxy.server {
                server.check()?;
            }
            row.push(round);
        }
    }
    progress("");
    Ok(Table { workload, depth, connections: args.connections, rows })
}

/// Says what is going on, where somebody watches; nothing at the end.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{what}");
    }
}
