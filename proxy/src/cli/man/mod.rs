//! `polyport man`: a page for each verb, from the same words as `--help`, and
//! polyport.toml(5), from the description of the config.

mod config;
mod roff;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use polyport_codecs::Registry;

use super::{Cli, written};

const MANUAL: &str = "Polyport's manual";

/// What a page says beside the verb's help: its name, a heading, the text in roff.
const MORE: &[(&str, &str, &str)] = &[
    (
        "polyport",
        "DESCRIPTION",
        ".PP\nIt detects what each connection speaks, routes each message by its metadata (a Redis key, a \
         Dubbo attachment, an HTTP header), and carries it over pooled upstream connections.\n\
         .PP\nBegin with \\fBpolyport demo\\fR, write a \\fBpolyport.toml\\fR(5), let \\fBpolyport check\\fR \
         read it, and start it with \\fBpolyport run\\fR.\n",
    ),
    (
        "polyport-run",
        "SIGNALS",
        ".TP\n.B SIGTERM\\fR, \\fBSIGINT\nFinishes what is in flight, for no longer than \\fBdrain\\-timeout\\fR, then exits 0.\n\
         .TP\n.B SIGHUP\nReads the config again. One with a mistake changes nothing; the log says what is wrong.\n\
         .TP\n.B SIGUSR1\nOpens the access logs' files again, after they were moved away.\n\
         .TP\n.B SIGUSR2\nStarts the binary anew, hands it the listeners, and drains.\n",
    ),
    (
        "polyport-run",
        "ENVIRONMENT",
        ".TP\n.B POLYPORT_LOG\nWhat is logged: \\fBerror\\fR, \\fBwarn\\fR, \\fBinfo\\fR (where nothing is said), \
         \\fBdebug\\fR or \\fBtrace\\fR, also by target: \\fBinfo,polyport::audit=off\\fR.\n",
    ),
    (
        "polyport-run",
        "FILES",
        ".TP\n.I polyport.toml\nThe config where \\fB\\-c\\fR names no other.\n\
         .TP\n.I /etc/polyport/polyport.toml\nThe config of the packaged service.\n",
    ),
];

/// Writes every page below `folder`, or the first one to standard output.
pub(super) fn man(folder: Option<&Path>, registry: &Registry) -> Result<ExitCode, String> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    let list = |error: io::Error| format!("error: {error}");
    collect(&command, &mut pages).map_err(list)?;
    let Some(folder) = folder else {
        let first = pages.first().map(|(_, text)| text.as_slice());
        return written(first.unwrap_or_default());
    };
    pages.push(("polyport.toml.5".into(), config::page(registry).into_bytes()));
    for (name, text) in &pages {
        // As man wants it: man1/polyport.1.
        let section = name.rsplit('.').next().unwrap_or_default();
        let folder = folder.join(format!("man{section}"));
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("error: cannot make {}: {error}", folder.display()))?;
        let file = folder.join(name);
        std::fs::write(&file, text)
            .map_err(|error| format!("error: cannot write {}: {error}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A command's page, then those of the commands below it.
fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let man = Man::new(command.clone()).manual(MANUAL).source(source());
    pages.push((man.get_filename(), page(command, &man)?));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        collect(below, pages)?;
    }
    Ok(())
}

fn source() -> String {
    format!("polyport {}", env!("CARGO_PKG_VERSION"))
}

fn page(command: &Command, man: &Man) -> io::Result<Vec<u8>> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut out = Vec::new();
    out.extend(roff::title(name, 1).into_bytes());
    out.extend(format!(".SH NAME\n{} \\- {}\n", roff::text(name), about(command)).into_bytes());
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    more(name, "DESCRIPTION", &mut out);
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut out)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    for block in command.get_after_help().map(ToString::to_string).unwrap_or_default().split("\n\n")
    {
        let (heading, text) = match block.split_once(':') {
            Some(("Example" | "Examples", lines)) => ("EXAMPLES", roff::listing(lines)),
            Some(("Exit status", text)) => ("EXIT STATUS", roff::text(text.trim()) + "\n"),
            _ if block.trim().is_empty() => continue,
            _ => ("NOTES", roff::text(block.trim()) + "\n"),
        };
        out.extend(format!(".SH {heading}\n{text}").into_bytes());
    }
    for heading in ["SIGNALS", "ENVIRONMENT", "FILES"] {
        more(name, heading, &mut out);
    }
    let mut others = vec![".BR polyport.toml (5)".to_owned()];
    if name != "polyport" {
        others.insert(0, ".BR polyport (1),".to_owned());
    }
    out.extend(format!(".SH SEE ALSO\n{}\n", others.join("\n")).into_bytes());
    Ok(roff::tidy(&String::from_utf8_lossy(&out)).into_bytes())
}

/// One line that says what it is; the first sentence, without its stop.
fn about(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    roff::text(about.replace('\n', " ").trim_end_matches('.'))
}

fn more(name: &str, heading: &str, out: &mut Vec<u8>) {
    for (_, heading, text) in MORE.iter().filter(|(of, under, _)| *of == name && *under == heading)
    {
        if *heading != "DESCRIPTION" {
            out.extend(format!(".SH {heading}\n").into_bytes());
        }
        out.extend(text.as_bytes());
    }
}
