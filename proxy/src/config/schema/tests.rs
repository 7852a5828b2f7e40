//! The readers are asked about everything that the description says, and must agree.

use std::collections::BTreeSet;

use polyport_codecs::Registry;

use super::{Key, Place, Shape, Table, matcher, tables};
use crate::config::compile_with;

/// A key that no table has, unlike any that one has.
const STRANGER: &str = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";

/// What a table needs beside the key in question, so that its reader gets as far as that
/// key: the table's name, then a key with its value, and the keys in question for which it
/// is left out.
const WITH: &[(&str, &str, &str, &[&str])] = &[
    ("the config", "listener", "[{ address = \"127.0.0.1:7000\" }]", &[]),
    ("the config", "cluster", "[{ name = \"a\", endpoints = [\"127.0.0.1:1\"] }]", &[]),
    ("the config", "route", "[{ to = \"a\" }]", &[]),
    ("[[listener]]", "address", "\"127.0.0.1:7000\"", &[]),
    ("tls of a listener", "client-ca", "\"ca.crt\"", &[]),
    ("[[cluster]]", "name", "\"a\"", &[]),
    ("[[cluster]]", "endpoints", "[\"127.0.0.1:1\"]", &["discover"]),
    ("discover", "dns", "\"a:1\"", &["srv", "file"]),
    ("an endpoint", "address", "\"127.0.0.1:1\"", &[]),
    ("balance", "hash", "\"key\"", &["maglev"]),
    ("health", "every", "\"60s\"", &[]),
    ("[[route]]", "to", "\"a\"", &["deny", "redirect", "respond"]),
    ("[[route]]", "match", "{ protocol = \"http\" }", &[]),
    ("a target", "cluster", "\"a\"", &[]),
    ("a limit", "rate", "\"1/s\"", &[]),
    ("a limit", "by", "\"source.ip\"", &[]),
    ("a fault", "reset", "true", &["delay", "abort", "bandwidth"]),
    ("a mirror", "cluster", "\"a\"", &[]),
    ("[[access-log]]", "to", "\"stdout\"", &[]),
    // One step comes after the other.
    ("[overload]", "close-idle", "10", &[]),
    ("[overload]", "stop-accepting", "100", &["shed"]),
    ("[overload]", "stop-accepting", "10", &OTHERS),
    ("[overload]", "shed", "100", &[]),
    ("[overload]", "per-source", "7", &[]),
    ("redirect", "to", "\"/\"", &[]),
    ("respond", "body", "\"x\"", &[]),
];

/// The keys of `[overload]` but `shed`.
const OTHERS: [&str; 8] = [
    "memory",
    "descriptors",
    "close-idle",
    "stop-accepting",
    "per-source",
    "per-source-prefix",
    "trusted",
    STRANGER,
];

/// A config with one key in question, and where its value begins.
struct Question {
    text: String,
    at: usize,
}

impl Question {
    fn new(place: &Place, key: &str, value: &str) -> Self {
        let root = "the config";
        let mut body = format!("{key} = \u{1}");
        let mut table = place.table.name;
        let mut key = key;
        let mut all = tables(&Registry::builtin());
        let mut path = place.path.clone();
        loop {
            for (_, name, value, unless) in WITH.iter().filter(|(of, ..)| *of == table) {
                if *name != key && !unless.contains(&key) {
                    let comma = if table == root { "\n" } else { ", " };
                    body = format!("{name} = {value}{comma}{body}");
                }
            }
            let Some((above, array)) = path.pop() else { break };
            body = match array {
                true => format!("{above} = [{{ {body} }}]"),
                false => format!("{above} = {{ {body} }}"),
            };
            key = above;
            all.retain(|other| other.path.len() <= path.len());
            let parent = all.iter().find(|other| other.path == path);
            table = parent.expect("every table is in a table").table.name;
        }
        let at = body.find('\u{1}').expect("the value's place");
        Self { text: body.replace('\u{1}', value), at }
    }

