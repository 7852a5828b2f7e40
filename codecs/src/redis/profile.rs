//! What a connection has been set up as, in a form that can be sent again.
//!
//! The preamble holds one command for each thing that is set, in the order below,
//! so that equal states have equal preambles and share connections.

use super::{encode_command, inline, line, number};
use crate::frame::Profile;

type Words = Vec<Vec<u8>>;

/// In the order they are sent: first who, then how, then where.
fn rank(words: &Words) -> usize {
    let is = |at: usize, name: &str| {
        words.get(at).is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    if is(0, "auth") {
        0
    } else if is(0, "hello") {
        1
    } else if is(0, "client") {
        match () {
            () if is(1, "setname") => 2,
            () if is(1, "setinfo") && is(2, "lib-name") => 3,
            () if is(1, "setinfo") => 4,
            () if is(1, "no-evict") => 5,
            () => 6,
        }
    } else if is(0, "readonly") {
        7
    } else {
        8
    }
}

/// The profile after `request` succeeded on a connection of `profile`.
pub(super) fn advance(profile: &Profile, request: &[u8]) -> Profile {
    let mut set: Vec<Words> = Vec::new();
    let mut rest = &profile.preamble[..];
    while let Some((words, after)) = command(rest) {
        set.push(words);
        rest = after;
    }
    let Some((words, _)) = command(request) else { return profile.clone() };
    let name = words.first().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    let mut put = |words: Words| {
        set.retain(|had| rank(had) != rank(&words));
        set.push(words);
    };
    let drop_rank = |set: &mut Vec<Words>, gone: usize| set.retain(|had| rank(had) != gone);
    match name.as_slice() {
        b"reset" => set.clear(),
        b"readwrite" => drop_rank(&mut set, 7),
        b"select" if words.get(1).is_some_and(|db| number(db) == Some(0)) => {
            drop_rank(&mut set, 8);
        }
        b"hello" => {
            // HELLO can do three things at once; each is kept for itself.
            let option = |name: &str| {
                words.iter().position(|word| word.eq_ignore_ascii_case(name.as_bytes()))
            };
            if let Some(at) = option("auth")
                && let (Some(user), Some(password)) = (words.get(at + 1), words.get(at + 2))
            {
                put(vec![b"AUTH".to_vec(), user.clone(), password.clone()]);
            }
            if let Some(at) = option("setname")
                && let Some(name) = words.get(at + 1)
            {
                put(vec![b"CLIENT".to_vec(), b"SETNAME".to_vec(), name.clone()]);
            }
            match words.get(1) {
                Some(version) if version.as_slice() == b"2" => drop_rank(&mut set, 1),
                Some(version) => put(vec![b"HELLO".to_vec(), version.clone()]),
                None => {}
            }
        }
        _ => put(words),
    }
    set.sort_by_key(rank);
    let mut preamble = Vec::new();
    for words in &set {
        encode_command(words, &mut preamble);
    }
    Profile { preamble, replies: set.len() }
}

/// The first command of `bytes` and what follows it.
fn command(bytes: &[u8]) -> Option<(Words, &[u8])> {
    let mut at = 0;
    // Empty lines and empty arrays before a command mean nothing.
    loop {
        let (head, next) = line(bytes, at)?;
        let Some(count) = head.strip_prefix(b"*") else {
            if head.is_empty() {
                at = next;
                continue;
            }
            return Some((inline::words(head).ok()?, bytes.get(next..)?));
        };
        at = next;
        let count = number(count)?;
        if count <= 0 {
            continue;
        }
        let mut words = Vec::new();
        for _ in 0..count {
            let (head, next) = line(bytes, at)?;
            let len = usize::try_from(number(head.strip_prefix(b"$")?)?).ok()?;
            words.push(bytes.get(next..next.checked_add(len)?)?.to_vec());
            at = next + len + 2;
        }
        return Some((words, bytes.get(at..)?));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(script: &[&str]) -> (String, usize) {
        let mut profile = Profile::default();
        for words in script {
            let mut request = Vec::new();
            encode_command(&words.split(' ').collect::<Vec<_>>(), &mut request);
            profile = advance(&profile, &request);
        }
        let mut words = Vec::new();
        let mut rest = &profile.preamble[..];
        while let Some((command, after)) = command(rest) {
            words.push(String::from_utf8(command.join(&b' ')).expect("text"));
            rest = after;
        }
        (words.join("; "), profile.replies)
    }

    #[test]
    fn equal_states_have_equal_preambles() {
        let one = after(&["SELECT 3", "AUTH alice secret", "HELLO 3"]);
        assert_eq!(one, ("AUTH alice secret; HELLO 3; SELECT 3".into(), 3));
        let cases: [(&[&str], &str); 6] = [
            (&["HELLO 3 AUTH bob pw SETNAME app"], "AUTH bob pw; HELLO 3; CLIENT SETNAME app"),
            (&["SELECT 3", "SELECT 4"], "SELECT 4"),
            (&["SELECT 3", "select 0"], ""),
            (&["AUTH a", "READONLY", "READWRITE"], "AUTH a"),
            (&["HELLO 3", "RESET"], ""),
            (
                &[
                    "CLIENT SETINFO LIB-NAME x",
                    "CLIENT SETINFO LIB-VER 1",
                    "CLIENT SETINFO lib-name y",
                ],
                "CLIENT SETINFO lib-name y; CLIENT SETINFO LIB-VER 1",
            ),
        ];
        for (script, expected) in cases {
            assert_eq!(after(script).0, expected, "{script:?}");
        }
    }

    #[test]
    fn a_command_typed_by_hand_counts_as_well() {
        let profile = advance(&Profile::default(), b"\r\nselect \"5\"\r\n");
        assert_eq!(profile.preamble, b"*2\r\n$6\r\nselect\r\n$1\r\n5\r\n");
        assert_eq!(profile.replies, 1);
    }
}
