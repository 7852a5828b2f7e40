//! The name that a TLS client asks for, out of its first bytes.
//!
//! Run it: `cargo run -p polyport-codecs --example tls_frames`, or with the bytes of
//! a client's hello on standard input.

use std::io::{IsTerminal, Read};

use polyport_codecs::tls::{Hello, LONGEST, client_hello};

/// A hello of TLS 1.2 for `shop.example`, in one record.
fn sample() -> Vec<u8> {
    let name = b"shop.example";
    let mut extension = vec![0, 0, 0, 17, 0, 15, 0, 0, 12];
    extension.extend_from_slice(name);
    let mut hello = vec![3, 3];
    hello.extend_from_slice(&[0; 32]);
    hello.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0, 0, extension.len() as u8]);
    hello.extend_from_slice(&extension);
    let mut out = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    out.extend_from_slice(&hello);
    out
}

fn main() -> std::io::Result<()> {
    let mut bytes = Vec::new();
    if !std::io::stdin().is_terminal() {
        std::io::stdin().take(LONGEST as u64).read_to_end(&mut bytes)?;
    }
    if bytes.is_empty() {
        bytes = sample();
    }
    match client_hello(&bytes) {
        Hello::Found(hello) => {
            println!("a hello of {} bytes", hello.len);
            println!("  tls.sni = {}", hello.sni.as_deref().unwrap_or("none"));
            for name in &hello.alpn {
                println!("  offers {}", name.escape_ascii());
            }
        }
        Hello::Need(need) => println!("cut short: needs {need} bytes"),
        Hello::NotTls => println!("not TLS"),
        Hello::Malformed(why) => println!("broken: {why}"),
    }
    Ok(())
}
