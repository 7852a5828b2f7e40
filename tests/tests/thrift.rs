//! Thrift through the proxy: Apache's library on both ends, in every transport and protocol.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use polyport_codecs::thrift::call::{Encoding, Message, Read, Transport, read, text_field};
use polyport_tests::load::Tally;
use polyport_tests::process::finish;
use polyport_tests::proxy::binary;
use polyport_tests::thrift::{WIRES, thrift, thrift_start};
use polyport_tests::{Config, Proxy, Raw, ThriftServer, direct};

/// The forms whose servers can answer out of turn: an unframed connection is read
/// call by call.
const FRAMES: [&str; 4] = ["framed/binary", "framed/compact", "header/binary", "header/compact"];

/// The forms of old; a listener names them.
const OLD: [&str; 2] = ["framed/binary-old", "buffered/binary-old"];

/// A config that sends every form to its own server; `more` are lines of each cluster.
fn by_form(mut config: Config, server: &ThriftServer, more: &str) -> Config {
    for &(wire, address) in &server.wires {
        let (transport, encoding) = wire.split_once('/').expect("a transport and a protocol");
        let transport = if transport == "buffered" { "unframed" } else { transport };
        let matches = format!(
            "protocol = \"thrift\", transport = \"{transport}\", encoding = \"{encoding}\""
        );
        config = config
            .cluster(wire, address, more)
            .route(wire, &matches, wire, "")
            .direct(wire, address);
    }
    config
}

/// The same forms, at the proxy.
fn through(proxy: &Proxy, server: &ThriftServer) -> Vec<(&'static str, SocketAddr)> {
    server.wires.iter().map(|&(wire, _)| (wire, proxy.address(wire))).collect()
}

/// Tells a story in these forms to servers of this mode, each with one connection
/// that all callers share.
fn tell(mode: &'static str, wires: &[&'static str], story: &str, arguments: &[&str]) {
    let server = ThriftServer::start(mode, wires);
    let mut proxy = by_form(Config::new(), &server, "").start();
    thrift(story, &through(&proxy, &server), arguments);
    proxy.assert_alive();
}

#[test]
fn every_type_arrives_both_ways() {
    tell("threaded", &WIRES, "every_type", &[]);
}

#[test]
fn messages_of_all_sizes_pass() {
    tell("threaded", &WIRES, "sizes", &[]);
}

#[test]
fn exceptions_arrive_as_the_server_threw_them() {
    tell("threaded", &WIRES, "exceptions", &[]);
}

#[test]
fn one_way_calls_all_arrive_and_earn_nothing() {
    tell("threaded", &WIRES, "oneway", &[]);
}

#[test]
fn headers_arrive_both_ways() {
    tell("threaded", &["header/binary", "header/compact"], "headers", &[]);
}

#[test]
fn many_clients_share_few_connections() {
    let most = if direct() { "32" } else { "4" };
    tell("threaded", &WIRES, "concurrent", &["32", "5", most]);
}

#[test]
fn answers_out_of_turn_are_never_mixed_up() {
    let most = if direct() { "64" } else { "4" };
    tell("async", &FRAMES, "concurrent", &["64", "20", most]);
}

#[test]
fn several_calls_in_flight_have_their_own_answers() {
    tell("threaded", &WIRES, "in_flight", &["1"]);
    tell("async", &FRAMES, "in_flight", &["5"]);
}

#[test]
fn large_and_small_answers_in_flight_are_never_mixed_up() {
    tell("threaded", &WIRES, "in_flight_of_all_sizes", &[]);
    tell("async", &FRAMES, "in_flight_of_all_sizes", &[]);
}

#[test]
fn frames_pass_up_to_the_limit_and_no_further() {
    if !direct() {
        tell("threaded", &WIRES, "up_to_the_limit", &[]);
    }
}

