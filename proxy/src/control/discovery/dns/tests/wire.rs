//! A server in this process, and the resolver as it is, over UDP.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, MessageType, OpCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_resolver::proto::rr::{Name, Record};

use super::super::*;

fn name(text: &str) -> Name {
    Name::from_utf8(text).expect("a name")
}

/// What is answered: records, or a code.
fn zone(asked: &str, kind: RecordType) -> Result<Vec<Record>, ResponseCode> {
    let record = |at: &str, ttl, data| Record::from_rdata(name(at), ttl, data);
    let a = |at: &str, ttl, host| record(at, ttl, RData::A(A(Ipv4Addr::new(10, 0, 0, host))));
    match (asked, kind) {
        ("cart.test.", RecordType::A) => Ok(vec![a(asked, 60, 1), a(asked, 40, 2)]),
        ("cart.test.", RecordType::AAAA) => {
            let ip = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
            Ok(vec![record(asked, 50, RData::AAAA(AAAA(ip)))])
        }
        ("alias.test.", RecordType::A) => {
            let to = RData::CNAME(CNAME(name("cart.test.")));
            Ok(vec![record(asked, 7, to), a("cart.test.", 60, 1)])
        }
        ("v4.test." | "alias.test.", _) if kind != RecordType::A => Ok(vec![]),
        ("v4.test.", _) => Ok(vec![a(asked, 60, 4)]),
        ("broken.test.", _) => Err(ResponseCode::ServFail),
        ("_cart._tcp.test.", RecordType::SRV) => {
            let srv = |priority, port, target| {
                let data = RData::SRV(SRV::new(priority, 5, port, name(target)));
                record(asked, 30, data)
            };
            Ok(vec![srv(1, 81, "cart.test."), srv(2, 82, "v4.test.")])
        }
        ("_.test.", _) => Ok(vec![]),
        _ => Err(ResponseCode::NXDomain),
    }
}

/// Answers for ever; where, and how often it was asked. `dumb`: it never answers.
fn serve(dumb: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            count.fetch_add(1, Ordering::Relaxed);
            let request = Message::from_vec(&bytes[..len]).expect("a question");
            let query = request.queries[0].clone();
            let mut reply = Message::new(request.metadata.id, MessageType::Response, OpCode::Query);
            match zone(&query.name().to_string().to_ascii_lowercase(), query.query_type()) {
                Ok(records) => {
                    reply.add_answers(records);
                }
                Err(code) => reply.metadata.response_code = code,
            }
            reply.add_query(query);
            if !dumb {
                let _ = socket.send_to(&reply.to_vec().expect("bytes"), from);
            }
        }
    });
    (address, asked)
}

#[tokio::test]
async fn answers_are_read_with_their_smallest_ttl() {
    let (address, _) = serve(false);
    let system = System(vec![address]);
    let answer = system.addresses("cart.test", Family::V4).await.expect("an answer");
    assert_eq!(answer.name, "cart.test.");
    assert_eq!(answer.ttl, Duration::from_secs(40));
    assert_eq!(answer.records.len(), 2);
    let answer = system.addresses("cart.test", Family::V6).await.expect("an answer");
    assert!(answer.records[0].is_ipv6());
    let answer = system.addresses("alias.test", Family::V4).await.expect("an answer");
    assert_eq!(answer.ttl, Duration::from_secs(7), "an alias' TTL counts");
    assert_eq!(answer.records, [IpAddr::from([10, 0, 0, 1])]);
}

#[tokio::test]
async fn what_is_not_there_and_what_is_broken_are_told_apart() {
    let (address, _) = serve(false);
    let system = System(vec![address]);
    let of = async |name: &str| system.addresses(name, Family::V6).await.expect_err("nothing");
    assert_eq!(of("none.test").await, Nothing::NoName);
    assert_eq!(of("v4.test").await, Nothing::NoRecord);
    assert!(matches!(of("broken.test").await, Nothing::Failed(_)));
}

#[tokio::test]
async fn nothing_is_remembered_between_questions() {
    let (address, asked) = serve(false);
    let system = System(vec![address]);
    for count in 1..=3 {
        system.addresses("cart.test", Family::V4).await.expect("an answer");
        assert_eq!(asked.load(Ordering::Relaxed), count);
    }
}

#[tokio::test]
async fn a_service_is_found_whole() {
    let (address, _) = serve(false);
    let every = Duration::from_secs(5);
    let of =
        |name: &str| Dns::service(System(vec![address]), name.to_owned(), every, Usual::default());
    let mut found = of("_cart._tcp.test").next().await.expect("an answer");
    found.sort_by_key(|found| found.address);
    let ranked: Vec<(String, u8)> =
        found.iter().map(|e| (e.address.to_string(), e.place.priority)).collect();
    let expected =
        [("10.0.0.1:81", 1), ("10.0.0.2:81", 1), ("10.0.0.4:82", 2), ("[fd00::1]:81", 1)];
    assert_eq!(ranked, expected.map(|(address, rank)| (address.to_owned(), rank)));
    assert_eq!(of("_.test").next().await, Ok(vec![]));
    assert!(of("_none._tcp.test").next().await.is_err());
}

#[tokio::test]
async fn a_server_that_never_answers_is_an_error() {
    let (address, _) = serve(true);
    let answer = System(vec![address]).addresses("cart.test", Family::V4).await;
    assert!(matches!(answer, Err(Nothing::Failed(_))), "{answer:?}");
}
