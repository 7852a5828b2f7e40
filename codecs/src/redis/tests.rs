use proptest::prelude::*;

use super::*;
use crate::frame::{Kind, Lease, Outcome};
use crate::testing::{Transcript, assert_splits_agree, transcript};

const WANTED: [&str; 8] =
    ["command", "subcommand", "key", "key.hashtag", "argc", "db", "user", "method"];

fn decode(side: Side, limits: &Limits, input: &[u8], cuts: &[usize]) -> Transcript {
    let interest = Interest::of(WANTED);
    let codec = Redis.compile(limits, &interest);
    assert_splits_agree(codec.as_ref(), &interest, side, input, cuts)
}

fn requests(input: &[u8]) -> Transcript {
    let cuts: Vec<usize> = (0..input.len()).collect();
    decode(Side::Request, &Limits::default(), input, &cuts)
}

fn replies(input: &[u8]) -> Transcript {
    let cuts: Vec<usize> = (0..input.len()).collect();
    decode(Side::Reply, &Limits::default(), input, &cuts)
}

fn command(line: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode_command(&line.split(' ').collect::<Vec<_>>(), &mut out);
    out
}

fn value<'a>(all: &'a Transcript, at: usize, key: &str) -> &'a str {
    let found = all.messages[at].metadata.iter().find(|(name, _)| name == key);
    found.map_or("", |(_, value)| std::str::from_utf8(value).expect("text"))
}

#[test]
fn the_first_key_is_found_by_the_command_table() {
    for (line, key) in [
        ("GET user:1", "user:1"),
        ("BITOP AND dest src", "dest"),
        ("EVAL return 2 a b", "a"),
        ("EVAL return 0 a b", ""),
        ("XREAD COUNT 2 STREAMS mystream 0", "mystream"),
        ("ZUNION 2 z1 z2", "z1"),
        ("ZUNIONSTORE out 2 z1 z2", "out"),
        ("OBJECT ENCODING thing", "thing"),
        ("BLMPOP 0 2 l1 l2 LEFT", "l1"),
        ("PING", ""),
    ] {
        let all = requests(&command(line));
        assert_eq!(value(&all, 0, "key"), key, "{line}");
        assert!(all.messages[0].ended);
    }
}

#[test]
fn metadata_names_command_subcommand_database_and_user() {
    let mut input = command("SELECT 3");
    input.extend(command("AUTH alice pw"));
    input.extend(command("CLIENT SetName x"));
    input.extend(command("get {user}.name"));
    let all = requests(&input);
    assert_eq!(value(&all, 2, "command"), "client");
    assert_eq!(value(&all, 2, "subcommand"), "setname");
    assert_eq!(value(&all, 3, "db"), "3");
    assert_eq!(value(&all, 3, "user"), "alice");
    assert_eq!(value(&all, 3, "key.hashtag"), "user");
    assert_eq!(value(&all, 3, "argc"), "2");
    assert_eq!(value(&all, 3, "method"), "get");
}

#[test]
fn commands_typed_by_hand_and_empty_ones_are_understood() {
    let all = requests(b"\r\n*0\r\nset k \"a b\"\r\n*-1\r\nPING\r\nQUIT\r\n");
    let kinds: Vec<Kind> = all.messages.iter().map(|seen| seen.head.kind).collect();
    assert_eq!(kinds, [Kind::Request, Kind::Request, Kind::Local]);
    assert_eq!(value(&all, 0, "key"), "k");
    assert!(all.messages[2].head.last);
    assert_eq!(all.error, None);
}

