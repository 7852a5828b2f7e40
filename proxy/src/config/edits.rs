//! `request`, `response`, `redirect` and `respond` of a route: changes to
//! messages and answers of our own. What a protocol cannot do is refused here,
//! with what it can.

use std::ops::Range;

use polyport_codecs::{Answer, Interest, Mutable, Protocol, Registry, ReplyTo, Side};
use toml::de::DeValue;

use super::matchers::known_key;
use super::reader::{Reader, Value};
use crate::edit::{Edit, Edits, How, MOST, Reply, Template};

/// The protocols that a route's messages may have, by its `match`; `None`: any.
pub(super) fn protocols(
    route: &Reader<'_, '_>,
    registry: &Registry,
) -> Option<Vec<&'static dyn Protocol>> {
    Some(names(route)?.iter().filter_map(|name| registry.get(name)).collect())
}

/// The names in a route's `match.protocol`, where it has any.
pub(super) fn names<'t>(route: &Reader<'_, 't>) -> Option<Vec<&'t str>> {
    let when = route.section("match", "match")?;
    Some(match when.get("protocol")?.get_ref() {
        DeValue::String(name) => vec![name.as_ref()],
        DeValue::Array(array) => array
            .iter()
            .filter_map(|value| match value.get_ref() {
                DeValue::String(name) => Some(name.as_ref()),
                _ => None,
            })
            .collect(),
        _ => return None,
    })
}

/// What a route's section is read with.
pub(super) struct Context<'a, 's, 't> {
    pub(super) route: &'a Reader<'s, 't>,
    pub(super) name: &'a str,
    pub(super) registry: &'a Registry,
    pub(super) interest: &'a mut Interest,
}

