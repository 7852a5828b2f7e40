//! The description as a JSON Schema, draft 2020-12, of the config turned into JSON: what
//! editors complete and check with.
//!
//! It knows shapes, not sense: that a route's cluster exists, that a regular expression is
//! one, that `by` is a key, only `polyport check` finds. Metadata keys are known in the
//! spelling of the protocols' tables, though the proxy takes any.

use std::collections::BTreeMap;

use polyport_codecs::{KeySpec, Registry};
use serde_json::{Map, Value, json};

use super::routes::MATCHER;
use super::{Key, ROOT, Shape, Table};
use crate::config::FACTS;
use crate::config::TCP;

/// The schema, for the protocols of `registry`.
#[must_use]
pub fn schema(registry: &Registry) -> Value {
    let mut writer = Writer { registry, definitions: BTreeMap::new() };
    let mut root = Map::new();
    root.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    root.insert("title".into(), "Polyport's config".into());
    let Value::Object(body) = writer.body(&ROOT) else { return Value::Null };
    root.extend(body);
    writer.define("matcher", Writer::matcher);
    writer.define("texts", |_| {
        json!({
            "type": "object",
            "additionalProperties": { "anyOf": [{ "type": "string" }, { "$ref": "#/$defs/texts" }] },
        })
    });
    writer.define("pairs", |_| {
        let pair = json!({ "type": "array", "items": { "type": "string" }, "minItems": 2, "maxItems": 2 });
        json!({ "type": "object", "additionalProperties": { "anyOf": [pair, { "$ref": "#/$defs/pairs" }] } })
    });
    writer.define("dotted", |_| {
        let either = [json!({ "$ref": "#/$defs/matcher" }), json!({ "$ref": "#/$defs/dotted" })];
        json!({ "type": "object", "minProperties": 1, "additionalProperties": { "anyOf": either } })
    });
    let keys = writer.keys();
    let mut logged = keys.clone();
    if let Some(properties) = logged.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, time) in crate::config::access_log::ends() {
            properties.insert(name.into(), if time { writer.times() } else { any_matcher() });
        }
    }
    writer.definitions.insert("match".into(), keys);
    writer.definitions.insert("logged".into(), logged);
    root.insert("$defs".into(), writer.definitions.into_iter().collect());
    Value::Object(root)
}

fn any_matcher() -> Value {
    json!({ "$ref": "#/$defs/matcher" })
}

struct Writer<'r> {
    registry: &'r Registry,
    definitions: BTreeMap<String, Value>,
}

