//! Stacks as a picture: a row for each call below its caller's, as wide as the samples that
//! were seen in it. Plain SVG: the admin listener permits no script in what it shows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{HERTZ, Stacks};

/// Pixels: the picture's width, a row's height, a letter's width, and what is too narrow to
/// be drawn.
const WIDTH: f64 = 1400.0;
const ROW: usize = 17;
const LETTER: f64 = 6.7;
const NARROWEST: f64 = 0.4;

/// Rows that are drawn; deeper calls count for their callers.
const DEEPEST: usize = 300;

/// Rows above the picture.
const HEAD: usize = 2;

#[derive(Default)]
struct Node<'a> {
    samples: u64,
    calls: BTreeMap<&'a str, Node<'a>>,
}

pub(super) fn draw(stacks: &Stacks) -> String {
    let mut root = Node::default();
    for stack in &stacks.stacks {
        let calls = stack.calls.iter().filter_map(|at| stacks.places.get(*at));
        let names = std::iter::once(stack.thread.as_str())
            .chain(calls.map(|place| place.name.as_str()))
            .take(DEEPEST);
        let mut node = &mut root;
        node.samples += stack.samples;
        for name in names {
            node = node.calls.entry(name).or_default();
            node.samples += stack.samples;
        }
    }
    let mut picture = Picture { svg: String::new(), all: root.samples.max(1), rows: 0 };
    picture.below(&root, 0.0, 0);
    let height = (HEAD + picture.rows.max(1)) * ROW + 8;
    let (body, samples) = (picture.svg, root.samples);
    let (seconds, cpu) = (stacks.lasted.as_secs_f64(), samples as f64 / f64::from(HERTZ));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"4\" y=\"16\" font-size=\"13\">Polyport: {samples} samples, about {cpu:.2} s of \
         CPU time in {seconds:.1} s; hover for names</text>\n{body}</svg>\n"
    )
}

struct Picture {
    svg: String,
    all: u64,
    rows: usize,
}

impl Picture {
    /// Draws the calls of `node`, which begins at `left`, in row `row`.
    fn below(&mut self, node: &Node<'_>, mut left: f64, row: usize) {
        for (name, call) in &node.calls {
            let width = call.samples as f64 * WIDTH / self.all as f64;
            if width >= NARROWEST {
                self.call(name, call.samples, (left, width), row);
                self.below(call, left, row + 1);
            }
            left += width;
        }
    }

    fn call(&mut self, name: &str, samples: u64, (left, width): (f64, f64), row: usize) {
        self.rows = self.rows.max(row + 1);
        let top = (HEAD + row) * ROW;
        let share = samples as f64 * 100.0 / self.all as f64;
        let whole = escaped(name);
        let _ = write!(
            self.svg,
            "<g><title>{whole}: {samples} samples, {share:.1}%</title>\
             <rect x=\"{left:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\" rx=\"1\" \
             fill=\"hsl({},60%,78%)\"/>",
            (width - 0.3).max(0.1),
            ROW - 1,
            hue(name),
        );
        let letters = ((width - 4.0) / LETTER).max(0.0) as usize;
        if letters >= 3 {
            let shown: String = shortened(name).chars().take(letters).collect();
            let (x, y) = (left + 2.0, top + ROW - 5);
            let _ = write!(self.svg, "<text x=\"{x:.1}\" y=\"{y}\">{}</text>", escaped(&shown));
        }
        self.svg.push_str("</g>\n");
    }
}

/// The last two parts of a path: what fits, and tells most.
fn shortened(name: &str) -> &str {
    if name.contains('<') {
        return name;
    }
    name.rmatch_indices("::").nth(1).and_then(|(at, _)| name.get(at + 2..)).unwrap_or(name)
}

/// One colour a crate.
fn hue(name: &str) -> u32 {
    let path = name.trim_start_matches(['<', '&']);
    let krate = path.split("::").next().unwrap_or_default();
    // FNV.
    let hash = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    krate.bytes().fold(2_166_136_261, hash) % 360
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn a_call_is_drawn_as_wide_as_it_was_seen_often() {
        let svg = draw(&example());
        assert!(svg.contains("42 samples, about 0.42 s of CPU time in 2.0 s"), "{svg}");
        assert!(svg.contains("<title>worker-0: 40 samples, 95.2%</title>"), "{svg}");
        assert!(svg.contains("<title>a::read&lt;&amp;str&gt;: 30 samples, 71.4%</title>"), "{svg}");
        // 30 of 42 parts of the width, but for the gap.
        assert!(svg.contains("width=\"999.7\""), "{svg}");
        assert!(!svg.contains("<script") && !svg.contains("style="), "{svg}");
    }

    #[test]
    fn a_picture_of_nothing_is_one_all_the_same() {
        let svg = draw(&Stacks { stacks: Vec::new(), ..example() });
        assert!(svg.starts_with("<svg") && svg.contains(">Polyport: 0 samples"), "{svg}");
    }

    #[test]
    fn names_are_shown_by_their_ends() {
        assert_eq!(shortened("polyport::engine::turn::Engine::turn"), "Engine::turn");
        assert_eq!(shortened("main"), "main");
        assert_eq!(shortened("<a::B as c::D>::e"), "<a::B as c::D>::e");
        assert_eq!(hue("polyport::a"), hue("polyport::b"));
    }
}
