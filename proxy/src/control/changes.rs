//! What one config says and another does not, in words.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::config::{Outline, Said, blot};

/// How two configs differ, section by section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// One line each: `cluster "orders": balance "ewma", was "random"`.
    pub lines: Vec<String>,
    /// Sections that only the new config has.
    pub added: usize,
    /// Sections that only the old config has.
    pub removed: usize,
    /// Sections that say something else.
    pub changed: usize,
    /// What takes effect only when the process is started anew or upgraded.
    pub later: Vec<String>,
}

/// Settings that a running process keeps.
const KEPT: [&str; 6] = ["workers", "user", "group", "admin", "metrics.buckets", "metrics.series"];

impl Changes {
    /// What has to be done to `old` to get `new`.
    pub fn between(old: &Outline, new: &Outline) -> Self {
        let mut all = Self::default();
        let settings = difference(&old.settings, &new.settings);
        all.changed += usize::from(!settings.is_empty());
        all.lines.extend(settings);
        for key in KEPT {
            if said_of(&old.settings, key) != said_of(&new.settings, key) {
                all.later.push(format!("`{key}` changes with the next start or upgrade"));
            }
        }
        all.sections("listener", &old.listeners, &new.listeners);
        all.sections("cluster", &old.clusters, &new.clusters);
        all.sections("route", &old.routes, &new.routes);
        let both = |order: &[String], other: &BTreeMap<String, Said>| -> Vec<String> {
            order.iter().filter(|name| other.contains_key(*name)).cloned().collect()
        };
        if both(&old.order, &new.routes) != both(&new.order, &old.routes) {
            all.changed += 1;
            all.lines.push("the order of routes changes".to_owned());
        }
        all
    }

    /// Whether both say the same.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn sections(&mut self, what: &str, old: &BTreeMap<String, Said>, new: &BTreeMap<String, Said>) {
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            self.removed += 1;
            self.lines.push(format!("- {what} {name:?}"));
        }
        for (name, said) in new {
            match old.get(name) {
                None => {
                    self.added += 1;
                    self.lines.push(format!("+ {what} {name:?}"));
                }
                Some(before) if before != said => {
                    self.changed += 1;
                    let lines = difference(before, said);
                    self.lines.extend(lines.into_iter().map(|line| {
                        format!("~ {what} {name:?}: {}", line.trim_start_matches("~ "))
                    }));
                }
                Some(_) => {}
            }
        }
    }
}

/// What is said of a key, or within a table.
fn said_of<'a>(settings: &'a Said, key: &str) -> Vec<(&'a String, &'a String)> {
    let within = |name: &str| {
        name.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    settings.iter().filter(|(name, _)| within(name)).collect()
}

fn difference(old: &Said, new: &Said) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, was) in old {
        match new.get(key) {
            None => lines.push(format!("~ no {key}, was {}", shown(key, was))),
            Some(now) if now != was => {
                lines.push(format!("~ {key} {}, was {}", shown(key, now), shown(key, was)));
            }
            Some(_) => {}
        }
    }
    let added = new.iter().filter(|(key, _)| !old.contains_key(*key));
    lines.extend(added.map(|(key, now)| format!("~ {key} {}, was not there", shown(key, now))));
    lines
}

/// A value, unless it is too long to read or may hold a secret.
fn shown(key: &str, value: &str) -> String {
    const LONGEST: usize = 120;
    let lower = value.to_ascii_lowercase();
    if key == "health" && lower.contains("password") {
        return "(with a password)".to_owned();
    }
    let (line, _) = blot(&format!("{key} = {value}"));
    let value = line.get(key.len() + 3..).unwrap_or_default();
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
        None => value.to_owned(),
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changes");
        }
        let Self { added, removed, changed, .. } = self;
        write!(f, "{added} added, {removed} removed, {changed} changed")
    }
}

#[cfg(test)]
mod tests {
    use polyport_codecs::Registry;

    use super::*;
    use crate::config::compile;

    fn outline(toml: &str) -> Outline {
        let (snapshot, _) = compile(toml, "test.toml", &Registry::builtin())
            .unwrap_or_else(|errors| panic!("{}", errors[0]));
        (*snapshot.outline).clone()
    }

    const ONE: &str = r#"
        [[listener]]
        name = "edge"
        address = "127.0.0.1:1"
        [[cluster]]
        name = "a"
        endpoints = ["127.0.0.1:2"]
        [[route]]
        name = "x"
        match = { protocol = "redis" }
        to = "a"
        [[route]]
        name = "y"
        to = "a"
    "#;

    #[test]
    fn one_config_against_itself_is_no_change() {
        let changes = Changes::between(&outline(ONE), &outline(&format!("# more words\n{ONE}")));
        assert!(changes.is_empty(), "{changes:?}");
        assert_eq!(changes.to_string(), "nothing changes");
    }

    #[test]
    fn what_comes_goes_and_differs_is_told() {
        let two = ONE
            .replace("name = \"y\"", "name = \"z\"")
            .replace("[\"127.0.0.1:2\"]", "[\"127.0.0.1:3\"]\nbalance = \"ewma\"");
        let two = format!("workers = 3\n{two}\n[admin]\naddress = \"127.0.0.1:9\"");
        let changes = Changes::between(&outline(ONE), &outline(&two));
        assert_eq!(
            changes.lines,
            [
                "~ admin.address \"127.0.0.1:9\", was not there",
                "~ workers 3, was not there",
                "~ cluster \"a\": endpoints [\"127.0.0.1:3\"], was [\"127.0.0.1:2\"]",
                "~ cluster \"a\": balance \"ewma\", was not there",
                "- route \"y\"",
                "+ route \"z\"",
            ]
        );
        assert_eq!(changes.to_string(), "1 added, 1 removed, 2 changed");
        assert_eq!(changes.later.len(), 2);
    }

    #[test]
    fn changes_tell_no_secret() {
        let with = |secret: &str| {
            let change =
                format!("request = {{ set = {{ \"header.authorization\" = \"{secret}\" }} }}");
            let typed = "match = { protocol = \"http\" }";
            outline(
                &format!("{ONE}[[route]]\nname = \"w\"\n{typed}\nto = \"a\"\n{change}")
                    .replace("name = \"y\"", "name = \"y\"\nmatch = { protocol = \"dubbo\" }"),
            )
        };
        let changes = Changes::between(&with("hunter1"), &with("hunter2"));
        assert_eq!(changes.lines.len(), 1, "{:?}", changes.lines);
        assert!(!changes.lines[0].contains("hunter"), "{:?}", changes.lines);
    }

    #[test]
    fn another_order_of_routes_is_a_change() {
        let mut two = outline(ONE);
        two.order.reverse();
        let changes = Changes::between(&outline(ONE), &two);
        assert_eq!(changes.lines, ["the order of routes changes"]);
    }
}
