use super::*;
use crate::observe::access_log::{Field, Format, Show};

const LOG: &str = "[[route]]\nto = \"a\"\n[[access-log]]\nto = \"stdout\"\n";

#[test]
fn mistakes_in_access_logs_are_told_with_what_to_write() {
    let cases = [
        ("[[access-log]]", "[[access-log]] without `to` [add to = \"stdout\", or a file's name]"),
        ("format = \"{dration}\"", "no field is called `dration` [did you mean `duration`?]"),
        ("keys = [\"interfac\"]", "no protocol has a key `interfac` [did you mean `interface`?]"),
        ("keys = [1]", "expected a key, found a number []"),
        ("keys = \"path\"", "expected a list of keys, found a string []"),
        (
            "format = \"{path}\"\nkeys = [\"path\"]",
            "`keys` are added to JSON lines; a template names its own [write {KEY} into `format`]",
        ),
        ("format = \"{path\"", "a brace without its other half; write {{ or }} for a brace []"),
        ("format = \"a\\nb\"", "a format of more than one line"),
        ("sample = 101", "expected a number from 0 to 100, found a number []"),
        ("errors = \"some\"", "`some` is no way to log errors [there are \"all\" and \"sampled\"]"),
        ("match = { duration = \"1s\" }", "expected a table, [duration], found a string []"),
        ("match = { duration = {} }", "no bound [write duration = { min = \"100ms\" }]"),
        ("match = { stats = 1 }", "no protocol has a key `stats` [did you mean `status`?]"),
        ("reveal = [\"header.authorization\"]", "`header.authorization` is revealed, and not in"),
        ("buffer = 0", "this is no size"),
        ("lines = 7", "unknown key `lines` [[[access-log]] has to, format, "),
    ];
    for (text, want) in cases {
        let found = problems(&format!("{HEAD}{LOG}{text}\n"));
        assert!(found.iter().any(|found| found.contains(want)), "{text}: {found:#?}");
    }
}

#[test]
fn what_lines_show_is_found_before_the_first_request() {
    let text = format!(
        "{HEAD}[[route]]\nto = \"a\"\n\
         [[access-log]]\nto = \"a.log\"\nkeys = [\"path\", \"header.Authorization\", \"status\"]\n\
         match = {{ protocol = \"http\", status = {{ min = 500 }}, duration = {{ min = \"1s\" }} }}\n\
         sample = 50\n\
         [[access-log]]\nto = \"stderr\"\nformat = \"{{{{{{path}} {{header.authorization}}\"\n\
         reveal = [\"header.authorization\"]\nerrors = \"sampled\"\n"
    );
    let (snapshot, warnings) = compile(&text, "dir/p.toml", &Registry::builtin()).expect("fine");
    assert_eq!(warnings, []);
    let logs = &snapshot.access_logs;
    let shown: Vec<_> = logs.keys.iter().map(|key| (&*key.name, key.show, key.logs)).collect();
    assert_eq!(
        shown,
        [
            ("path", Show::Checked, 0b11),
            ("header.Authorization", Show::Hidden, 0b01),
            ("header.authorization", Show::Revealed, 0b10),
        ]
    );
    let [one, two] = &logs.list[..] else { panic!("two logs") };
    assert_eq!((one.when.len(), one.ends.len()), (1, 2));
    let target = crate::observe::output::Target::File("dir/a.log".into());
    assert_eq!((&one.target, one.errors, two.errors), (&target, true, false));
    assert!(one.share > u64::MAX / 3 && one.share < u64::MAX / 3 * 2);
    let Format::Json(fields) = &one.format else { panic!("JSON") };
    assert_eq!(
        fields.last().map(|(lead, field)| (&**lead, *field)),
        Some((&b"\"header.Authorization\":"[..], Field::Key(1)))
    );
    // What a log shows, decoders look for.
    assert!(snapshot.interest.slot("header.authorization").is_some());
}
