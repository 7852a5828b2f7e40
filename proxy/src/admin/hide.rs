//! A config's text with its secrets hidden: values under metadata keys that speak of
//! secrets, values that look like one, and comments that mention any.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::observe::redact::{MASK, is_secret, looks_secret};

/// Keys of the config's own whose names only sound like secrets.
const OURS: &[&str] = &["session-timeout", "session", "client-auth"];

/// The text without secrets. A text that is no TOML is not shown at all.
pub(super) fn secrets(text: &str) -> String {
    let Ok(root) = DeTable::parse(text) else {
        return "# what stands here cannot be read as TOML\n".into();
    };
    let mut strings = Vec::new();
    table(root.get_ref(), "", false, &mut strings);
    strings.sort_by_key(|(span, _)| span.start);
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for (span, secret) in &strings {
        shown.push_str(&comments(text.get(at..span.start).unwrap_or_default()));
        if *secret {
            shown.push('"');
            shown.push_str(MASK);
            shown.push('"');
        } else {
            shown.push_str(text.get(span.clone()).unwrap_or_default());
        }
        at = span.end.max(at);
    }
    shown.push_str(&comments(text.get(at..).unwrap_or_default()));
    shown
}

/// Notes where strings stand, keys too, and which of them are secret values.
fn table(table: &DeTable<'_>, path: &str, secret: bool, strings: &mut Vec<(Range<usize>, bool)>) {
    for (key, inner) in table {
        let name = key.get_ref().as_ref();
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        strings.push((key.span(), false));
        let secret = secret || (speaks_of_secrets(&path) && !OURS.contains(&name));
        value(inner.get_ref(), inner.span(), &path, secret, strings);
    }
}

/// Whether some end of a path is a secret's name: `match.header.x-api-key` by its last two.
fn speaks_of_secrets(path: &str) -> bool {
    let parts: Vec<&str> = path.split('.').collect();
    let own = |part: &&str| !OURS.contains(part);
    parts.last().is_some_and(own)
        && (0..parts.len()).any(|from| {
            parts.get(from..).is_some_and(|end| end.iter().all(own) && is_secret(&end.join(".")))
        })
}

fn value(
    inner: &DeValue<'_>,
    span: Range<usize>,
    path: &str,
    secret: bool,
    strings: &mut Vec<(Range<usize>, bool)>,
) {
    match inner {
        DeValue::Table(inner) => table(inner, path, secret, strings),
        DeValue::Array(all) => {
            for one in all {
                value(one.get_ref(), one.span(), path, secret, strings);
            }
        }
        DeValue::String(text) => {
            strings.push((span, secret || looks_secret(text.as_bytes())));
        }
        // A number may be a PIN.
        DeValue::Integer(_) | DeValue::Float(_) if secret => strings.push((span, true)),
        _ => {}
    }
}

/// What stands between strings, its comments without secrets.
fn comments(text: &str) -> String {
    let line = |line: &str| match line.split_once('#') {
        Some((before, comment)) if comment.split(WORDS).any(is_secret) => {
            let end = if line.ends_with('\n') { "\n" } else { "" };
            format!("{before}# {MASK}{end}")
        }
        _ => line.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}

/// What separates a comment's words.
const WORDS: &[char] = &[' ', '\t', '=', '"', '\'', ',', ':', '{', '}', '(', ')'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_all_else_stays() {
        let text = r##"# the edge
[defaults]
session-timeout = "5s" # long
[[listener]]
address = "0.0.0.0:7000"
tls = { certificates = [{ cert = "a.crt", key = "a.key" }] } # old password = "hunter2"
[[route]]
name = "# no comment"
match = { header.x-api-key = ["one", "two"], path = "/a", query.pin = 1234 }
to = "web" # token: abc
request = { set = { "header.authorization" = "Bearer x", header.x-a = "Basic eDp5" } }
"##;
        let shown = secrets(text);
        for secret in ["hunter2", "\"one\"", "\"two\"", "1234", "abc", "Bearer x", "eDp5"] {
            assert!(!shown.contains(secret), "{secret} in\n{shown}");
        }
        for kept in [
            "# the edge",
            "session-timeout = \"5s\" # long",
            "key = \"a.key\"",
            "name = \"# no comment\"",
            "path = \"/a\"",
            "to = \"web\" # ***",
            "header.x-api-key = [\"***\", \"***\"]",
        ] {
            assert!(shown.contains(kept), "no {kept} in\n{shown}");
        }
    }

    #[test]
    fn a_text_without_secrets_is_shown_as_it_is() {
        let text = include_str!("../cli/demo/demo.toml");
        let expected = text.replace("\"cookie.beta\" = \"yes\"", "\"cookie.beta\" = \"***\"");
        assert_eq!(secrets(text), expected);
    }

    #[test]
    fn no_key_of_the_config_s_own_is_taken_for_a_secret() {
        let docs = include_str!("../../../docs/configuration.md");
        let keys = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let wrong: Vec<&str> = keys
            .filter(|key| !key.contains(['.', '"', ' ']))
            .filter(|key| is_secret(key) && !OURS.contains(key))
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn what_is_no_config_is_not_shown() {
        assert!(!secrets("password = \"x").contains('x'));
    }
}
