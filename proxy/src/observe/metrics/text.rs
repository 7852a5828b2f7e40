//! Families of figures as text, in the two formats that scrapers ask for: Prometheus' own
//! (version 0.0.4) and OpenMetrics 1.0. What they differ in is few: counters' names in
//! `# TYPE`, exemplars, `# UNIT` and the end mark.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::histogram::Taken;

/// A format of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Prometheus' text, version 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.0, which has exemplars.
    OpenMetrics,
}

impl Format {
    /// The one that an HTTP `Accept` header prefers; Prometheus' where it says nothing.
    pub fn accepted(accept: &str) -> Self {
        let weight = |name: &str| {
            let mut best = 0.0_f32;
            for range in accept.split(',') {
                let mut parts = range.split(';').map(str::trim);
                if parts.next() != Some(name) {
                    continue;
                }
                let q = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
                best = best.max(q.unwrap_or(1.0));
            }
            best
        };
        let (open, plain) = (weight("application/openmetrics-text"), weight("text/plain"));
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type` of its texts.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A label's name and value.
pub(super) type Label = (&'static str, Arc<str>);

/// What sort of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Counter,
    Gauge,
    Histogram,
}

/// A figure of a family.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
    Histogram(Taken),
}

/// All figures of one name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Family {
    /// Without `_total`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) sort: Sort,
    pub(super) samples: Vec<(Vec<Label>, Value)>,
}

/// Writes families; those without figures are left out. `bounds`: the histograms', in
/// seconds; `key`: the name of their exemplars' label.
pub(super) fn write(families: &[Family], bounds: &[f64], key: &str, format: Format) -> String {
    let mut writer = Writer { out: String::new(), format };
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        writer.family(family, bounds, key);
    }
    if format == Format::OpenMetrics {
        writer.out.push_str("# EOF\n");
    }
    writer.out
}

struct Writer {
    out: String,
    format: Format,
}

impl Writer {
    fn family(&mut self, family: &Family, bounds: &[f64], key: &str) {
        let Family { name, help, sort, samples } = family;
        let total = if *sort == Sort::Counter { "_total" } else { "" };
        let head = match self.format {
            Format::Prometheus => total,
            Format::OpenMetrics => "",
        };
        let word = match sort {
            Sort::Counter => "counter",
            Sort::Gauge => "gauge",
            Sort::Histogram => "histogram",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "# HELP {name}{head} {help}");
        let _ = writeln!(self.out, "# TYPE {name}{head} {word}");
        if self.format == Format::OpenMetrics
            && let Some(unit) = ["seconds", "bytes"].iter().find(|unit| name.ends_with(*unit))
        {
            let _ = writeln!(self.out, "# UNIT {name} {unit}");
        }
        for (labels, value) in samples {
            match value {
                Value::Whole(value) => {
                    self.name(name, total, labels, None);
                    let _ = writeln!(self.out, " {value}");
                }
                Value::Real(value) => {
                    self.name(name, total, labels, None);
                    let _ = writeln!(self.out, " {value:?}");
                }
                Value::Histogram(taken) => self.histogram(name, labels, taken, bounds, key),
            }
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &[Label],
        taken: &Taken,
        bounds: &[f64],
        key: &str,
    ) {
        let mut so_far = 0;
        for (at, count) in taken.counts.iter().enumerate() {
            so_far += count;
            let bound = bounds.get(at).copied();
            self.name(name, "_bucket", labels, Some(bound));
            let _ = write!(self.out, " {so_far}");
            if self.format == Format::OpenMetrics
                && let Some(Some(exemplar)) = taken.exemplars.get(at)
            {
                let _ = write!(self.out, " # {{{key}=\"");
                escape(&mut self.out, &exemplar.value);
                let _ = write!(self.out, "\"}} {:?}", exemplar.took as f64 / 1e6);
                if let Ok(at) = exemplar.at.duration_since(UNIX_EPOCH) {
                    let _ = write!(self.out, " {:.3}", at.as_secs_f64());
                }
            }
            self.out.push('\n');
        }
        self.name(name, "_sum", labels, None);
        let _ = writeln!(self.out, " {:?}", taken.sum as f64 / 1e6);
        self.name(name, "_count", labels, None);
        let _ = writeln!(self.out, " {so_far}");
    }

    /// A sample's name and labels; `bound`: of its bucket, if it is one.
    fn name(&mut self, name: &str, suffix: &str, labels: &[Label], bound: Option<Option<f64>>) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        let mut before = '{';
        for (key, value) in labels {
            self.out.push(before);
            let _ = write!(self.out, "{key}=\"");
            escape(&mut self.out, value);
            self.out.push('"');
            before = ',';
        }
        if let Some(bound) = bound {
            self.out.push(before);
            let _ = match bound {
                Some(bound) => write!(self.out, "le=\"{bound:?}\""),
                None => write!(self.out, "le=\"+Inf\""),
            };
            before = ',';
        }
        if before == ',' {
            self.out.push('}');
        }
    }
}

fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::histogram::Exemplar;
    use super::*;

    fn families() -> Vec<Family> {
        let exemplar = Exemplar {
            value: "a\"b".into(),
            took: 1500,
            at: UNIX_EPOCH + Duration::from_millis(1),
        };
        let taken = Taken {
            counts: vec![2, 1, 1],
            sum: 5_000,
            exemplars: vec![None, Some(exemplar), None],
        };
        let route: Vec<Label> = vec![("route", "a \\ \"b\"\n".into())];
        vec![
            Family {
                name: "x_requests",
                help: "Requests.",
                sort: Sort::Counter,
                samples: vec![(route.clone(), Value::Whole(3))],
            },
            Family { name: "x_none", help: "None.", sort: Sort::Gauge, samples: vec![] },
            Family {
                name: "x_up_seconds",
                help: "Age.",
                sort: Sort::Gauge,
                samples: vec![(vec![], Value::Real(0.5))],
            },
            Family {
                name: "x_took_seconds",
                help: "Time.",
                sort: Sort::Histogram,
                samples: vec![(route, Value::Histogram(taken))],
            },
        ]
    }

    #[test]
    fn prometheus_text_names_counters_in_full_and_has_no_exemplars() {
        let want = r#"# HELP x_requests_total Requests.
# TYPE x_requests_total counter
x_requests_total{route="a \\ \"b\"\n"} 3
# HELP x_up_seconds Age.
# TYPE x_up_seconds gauge
x_up_seconds 0.5
# HELP x_took_seconds Time.
# TYPE x_took_seconds histogram
x_took_seconds_bucket{route="a \\ \"b\"\n",le="0.001"} 2
x_took_seconds_bucket{route="a \\ \"b\"\n",le="1.0"} 3
x_took_seconds_bucket{route="a \\ \"b\"\n",le="+Inf"} 4
x_took_seconds_sum{route="a \\ \"b\"\n"} 0.005
x_took_seconds_count{route="a \\ \"b\"\n"} 4
"#;
        assert_eq!(write(&families(), &[0.001, 1.0], "id", Format::Prometheus), want);
    }

    #[test]
    fn openmetrics_has_units_exemplars_and_an_end() {
        let want = r##"# HELP x_requests Requests.
# TYPE x_requests counter
x_requests_total{route="a \\ \"b\"\n"} 3
# HELP x_up_seconds Age.
# TYPE x_up_seconds gauge
# UNIT x_up_seconds seconds
x_up_seconds 0.5
# HELP x_took_seconds Time.
# TYPE x_took_seconds histogram
# UNIT x_took_seconds seconds
x_took_seconds_bucket{route="a \\ \"b\"\n",le="0.001"} 2
x_took_seconds_bucket{route="a \\ \"b\"\n",le="1.0"} 3 # {id="a\"b"} 0.0015 0.001
x_took_seconds_bucket{route="a \\ \"b\"\n",le="+Inf"} 4
x_took_seconds_sum{route="a \\ \"b\"\n"} 0.005
x_took_seconds_count{route="a \\ \"b\"\n"} 4
# EOF
"##;
        assert_eq!(write(&families(), &[0.001, 1.0], "id", Format::OpenMetrics), want);
    }

    #[test]
    fn the_format_is_the_one_that_is_preferred() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                          version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain, application/openmetrics-text;q=0.9", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text; version=1.0.0", Format::OpenMetrics),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
