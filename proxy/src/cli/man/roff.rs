//! The little of roff that pages need.

use super::{MANUAL, source};

/// When the pages' words were last gone over, which readers want to know; not when they
/// were written, so that the same version always writes the same pages.
const DATE: &str = "2026-11-21";

/// The line that begins a page.
pub(super) fn title(name: &str, section: u8) -> String {
    let (name, source) = (text(&name.to_uppercase()), text(&source()));
    format!(".TH {name} {section} {DATE} \"{source}\" \"{MANUAL}\"\n")
}

/// Text in which nothing means anything to roff.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, line) in text.lines().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        if line.starts_with(['.', '\'']) {
            out.push_str("\\&");
        }
        for letter in line.chars() {
            match letter {
                '\\' => out.push_str("\\e"),
                '-' => out.push_str("\\-"),
                '"' => out.push_str("\\(dq"),
                '~' => out.push_str("\\(ti"),
                '^' => out.push_str("\\(ha"),
                '`' => out.push_str("\\(ga"),
                other => out.push(other),
            }
        }
    }
    out
}

/// A generated page without what formatters warn of: blanks at the ends of lines, lines
/// of nothing, and breaks beside a space, which breaks by itself.
pub(super) fn tidy(page: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in page.lines().map(str::trim_end) {
        let line = if line.is_empty() { ".sp" } else { line };
        match (lines.last().copied(), line) {
            (Some(".sp"), ".br") => continue,
            (Some(".br"), ".sp") => {
                lines.pop();
            }
            _ => {}
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

/// Lines that stay as they are.
pub(super) fn listing(lines: &str) -> String {
    let lines: Vec<String> =
        lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(text).collect();
    format!(".nf\n{}\n.fi\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_a_command() {
        assert_eq!(text(".TH\n'x\\n -c \"~\""), "\\&.TH\n\\&'x\\en \\-c \\(dq\\(ti\\(dq");
        assert_eq!(tidy("a \n.br\n\n.br\nb"), "a\n.sp\nb\n");
        assert_eq!(listing("\n  a -b\n  c\n"), ".nf\na \\-b\nc\n.fi\n");
    }
}