impl Context<'_, '_, '_> {
    fn error(&self, span: Range<usize>, message: String, help: Option<String>) {
        self.route.source.error(span, message, help);
    }

    /// The protocols that have to be able to do what is asked at `span`.
    fn bound_to(
        &self,
        span: &Range<usize>,
        what: &str,
        able: impl Fn(&dyn Protocol) -> bool,
    ) -> Vec<&'static dyn Protocol> {
        let opaque = names(self.route).is_some_and(|names| names.contains(&super::TCP));
        let message = match protocols(self.route, self.registry) {
            Some(protocols) if !opaque => return protocols,
            Some(_) => format!("`{what}` on bytes that are not decoded"),
            None => format!("a route with `{what}` must say which protocol it is for"),
        };
        let able = self.registry.protocols().iter().filter(|known| able(**known));
        let able: Vec<String> = able.map(|known| format!("\"{}\"", known.name())).collect();
        let help = match &able[..] {
            [only] => format!("write protocol = {only} in its match"),
            _ => format!("write protocol = one of {} in its match", able.join(", ")),
        };
        self.error(span.clone(), message, Some(help));
        Vec::new()
    }

    fn template(&mut self, text: &str, span: Range<usize>) -> Option<Template> {
        let (source, registry) = (self.route.source, self.registry);
        let named = protocols(self.route, registry);
        let only = match named.as_deref() {
            Some([only]) => Some(only.name()),
            _ => None,
        };
        let (interest, route) = (&mut *self.interest, self.name);
        let known = |key: &str| (key == "route").then(|| route.to_owned());
        let parsed = Template::parse(text, known, |key| {
            known_key(source, registry, only, key, span.clone()).then(|| interest.add(key))
        });
        match parsed {
            Ok(template) => Some(template),
            // An unknown key was told of where it was looked for.
            Err(why) if why.starts_with("no key") => None,
            Err(why) => {
                source.error(span, why, None);
                None
            }
        }
    }

    /// `request` and `response`.
    pub(super) fn edits(&mut self) -> Edits {
        Edits {
            request: self.side("request", Side::Request),
            response: self.side("response", Side::Reply),
        }
    }

    fn side(&mut self, key: &'static str, side: Side) -> Vec<Edit> {
        let Some(section) = self.route.section(key, key) else { return Vec::new() };
        let request = side == Side::Request;
        let known: &[&str] = if request {
            &["set", "append", "remove", "replace-prefix"]
        } else {
            &["set", "append", "remove"]
        };
        section.finish(known);
        let mut edits = Vec::new();
        for how in ["set", "append"] {
            let Some(table) = section.section(how, "a table of keys and values") else { continue };
            for (key, span, value) in flatten(&table) {
                let DeValue::String(text) = value.get_ref() else {
                    table.wrong(value, "a string");
                    continue;
                };
                let append = how == "append";
                if !self.can(&key, &span, side, append, false) {
                    continue;
                }
                let Some(template) = self.template(text, value.span()) else { continue };
                let how = if append { How::Append(template) } else { How::Set(template) };
                edits.push(Edit { key: key.to_ascii_lowercase().into(), how });
            }
        }
        if let Some(value) = section.get("remove") {
            let DeValue::Array(array) = value.get_ref() else {
                section.wrong(value, "an array of keys");
                return edits;
            };
            for value in array {
                let DeValue::String(key) = value.get_ref() else {
                    section.wrong(value, "a key");
                    continue;
                };
                if self.can(key, &value.span(), side, false, true) {
                    let key = key.to_ascii_lowercase().into();
                    edits.push(Edit { key, how: How::Remove });
                }
            }
        }
        if request && let Some(table) = section.section("replace-prefix", "replace-prefix") {
            for (key, span, value) in flatten(&table) {
                if self.can(&key, &span, side, false, false)
                    && let Some([from, to]) = pair(&table, value)
                {
                    let how = How::Prefix { slot: self.interest.add(&key), from, to };
                    edits.push(Edit { key: key.to_ascii_lowercase().into(), how });
                }
            }
        }
        if edits.len() > MOST {
            let message = format!("{} changes, where {MOST} are allowed", edits.len());
            self.error(section.span.clone(), message, None);
            edits.truncate(MOST);
        }
        edits
    }

    /// Whether every protocol of the route can make this change; complains where one cannot.
    fn can(&self, key: &str, span: &Range<usize>, side: Side, append: bool, remove: bool) -> bool {
        let section = if side == Side::Request { "request" } else { "response" };
        let bound = self.bound_to(span, section, |known| {
            known.mutable().iter().any(|mutable| mutable.on(side))
        });
        let word = if side == Side::Request { "requests" } else { "replies" };
        for protocol in &bound {
            let name = protocol.name();
            let fits = |mutable: &&Mutable| match mutable.family {
                true => {
                    key.len() > mutable.name.len()
                        && key
                            .get(..mutable.name.len())
                            .is_some_and(|start| start.eq_ignore_ascii_case(mutable.name))
                }
                false => key.eq_ignore_ascii_case(mutable.name),
            };
            let found = protocol.mutable().iter().find(fits);
            let message = match found {
                None => format!("{name} cannot change `{key}`"),
                Some(mutable) if !mutable.on(side) => {
                    format!("{name} cannot change `{key}` in {word}")
                }
                Some(mutable) if append && !mutable.append => {
                    format!("{name} has one value of `{key}`: none can be appended")
                }
                Some(mutable) if remove && !mutable.remove => {
                    format!("{name} cannot do without `{key}`")
                }
                Some(_) => match protocol.immutable(&key.to_ascii_lowercase()) {
                    None => continue,
                    Some(why) => {
                        let message = format!("{name} cannot change `{key}`");
                        self.error(span.clone(), message, Some(why.to_owned()));
                        return false;
                    }
                },
            };
            self.error(span.clone(), message, Some(self.instead(*protocol, side, append, remove)));
            return false;
        }
        !bound.is_empty()
    }

    /// What would work.
    fn instead(&self, protocol: &dyn Protocol, side: Side, append: bool, remove: bool) -> String {
        let show = |mutable: &Mutable| match mutable.family {
            true => format!("`{}NAME`", mutable.name),
            false => format!("`{}`", mutable.name),
        };
        let able = |mutable: &&Mutable| {
            mutable.on(side) && (!append || mutable.append) && (!remove || mutable.remove)
        };
        let verb = match (append, remove) {
            (true, _) => "append to",
            (_, true) => "remove",
            _ => "set",
        };
        let word = if side == Side::Request { "requests" } else { "replies" };
        let own: Vec<String> = protocol.mutable().iter().filter(able).map(show).collect();
        if !own.is_empty() {
            let name = protocol.name();
            return format!("in {word} of {name} a route can {verb} {}", own.join(" and "));
        }
        let others: Vec<&str> = self
            .registry
            .protocols()
            .iter()
            .filter(|other| other.mutable().iter().any(|mutable| able(&mutable)))
            .map(|other| other.name())
            .collect();
        let name = protocol.name();
        match others.is_empty() {
            true => format!("no protocol can {verb} anything in {word}"),
            false => format!(
                "nothing in {word} of {name} can be changed so; it can be for {}",
                others.join(", ")
            ),
        }
    }

    /// `redirect` or `respond`.
    pub(super) fn reply(&mut self) -> Option<Reply> {
        let found = match (self.route.get("redirect"), self.route.get("respond")) {
            (None, None) => return None,
            (Some(value), None) => (value.span(), self.redirect()),
            (None, Some(value)) => (value.span(), self.respond()),
            (Some(_), Some(value)) => {
                let message = "a route either redirects or responds".to_owned();
                self.error(value.span(), message, Some("remove one of them".into()));
                return None;
            }
        };
        let (span, reply) = found;
        let answers = |protocol: &dyn Protocol| {
            let answer = Answer { status: 200, headers: &[], body: b"" };
            protocol.respond(ReplyTo::default(), &answer, &mut Vec::new()).is_some()
        };
        let what = if self.route.get("redirect").is_some() { "redirect" } else { "respond" };
        for protocol in self.bound_to(&span, what, answers) {
            if !answers(protocol) {
                let able = self.registry.protocols().iter().filter(|other| answers(**other));
                let able: Vec<&str> = able.map(|other| other.name()).collect();
                let help = format!(
                    "a route can answer {} itself; deny = true refuses in any protocol",
                    able.join(", ")
                );
                let message = format!("a route cannot answer {} itself", protocol.name());
                self.error(span.clone(), message, Some(help));
                return None;
            }
        }
        reply
    }

    fn redirect(&mut self) -> Option<Reply> {
        let section = self.route.section("redirect", "redirect")?;
        section.finish(&["to", "status"]);
        let status = section.integer("status", 300..=399).unwrap_or(302) as u16;
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            let message = format!("{status} is no redirect with a new place");
            let help = "there are 301, 302, 303, 307 and 308";
            self.error(section.span.clone(), message, Some(help.into()));
        }
        let (to, span) = section.required("to", "\"https://{host}{path}\"")?;
        let location = self.template(to, span)?;
        Some(Reply { status, headers: vec![("location".into(), location)], body: Box::default() })
    }

    fn respond(&mut self) -> Option<Reply> {
        let section = self.route.section("respond", "respond")?;
        section.finish(&["status", "body", "content-type", "headers"]);
        let status = section.integer("status", 200..=599).unwrap_or(200) as u16;
        let body = section.string("body").map_or("", |(body, _)| body);
        let mut headers = Vec::new();
        let kind = section.string("content-type").map_or("text/plain", |(kind, _)| kind);
        if !body.is_empty() {
            headers.push(("content-type".into(), self.template(kind, section.span.clone())?));
        }
        if let Some(table) = section.section("headers", "headers") {
            for (name, span, value) in table.entries() {
                match value.get_ref() {
                    DeValue::String(text) => {
                        let valid = name.bytes().all(|byte| {
                            byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte)
                        });
                        if !valid || name.is_empty() {
                            self.error(span, format!("`{name}` is no header name"), None);
                            continue;
                        }
                        let key = format!("header.{}", name.to_ascii_lowercase());
                        let bound = protocols(self.route, self.registry).unwrap_or_default();
                        if let Some(why) = bound.iter().find_map(|known| known.immutable(&key)) {
                            let message = format!("an answer cannot set `{name}`");
                            self.error(span, message, Some(why.to_owned()));
                            continue;
                        }
                        let template = self.template(text, value.span())?;
                        headers.push((name.to_ascii_lowercase().into(), template));
                    }
                    _ => table.wrong(value, "a string"),
                }
            }
        }
        Some(Reply { status, headers, body: body.as_bytes().into() })
    }
}

