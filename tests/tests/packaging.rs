//! What a package brings beside the binary: completions in the shells themselves, pages
//! before the formatters, units before systemd, the Dockerfile's steps without Docker.

use std::path::{Path, PathBuf};
use std::process::Command;

use polyport_tests::peers::program;
use polyport_tests::process::{finish, root, run};
use polyport_tests::proxy::binary;

fn polyport(arguments: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.args(arguments);
    run("polyport", command)
}

fn script(shell: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("polyport");
    std::fs::write(&file, polyport(&["completions", shell])).expect("the script");
    (folder, file)
}

/// What a line may go on with, and a word of what must and must not be among it.
const LINES: [(&str, &str, &str); 5] = [
    ("polyport ", "explain", "redis"),
    ("polyport ex", "explain", "run"),
    ("polyport completions ", "zsh", "run"),
    ("polyport decode --side ", "reply", "redis"),
    ("polyport call ", "thrift", "run"),
];

#[test]
fn bash_completes() {
    let (_folder, file) = script("bash");
    let tell = r#"
        . "$1"; shift
        complete -p polyport >/dev/null || exit 2
        words=$(complete -p polyport | sed 's/.*-F \([^ ]*\) .*/\1/')
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        "$words" polyport "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    for (line, has, has_not) in LINES {
        let mut command = program("bash");
        command.args(["--norc", "-c", tell, "bash"]).arg(&file).args(line.split(' '));
        let said = run("bash", command);
        let words: Vec<&str> = said.lines().collect();
        assert!(words.contains(&has) && !words.contains(&has_not), "{line:?}: {words:?}");
    }
    let mut command = program("bash");
    command.arg("-n").arg(file);
    run("bash -n", command);
}

#[test]
fn fish_completes() {
    let (folder, file) = script("fish");
    // Its script knows words and options; what a word without a name may be it does not.
    for (line, has, has_not) in LINES.into_iter().filter(|(line, ..)| !line.contains("completions"))
    {
        let mut command = program("fish");
        command.env("HOME", folder.path()).arg("--no-config").arg("-c");
        command.arg(format!("source {}; complete -C '{line}'", file.display()));
        let said = run("fish", command);
        let words: Vec<&str> = said.lines().filter_map(|line| line.split('\t').next()).collect();
        assert!(words.contains(&has) && !words.contains(&has_not), "{line:?}: {words:?}");
    }
}

#[test]
fn zsh_takes_the_script_and_the_others_are_there() {
    let (_folder, file) = script("zsh");
    let mut command = program("zsh");
    command.args(["-f", "-n"]).arg(&file);
    run("zsh -n", command);
    // It completes what it is loaded for, once zsh's own functions are.
    let mut command = program("zsh");
    command.args([
        "-f",
        "-c",
        "autoload -U compinit; compinit -D -u; . $1; print $_comps[polyport]",
    ]);
    command.arg("zsh").arg(&file);
    assert_eq!(run("zsh", command).trim(), "_polyport");
    for (shell, word) in
        [("elvish", "edit:completion"), ("powershell", "Register-ArgumentCompleter")]
    {
        assert!(polyport(&["completions", shell]).contains(word), "{shell}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

#[test]
fn every_page_is_formatted_without_a_warning() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let place = folder.path().to_str().expect("a path");
    polyport(&["man", "--dir", place]);
    let pages = files(folder.path());
    let names: Vec<&str> = pages.iter().filter_map(|page| page.file_name()?.to_str()).collect();
    for verb in ["", "-run", "-check", "-explain", "-decode", "-call-dubbo", "-schema"] {
        assert!(names.contains(&format!("polyport{verb}.1").as_str()), "{names:?}");
    }
    assert!(names.contains(&"polyport.toml.5"), "{names:?}");
    for page in &pages {
        let silent = |name: &'static str, arguments: &[&str]| {
            let mut command = program(name);
            command.env("LC_ALL", "C.UTF-8").args(arguments).arg(page);
            let (status, said, complaint) = finish(name, command);
            assert!(status.success(), "{}: {complaint}{said}", page.display());
            (said, complaint)
        };
        for (name, arguments) in [
            ("groff", &["-Wall", "-ww", "-man", "-Tutf8", "-z"][..]),
            ("mandoc", &["-T", "lint", "-W", "warning"]),
        ] {
            let (said, complaint) = silent(name, arguments);
            assert_eq!((said.as_str(), complaint.as_str()), ("", ""), "{}", page.display());
        }
        let (said, complaint) = silent("man", &["--warnings", "-E", "UTF-8", "-l"]);
        assert_eq!(complaint, "", "{}", page.display());
        assert!(said.contains("NAME") && said.contains("SEE ALSO"), "{said}");
    }
    // `--help` and the page have the same words.
    let page = std::fs::read_to_string(folder.path().join("man1/polyport-check.1")).expect("it");
    assert!(page.contains("EXAMPLES") && page.contains("EXIT STATUS"), "{page}");
    assert_eq!(
        polyport(&["man"]),
        std::fs::read_to_string(
            &pages[pages.iter().position(|page| page.ends_with("polyport.1")).expect("it")]
        )
        .expect("it")
    );
}

/// The units, with a binary that is there.
fn units() -> (tempfile::TempDir, [PathBuf; 2]) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let units = ["polyport.service", "polyport.socket"].map(|name| {
        let unit = std::fs::read_to_string(root().join("packaging").join(name)).expect("the unit");
        let binary = binary().to_str().expect("a path");
        let file = folder.path().join(name);
        std::fs::write(&file, unit.replace("/usr/bin/polyport", binary)).expect("the unit");
        file
    });
    (folder, units)
}

