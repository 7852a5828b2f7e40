//! Fields, and how lines are written: JSON objects, or a template.

use std::io::Write;
use std::net::SocketAddr;

use polyport_router::Matcher;

use super::line::Line;
use super::words::{fault_word, kind_word, outcome_word};
use crate::edit::{Piece, pieces};
use crate::engine::report::Ended;
use crate::observe::text::{self, Calendar};

/// What a line can show beside metadata keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// When the request's head was there.
    Time,
    /// The listener's name.
    Listener,
    /// Names the client's connection.
    Connection,
    /// The client's address.
    SourceIp,
    /// Its port.
    SourcePort,
    /// The protocol's name.
    Protocol,
    /// Which of the protocol's dialects, where it has any.
    Dialect,
    /// Request, one-way, session, …
    Kind,
    /// The route's name.
    Route,
    /// The cluster's name.
    Cluster,
    /// The endpoint that had it last.
    Endpoint,
    /// How it ended.
    Outcome,
    /// The reply's status.
    Status,
    /// Why the proxy ended it.
    Fault,
    /// From its head to its end.
    Duration,
    /// From its last try's beginning to its end.
    UpstreamDuration,
    /// From its head to its first try.
    Waited,
    /// Bytes that the client sent.
    BytesIn,
    /// Bytes that it was sent.
    BytesOut,
    /// How often it was given to an endpoint.
    Tries,
    /// A metadata key, by its position among the logs' keys.
    Key(usize),
}

/// Every field with its name, in the order that JSON lines have.
pub const FIELDS: &[(&str, Field)] = &[
    ("time", Field::Time),
    ("listener", Field::Listener),
    ("connection", Field::Connection),
    ("source.ip", Field::SourceIp),
    ("source.port", Field::SourcePort),
    ("protocol", Field::Protocol),
    ("dialect", Field::Dialect),
    ("kind", Field::Kind),
    ("route", Field::Route),
    ("cluster", Field::Cluster),
    ("endpoint", Field::Endpoint),
    ("outcome", Field::Outcome),
    ("status", Field::Status),
    ("fault", Field::Fault),
    ("duration", Field::Duration),
    ("upstream-duration", Field::UpstreamDuration),
    ("waited", Field::Waited),
    ("bytes-in", Field::BytesIn),
    ("bytes-out", Field::BytesOut),
    ("tries", Field::Tries),
];

/// The field of this name.
pub fn field(name: &str) -> Option<Field> {
    FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
}

impl Field {
    /// Whether nobody knows it before a request has ended.
    pub fn is_of_end(self) -> bool {
        use Field::{Connection, Dialect, Kind, Listener, Protocol, SourceIp, SourcePort, Time};
        let known = [Time, Listener, Connection, SourceIp, SourcePort, Protocol, Dialect, Kind];
        !known.contains(&self)
    }

    /// Whether its values are times, which are matched in µs.
    pub fn is_time(self) -> bool {
        matches!(self, Self::Duration | Self::UpstreamDuration | Self::Waited)
    }
}

/// How a line looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// An object; each field with the bytes before its value, `"name":`.
    Json(Box<[(Box<[u8]>, Field)]>),
    /// Texts and values by turns.
    Template(Box<[Part]>),
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Text(Box<[u8]>),
    /// A value; `-` where there is none.
    Value(Field),
}

impl Format {
    /// An object with these fields, in this order.
    pub fn json<'a>(fields: impl IntoIterator<Item = (&'a str, Field)>) -> Self {
        let named = |(name, field): (&str, Field)| {
            let mut lead = Vec::new();
            text::json(name.as_bytes(), &mut lead);
            lead.push(b':');
            (lead.into(), field)
        };
        Self::Json(fields.into_iter().map(named).collect())
    }

    /// Reads a template: `{name}` stands for a value, `{{` and `}}` for braces. `find` knows
    /// the names; it says itself what is wrong with those that it does not.
    ///
    /// # Errors
    /// Where braces do not match.
    pub fn template(
        text: &str,
        mut find: impl FnMut(&str) -> Option<Field>,
    ) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let mut plain: Vec<u8> = Vec::new();
        for piece in pieces(text) {
            match piece? {
                Piece::Text(text) => plain.extend_from_slice(text.as_bytes()),
                Piece::Name(name) => {
                    if let Some(field) = find(name) {
                        parts.push(Part::Text(std::mem::take(&mut plain).into()));
                        parts.push(Part::Value(field));
                    }
                }
            }
        }
        parts.push(Part::Text(plain.into()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self::Template(parts.into()))
    }
}

/// A request that has ended, with the names that its line needs.
pub struct Entry<'a> {
    /// How it ended.
    pub(crate) ended: &'a Ended<'a>,
    /// What was remembered of its metadata.
    pub(crate) line: &'a Line,
    /// When its head was there, µs since 1970.
    pub(crate) time: u64,
    /// The worker that served it.
    pub(crate) worker: u16,
    /// The listener's name.
    pub(crate) listener: &'a str,
    /// The protocol's.
    pub(crate) protocol: &'a str,
    /// Which of its dialects, where it has any.
    pub(crate) dialect: Option<&'static str>,
    /// The cluster's.
    pub(crate) cluster: Option<&'a str>,
    /// The endpoint that had it last.
    pub(crate) endpoint: Option<SocketAddr>,
    /// What the protocol calls its status, where it is no number.
    pub(crate) status_word: Option<&'a str>,
}

