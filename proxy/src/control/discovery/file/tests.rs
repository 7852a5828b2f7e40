//! Files that come, change, break and go.

use std::fs;
use std::os::unix::fs::symlink;

use tokio::time::{Instant, timeout};

use super::*;

const EVERY: Duration = Duration::from_millis(20);

/// Longer than anything here takes; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn texts(found: &[Endpoint]) -> Vec<String> {
    found.iter().map(|found| found.address.to_string()).collect()
}

async fn next(file: &mut File) -> Result<Vec<String>, String> {
    let found = timeout(PATIENCE, file.next()).await.expect("an answer in time");
    found.map(|found| texts(&found)).map_err(|trouble| trouble.to_string())
}

fn listing(ports: &[u16]) -> String {
    let all: Vec<String> = ports.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    format!("endpoints = [{}]\n", all.join(", "))
}

#[tokio::test]
async fn a_file_is_read_again_however_it_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.toml");
    fs::write(&path, listing(&[1])).expect("a file");
    let mut file = File::new(path.clone(), EVERY, Usual::default());
    assert_eq!(next(&mut file).await, Ok(vec!["127.0.0.1:1".into()]));
    // In its place.
    fs::write(&path, listing(&[2])).expect("a file");
    assert_eq!(next(&mut file).await, Ok(vec!["127.0.0.1:2".into()]));
    // By another one of the same length.
    let new = folder.path().join("new");
    fs::write(&new, listing(&[3])).expect("a file");
    fs::rename(&new, &path).expect("a rename");
    assert_eq!(next(&mut file).await, Ok(vec!["127.0.0.1:3".into()]));
    // By the switch of a link on its way, as mounted volumes do it.
    for (name, port) in [("v1", 4), ("v2", 5)] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
        fs::write(folder.path().join(name).join("b.toml"), listing(&[port])).expect("a file");
    }
    let link = folder.path().join("data");
    symlink("v1", &link).expect("a link");
    let mut file = File::new(link.join("b.toml"), EVERY, Usual::default());
    assert_eq!(next(&mut file).await, Ok(vec!["127.0.0.1:4".into()]));
    symlink("v2", folder.path().join("data-new")).expect("a link");
    fs::rename(folder.path().join("data-new"), &link).expect("a rename");
    assert_eq!(next(&mut file).await, Ok(vec!["127.0.0.1:5".into()]));
}

#[tokio::test]
async fn rubbish_and_absence_are_told_once_and_then_waited_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.toml");
    let mut file = File::new(path.clone(), EVERY, Usual::default());
    assert!(next(&mut file).await.expect_err("no file").contains("No such file"));
    let waiting = timeout(Duration::from_millis(300), file.next()).await;
    assert!(waiting.is_err(), "it is as it was: {waiting:?}");
    fs::write(&path, "endpoints = [\n  \"127.0.0.1:1\",\n  5 = 6\n").expect("a file");
    let told = next(&mut file).await.expect_err("rubbish");
    assert!(told.contains("a.toml: line 3: "), "{told}");
    fs::write(&path, listing(&[1])).expect("a file");
    assert_eq!(next(&mut file).await, Ok(vec!["127.0.0.1:1".into()]));
    fs::remove_file(&path).expect("it was there");
    assert!(next(&mut file).await.is_err());
    fs::write(&path, listing(&[2])).expect("a file");
    assert_eq!(next(&mut file).await, Ok(vec!["127.0.0.1:2".into()]));
}

#[tokio::test]
async fn a_file_that_is_being_written_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.toml");
    fs::write(&path, listing(&[1])).expect("a file");
    let every = Duration::from_millis(200);
    let mut file = File::new(path.clone(), every, Usual::default());
    assert!(next(&mut file).await.is_ok());
    // Each state of it is a fine list; it grows in steps shorter than a look.
    let writer = path.clone();
    let writing = tokio::task::spawn_blocking(move || {
        let (mut text, mut longest) = (String::new(), Duration::ZERO);
        for port in 2..30 {
            let before = Instant::now();
            std::thread::sleep(Duration::from_millis(20));
            text.push_str(&format!("[[endpoints]]\naddress = \"127.0.0.1:{port}\"\n"));
            fs::write(&writer, &text).expect("a file");
            longest = longest.max(before.elapsed());
        }
        longest
    });
    let found = next(&mut file).await.expect("a list");
    // A busy machine may keep the writer for longer than a look; then this says nothing.
    let longest = writing.await.expect("no panic");
    assert!(found.len() == 28 || longest >= every * 3 / 4, "{found:?} after {longest:?}");
}

