//! A hop between client and server that passes the client's bytes on one by one.

use std::io::{Read, Write, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{sleep, spawn};
use std::time::Duration;

use crate::ports;

/// So many bytes go alone; what follows goes as it comes.
const ALONE: usize = 3000;

/// Long enough that the server reads each byte by itself.
const PAUSE: Duration = Duration::from_micros(300);

/// A relay to `server`, up for as long as the test process; its address.
pub fn bytewise(server: SocketAddr) -> SocketAddr {
    let address = ports::free();
    let listener = TcpListener::bind(address).expect("a free port");
    spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(server) else { continue };
            let (mut from, mut to) = (both(&server), both(&client));
            spawn(move || {
                let _ = copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            spawn(move || drip(client, server));
        }
    });
    address
}

fn both(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a second handle")
}

fn drip(mut client: TcpStream, mut server: TcpStream) {
    let _ = server.set_nodelay(true);
    let (mut chunk, mut alone) = ([0; 16 << 10], 0);
    while let Ok(len @ 1..) = client.read(&mut chunk) {
        let (first, rest) = chunk[..len].split_at(len.min(ALONE - alone));
        alone += first.len();
        for byte in first {
            if server.write_all(&[*byte]).is_err() {
                return;
            }
            sleep(PAUSE);
        }
        if server.write_all(rest).is_err() {
            return;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
}
