//! The index gives the answer of the naive scan, always.

#![allow(clippy::expect_used, reason = "a test")]

use polyport_codecs::{Interest, Metadata, Slot};
use polyport_router::{Matcher, Predicate, Route, Table};
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    "[ab1]{0,3}"
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let leaf = prop_oneof![
        4 => text().prop_map(|t| Matcher::Exact(t.into_bytes().into())),
        3 => proptest::collection::vec(text(), 0..4).prop_map(Matcher::one_of),
        3 => text().prop_map(|t| Matcher::Prefix(t.into_bytes().into())),
        1 => text().prop_map(|t| Matcher::Suffix(t.into_bytes().into())),
        1 => text().prop_map(|t| Matcher::Contains(t.into_bytes().into())),
        1 => Just(Matcher::Present),
        1 => Just(Matcher::Absent),
        1 => Just(Matcher::Range { min: Some(1.0), max: Some(11.0) }),
        1 => Just(Matcher::regex("a+b?").expect("an expression")),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|m| Matcher::Not(Box::new(m))),
            proptest::collection::vec(inner, 0..3).prop_map(Matcher::Any),
        ]
    })
}

fn route() -> impl Strategy<Value = Route<()>> {
    proptest::collection::vec((0u16..4, matcher()), 0..4).prop_map(|when| Route {
        name: String::new(),
        when: when
            .into_iter()
            .map(|(slot, matcher)| Predicate { slot: Slot(slot), matcher })
            .collect(),
        then: (),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_index_agrees_with_the_scan(
        routes in proptest::collection::vec(route(), 0..30),
        values in proptest::collection::vec(proptest::option::of(text()), 4),
    ) {
        let interest = Interest::of(["a", "b", "c", "d"]);
        let mut meta = Metadata::new(&interest);
        for (slot, value) in values.iter().enumerate() {
            if let Some(value) = value {
                meta.set_text(Slot(slot as u16), value.as_bytes());
            }
        }
        let view = meta.view(b"");
        let table = Table::compile(routes);
        let found = table.choose(&view).map(|(at, _)| at);
        prop_assert_eq!(found, table.choose_naive(&view).map(|(at, _)| at));
        let explained = table.explain(&view).last().and_then(|last| last.failed.is_none().then_some(last.route));
        prop_assert_eq!(found, explained);
        for shadow in table.shadowed() {
            prop_assert_ne!(found, Some(shadow.route), "a shadowed route was chosen");
        }
    }
}
