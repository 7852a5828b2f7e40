//! One listener hears every protocol in every wrapping, whole and byte by byte, and each
//! is answered by its own server with its own reply.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{scope, sleep};

use polyport_codecs::Registry;
use polyport_codecs::proxy_protocol::{Version, write};
use polyport_tests::secure::{APART, Link, Trust};
use polyport_tests::stubs::{FORMS, Form, PASSED, serve, tag};
use polyport_tests::{Authority, Config, Proxy, direct};

struct Edge {
    proxy: Proxy,
    trust: Trust,
    _authority: Authority,
}

/// A listener that peels off what there is to peel, and a stub behind it for every
/// protocol of the registry.
fn edge() -> Edge {
    let authority = Authority::new();
    let pair = authority.server("edge.test").toml();
    let lines = format!(
        // A handshake whose bytes come one by one takes long on a busy machine.
        "detect-timeout = \"50s\"\nproxy-protocol = \"optional\"\n\
         tls = {{ certificates = [{{ {pair} }}], passthrough = [\"{PASSED}\"] }}"
    );
    let registry = Registry::builtin();
    let names = registry.protocols().iter().map(|protocol| protocol.name());
    let config = Config::busy().listener(&lines);
    let proxy = names.fold(config, |config, name| config.all(name, serve(name))).start();
    let trust = Trust::new(&authority);
    Edge { proxy, trust, _authority: authority }
}

/// What stands before the protocol.
#[derive(Debug, Clone, Copy)]
struct Wrapping {
    header: Option<Version>,
    tls: bool,
}

const WRAPPINGS: [Wrapping; 6] = [
    Wrapping { header: None, tls: false },
    Wrapping { header: Some(Version::V1), tls: false },
    Wrapping { header: Some(Version::V2), tls: false },
    Wrapping { header: None, tls: true },
    Wrapping { header: Some(Version::V1), tls: true },
    Wrapping { header: Some(Version::V2), tls: true },
];

impl Edge {
    fn open(&self, wrapping: Wrapping, alone: bool) -> Link {
        let mut front = Vec::new();
        if let Some(version) = wrapping.header {
            let source = "192.0.2.7:4711".parse().expect("an address");
            let local = "192.0.2.1:443".parse().expect("an address");
            write(version, source, local, &mut front);
        }
        let trust = wrapping.tls.then_some(&self.trust);
        Link::open(self.proxy.address("edge"), &front, trust, alone)
    }
}

/// Runs `tell` for each of `cases`, several at once; all that failed are named.
fn each<T: Send + Sync>(
    cases: &[T],
    tell: impl Fn(usize, &T) + Sync,
    name: impl Fn(&T) -> String + Sync,
) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(at) else { return };
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tell(at, case)));
            if told.is_err() {
                failed.lock().expect("no panic within").push(name(case));
            }
        }
    };
    scope(|scope| (0..16).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().expect("no panic within");
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), cases.len());
}

#[test]
fn every_protocol_is_answered_as_itself_in_every_wrapping() {
    if direct() {
        return;
    }
    let mut edge = edge();
    let mut cases = Vec::new();
    for form in FORMS {
        for wrapping in WRAPPINGS {
            cases.extend([(form, wrapping, false), (form, wrapping, true)]);
        }
    }
    let tell = |at: usize, (form, wrapping, alone): &(&Form, Wrapping, bool)| {
        let (tag, mut link) = (tag(at), edge.open(*wrapping, *alone));
        let request = (form.ask)(&tag);
        for piece in request.chunks(if *alone { 1 } else { request.len() }) {
            link.send(piece);
            if *alone {
                sleep(APART);
            }
        }
        link.read_until(|got| (form.hear)(&tag, got));
    };
    each(&cases, tell, |(form, wrapping, alone)| {
        format!("{} {wrapping:?}{}", form.name, if *alone { " byte by byte" } else { "" })
    });
    println!("{} cases", cases.len());
    edge.proxy.assert_alive();
}

#[test]
fn every_pair_of_protocols_at_once_byte_by_byte() {
    if direct() {
        return;
    }
    let mut edge = edge();
    let mut cases = Vec::new();
    let [plain, first, second, .., sealed] = WRAPPINGS;
    for one in FORMS {
        for other in FORMS {
            cases.push(([one, other], [plain, plain]));
            cases.push(([one, other], [sealed, first]));
            cases.push(([one, other], [second, sealed]));
        }
    }
    let tell = |at: usize, (forms, wrappings): &([&Form; 2], [Wrapping; 2])| {
        let tags = [tag(2 * at), tag(2 * at + 1)];
        let mut links = wrappings.map(|wrapping| edge.open(wrapping, false));
        let requests = [0, 1].map(|side| (forms[side].ask)(&tags[side]));
        for step in 0..requests[0].len().max(requests[1].len()) {
            for (link, request) in links.iter_mut().zip(&requests) {
                if let Some(byte) = request.get(step..=step) {
                    link.send(byte);
                }
            }
            sleep(APART);
        }
        for (side, mut link) in links.into_iter().enumerate() {
            link.read_until(|got| (forms[side].hear)(&tags[side], got));
        }
    };
    each(&cases, tell, |(forms, wrappings)| {
        format!("{} beside {} {wrappings:?}", forms[0].name, forms[1].name)
    });
    println!("{} cases", cases.len());
    edge.proxy.assert_alive();
}