    /// What the readers say of it; those at the value, and all.
    fn answers(&self) -> (Vec<String>, Vec<String>) {
        let resolve = |_: &str| Err(std::io::Error::other("no such host"));
        let found = compile_with(&self.text, "p.toml", &Registry::builtin(), &resolve);
        let found = found.err().unwrap_or_default();
        let before = &self.text[..self.at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let say = |found: &crate::config::Diagnostic| {
            format!("{} [{}]", found.message, found.help.as_deref().unwrap_or_default())
        };
        let here = found.iter().filter(|found| (found.line, found.column) == (line, column));
        (here.map(say).collect(), found.iter().map(say).collect())
    }
}

/// Where to write what is missing.
fn advice(table: &Table, key: &str) -> String {
    format!(
        "add Key::new(\"{key}\", Shape::…, \"what it does.\") to {} (proxy/src/config/schema/), and \
         what its reader cannot do without to WITH in tests.rs there; then write the file again: \
         cargo run -q -- schema > docs/polyport.schema.json",
        table.place
    )
}

/// The keys that a reader names where it is shown a stranger.
fn taken(complaints: &[String]) -> Option<BTreeSet<String>> {
    let mark = format!("unknown key `{STRANGER}` [");
    let help = complaints.iter().find_map(|line| line.strip_prefix(&mark))?;
    let (_, list) = help.trim_end_matches(']').split_once(" has ")?;
    Some(list.split(", ").map(str::to_owned).collect())
}

#[test]
fn the_readers_take_the_keys_of_the_description_and_no_others() {
    let registry = Registry::builtin();
    let mut wrong = Vec::new();
    for place in tables(&registry) {
        let (name, table) = (place.table.name, place.table);
        let question = Question::new(&place, STRANGER, "1");
        let (_, all) = question.answers();
        let Some(taken) = taken(&all) else {
            wrong.push(format!(
                "the reader of {name} does not complain of an unknown key: does {:?} exist still? \
                 It said {all:#?} of\n{}",
                place.path, question.text
            ));
            continue;
        };
        // What protocols add to a table is taken with their name only.
        let own: BTreeSet<String> = table.keys.iter().map(|key| key.name.to_owned()).collect();
        for key in taken.difference(&own) {
            let advice = advice(table, key);
            wrong.push(format!("{name}: its reader takes `{key}`, not described: {advice}"));
        }
        for key in own.difference(&taken) {
            wrong.push(format!(
                "{name}: `{key}` is described, but its reader does not take it: remove it from {}",
                table.place
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The sorts of values that TOML has.
const SORTS: [(&str, &str); 7] = [
    ("a string", "\"~\""),
    ("a number", "7"),
    ("a number with a fraction", "1.5"),
    ("true or false", "true"),
    ("a date", "1979-05-27"),
    ("an array", "[\"~\"]"),
    ("a table", "{ qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq = 1 }"),
];

/// The sorts that a shape allows.
fn sorts(shape: &Shape) -> BTreeSet<&'static str> {
    match shape {
        Shape::Text
        | Shape::Duration
        | Shape::Rate
        | Shape::Bandwidth
        | Shape::Words(_)
        | Shape::Protocol(_)
        | Shape::Check => ["a string"].into(),
        Shape::Flag => ["true or false"].into(),
        Shape::Whole(..) | Shape::OneOf(_) => ["a number"].into(),
        Shape::Number(..) => ["a number", "a number with a fraction"].into(),
        Shape::Size => ["a string", "a number"].into(),
        Shape::Values => ["a string", "a number", "an array"].into(),
        Shape::Array(..) => ["an array"].into(),
        Shape::Table(_)
        | Shape::Labels
        | Shape::Texts
        | Shape::Pairs
        | Shape::Match
        | Shape::Logged => ["a table"].into(),
        Shape::Either(shapes) => shapes.iter().flat_map(sorts).collect(),
        Shape::Matcher => ["a string", "a number", "true or false", "an array", "a table"].into(),
    }
}

#[test]
fn the_readers_take_the_sorts_of_values_that_are_described() {
    let registry = Registry::builtin();
    let mut wrong = Vec::new();
    for place in tables(&registry) {
        for key in place.table.keys {
            let allowed = sorts(&key.shape);
            for (sort, value) in SORTS {
                let question = Question::new(&place, key.name, value);
                let (here, _) = question.answers();
                let refused = here.iter().any(|line| {
                    line.starts_with("expected ") && line.contains(&format!(", found {sort} "))
                });
                let (name, key, text) = (place.table.name, key.name, &question.text);
                let place = place.table.place;
                if allowed.contains(sort) && refused {
                    wrong.push(format!(
                        "{name}: `{key}` is described as taking {sort}, its reader does not: \
                         mend its Shape in {place}, or the reader: {here:?}\n{text}"
                    ));
                } else if !allowed.contains(sort) && here.is_empty() {
                    wrong.push(format!(
                        "{name}: the reader of `{key}` takes {sort}, its Shape in {place} does \
                         not say so\n{text}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Values that are fine, and such that are not, of the right sort.
fn samples(shape: &Shape) -> (Vec<String>, Vec<String>) {
    let quoted = |words: &[&str]| words.iter().map(|word| format!("\"{word}\"")).collect();
    match shape {
        Shape::Duration => {
            (quoted(&["40s", "40000ms", "1m", "40 s"]), quoted(&["5", "5 days", "-5s", "soon"]))
        }
        Shape::Size => {
            let mut fine: Vec<String> = quoted(&["64KiB", "512 B", "1MiB"]);
            fine.push("4096".into());
            let mut not: Vec<String> = quoted(&["64KB", "many"]);
            not.push("0".into());
            (fine, not)
        }
        Shape::Rate => (quoted(&["100/s", "5 / m", "1/h"]), quoted(&["100", "1/d", "/s"])),
        Shape::Bandwidth => (quoted(&["100KiB/s", "1MiB/s"]), quoted(&["100KiB", "fast"])),
        Shape::Words(words) => (quoted(words), quoted(&["~"])),
        Shape::Protocol(more) => {
            let names =
                Registry::builtin().protocols().iter().map(|p| p.name()).collect::<Vec<_>>();
            // In an array where no other word may stand.
            let all: Vec<String> = quoted(&[more, &names[..]].concat());
            (all, quoted(&["~"]))
        }
        Shape::Check => (quoted(&["redis", "dubbo", "thrift"]), quoted(&["tls", "~"])),
        Shape::Whole(least, most) => {
            let not = std::iter::once(most + 1).chain(least.checked_sub(1));
            (vec![least.to_string(), most.to_string()], not.map(|n| n.to_string()).collect())
        }
        Shape::Number(least, most) => (
            vec![format!("{least:?}"), format!("{most:?}")],
            vec![format!("{:?}", least - 0.25), format!("{:?}", most + 0.25)],
        ),
        Shape::Either(shapes) => {
            let (mut fine, mut not) = (Vec::new(), Vec::new());
            for shape in *shapes {
                let (good, bad) = samples(shape);
                fine.extend(good);
                // What one refuses another may take.
                let others = shapes.iter().filter(|other| !std::ptr::eq(*other, shape));
                let alone = others.flat_map(sorts).all(|sort| !sorts(shape).contains(sort));
                not.extend(bad.into_iter().filter(|_| alone));
            }
            (fine, not)
        }
        Shape::Array(of, ..) => {
            let (fine, not) = samples(of);
            let array = |all: Vec<String>| all.into_iter().map(|one| format!("[{one}]")).collect();
            (array(fine), array(not))
        }
        _ => (Vec::new(), Vec::new()),
    }
}

#[test]
fn the_readers_take_the_words_and_bounds_that_are_described() {
    let registry = Registry::builtin();
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for place in tables(&registry) {
        for key in place.table.keys {
            let (fine, not) = samples(&key.shape);
            for (value, good) in
                fine.into_iter().map(|v| (v, true)).chain(not.into_iter().map(|v| (v, false)))
            {
                asked += 1;
                let mut question = Question::new(&place, key.name, &value);
                // What is wrong with an element is told where that stands.
                if value.starts_with('[') {
                    question.at += 1;
                }
                let (here, _) = question.answers();
                if good != here.is_empty() {
                    let say = if good { "refuses" } else { "takes" };
                    wrong.push(format!(
                        "{}: the reader of `{}` {say} {value}, unlike its Shape in {}: {here:?}\n{}",
                        place.table.name, key.name, place.table.place, question.text
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(asked > 300, "{asked} questions");
}

#[test]
fn what_must_be_given_is_missed_by_the_readers() {
    let registry = Registry::builtin();
    let mut wrong = Vec::new();
    for place in tables(&registry).iter().filter(|place| !place.path.is_empty()) {
        for key in place.table.keys.iter().filter(|key| key.required) {
            // All that the table needs but this.
            let mut question = Question::new(place, key.name, "\"x\"");
            let key_at = question.text[..question.at].rfind(key.name).expect("the key");
            question.text.replace_range(key_at..question.at + 3, "");
            let text = question.text.replace(", }", " }");
            let (_, all) = Question { text: text.clone(), at: 0 }.answers();
            let words = format!("without `{}`", key.name);
            let certificates = "tls without a certificate";
            if !all.iter().any(|line| line.contains(&words) || line.contains(certificates)) {
                let place = place.table.place;
                wrong.push(format!("{place}: `{}` is no must: {all:?}\n{text}", key.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn matchers_have_the_ways_that_are_described() {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:7000\"\n[[route]]\ndeny = true\nmatch = {{ path = {{ prefix = \"/\", {STRANGER} = 1 }} }}\n"
    );
    let (_, all) = Question { text, at: 0 }.answers();
    let own: BTreeSet<String> = matcher().keys.iter().map(|key| key.name.to_owned()).collect();
    assert_eq!(taken(&all), Some(own), "MATCHER in routes.rs");
}

#[test]
fn everything_is_described_in_sentences_with_defaults_that_fit() {
    let registry = Registry::builtin();
    for place in tables(&registry) {
        let mut names = BTreeSet::new();
        assert!(place.table.about.ends_with('.'), "{}", place.table.name);
        for key in place.table.keys {
            let Key { name, shape, default, required, about } = *key;
            let what = format!("{}: `{name}`", place.table.name);
            assert!(names.insert(name), "{what} twice");
            assert!(about.ends_with('.') && about.len() > 8, "{what}: {about}");
            if default.is_empty() {
                continue;
            }
            assert!(!required, "{what} must be given and has a default");
            let value: serde_json::Value = serde_json::from_str(default).expect(&what);
            let sort = match value {
                serde_json::Value::String(_) => "a string",
                serde_json::Value::Bool(_) => "true or false",
                serde_json::Value::Array(_) => "an array",
                _ => "a number",
            };
            assert!(sorts(&shape).contains(sort), "{what}: {default}");
        }
    }
}

/// The rows of the documentation that say something else than `default`.
#[test]
fn defaults_are_those_of_the_documentation() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let docs = std::fs::read_to_string(docs).expect("the documentation");
    for place in tables(&Registry::builtin()) {
        for key in place.table.keys.iter().filter(|key| !key.default.is_empty()) {
            let start = format!("| `{}` | ", key.name);
            let rows: Vec<&str> = docs.lines().filter(|line| line.starts_with(&start)).collect();
            let plain = |text: &str| text.replace(['`', '"', ' '], "");
            let told = rows.iter().any(|row| {
                let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
                plain(cell) == plain(key.default)
            });
            assert!(
                told,
                "{}: {} has the default {}, of which no row of docs/configuration.md tells: {rows:?}",
                place.table.place, key.name, key.default
            );
        }
    }
}

#[test]
fn the_file_in_the_documentation_is_current() {
    let file =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/polyport.schema.json");
    let written = std::fs::read_to_string(file).expect("docs/polyport.schema.json");
    let now = serde_json::to_string_pretty(&super::json::schema(&Registry::builtin()));
    assert!(
        written.trim_end() == now.expect("JSON"),
        "docs/polyport.schema.json is old: cargo run -q -- schema > docs/polyport.schema.json"
    );
}
