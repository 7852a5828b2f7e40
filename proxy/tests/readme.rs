//! What the README says is so: its tables of keys are the codecs' own, its
//! example and those in `examples/` compile. `UPDATE_README=1` writes the tables anew.

#![allow(clippy::expect_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;

use polyport::config;
use polyport_codecs::{KeySpec, Registry};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn table(keys: &[KeySpec]) -> String {
    let mut text = String::from("| key | what it is | for example |\n| --- | --- | --- |\n");
    for key in keys {
        let name = if key.family { format!("{}NAME", key.name) } else { key.name.to_owned() };
        text += &format!("| `{name}` | {} | `{}` |\n", key.about, key.example);
    }
    text
}

#[test]
fn the_tables_of_keys_are_the_codecs_own() {
    let path = root().join("README.md");
    let readme = std::fs::read_to_string(&path).expect("the README");
    let mut tables = format!("**the proxy itself**\n\n{}", table(config::FACTS));
    for protocol in Registry::builtin().protocols() {
        tables += &format!("\n**{}**\n\n{}", protocol.name(), table(protocol.keys()));
    }
    let (before, rest) = readme.split_once("<!-- keys -->\n").expect("the mark");
    let (had, after) = rest.split_once("<!-- /keys -->").expect("the other mark");
    if std::env::var_os("UPDATE_README").is_some() {
        let new = format!("{before}<!-- keys -->\n{tables}<!-- /keys -->{after}");
        std::fs::write(&path, new).expect("written");
        return;
    }
    assert_eq!(had, tables, "run: UPDATE_README=1 cargo test -p polyport --test readme");
}

#[test]
fn the_examples_compile_without_a_warning() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let example = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let mut all = vec![("README.md".to_owned(), example.expect("an example").to_owned())];
    for entry in std::fs::read_dir(root().join("examples")).expect("examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).expect("text");
            // Those that need certificates are tried end to end, where some are made.
            if text.contains("certificates = ") {
                continue;
            }
            all.push((path.display().to_string(), text));
        }
    }
    assert!(all.len() > 3);
    for (name, text) in all {
        match config::compile(&text, &name, &Registry::builtin()) {
            Ok((_, warnings)) => assert_eq!(warnings, [], "{name}"),
            Err(errors) => assert_eq!(errors, [], "{name}"),
        }
    }
}

/// What the config's readers take, by their own lists.
fn known_keys() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("proxy/src/config")).expect("the readers") {
        let path = entry.expect("an entry").path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let marks = ["finish(&[", "known: &[&str] =", "const WAYS: &[&str] ="];
        for list in marks.iter().flat_map(|mark| text.split(mark).skip(1)) {
            let list = list.split(';').next().unwrap_or_default();
            let list = list.split("])").next().unwrap_or_default();
            let words = list.split('"').skip(1).step_by(2).map(str::to_owned);
            keys.extend(words.filter(|word| !word.contains(' ')));
        }
    }
    keys
}

#[test]
fn every_key_of_a_config_is_documented() {
    let path = root().join("docs/configuration.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let keys = known_keys();
    assert!(keys.len() > 60, "{keys:?}");
    let cells: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next())
        .fold(String::from("`"), |all, cell| all + cell + " `");
    for key in keys {
        let section = [
            "listener",
            "cluster",
            "route",
            "defaults",
            "limits",
            "admin",
            "access",
            "overload",
            "reload",
            "access-log",
            "metrics",
        ];
        let shown = match section.contains(&key.as_str()) {
            true => {
                text.contains(&format!("\n## `[{key}]`"))
                    || text.contains(&format!("\n## `[[{key}]]`"))
            }
            false => cells.contains(&format!("`{key}`")),
        };
        assert!(shown, "`{key}` is not in docs/configuration.md");
    }
}
