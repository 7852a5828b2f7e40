//! Servers that are well and not, under a clock that runs as fast as it can.

use std::sync::Mutex;

use super::*;

mod wire;

/// Records and their TTL in seconds, or why there are none.
type Said<T> = Result<(Vec<T>, u64), Nothing>;

/// What names have.
#[derive(Default)]
struct Zone {
    addresses: BTreeMap<(String, Family), Said<IpAddr>>,
    services: Option<Said<Service>>,
    /// Names that nobody answers for.
    silent: Vec<(String, Family)>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Zone>>);

impl Fake {
    fn with<T>(&self, change: impl FnOnce(&mut Zone) -> T) -> T {
        change(&mut self.0.lock().expect("no panic"))
    }

    fn v4(&self, name: &str, hosts: &[u8], ttl: u64) {
        let all = hosts.iter().map(|host| IpAddr::from([10, 0, 0, *host])).collect();
        self.with(|zone| zone.addresses.insert((name.into(), Family::V4), Ok((all, ttl))));
    }

    fn v6(&self, name: &str, answer: Said<IpAddr>) {
        self.with(|zone| zone.addresses.insert((name.into(), Family::V6), answer));
    }

    fn without(&self, name: &str, nothing: &Nothing) {
        for family in [Family::V4, Family::V6] {
            let key = (name.to_owned(), family);
            self.with(|zone| zone.addresses.insert(key, Err(nothing.clone())));
        }
    }

    fn srv(&self, records: &[(u16, u16, u16, &str)], ttl: u64) {
        let one = |&(priority, weight, port, target): &(u16, u16, u16, &str)| Service {
            priority,
            weight,
            port,
            target: target.into(),
        };
        let all = records.iter().map(one).collect();
        self.with(|zone| zone.services = Some(Ok((all, ttl))));
    }
}

impl Ask for Fake {
    async fn addresses(&self, name: &str, family: Family) -> Result<Answer<IpAddr>, Nothing> {
        let key = (name.to_owned(), family);
        if self.with(|zone| zone.silent.contains(&key)) {
            std::future::pending::<()>().await;
        }
        let answer = self.with(|zone| zone.addresses.get(&key).cloned());
        let (records, ttl) = answer.unwrap_or(Err(Nothing::NoRecord))?;
        Ok(Answer { name: name.to_owned(), records, ttl: Duration::from_secs(ttl) })
    }

    async fn services(&self, name: &str) -> Result<Answer<Service>, Nothing> {
        let answer = self.with(|zone| zone.services.clone());
        let (records, ttl) = answer.unwrap_or(Err(Nothing::NoName))?;
        Ok(Answer { name: name.to_owned(), records, ttl: Duration::from_secs(ttl) })
    }
}

const EVERY: Duration = Duration::from_secs(5);

fn host(fake: &Fake) -> Dns<Fake> {
    Dns::host(fake.clone(), "cart".into(), 80, EVERY, Usual::default())
}

fn service(fake: &Fake) -> Dns<Fake> {
    Dns::service(fake.clone(), "_a._tcp.b".into(), EVERY, Usual::default())
}

fn texts(found: &[Endpoint]) -> Vec<String> {
    found.iter().map(|found| found.address.to_string()).collect()
}

/// Address, weight and priority.
fn ranked(found: &[Endpoint]) -> Vec<(String, u32, u8)> {
    let one = |e: &Endpoint| (e.address.to_string(), e.weight, e.place.priority);
    found.iter().map(one).collect()
}

const LOST: fn() -> Nothing = || Nothing::Failed("server failure".into());

#[tokio::test(start_paused = true)]
async fn a_name_is_asked_for_again_when_its_ttl_is_over_within_bounds() {
    let fake = Fake::default();
    let mut dns = host(&fake);
    for (ttl, pause) in [(30, 30), (0, 5), (1, 5), (6, 6), (86_400, 300), (60, 60)] {
        fake.v4("cart", &[1], ttl);
        dns.next().await.expect("an answer");
        let before = Instant::now();
        dns.next().await.expect("an answer");
        assert_eq!(before.elapsed(), Duration::from_secs(pause), "TTL {ttl}");
        dns.due = None;
    }
}

