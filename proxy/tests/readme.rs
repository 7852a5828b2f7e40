//! What the README says is so: its tables of keys are the codecs' own, its
//! example and those in `examples/` compile. `UPDATE_README=1` writes the tables anew.

#![allow(clippy::expect_used, reason = "a test")]

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
            all.push((path.display().to_string(), text));
        }
    }
    assert!(all.len() > 1);
    for (name, text) in all {
        match config::compile(&text, &name, &Registry::builtin()) {
            Ok((_, warnings)) => assert_eq!(warnings, [], "{name}"),
            Err(errors) => assert_eq!(errors, [], "{name}"),
        }
    }
}