#[test]
fn a_client_whose_calls_have_one_id_is_answered_in_order() {
    tell("threaded", &WIRES, "all_zero", &[]);
    if !direct() {
        // The server would not keep the order by itself.
        tell("async", &FRAMES, "all_zero", &[]);
    }
}

#[test]
fn the_old_binary_protocol_passes_where_it_is_allowed() {
    let wires = [&OLD[..], &WIRES[..]].concat();
    let server = ThriftServer::start("threaded", &wires);
    let config = Config::new()
        .listener("protocols = [\"thrift\"]")
        .section("[limits]\nthrift-old-binary = true\n");
    let mut proxy = by_form(config, &server, "").start();
    let wires = through(&proxy, &server);
    for story in ["every_type", "exceptions", "oneway"] {
        thrift(story, &wires, &[]);
    }
    let most = if direct() { "16" } else { "4" };
    for story in ["sizes", "all_zero"] {
        thrift(story, &wires[..OLD.len()], &[]);
    }
    thrift("concurrent", &wires[..OLD.len()], &["16", "5", most]);
    thrift("in_flight", &wires[..OLD.len()], &["1"]);
    proxy.assert_alive();
}

#[test]
fn one_server_of_all_forms_takes_them_on_one_connection() {
    let server = ThriftServer::start("threaded", &["any"]);
    let proxy = Config::new().all("thrift", server.address()).start();
    let address = proxy.address("thrift");
    // Of each form two at once, so that they take turns.
    for story in ["every_type", "exceptions", "oneway"] {
        let telling: Vec<_> = (0..2)
            .flat_map(|_| WIRES.map(|wire| thrift_start(story, &[(wire, address)], &[])))
            .collect();
        telling.into_iter().for_each(|one| {
            one.succeed();
        });
    }
}

#[test]
fn services_and_methods_are_routed_to_their_servers() {
    let (main, stock) =
        (ThriftServer::start("threaded", &["any"]), ThriftServer::start("threaded", &["any"]));
    if direct() {
        for wire in WIRES {
            let port = main.port();
            thrift("multiplexed", &[(wire, main.address())], &[&port, &port]);
        }
        return;
    }
    let proxy = Config::new()
        .cluster("main", main.address(), "")
        .cluster("stock", stock.address(), "")
        .route("stock", "protocol = \"thrift\", service = \"Stock\"", "stock", "")
        .route("main", "protocol = \"thrift\", service = \"Stories\"", "main", "")
        // Callers that name no service.
        .route("where", "protocol = \"thrift\", method = \"where\"", "stock", "")
        .route("rest", "protocol = \"thrift\"", "main", "")
        .start();
    let address = proxy.address("thrift");
    for wire in WIRES {
        thrift("multiplexed", &[(wire, address)], &[&main.port(), &stock.port()]);
        thrift("where", &[(wire, address)], &[&format!("method={}", stock.port())]);
        thrift("every_type", &[(wire, address)], &[]);
    }
}

#[test]
fn headers_choose_the_server() {
    let wires = ["header/binary", "header/compact"];
    if direct() {
        let server = ThriftServer::start("threaded", &wires);
        for (wire, address) in &server.wires {
            let ask = format!("header:tenant:acme={}", address.port());
            thrift("where", &[(wire, *address)], &[&ask]);
        }
        return;
    }
    let (main, canary) =
        (ThriftServer::start("threaded", &["any"]), ThriftServer::start("threaded", &["any"]));
    let proxy = Config::new()
        .cluster("main", main.address(), "")
        .cluster("canary", canary.address(), "")
        .route("canary", "protocol = \"thrift\", \"header.tenant\" = \"acme\"", "canary", "")
        .route("rest", "protocol = \"thrift\"", "main", "")
        .start();
    let (main, canary) = (main.port(), canary.port());
    let asks = [
        format!("header:tenant:acme={canary}"),
        format!("none={main}"),
        format!("header:Tenant:acme={canary}"),
        format!("header:tenant:other={main}"),
        format!("header:other:acme={main}"),
    ];
    let asks: Vec<&str> = asks.iter().map(String::as_str).collect();
    thrift("where", &wires.map(|wire| (wire, proxy.address("thrift"))), &asks);
}