#[test]
fn systemd_has_nothing_to_say_of_the_units() {
    let (_folder, units) = units();
    let mut command = program("systemd-analyze");
    command.args(["verify", "--man=no"]).args(&units);
    let (status, said, complaint) = finish("systemd-analyze", command);
    // What it says of other units of this machine is not ours.
    let ours = |line: &&str| line.contains("polyport");
    let told: Vec<&str> = said.lines().chain(complaint.lines()).filter(ours).collect();
    assert!(told.is_empty() && status.success(), "{status}: {said}{complaint}");
    // It can tell: a word that it does not know.
    let text = std::fs::read_to_string(&units[0]).expect("the unit");
    std::fs::write(&units[0], text.replace("ProtectHome", "ProtectHomes")).expect("the unit");
    let mut command = program("systemd-analyze");
    command.args(["verify", "--man=no"]).args(&units);
    let (_, said, complaint) = finish("systemd-analyze", command);
    assert!(format!("{said}{complaint}").contains("ProtectHomes"), "{said}{complaint}");
}

#[test]
fn the_service_is_little_exposed() {
    let (_folder, [service, _]) = units();
    let mut command = program("systemd-analyze");
    // In tenths, 0 is best; most services have more than 90.
    command.args(["security", "--offline=true", "--no-pager", "--threshold=25"]).arg(service);
    run("systemd-analyze security", command);
}

#[test]
fn everything_is_installed_where_the_units_look_for_it() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(root().join("packaging/install.sh"));
    command.env("BINARY", binary()).arg(folder.path());
    run("install.sh", command);
    let place = |path: &str| folder.path().join(path.trim_start_matches('/'));
    let service = std::fs::read_to_string(place("/usr/lib/systemd/system/polyport.service"));
    let service = service.expect("the unit");
    let words = service.lines().filter(|line| line.starts_with("Exec")).flat_map(|line| {
        line.split(['=', ' ']).filter(|word| word.starts_with('/') && word.contains("polyport"))
    });
    let words: Vec<&str> = words.collect();
    assert!(words.len() >= 4, "{service}");
    for word in words {
        assert!(place(word).is_file(), "{word}");
    }
    let config = place("/etc/polyport/polyport.toml");
    let said = polyport(&["check", "-c", config.to_str().expect("a path")]);
    assert!(said.contains(": fine. "), "{said}");
    assert!(place("/usr/share/man/man5/polyport.toml.5").is_file());
    // A config that is there stays.
    std::fs::write(&config, "# mine\n").expect("a config");
    let mut command = Command::new(root().join("packaging/install.sh"));
    command.env("BINARY", binary()).arg(folder.path());
    run("install.sh", command);
    assert_eq!(std::fs::read_to_string(config).expect("the config"), "# mine\n");
}

/// The Dockerfile's instructions, lines that go on joined.
fn instructions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("Dockerfile")).expect("the Dockerfile");
    let text = text.replace("\\\n", " ");
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (word, rest) = line.split_once(' ').expect("an instruction");
            (word.to_owned(), rest.split_whitespace().collect::<Vec<&str>>().join(" "))
        })
        .collect()
}

