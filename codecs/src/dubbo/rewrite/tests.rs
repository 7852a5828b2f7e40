use proptest::prelude::*;

use super::super::call::Call;
use super::super::{Dubbo, header};
use crate::codec::{Hop, Protocol, Side};
use crate::frame::{Head, Kind, Outcome};
use crate::hessian::{Reader, Skipper, write};
use crate::interest::Interest;
use crate::limits::Limits;
use crate::mutation::{Change, To, Unchangeable};
use crate::testing::transcript;

const TWO_WAY_HESSIAN: u8 = 0xc2;

fn set<'a>(key: &'a str, value: &'a str) -> Change<'a> {
    Change { key, to: To::Set(value.as_bytes()) }
}

fn remove(key: &str) -> Change<'_> {
    Change { key, to: To::Remove }
}

fn message(flags: u8, status: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    header::write(flags, status, 7, body, &mut out);
    out
}

/// A call of one argument that is an object, up to where its attachments begin.
const CALL: &[u8] = b"\x052.0.2\x03a.BN\x01m\x04La/;C\x03a/C\x92\x01x\x01y\x60\x02hi\x91";

fn call(attachments: &[u8]) -> Vec<u8> {
    message(TWO_WAY_HESSIAN, 0, &[CALL, attachments].concat())
}

fn reply(body: &[u8]) -> Vec<u8> {
    message(2, 20, body)
}

