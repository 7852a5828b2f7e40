//! What a predicate can ask of one value.

use std::net::IpAddr;

use ipnet::IpNet;
use polyport_codecs::{Slot, View};

/// A question about one value. Values are compared byte for byte; a message that
/// lacks the key satisfies only [`Matcher::Absent`] and [`Matcher::Not`].
#[derive(Debug, Clone)]
pub enum Matcher {
    /// Equal.
    Exact(Box<[u8]>),
    /// Equal to one of these (sorted: make it with [`Matcher::one_of`]).
    In(Vec<Box<[u8]>>),
    /// Begins so.
    Prefix(Box<[u8]>),
    /// Ends so.
    Suffix(Box<[u8]>),
    /// Has this in it.
    Contains(Box<[u8]>),
    /// All of the value matches the expression.
    Regex(Box<regex::bytes::Regex>),
    /// The message has the key, whatever its value.
    Present,
    /// The message does not have the key.
    Absent,
    /// A number within these bounds, both inclusive; no other text ever matches.
    Range {
        /// The least; none: any.
        min: Option<f64>,
        /// The greatest; none: any.
        max: Option<f64>,
    },
    /// An address within one of these networks.
    Cidr(Vec<IpNet>),
    /// The inner question is not satisfied, by an absent value too.
    Not(Box<Matcher>),
    /// One of these is satisfied.
    Any(Vec<Matcher>),
}

impl Matcher {
    /// Equal to one of `values`.
    pub fn one_of<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Self {
        let mut values: Vec<Box<[u8]>> =
            values.into_iter().map(|value| value.as_ref().into()).collect();
        values.sort();
        values.dedup();
        Self::In(values)
    }

    /// All of the value matches `expression`.
    ///
    /// # Errors
    /// Where it is no regular expression.
    pub fn regex(expression: &str) -> Result<Self, regex::Error> {
        let anchored = format!("^(?:{expression})$");
        Ok(Self::Regex(Box::new(regex::bytes::Regex::new(&anchored)?)))
    }

    /// Whether `value` satisfies it.
    pub fn matches(&self, value: Option<&[u8]>) -> bool {
        match (self, value) {
            (Self::Not(inner), _) => !inner.matches(value),
            (Self::Any(inner), _) => inner.iter().any(|matcher| matcher.matches(value)),
            (Self::Absent, value) => value.is_none(),
            (_, None) => false,
            (Self::Present, Some(_)) => true,
            (Self::Exact(want), Some(value)) => **want == *value,
            (Self::In(values), Some(value)) => {
                values.binary_search_by(|want| (**want).cmp(value)).is_ok()
            }
            (Self::Prefix(want), Some(value)) => value.starts_with(want),
            (Self::Suffix(want), Some(value)) => value.ends_with(want),
            (Self::Contains(want), Some(value)) => {
                want.is_empty() || value.windows(want.len()).any(|part| *part == **want)
            }
            (Self::Regex(regex), Some(value)) => regex.is_match(value),
            (Self::Range { min, max }, Some(value)) => number(value).is_some_and(|number| {
                min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max)
            }),
            (Self::Cidr(networks), Some(value)) => address(value)
                .is_some_and(|address| networks.iter().any(|network| network.contains(&address))),
        }
    }

    /// Whether whatever satisfies `self` satisfies `other` too. Sound, not
    /// complete: `false` says nothing.
    pub fn implies(&self, other: &Self) -> bool {
        let has_value = !matches!(self, Self::Absent | Self::Not(_) | Self::Any(_));
        match (self, other) {
            (_, Self::Present) if has_value => true,
            (Self::Absent, Self::Absent) => true,
            (Self::Exact(value), _) => other.matches(Some(value)),
            (Self::In(values), _) => values.iter().all(|value| other.matches(Some(value))),
            (Self::Prefix(long), Self::Prefix(short)) => long.starts_with(short),
            (Self::Suffix(long), Self::Suffix(short)) => long.ends_with(short),
            (_, Self::Any(options)) => options.iter().any(|option| self.implies(option)),
            _ => false,
        }
    }
}

