//! `polyport decode`: bytes in, messages and metadata out, with bounded memory.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use polyport_codecs::{
    Body, Detection, Head, Interest, Limits, Metadata, Protocol, Registry, Side, Step, detect,
};
use serde_json::{Map, Value, json};

use super::{Decode, Format};

/// Bytes read at a time.
const READ: usize = 64 << 10;

pub(super) fn decode(options: &Decode, registry: &Registry) -> Result<ExitCode, String> {
    let mut input = open(options.file.as_deref())?;
    let mut buffer = Vec::new();
    let mut ended = false;
    let protocol = match &options.protocol {
        Some(name) => registry.get(name).ok_or_else(|| {
            let names: Vec<&str> = registry.protocols().iter().map(|p| p.name()).collect();
            format!("error: unknown protocol `{name}`; there are {}", names.join(", "))
        })?,
        None => detected(&mut input, &mut buffer, &mut ended, registry)?,
    };
    let interest = everything(registry);
    let codec = protocol.compile(&Limits::default(), &interest);
    let side = Side::from(options.side);
    let mut decoder = codec.decoder(side);
    if side == Side::Reply && decoder.wants_requests() {
        // What was asked is not known: plain requests are assumed.
        (0..10_000).for_each(|_| decoder.expect(polyport_codecs::ReplyTo::default()));
    }
    let mut metadata = Metadata::new(&interest);
    let (mut count, mut offset, mut need, mut skip) = (0u64, 0u64, 1, 0u64);
    let mut out = std::io::stdout().lock();
    loop {
        let passed = skip.min(buffer.len() as u64) as usize;
        buffer.drain(..passed);
        (skip, offset) = (skip - passed as u64, offset + passed as u64);
        if buffer.len() < need && !ended {
            ended = fill(&mut input, &mut buffer)?;
            continue;
        }
        if buffer.is_empty() || (buffer.len() < need && ended) {
            break;
        }
        need = 1;
        match decoder.decode(&buffer, &mut metadata) {
            Ok(Step::Need(more)) => need = more,
            Ok(Step::Head(head)) => {
                count += 1;
                let view = metadata.view(&buffer);
                let text = match options.format {
                    Format::Text => text(count, &head, &mut view.iter(&interest)),
                    Format::Json => {
                        object(count, offset, protocol, &head, &mut view.iter(&interest))
                    }
                };
                writeln!(out, "{text}").map_err(|error| error.to_string())?;
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
