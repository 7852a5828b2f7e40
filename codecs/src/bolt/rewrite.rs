//! Changing the header block; everything else stays byte by byte as it was, but
//! for its length, the id and the checksum.

use super::block;
use super::header;
use crate::mutation::{Change, To, Unchangeable};

/// The one family of keys that can be changed.
pub(super) const FAMILY: &str = "header.";

/// Appends the message at the front of `bytes` with `changes` made, and `id` where
/// one is given.
///
/// A name that is there keeps its spelling and its place; a new one comes last,
/// spelt as the change spells it. Of several changes to one name the last counts.
/// Null names and null values that no change names stay null.
pub(super) fn message(
    bytes: &[u8],
    id: Option<u64>,
    changes: &[Change<'_>],
    out: &mut Vec<u8>,
) -> Result<(), Unchangeable> {
    let Ok(header) = header::read(bytes) else {
        return Err(Unchangeable("its fixed part is not all there"));
    };
    let (block_at, content_at) = (header.block_at(), header.content_at());
    let (Some(front), Some(old), Some(rest)) =
        (bytes.get(..block_at), bytes.get(block_at..content_at), bytes.get(content_at..))
    else {
        return Err(Unchangeable("its header block is not all there"));
    };
    if header.form.checked() && header.size() != bytes.len() as u64 {
        return Err(Unchangeable("it has a checksum and is not all there"));
    }
    if changes.iter().any(|change| change.of(FAMILY).is_none()) {
        return Err(Unchangeable("only texts of its header block can be changed"));
    }
    if changes.iter().any(|change| matches!(change.to, To::Append(_))) {
        return Err(Unchangeable("a text of its header block has one value"));
    }
    let start = out.len();
    out.extend_from_slice(front);
    let new_at = out.len();
    // Which changes have been made: entries are many, and looked at once.
    let mut made = vec![false; changes.len()];
    for entry in block::entries(old) {
        let entry = entry.map_err(|_| Unchangeable("its header block is broken"))?;
        let name = entry.name.and_then(|range| old.get(range));
        let change = name.and_then(|name| Some((name, last(changes, name)?)));
        let Some((name, at)) = change else {
            out.extend_from_slice(old.get(entry.whole).unwrap_or_default());
            continue;
        };
        if let Some(made) = made.get_mut(at)
            && !std::mem::replace(made, true)
            && let Some(To::Set(value)) = changes.get(at).map(|change| change.to)
        {
            block::put(name, value, out);
        }
    }
    for (at, (change, made)) in changes.iter().zip(made).enumerate() {
        let name = change.of(FAMILY).unwrap_or_default().as_bytes();
        if let To::Set(value) = change.to
            && !made
            && last(changes, name) == Some(at)
        {
            block::put(name, value, out);
        }
    }
    let Ok(len) = u16::try_from(out.len() - new_at) else {
        return Err(Unchangeable("its header block would pass 65,535 bytes"));
    };
    out.extend_from_slice(rest);
    let message = out.get_mut(start..).unwrap_or_default();
    // The lengths of block (2 bytes) and content (4) end the fixed part.
    let at = header.fixed() - 6;
    if let Some(place) = message.get_mut(at..at + 2) {
        place.copy_from_slice(&len.to_be_bytes());
    }
    header::set_id(message, id.map_or(header.id, |id| id as u32));
    Ok(())
}

/// Which change counts for `name`.
fn last(changes: &[Change<'_>], name: &[u8]) -> Option<usize> {
    changes.iter().rposition(|change| {
        change.of(FAMILY).is_some_and(|of| of.as_bytes().eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::tests::{VERSIONS, all_cuts, any_call, call, decode, value, with_block};
    use crate::bolt::Bolt;
    use crate::bolt::call::{Call, Version};
    use crate::frame::{Head, Kind, ReplyTo};
    use crate::mutation::{Change, To, Unchangeable};
    use crate::{Hop, Limits, Protocol, Side};

    const HOP: Hop = Hop {
        side: Side::Request,
        id: Some(0xdead_beef),
        source: None,
        secure: false,
        request: ReplyTo { id: 0, token: 0 },
        close: false,
        plain_body: false,
        timeout: None,
    };

    fn set<'a>(key: &'a str, value: &'a str) -> Change<'a> {
        Change { key, to: To::Set(value.as_bytes()) }
    }

    fn rewritten(input: &[u8], changes: &[Change<'_>]) -> Result<Vec<u8>, Unchangeable> {
        let mut out = b"before".to_vec();
        let head = Head::whole(Kind::Request, input.len());
        Bolt.rewrite(&head, input, &HOP, changes, &mut out)?;
        Ok(out.split_off(6))
    }

    #[test]
    fn a_change_touches_the_header_block_the_lengths_the_id_and_the_checksum_alone() {
        let remove = Change { key: "header.gone", to: To::Remove };
        let changes = [set("header.tenant", "blue"), remove, set("header.new", "n")];
        for version in VERSIONS {
            let base = Call { version, content: b"\x00content", ..Call::default() };
            let before = [("a", "1"), ("Tenant", "acme"), ("Gone", "x"), ("b", "2"), ("gOne", "y")];
            let after = [("a", "1"), ("Tenant", "blue"), ("b", "2"), ("new", "n")];
            let input = call(Call { id: 1, headers: &before, ..base.clone() });
            let expected = call(Call { id: 0xdead_beef, headers: &after, ..base });
            assert_eq!(rewritten(&input, &changes), Ok(expected), "{version:?}");
        }
    }

    #[test]
    fn a_name_has_one_value_after_it_is_set_and_the_last_change_counts() {
        let before = [("t", "1"), ("T", "2"), ("x", "")];
        let input = call(Call { headers: &before, ..Call::default() });
        let remove = Change { key: "header.t", to: To::Remove };
        for (changes, after) in [
            (&[set("header.t", "3")][..], &[("t", "3"), ("x", "")][..]),
            (&[remove, set("header.T", "4")], &[("t", "4"), ("x", "")]),
            (&[set("header.t", "5"), remove], &[("x", "")]),
            (
                &[set("header.y", "6"), set("header.Y", "7")],
                &[("t", "1"), ("T", "2"), ("x", ""), ("Y", "7")],
            ),
            (&[], &before),
        ] {
            let expected = call(Call { id: 0xdead_beef, headers: after, ..Call::default() });
            assert_eq!(rewritten(&input, changes), Ok(expected), "{changes:?}");
        }
    }

    #[test]
    fn nulls_stay_nulls_through_a_change() {
        let null = b"\xff\xff\xff\xff";
        let block = [&null[..], b"\0\0\0\x01x\0\0\0\x01a", null, b"\0\0\0\x01b", null].concat();
        let out = rewritten(&with_block(&block), &[set("header.b", "1")]).expect("changed");
        let expected =
            [&null[..], b"\0\0\0\x01x\0\0\0\x01a", null, b"\0\0\0\x01b\0\0\0\x011"].concat();
        assert_eq!(out[22..], expected);
        assert_eq!(out[16..18], (expected.len() as u16).to_be_bytes());
        // A null name is not an empty one.
        let block = [&null[..], b"\0\0\0\x01x"].concat();
        let out = rewritten(&with_block(&block), &[set("header.", "1")]).expect("changed");
        assert_eq!(out[22..], [&block[..], b"\0\0\0\0\0\0\0\x011"].concat());
    }

    #[test]
    fn a_message_that_cannot_take_a_change_says_so() {
        let long = "x".repeat(65_530);
        let input = call(Call { headers: &[("a", "b")], content: b"abc", ..Call::default() });
        let checked =
            call(Call { version: Version::V2Checked, content: b"abc", ..Call::default() });
        let broken = with_block(b"\0\0\0\x09a");
        for (bytes, changes, why) in [
            (&input[..], [set("header.c", &long)], "65,535"),
            (&input[..30], [set("header.c", "d")], "not all there"),
            (&input[..10], [set("header.c", "d")], "not all there"),
            (&checked[..checked.len() - 5], [set("header.c", "d")], "checksum"),
            (&broken, [set("header.c", "d")], "broken"),
            (&input, [set("path", "d")], "header block"),
            (&input, [Change { key: "header.a", to: To::Append(b"x") }], "one value"),
        ] {
            let error = rewritten(bytes, &changes).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
        // As far as the length goes, it may.
        let just = "x".repeat(65_535 - 10 - 9);
        let out = rewritten(&input, &[set("header.c", &just)]).expect("changed");
        assert_eq!(all_cuts(Side::Request, &out[..40]).messages.len(), 0);
        assert_eq!(out[16..18], [0xff, 0xff]);
    }

    #[test]
    fn the_head_of_a_streamed_message_can_be_rewritten() {
        let input = call(Call { headers: &[("a", "b")], content: b"streamed", ..Call::default() });
        let front = &input[..input.len() - 8];
        let out = rewritten(front, &[set("header.a", "cc")]).expect("changed");
        let whole = [&out[..], b"streamed"].concat();
        let headers = [("a", "cc")];
        let expected = call(Call {
            id: 0xdead_beef,
            headers: &headers,
            content: b"streamed",
            ..Call::default()
        });
        assert_eq!(whole, expected);
    }

    #[test]
    fn the_server_is_told_what_is_left_of_the_clients_time() {
        for version in VERSIONS {
            let base =
                Call { version, content: b"content", headers: &[("a", "1")], ..Call::default() };
            let input = call(Call { id: 7, timeout: 3000, ..base.clone() });
            let head = Head::whole(Kind::Request, input.len());
            for (id, has) in [(Some(0xdead_beef), 0xdead_beef), (None, 7)] {
                let hop = Hop { id, timeout: Some(1234), ..HOP };
                let expected = call(Call { id: has, timeout: 1234, ..base.clone() });
                let (mut relayed, mut changed) = (Vec::new(), Vec::new());
                Bolt.relay(&head, &input, &hop, &mut relayed);
                assert_eq!(relayed, expected, "{version:?}");
                Bolt.rewrite(&head, &input, &hop, &[set("header.a", "2")], &mut changed)
                    .expect("changed");
                let headers = [("a", "2")];
                let expected =
                    call(Call { id: has, timeout: 1234, headers: &headers, ..base.clone() });
                assert_eq!(changed, expected, "{version:?}");
            }
        }
    }

    #[test]
    fn many_entries_of_one_name_are_looked_at_once() {
        let block = b"\0\0\0\x00\0\0\0\x00".repeat(8191);
        let out = rewritten(&with_block(&block), &[set("header.", "1")]).expect("changed");
        assert_eq!(out.len(), 22 + 9);
    }

    /// The message with one change, if it can take it.
    pub(in super::super) fn changed(message: &[u8]) -> Option<Vec<u8>> {
        rewritten(message, &[set("header.x", "y")]).ok()
    }

    proptest! {
        #[test]
        fn a_changed_message_is_well_formed(message in any_call(), new in "[a-z]{0,12}") {
            let out = rewritten(&message, &[set("header.tenant", &new)]).expect("changed");
            let all = decode(Side::Request, &Limits::default(), &out, &[5]);
            prop_assert_eq!((&all.error, all.unread, all.messages.len()), (&None, 0, 1));
            prop_assert_eq!(value(&all, 0, "header.tenant"), new);
            prop_assert_eq!(all.messages[0].head.reply_to.id, 0xdead_beef);
        }
    }
}
