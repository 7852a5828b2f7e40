//! polyport.toml(5).

use std::fmt::Write as _;

use polyport_codecs::Registry;

use super::roff;
use crate::config::schema::{Key, Place, Shape, tables};

/// The page, with what the protocols of `registry` add.
pub(super) fn page(registry: &Registry) -> String {
    let mut out = roff::title("polyport.toml", 5);
    out += ".SH NAME\npolyport.toml \\- the config of polyport\n";
    out += ".SH DESCRIPTION\nOne TOML file. \\fBpolyport\\-check\\fR(1) tells every mistake at once, each \
            with its line and what to write instead; a config with a mistake is not used. File names \
            in it are relative to its folder.\n";
    out += ".SH EXAMPLE\n";
    out += &roff::listing(
        "[[listener]]\naddress = \"0.0.0.0:7000\"\n[[cluster]]\nname = \"cache\"\n\
         endpoints = [\"10.0.0.1:6379\"]\n[[route]]\nmatch = { protocol = \"redis\" }\nto = \"cache\"",
    );
    out += ".SH VALUES\n";
    for (name, about) in [
        ("duration", "\"800ms\", \"5s\", \"1m\", \"2h\"."),
        ("size", "\"64KiB\", \"8MiB\", \"1GiB\", or a number of bytes."),
        ("rate", "\"100/s\", \"5/m\", \"1000/h\"."),
        (
            "matchers",
            "A table of metadata keys, dotted (source.ip) or quoted. Of each key's value: a text or \
             number is exact, an array is one of, true and false are present and absent, and a table \
             has the keys of MATCHERS.",
        ),
        ("texts", "A table of metadata keys, dotted or quoted, and texts."),
    ] {
        let _ = write!(out, ".TP\n.I {name}\n{}\n", roff::text(about));
    }
    out += ".SH TABLES\n";
    for Place { path, table } in tables(registry) {
        let names: Vec<&str> = path.iter().map(|(name, _)| *name).collect();
        let heading = match &path[..] {
            [] => "At the top".to_owned(),
            [(name, true)] => format!("[[{name}]]"),
            [(name, false)] => format!("[{name}]"),
            [.., (_, true)] => format!("{}, each", names.join(".")),
            _ => names.join("."),
        };
        let _ = write!(out, ".SS {}\n{}\n", roff::text(&heading), roff::text(table.about));
        table.keys(registry).iter().for_each(|key| entry(key, &mut out));
    }
    out += ".SH MATCHERS\nAll that a table asks must hold.\n";
    crate::config::schema::matcher().keys(registry).iter().for_each(|key| entry(key, &mut out));
    out += ".SH FILES\n.TP\n.I /etc/polyport/polyport.toml\nThe config of the packaged service.\n";
    out += ".SH SEE ALSO\n.BR polyport (1),\n.BR polyport\\-run (1),\n.BR polyport\\-check (1)\n";
    out
}

fn entry(key: &Key, out: &mut String) {
    let shape = roff::text(&words(&key.shape));
    let _ = write!(out, ".TP\n\\fB{}\\fR (\\fI{shape}\\fR", roff::text(key.name));
    if key.required {
        out.push_str("; must be given");
    } else if !key.default.is_empty() {
        let _ = write!(out, "; default {}", roff::text(key.default));
    }
    let _ = write!(out, ")\n{}\n", roff::text(key.about));
}

/// What may stand there, for people.
fn words(shape: &Shape) -> String {
    let list = |words: &[&str]| words.join(", ");
    match shape {
        Shape::Text => "text".into(),
        Shape::Flag => "true or false".into(),
        Shape::Whole(least, most) => format!("{least} to {most}"),
        Shape::Number(least, most) if *least == f64::MIN && *most == f64::MAX => "number".into(),
        Shape::Number(least, most) => format!("{least} to {most}, fractions too"),
        Shape::OneOf(numbers) => {
            numbers.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ")
        }
        Shape::Duration => "duration".into(),
        Shape::Size => "size".into(),
        Shape::Rate => "rate".into(),
        Shape::Bandwidth => "size/s".into(),
        Shape::Words(words) => list(words),
        Shape::Protocol([]) => "a protocol".into(),
        Shape::Protocol(more) => format!("{}, or a protocol", list(more)),
        Shape::Check => "a protocol's check".into(),
        Shape::Values => "a text or number, or an array of these".into(),
        Shape::Array(of, ..) => match of {
            Shape::Table(_) => "tables".into(),
            of => format!("array: {}", words(of)),
        },
        Shape::Table(_) => "table".into(),
        Shape::Either(shapes) => {
            let all: Vec<String> = shapes.iter().map(words).collect();
            all.join("; or ")
        }
        Shape::Labels => "table of names and texts".into(),
        Shape::Texts => "texts".into(),
        Shape::Pairs => "keys, and two texts each".into(),
        Shape::Match | Shape::Logged | Shape::Matcher => "matchers".into(),
    }
}