#[test]
fn servers_that_repeat_no_id_are_asked_one_thing_at_a_time() {
    for mode in ["zero", "wrong"] {
        // THeader repeats it in two places, and Apache's client believes the outer one.
        let server = ThriftServer::start(mode, &WIRES);
        let mut proxy = by_form(Config::new(), &server, "exchange = \"ordered\"").start();
        let wires = through(&proxy, &server);
        thrift("every_type", &wires, &[]);
        thrift("exceptions", &wires, &[]);
        thrift("oneway", &wires, &["20"]);
        thrift("concurrent", &wires, &["16", "5"]);
        if !direct() {
            // Every answer has the caller's own id again.
            thrift("in_flight", &wires, &["1"]);
            thrift("all_zero", &wires, &[]);
        }
        proxy.assert_alive();
    }
}

/// A proxy whose calls of `Stock` come to nothing, for the reason in `route` and `cluster`.
fn refusing(server: &ThriftServer, config: Config, code: &str, words: &[&str]) {
    let proxy = config
        .cluster("main", server.address(), "")
        .route("main", "protocol = \"thrift\", service = \"Stories\"", "main", "")
        .start();
    let wires = WIRES.map(|wire| (wire, proxy.address("thrift")));
    thrift("refused", &wires, &[&[code], words].concat());
}

const STOCK: &str = "protocol = \"thrift\", service = \"Stock\"";

#[test]
fn no_route_is_an_unknown_method_and_the_connection_goes_on() {
    if direct() {
        return;
    }
    let server = ThriftServer::start("threaded", &["any"]);
    refusing(&server, Config::new(), "1", &["route"]);
}

#[test]
fn what_cannot_be_served_is_an_internal_error_and_the_connection_goes_on() {
    if direct() {
        return;
    }
    let server = ThriftServer::start("threaded", &["any"]);
    let gone = || Config::new().cluster("gone", polyport_tests::ports::free(), "");
    refusing(&server, gone().route("gone", STOCK, "gone", ""), "6", &[]);
    let denied = format!("\n[[route]]\nname = \"no\"\nmatch = {{ {STOCK} }}\ndeny = true\n");
    refusing(&server, Config::new().section(&denied), "6", &["denied"]);
}

#[test]
fn late_is_an_internal_error_and_later_is_nothing() {
    if direct() {
        return;
    }
    let server = ThriftServer::start("threaded", &WIRES);
    let config = Config::new().section("[defaults]\ntimeout = \"500ms\"\n");
    let mut proxy = by_form(config, &server, "").start();
    thrift("late", &through(&proxy, &server), &[]);
    proxy.assert_alive();
    // A server that does not repeat ids is told apart by its connection.
    let config = Config::new().section("[defaults]\ntimeout = \"500ms\"\n");
    let proxy = by_form(config, &server, "exchange = \"ordered\"").start();
    thrift("late", &through(&proxy, &server), &[]);
}

#[test]
fn every_call_ends_once_when_a_server_dies_under_load() {
    for wires in [&FRAMES[..], &WIRES[2..4]] {
        let mode = if wires.len() == FRAMES.len() { "async" } else { "threaded" };
        let mut server = ThriftServer::start(mode, wires);
        let mut proxy = by_form(Config::busy().counted(), &server, "").start();
        let loads: Vec<_> = through(&proxy, &server)
            .into_iter()
            .map(|wire| thrift_start("load", &[wire], &["4", "4", "8"]))
            .collect();
        proxy.until_answered(200);
        server.kill();
        sleep(Duration::from_millis(500));
        server.restart();
        for load in loads {
            let tally = Tally::read(&load.succeed());
            tally.assert_complete();
            assert!(tally.answered > 0, "{tally:?}");
            assert!(tally.failed + tally.lost > 0, "the death went unnoticed: {tally:?}");
        }
        proxy.assert_alive();
    }
}

