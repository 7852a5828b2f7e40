//! A `match` by itself: what somebody who watches messages asks for.

use polyport_codecs::{Interest, Registry};
use polyport_router::Matcher;

use super::matchers;
use super::reader::{Reader, Source};

/// What must hold of each key, keys as they were written; or what is wrong with `text`,
/// which is the inside of a route's `match` table: `protocol = "redis", key = { prefix = "a" }`.
///
/// # Errors
/// Every mistake, with its place in `text` and what to write instead.
pub fn filter(text: &str, registry: &Registry) -> Result<Vec<(String, Matcher)>, String> {
    // A line of its own may hold the table that a config would have, too.
    let inside = text.trim();
    let inside = inside.strip_prefix("match").map_or(inside, |rest| rest.trim_start());
    let inside = inside.strip_prefix('=').map_or(inside, str::trim);
    let inside = inside.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(inside);
    let line = format!("match = {{ {inside} }}");
    let source = Source::new(&line, "match");
    let parsed = toml::de::DeTable::parse(&line);
    let mut all = Vec::new();
    match &parsed {
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            let help = "write it as in a route: protocol = \"redis\", key = { prefix = \"user:\" }";
            source.error(span, error.message().trim().to_owned(), Some(help.into()));
        }
        Ok(root) => {
            let mut interest = Interest::nothing();
            let root = Reader::new(&source, root.get_ref(), root.span(), "the filter");
            root.finish(&["match"]);
            if let Some(section) = root.section("match", "match") {
                let predicates = matchers::predicates(&section, registry, &mut interest);
                let names: Vec<&str> = interest.names().collect();
                all.extend(predicates.into_iter().filter_map(|predicate| {
                    let name = names.get(usize::from(predicate.slot.0))?;
                    Some(((*name).to_owned(), predicate.matcher))
                }));
            }
        }
    }
    if source.failed() {
        let found: Vec<String> = source.finish().iter().map(ToString::to_string).collect();
        return Err(found.join("\n\n"));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_what_a_route_matches_by() {
        let registry = Registry::builtin();
        for text in [
            "protocol = \"redis\", key = { prefix = \"user:\" }",
            "{ protocol = \"redis\", key = { prefix = \"user:\" } }",
            "match = { protocol = \"redis\", key = { prefix = \"user:\" } }",
        ] {
            let all = filter(text, &registry).expect(text);
            let keys: Vec<&str> = all.iter().map(|(key, _)| key.as_str()).collect();
            assert_eq!(keys, ["key", "protocol"]);
            assert!(all.iter().all(|(_, matcher)| !matcher.matches(Some(b"other"))));
        }
        assert!(filter("  ", &registry).expect("nothing is asked").is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_filter_is_said() {
        let registry = Registry::builtin();
        let cases = [
            ("protocol = \"rediss\"", "unknown protocol `rediss`"),
            ("protocol = redis", "match:1:"),
            ("kee = \"a\"", "no protocol has a key `kee`"),
            ("} \n other = { a = 1 ", "unknown key `other`"),
        ];
        for (text, wanted) in cases {
            let complaint = filter(text, &registry).expect_err(text);
            assert!(complaint.contains(wanted), "{text}: {complaint}");
        }
    }
}
