//! What a running Polyport counts, as its admin listener tells it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{PATIENCE, Raw};

/// Figures by their names, without `polyport_`.
pub type Figures = HashMap<String, u64>;

/// All of them, now.
pub fn figures(admin: SocketAddr) -> Figures {
    let ask = "GET /stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let text = Raw::say(admin, ask).until_closed();
    let figure = |line: &str| {
        let (name, value) = line.strip_prefix("polyport_")?.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(figure).collect()
}

/// One of them, now.
pub fn figure(admin: SocketAddr, name: &str) -> u64 {
    let all = figures(admin);
    *all.get(name).unwrap_or_else(|| panic!("no {name} in {all:?}"))
}

/// Waits until they are as wanted.
pub fn until(admin: SocketAddr, what: &str, wanted: impl Fn(&Figures) -> bool) {
    let begun = Instant::now();
    loop {
        let now = figures(admin);
        if wanted(&now) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "never {what}: {now:?}");
        sleep(Duration::from_millis(20));
    }
}
