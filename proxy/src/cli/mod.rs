//! The command line: one file a verb.

mod check;
mod completions;
mod decode;
mod demo;
pub(crate) mod explain;
mod man;
mod run;
mod schema;
mod upgrade;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use polyport_codecs::{Registry, Side};

use crate::admin::LogLevel;
use crate::config::{self, Diagnostic};
use crate::snapshot::Snapshot;

/// One port, every protocol: an L7 proxy that routes Redis, HTTP, Dubbo and more
/// by what their messages say.
#[derive(Debug, Parser)]
#[command(name = "polyport", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs the proxy until SIGTERM or SIGINT, then finishes what is in flight.
    #[command(
        after_help = "Example:\n  polyport run -c polyport.toml\n\nThe log goes to standard error; POLYPORT_LOG=debug says more."
    )]
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Worker threads, instead of what the config says.
        #[arg(long, value_name = "COUNT")]
        workers: Option<usize>,
        /// Keeps the id of the process in charge in this file; what came of the latest
        /// upgrade is told beside it.
        #[arg(long, value_name = "FILE")]
        pid_file: Option<PathBuf>,
    },
    /// Has a running proxy hand over to the binary now in its place, without losing a
    /// connection; says what came of it.
    #[command(
        after_help = "Example:\n  polyport upgrade --pid-file /run/polyport/pid\n\nThe new binary is started from the path of the old one, with the same arguments. Exit status: 0 where it has taken over, 1 where the old one goes on."
    )]
    Upgrade {
        /// The process.
        #[arg(long, value_name = "N", required_unless_present = "pid_file")]
        pid: Option<u32>,
        /// The file that names it: the same as `run` was given.
        #[arg(long, value_name = "FILE")]
        pid_file: Option<PathBuf>,
        /// Waits no longer for what comes of it, seconds.
        #[arg(long, default_value_t = 90)]
        patience: u64,
    },
    /// Says everything that is wrong with a config, and where.
    #[command(
        after_help = "Examples:\n  polyport check -c polyport.toml\n  polyport check -c new.toml --against polyport.toml\n\nExit status: 0 where the config can be used, 1 where not."
    )]
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// The config in use: says what a reload from there would change.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
    },
    /// Says what would become of a message, and why.
    #[command(
        after_help = "Examples:\n  polyport explain -c polyport.toml protocol=redis command=get key=user:42\n  polyport explain -c polyport.toml --frame call.bin\n\nExit status: 0 where a route matches, 1 where none does."
    )]
    Explain(Explain),
    /// Shows the messages in captured bytes, with their metadata.
    #[command(
        after_help = "Examples:\n  printf 'PING\\r\\n' | polyport decode\n  polyport decode --format json --side reply --protocol redis replies.bin"
    )]
    Decode(Decode),
    /// Starts small servers and the proxy before them, and shows what it routes.
    Demo {
        /// Where to listen.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7000")]
        listen: SocketAddr,
        /// Ends after so many seconds.
        #[arg(long)]
        seconds: Option<u64>,
        /// Makes no traffic of its own.
        #[arg(long)]
        quiet: bool,
        /// No colours.
        #[arg(long)]
        plain: bool,
    },
    /// Makes one call, for protocols that have no client of that sort.
    #[command(subcommand)]
    Call(Call),
    /// Prints the config's JSON Schema, for editors that complete and check with one.
    #[command(
        after_help = "Example:\n  polyport schema > polyport.schema.json\n\nA config whose first line is `#:schema ./polyport.schema.json` is checked with it where the editor knows TOML."
    )]
    Schema,
    /// Prints a script that lets a shell complete this command line.
    #[command(
        after_help = "Examples:\n  polyport completions bash > /usr/share/bash-completion/completions/polyport\n  polyport completions zsh > /usr/share/zsh/vendor-completions/_polyport\n  polyport completions fish > /usr/share/fish/vendor_completions.d/polyport.fish"
    )]
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Prints the manual's first page, or writes all of them below a folder.
    #[command(
        after_help = "Examples:\n  polyport man | man -l -\n  polyport man --dir /usr/local/share/man"
    )]
    Man {
        /// Writes all pages: DIR/man1/polyport.1, DIR/man5/polyport.toml.5, and so on
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum Call {
    /// Calls a Dubbo service whose arguments are strings.
    #[command(
        after_help = "Example:\n  polyport call dubbo 127.0.0.1:7000 com.shop.Orders find 42 --attach tenant=acme"
    )]
    Dubbo {
        /// Where: host:port.
        address: String,
        /// The service's interface.
        interface: String,
        /// The method.
        method: String,
        /// Its arguments.
        arguments: Vec<String>,
        /// An attachment, name=value.
        #[arg(long, value_name = "NAME=VALUE")]
        attach: Vec<String>,
    },
    /// Calls a SOFABolt service with a content of JSON or other text.
    #[command(
        after_help = "Example:\n  polyport call bolt 127.0.0.1:7000 com.shop.Stock:1.0 count 42 --header tenant=acme"
    )]
    Bolt {
        /// Where: host:port.
        address: String,
        /// The service, with its version.
        service: String,
        /// The method.
        method: String,
        /// The content, as it is.
        #[arg(default_value = "")]
        content: String,
        /// A text of the header block, name=value.
        #[arg(long, value_name = "NAME=VALUE")]
        header: Vec<String>,
    },
    /// Calls a Thrift method whose arguments are strings: framed, binary.
    #[command(after_help = "Example:\n  polyport call thrift 127.0.0.1:7000 Goods:find anvil")]
    Thrift {
        /// Where: host:port.
        address: String,
        /// The method; `Service:method` where several services share a server.
        method: String,
        /// Its arguments, as fields from 1 on.
        texts: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The config file.
    #[arg(short, long, value_name = "FILE", default_value = "polyport.toml")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Explain {
    #[command(flatten)]
    config: ConfigFile,
    /// What the message says: key=value.
    #[arg(value_name = "KEY=VALUE", conflicts_with = "frame")]
    facts: Vec<String>,
    /// A file with the bytes of a message instead.
    #[arg(long, value_name = "FILE")]
    frame: Option<PathBuf>,
    /// The protocol of the bytes, where they do not tell.
    #[arg(long)]
    protocol: Option<String>,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Decode {
    /// The file; standard input where there is none, or for `-`.
    file: Option<PathBuf>,
    /// The protocol; detected where it is not given.
    #[arg(long)]
    protocol: Option<String>,
    /// Who wrote the bytes.
    #[arg(long, value_enum, default_value = "request")]
    side: WrittenBy,
    /// How to show them.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WrittenBy {
    /// The client.
    Request,
    /// The server.
    Reply,
}

impl From<WrittenBy> for Side {
    fn from(by: WrittenBy) -> Self {
        match by {
            WrittenBy::Request => Self::Request,
            WrittenBy::Reply => Self::Reply,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line a message.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs the command line over the protocols of `registry`; a program that adds its
/// own has only this to call.
pub fn main(registry: &Registry) -> ExitCode {
    let cli = Cli::parse();
    let log = start_log();
    let done = match cli.verb {
        Verb::Run { config, workers, pid_file } => {
            load(&config, registry).and_then(|mut snapshot| {
                if let Some(workers) = workers {
                    snapshot.workers = workers.max(1);
                }
                run::run(snapshot, &config.config, registry, log, pid_file)
                    .map_err(|error| error.to_string())
            })
        }
        Verb::Upgrade { pid, pid_file, patience } => {
            upgrade::upgrade(pid, pid_file, Duration::from_secs(patience))
        }
        Verb::Check { config, against } => check::check(&config, against, registry),
        Verb::Explain(options) => explain::explain(&options, registry),
        Verb::Decode(options) => decode::decode(&options, registry),
        Verb::Demo { listen, seconds, quiet, plain } => {
            let options = demo::Options { listen, seconds, quiet, plain };
            demo::demo(registry, &options, log).map_err(|error| error.to_string())
        }
        Verb::Schema => schema::schema(registry),
        Verb::Completions { shell } => completions::completions(shell),
        Verb::Man { dir } => man::man(dir.as_deref(), registry),
        Verb::Call(Call::Dubbo { address, interface, method, arguments, attach }) => {
            demo::call::dubbo(&address, &interface, &method, &arguments, &attach)
        }
        Verb::Call(Call::Bolt { address, service, method, content, header }) => {
            demo::call::bolt(&address, &service, &method, &content, &header)
        }
        Verb::Call(Call::Thrift { address, method, texts }) => {
            demo::call::thrift(&address, &method, &texts)
        }
    };
    done.unwrap_or_else(|problem| {
        let _ = writeln!(std::io::stderr(), "{problem}");
        ExitCode::FAILURE
    })
}

/// Prints all of it; a reader that has enough is no failure.
fn written(bytes: &[u8]) -> Result<ExitCode, String> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("error: cannot write: {error}"))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn start_log() -> LogLevel {
    let filter = tracing_subscriber::EnvFilter::try_from_env("POLYPORT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let first = filter.to_string();
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .with_filter_reloading();
    let handle = log.reload_handle();
    match log.try_init() {
        Ok(()) => LogLevel::new(first, move |filter| {
            handle.reload(filter).map_err(|error| error.to_string())
        }),
        // A program that has its own log keeps it.
        Err(_) => LogLevel::fixed(),
    }
}

/// Reads and compiles a config; warnings go to standard error.
fn load(file: &ConfigFile, registry: &Registry) -> Result<Snapshot, String> {
    let path = file.config.display().to_string();
    let text = std::fs::read_to_string(&file.config)
        .map_err(|error| format!("error: cannot read {path}: {error}"))?;
    match config::compile(&text, &path, registry) {
        Ok((snapshot, warnings)) => {
            show(&warnings);
            Ok(snapshot)
        }
        Err(errors) => {
            show(&errors);
            let count = errors.iter().filter(|e| e.severity == config::Severity::Error).count();
            let plural = if count == 1 { "" } else { "s" };
            Err(format!("{path}: {count} error{plural}"))
        }
    }
}

fn show(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        let _ = writeln!(std::io::stderr(), "{diagnostic}\n");
    }
}
