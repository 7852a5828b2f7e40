//! A decision in words.

use std::fmt::{self, Display, Formatter};

use super::decision::{Again, Copied, Decision, Fact, Limited, Meets, Sent};
use super::target::{Arm, One};

/// Routes, or endpoints of a target, that are shown at most.
const SHOWN: usize = 20;

impl Display for Fact {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = \"{value}\"", self.key),
            None => write!(f, "{} = absent", self.key),
        }
    }
}

impl Display for Decision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        match &self.route {
            None if self.unasked.is_some() => {
                lines.push(format!("no route is asked: {}", self.unasked.unwrap_or_default()));
            }
            None if self.denied => {
                lines.push("no route matches: denied, as [access] default is \"deny\"".to_owned());
            }
            None if self.passes_in_session => lines.push(
                "no route matches: the message is answered with an error; within a session it passes"
                    .to_owned(),
            ),
            None => {
                lines.push("no route matches: the message is answered with an error".to_owned());
            }
            Some(route) => {
                lines.push(format!("route \"{route}\""));
                let why = self.why.iter();
                lines.extend(why.map(|asked| format!("  as {} is {}", asked.fact, asked.matcher)));
                if self.why.is_empty() {
                    lines.push("  as it matches everything".to_owned());
                }
            }
        }
        match (&self.forward, self.answered) {
            (Some(sent), _) => sent.tell(&mut lines),
            (None, Some(status)) => lines.push(format!("  answered here, with status {status}")),
            (None, None) if self.denied && self.route.is_some() => {
                lines.push("  denied".to_owned())
            }
            (None, None) => {}
        }
        if !self.not_chosen.is_empty() {
            lines.push("not chosen:".to_owned());
        }
        lines.extend(self.not_chosen.iter().take(SHOWN).map(|passed| {
            let asked = &passed.asked;
            format!("  \"{}\": {} is not {}", passed.route, asked.fact, asked.matcher)
        }));
        if self.not_chosen.len() > SHOWN {
            lines.push(format!("  and {} more", self.not_chosen.len() - SHOWN));
        }
        f.write_str(&lines.join("\n"))
    }
}

impl Sent {
    fn tell(&self, lines: &mut Vec<String>) {
        if let Some(only) = &self.only {
            let verdict = if only.holds { "it is" } else { "it is not: denied" };
            lines.push(format!("  only where {}: {verdict}", only.rule));
            if !only.holds {
                return;
            }
        }
        lines.extend(self.limits.iter().map(|limit| format!("  limit {limit}")));
        lines.extend(self.faults.iter().map(|fault| format!("  fault: {fault}")));
        match &self.targets[..] {
            [only] => only.tell(lines, false),
            several => {
                lines.push(match &self.sticky {
                    Some(Fact { key, value: None }) => {
                        format!("  one of these, by chance as {key} is absent:")
                    }
                    Some(fact) => format!("  one of these, by {fact}:"),
                    None => "  one of these, by chance:".to_owned(),
                });
                several.iter().for_each(|arm| arm.tell(lines, true));
            }
        }
        lines.extend(self.retry.iter().map(|retry| format!("  retry {retry}")));
        if let Some(mirror) = &self.mirror {
            mirror.tell(lines);
        }
        for (word, keys) in [("request", &self.request), ("response", &self.response)] {
            if !keys.is_empty() {
                lines.push(format!("  changed in the {word}: {}", keys.join(", ")));
            }
        }
        let mut times = match &self.timeout {
            Some(timeout) => format!("  timeout {timeout}, {}", self.times),
            None => format!("  no timeout, as it may take as long as it likes; {}", self.times),
        };
        if let Some(client) = &self.client_timeout {
            times.push_str(&format!("; its client waits {client}"));
        }
        lines.push(times);
    }
}

impl Display for Limited {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.limit)?;
        if self.by.is_empty() {
            return Ok(());
        }
        if self.by.iter().all(|fact| fact.value.is_none()) {
            return f.write_str(": here one that all without have together");
        }
        let facts: Vec<String> = self.by.iter().map(ToString::to_string).collect();
        write!(f, ": here of {}", facts.join(" and "))
    }
}