fn number(value: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |f: &mut std::fmt::Formatter<'_>, items: &mut dyn Iterator<Item = String>| {
            f.write_str(&items.collect::<Vec<_>>().join(", "))
        };
        match self {
            Self::Exact(value) => write!(f, "\"{}\"", value.escape_ascii()),
            Self::In(values) => {
                f.write_str("one of ")?;
                list(f, &mut values.iter().map(|value| format!("\"{}\"", value.escape_ascii())))
            }
            Self::Prefix(value) => write!(f, "prefix \"{}\"", value.escape_ascii()),
            Self::Suffix(value) => write!(f, "suffix \"{}\"", value.escape_ascii()),
            Self::Contains(value) => write!(f, "contains \"{}\"", value.escape_ascii()),
            Self::Regex(regex) => write!(f, "regex {}", regex.as_str()),
            Self::Present => f.write_str("present"),
            Self::Absent => f.write_str("absent"),
            Self::Range { min, max } => match (min, max) {
                (Some(min), Some(max)) => write!(f, "from {min} to {max}"),
                (Some(min), None) => write!(f, "at least {min}"),
                (None, Some(max)) => write!(f, "at most {max}"),
                (None, None) => f.write_str("a number"),
            },
            Self::Cidr(networks) => {
                f.write_str("in ")?;
                list(f, &mut networks.iter().map(ToString::to_string))
            }
            Self::Not(inner) => write!(f, "not {inner}"),
            Self::Any(options) => {
                f.write_str("any of (")?;
                list(f, &mut options.iter().map(ToString::to_string))?;
                f.write_str(")")
            }
        }
    }
}

/// A matcher on one key.
#[derive(Debug, Clone)]
pub struct Predicate {
    /// The key.
    pub slot: Slot,
    /// The question.
    pub matcher: Matcher,
}

impl Predicate {
    /// Whether the message satisfies it.
    pub fn holds(&self, view: &View<'_>) -> bool {
        self.matcher.matches(view.get(self.slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_matcher_asks_its_question() {
        let cidr = Matcher::Cidr(vec!["10.0.0.0/8".parse().expect("a network")]);
        let range = Matcher::Range { min: Some(2.0), max: Some(10.0) };
        let cases: &[(&Matcher, &[u8], bool)] = &[
            (&Matcher::Exact((*b"a").into()), b"a", true),
            (&Matcher::Exact((*b"a").into()), b"A", false),
            (&Matcher::one_of(["c", "a", "b"]), b"b", true),
            (&Matcher::one_of(["c", "a"]), b"b", false),
            (&Matcher::Prefix((*b"com.").into()), b"com.x", true),
            (&Matcher::Suffix((*b".x").into()), b"com.x", true),
            (&Matcher::Contains((*b"om").into()), b"com.x", true),
            (&Matcher::Contains((*b"").into()), b"", true),
            (&Matcher::regex("a|b+").expect("fine"), b"bbb", true),
            (&Matcher::regex("a|b+").expect("fine"), b"xbbb", false),
            (&Matcher::Present, b"", true),
            (&Matcher::Absent, b"", false),
            (&range, b"2", true),
            (&range, b"10.5", false),
            (&range, b"many", false),
            (&cidr, b"10.1.2.3", true),
            (&cidr, b"::ffff:10.1.2.3", true),
            (&cidr, b"11.1.2.3", false),
            (&Matcher::Not(Box::new(range.clone())), b"many", true),
            (&Matcher::Any(vec![Matcher::Absent, range.clone()]), b"3", true),
        ];
        for (matcher, value, expected) in cases {
            assert_eq!(
                matcher.matches(Some(value)),
                *expected,
                "{matcher} of {}",
                value.escape_ascii()
            );
        }
        for matcher in [Matcher::Present, range.clone(), cidr, Matcher::one_of(["a"])] {
            assert!(!matcher.matches(None), "{matcher} of nothing");
        }
        assert!(Matcher::Absent.matches(None));
        assert!(Matcher::Not(Box::new(Matcher::Present)).matches(None));
    }
}
