//! Walking a parsed table, and noting what is wrong with it.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::blot;
use super::diagnostic::{Diagnostic, Severity, suggest};

/// A value that knows where it stands.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// The text, and what was found in it.
pub(super) struct Source<'a> {
    text: &'a str,
    file: &'a str,
    found: RefCell<Vec<(usize, Diagnostic)>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, file: &'a str) -> Self {
        Self { text, file, found: RefCell::default() }
    }

    fn note(&self, severity: Severity, span: Range<usize>, message: String, help: Option<String>) {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let snippet = self.text.get(line_start..).unwrap_or_default().lines().next();
        let column = self.text.get(line_start..start).unwrap_or_default().chars().count() + 1;
        let (snippet, secrets) = blot(snippet.unwrap_or_default());
        let hide = |text: String| {
            secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "***"))
        };
        let (message, help) = (hide(message), help.map(hide));
        let meant = self.text.get(span.clone()).unwrap_or_default().lines().next();
        let diagnostic = Diagnostic {
            severity,
            message,
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column,
            width: meant.unwrap_or_default().chars().count(),
            snippet,
            help,
        };
        self.found.borrow_mut().push((start, diagnostic));
    }

    /// The folder that the config's file names are relative to.
    pub(super) fn folder(&self) -> &'a std::path::Path {
        std::path::Path::new(self.file).parent().unwrap_or(std::path::Path::new(""))
    }

    pub(super) fn error(&self, span: Range<usize>, message: String, help: Option<String>) {
        self.note(Severity::Error, span, message, help);
    }

    pub(super) fn warn(&self, span: Range<usize>, message: String, help: Option<String>) {
        self.note(Severity::Warning, span, message, help);
    }

    pub(super) fn failed(&self) -> bool {
        self.found.borrow().iter().any(|(_, found)| found.severity == Severity::Error)
    }

    pub(super) fn finish(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, diagnostic)| diagnostic).collect()
    }
}

/// One table.
pub(super) struct Reader<'s, 't> {
    pub(super) source: &'s Source<'s>,
    table: &'t DeTable<'t>,
    pub(super) span: Range<usize>,
    what: &'static str,
}

impl<'s, 't> Reader<'s, 't> {
    pub(super) fn new(
        source: &'s Source<'s>,
        table: &'t DeTable<'t>,
        span: Range<usize>,
        what: &'static str,
    ) -> Self {
        Self { source, table, span, what }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'t Value<'t>> {
        self.table.iter().find(|(had, _)| had.get_ref() == key).map(|(_, value)| value)
    }

    /// Complains of every key that is not among `known`.
    pub(super) fn finish(&self, known: &[&str]) {
        for (key, _) in self.table {
            if !known.contains(&key.get_ref().as_ref()) {
                let help = suggest(key.get_ref(), known.iter().copied())
                    .unwrap_or_else(|| format!("{} has {}", self.what, known.join(", ")));
                let message = format!("unknown key `{}`", key.get_ref());
                self.source.error(key.span(), message, Some(help));
            }
        }
    }

    pub(super) fn wrong(&self, value: &Value<'_>, want: &str) {
        let have = kind(value.get_ref());
        self.source.error(value.span(), format!("expected {want}, found {have}"), None);
    }

    pub(super) fn string(&self, key: &str) -> Option<(&'t str, Range<usize>)> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some((text.as_ref(), value.span())),
            _ => {
                self.wrong(value, "a string");
                None
            }
        }
    }

    /// A string that must be there.
    pub(super) fn required(&self, key: &str, example: &str) -> Option<(&'t str, Range<usize>)> {
        if self.get(key).is_none() {
            let help = format!("add {key} = {example}");
            self.source.error(
                self.span.clone(),
                format!("{} without `{key}`", self.what),
                Some(help),
            );
        }
        self.string(key)
    }

    pub(super) fn integer(&self, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(key)?;
        let number = integer(value.get_ref());
        match number.and_then(|number| u64::try_from(number).ok()) {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                let want = format!("a whole number from {} to {}", range.start(), range.end());
                if number.is_some() {
                    self.source.error(value.span(), format!("expected {want}"), None);
                } else {
                    self.wrong(value, &want);
                }
                None
            }
        }
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => {
                self.wrong(value, "true or false");
                None
            }
        }
    }

    /// A table under `key`.
    pub(super) fn section(&self, key: &str, what: &'static str) -> Option<Reader<'s, 't>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Reader::new(self.source, table, value.span(), what)),
            _ => {
                self.wrong(value, &format!("a table, [{key}]"));
                None
            }
        }
    }

    /// The tables of an array of tables.
    pub(super) fn sections(&self, key: &str, what: &'static str) -> Vec<Reader<'s, 't>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong(value, &format!("tables, [[{key}]]"));
            return Vec::new();
        };
        let tables = array.iter().filter_map(|value| match value.get_ref() {
            DeValue::Table(table) => Some(Reader::new(self.source, table, value.span(), what)),
            _ => {
                self.wrong(value, "a table");
                None
            }
        });
        tables.collect()
    }

    /// Every key with its value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'t str, Range<usize>, &'t Value<'t>)> {
        self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
    }
}

/// A whole number.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    match value {
        DeValue::Integer(number) => {
            i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
        }
        _ => None,
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
