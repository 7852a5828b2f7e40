//! Any split of any bytes gives the same messages; nothing panics. What the proxy
//! says in a broker's place is what a broker could say, and a packet whose user
//! properties were changed is still one.
//! The first byte chooses who wrote the bytes, the next four where they are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use polyport_codecs::mqtt::Mqtt;
use polyport_codecs::testing::{assert_splits_agree, transcript};
use polyport_codecs::{Change, Fault, Hop, Interest, Limits, Protocol, ReplyTo, Side, To};

fuzz_target!(|data: &[u8]| {
    let [side, a, b, c, d, input @ ..] = data else { return };
    let side = if side & 1 == 0 { Side::Request } else { Side::Reply };
    let keys = Mqtt.keys().iter().filter(|key| !key.family).map(|key| key.name);
    let interest = Interest::of(keys.chain(["user-property.a"]));
    // Small bounds, so that short inputs reach the paths of long ones.
    let limits = Limits { whole: 64, head: 512, ..Limits::default() };
    let codec = Mqtt.compile(&limits, &interest);
    let cuts: Vec<usize> = [a, b, c, d].iter().map(|cut| usize::from(**cut)).collect();
    let all = assert_splits_agree(codec.as_ref(), &interest, side, input, &cuts);
    // Every byte is somebody's.
    let shown: usize = all.messages.iter().map(|seen| seen.bytes.len()).sum();
    assert!(shown + all.unread <= input.len());
    if side == Side::Reply {
        return;
    }
    let mut said = Vec::new();
    if let Some(error) = &all.error {
        Mqtt.reject(error, &mut said);
    }
    let Some(opening) = all.messages.first() else { return };
    for seen in all.messages.iter().filter(|seen| seen.ended) {
        let fault = if a & 1 == 0 { Fault::Denied } else { Fault::Overloaded };
        Mqtt.local_reply(seen.head.reply_to, b"", fault, "why", &mut said);
        Mqtt.farewell(seen.head.reply_to, fault, &mut said);
        let changes = [
            Change { key: "user-property.a", to: To::Set(b"x") },
            Change { key: "user-property.b", to: To::Append(b"y") },
            Change { key: "user-property.c", to: To::Remove },
        ];
        let hop = Hop {
            side,
            id: None,
            source: None,
            secure: false,
            request: ReplyTo::default(),
            close: false,
            plain_body: false,
            timeout: None,
        };
        // The first packet opens the session that the changed one is read in.
        let mut changed = opening.bytes.clone();
        if seen == opening {
            changed.clear();
        }
        if Mqtt.rewrite(&seen.head, &seen.bytes, &hop, &changes, &mut changed).is_err() {
            continue;
        }
        let wide = Mqtt.compile(&Limits::default(), &interest);
        let again = transcript(wide.as_ref(), &interest, side, &changed, &[]);
        // An alias may be of a packet between the two.
        let Some(last) = again.messages.last().filter(|_| again.error.is_none()) else {
            let alias = again.error.is_some_and(|error| matches!(error.status, 0x82 | 0x94));
            assert!(alias, "{}", changed.escape_ascii());
            continue;
        };
        let value = last.metadata.iter().find(|(key, _)| key == "user-property.a");
        assert_eq!(value.map(|(_, value)| &value[..]), Some(&b"x"[..]));
    }
    let spoken = transcript(codec.as_ref(), &interest, Side::Reply, &said, &[]);
    assert_eq!((spoken.error, spoken.unread), (None, 0));
});
