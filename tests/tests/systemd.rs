//! The units under a real systemd, as process 1 of namespaces of its own: what only it can
//! say of them is that they start, reload, hand over, come back and stop as they promise.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use polyport_tests::direct;
use polyport_tests::process::{Process, finish, root};
use polyport_tests::proxy::binary;

/// Longer than the whole story on a machine that has much else to do.
const WHOLE: Duration = Duration::from_secs(240);

const CONFIG: &str = r#"
workers = 2

[[listener]]
name = "edge"
address = "0.0.0.0:7000"

[admin]
socket = "/run/polyport/admin.sock"
write = true

[[cluster]]
name = "slow"
endpoints = ["127.0.0.1:7100"]

[[route]]
name = "slow"
match = { protocol = "http", path = "/slow" }
to = "slow"

[[route]]
name = "all"
match = { protocol = "http" }
respond = { body = "one\n" }
"#;

/// Every line that it says is `what=value`.
const STORY: &str = r#"
say() { echo "$1=$2"; }
get() { curl -s --max-time 20 "http://127.0.0.1:${1:-7000/}"; }
main() { systemctl show -p MainPID --value polyport; }
active() { systemctl is-active polyport; }
admin() { curl -s --max-time 60 --unix-socket /run/polyport/admin.sock "$@"; }
inside() { nsenter -t "$(main)" -m -r "$@"; }
# Until the condition holds, or for long.
until_() { tries=0; until eval "$1" || [ $tries -ge 150 ]; do tries=$((tries + 1)); sleep 0.2; done; }
answers() { until_ "[ \"\$(get)\" = $1 ]"; get; }
another() { until_ "[ \"\$(main)\" != $1 ] && [ \"\$(main)\" != 0 ] && [ \"\$(active)\" = active ]"; }
edit() { sed -i "s/$1/$2/" /etc/polyport/polyport.toml; }

systemd-sysusers /usr/lib/sysusers.d/polyport.conf
systemctl daemon-reload
systemctl start polyport
say started "$(active)"
say answer "$(get)"

# Whom it runs as, and what it may do.
status=/proc/$(main)/status
say user "$(id -nu "$(awk '/^Uid/ { print $3 }' "$status")")"
say capabilities "$(awk '/^CapEff/ { print $2 }' "$status")"
say bounds "$(awk '/^CapBnd/ { print $2 }' "$status")"
say new-privileges "$(awk '/^NoNewPrivs/ { print $2 }' "$status")"
say filter "$(awk '/^Seccomp:/ { print $2 }' "$status")"
# As root, who would be stopped by nothing but the unit.
for folder in /usr /etc/polyport /var /var/lib/polyport /var/log/polyport /run/polyport; do
    inside touch "$folder/x" 2>/dev/null && say "$folder" writable || say "$folder" fixed
done
say private-tmp "$(inside ls -A /tmp | wc -l)"
say home "$(inside sh -c 'ls -A /root; ls -A /home' 2>/dev/null | wc -l)"
say state-mode "$(stat -c '%U %a' /var/lib/polyport /var/log/polyport /run/polyport | sort -u)"
say profile "$(admin 'http://localhost/api/profile?format=folded&seconds=1' -o /dev/null -w '%{http_code}')"

before=$(main)
edit 'one.n' 'two\\n'
systemctl reload polyport
say reload $?
say reloaded "$(answers two)"
echo 'nonsense = 1' >>/etc/polyport/polyport.toml
systemctl reload polyport 2>/dev/null && say bad-reload taken || say bad-reload refused
say after-bad-reload "$(active) $(get)"
sed -i '$d' /etc/polyport/polyport.toml
[ "$(main)" = "$before" ] && say reloading-process same || say reloading-process another

# While somebody asks and asks.
: >/mnt/asking
(while [ -e /mnt/asking ]; do get >/mnt/heard || echo x >>/mnt/unheard; done) &
before=$(main)
systemctl kill -s USR2 --kill-who=main polyport
another "$before"
[ "$(main)" != "$before" ] && say signal-upgrade done || say signal-upgrade nothing
until_ "! [ -e /proc/$before ]"
before=$(main)
say api-upgrade "$(admin -X POST -H 'x-polyport: 1' http://localhost/api/upgrade -o /dev/null -w '%{http_code}')"
another "$before"
until_ "! [ -e /proc/$before ]"
rm /mnt/asking
wait
say unheard "$(cat /mnt/unheard 2>/dev/null | wc -l)"
say upgraded "$(active) $(get) $(systemctl show -p NRestarts --value polyport)"
say processes "$(wc -l </sys/fs/cgroup/system.slice/polyport.service/cgroup.procs)"
edit 'two.n' 'three\\n'
systemctl reload polyport
say reloaded-after "$(answers three)"

# One that has taken over ends like one that systemd has started: what is in flight is
# answered first.
python3 /mnt/slow.py &
until_ "curl -s -o /dev/null 127.0.0.1:7100/"
get 7000/slow >/mnt/slow &
slow=$!
until_ "[ -e /mnt/asked ]"
systemctl stop polyport
wait $slow
say drained "$(cat /mnt/slow) $(active) $(systemctl show -p Result --value polyport)"
systemctl start polyport

