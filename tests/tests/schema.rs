//! `polyport schema` before a validator that is not ours: what `check` takes it takes, and
//! what has the wrong shape neither takes.

use std::path::{Path, PathBuf};
use std::process::Command;

use polyport_tests::process::{finish, root, run};
use polyport_tests::proxy::binary;

/// What the validator says of each of these files.
fn validate(files: &[PathBuf]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let schema = folder.path().join("schema.json");
    let mut print = Command::new(binary());
    print.arg("schema");
    std::fs::write(&schema, run("polyport schema", print)).expect("the schema");
    let python = root().join(".peers/schema/bin/python");
    assert!(python.exists(), "{} is missing; run tests/install-peers.sh", python.display());
    let mut command = Command::new(python);
    command.arg(root().join("tests/peers/schema/validate.py")).arg(schema).args(files);
    let said = run("validate.py", command);
    let lines: Vec<String> = said
        .lines()
        .zip(files)
        .map(|(line, file)| {
            let verdict = line.strip_prefix(&file.display().to_string());
            verdict.expect("a line for each file").trim().to_owned()
        })
        .collect();
    assert_eq!(lines.len(), files.len(), "{said}");
    lines
}

fn check(file: &Path) -> bool {
    let mut command = Command::new(binary());
    command.arg("check").arg("-c").arg(file);
    finish("polyport check", command).0.success()
}

fn written(texts: &[String]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let write = |(at, text): (usize, &String)| {
        let file = folder.path().join(format!("{at}.toml"));
        std::fs::write(&file, text).expect("a config");
        file
    };
    let files = texts.iter().enumerate().map(write).collect();
    (folder, files)
}

#[test]
fn every_example_and_every_config_of_the_documents_is_valid() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("examples"))
        .expect("the examples")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert!(files.len() >= 8, "{files:?}");
    for file in &files {
        let text = std::fs::read_to_string(file).expect("an example");
        let first = text.lines().next();
        assert_eq!(first, Some("#:schema ../docs/polyport.schema.json"), "{}", file.display());
    }
    // Of the README what is whole: it has a listener.
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let snippets = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let whole: Vec<String> =
        snippets.filter(|text| text.contains("[[listener]]")).map(str::to_owned).collect();
    assert!(!whole.is_empty());
    let (_folder, more) = written(&whole);
    files.extend(more);
    for (file, verdict) in files.iter().zip(validate(&files)) {
        assert_eq!(verdict, "fine", "{}", file.display());
    }
}

const HEAD: &str = "listener = [{ address = \"127.0.0.1:7000\" }]\ncluster = [{ name = \"a\", endpoints = [\"127.0.0.1:1\"] }]\n";

/// All that a route may be asked for, in the ways that people write it.
const FINE: &[&str] = &[
    "match = { protocol = \"http\", path = { prefix = \"/\" }, header.x-tenant = \"acme\" }",
    "match = { \"header.x-tenant\" = [\"a\", \"b\"], source.ip = [\"10.0.0.0/8\"] }",
    "match = { source.ip = { not = { cidr = [\"10.0.0.0/8\", \"127.0.0.1\"] } }, source.port = 80 }",
    "match = { path = { any = [{ prefix = \"/a\" }, \"b\", { not = \"c\" }] }, size = { min = 1, max = 2.5 } }",
    "match = { tls.client.san = \"spiffe://shop/cart\", tls.sni = false }",
    "match = { protocol = [\"http\", \"redis\"], method = true }",
    "match = { protocol = \"redis\", key.hashtag = \"b\" }",
    "match = { protocol = \"redis\", \"key.hashtag\" = \"b\" }",
    "match = { attachment = { tenant = \"acme\", user = { regex = \"u.*\" } } }",
    "match = { protocol = \"tcp\" }",
    "[[access-log]]\nto = \"stdout\"\nmatch = { protocol = \"http\", route = { prefix = \"a\" }, duration = { min = \"100ms\" }, status = [500, 503] }",
    "limit = [\"100/s\", { rate = \"5 / m\", burst = 20, by = [\"source.ip\"], values = 10 }]",
    "fault = [{ delay = \"100ms\", percent = 0.1 }, { reset = true, match = { source.ip = \"10.0.0.1\" } }]",
    "mirror = { cluster = \"a\", percent = 50 }\nretry = {}\nonly = { source.ip = \"10.0.0.0/8\" }",
    "match = { protocol = \"http\" }\nrequest = { set = { header.x-a = \"{source.ip}\", host = \"b\" }, remove = [\"header.b\"], replace-prefix = { path = [\"/a/\", \"/\"] } }",
    "match = { protocol = \"http\" }\nresponse = { set = { \"header.x-route\" = \"{route}\" }, append = { header.vary = \"a\" } }",
];

