//! What is a secret: decided by a key's name and by how a value begins, for all that shows
//! metadata to people.
//!
//! It rather hides too much: what must be seen is revealed by name. A secret in a value that
//! neither its key nor its beginning gives away is shown, so nothing here makes it safe to
//! print what was not asked for.

/// What stands in a secret's place.
pub const MASK: &str = "***";

/// Words that make a key a secret wherever they stand in its name, whatever separates
/// their letters.
const WITHIN: &[&str] = &[
    "accesskey",
    "apikey",
    "assertion",
    "authorization",
    "authentication",
    "bearer",
    "cookie",
    "credential",
    "jwt",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "session",
    "signature",
    "token",
];

/// Words that do so only as a whole part of the name, since they begin many others.
const WHOLE: &[&str] = &["auth", "otp", "pass", "pin", "psk", "pwd", "sid", "sig"];

/// Query parameters that carry credentials under a name that means nothing elsewhere.
const QUERY: &[&str] = &["code", "key"];

/// How values begin that are credentials whatever their key is, lower case.
const BEGINS: &[&[u8]] = &[b"bearer ", b"basic ", b"digest ", b"negotiate ", b"eyj"];

/// Whether values of the key are hidden where nobody asked to see them: names that speak of
/// passwords, tokens and the like, and every cookie.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let family = key.split_once('.');
    if matches!(family, Some(("cookie", _))) {
        return true;
    }
    if let Some(("query", name)) = family
        && QUERY.contains(&name)
    {
        return true;
    }
    let letters: String = key.chars().filter(|letter| letter.is_ascii_alphanumeric()).collect();
    WITHIN.iter().any(|word| letters.contains(word))
        || key.split(['.', '-', '_', ' ']).any(|part| WHOLE.contains(&part))
}

/// Whether a value is a credential by its look: an HTTP authorization, or a signed token.
pub fn looks_secret(value: &[u8]) -> bool {
    BEGINS.iter().any(|begin| {
        value.get(..begin.len()).is_some_and(|start| start.eq_ignore_ascii_case(begin))
            // A word of that beginning is no token: those have parts, joined by dots.
            && (*begin != b"eyj" || value.iter().filter(|byte| **byte == b'.').count() >= 2)
    })
}

/// Which values are shown as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redaction {
    /// Keys, lower case, shown although they are secrets.
    reveal: Vec<String>,
}

impl Redaction {
    /// Hides every secret but those of these keys. Case does not matter.
    pub fn revealing<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self { reveal: keys.into_iter().map(str::to_ascii_lowercase).collect() }
    }

    /// Whether all values of the key are hidden.
    pub fn hides(&self, key: &str) -> bool {
        is_secret(key) && !self.reveals(key)
    }

    /// Whether the key's values are shown whatever they are.
    pub fn reveals(&self, key: &str) -> bool {
        self.reveal.iter().any(|name| name.eq_ignore_ascii_case(key))
    }

    /// The value as it may be shown: itself, or [`MASK`].
    pub fn shown<'a>(&self, key: &str, value: &'a [u8]) -> &'a [u8] {
        if (is_secret(key) || looks_secret(value)) && !self.reveals(key) {
            MASK.as_bytes()
        } else {
            value
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_speak_of_secrets_are_hidden() {
        let secrets = [
            "header.authorization",
            "header.Authorization",
            "header.proxy-authorization",
            "header.cookie",
            "header.set-cookie",
            "header.x-api-key",
            "header.X_API_KEY",
            "header.x-auth",
            "header.x-amz-security-token",
            "header.x-csrftoken",
            "query.access_token",
            "query.password",
            "query.key",
            "query.code",
            "query.sig",
            "cookie.theme",
            "cookie.PHPSESSID",
            "attachment.clientSecret",
            "attachment.db.pass",
            "property.token",
            "password",
        ];
        for key in secrets {
            assert!(is_secret(key), "{key}");
        }
    }

    #[test]
    fn names_that_only_look_like_it_are_shown() {
        let plain = [
            "key",
            "key.hashtag",
            "method",
            "path",
            "user",
            "username",
            "header.author",
            "header.x-compass",
            "header.x-request-id",
            "header.x-tenant",
            "query.page",
            "tls.client.subject",
            "source.ip",
        ];
        for key in plain {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn credentials_are_known_by_their_look() {
        assert!(looks_secret(b"Bearer abc"));
        assert!(looks_secret(b"basic dXNlcjpwYXNz"));
        assert!(looks_secret(b"eyJhbGciOiJub25lIn0.e30."));
        for plain in [&b"bear"[..], b"", b"basically", b"eyjafjallajokull", b"\xff\xfe"] {
            assert!(!looks_secret(plain), "{}", plain.escape_ascii());
        }
    }

    #[test]
    fn what_is_revealed_is_shown() {
        let none = Redaction::default();
        let one = Redaction::revealing(["Header.Authorization"]);
        assert_eq!(none.shown("header.authorization", b"x"), MASK.as_bytes());
        assert_eq!(one.shown("header.authorization", b"Bearer x"), b"Bearer x");
        assert_eq!(one.shown("header.cookie", b"x"), MASK.as_bytes());
        assert_eq!(one.shown("header.x-forwarded-auth-to", b"x"), MASK.as_bytes());
        assert_eq!(none.shown("header.x-tenant", b"Bearer x"), MASK.as_bytes());
        assert_eq!(none.shown("header.x-tenant", b"acme"), b"acme");
        assert!(none.hides("query.token") && !one.hides("header.authorization"));
    }
}
