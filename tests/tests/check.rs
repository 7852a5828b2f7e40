//! `polyport check` as people meet it: its exit status and what it prints.

use std::path::Path;
use std::process::{Command, ExitStatus};

use polyport_tests::process::finish;
use polyport_tests::proxy::binary;

fn check(file: &Path) -> (ExitStatus, String, String) {
    let mut command = Command::new(binary());
    command.arg("check").arg("-c").arg(file);
    finish("polyport check", command)
}

fn written(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("edge.toml");
    std::fs::write(&file, text).expect("the config");
    (folder, file)
}

const CLUSTER: &str = "[[listener]]\naddress = \"127.0.0.1:7000\"\n\n[[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:1\"]\n\n";

#[test]
fn a_fine_config_is_praised_with_the_keys_in_use() {
    let route = "[[route]]\nmatch = { protocol = \"http\", path = { prefix = \"/api/\" } }\nto = \"a\"\nrequest = { set = { header.x-from = \"{source.ip}\" }, replace-prefix = { path = [\"/api/\", \"/\"] } }\n";
    let (_folder, file) = written(&format!("{CLUSTER}{route}"));
    let (status, said, complaint) = check(&file);
    assert_eq!((status.code(), complaint.as_str()), (Some(0), ""));
    assert!(said.contains("fine. 1 listeners, 1 clusters, 1 routes; keys in use: "), "{said}");
    assert!(said.contains("path") && said.contains("source.ip"), "{said}");
}

#[test]
fn impossible_mutations_are_refused_with_their_place_and_a_way_out() {
    let routes = "\
[[route]]
match = { protocol = \"redis\" }
to = \"a\"
request = { set = { key = \"other\" } }

[[route]]
match = { protocol = \"mqtt\" }
to = \"a\"
response = { set = { user-property.a = \"b\" } }

[[route]]
match = { protocol = \"dubbo\" }
redirect = { to = \"https://elsewhere/\" }
";
    let (_folder, file) = written(&format!("{CLUSTER}{routes}"));
    let (status, said, complaint) = check(&file);
    assert_eq!((status.code(), said.as_str()), (Some(1), ""));
    let file = file.display();
    for expected in [
        format!("error: redis cannot change `key`\n  --> {file}:11:"),
        format!("error: mqtt cannot change `user-property.a` in replies\n  --> {file}:16:"),
        format!("error: a route cannot answer dubbo itself\n  --> {file}:20:"),
        "= help: nothing in requests of redis can be changed so; it can be for dubbo, ".into(),
        "= help: nothing in replies of mqtt can be changed so; it can be for dubbo, ".into(),
        "= help: a route can answer http itself; deny = true refuses in any protocol".into(),
        format!("{file}: 3 errors"),
    ] {
        assert!(complaint.contains(&expected), "no {expected:?} in\n{complaint}");
    }
}

#[test]
fn files_are_looked_for_beside_the_config() {
    let tls = "[[listener]]\naddress = \"127.0.0.1:7443\"\ntls = { certificates = [{ cert = \"edge.crt\", key = \"edge.key\" }] }\n";
    let (folder, file) = written(&format!("{CLUSTER}[[route]]\nto = \"a\"\n\n{tls}"));
    let (status, _, complaint) = check(&file);
    assert_eq!(status.code(), Some(1));
    let missing = folder.path().join("edge.crt");
    assert!(complaint.contains(&format!("error: {}: ", missing.display())), "{complaint}");
    assert!(complaint.contains(&format!("{}:13:7", file.display())), "{complaint}");
}

#[test]
fn every_example_is_fine_once_its_certificates_are_made() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut count = 0;
    for entry in std::fs::read_dir(examples).expect("the examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("an example");
        // What it says to do first is done.
        for line in text.lines().filter_map(|line| line.strip_prefix("#   openssl ")) {
            let mut command = Command::new("openssl");
            command.args(line.split(' ')).current_dir(&folder);
            let (status, _, complaint) = finish("openssl", command);
            assert!(status.success(), "{line}: {complaint}");
        }
        let copy = folder.path().join(path.file_name().expect("a name"));
        std::fs::write(&copy, text).expect("a copy");
        let (status, said, complaint) = check(&copy);
        assert!(status.success() && complaint.is_empty(), "{}: {complaint}", path.display());
        assert!(said.contains(": fine. "), "{said}");
        count += 1;
    }
    assert!(count >= 4, "{count} examples");
}
