//! Sources that do as they are told, under a clock that runs as fast as it can.

use std::sync::Mutex;

use tokio::time::Instant;

use super::*;
use crate::control::discovery::Usual;

/// Answers one after the other, each after a pause of its own; then none any more.
struct Told(Vec<(Duration, Result<Vec<Endpoint>, Trouble>)>);

impl Source for Told {
    async fn next(&mut self) -> Result<Vec<Endpoint>, Trouble> {
        if self.0.is_empty() {
            std::future::pending::<()>().await;
        }
        let (pause, answer) = self.0.remove(0);
        sleep(pause).await;
        answer
    }
}

fn at(ports: &[u16]) -> Vec<Endpoint> {
    let one = |port: &u16| Usual::default().endpoint(([127, 0, 0, 1], *port).into(), "a");
    ports.iter().map(one).collect()
}

fn fails(what: &str) -> Result<Vec<Endpoint>, Trouble> {
    Err(Trouble(what.into()))
}

/// What was published, and when.
async fn published(
    empty: Empty,
    answers: Vec<Result<Vec<Endpoint>, Trouble>>,
) -> Vec<(Duration, Vec<u16>)> {
    published_over(Vec::new(), empty, answers).await
}

/// The same, where the cluster had these before.
async fn published_over(
    known: Vec<Endpoint>,
    empty: Empty,
    answers: Vec<Result<Vec<Endpoint>, Trouble>>,
) -> Vec<(Duration, Vec<u16>)> {
    let answers = answers.into_iter().map(|answer| (Duration::from_secs(1), answer)).collect();
    let (began, all) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let note = all.clone();
    let task = attend(Told(answers), empty, "orders", known, move |found: Vec<Endpoint>| {
        let ports = found.iter().map(|found| found.address.port()).collect();
        note.lock().expect("no panic").push((began.elapsed(), ports));
    });
    let _ = timeout(Duration::from_secs(3600), task).await;
    std::mem::take(&mut *all.lock().expect("no panic"))
}

fn only_ports(all: &[(Duration, Vec<u16>)]) -> Vec<&[u16]> {
    all.iter().map(|(_, ports)| &ports[..]).collect()
}

#[tokio::test(start_paused = true)]
async fn the_same_in_another_order_is_nothing_new() {
    let answers = vec![Ok(at(&[1, 2])), Ok(at(&[2, 1])), Ok(at(&[2, 1, 2])), Ok(at(&[3, 1]))];
    let all = published(Empty::Keep, answers).await;
    assert_eq!(only_ports(&all), [&[1, 2][..], &[1, 3]]);
}

#[tokio::test(start_paused = true)]
async fn what_its_cluster_has_already_is_nothing_new() {
    let answers = || vec![fails("no answer"), Ok(vec![]), Ok(at(&[2, 1])), Ok(at(&[1]))];
    let all = published_over(at(&[1, 2]), Empty::Keep, answers()).await;
    assert_eq!(only_ports(&all), [&[1][..]]);
    let all = published_over(at(&[1, 2]), Empty::Believe, answers()).await;
    assert_eq!(only_ports(&all), [&[][..], &[1, 2], &[1]]);
}

