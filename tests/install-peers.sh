#!/usr/bin/env bash
# Installs the real servers and clients that the tests talk to. Safe to run
# again: what is there already is left alone, and that takes a second.
#
#   apt  redis-server redis-tools mosquitto mosquitto-clients nginx wrk curl openssl
#        haproxy nutcracker nghttp2-client nghttp2-server thrift-compiler chromium,
#        dnsmasq-base, prometheus, python3, nodejs, man-db groff mandoc zsh fish systemd
#   pip  in .peers/venv   tests/peers/python/requirements.txt
#   pip  in .peers/schema tests/peers/schema/requirements.txt
#   npm  in .peers/node   tests/peers/node/package.json
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'install-peers: %s\n' "$*" >&2; }

apt_install() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
    say "apt: $*"
    # A service that a package would start is not wanted: the tests start their own.
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod +x "$policy"
        made=yes
    fi
    "${as_root[@]}" apt-get update -qq
    local status=0
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null || status=$?
    if [ -n "$made" ]; then "${as_root[@]}" rm -f "$policy"; fi
    return "$status"
}

have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

missing=()
need() { have "$1" || missing+=("$2"); }
need redis-server redis-server
need redis-benchmark redis-tools
need nginx nginx
# Carries MQTT for comparison; a package of its own in Debian.
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing+=(libnginx-mod-stream)
need wrk wrk
need curl curl
need haproxy haproxy
need nutcracker nutcracker
need mosquitto mosquitto
need mosquitto_pub mosquitto-clients
need thrift thrift-compiler
need openssl openssl
# The program without the service.
need dnsmasq dnsmasq-base
need nghttp nghttp2-client
need nghttpd nghttp2-server
# promtool comes with it.
need promtool prometheus
# What a package's pages, completions and units are read with.
need man man-db
need groff groff
need mandoc mandoc
need zsh zsh
need fish fish
need systemd-analyze systemd
need chromium chromium
need python3 python3
need node nodejs
need npm npm
# Some distributions ship Python without what `python3 -m venv` needs.
if have python3 && ! python3 -c 'import ensurepip' 2>/dev/null; then missing+=(python3-venv); fi
have python3 || missing+=(python3-venv)
if [ "${#missing[@]}" -gt 0 ]; then apt_install "${missing[@]}"; fi

mkdir -p .peers

# The stamp holds what was installed; a changed list installs again.
python_wanted=tests/peers/python/requirements.txt
if ! cmp -s "$python_wanted" .peers/venv/stamp; then
    say "pip: $(tr '\n' ' ' <"$python_wanted")"
    [ -x .peers/venv/bin/python ] || python3 -m venv .peers/venv
    .peers/venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$python_wanted"
    cp "$python_wanted" .peers/venv/stamp
fi

# The validator has a place of its own, so that it can be renewed alone.
schema_wanted=tests/peers/schema/requirements.txt
if ! cmp -s "$schema_wanted" .peers/schema/stamp; then
    say "pip: $(tr '\n' ' ' <"$schema_wanted")"
    [ -x .peers/schema/bin/python ] || python3 -m venv .peers/schema
    .peers/schema/bin/python -m pip install --quiet --disable-pip-version-check -r "$schema_wanted"
    cp "$schema_wanted" .peers/schema/stamp
fi

node_wanted=tests/peers/node/package-lock.json
if ! cmp -s "$node_wanted" .peers/node/stamp; then
    say "npm: $node_wanted"
    mkdir -p .peers/node
    cp tests/peers/node/package.json "$node_wanted" .peers/node/
    npm ci --prefix .peers/node --silent --no-audit --no-fund --ignore-scripts
    cp "$node_wanted" .peers/node/stamp
fi

# The compiler's classes for Python, from the services of the tests.
thrift_wanted=tests/peers/thrift/stories.thrift
if ! cmp -s "$thrift_wanted" .peers/thrift/stamp; then
    say "thrift: $thrift_wanted"
    mkdir -p .peers/thrift
    thrift --gen py -out .peers/thrift "$thrift_wanted"
    cp "$thrift_wanted" .peers/thrift/stamp
fi

say "all peers are there"