#[test]
fn what_check_takes_the_schema_takes() {
    let texts: Vec<String> =
        FINE.iter().map(|lines| format!("{HEAD}[[route]]\nto = \"a\"\n{lines}\n")).collect();
    let (_folder, files) = written(&texts);
    for (text, (file, verdict)) in texts.iter().zip(files.iter().zip(validate(&files))) {
        assert!(check(file), "{text}");
        assert_eq!(verdict, "fine", "{text}");
    }
}

/// Each with the key at which the schema finds it.
const WRONG: &[(&str, &str)] = &[
    ("tiemout = \"1s\"", "route/0"),
    ("timeout = 5", "route/0/timeout"),
    ("timeout = \"5\"", "route/0/timeout"),
    ("to = 5", "route/0/to"),
    ("to = [{ cluster = \"a\", wieght = 1 }]", "route/0/to"),
    ("to = { labels = { v = \"1\" } }", "route/0/to"),
    ("retry = { attempts = 11 }", "route/0/retry/attempts"),
    ("retry = { on = \"reset\" }", "route/0/retry/on"),
    ("limit = 5", "route/0/limit"),
    ("limit = \"100\"", "route/0/limit"),
    ("mirror = { cluster = \"a\", percent = 101 }", "route/0/mirror"),
    ("match = { protcol = \"redis\" }", "route/0/match"),
    ("match = { protocol = \"redsi\" }", "route/0/match/protocol"),
    ("match = { path = { prefx = \"/\" } }", "route/0/match/path"),
    ("match = { path = {} }", "route/0/match/path"),
    ("match = { path = 1.5 }", "route/0/match/path"),
    ("[[access-log]]\nto = \"stdout\"\nmatch = { duration = { min = 5 } }", "access-log/0/match"),
    ("fault = { delay = \"100ms\", percnt = 1 }", "route/0/fault"),
    ("match = { protocol = \"http\" }\nrequest = { set = { header.a = 5 } }", "route/0/request"),
    (
        "match = { protocol = \"http\" }\nresponse = { replace-prefix = { path = [\"a\", \"b\"] } }",
        "route/0/response",
    ),
    ("[listener.tls]", "listener"),
    ("[admin]\nwrite = 1", "admin/write"),
    ("[limits]\nhead = \"many\"", "limits/head"),
    ("[limits]\nhead = 0", "limits/head"),
    ("[defaults]\ndeadlines = \"yes\"", "defaults/deadlines"),
    ("[access]\ndefault = \"maybe\"", "access/default"),
    ("[acess]", ""),
];

#[test]
fn what_has_the_wrong_shape_neither_takes() {
    let text = |(lines, _): &(&str, &str)| {
        let to = if lines.starts_with("to =") { "" } else { "to = \"a\"\n" };
        format!("{HEAD}[[route]]\n{to}{lines}\n")
    };
    let texts: Vec<String> = WRONG.iter().map(text).collect();
    let (_folder, files) = written(&texts);
    for (at, verdict) in validate(&files).iter().enumerate() {
        let (text, place) = (&texts[at], WRONG[at].1);
        assert!(!check(&files[at]), "{text}");
        assert_ne!(verdict, "fine", "{text}");
        // TOML refuses some itself: a table under an array that is written inline.
        assert!(verdict.starts_with(place) || verdict.starts_with("no TOML"), "{verdict}\n{text}");
    }
}