/// Keys with their values; a bare dotted key arrives as tables in tables.
fn flatten<'t>(table: &Reader<'_, 't>) -> Vec<(String, Range<usize>, &'t Value<'t>)> {
    let mut all = Vec::new();
    for (key, span, value) in table.entries() {
        match value.get_ref() {
            DeValue::Table(inner) => {
                let inner = Reader::new(table.source, inner, value.span(), "a table");
                let inner = flatten(&inner).into_iter();
                all.extend(
                    inner.map(|(rest, _, value)| (format!("{key}.{rest}"), span.clone(), value)),
                );
            }
            _ => all.push((key.to_owned(), span, value)),
        }
    }
    all
}

/// Two strings: how a value begins, and how it is to begin.
fn pair(table: &Reader<'_, '_>, value: &Value<'_>) -> Option<[Box<[u8]>; 2]> {
    if let DeValue::Array(array) = value.get_ref() {
        let texts: Vec<&str> = array
            .iter()
            .filter_map(|value| match value.get_ref() {
                DeValue::String(text) => Some(text.as_ref()),
                _ => None,
            })
            .collect();
        if let [from, to] = texts[..] {
            return Some([from.as_bytes().into(), to.as_bytes().into()]);
        }
    }
    table.wrong(value, "two strings: [\"/old/\", \"/new/\"]");
    None
}
