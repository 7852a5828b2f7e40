//! Calls from the command line, and the demo's own traffic.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use polyport_codecs::dubbo::call::{Call, decode_reply};
use polyport_codecs::thrift::call as thrift_call;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
    let attachments: Vec<(&str, &str)> = attach
        .iter()
        .map(|pair| pair.split_once('=').ok_or(format!("error: `{pair}` is not name=value")))
        .collect::<Result<_, _>>()?;
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
    let reply =
        exchange::<16>(address, &bytes).map_err(|error| format!("error: {address}: {error}"))?;
    let reply = decode_reply(&reply).ok_or("error: what came back is no reply")?;
    match reply.value {
        Ok(value) => {
            writeln!(io::stdout(), "{value}").map_err(|error| error.to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => Err(format!("error: status {}: {why}", reply.status)),
    }
}

/// `polyport call thrift`: framed, in the binary protocol.
pub(in crate::cli) fn thrift(
    address: &str,
    method: &str,
    texts: &[String],
) -> Result<ExitCode, String> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let bytes = thrift_bytes(method, &texts);
    let reply =
        exchange::<4>(address, &bytes).map_err(|error| format!("error: {address}: {error}"))?;
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

/// Sends one message and reads one, whose first `HEAD` bytes end in its length.
fn exchange<const HEAD: usize>(address: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let address = address.to_socket_addrs()?.next();
    let address = address.ok_or_else(|| io::Error::other("no such address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    let mut head = [0; HEAD];
    stream.read_exact(&mut head)?;
    let mut reply = head.to_vec();
    let len = head.last_chunk().map_or(0, |len| u64::from(u32::from_be_bytes(*len)));
    stream.take(len).read_to_end(&mut reply)?;
    Ok(reply)
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
    let find = thrift_bytes("Stock:find", &["anvil"]);
    let messages: [&[u8]; 4] = [
        b"*3\r\n$3\r\nSET\r\n$7\r\nvisitor\r\n$5\r\nalice\r\n*2\r\n$3\r\nGET\r\n$7\r\nvisitor\r\n",
        b"GET /shop HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n",
        &call,
        &find,
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