before=$(main)
kill -KILL "$before"
another "$before"
say crashed "$(answers three) $(systemctl show -p NRestarts --value polyport)"

systemctl stop polyport
say stopped "$(active) $(systemctl show -p Result --value polyport)"
[ -e /run/polyport ] && say run-folder left || say run-folder gone

systemctl start polyport.socket
say waiting "$(active)"
say woken "$(get) $(active)"
systemctl restart polyport
say restarted "$(get)"
before=$(main)
systemctl kill -s USR2 --kill-who=main polyport
another "$before"
say socket-upgrade "$([ "$(main)" != "$before" ] && get)"
systemctl stop polyport.socket polyport
say socket-stopped "$(active)"

mkdir -p /etc/systemd/system/polyport.service.d
printf '[Service]\nWatchdogSec=5\n' >/etc/systemd/system/polyport.service.d/watchdog.conf
systemctl daemon-reload
systemctl start polyport
before=$(main)
systemctl kill -s USR2 --kill-who=main polyport
another "$before"
before=$(main)
# The successor tells the watchdog that it lives.
sleep 8
say watched "$([ "$(main)" = "$before" ] && get)"
kill -STOP "$before"
another "$before"
say bitten "$([ "$(main)" != "$before" ] && answers three)"

edit '0.0.0.0:7000' '0.0.0.0:80'
systemctl restart polyport
say low-port "$(get 80/)"
systemctl stop polyport
say end "$(active)"
"#;

/// A server that takes its time over `/slow`.
const SLOW: &str = r#"
import http.server, time

class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            open("/mnt/asked", "w").close()
            time.sleep(3)
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"late\n")

http.server.ThreadingHTTPServer(("127.0.0.1", 7100), Slow).serve_forever()
"#;

const ENDS: &[(&str, &str)] = &[
    ("started", "active"),
    ("answer", "one"),
    ("user", "polyport"),
    // CAP_NET_BIND_SERVICE.
    ("capabilities", "0000000000000400"),
    ("bounds", "0000000000000400"),
    ("new-privileges", "1"),
    ("filter", "2"),
    ("/usr", "fixed"),
    ("/etc/polyport", "fixed"),
    ("/var", "fixed"),
    ("/var/lib/polyport", "writable"),
    ("/var/log/polyport", "writable"),
    ("/run/polyport", "writable"),
    ("private-tmp", "0"),
    ("home", "0"),
    ("state-mode", "polyport 750"),
    ("profile", "200"),
    ("reload", "0"),
    ("reloaded", "two"),
    ("bad-reload", "refused"),
    ("after-bad-reload", "active two"),
    ("reloading-process", "same"),
    ("signal-upgrade", "done"),
    ("api-upgrade", "200"),
    ("unheard", "0"),
    ("upgraded", "active two 0"),
    ("processes", "1"),
    ("reloaded-after", "three"),
    ("drained", "late inactive success"),
    ("crashed", "three 1"),
    ("stopped", "inactive success"),
    ("run-folder", "gone"),
    ("waiting", "inactive"),
    ("woken", "three active"),
    ("restarted", "three"),
    ("socket-upgrade", "three"),
    ("socket-stopped", "inactive"),
    ("watched", "three"),
    ("bitten", "three"),
    ("low-port", "three"),
    ("end", "inactive"),
];

fn unshare(arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount", "--cgroup", "--uts", "--ipc"]);
    command.arg("--net").args(arguments);
    command
}

#[test]
#[ignore = "boots a systemd of its own, for which it has to be root with CAP_SYS_ADMIN: --ignored"]
fn units_do_under_a_real_systemd_what_they_promise() {
    if direct() {
        return;
    }
    let probe = unshare(&["mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    let (status, _, why) = finish("unshare", probe);
    assert!(status.success(), "namespaces and mounts are needed (CAP_SYS_ADMIN): {why}");

    let share = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| share.path().join(name);
    fs::create_dir(file("layer")).expect("a folder");
    fs::write(file("story.sh"), STORY).expect("the story");
    fs::write(file("slow.py"), SLOW).expect("the server");
    fs::write(file("polyport.toml"), CONFIG).expect("the config");
    let script = root().join("tests/peers/systemd/boot.sh");
    let path = |path: &Path| path.display().to_string();
    let mut boot = unshare(&["sh", &path(&script), &path(root()), &path(share.path())]);
    boot.env("BINARY", binary()).stdin(Stdio::null());
    let mut systemd = Process::start("systemd", boot, share.path());
    let begun = Instant::now();
    while !file("done").exists() {
        let (said, log) = (fs::read_to_string(file("said")).unwrap_or_default(), systemd.log());
        assert!(systemd.running(), "systemd ended:\n{log}\n{said}");
        assert!(begun.elapsed() < WHOLE, "no end of the story:\n{log}\n{said}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let said = fs::read_to_string(file("said")).expect("what it said");
    systemd.kill();
    let lines: Vec<(&str, &str)> = said.lines().filter_map(|line| line.split_once('=')).collect();
    for (what, value) in ENDS {
        let found = lines.iter().find(|(name, _)| name == what).map(|(_, value)| *value);
        assert_eq!(found, Some(*value), "{what}:\n{said}\n{}", systemd.log());
    }
}
