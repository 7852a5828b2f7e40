//! `[metrics]`.

use polyport_codecs::{Interest, Registry};
use toml::de::DeValue;

use super::matchers::known_key;
use super::reader::Reader;
use crate::observe::metrics::Settings;

/// Most buckets that a histogram may have.
const BUCKETS: usize = 50;

/// The shortest time that is told from none, and the longest that is measured, in seconds.
const TIMES: std::ops::RangeInclusive<f64> = 0.000_001..=86_400.0;

pub(super) fn read(
    root: &mut Reader<'_, '_>,
    registry: &Registry,
    interest: &mut Interest,
) -> Settings {
    let mut settings = Settings::default();
    let Some(section) = root.section("metrics", "[metrics]") else { return settings };
    if let Some(buckets) = buckets(&section) {
        settings.buckets = buckets;
    }
    if let Some(series) = section.integer("series", 100..=10_000_000) {
        settings.series = series as usize;
    }
    if let Some((key, span)) = section.string("exemplars")
        && known_key(section.source, registry, None, key, span)
    {
        settings.exemplars = Some((key.to_owned(), interest.add(key)));
    }
    section.finish(&["buckets", "exemplars", "series"]);
    settings
}

/// Bounds in seconds, each above the one before.
fn buckets(section: &Reader<'_, '_>) -> Option<Vec<f64>> {
    let value = section.get("buckets")?;
    let DeValue::Array(array) = value.get_ref() else {
        section.wrong(value, "an array of seconds");
        return None;
    };
    let help = || Some("such as buckets = [0.001, 0.01, 0.1, 1.0]".to_owned());
    if array.is_empty() || array.iter().count() > BUCKETS {
        let message = format!("from 1 to {BUCKETS} buckets are needed");
        section.source.error(value.span(), message, help());
        return None;
    }
    let mut bounds: Vec<f64> = Vec::new();
    for entry in array.iter() {
        let seconds = match entry.get_ref() {
            DeValue::Float(number) => number.as_str().replace('_', "").parse::<f64>().ok(),
            DeValue::Integer(number) => number.as_str().replace('_', "").parse::<f64>().ok(),
            _ => {
                section.wrong(entry, "a number of seconds");
                return None;
            }
        };
        match seconds.filter(|seconds| TIMES.contains(seconds)) {
            Some(seconds) if bounds.last().is_none_or(|last| *last < seconds) => {
                bounds.push(seconds);
            }
            Some(_) => {
                let message = "the buckets do not rise".to_owned();
                section.source.error(entry.span(), message, help());
                return None;
            }
            None => {
                let message = "a bucket is from a microsecond to a day".to_owned();
                section.source.error(entry.span(), message, help());
                return None;
            }
        }
    }
    Some(bounds)
}

#[cfg(test)]
mod tests {
    use polyport_codecs::Registry;

    use crate::config::compile;

    fn read(lines: &str) -> Result<crate::observe::metrics::Settings, Vec<String>> {
        let text = format!("[metrics]\n{lines}\n[[listener]]\naddress = \"127.0.0.1:7000\"\n");
        match compile(&text, "test.toml", &Registry::builtin()) {
            Ok((snapshot, _)) => Ok(snapshot.metrics),
            Err(found) => Err(found.into_iter().map(|found| found.message).collect()),
        }
    }

    #[test]
    fn the_section_is_read() {
        let lines =
            "buckets = [0.001, 0.5, 1, 1e1]\nexemplars = \"header.x-request-id\"\nseries = 500";
        let settings = read(lines).expect("a good config");
        assert_eq!(settings.buckets, [0.001, 0.5, 1.0, 10.0]);
        assert_eq!(settings.exemplars.expect("a key").0, "header.x-request-id");
        assert_eq!(settings.series, 500);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (lines, says) in [
            ("buckets = []", "from 1 to 50 buckets are needed"),
            ("buckets = [0.1, 0.1]", "the buckets do not rise"),
            ("buckets = [0.0]", "a bucket is from a microsecond to a day"),
            ("buckets = [nan]", "a bucket is from a microsecond to a day"),
            ("buckets = [\"1s\"]", "expected a number of seconds, found a string"),
            ("series = 5", "expected a whole number from 100 to 10000000"),
            ("exemplars = \"headr.x\"", "no protocol has a key `headr.x`"),
        ] {
            let found = read(lines).expect_err(lines);
            assert!(found[0].starts_with(says), "{lines}: {found:?}");
        }
    }
}