impl Writer<'_> {
    fn define(&mut self, name: &str, make: impl FnOnce(&mut Self) -> Value) {
        let value = make(self);
        self.definitions.insert(name.to_owned(), value);
    }

    /// A table that stands among the definitions, once.
    fn table(&mut self, table: &'static Table) -> Value {
        let name: String = table.place.split(' ').next().unwrap_or_default().to_lowercase();
        // Listeners and clusters both have a TLS.
        let file = table.place.rsplit([' ', '.']).nth(1).unwrap_or_default();
        let name = format!("{file}.{}", name.replace('_', "-"));
        if !self.definitions.contains_key(&name) {
            self.definitions.insert(name.clone(), Value::Null);
            let body = self.body(table);
            self.definitions.insert(name.clone(), body);
        }
        json!({ "$ref": format!("#/$defs/{name}") })
    }

    fn body(&mut self, table: &'static Table) -> Value {
        let keys = table.keys(self.registry);
        let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|k| k.name).collect();
        let properties: Map<String, Value> =
            keys.iter().map(|key| (key.name.to_owned(), self.key(key))).collect();
        let mut body = json!({
            "description": table.about,
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        if let (Some(object), false) = (body.as_object_mut(), required.is_empty()) {
            object.insert("required".into(), json!(required));
        }
        body
    }

    fn key(&mut self, key: &Key) -> Value {
        let mut value = self.shape(&key.shape);
        if let Some(object) = value.as_object_mut() {
            object.insert("description".into(), key.about.into());
            if let Ok(default) = serde_json::from_str::<Value>(key.default) {
                object.insert("default".into(), default);
            }
        }
        value
    }

    fn shape(&mut self, shape: &Shape) -> Value {
        let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
        match shape {
            Shape::Text => json!({ "type": "string" }),
            Shape::Flag => json!({ "type": "boolean" }),
            Shape::Whole(least, most) => {
                json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            Shape::Number(least, most) if *least == f64::MIN && *most == f64::MAX => {
                json!({ "type": "number" })
            }
            Shape::Number(least, most) => {
                json!({ "type": "number", "minimum": least, "maximum": most })
            }
            Shape::OneOf(numbers) => json!({ "enum": numbers }),
            Shape::Duration => text(r"^[0-9]+\s*(ms|s|m|h)\s*$"),
            Shape::Size => {
                let words = text(r"^[0-9]+\s*(B|KiB|MiB|GiB)\s*$");
                json!({ "anyOf": [words, { "type": "integer", "minimum": 1 }] })
            }
            Shape::Rate => text(r"^\s*[0-9]+\s*/\s*[smh]\s*$"),
            Shape::Bandwidth => text(r"^[0-9]+\s*(B|KiB|MiB|GiB)\s*/s$"),
            Shape::Words(words) => json!({ "enum": words }),
            Shape::Protocol(more) => {
                let names = self.registry.protocols().iter().map(|known| known.name());
                json!({ "enum": more.iter().copied().chain(names).collect::<Vec<&str>>() })
            }
            Shape::Check => json!({ "enum": crate::config::health::names(self.registry) }),
            Shape::Values => {
                let one = json!({ "type": ["string", "integer"] });
                json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
            }
            Shape::Array(of, least, most) => {
                let mut array = json!({ "type": "array", "items": self.shape(of) });
                if let Some(object) = array.as_object_mut() {
                    if *least > 0 {
                        object.insert("minItems".into(), json!(least));
                    }
                    if *most > 0 {
                        object.insert("maxItems".into(), json!(most));
                    }
                }
                array
            }
            Shape::Table(table) => self.table(table),
            Shape::Either(shapes) => {
                let shapes: Vec<Value> = shapes.iter().map(|shape| self.shape(shape)).collect();
                json!({ "anyOf": shapes })
            }
            Shape::Labels => {
                json!({ "type": "object", "additionalProperties": { "type": "string" } })
            }
            Shape::Texts => json!({ "$ref": "#/$defs/texts" }),
            Shape::Pairs => json!({ "$ref": "#/$defs/pairs" }),
            Shape::Match => json!({ "$ref": "#/$defs/match" }),
            Shape::Logged => json!({ "$ref": "#/$defs/logged" }),
            Shape::Matcher => any_matcher(),
        }
    }

    /// A value, present or absent, one of several, or a table of ways.
    fn matcher(&mut self) -> Value {
        let values = self.shape(&Shape::Values);
        let mut ways = self.body(&MATCHER);
        if let Some(object) = ways.as_object_mut() {
            object.insert("minProperties".into(), json!(1));
        }
        json!({ "anyOf": [values, { "type": "boolean" }, ways] })
    }

    /// Bounds of a time.
    fn times(&mut self) -> Value {
        let bound = self.shape(&Shape::Duration);
        json!({
            "type": "object",
            "properties": { "min": bound, "max": bound },
            "additionalProperties": false,
            "minProperties": 1,
        })
    }

    /// Every metadata key, dotted or quoted.
    fn keys(&mut self) -> Value {
        let mut tree = Node::default();
        let specs = self.registry.keys().into_iter().chain(FACTS);
        let specs: Vec<&'static KeySpec> = specs.collect();
        for spec in &specs {
            tree.add(spec.name.trim_end_matches('.').split('.'), spec);
        }
        let mut value = tree.json();
        let names = self.registry.protocols().iter().map(|known| known.name()).chain([TCP]);
        let names = json!({ "enum": names.collect::<Vec<&str>>() });
        let protocol = json!({
            "description": "the protocol that was detected",
            "anyOf": [
                names,
                { "type": "array", "items": names, "minItems": 1 },
                { "type": "boolean" },
                { "type": "object", "$ref": "#/$defs/matcher" },
            ],
        });
        if let Some(properties) = value.get_mut("properties").and_then(Value::as_object_mut) {
            // As one quoted key: "source.ip".
            for spec in specs.iter().filter(|spec| !spec.family && spec.name.contains('.')) {
                let matcher = json!({ "$ref": "#/$defs/matcher", "description": spec.about });
                properties.insert(spec.name.to_owned(), matcher);
            }
            properties.insert("protocol".into(), protocol);
        }
        let quoted = specs.iter().filter(|spec| spec.family).map(|spec| {
            let pattern = format!("^{}.", spec.name.replace('.', r"\."));
            (pattern, json!({ "$ref": "#/$defs/matcher", "description": spec.about }))
        });
        let quoted: Map<String, Value> = quoted.collect();
        if let Some(object) = value.as_object_mut() {
            object.insert("patternProperties".into(), quoted.into());
        }
        value
    }
}

/// A part of a dotted key.
#[derive(Default)]
struct Node {
    about: Option<&'static str>,
    family: bool,
    inner: BTreeMap<&'static str, Node>,
}

impl Node {
    fn add(&mut self, mut parts: impl Iterator<Item = &'static str>, spec: &'static KeySpec) {
        match parts.next() {
            Some(part) => self.inner.entry(part).or_default().add(parts, spec),
            None => {
                self.about = Some(spec.about);
                self.family |= spec.family;
            }
        }
    }

    fn json(&self) -> Value {
        if self.family {
            return json!({ "$ref": "#/$defs/dotted", "description": self.about });
        }
        let matcher = json!({ "$ref": "#/$defs/matcher" });
        let properties: Map<String, Value> =
            self.inner.iter().map(|(name, node)| ((*name).to_owned(), node.json())).collect();
        let object = json!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        match (self.about, self.inner.is_empty()) {
            (Some(about), true) => json!({ "$ref": "#/$defs/matcher", "description": about }),
            (Some(about), false) => json!({ "anyOf": [matcher, object], "description": about }),
            (None, _) => object,
        }
    }
}
