//! What a config may hold, said once: every table with its keys, what each takes, what
//! holds without it, and one sentence on it.
//!
//! From this come the JSON Schema ([`json`], `polyport schema`, `docs/polyport.schema.json`)
//! and the page polyport.toml(5). The readers beside this folder decide what is right; a
//! test puts every key and a value of every sort before them and complains where they and
//! this description differ. Who teaches a reader a key adds it here, in the table that the
//! test names, and lets `cargo run -q -- schema > docs/polyport.schema.json` write the file.

mod clusters;
pub mod json;
mod listeners;
mod routes;
mod settings;

use polyport_codecs::Registry;

pub use settings::ROOT;

/// A table of a config.
#[derive(Debug)]
pub struct Table {
    /// How people and readers call it: `[[cluster]]`, `health`.
    pub name: &'static str,
    /// Where it is described: the constant, and its file in this folder.
    pub place: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Its keys, in the order people should read them.
    pub keys: &'static [Key],
    /// Keys that protocols add.
    pub more: Option<fn(&Registry) -> Vec<Key>>,
}

impl Table {
    const fn new(
        name: &'static str,
        place: &'static str,
        about: &'static str,
        keys: &'static [Key],
    ) -> Self {
        Self { name, place, about, keys, more: None }
    }

    /// All its keys, with those of the registry's protocols.
    #[must_use]
    pub fn keys(&self, registry: &Registry) -> Vec<Key> {
        let more = self.more.map(|more| more(registry)).unwrap_or_default();
        self.keys.iter().copied().chain(more).collect()
    }
}

/// A key of a table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What may stand there.
    pub shape: Shape,
    /// What holds where it is absent, as JSON; empty where that is no value that could be
    /// written.
    pub default: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What it does, in a sentence or two.
    pub about: &'static str,
}

impl Key {
    const fn new(name: &'static str, shape: Shape, about: &'static str) -> Self {
        Self { name, shape, default: "", required: false, about }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn required(self) -> Self {
        Self { required: true, ..self }
    }
}

/// What may stand at a key.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Any text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number, both bounds included.
    Whole(u64, u64),
    /// A number, perhaps with a fraction, both bounds included.
    Number(f64, f64),
    /// One of these whole numbers.
    OneOf(&'static [u64]),
    /// `"800ms"`, `"5s"`, `"1m"`, `"2h"`.
    Duration,
    /// `"64KiB"`, or a number of bytes.
    Size,
    /// `"100/s"`, `"5/m"`, `"1000/h"`.
    Rate,
    /// `"100KiB/s"`.
    Bandwidth,
    /// One of these words.
    Words(&'static [&'static str]),
    /// The name of a protocol, or one of these words.
    Protocol(&'static [&'static str]),
    /// The name of a health check, as the protocols tell them.
    Check,
    /// Texts and whole numbers: one, or an array of them.
    Values,
    /// An array: of what, the least and the most elements.
    Array(&'static Shape, usize, usize),
    /// A table.
    Table(&'static Table),
    /// Any of these.
    Either(&'static [Shape]),
    /// Names of people's own choice, and texts.
    Labels,
    /// Metadata keys, dotted or quoted, and texts.
    Texts,
    /// Metadata keys, dotted or quoted, and two texts each.
    Pairs,
    /// Metadata keys, dotted or quoted, and what is asked of their values.
    Match,
    /// As [`Match`](Self::Match), and what became of the message.
    Logged,
    /// What is asked of one value.
    Matcher,
}

/// A table beside the ways that lead to it; see [`tables`].
#[derive(Debug, Clone)]
pub struct Place {
    /// The keys from the top, and whether each leads to an array of tables.
    pub path: Vec<(&'static str, bool)>,
    /// What stands there.
    pub table: &'static Table,
}

/// What is asked of one value; it stands where a metadata key does.
#[must_use]
pub fn matcher() -> &'static Table {
    &routes::MATCHER
}

/// Every table there is, each once for each place where it may stand, from the top down.
#[must_use]
pub fn tables(registry: &Registry) -> Vec<Place> {
    let mut all = vec![Place { path: Vec::new(), table: &ROOT }];
    let mut at = 0;
    while let Some(place) = all.get(at).cloned() {
        for key in place.table.keys(registry) {
            inner(&key.shape, false, &mut |table, array| {
                let mut path = place.path.clone();
                path.push((key.name, array));
                all.push(Place { path, table });
            });
        }
        at += 1;
    }
    all
}

fn inner(shape: &Shape, array: bool, found: &mut dyn FnMut(&'static Table, bool)) {
    match shape {
        Shape::Table(table) => found(table, array),
        Shape::Array(of, ..) => inner(of, true, found),
        // Where one table may stand alone or in an array, one way to it is enough.
        Shape::Either(shapes) => {
            let mut seen: Vec<*const Table> = Vec::new();
            for shape in *shapes {
                inner(shape, array, &mut |table, array| {
                    if !seen.contains(&std::ptr::from_ref(table)) {
                        seen.push(table);
                        found(table, array);
                    }
                });
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
