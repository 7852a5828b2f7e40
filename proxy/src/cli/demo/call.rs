//! Calls from the command line, and the demo's own traffic.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use polyport_codecs::dubbo::call::{Call, decode_reply};
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
    let reply = exchange(address, &bytes).map_err(|error| format!("error: {address}: {error}"))?;
    let reply = decode_reply(&reply).ok_or("error: what came back is no reply")?;
    match reply.value {
        Ok(value) => {
            writeln!(io::stdout(), "{value}").map_err(|error| error.to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => Err(format!("error: status {}: {why}", reply.status)),
    }
}

/// Sends one message and reads one.
fn exchange(address: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let address = address.to_socket_addrs()?.next();
    let address = address.ok_or_else(|| io::Error::other("no such address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let [.., b0, b1, b2, b3] = head;
    let mut reply = head.to_vec();
    let len = u64::from(u32::from_be_bytes([b0, b1, b2, b3]));
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
    let messages: [&[u8]; 3] = [
        b"*3\r\n$3\r\nSET\r\n$7\r\nvisitor\r\n$5\r\nalice\r\n*2\r\n$3\r\nGET\r\n$7\r\nvisitor\r\n",
        b"GET /shop HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n",
        &call,
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