/// Whether `.dockerignore` lets it reach the build.
fn sent(path: &str) -> bool {
    let text = std::fs::read_to_string(root().join(".dockerignore")).expect(".dockerignore");
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"), "nothing but what is named");
    lines
        .filter_map(|line| line.strip_prefix('!'))
        .any(|kept| path.trim_end_matches('/') == kept || path.starts_with(&format!("{kept}/")))
}

/// Docker is not asked: no image can be had where these tests run. What it would do is:
/// each COPY is made in an empty folder, and cargo is let at it as the RUN lines say, but
/// for the profile, whose optimising takes minutes.
#[test]
fn the_dockerfile_s_steps_build_the_binary() {
    let instructions = instructions();
    // Always the same place, so that what cargo keeps of it is used again rather than heaped up.
    let target = root().join("target");
    let tree = target.join("dockerfile");
    let _ = std::fs::remove_dir_all(&tree);
    std::fs::create_dir_all(&tree).expect("a folder");
    let (mut builds, mut stages) = (0, 0);
    for (word, rest) in &instructions {
        match word.as_str() {
            "FROM" => stages += 1,
            "COPY" if stages == 1 => {
                let mut words: Vec<&str> = rest.split(' ').collect();
                let to = tree.join(words.pop().expect("where to"));
                std::fs::create_dir_all(&to).expect("a folder");
                for from in words {
                    assert!(sent(from), "{from} is kept back by .dockerignore");
                    let source = root().join(from);
                    assert!(source.exists(), "COPY {from}: there is no such file");
                    let mut copy = program("cp");
                    // A folder's content, as COPY does.
                    let source = if source.is_dir() { source.join(".") } else { source };
                    copy.arg("-r").arg(source).arg(&to);
                    run("cp", copy);
                }
            }
            "COPY" if !rest.starts_with("--from=build ") => {
                let from = rest.split(' ').next().expect("what");
                assert!(sent(from) && root().join(from).exists(), "COPY {from}");
            }
            "RUN" if rest.contains("cargo") => {
                let line = "cargo build --release --locked --bin polyport";
                assert!(rest.contains(line), "{rest}");
                builds += 1;
                // The first builds what others made; that its manifests are whole is enough.
                let instead = if builds == 1 {
                    "cargo metadata --locked --offline --no-deps --format-version 1"
                } else {
                    "cargo check --quiet --locked --offline --bin polyport"
                };
                let mut command = program("sh");
                command.current_dir(&tree).env("CARGO_TARGET_DIR", &target);
                command.args(["-c", &rest.replace(line, instead)]);
                // Without a bound: cargo may wait for another one, and ends by itself.
                let said = command.output().expect("sh");
                let complaint = String::from_utf8_lossy(&said.stderr);
                assert!(said.status.success(), "RUN {rest}: {complaint}");
            }
            _ => {}
        }
    }
    assert_eq!((stages, builds), (2, 2));
}

#[test]
fn the_image_runs_as_nobody_and_is_told_what_to_run() {
    let instructions = instructions();
    let last = |word: &str| {
        let found = instructions.iter().rev().find(|(found, _)| found == word);
        found.map(|(_, rest)| rest.clone()).unwrap_or_else(|| panic!("no {word}"))
    };
    assert_eq!(last("USER"), "nonroot");
    assert_eq!(last("STOPSIGNAL"), "SIGTERM");
    let words = |text: String| -> Vec<String> { serde_json::from_str(&text).expect("an array") };
    let entry = words(last("ENTRYPOINT"));
    let arguments = words(last("CMD"));
    let copied = |path: &str| {
        instructions
            .iter()
            .any(|(word, rest)| word == "COPY" && rest.ends_with(&format!(" {path}")))
    };
    assert!(copied(&entry[0]), "{entry:?}");
    let config = arguments.last().expect("a config");
    assert!(copied(config), "{arguments:?}");
    // The port is that of the config which is in it.
    let text = std::fs::read_to_string(root().join("packaging/polyport.toml")).expect("it");
    assert!(text.contains(&format!("address = \"0.0.0.0:{}\"", last("EXPOSE"))), "{text}");
    let mut known = Command::new(binary());
    known.args(&arguments[..1]).arg("--help");
    run("polyport --help", known);
}