impl Display for Meets {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault)?;
        match self.may {
            Some(true) => f.write_str(": it is"),
            Some(false) => f.write_str(": it is not, so never this message"),
            None => Ok(()),
        }
    }
}

impl Display for Again {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.policy)?;
        match &self.here {
            Some(here) => write!(f, ": {here}"),
            None => Ok(()),
        }
    }
}

impl Copied {
    fn tell(&self, lines: &mut Vec<String>) {
        if self.may == Some(false) {
            lines.push(format!("  mirror {}: never this message", self.policy));
            return;
        }
        lines.push(format!("  mirror {}", self.policy));
        if let Some(target) = &self.target {
            target.list(lines, "    ");
        }
    }
}

impl Arm {
    /// `split`: it is one of several.
    fn tell(&self, lines: &mut Vec<String>, split: bool) {
        let mut line = match split {
            true => format!("    {}% to cluster \"{}\"", percent(self.share), self.cluster),
            false => format!("  to cluster \"{}\"", self.cluster),
        };
        if self.taken == Some(false) {
            lines.push(line);
            return;
        }
        line.push_str(&format!(" ({}", self.balance));
        match &self.by {
            // A lone endpoint is not searched for.
            _ if self.endpoints.len() == 1 => {}
            Some(Fact { value: Some(value), .. }) => line.push_str(&format!(", here \"{value}\"")),
            Some(_) => line.push_str(", here in turn as it is absent"),
            None => {}
        }
        if let Some(eligibility) = &self.eligibility {
            line.push_str(&format!("; {eligibility}"));
        }
        line.push(')');
        if split && self.taken == Some(true) {
            line.push_str(": this one");
        }
        lines.push(line);
        let indent = if split { "      " } else { "    " };
        self.list(lines, indent);
        for (word, policy) in [
            ("endpoints, found while running", &self.discover),
            ("breaker", &self.breaker),
            ("health", &self.health),
            ("outliers", &self.outliers),
            ("retry budget", &self.retry_budget),
        ] {
            lines.extend(policy.iter().map(|policy| format!("{indent}{word}: {policy}")));
        }
    }

    /// The endpoints: the first ones, and the one that is chosen.
    fn list(&self, lines: &mut Vec<String>, indent: &str) {
        let found = self.endpoints.iter().any(|endpoint| endpoint.chosen);
        let mut carry = self.endpoints.iter().map(|one| one.share).filter(|share| *share > 0.0);
        let first = carry.next();
        let even = carry.all(|share| first.is_some_and(|first| (share - first).abs() < 1e-9));
        let mut more = 0;
        for (at, endpoint) in self.endpoints.iter().enumerate() {
            if at >= SHOWN && !endpoint.chosen {
                more += 1;
                continue;
            }
            let note = match endpoint {
                _ if self.endpoints.len() == 1 => String::new(),
                One { chosen: true, .. } if self.bounded => {
                    ": this one, while all are well and it is within its bound".to_owned()
                }
                One { chosen: true, .. } => ": this one, while all are well".to_owned(),
                One { share: 0.0, .. } => ": nothing while the others are well".to_owned(),
                _ if found || even => String::new(),
                One { share, .. } => format!(": {}%", percent(*share)),
            };
            lines.push(format!("{indent}{endpoint}{note}"));
        }
        if more > 0 {
            lines.push(format!("{indent}and {more} more"));
        }
    }
}

impl Display for One {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        if self.weight != 1 {
            write!(f, ", weight {}", self.weight)?;
        }
        if self.priority != 0 {
            write!(f, ", priority {}", self.priority)?;
        }
        if let Some(zone) = &self.zone {
            write!(f, ", zone {zone}")?;
        }
        self.labels.iter().try_for_each(|(name, value)| write!(f, ", {name} = {value}"))
    }
}

/// With two digits at most.
fn percent(share: f64) -> f64 {
    (share * 10_000.0).round() / 100.0
}
