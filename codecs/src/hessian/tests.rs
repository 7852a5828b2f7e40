use proptest::prelude::*;

use super::*;

fn skip(bytes: &[u8]) -> Result<usize, Stop> {
    let mut reader = Reader::new(bytes, 0);
    Skipper::new(64, 10_000).skip(&mut reader)?;
    Ok(reader.at)
}

/// A value with its encoding, and how many classes it defined.
pub(crate) fn value() -> impl Strategy<Value = Vec<u8>> {
    let text = "[a-zé漢😀]{0,40}".prop_map(|text| {
        let mut out = Vec::new();
        write::string(&text, &mut out);
        out
    });
    let with = |tag: u8, len: usize| {
        proptest::collection::vec(any::<u8>(), len).prop_map(move |mut bytes| {
            bytes.insert(0, tag);
            bytes
        })
    };
    let leaf = prop_oneof![
        Just(b"N".to_vec()),
        Just(b"T".to_vec()),
        (0x80u8..=0xbf).prop_map(|tag| vec![tag]),
        (0xd8u8..=0xef).prop_map(|tag| vec![tag]),
        (0xc0u8..=0xcf).prop_map(|tag| vec![tag, 7]),
        (0xf0u8..=0xff).prop_map(|tag| vec![tag, 7]),
        (0x38u8..=0x3f).prop_map(|tag| vec![tag, 7, 8]),
        (0xd0u8..=0xd7).prop_map(|tag| vec![tag, 7, 8]),
        with(b'I', 4),
        with(b'Y', 4),
        with(b'L', 8),
        with(b'D', 8),
        with(0x4a, 8),
        with(0x4b, 4),
        with(0x5f, 4),
        with(0x23, 3),
        Just([&[0x34u8, 2][..], b"xy"].concat()),
        Just(b"A\x00\x02xyB\x00\x01z".to_vec()),
        Just(b"R\x00\x02xyS\x00\x01z".to_vec()),
        Just(vec![b'Q', 0x91]),
        text,
    ];
    leaf.prop_recursive(4, 50, 5, |inner| {
        let many = proptest::collection::vec(inner.clone(), 0..6);
        let pairs = proptest::collection::vec((inner.clone(), inner.clone()), 0..4);
        let flat = |pairs: Vec<(Vec<u8>, Vec<u8>)>| {
            pairs.into_iter().flat_map(|(key, value)| [key, value].concat()).collect::<Vec<u8>>()
        };
        prop_oneof![
            many.clone().prop_map(|v| [&[0x78 + v.len() as u8][..], &v.concat()].concat()),
            many.clone().prop_map(|v| [&[0x70 + v.len() as u8, 1, b't'][..], &v.concat()].concat()),
            many.clone().prop_map(|v| [&[b'X', 0x90 + v.len() as u8][..], &v.concat()].concat()),
            many.clone()
                .prop_map(|v| [&[b'V', 0x90, 0x90 + v.len() as u8][..], &v.concat()].concat()),
            many.clone().prop_map(|v| [b"W", &v.concat()[..], b"Z"].concat()),
            many.prop_map(|v| [b"U\x01t", &v.concat()[..], b"Z"].concat()),
            pairs.clone().prop_map(move |v| [b"H", &flat(v)[..], b"Z"].concat()),
            pairs.prop_map(move |v| [b"M\x01t", &flat(v)[..], b"Z"].concat()),
            (inner.clone(), inner).prop_map(|(a, b)| [
                b"C\x03Car\x92\x01a\x01b",
                &b"\x60"[..],
                &a,
                &b
            ]
            .concat()),
        ]
    })
}

proptest! {
    #[test]
    fn a_value_is_passed_over_to_its_very_end(value in value(), after in proptest::collection::vec(any::<u8>(), 0..4)) {
        let len = value.len();
        // The first class of a message is number 0; nested ones shift later numbers.
        let nested = value.windows(4).filter(|four| *four == b"C\x03Ca").count() > 1;
        let bytes = [value.clone(), after].concat();
        match skip(&bytes) {
            Ok(end) => prop_assert_eq!(end, len),
            Err(stop) => prop_assert!(nested, "{stop:?}"),
        }
        for cut in 0..len {
            prop_assert!(matches!(skip(&value[..cut]), Err(Stop::Short)) || nested);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = skip(&bytes);
        let mut scratch = Vec::new();
        let _ = Reader::new(&bytes, 0).string(&mut scratch);
        let _ = Reader::new(&bytes, 0).scalar(&mut scratch);
    }

    #[test]
    fn a_string_is_read_as_it_was_written(text in "[a-zé漢😀]{0,60}", times in 1usize..900) {
        let text = text.repeat(times);
        let mut out = Vec::new();
        write::string(&text, &mut out);
        prop_assert_eq!(skip(&out), Ok(out.len()));
        let (mut reader, mut scratch) = (Reader::new(&out, 0), Vec::new());
        let read = reader.string(&mut scratch).expect("fine").expect("not null");
        prop_assert_eq!(reader.at, out.len());
        if text.chars().all(|c| c.len_utf16() == 1) {
            prop_assert_eq!(reader.text(read, &scratch), text.as_bytes());
        }
    }
}

#[test]
fn nesting_and_counts_are_bounded() {
    assert!(matches!(
        skip(&[0x79; 1000]),
        Err(Stop::Bad(_, "values nested deeper than the limit"))
    ));
    assert!(matches!(skip(b"X\x49\x7f\xff\xff\xff"), Err(Stop::Short)));
    assert!(matches!(skip(b"O\x95"), Err(Stop::Bad(..))));
    assert!(matches!(skip(b"Z"), Err(Stop::Bad(..))));
}

#[test]
fn numbers_are_what_the_specification_says() {
    // The examples of the Hessian 2.0 specification, sections 4.5 and 4.6.
    let cases: [(&[u8], i64); 14] = [
        (b"\x90", 0),
        (b"\x80", -16),
        (b"\xbf", 47),
        (b"\xc8\x00", 0),
        (b"\xc0\x00", -2048),
        (b"\xc7\x00", -256),
        (b"\xcf\xff", 2047),
        (b"\xd4\x00\x00", 0),
        (b"\xd0\x00\x00", -262_144),
        (b"\xd7\xff\xff", 262_143),
        (b"I\x00\x00\x00\x00", 0),
        (b"\xe0", 0),
        (b"\xf7\x00", -256),
        (b"\x3c\x00\x00", 0),
    ];
    for (bytes, expected) in cases {
        let read = Reader::new(bytes, 0).scalar(&mut Vec::new());
        assert_eq!(read, Ok(Some(Scalar::Integer(expected))), "{}", bytes.escape_ascii());
    }
}
