//! `profile.proto` of pprof, written by hand: four messages of numbers and strings.

use std::collections::HashMap;
use std::time::UNIX_EPOCH;

use super::{HERTZ, Stacks};

/// Nanoseconds of CPU time that a sample stands for.
const PERIOD: u64 = 1_000_000_000 / HERTZ as u64;

/// A protobuf message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Field `number` as a whole number; nought is the same as nothing.
    fn number(mut self, number: u64, value: u64) -> Self {
        if value != 0 {
            self.varint(number << 3);
            self.varint(value);
        }
        self
    }

    fn bytes(mut self, number: u64, bytes: &[u8]) -> Self {
        self.varint(number << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn message(self, number: u64, message: &Self) -> Self {
        self.bytes(number, &message.0)
    }

    fn numbers(self, number: u64, values: impl Iterator<Item = u64>) -> Self {
        let mut packed = Self::default();
        values.for_each(|value| packed.varint(value));
        self.message(number, &packed)
    }
}

/// The string table; the first is empty.
struct Strings<'a> {
    all: Vec<&'a str>,
    at: HashMap<&'a str, u64>,
}

impl<'a> Strings<'a> {
    fn new() -> Self {
        Self { all: vec![""], at: HashMap::from([("", 0)]) }
    }

    fn of(&mut self, text: &'a str) -> u64 {
        let next = self.all.len() as u64;
        let at = *self.at.entry(text).or_insert(next);
        if at == next {
            self.all.push(text);
        }
        at
    }
}

pub(super) fn encode(stacks: &Stacks) -> Vec<u8> {
    let mut strings = Strings::new();
    let mut kind =
        |name, unit| Message::default().number(1, strings.of(name)).number(2, strings.of(unit));
    let (samples, cpu) = (kind("samples", "count"), kind("cpu", "nanoseconds"));
    let mut profile = Message::default().message(1, &samples).message(1, &cpu);
    let thread = strings.of("thread");
    for stack in &stacks.stacks {
        let label = Message::default().number(1, thread).number(2, strings.of(&stack.thread));
        let sample = Message::default()
            // The innermost first; identifiers begin with one.
            .numbers(1, stack.calls.iter().rev().map(|at| *at as u64 + 1))
            .numbers(2, [stack.samples, stack.samples * PERIOD].into_iter())
            .message(3, &label);
        profile = profile.message(2, &sample);
    }
    for (at, place) in stacks.places.iter().enumerate() {
        let id = at as u64 + 1;
        let line = Message::default().number(1, id);
        let location = Message::default().number(1, id).message(4, &line);
        let name = strings.of(&place.name);
        let function = Message::default()
            .number(1, id)
            .number(2, name)
            .number(3, name)
            .number(4, strings.of(&place.file));
        profile = profile.message(4, &location).message(5, &function);
    }
    for text in &strings.all {
        profile = profile.bytes(6, text.as_bytes());
    }
    let began = stacks.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    profile
        .number(9, nanos(began))
        .number(10, nanos(stacks.lasted))
        .message(11, &cpu)
        .number(12, PERIOD)
        .0
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn numbers_take_as_few_bytes_as_they_can() {
        let bytes = Message::default().number(1, 0).number(2, 127).number(3, 300).0;
        assert_eq!(bytes, [0x10, 0x7f, 0x18, 0xac, 0x02]);
        assert_eq!(Message::default().numbers(1, [1, 300].into_iter()).0, [0x0a, 3, 1, 0xac, 2]);
    }

    #[test]
    fn every_string_is_there_once() {
        let bytes = encode(&example());
        let count =
            |word: &str| bytes.windows(word.len()).filter(|at| *at == word.as_bytes()).count();
        for word in ["a::main", "a::read<&str>", "src/a.rs", "worker-0", "nanoseconds"] {
            assert_eq!(count(word), 1, "{word}");
        }
    }
}