enum Value<'a> {
    Nothing,
    Text(&'a [u8]),
    Word(&'a str),
    Number(u64),
    Micros(u64),
    Time(u64),
    Ip(std::net::IpAddr),
    Address(SocketAddr),
    Connection(u16, u64),
}

impl<'a> Entry<'a> {
    fn value(&self, field: Field) -> Value<'a> {
        let (line, ended) = (self.line, self.ended);
        let waited = line.given.map(|given| given.saturating_sub(ended.track.since));
        let micros = |micros: Option<u64>| micros.map_or(Value::Nothing, Value::Micros);
        let word = |word: Option<&'a str>| word.map_or(Value::Nothing, Value::Word);
        match field {
            Field::Time => Value::Time(self.time),
            Field::Listener => Value::Text(self.listener.as_bytes()),
            Field::Connection => Value::Connection(self.worker, line.connection),
            Field::SourceIp => Value::Ip(line.source.ip().to_canonical()),
            Field::SourcePort => Value::Number(line.source.port().into()),
            Field::Protocol => Value::Word(self.protocol),
            Field::Dialect => word(self.dialect),
            Field::Kind => Value::Word(kind_word(ended)),
            Field::Route => line.route().map_or(Value::Nothing, Value::Text),
            Field::Cluster => {
                self.cluster.map_or(Value::Nothing, |name| Value::Text(name.as_bytes()))
            }
            Field::Endpoint => self.endpoint.map_or(Value::Nothing, Value::Address),
            Field::Outcome => Value::Word(outcome_word(ended.how)),
            Field::Status => match (self.status_word, ended.status()) {
                (None, 0) => Value::Nothing,
                (None, number) => Value::Number(number.into()),
                (Some(name), _) => Value::Word(name),
            },
            Field::Fault => word(ended.how.fault().map(fault_word)),
            Field::Duration => Value::Micros(ended.took),
            // Its last try's; a session's is from when it was given away.
            Field::UpstreamDuration => {
                micros(waited.map(|waited| ended.upstream.min(ended.took.saturating_sub(waited))))
            }
            Field::Waited => micros(waited),
            Field::BytesIn => Value::Number(ended.track.request),
            Field::BytesOut => Value::Number(ended.track.reply + ended.own.bytes as u64),
            Field::Tries => match line.given {
                Some(_) => Value::Number(u64::from(ended.track.retries) + 1),
                None => Value::Number(0),
            },
            Field::Key(at) => line.key(at).map_or(Value::Nothing, Value::Text),
        }
    }

    /// Whether a field's value is as asked. `scratch` is left in any state.
    pub(crate) fn holds(&self, field: Field, matcher: &Matcher, scratch: &mut Vec<u8>) -> bool {
        scratch.clear();
        // Writing to a Vec cannot fail.
        let _ = match self.value(field) {
            Value::Nothing => return matcher.matches(None),
            Value::Text(text) => return matcher.matches(Some(text)),
            Value::Word(word) => return matcher.matches(Some(word.as_bytes())),
            Value::Number(number) | Value::Micros(number) | Value::Time(number) => {
                write!(scratch, "{number}")
            }
            Value::Ip(ip) => write!(scratch, "{ip}"),
            Value::Address(address) => write!(scratch, "{address}"),
            Value::Connection(worker, key) => write!(scratch, "{worker}-{key:x}"),
        };
        matcher.matches(Some(scratch))
    }

    /// Appends the line, with its end.
    pub(crate) fn write(&self, format: &Format, calendar: &mut Calendar, out: &mut Vec<u8>) {
        match format {
            Format::Json(fields) => {
                let mut before = b'{';
                for (lead, field) in fields {
                    let value = self.value(*field);
                    if matches!(value, Value::Nothing) {
                        continue;
                    }
                    out.push(before);
                    before = b',';
                    out.extend_from_slice(lead);
                    match value {
                        Value::Text(value) => text::json(value, out),
                        Value::Number(_) | Value::Micros(_) => raw(&value, calendar, out),
                        // Nothing in these needs an escape.
                        value => {
                            out.push(b'"');
                            raw(&value, calendar, out);
                            out.push(b'"');
                        }
                    }
                }
                if before == b'{' {
                    out.push(b'{');
                }
                out.push(b'}');
            }
            Format::Template(parts) => {
                for part in parts {
                    match part {
                        Part::Text(text) => out.extend_from_slice(text),
                        Part::Value(field) => match self.value(*field) {
                            Value::Text(value) => text::plain(value, out),
                            value => raw(&value, calendar, out),
                        },
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

fn raw(value: &Value<'_>, calendar: &mut Calendar, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = match value {
        Value::Nothing => out.write_all(b"-"),
        Value::Text(text) => out.write_all(text),
        Value::Word(word) => out.write_all(word.as_bytes()),
        Value::Number(number) => write!(out, "{number}"),
        Value::Micros(micros) => {
            text::millis(*micros, out);
            Ok(())
        }
        Value::Time(micros) => {
            calendar.write(*micros, out);
            Ok(())
        }
        Value::Ip(ip) => write!(out, "{ip}"),
        Value::Address(address) => write!(out, "{address}"),
        Value::Connection(worker, key) => write!(out, "{worker}-{key:x}"),
    };
}