#[tokio::test(start_paused = true)]
async fn what_an_endpoint_is_matters_as_well() {
    let mut heavier = at(&[1, 2]);
    heavier[1].weight = 2;
    let all = published(Empty::Keep, vec![Ok(at(&[1, 2])), Ok(heavier)]).await;
    assert_eq!(only_ports(&all), [&[1, 2][..], &[1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn an_error_publishes_nothing_and_is_asked_again_after_longer_and_longer_pauses() {
    let mut answers = vec![Ok(at(&[1]))];
    answers.extend((0..10).map(|_| fails("no answer")));
    answers.push(Ok(at(&[1])));
    answers.push(Ok(at(&[2])));
    let all = published(Empty::Believe, answers).await;
    assert_eq!(only_ports(&all), [&[1][..], &[2]]);
    // Thirteen answers take a second each; pauses of 0.5, 1, 2, 4, 8 and five of 10 s lie
    // between, of each between half and all.
    let pauses = all[1].0 - Duration::from_secs(13);
    let whole = Duration::from_millis(65_500);
    assert!(pauses > whole / 2 && pauses < whole + Duration::from_secs(1), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_believed_only_where_the_config_says_so() {
    let answers = || vec![Ok(at(&[1])), Ok(vec![]), Ok(at(&[1])), Ok(at(&[2]))];
    assert_eq!(only_ports(&published(Empty::Keep, answers()).await), [&[1][..], &[2]]);
    let believed = published(Empty::Believe, answers()).await;
    assert_eq!(only_ports(&believed), [&[1][..], &[], &[1], &[2]]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_beyond_all_bounds_is_refused_whole() {
    let ports: Vec<u16> = (1..=MOST as u16 + 1).collect();
    let all = published(Empty::Keep, vec![Ok(at(&[1])), Ok(at(&ports)), Ok(at(&ports[1..]))]).await;
    assert_eq!(all.iter().map(|(_, ports)| ports.len()).collect::<Vec<_>>(), [1, MOST]);
}

#[test]
fn the_lowest_priority_of_an_address_counts() {
    let mut twice = at(&[1, 1]);
    twice[0].place.priority = 3;
    twice[1].place.priority = 1;
    let one = ordered(twice).expect("few");
    assert_eq!(one.iter().map(|one| one.place.priority).collect::<Vec<_>>(), [1]);
}

#[test]
fn changes_are_told_in_words() {
    let mut new = at(&[2, 3]);
    new[0].weight = 5;
    let changes = Changes::between(&at(&[1, 2]), &new);
    assert_eq!(changes.to_string(), "came 127.0.0.1:3; went 127.0.0.1:1; changed 127.0.0.1:2");
    let many: Vec<u16> = (1..=10).collect();
    assert!(Changes::between(&[], &at(&many)).to_string().ends_with("127.0.0.1:8 and 2 more"));
    assert_eq!(Changes::between(&at(&many), &at(&many)), Changes::default());
}

#[test]
fn pauses_double_up_to_a_bound_and_begin_anew() {
    let mut backoff = Backoff::new(SmallRng::seed_from_u64(1));
    for whole in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
        let (pause, whole) = (backoff.next(), Duration::from_millis(whole));
        assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
    }
    backoff.reset();
    assert!(backoff.next() <= FIRST);
}

/// What was published, by cluster.
type Seen = Arc<Mutex<Vec<(String, Vec<u16>)>>>;

fn notes() -> (Seen, Publish) {
    let seen = Seen::default();
    let note = seen.clone();
    let publish = move |cluster: &str, _: &Arc<Discover>, found: Vec<Endpoint>| {
        let ports = found.iter().map(|found| found.address.port()).collect();
        note.lock().expect("no panic").push((cluster.to_owned(), ports));
    };
    (seen, Arc::new(publish))
}

fn snapshot(text: &str, folder: &std::path::Path, before: Option<&Snapshot>) -> Snapshot {
    let text = format!("[[listener]]\naddress = \"127.0.0.1:7000\"\n{text}");
    let file = folder.join("p.toml");
    let registry = polyport_codecs::Registry::builtin();
    let file = file.display().to_string();
    let resolve = |_: &str| Err(std::io::Error::other("no such host"));
    match crate::config::compile_over(&text, &file, &registry, &resolve, before) {
        Ok((snapshot, _)) => snapshot,
        Err(errors) => panic!("{errors:#?}"),
    }
}

fn cluster(name: &str, file: &str) -> String {
    format!(
        "[[cluster]]\nname = \"{name}\"\ndiscover = {{ file = \"{file}\", every = \"100ms\" }}\n"
    )
}

#[tokio::test]
async fn sources_follow_the_config() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, port: u16| {
        let text = format!("endpoints = [\"127.0.0.1:{port}\"]");
        std::fs::write(folder.path().join(name), text).expect("a file");
    };
    write("a.toml", 1);
    write("b.toml", 2);
    let (seen, publish) = notes();
    let mut supervisors = Supervisors::new(publish);
    let text = [cluster("a", "a.toml"), cluster("b", "none.toml")].concat();
    let one = snapshot(&text, folder.path(), None);
    supervisors.follow(&one);
    let late = supervisors.ready(Duration::from_secs(1)).await;
    assert_eq!(late, ["b"], "its file is not there");
    assert_eq!(*seen.lock().expect("no panic"), [("a".to_owned(), vec![1])]);

    // One goes on, one asks for something else, one is new.
    let text = [cluster("a", "a.toml"), cluster("b", "b.toml"), cluster("c", "a.toml")].concat();
    let two = snapshot(&text, folder.path(), Some(&one));
    supervisors.follow(&two);
    assert_eq!(supervisors.ready(START).await, [""; 0]);
    let mut after = seen.lock().expect("no panic").split_off(1);
    after.sort();
    assert_eq!(after, [("b".to_owned(), vec![2]), ("c".to_owned(), vec![1])]);

    // Nobody follows the file of a cluster that is gone.
    let three = snapshot(&cluster("b", "b.toml"), folder.path(), Some(&two));
    supervisors.follow(&three);
    write("a.toml", 7);
    write("b.toml", 8);
    let all = [("a".to_owned(), vec![1]), ("b".to_owned(), vec![8])];
    let began = Instant::now();
    while *seen.lock().expect("no panic") != all && began.elapsed() < Duration::from_secs(30) {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(*seen.lock().expect("no panic"), all);

    // One that was gone and is back begins anew.
    let text = [cluster("a", "a.toml"), cluster("b", "b.toml")].concat();
    supervisors.follow(&snapshot(&text, folder.path(), Some(&three)));
    assert_eq!(supervisors.ready(START).await, [""; 0]);
    assert_eq!(seen.lock().expect("no panic").last(), Some(&("a".to_owned(), vec![7])));
}

#[tokio::test]
async fn nobody_waits_for_a_source_whose_cluster_has_endpoints_already() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = [cluster("a", "none.toml"), cluster("b", "b.toml")].concat();
    let none = snapshot(&text, folder.path(), None);
    let mut had = at(&[1, 2]);
    had[0].drained = true;
    let has = crate::control::with_endpoints(&none, "a", had).expect("a cluster");
    let has = crate::control::with_endpoints(&has, "b", at(&[3])).expect("a cluster");
    std::fs::write(folder.path().join("b.toml"), "endpoints = [\"127.0.0.1:4\"]").expect("a file");
    let (seen, publish) = notes();
    let mut supervisors = Supervisors::new(publish);
    supervisors.follow(&has);
    assert_eq!(supervisors.ready(Duration::ZERO).await, [""; 0]);
    let began = Instant::now();
    while seen.lock().expect("no panic").is_empty() && began.elapsed() < Duration::from_secs(30) {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(*seen.lock().expect("no panic"), [("b".to_owned(), vec![4])]);
}