fn read(name: &str, text: &str) -> Result<Vec<Endpoint>, String> {
    let listed = parse(Path::new(name), text);
    listed.and_then(|all| endpoints(all, &Usual::default())).map_err(|error| error.to_string())
}

#[test]
fn toml_and_json_say_the_same() {
    let toml = r#"
endpoints = [
  "10.0.0.1:80",
  { address = "10.0.0.2:81", weight = 3, labels = { version = "v2" }, zone = "b", priority = 1 },
]"#;
    let json = r#"{"endpoints": ["10.0.0.1:80",
  {"address": "10.0.0.2:81", "weight": 3, "labels": {"version": "v2"}, "zone": "b", "priority": 1}]}"#;
    let tables = r#"
[[endpoints]]
address = "10.0.0.1:80"
[[endpoints]]
address = "10.0.0.2:81"
weight = 3
labels.version = "v2"
zone = "b"
priority = 1"#;
    let found = read("a.toml", toml).expect("fine");
    assert_eq!(texts(&found), ["10.0.0.1:80", "10.0.0.2:81"]);
    assert_eq!((found[1].weight, found[1].place.priority), (3, 1));
    assert_eq!(found[1].labels["version"], "v2");
    assert_eq!(found[1].host, "10.0.0.2");
    assert_eq!(read("a.JSON", json).as_ref(), Ok(&found));
    assert_eq!(read("a", tables).as_ref(), Ok(&found));
    assert_eq!(read("a.toml", "endpoints = []"), Ok(vec![]));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (name, text, expected) in [
        ("a.toml", "", "line 1: missing field `endpoints`"),
        ("a.toml", "\nendpoints = [\"nowhere\"]", "line 2: `nowhere` is no host:port"),
        ("a.toml", "\n\nendpoints = [\":80\"]", "line 3: `:80` is no host:port"),
        ("a.toml", "\nendpoints = [{ adress = \"a:1\" }]", "line 2: unknown field `adress`"),
        ("a.toml", "\nendpoints = [{ weight = 1 }]", "line 2: missing field `address`"),
        ("a.toml", "\nendpoints = [{ address = \"a:1\", weight = 0 }]", "line 2: weight 0 is not"),
        (
            "a.toml",
            "\nendpoints = [5]",
            "line 2: invalid type: integer `5`, expected \"host:port\"",
        ),
        ("a.toml", "endpoints = []\nother = 1", "line 2: unknown field `other`"),
        ("a.json", "", "line 1: EOF while parsing"),
        ("a.json", "{\n\"endpoints\": [\"x\"]}", "line 2: `x` is no host:port"),
        ("a.json", "{\"endpoints\": []}\n{}", "line 2: trailing characters"),
    ] {
        let told = read(name, text).expect_err(text);
        assert!(told.starts_with(expected), "{text}: {told}");
    }
}

#[test]
fn names_are_looked_up() {
    let found = read("a.toml", "endpoints = [\"localhost:80\"]").expect("localhost");
    assert!(!found.is_empty() && found.iter().all(|found| found.address.ip().is_loopback()));
    assert_eq!(found[0].host, "localhost");
}

#[test]
fn a_file_beyond_all_bounds_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.toml");
    let text = format!("endpoints = []\n{}", "#".repeat(LONGEST as usize));
    fs::write(&path, text).expect("a file");
    assert!(matches!(check(&path), Err(Unusable::Long)));
    assert!(matches!(load(&path, &Usual::default()), (Some(_), Err(Unusable::Long))));
}
