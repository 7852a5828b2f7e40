//! What routes change in the messages that take them, and what they answer themselves.

use polyport_codecs::{Change, Slot, To, View};

/// Changes that one route may make to a message, each way.
pub const MOST: usize = 32;

/// Text with the values of keys in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    Key(Slot),
}

/// What stands next in a template.
pub(crate) enum Piece<'a> {
    /// Text, as it is.
    Text(&'a str),
    /// What stood between braces.
    Name(&'a str),
}

/// Takes a template apart: `{name}` is a name, `{{` and `}}` are braces. It ends with an error
/// where braces do not match.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = Result<Piece<'_>, &'static str>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (plain, from) = rest.split_at(rest.find(['{', '}']).unwrap_or(rest.len()));
        if !plain.is_empty() {
            rest = from;
            return Some(Ok(Piece::Text(plain)));
        }
        if from.starts_with("{{") || from.starts_with("}}") {
            let (brace, after) = from.split_at(1);
            rest = after.get(1..).unwrap_or_default();
            return Some(Ok(Piece::Text(brace)));
        }
        let name = from.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        Some(match name {
            Some((name, after)) => {
                rest = after;
                Ok(Piece::Name(name))
            }
            None => {
                rest = "";
                Err("a brace without its other half; write {{ or }} for a brace")
            }
        })
    })
}

impl Template {
    /// Reads `text`: `{key}` stands for a key's value, `{{` and `}}` for braces.
    /// `slot` finds keys; `known` those whose value is fixed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(
        text: &str,
        known: impl Fn(&str) -> Option<String>,
        mut slot: impl FnMut(&str) -> Option<Slot>,
    ) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain: Vec<u8> = Vec::new();
        for piece in pieces(text) {
            match piece? {
                Piece::Text(text) => plain.extend_from_slice(text.as_bytes()),
                Piece::Name(key) => match known(key) {
                    Some(value) => plain.extend_from_slice(value.as_bytes()),
                    None => {
                        let slot = slot(key).ok_or_else(|| format!("no key is called `{key}`"))?;
                        parts.push(Part::Text(std::mem::take(&mut plain).into()));
                        parts.push(Part::Key(slot));
                    }
                },
            }
        }
        parts.push(Part::Text(plain.into()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { parts })
    }

    /// Appends the text, with the values that `view` has; a key without a value is empty.
    pub fn render(&self, view: &View<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Key(slot) => out.extend_from_slice(view.get(*slot).unwrap_or_default()),
            }
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The key that is changed, as its codec knows it.
    pub key: Box<str>,
    /// What becomes of it.
    pub how: How,
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// It has this value and no other.
    Set(Template),
    /// It has this value beside those it had.
    Append(Template),
    /// It is gone.
    Remove,
    /// Where its value, found in this slot, begins so, another beginning takes its place.
    Prefix {
        /// Where the value is.
        slot: Slot,
        /// How it begins.
        from: Box<[u8]>,
        /// How it begins after that.
        to: Box<[u8]>,
    },
}

/// What a route changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edits {
    /// In requests.
    pub request: Vec<Edit>,
    /// In their replies.
    pub response: Vec<Edit>,
}

/// No change: a value that is never rendered begins so.
const NOTHING: u32 = u32::MAX;

/// Appends the values of `edits`, each behind its length.
pub fn render(edits: &[Edit], view: &View<'_>, out: &mut Vec<u8>) {
    for edit in edits {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        let mut len = None;
        match &edit.how {
            How::Set(template) | How::Append(template) => template.render(view, out),
            How::Remove => {}
            How::Prefix { slot, from, to } => match view.get(*slot) {
                Some(value) if value.starts_with(from) => {
                    out.extend_from_slice(to);
                    out.extend_from_slice(value.get(from.len()..).unwrap_or_default());
                }
                _ => len = Some(NOTHING),
            },
        }
        let len = len.unwrap_or((out.len() - at - 4) as u32);
        if let Some(place) = out.get_mut(at..at + 4) {
            place.copy_from_slice(&len.to_ne_bytes());
        }
    }
}

/// Calls `with` with the changes that `edits` and their `rendered` values make.
pub fn changes<'a, T>(
    edits: &'a [Edit],
    rendered: &'a [u8],
    with: impl FnOnce(&[Change<'a>]) -> T,
) -> T {
    // Room on the stack, as this happens for every message.
    let mut all = [Change { key: "", to: To::Remove }; MOST];
    let mut count = 0;
    let mut rest = rendered;
    for edit in edits {
        let Some((len, after)) = rest.split_first_chunk::<4>() else { break };
        let len = u32::from_ne_bytes(*len);
        if len == NOTHING {
            rest = after;
            continue;
        }
        let (value, after) = after.split_at(after.len().min(len as usize));
        rest = after;
        let to = match edit.how {
            How::Set(_) | How::Prefix { .. } => To::Set(value),
            How::Append(_) => To::Append(value),
            How::Remove => To::Remove,
        };
        if let Some(place) = all.get_mut(count) {
            *place = Change { key: &edit.key, to };
            count += 1;
        }
    }
    with(all.get(..count).unwrap_or_default())
}

/// What a route answers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The protocol's own status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(Box<str>, Template)>,
    /// The body, as it is.
    pub body: Box<[u8]>,
}

#[cfg(test)]
mod tests {
    use polyport_codecs::{Interest, Metadata};

    use super::*;

    fn template(text: &str) -> Result<Template, String> {
        let interest = Interest::of(["host", "path"]);
        let known = |key: &str| (key == "route").then(|| "r1".to_owned());
        Template::parse(text, known, |key| interest.slot(key))
    }

    #[test]
    fn keys_and_braces_are_filled_in() {
        let mut metadata = Metadata::new(&Interest::of(["host", "path"]));
        metadata.set_static(Slot(0), "h");
        let render = |text: &str| {
            let mut out = Vec::new();
            template(text).expect("a template").render(&metadata.view(b""), &mut out);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(render("https://{host}{path}/{{x}}?{route}"), "https://h/{x}?r1");
        assert_eq!(render(""), "");
        assert!(template("{nope}").is_err());
        assert!(template("{host").is_err());
        assert!(template("host}").is_err());
    }

    #[test]
    fn a_prefix_is_replaced_only_where_it_is() {
        let edits = [Edit {
            key: "path".into(),
            how: How::Prefix { slot: Slot(0), from: (*b"/api/").into(), to: (*b"/").into() },
        }];
        for (path, expected) in [("/api/x", Some("/x")), ("/other", None)] {
            let mut metadata = Metadata::new(&Interest::of(["path"]));
            metadata.set_static(Slot(0), path);
            let mut rendered = Vec::new();
            render(&edits, &metadata.view(b""), &mut rendered);
            let found = changes(&edits, &rendered, |changes| changes.first().map(|c| c.to));
            assert_eq!(found, expected.map(|path| To::Set(path.as_bytes())));
        }
    }
}
