#!/bin/sh
# Puts everything where a package would: install.sh [DESTDIR], with the binary built.
#   BINARY  what is installed; target/release/polyport where nothing is said
set -eu
cd "$(dirname "$0")/.."
destination=${1:-}
binary=${BINARY:-target/release/polyport}

put() { install -D -m "$1" "$2" "$destination$3"; }
made() {
    mkdir -p "$(dirname "$destination$2")"
    "$binary" $1 >"$destination$2"
    chmod 0644 "$destination$2"
}

put 0755 "$binary" /usr/bin/polyport
# A config that is there is somebody's.
[ -e "$destination/etc/polyport/polyport.toml" ] || put 0644 packaging/polyport.toml /etc/polyport/polyport.toml
put 0644 packaging/polyport.service /usr/lib/systemd/system/polyport.service
put 0644 packaging/polyport.socket /usr/lib/systemd/system/polyport.socket
put 0644 packaging/polyport.sysusers /usr/lib/sysusers.d/polyport.conf
put 0644 packaging/polyport.tmpfiles /usr/lib/tmpfiles.d/polyport.conf
put 0644 packaging/polyport.logrotate /etc/logrotate.d/polyport
for example in examples/*.toml; do
    put 0644 "$example" "/usr/share/doc/polyport/examples/$(basename "$example")"
done
"$binary" man --dir "$destination/usr/share/man"
made 'completions bash' /usr/share/bash-completion/completions/polyport
made 'completions zsh' /usr/share/zsh/vendor-completions/_polyport
made 'completions fish' /usr/share/fish/vendor_completions.d/polyport.fish
made schema /usr/share/polyport/polyport.schema.json
