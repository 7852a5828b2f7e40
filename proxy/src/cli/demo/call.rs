//! Calls from the command line, and the demo's own traffic.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use polyport_codecs::bolt::call as bolt_call;
use polyport_codecs::dubbo::call::{Call, decode_reply};
use polyport_codecs::thrift::call as thrift_call;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// More bytes than it takes to see a message's length.
const LONGEST_FRONT: usize = 64;

/// How long a call waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// `polyport call dubbo`.
pub(in crate::cli) fn dubbo(
    address: &str,
    interface: &str,
    method: &str,
    arguments: &[String],
    attach: &[String],
) -> Result<ExitCode, String> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let attachments = pairs(attach)?;
    let call = Call {
        id: 1,
        interface,
        method,
        arguments: &arguments,
        attachments: &attachments,
        ..Call::default()
    };
    let mut bytes = Vec::new();
    call.encode(&mut bytes);
    let reply = exchange(address, &bytes, dubbo_size)
        .map_err(|error| format!("error: {address}: {error}"))?;
    let reply = decode_reply(&reply).ok_or("error: what came back is no reply")?;
    match reply.value {
        Ok(value) => {
            writeln!(io::stdout(), "{value}").map_err(|error| error.to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => Err(format!("error: status {}: {why}", reply.status)),
    }
}

/// `polyport call bolt`.
pub(in crate::cli) fn bolt(
    address: &str,
    service: &str,
    method: &str,
    content: &str,
    headers: &[String],
) -> Result<ExitCode, String> {
    let mut all = vec![
        ("service", service),
        ("sofa_head_target_service", service),
        ("sofa_head_method_name", method),
    ];
    all.extend(pairs(headers)?);
    let content = content.as_bytes();
    let call = bolt_call::Call { id: 1, headers: &all, content, ..bolt_call::Call::default() };
    let mut bytes = Vec::new();
    call.encode(&mut bytes).map_err(|error| format!("error: {error}"))?;
    let reply = exchange(address, &bytes, bolt_call::size)
        .map_err(|error| format!("error: {address}: {error}"))?;
    let reply = bolt_call::decode_reply(&reply).ok_or("error: what came back is no reply")?;
    let text = String::from_utf8_lossy(&reply.content);
    if reply.status != 0 {
        let meaning = bolt_call::meaning(reply.status);
        return Err(format!("error: status {} ({meaning}) {text}", reply.status));
    }
    writeln!(io::stdout(), "{text}").map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// `polyport call thrift`: framed, in the binary protocol.
pub(in crate::cli) fn thrift(
    address: &str,
    method: &str,
    texts: &[String],
) -> Result<ExitCode, String> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let bytes = thrift_bytes(method, &texts);
    let reply = exchange(address, &bytes, thrift_size)
        .map_err(|error| format!("error: {address}: {error}"))?;
    let reply = thrift_call::read(&reply).ok_or("error: what came back is no reply")?;
    let mut fields = thrift_call::fields(reply.encoding, &reply.body).into_iter();
    let first = fields.next();
    let text = match (reply.kind, first) {
        (2, Some((0, value))) => thrift_text(&value),
        // A method that returns nothing.
        (2, None) => String::new(),
        (2, Some((id, _))) => return Err(format!("error: the exception declared as field {id}")),
        (3, why) => {
            let why = why.map(|(_, why)| thrift_text(&why)).unwrap_or_default();
            let code = fields.next().map(|(_, code)| thrift_text(&code)).unwrap_or_default();
            return Err(format!("error: exception of type {code}: {why}"));
        }
        _ => return Err("error: what came back is no reply".into()),
    };
    writeln!(io::stdout(), "{text}").map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// `name=value` arguments, taken apart.
fn pairs(arguments: &[String]) -> Result<Vec<(&str, &str)>, String> {
    arguments
        .iter()
        .map(|pair| pair.split_once('=').ok_or(format!("error: `{pair}` is not name=value")))
        .collect()
}

/// Bytes of the Dubbo message that begins so.
fn dubbo_size(front: &[u8]) -> Option<u64> {
    let [.., b0, b1, b2, b3] = front.first_chunk::<16>()?;
    Some(16 + u64::from(u32::from_be_bytes([*b0, *b1, *b2, *b3])))
}

/// Bytes of the framed Thrift message that begins so.
fn thrift_size(front: &[u8]) -> Option<u64> {
    Some(4 + u64::from(u32::from_be_bytes(*front.first_chunk()?)))
}

fn thrift_bytes(method: &str, texts: &[&str]) -> Vec<u8> {
    use thrift_call::{Encoding, Message, Transport, text_arguments};
    let (mut body, mut bytes) = (Vec::new(), Vec::new());
    text_arguments(Encoding::Binary, texts, &mut body);
    let call = Message {
        transport: Transport::Framed,
        encoding: Encoding::Binary,
        kind: 1,
        name: method.as_bytes(),
        seqid: 1,
        headers: &[],
        body: &body,
    };
    call.encode(&mut bytes);
    bytes
}

fn thrift_text(value: &thrift_call::Value) -> String {
    use thrift_call::Value;
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Nested => "(a value with values in it)".into(),
    }
}

/// Sends one message and reads one, whose length `size` tells from its front.
fn exchange(
    address: &str,
    bytes: &[u8],
    size: impl Fn(&[u8]) -> Option<u64>,
) -> io::Result<Vec<u8>> {
    let address = address.to_socket_addrs()?.next();
    let address = address.ok_or_else(|| io::Error::other("no such address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    let mut reply = Vec::new();
    // Fronts are short: byte by byte is soon enough.
    while reply.len() < LONGEST_FRONT {
        if let Some(size) = size(&reply) {
            let rest = size.saturating_sub(reply.len() as u64);
            stream.take(rest).read_to_end(&mut reply)?;
            return Ok(reply);
        }
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        reply.extend_from_slice(&byte);
    }
    Err(io::Error::other("what came back is no reply"))
}

/// A little of everything, so that there is something to see.
pub(super) async fn round(address: SocketAddr) {
    let mut call = Vec::new();
    let tenants: &[(&str, &str)] = &[("tenant", "acme")];
    for attachments in [&[], tenants] {
        let interface = "com.shop.Orders";
        Call {
            id: 1,
            interface,
            method: "find",
            arguments: &["42"],
            attachments,
            ..Call::default()
        }
        .encode(&mut call);
    }
    let mut stock = Vec::new();
    for tenant in ["acme", "robots"] {
        let service = ("service", "com.shop.Stock:1.0");
        let headers = &[service, ("sofa_head_method_name", "count"), ("tenant", tenant)];
        let call = bolt_call::Call { id: 1, headers, content: b"42", ..bolt_call::Call::default() };
        // Short names fit.
        let _ = call.encode(&mut stock);
    }
    let find = thrift_bytes("Goods:find", &["anvil"]);
    // CONNECT of "meter", PUBLISH of "on" to pumps/7/state, DISCONNECT.
    let publish = b"\x10\x11\0\x04MQTT\x04\x02\0\x3c\0\x05meter\x30\x11\0\x0dpumps/7/stateon\xe0\0";
    let messages: [&[u8]; 6] = [
        b"*3\r\n$3\r\nSET\r\n$7\r\nvisitor\r\n$5\r\nalice\r\n*2\r\n$3\r\nGET\r\n$7\r\nvisitor\r\n",
        b"GET /shop HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n",
        &call,
        &stock,
        &find,
        publish,
    ];
    for message in messages {
        // The demo's own traffic is decoration: where it fails, the rest goes on.
        let _ = tokio::time::timeout(Duration::from_secs(1), send(address, message)).await;
    }
}

async fn send(address: SocketAddr, message: &[u8]) -> io::Result<()> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(message).await?;
    stream.shutdown().await?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    Ok(())
}