#[test]
fn every_call_of_a_dead_server_ends() {
    let mut server = ThriftServer::start("threaded", &WIRES);
    let proxy = by_form(Config::new().counted(), &server, "").start();
    let waiting: Vec<_> = through(&proxy, &server)
        .into_iter()
        .map(|wire| thrift_start("slow", &[wire], &["60000"]))
        .collect();
    proxy.until_asked(waiting.len() as u64);
    server.kill();
    for call in waiting {
        let (status, _, complaint) = call.finish();
        assert!(!status.success() && !complaint.contains("timed out"), "{status}: {complaint}");
    }
}

#[test]
fn a_server_that_comes_back_is_found() {
    let mut server = ThriftServer::start("threaded", &WIRES);
    let proxy = by_form(Config::new(), &server, "").start();
    let wires = through(&proxy, &server);
    thrift("every_type", &wires, &[]);
    server.restart();
    thrift("every_type", &wires, &[]);
}

#[test]
fn a_transform_is_refused_with_an_exception() {
    let carried = if direct() { "yes" } else { "no" };
    tell("threaded", &["header/binary", "header/compact"], "zipped", &[carried]);
}

#[test]
fn sigterm_finishes_what_is_in_flight() {
    let server = ThriftServer::start("threaded", &WIRES);
    let mut proxy = by_form(Config::busy().counted(), &server, "").start();
    let mut calls: Vec<_> = through(&proxy, &server)
        .into_iter()
        .map(|wire| thrift_start("slow", &[wire], &["5000"]))
        .collect();
    calls.iter_mut().for_each(|call| call.wait_for("asking"));
    proxy.until_asked(calls.len() as u64);
    proxy.terminate();
    for call in calls {
        assert_eq!(call.succeed(), "asking\nfinished\n");
    }
    if let Some(status) = proxy.wait() {
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

fn call(transport: Transport, encoding: Encoding, name: &str, seqid: u32) -> Vec<u8> {
    let (mut body, mut out) = (Vec::new(), Vec::new());
    text_field(encoding, 1, b"text", &mut body);
    let name = name.as_bytes();
    Message { transport, encoding, kind: 1, name, seqid, headers: &[], body: &body }
        .encode(&mut out);
    out
}

/// Bytes that begin as Thrift and go wrong, and the kind of exception due.
fn broken() -> Vec<(&'static str, Vec<u8>, Option<u8>)> {
    use Encoding::{Binary, Compact};
    use Transport::{Framed, Header, Unframed};
    let changed = |transport, encoding, at: usize, to: u8| {
        let mut bytes = call(transport, encoding, "shuffle", 5);
        bytes[at] = to;
        bytes
    };
    let sized = |transport, encoding, size: u32| {
        let mut bytes = call(transport, encoding, "shuffle", 5);
        bytes[..4].copy_from_slice(&size.to_be_bytes());
        bytes
    };
    let too_large = 16_384_001;
    let protocol_error = Some(7);
    vec![
        ("a frame too large", sized(Framed, Binary, too_large), protocol_error),
        ("a frame too large, compact", sized(Framed, Compact, too_large), protocol_error),
        ("a frame too large, with headers", sized(Header, Binary, too_large), protocol_error),
        ("an unknown message type", changed(Framed, Binary, 7, 9), protocol_error),
        ("a name beyond its frame", changed(Framed, Binary, 10, 1), protocol_error),
        ("a name beyond its frame, compact", changed(Framed, Compact, 7, 90), protocol_error),
        ("a name too long", changed(Unframed, Binary, 5, 1), protocol_error),
        ("an unknown type of field", changed(Unframed, Binary, 19, 99), protocol_error),
        ("an unknown type of field, compact", changed(Unframed, Compact, 11, 0x1f), protocol_error),
        ("a block beyond its frame", changed(Header, Binary, 12, 9), protocol_error),
        ("an unknown encoding", changed(Header, Compact, 14, 3), Some(10)),
        ("a transform", changed(Header, Compact, 15, 1), Some(10)),
        ("a version unheard of", changed(Framed, Compact, 5, 0x22), None),
    ]
}

#[test]
fn what_is_broken_is_refused_and_disturbs_nobody() {
    if direct() {
        return;
    }
    let server = ThriftServer::start("async", &FRAMES);
    let mut proxy = by_form(Config::busy(), &server, "").start();
    let wires = through(&proxy, &server);
    let address = wires[0].1;
    let loads: Vec<_> = wires
        .iter()
        .map(|wire| thrift_start("load", &[*wire], &["4", "2", "8", "strict"]))
        .collect();
    sleep(Duration::from_millis(500));
    let before = proxy.peak_memory();
    for (what, bytes, due) in broken() {
        for after_a_good_one in [false, true] {
            let mut raw = Raw::connect(address);
            if after_a_good_one {
                raw.send(call(Transport::Framed, Encoding::Binary, "shuffle", 77));
                let reply = read(&raw.frame()).expect("a message");
                assert_eq!((reply.kind, reply.seqid), (2, 77), "{what}");
            } else if due.is_none() {
                // Not recognised as Thrift.
                continue;
            }
            raw.try_send(&bytes);
            let reply = raw.bytes_until_closed();
            let Read { kind, body, transport, .. } =
                read(&reply).unwrap_or_else(|| panic!("{what}: {reply:02x?}"));
            assert_eq!(kind, 3, "{what}");
            assert_eq!(transport, read_transport(&bytes), "{what}");
            let code = body.get(body.len() - 2).copied();
            let compact = reply.contains(&0x82);
            let due = due.or(Some(7)).map(|due| if compact { due * 2 } else { due });
            assert_eq!(code, due, "{what}: {body:02x?}");
        }
    }
    for load in loads {
        Tally::read(&load.succeed()).assert_perfect();
    }
    let grown = proxy.peak_memory() - before;
    assert!(grown < 30 << 20, "memory grew by {} KiB", grown >> 10);
    proxy.assert_alive();
}

fn read_transport(bytes: &[u8]) -> Transport {
    match bytes {
        [0x80 | 0x82, ..] => Transport::Unframed,
        [_, _, _, _, 0x0f, ..] => Transport::Header,
        _ => Transport::Framed,
    }
}

/// A call for a reply of `size` bytes and some.
fn make(size: u32, seqid: u32) -> Vec<u8> {
    let (transport, encoding) = (Transport::Framed, Encoding::Binary);
    let body = [&[8, 0, 1][..], &size.to_be_bytes(), &[0]].concat();
    let mut out = Vec::new();
    Message { transport, encoding, kind: 1, name: b"make", seqid, headers: &[], body: &body }
        .encode(&mut out);
    out
}

#[test]
fn a_reader_that_does_not_read_holds_nobody_up() {
    if direct() {
        return;
    }
    let server = ThriftServer::start("async", &["framed/binary"]);
    let mut proxy = by_form(Config::new(), &server, "").start();
    let wires = through(&proxy, &server);
    thrift("every_type", &wires, &[]);
    let before = proxy.peak_memory();
    // Two thousand replies of 60 kB, and twenty of 3 MB, that nobody reads.
    let mut raws = [Raw::connect(wires[0].1), Raw::connect(wires[0].1)];
    for (raw, size, count) in [(0, 60_000, 2000), (1, 3 << 20, 20)] {
        for seqid in 1..=count {
            if !raws[raw].try_send(make(size, seqid)) {
                break;
            }
        }
    }
    // Meanwhile others are served by the same server.
    for _ in 0..5 {
        thrift("concurrent", &wires, &["8", "20"]);
    }
    let grown = proxy.peak_memory() - before;
    assert!(grown < 60 << 20, "memory grew by {} KiB", grown >> 10);
    proxy.assert_alive();
}

#[test]
fn a_client_that_leaves_disturbs_nobody() {
    let server = ThriftServer::start("async", &FRAMES);
    let mut proxy = by_form(Config::new(), &server, "").start();
    let wires = through(&proxy, &server);
    let loads: Vec<_> = wires
        .iter()
        .map(|wire| thrift_start("load", &[*wire], &["3", "2", "8", "strict"]))
        .collect();
    let whole = call(Transport::Framed, Encoding::Binary, "shuffle", 1);
    let large = {
        let mut bytes = whole.clone();
        bytes[..4].copy_from_slice(&1_000_000u32.to_be_bytes());
        bytes[26..30].copy_from_slice(&900_000u32.to_be_bytes());
        bytes.resize(300_000, b'x');
        bytes
    };
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        // Gone before the answer, in the midst of a call, and in the midst of a large one.
        for bytes in [&whole.repeat(20)[..], &whole[..20], &large[..]] {
            Raw::say(wires[0].1, bytes);
        }
        sleep(Duration::from_millis(20));
    }
    for load in loads {
        Tally::read(&load.succeed()).assert_perfect();
    }
    proxy.assert_alive();
}

#[test]
fn the_command_line_calls_a_server_of_apaches() {
    let server = ThriftServer::start("threaded", &["framed/binary"]);
    let proxy = by_form(Config::new(), &server, "").start();
    let address = proxy.address("framed/binary").to_string();
    let call = |arguments: &[&str]| {
        let mut command = std::process::Command::new(binary());
        command.args(["call", "thrift", &address]).args(arguments);
        finish("polyport call", command)
    };
    assert_eq!(call(&["Stock:find", "an anvil"]).1, "found an anvil\n");
    assert_eq!(call(&["nothing"]).1, "\n");
    assert_eq!(call(&["measure", "four"]).1, "4\n");
    for (method, text, due) in [
        ("crash", "", "error: exception of type 6: "),
        ("unheardOf", "", "error: exception of type 1: "),
        ("refuse", "refused", "error: the exception declared as field 1"),
    ] {
        let (status, _, complaint) = call(&[method, text]);
        assert!(!status.success() && complaint.contains(due), "{complaint}");
    }
}

#[test]
fn a_server_that_breaks_off_or_babbles_ends_its_calls_only() {
    if direct() {
        return;
    }
    // What a server may answer instead of a reply.
    let babble: [&'static [u8]; 4] = [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\x40\x80\x01\0\x02\0\0\0\x07shuffle",
        b"\0\xfa\0\x01\x80\x01\0\x02\0\0\0\x07shuffle\0\0\0\x01\x0b\0\0",
    ];
    let good = ThriftServer::start("async", &["framed/binary"]);
    for words in babble {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let bad = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut chunk = [0; 4096];
                let _ = stream.read(&mut chunk);
                let _ = stream.write_all(words);
            }
        });
        let proxy = Config::new()
            .cluster("bad", bad, "")
            .cluster("good", good.address(), "")
            .route("bad", "protocol = \"thrift\", method = \"crash\"", "bad", "")
            .route("good", "protocol = \"thrift\"", "good", "")
            .start();
        let mut raw = Raw::connect(proxy.address("thrift"));
        for _ in 0..3 {
            raw.send(call(Transport::Framed, Encoding::Binary, "crash", 3));
            raw.send(call(Transport::Framed, Encoding::Binary, "shuffle", 4));
            let mut replies =
                [raw.frame(), raw.frame()].map(|bytes| read(&bytes).expect("a message"));
            replies.sort_by_key(|reply| reply.seqid);
            assert_eq!(replies.each_ref().map(|reply| reply.kind), [3, 2], "{words:?}");
        }
    }
}