#[tokio::test(start_paused = true)]
async fn the_smallest_ttl_of_both_families_counts_and_all_addresses_are_found() {
    let fake = Fake::default();
    fake.v4("cart", &[1, 2], 60);
    fake.v6("cart", Ok((vec!["fd00::1".parse().expect("an address")], 20)));
    let mut dns = host(&fake);
    let found = dns.next().await.expect("an answer");
    assert_eq!(texts(&found), ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"]);
    assert_eq!(found[0].host, "cart");
    let before = Instant::now();
    dns.next().await.expect("an answer");
    assert_eq!(before.elapsed(), Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn after_an_error_the_next_question_is_asked_at_once() {
    let fake = Fake::default();
    let mut dns = host(&fake);
    fake.without("cart", &Nothing::NoName);
    assert!(dns.next().await.is_err(), "a name that is gone is not an empty answer");
    fake.v4("cart", &[1], 60);
    let before = Instant::now();
    assert_eq!(texts(&dns.next().await.expect("an answer")), ["10.0.0.1:80"]);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_name_without_addresses_is_an_empty_answer() {
    let fake = Fake::default();
    fake.without("cart", &Nothing::NoRecord);
    assert_eq!(host(&fake).next().await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_family_that_nobody_answers_for_loses_nothing() {
    let six = || Ok((vec!["fd00::1".parse().expect("an address")], 60));
    // It never had any: the other one will do.
    let fake = Fake::default();
    fake.v4("cart", &[1], 60);
    fake.v6("cart", Err(LOST()));
    let mut dns = host(&fake);
    assert_eq!(texts(&dns.next().await.expect("IPv4")), ["10.0.0.1:80"]);
    // From now on it has.
    fake.v6("cart", six());
    assert_eq!(dns.next().await.expect("both").len(), 2);
    fake.v6("cart", Err(LOST()));
    assert!(dns.next().await.is_err());
    // That it has no more is an answer.
    fake.v6("cart", Err(Nothing::NoRecord));
    assert_eq!(texts(&dns.next().await.expect("IPv4")), ["10.0.0.1:80"]);
    // The same the other way round.
    fake.v6("cart", six());
    assert_eq!(dns.next().await.expect("both").len(), 2);
    fake.with(|zone| zone.addresses.insert(("cart".into(), Family::V4), Err(LOST())));
    assert!(dns.next().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn servers_that_are_silent_are_not_waited_for_for_ever() {
    let fake = Fake::default();
    fake.v4("cart", &[1], 60);
    fake.with(|zone| zone.silent.push(("cart".into(), Family::V6)));
    let before = Instant::now();
    assert_eq!(texts(&host(&fake).next().await.expect("IPv4")), ["10.0.0.1:80"]);
    assert_eq!(before.elapsed(), SECOND);
    fake.with(|zone| zone.silent.push(("cart".into(), Family::V4)));
    let before = Instant::now();
    assert!(host(&fake).next().await.is_err());
    assert_eq!(before.elapsed(), PATIENCE * 2);
}

#[tokio::test(start_paused = true)]
async fn srv_records_tell_ports_weights_and_priorities() {
    let fake = Fake::default();
    fake.srv(&[(0, 5, 81, "one."), (0, 0, 82, "two."), (10, 7, 83, "one.")], 60);
    fake.v4("one.", &[1, 2], 30);
    fake.v4("two.", &[3], 90);
    let mut dns = service(&fake);
    let found = dns.next().await.expect("an answer");
    let expected = [
        ("10.0.0.1:81", 5, 0),
        ("10.0.0.2:81", 5, 0),
        ("10.0.0.3:82", 1, 0),
        ("10.0.0.1:83", 7, 10),
        ("10.0.0.2:83", 7, 10),
    ];
    assert_eq!(ranked(&found), expected.map(|(at, weight, rank)| (at.to_owned(), weight, rank)));
    assert_eq!(found[0].host, "one");
    let before = Instant::now();
    dns.next().await.expect("an answer");
    assert_eq!(before.elapsed(), Duration::from_secs(30), "a target's TTL counts");
}

#[tokio::test(start_paused = true)]
async fn srv_numbers_beyond_ours_keep_their_order_and_their_shares() {
    let fake = Fake::default();
    let records = [(1000, 60_000, 81, "one."), (10, 6000, 82, "one."), (65_535, 1, 83, "one.")];
    fake.srv(&records, 60);
    fake.v4("one.", &[1], 60);
    let found = ranked(&service(&fake).next().await.expect("an answer"));
    let numbers: Vec<(u32, u8)> = found.iter().map(|(_, weight, rank)| (*weight, *rank)).collect();
    assert_eq!(numbers, [(10_000, 1), (1000, 0), (1, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_nobody_answers_for_keeps_its_addresses_and_one_that_is_gone_does_not() {
    let fake = Fake::default();
    fake.srv(&[(0, 1, 80, "one."), (0, 1, 80, "two.")], 60);
    fake.v4("one.", &[1], 60);
    fake.v4("two.", &[2], 60);
    let mut dns = service(&fake);
    assert_eq!(texts(&dns.next().await.expect("both")), ["10.0.0.1:80", "10.0.0.2:80"]);
    fake.without("one.", &LOST());
    assert_eq!(texts(&dns.next().await.expect("both")), ["10.0.0.1:80", "10.0.0.2:80"]);
    let before = Instant::now();
    fake.without("one.", &Nothing::NoName);
    assert_eq!(texts(&dns.next().await.expect("one")), ["10.0.0.2:80"]);
    assert_eq!(before.elapsed(), EVERY, "what is not whole is asked for again soon");
    // Nobody at all is an error, not an empty answer.
    fake.without("two.", &Nothing::NoName);
    assert!(dns.next().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn srv_can_say_that_there_is_no_such_service() {
    let fake = Fake::default();
    fake.srv(&[(0, 0, 0, ".")], 60);
    assert_eq!(service(&fake).next().await, Ok(vec![]));
    fake.with(|zone| zone.services = Some(Err(LOST())));
    assert!(service(&fake).next().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn many_targets_are_all_asked_for() {
    let fake = Fake::default();
    let names: Vec<String> = (0..100).map(|number| format!("n{number}.")).collect();
    let records: Vec<(u16, u16, u16, &str)> =
        names.iter().map(|name| (0, 1, 80, name.as_str())).collect();
    fake.srv(&records, 60);
    for (number, name) in names.iter().enumerate() {
        fake.v4(name, &[number as u8], 60);
    }
    assert_eq!(service(&fake).next().await.expect("all").len(), 100);
}

#[tokio::test(start_paused = true)]
async fn what_was_known_before_the_start_is_not_lost_to_a_family_or_a_target_in_trouble() {
    let fake = Fake::default();
    fake.v4("cart", &[1], 30);
    fake.v6("cart", Err(LOST()));
    let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 80));
    let before = ["10.0.0.1:80".parse().expect("an address"), v6];
    let before = before.map(|address| Usual::default().endpoint(address, "cart"));
    assert_eq!(texts(&host(&fake).next().await.expect("an answer")), ["10.0.0.1:80"]);
    host(&fake).knowing(&before).next().await.expect_err("half an answer");
    // Another name's say nothing of this one.
    let other = before.map(|endpoint| Endpoint { host: "other".into(), ..endpoint });
    host(&fake).knowing(&other).next().await.expect("an answer");

    fake.srv(&[(0, 1, 80, "x."), (0, 1, 81, "y.")], 30);
    fake.v4("x.", &[1], 30);
    fake.without("y.", &LOST());
    let y = Usual::default().endpoint(([10, 0, 0, 2], 81).into(), "y");
    let found = service(&fake).knowing(&[y]).next().await.expect("an answer");
    assert_eq!(texts(&found), ["10.0.0.1:80", "10.0.0.2:81"]);
}
