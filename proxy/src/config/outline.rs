//! What a config says, section by section, in a form that two configs can be compared by:
//! no comments, no places, no order of keys.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::de::{DeTable, DeValue};

use super::reader::Reader;

/// The keys of one section, each with its value written one way only.
pub type Said = BTreeMap<String, String>;

/// All sections of a config. Sections without a name of their own go by what the proxy
/// calls them in logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// `workers`, `[defaults]`, `[limits]` and whatever else there is once.
    pub settings: Said,
    /// `[[listener]]`, by name.
    pub listeners: BTreeMap<String, Said>,
    /// `[[cluster]]`, by name.
    pub clusters: BTreeMap<String, Said>,
    /// `[[route]]`, by name.
    pub routes: BTreeMap<String, Said>,
    /// The routes' names in file order: the first that matches wins.
    pub order: Vec<String>,
}

impl Outline {
    /// What was said of `key` of this cluster.
    pub fn of_cluster(&self, name: &str, key: &str) -> Option<&str> {
        self.clusters.get(name)?.get(key).map(String::as_str)
    }

    /// What was said of `key` of this route.
    pub fn of_route(&self, name: &str, key: &str) -> Option<&str> {
        self.routes.get(name)?.get(key).map(String::as_str)
    }
}

/// What a section says.
pub(super) fn said(section: &Reader<'_, '_>) -> Said {
    section.entries().map(|(key, _, value)| (key.to_owned(), text(value.get_ref()))).collect()
}

/// What a config says once, outside of its lists of listeners, clusters and routes.
pub(super) fn settings(root: &DeTable<'_>) -> Said {
    let lists = ["listener", "cluster", "route"];
    let mut said = Said::new();
    for (key, value) in root.iter().map(|(key, value)| (key.get_ref(), value.get_ref())) {
        match value {
            _ if lists.contains(&key.as_ref()) => {}
            DeValue::Table(table) => {
                let inner = table.iter().map(|(name, value)| {
                    (format!("{key}.{}", name.get_ref()), text(value.get_ref()))
                });
                said.extend(inner);
            }
            value => {
                said.insert(key.to_string(), text(value));
            }
        }
    }
    said
}

/// A value written one way only.
fn text(value: &DeValue<'_>) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &DeValue<'_>, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = match value {
        DeValue::String(text) => write!(out, "{text:?}"),
        DeValue::Integer(number) => write!(out, "{number}"),
        DeValue::Float(number) => write!(out, "{number}"),
        DeValue::Boolean(truth) => write!(out, "{truth}"),
        DeValue::Datetime(time) => write!(out, "{time}"),
        DeValue::Array(array) => {
            out.push('[');
            for (at, value) in array.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                write(value.get_ref(), out);
            }
            out.push(']');
            Ok(())
        }
        DeValue::Table(table) => {
            let sorted: BTreeMap<&str, &DeValue<'_>> = table
                .iter()
                .map(|(key, value)| (key.get_ref().as_ref(), value.get_ref()))
                .collect();
            out.push('{');
            for (at, (key, value)) in sorted.into_iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                out.push_str(key);
                out.push_str(" = ");
                write(value, out);
            }
            out.push('}');
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(toml: &str) -> Said {
        settings(DeTable::parse(toml).expect("TOML").get_ref())
    }

    #[test]
    fn order_of_keys_comments_and_spelling_make_no_difference() {
        let one = of(
            "zone = \"a\"\n[limits]\nhead = '64KiB' # so much\n[x]\ny = { b = 1, a = [1, 'z'] }",
        );
        let two = of("[x]\ny = { a = [1, \"z\"], b = 1 }\n[limits]\n\nhead = \"64KiB\"");
        assert_eq!(one.get("x.y"), two.get("x.y"));
        assert_eq!(one.get("x.y").map(String::as_str), Some("{a = [1, \"z\"], b = 1}"));
        assert_eq!(one.get("limits.head"), two.get("limits.head"));
        assert_eq!((one.len(), two.len()), (3, 2));
    }

    #[test]
    fn lists_of_sections_are_no_settings() {
        assert!(of("[[route]]\nto = 'a'\n[[cluster]]\nname = 'a'").is_empty());
    }
}
