//! Durations and sizes, as people write them.

use std::time::Duration;

use toml::de::DeValue;

use super::reader::{Reader, integer};

impl Reader<'_, '_> {
    /// `"800ms"`, `"5s"`, `"1m"`, `"2h"`.
    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        let (text, span) = self.string(key)?;
        let found = duration(text);
        if found.is_none() {
            let help = "write a number with its unit: \"800ms\", \"5s\", \"1m\" or \"2h\"";
            self.source.error(span, format!("`{text}` is no duration"), Some(help.into()));
        }
        found
    }

    /// `"64KiB"`, `"8MiB"`, or a number of bytes.
    pub(super) fn size(&self, key: &str) -> Option<u64> {
        let value = self.get(key)?;
        let found = match value.get_ref() {
            DeValue::String(text) => size(text),
            other => integer(other).and_then(|bytes| u64::try_from(bytes).ok()),
        };
        if found.is_none_or(|size| size == 0) {
            let help = "write a number with its unit: \"64KiB\" or \"8MiB\"";
            self.source.error(value.span(), "this is no size".into(), Some(help.into()));
            return None;
        }
        found
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

/// How many in how many microseconds.
pub(super) fn rate(text: &str) -> Option<(u64, u64)> {
    let (count, per) = text.split_once('/')?;
    let per = match per.trim() {
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return None,
    };
    let count = count.trim().parse().ok()?;
    (1..=1_000_000_000).contains(&count).then_some((count, per))
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(factor).filter(|ms| (1..1 << 45).contains(ms))?))
}

pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_units() {
        assert_eq!(duration("800ms"), Some(Duration::from_millis(800)));
        assert_eq!(duration("2h"), Some(Duration::from_secs(7200)));
        for wrong in ["5", "s", "0s", "-1s", "5 days", "99999999999999999999s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        assert_eq!(size("64KiB"), Some(65536));
        assert_eq!(size("64KB"), None);
    }
}