#[test]
fn requests_that_redis_refuses_are_refused_with_its_words() {
    for (input, reason) in [
        (&b"*2\r\n+3\r\n"[..], "expected '$', got '+'"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$3\r\nGETxx", "invalid bulk length"),
        (b"*11111111111111111111111111111111111", "too big mbulk count string"),
        (b"set k \"a\r\n", "unbalanced quotes in request"),
    ] {
        let all = requests(input);
        let error = all.error.expect("refused");
        assert_eq!(error.reason, reason, "{}", input.escape_ascii());
        let mut reply = Vec::new();
        Redis.reject(&error, &mut reply);
        assert_eq!(reply, format!("-ERR Protocol error: {reason}\r\n").into_bytes());
    }
}

#[test]
fn a_value_of_100_mb_is_routed_by_its_head() {
    let codec = Redis.compile(&Limits::default(), &Interest::of(["key"]));
    let mut decoder = codec.decoder(Side::Request);
    let mut meta = crate::Metadata::new(&Interest::of(["key"]));
    let head = b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$100000000\r\n";
    let step = decoder.decode(head, &mut meta).expect("fine");
    let crate::Step::Head(seen) = step else { panic!("{step:?}") };
    assert_eq!(seen.len, head.len());
    assert_eq!(seen.body, crate::Body::Length(100_000_002));
    assert_eq!(meta.view(head).get(crate::Slot(0)), Some(&b"big"[..]));
    let mut decoder = codec.decoder(Side::Reply);
    let step = decoder.decode(b"$100000000\r\nabc", &mut meta).expect("fine");
    let crate::Step::Head(seen) = step else { panic!("{step:?}") };
    assert_eq!((seen.len, seen.body), (15, crate::Body::Length(99_999_999)));
}

#[test]
fn replies_of_every_type_are_told_apart() {
    let cases: [(&[u8], usize); 14] = [
        (b"+OK\r\n-ERR no\r\n:42\r\n", 3),
        (b"$-1\r\n*-1\r\n_\r\n", 3),
        (b"$0\r\n\r\n", 1),
        (b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", 1),
        (b"%1\r\n+a\r\n~2\r\n#t\r\n,1.5\r\n", 1),
        (b"=8\r\ntxt:some\r\n", 1),
        (b"!5\r\nERR x\r\n", 1),
        (b"(3492890328409238509324850943850943825024385\r\n", 1),
        (b"|1\r\n+ttl\r\n:3600\r\n*2\r\n:1\r\n:2\r\n", 1),
        (b"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n+OK\r\n", 2),
        (b"$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n+OK\r\n", 2),
        (b"*?\r\n:1\r\n*2\r\n:1\r\n:2\r\n.\r\n+OK\r\n", 2),
        (b">2\r\n+message\r\n+hi\r\n+OK\r\n", 2),
        (b"*0\r\n%0\r\n|0\r\n+OK\r\n", 3),
    ];
    for (input, count) in cases {
        let all = replies(input);
        assert_eq!(all.error, None, "{}", input.escape_ascii());
        assert_eq!(all.messages.len(), count, "{}", input.escape_ascii());
        assert!(all.messages.iter().all(|seen| seen.ended));
    }
    assert_eq!(replies(cases[12].0).messages[0].head.kind, Kind::Push);
}

#[test]
fn an_errors_first_word_is_its_outcome() {
    for (input, outcome) in [
        (&b"-ERR x\r\n"[..], Outcome::AppError),
        (b"-LOADING x\r\n", Outcome::Unavailable),
        (b"-BUSY x\r\n", Outcome::Overloaded),
        (b"*1\r\n-ERR x\r\n", Outcome::Ok),
        (b"+OK\r\n", Outcome::Ok),
    ] {
        assert_eq!(replies(input).messages[0].head.outcome, outcome);
    }
}

#[test]
fn nesting_is_bounded() {
    let input = b"*1\r\n".repeat(100);
    let error = replies(&input).error.expect("refused");
    assert_eq!(error.kind, ErrorKind::TooLarge);
}

#[test]
fn first_bytes_are_redis_or_not() {
    let yes = |input: &[u8]| matches!(Redis.probe(input), Probe::Yes { .. });
    let no = |input: &[u8]| Redis.probe(input) == Probe::No;
    assert!(yes(b"*1\r\n$") && yes(b"PING\r\n") && yes(b"get key\r\n"));
    assert!(no(b"GET / HTTP/1.1\r\n") && no(b"\xda\xbb") && no(b"*x") && no(b"POST "));
    for maybe in [&b""[..], b"*", b"*1", b"*1\r\n", b"GE", b"GET /", b"\r\n"] {
        assert!(matches!(Redis.probe(maybe), Probe::Maybe { .. }), "{}", maybe.escape_ascii());
    }
}

#[test]
fn what_holds_a_connection_says_so() {
    let all = requests(&[command("MULTI"), command("GET a"), command("EXEC")].concat());
    let leases: Vec<Lease> = all.messages.iter().map(|seen| seen.head.lease).collect();
    assert_eq!(leases, [Lease::Hold, Lease::Hold, Lease::Release]);
}

fn reply_value() -> impl Strategy<Value = Vec<u8>> {
    let bulk = |mark: char| {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(move |bytes| {
            let mut out = format!("{mark}{}\r\n", bytes.len()).into_bytes();
            out.extend_from_slice(&bytes);
            out.extend_from_slice(b"\r\n");
            out
        })
    };
    let leaf = prop_oneof![
        "[-+:,(#_][a-z0-9 ]{0,12}".prop_map(|text| format!("{text}\r\n").into_bytes()),
        bulk('$'),
        bulk('='),
        bulk('!'),
        Just(b"$-1\r\n".to_vec()),
        Just(b"$?\r\n;3\r\nabc\r\n;0\r\n".to_vec()),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let many = proptest::collection::vec(inner, 0..5);
        prop_oneof![
            many.clone()
                .prop_map(|v| [format!("*{}\r\n", v.len()).into_bytes(), v.concat()].concat()),
            many.clone()
                .prop_map(|v| [format!("~{}\r\n", v.len()).into_bytes(), v.concat()].concat()),
            many.clone().prop_map(|v| [b"*?\r\n".to_vec(), v.concat(), b".\r\n".to_vec()].concat()),
            many.prop_map(|v| {
                let half = v.len() / 2 * 2;
                [format!("%{}\r\n", half / 2).into_bytes(), v[..half].concat()].concat()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_split_of_any_commands_gives_the_same_messages(
        commands in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..8), 1..6),
        cuts in proptest::collection::vec(0usize..2000, 0..20),
        whole in 20usize..400,
    ) {
        let mut input = Vec::new();
        for words in &commands {
            encode_command(words, &mut input);
        }
        let limits = Limits { whole, ..Limits::default() };
        let all = decode(Side::Request, &limits, &input, &cuts);
        if all.error.is_none() {
            prop_assert_eq!(all.messages.len(), commands.len());
            let bytes: Vec<u8> = all.messages.iter().flat_map(|seen| seen.bytes.clone()).collect();
            prop_assert_eq!(bytes, input);
        }
    }

    #[test]
    fn any_split_of_any_replies_gives_the_same_messages(
        values in proptest::collection::vec(reply_value(), 1..6),
        cuts in proptest::collection::vec(0usize..2000, 0..20),
        whole in 8usize..400,
    ) {
        let input = values.concat();
        let limits = Limits { whole, ..Limits::default() };
        let all = decode(Side::Reply, &limits, &input, &cuts);
        prop_assert_eq!(&all.error, &None);
        prop_assert_eq!(all.messages.len(), values.len());
        for (seen, value) in all.messages.iter().zip(&values) {
            prop_assert_eq!(&seen.bytes, value);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(input in proptest::collection::vec(any::<u8>(), 0..200), typed in "[*$a-z0-9\r\n\" ]{0,100}") {
        for input in [&input[..], typed.as_bytes()] {
            for side in [Side::Request, Side::Reply] {
                let interest = Interest::of(WANTED);
                let codec = Redis.compile(&Limits::default(), &interest);
                transcript(codec.as_ref(), &interest, side, input, &[3, 7]);
            }
            Redis.probe(input);
            Redis.advance(&Profile::default(), input);
        }
    }
}

#[test]
fn what_a_connection_said_of_itself_is_told_to_its_next_decoder() {
    let interest = Interest::of(["db", "user"]);
    let codec = Redis.compile(&Limits::default(), &interest);
    let mut first = codec.decoder(Side::Request);
    let mut said = crate::Metadata::new(&interest);
    for line in ["AUTH ada secret", "SELECT 3"] {
        first.decode(&command(line), &mut said).expect("a command");
    }
    let memory = first.memory().expect("it is between commands");
    assert!(!memory.windows(6).any(|part| part == b"secret"), "a secret is remembered");
    let mut next = codec.decoder(Side::Request);
    assert!(next.recall(&memory));
    next.decode(&command("GET a"), &mut said).expect("a command");
    assert_eq!(next.memory(), Some(memory));
    // In a transaction only the decoder that saw it begin can go on.
    next.decode(&command("MULTI"), &mut said).expect("a command");
    assert_eq!(next.memory(), None);
    next.decode(&command("EXEC"), &mut said).expect("a command");
    assert!(next.memory().is_some());
    assert!(!next.recall(b"short"));
}

proptest! {
    #[test]
    fn a_plain_count_is_what_the_whole_line_says(
        text in "[*$][-+]?[0-9]{0,11}[a?]?(\r\n|\r|\n|)[0-9\r\n]{0,3}",
        lead in "[\r\n]{0,2}",
    ) {
        let buf = format!("{lead}{text}");
        let slow = line(buf.as_bytes(), lead.len()).and_then(|(line, next)| {
            Some((usize::try_from(number(line.get(1..)?)?).ok()?, next))
        });
        if let Some(plain) = plain_count(buf.as_bytes(), lead.len()) {
            prop_assert_eq!(Some(plain), slow);
        }
    }
}

#[test]
fn counts_as_they_are_usually_written_are_plain() {
    for (line, count) in [
        (&b"*3\r\n"[..], Some((3, 4))),
        (b"$0\r\n", Some((0, 4))),
        (b"$512\r\nab", Some((512, 6))),
        (b"$-1\r\n", None),
        (b"$\r\n", None),
        (b"$12\r", None),
        (b"$12", None),
        (b"$", None),
        (b"", None),
        (b"$12\n", None),
        (b"$99999999999\r\n", None),
    ] {
        assert_eq!(plain_count(line, 0), count, "{}", line.escape_ascii());
    }
}
