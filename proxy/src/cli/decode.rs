//! `polyport decode`: bytes in, messages and metadata out, with bounded memory.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use polyport_codecs::proxy_protocol::{self, Found};
use polyport_codecs::{
    Body, Detection, Head, Interest, Limits, Metadata, Probe, Protocol, Registry, Side, Step,
    detect,
};
use serde_json::{Map, Value, json};

use super::{Decode, Format};

/// Bytes read at a time.
const READ: usize = 64 << 10;

/// What is said of HTTP/2.
pub(super) const STREAMS: &str = "error: these are HTTP/2 frames, whose heads are compressed over a whole connection: they are not decoded here. The proxy reads them: see them routed by `polyport demo`";

pub(super) fn decode(options: &Decode, registry: &Registry) -> Result<ExitCode, String> {
    let mut input = open(options.file.as_deref())?;
    let mut buffer = Vec::new();
    let mut ended = false;
    let mut out = std::io::stdout().lock();
    let side = Side::from(options.side);
    let mut offset = 0u64;
    if side == Side::Request {
        offset = peel(options, &mut input, &mut buffer, &mut ended, &mut out)?;
    }
    let protocol = match &options.protocol {
        Some(name) => registry.get(name).ok_or_else(|| {
            let names: Vec<&str> = registry.protocols().iter().map(|p| p.name()).collect();
            format!("error: unknown protocol `{name}`; there are {}", names.join(", "))
        })?,
        None => detected(&mut input, &mut buffer, &mut ended, registry)?,
    };
    if side == Side::Request {
        not_streams(protocol, &mut input, &mut buffer, &mut ended)?;
    }
    let interest = everything(registry);
    let codec = protocol.compile(&Limits::default(), &interest);
    let mut decoder = codec.decoder(side);
    if side == Side::Reply && decoder.wants_requests() {
        // What was asked is not known: plain requests are assumed.
        (0..10_000).for_each(|_| decoder.expect(polyport_codecs::ReplyTo::default()));
    }
    let mut metadata = Metadata::new(&interest);
    let (mut count, mut need, mut skip) = (0u64, 1, 0u64);
    loop {
        let passed = skip.min(buffer.len() as u64) as usize;
        buffer.drain(..passed);
        (skip, offset) = (skip - passed as u64, offset + passed as u64);
        if buffer.len() < need && !ended {
            ended = fill(&mut input, &mut buffer)?;
            continue;
        }
        // A body may be over without a byte that says so.
        if buffer.len() < need && ended && !(buffer.is_empty() && need == 1) {
            break;
        }
        need = 1;
        match decoder.decode(&buffer, &mut metadata) {
            Ok(Step::Need(_)) if buffer.is_empty() && ended => break,
            Ok(Step::Need(more)) => need = more,
            Ok(Step::Head(head)) => {
                count += 1;
                loop {
                    let view = metadata.view(&buffer);
                    let text = match options.format {
                        Format::Text => text(count, &head, &mut view.iter(&interest)),
                        Format::Json => {
                            object(count, offset, protocol, &head, &mut view.iter(&interest))
                        }
                    };
                    writeln!(out, "{text}").map_err(|error| error.to_string())?;
                    // Each thing that one message is about is judged, and shown, by itself.
                    if !decoder.another(&buffer, &mut metadata) {
                        break;
                    }
                }
                buffer.drain(..head.len);
                offset += head.len as u64;
                if let Body::Length(len) = head.body {
                    skip = len;
                }
            }
            Ok(Step::Body(len) | Step::Framing(len)) => {
                buffer.drain(..len);
                offset += len as u64;
            }
            Ok(Step::End) => {}
            Err(error) => {
                let at = offset + error.offset as u64;
                return Err(format!("error: {error} (byte {at:#x} of the input)"));
            }
        }
    }
    match decoder.eof(&buffer) {
        Err(error) => Err(format!("error: {error} (the input ends at byte {offset:#x})")),
        Ok(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Takes a PROXY header away and shows it; how long it was.
fn peel(
    options: &Decode,
    input: &mut dyn Read,
    buffer: &mut Vec<u8>,
    ended: &mut bool,
    out: &mut dyn Write,
) -> Result<u64, String> {
    loop {
        match proxy_protocol::read(buffer) {
            Found::Need(_) if !*ended => *ended = fill(input, buffer)?,
            Found::Header(header) => {
                let source = header.source.map(|source| source.to_string());
                let destination = header.destination.map(|to| to.to_string());
                let text = match options.format {
                    Format::Json => json!({
                        "proxy-protocol": true,
                        "source": source,
                        "destination": destination,
                    })
                    .to_string(),
                    Format::Text => format!(
                        "PROXY header source={} destination={}",
                        source.as_deref().unwrap_or("unknown"),
                        destination.as_deref().unwrap_or("unknown")
                    ),
                };
                writeln!(out, "{text}").map_err(|error| error.to_string())?;
                buffer.drain(..header.len);
                return Ok(header.len as u64);
            }
            Found::Malformed(why) => return Err(format!("error: a PROXY header: {why}")),
            Found::Need(_) | Found::Absent => return Ok(0),
        }
    }
}

/// Refuses what carries many streams.
fn not_streams(
    protocol: &'static dyn Protocol,
    input: &mut dyn Read,
    buffer: &mut Vec<u8>,
    ended: &mut bool,
) -> Result<(), String> {
    loop {
        match protocol.streams(buffer) {
            Probe::Yes { .. } => return Err(STREAMS.to_owned()),
            Probe::Maybe { .. } if !*ended => *ended = fill(input, buffer)?,
            _ => return Ok(()),
        }
    }
}

/// Every key that any protocol can fill.
pub(super) fn everything(registry: &Registry) -> Interest {
    let fixed = registry.keys().into_iter().filter(|key| !key.family).map(|key| key.name);
    Interest::everything(fixed)
}

fn open(file: Option<&Path>) -> Result<Box<dyn Read>, String> {
    match file {
        Some(path) if path.as_os_str() != "-" => match File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(format!("error: cannot read {}: {error}", path.display())),
        },
        _ => Ok(Box::new(std::io::stdin())),
    }
}

/// Reads more; whether that was the end.
fn fill(input: &mut dyn Read, buffer: &mut Vec<u8>) -> Result<bool, String> {
    let had = buffer.len();
    buffer.resize(had + READ, 0);
    let count = input.read(buffer.get_mut(had..).unwrap_or_default());
    let count = count.map_err(|error| format!("error: cannot read: {error}"))?;
    buffer.truncate(had + count);
    Ok(count == 0)
}

fn detected(
    input: &mut dyn Read,
    buffer: &mut Vec<u8>,
    ended: &mut bool,
    registry: &Registry,
) -> Result<&'static dyn Protocol, String> {
    loop {
        match detect(registry.protocols(), buffer) {
            Detection::Matched(protocol) => return Ok(protocol),
            Detection::Need(_) if !*ended => *ended = fill(input, buffer)?,
            Detection::Need(_) | Detection::Unmatched => {
                let first = buffer.get(..buffer.len().min(16)).unwrap_or_default();
                return Err(format!(
                    "error: no protocol begins with \"{}\"; name one with --protocol",
                    first.escape_ascii()
                ));
            }
        }
    }
}

type Pairs<'p, 'a> = &'p mut dyn Iterator<Item = (&'a str, &'a [u8])>;

fn text(count: u64, head: &Head, pairs: Pairs<'_, '_>) -> String {
    let mut line = format!("#{count} {}", head.kind.as_str());
    for (key, value) in pairs.filter(|(key, _)| *key != "kind") {
        let plain = value.iter().all(u8::is_ascii_graphic) && !value.is_empty();
        let value = value.escape_ascii();
        line += &if plain { format!(" {key}={value}") } else { format!(" {key}=\"{value}\"") };
    }
    if head.body != Body::None {
        line += " +body";
    }
    line
}

fn object(
    count: u64,
    offset: u64,
    protocol: &'static dyn Protocol,
    head: &Head,
    pairs: Pairs<'_, '_>,
) -> String {
    let metadata: Map<String, Value> = pairs
        .map(|(key, value)| {
            let text = match std::str::from_utf8(value) {
                Ok(text) => text.to_owned(),
                Err(_) => value.escape_ascii().to_string(),
            };
            (key.to_owned(), Value::String(text))
        })
        .collect();
    let body = match head.body {
        Body::None => json!(0),
        Body::Length(len) => json!(len),
        Body::Steps => json!("framed"),
    };
    json!({
        "message": count,
        "offset": offset,
        "protocol": protocol.name(),
        "kind": head.kind.as_str(),
        "head": head.len,
        "body": body,
        "outcome": head.outcome.as_str(),
        "metadata": metadata,
    })
    .to_string()
}
