//! Every family of protocols at once on one port with one set of rules, in the clear and
//! under TLS, for `POLYPORT_SOAK_SECONDS` (20 where it is not set). How much each client
//! did is printed at the end.

use std::time::Duration;

use polyport_tests::direct;
use polyport_tests::everyone::{Clients, edge, plain, secure};

#[test]
fn everything_at_once_on_one_port() {
    if direct() {
        return;
    }
    let seconds = std::env::var("POLYPORT_SOAK_SECONDS").ok();
    let seconds: u64 = seconds.map_or(20, |text| text.parse().expect("a number of seconds"));
    let mut edge = edge("");
    let mut clients = Clients::until(Duration::from_secs(seconds));
    plain(&mut clients, edge.address, &seconds.to_string());
    secure(&mut clients, &edge, &seconds.to_string());
    let counts = clients.finish();
    edge.proxy.assert_alive();
    println!("{seconds} s; peak memory {} KiB", edge.proxy.peak_memory() >> 10);
    assert!(counts.values().all(|count| *count > 0), "somebody heard nothing: {counts:?}");
    // No more than a few connections' worth for each of the clients, however long it takes.
    let peak = edge.proxy.peak_memory();
    assert!(peak < 128 << 20, "{} KiB at the peak", peak >> 10);
}