fn rewrite(message: &[u8], changes: &[Change<'_>]) -> Result<Vec<u8>, Unchangeable> {
    let head = Head::whole(Kind::Request, message.len());
    // What is there already stays.
    let mut out = b"before".to_vec();
    let hop = Hop { id: Some(0x0102_0304_0506_0708), ..Hop::neutral(Side::Request) };
    Dubbo.rewrite(&head, message, &hop, changes, &mut out)?;
    let out = out.strip_prefix(b"before").expect("what was there").to_vec();
    assert_eq!(out[..4], message[..4]);
    assert_eq!(out[4..12], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(out[12..16], (out.len() as u32 - 16).to_be_bytes());
    Ok(out)
}

/// The attachments of a call that was rewritten, whose other parts must be as they were.
fn rewritten(attachments: &[u8], changes: &[Change<'_>]) -> Vec<u8> {
    let out = rewrite(&call(attachments), changes).expect("changed");
    out[16..].strip_prefix(CALL).expect("the arguments").to_vec()
}

#[test]
fn what_is_set_is_there_what_is_removed_is_not_and_all_else_stays() {
    let had = b"H\x01a\x01x\x06Tenant\x03old\x01b\x93Z";
    let key = "attachment.tenant";
    assert_eq!(rewritten(had, &[set(key, "new")]), b"H\x01a\x01x\x06Tenant\x03new\x01b\x93Z");
    assert_eq!(rewritten(had, &[remove(key)]), b"H\x01a\x01x\x01b\x93Z");
    assert_eq!(rewritten(had, &[remove("attachment.c")]), had);
    assert_eq!(rewritten(had, &[]), had);
    assert_eq!(
        rewritten(had, &[set("attachment.c", "1"), remove("attachment.B")]),
        b"H\x01a\x01x\x06Tenant\x03old\x01c\x011Z"
    );
}

#[test]
fn of_several_changes_to_one_name_the_last_counts() {
    let (a, upper) = ("attachment.a", "attachment.A");
    assert_eq!(rewritten(b"HZ", &[set(a, "1"), set(upper, "2")]), b"H\x01A\x012Z");
    assert_eq!(rewritten(b"H\x01a\x010Z", &[set(a, "1"), remove(a)]), b"HZ");
    assert_eq!(rewritten(b"H\x01a\x010Z", &[remove(a), set(a, "1")]), b"H\x01a\x011Z");
}

#[test]
fn names_that_differ_in_case_only_become_one() {
    let had = b"H\x01a\x010\x01A\x011\x01b\x012Z";
    assert_eq!(rewritten(had, &[set("attachment.a", "x")]), b"H\x01a\x01x\x01b\x012Z");
    assert_eq!(rewritten(had, &[remove("attachment.a")]), b"H\x01b\x012Z");
}

#[test]
fn the_form_of_the_map_is_kept() {
    let set = [set("attachment.a", "1")];
    for (had, has) in [
        (&b"M\x0djava.util.MapZ"[..], &b"M\x0djava.util.Map\x01a\x011Z"[..]),
        (b"M\x90Z", b"M\x90\x01a\x011Z"),
        (b"M\xc8\x00Z", b"M\xc8\x00\x01a\x011Z"),
        // Null stands for an empty map.
        (b"N", b"H\x01a\x011Z"),
    ] {
        assert_eq!(rewritten(had, &set), has, "{}", had.escape_ascii());
    }
    assert_eq!(rewritten(b"N", &[remove("attachment.a")]), b"N");
    assert_eq!(rewritten(b"", &[remove("attachment.a")]), b"");
}

#[test]
fn values_that_later_ones_may_refer_to_by_number_stay() {
    // A class that the second value needs, and a list that the third refers to.
    let had = b"H\x01aC\x01c\x91\x01x\x61N\x01b\x61N\x01cQ\x91\x01d#bin\x91NZ";
    for name in ["attachment.a", "attachment.b"] {
        for change in [set(name, "1"), remove(name)] {
            let refused = rewrite(&call(had), &[change]);
            assert_eq!(
                refused,
                Err(Unchangeable("an attachment that is an object has to stay")),
                "{name}"
            );
        }
    }
    let without = rewritten(had, &[remove("attachment.c"), remove("attachment.d")]);
    assert_eq!(without, b"H\x01aC\x01c\x91\x01x\x61N\x01b\x61N\x91NZ");
}

#[test]
fn what_cannot_be_changed_is_said_and_never_passed_on_as_it_was() {
    let plain = call(b"HZ");
    let with = |at: usize, byte: u8| {
        let mut changed = plain.clone();
        changed[at] = byte;
        changed
    };
    let big = "x".repeat(8 << 20);
    let one = set("attachment.a", "1");
    for (message, change, why) in [
        (&plain[..10], one, "its header is not all there"),
        (&plain[..plain.len() - 1], one, "it is too large to be held as a whole"),
        (&with(2, 0xe2), one, "an event has no attachments"),
        (&with(2, 0xc6), one, "only the attachments of hessian2 can be changed"),
        (&call(b""), one, "it has no attachments"),
        (&call(b"\x01x"), one, "something else where its attachments should be"),
        (&call(b"H\x01a\x01x"), one, "its body ends too early"),
        (&call(b"H\x01aZ"), one, "an end of nothing"),
        (&call(b"HZN"), one, "there is something behind its attachments"),
        (&call(b"NN"), one, "there is something behind its attachments"),
        (&plain, set("method", "x"), "only its attachments can be changed"),
        (
            &plain,
            Change { key: "attachment.a", to: To::Set(b"\xff") },
            "an attachment's value must be UTF-8",
        ),
        (
            &plain,
            Change { key: "attachment.a", to: To::Append(b"x") },
            "an attachment has one value only",
        ),
        (&plain, set("attachment.a", &big), "its body would pass the 8 MiB that its peers accept"),
    ] {
        assert_eq!(rewrite(message, &[change]), Err(Unchangeable(why)));
    }
}

#[test]
fn replies_that_have_attachments_can_have_others_and_no_reply_is_given_its_first() {
    let set = [set("attachment.a", "1")];
    for (had, has) in [
        (&b"\x93\x01eHZ"[..], &b"\x93\x01eH\x01a\x011Z"[..]),
        (b"\x94C\x01c\x91\x01x\x60NHZ", b"\x94C\x01c\x91\x01x\x60NH\x01a\x011Z"),
        (b"\x95H\x01A\x01xZ", b"\x95H\x01A\x011Z"),
        (b"\x95N", b"\x95H\x01a\x011Z"),
    ] {
        assert_eq!(rewrite(&reply(had), &set).expect("changed")[16..], *has);
    }
    let failed = message(2, 80, b"\x01x");
    for had in [reply(b"\x90\x01e"), reply(b"\x91\x01x"), reply(b"\x92"), failed] {
        assert_eq!(rewrite(&had, &set), Err(Unchangeable("it has no attachments")));
        // Nothing is there to be removed.
        let same = rewrite(&had, &[remove("attachment.a")]).expect("unchanged");
        assert_eq!(same[16..], had[16..]);
    }
}

#[test]
fn only_attachments_can_be_changed() {
    let [family] = Dubbo.mutable() else { panic!("one family") };
    assert_eq!((family.name, family.family, family.append), ("attachment.", true, false));
    assert!(family.on(Side::Request) && family.on(Side::Reply) && family.remove);
}

/// The attachment `tenant` and the outcome as the decoder sees them.
fn seen(side: Side, input: &[u8]) -> (Option<Vec<u8>>, Outcome) {
    let interest = Interest::of(["attachment.tenant"]);
    let codec = Dubbo.compile(&Limits::default(), &interest);
    let all = transcript(codec.as_ref(), &interest, side, input, &[]);
    assert_eq!((all.error, all.messages.len(), all.unread), (None, 1, 0));
    let message = &all.messages[0];
    (message.metadata.first().map(|(_, value)| value.clone()), message.head.outcome)
}

/// The attachments of a call whose server is told that so many milliseconds are left.
fn told(attachments: &[u8], timeout: u32) -> Vec<u8> {
    let message = call(attachments);
    let head = Head::whole(Kind::Request, message.len());
    let hop = Hop { id: Some(9), timeout: Some(timeout), ..Hop::neutral(Side::Request) };
    let (mut relayed, mut rewritten) = (b"before".to_vec(), b"before".to_vec());
    Dubbo.relay(&head, &message, &hop, &mut relayed);
    Dubbo.rewrite(&head, &message, &hop, &[], &mut rewritten).expect("changed");
    assert_eq!(relayed, rewritten);
    let out = relayed.strip_prefix(b"before").expect("what was there");
    assert_eq!(out[4..12], 9u64.to_be_bytes());
    assert_eq!(out[12..16], (out.len() as u32 - 16).to_be_bytes());
    out[16..].strip_prefix(CALL).expect("the arguments").to_vec()
}

#[test]
fn the_server_is_told_what_is_left_of_the_clients_time() {
    for (had, has) in [
        (
            &b"H\x01a\x01x\x07timeout\x043000\x01b\x93Z"[..],
            &b"H\x01a\x01x\x07timeout\x03700\x01b\x93Z"[..],
        ),
        // An int stays an int, a long a long.
        (b"H\x07timeout\xd4\x0b\xb8Z", b"H\x07timeoutI\0\0\x02\xbcZ"),
        (b"H\x07timeoutI\0\0\x0b\xb8Z", b"H\x07timeoutI\0\0\x02\xbcZ"),
        (b"H\x07timeout\x59\0\0\x0b\xb8Z", b"H\x07timeoutL\0\0\0\0\0\0\x02\xbcZ"),
        // Both are, and the map keeps its form.
        (b"M\x90\x03_TO\x0510000\x07Timeout\x03999Z", b"M\x90\x03_TO\x03700\x07Timeout\x03700Z"),
        // What says less, or nothing that is a time, stays; nothing is added.
        (b"H\x07timeout\x03600Z", b"H\x07timeout\x03600Z"),
        (b"H\x07timeout\x01x\x03_TONZ", b"H\x07timeout\x01x\x03_TONZ"),
        (b"HZ", b"HZ"),
        (b"N", b"N"),
        (b"", b""),
    ] {
        assert_eq!(told(had, 700), has, "{}", had.escape_ascii());
    }
}

#[test]
fn how_long_the_client_waits_is_read_where_somebody_wants_to_know() {
    let codecs = ["attachment.timeout", "attachment.other"].map(|key| {
        let interest = Interest::of([key]);
        (Dubbo.compile(&Limits::default(), &interest), interest)
    });
    for (attachments, due) in [
        (&b"H\x07timeout\x043000Z"[..], 3000),
        (b"H\x07timeout\xd4\x0b\xb8\x03_TO\x03500Z", 500),
        (b"H\x07timeout\x01-Z", 0),
        (b"H\x07timeoutNZ", 0),
        (b"H\x07timeoutL\x7f\0\0\0\0\0\0\0Z", u32::MAX),
        (b"HZ", 0),
    ] {
        for ((codec, interest), due) in codecs.iter().zip([due, 0]) {
            // One that says nothing comes after one that says something.
            let input = [call(attachments), call(b"HZ")].concat();
            let all = transcript(codec.as_ref(), interest, Side::Request, &input, &[]);
            let timeouts: Vec<u32> = all.messages.iter().map(|m| m.head.timeout).collect();
            assert_eq!(timeouts, [due, 0], "{}", attachments.escape_ascii());
        }
    }
    assert_eq!(Dubbo.deadline(), Some("attachment.timeout"));
}

/// A value that stands for itself: one whose classes, if any, are its own.
fn skips(value: &[u8]) -> bool {
    let mut reader = Reader::new(value, 0);
    Skipper::new(64, 1 << 20).skip(&mut reader).is_ok() && reader.at == value.len()
}

proptest! {
    #[test]
    fn the_decoder_sees_what_was_set_and_arguments_stay(
        argument in "[a-zé漢😀]{0,60}",
        had in proptest::collection::vec(("[a-zA-Z]{1,8}", "[ -~é]{0,40}"), 0..6),
        tenant in "[ -~é漢]{0,70}",
        gone in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let pairs: Vec<(&str, &str)> = had.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let gone = gone.filter(|_| !had.is_empty()).map(|at| had[at.index(had.len())].0.clone());
        let call = |attachments: &[(&str, &str)]| {
            let mut out = Vec::new();
            Call {
                id: 0x0102_0304_0506_0708, interface: "com.shop.Orders", method: "find",
                arguments: &[&argument], attachments, ..Call::default()
            }.encode(&mut out);
            out
        };
        let key = gone.as_ref().map(|name| format!("attachment.{name}"));
        let mut changes = vec![set("attachment.tenant", &tenant)];
        changes.extend(key.as_deref().map(remove));
        let out = rewrite(&call(&pairs), &changes).expect("changed");
        // The same as a client would have sent that had these attachments.
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let mut left: Vec<(&str, &str)> = pairs
            .iter()
            .filter(|(name, _)| !gone.as_ref().is_some_and(|gone| same(gone, name)))
            .copied()
            .collect();
        if !gone.as_ref().is_some_and(|gone| same(gone, "tenant")) {
            match left.iter().position(|(name, _)| same(name, "tenant")) {
                Some(at) => left[at].1 = &tenant,
                None => left.push(("tenant", &tenant)),
            }
            let mut first = true;
            left.retain(|(name, _)| !same(name, "tenant") || std::mem::take(&mut first));
            prop_assert_eq!(seen(Side::Request, &out).0, Some(tenant.clone().into_bytes()));
        }
        prop_assert_eq!(out, call(&left));
    }

    #[test]
    fn values_of_any_kind_survive_byte_for_byte(
        values in proptest::collection::vec(crate::hessian::tests::value(), 0..5),
        at in any::<prop::sample::Index>(),
    ) {
        prop_assume!(values.iter().all(|value| skips(value)));
        let mut kept = Vec::new();
        for (number, value) in values.iter().enumerate() {
            let mut entry = Vec::new();
            write::string(&format!("k{number}"), &mut entry);
            entry.extend_from_slice(value);
            kept.push(entry);
        }
        // A key of any kind is one, too.
        if let Some(value) = values.first() {
            kept.push([&value[..], b"N"].concat());
        }
        let mut had = kept.clone();
        had.insert(at.index(kept.len() + 1), b"\x06tenant\x01x".to_vec());
        let map = |entries: &[Vec<u8>]| [b"H", &entries.concat()[..], b"Z"].concat();
        let gone = rewritten(&map(&had), &[remove("attachment.tenant")]);
        prop_assert_eq!(&gone, &map(&kept));
        let out = rewrite(&call(&gone), &[set("attachment.tenant", "acme")]).expect("changed");
        prop_assert_eq!(seen(Side::Request, &out).0, Some(b"acme".to_vec()));
        kept.push(b"\x06tenant\x04acme".to_vec());
        prop_assert_eq!(&out[16 + CALL.len()..], map(&kept));
    }

    #[test]
    fn no_bytes_make_it_panic(
        body in proptest::collection::vec(any::<u8>(), 0..120),
        front in any::<bool>(),
        flags in any::<u8>(),
    ) {
        let body = if front { [CALL, &body].concat() } else { body };
        let changes = [set("attachment.a", "1"), remove("attachment.b")];
        for input in [message(flags, 20, &body), message(TWO_WAY_HESSIAN, 0, &body), body] {
            let _ = rewrite(&input, &changes);
            super::lower(&input, 5, &mut Vec::new());
        }
    }
}
