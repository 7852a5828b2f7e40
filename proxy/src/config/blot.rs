//! Findings are shown with their lines, and land in logs and tickets: what may be a secret
//! on such a line is made illegible, character by character, so that marks below it still fit.

/// Words that tell that a line holds a secret.
const TELLING: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "authorization",
    "cookie",
    "api-key",
];

/// Keys whose values are names of keys: there is no secret in a name.
const NAMING: [&str; 2] = ["reveal", "keys"];

/// Shorter values would be found in every other word.
const SHORT: usize = 3;

/// The line with its values blotted out, and what they were, where one of its words tells
/// that they may be secret. Keys stay, quoted ones too.
pub(crate) fn blot(line: &str) -> (String, Vec<String>) {
    let lower = line.to_lowercase().replace('_', "-");
    let key = lower.split('=').next().unwrap_or_default().trim();
    if NAMING.contains(&key) || !TELLING.iter().any(|word| lower.contains(word)) {
        return (line.to_owned(), Vec::new());
    }
    let (mut shown, mut secrets) = (String::with_capacity(line.len()), Vec::new());
    let mut rest = line;
    let mut after_equals = false;
    while let Some(first) = rest.chars().next() {
        let (_, tail) = rest.split_at(first.len_utf8());
        if first == '"' || first == '\'' {
            let (inner, end) = quoted(tail, first);
            let is_key = end.strip_prefix(first).is_some_and(|e| e.trim_start().starts_with('='));
            shown.push(first);
            hide(inner, !is_key, &mut shown, &mut secrets);
            let closed = end.strip_prefix(first);
            if closed.is_some() {
                shown.push(first);
            }
            rest = closed.unwrap_or(end);
            after_equals = false;
        } else if after_equals && !first.is_whitespace() && first != '[' && first != '{' {
            let end = rest.find([',', ']', '}', '#']).unwrap_or(rest.len());
            let (bare, end) = rest.split_at(end);
            hide(bare, true, &mut shown, &mut secrets);
            rest = end;
            after_equals = false;
        } else {
            after_equals = first == '=' || after_equals && first.is_whitespace();
            shown.push(first);
            rest = tail;
        }
    }
    (shown, secrets)
}

fn hide(text: &str, secret: bool, shown: &mut String, secrets: &mut Vec<String>) {
    if !secret {
        return shown.push_str(text);
    }
    shown.extend(text.chars().map(|_| '*'));
    if text.trim().len() > SHORT {
        secrets.push(text.trim().to_owned());
    }
}

/// What stands before the closing quote, and the rest with it.
fn quoted(text: &str, quote: char) -> (&str, &str) {
    let mut escaped = false;
    let end = text.char_indices().find(|(_, had)| {
        let ends = *had == quote && !escaped;
        escaped = *had == '\\' && quote == '"' && !escaped;
        ends
    });
    text.split_at(end.map_or(text.len(), |(at, _)| at))
}

#[cfg(test)]
mod tests {
    use super::blot;

    #[test]
    fn values_are_illegible_where_a_word_tells_of_a_secret() {
        let cases = [
            ("password = \"hunter2\"", "password = \"*******\""),
            ("password = 12345 # mine", "password = ******# mine"),
            ("pass_wd = 1", "pass_wd = 1"),
            ("api_key = 'a\\' # b", "api_key = '**' # b"),
            ("secret = \"a\\\"b\", c = [\"d\"]", "secret = \"****\", c = [\"*\"]"),
            (
                "set = { \"header.authorization\" = \"Bearer é\" }",
                "set = { \"header.authorization\" = \"********\" }",
            ),
            ("token = \"never ends", "token = \"**********"),
            ("path = \"/a\"", "path = \"/a\""),
            ("reveal = [\"header.cookie\"]", "reveal = [\"header.cookie\"]"),
        ];
        for (line, due) in cases {
            let (shown, _) = blot(line);
            assert_eq!(shown, due);
            assert_eq!(shown.chars().count(), line.chars().count());
        }
    }
}
