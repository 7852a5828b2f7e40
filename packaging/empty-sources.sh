#!/bin/sh
# Gives every crate of the workspace empty sources beside its manifest, so that cargo can
# build what they depend on and nothing else. For the Dockerfile; never where sources are.
set -eu
cd "$(dirname "$0")/.."

empty() {
    [ ! -e "$1" ] || { echo "empty-sources: $1 is there: this is for a tree of manifests" >&2; exit 1; }
    mkdir -p "$(dirname "$1")"
    echo "$2" >"$1"
}

for manifest in */Cargo.toml; do
    crate=$(dirname "$manifest")
    empty "$crate/src/lib.rs" ''
    # The targets that a manifest names.
    for kind in bin bench; do
        folder=src/bin
        [ "$kind" = bin ] || folder=benches
        for name in $(sed -n "/^\[\[$kind]]/,/^\$/s/^name = \"\(.*\)\"/\1/p" "$manifest"); do
            path=$(sed -n "/^name = \"$name\"/,/^\$/s/^path = \"\(.*\)\"/\1/p" "$manifest")
            empty "$crate/${path:-$folder/$name.rs}" 'fn main() {}'
        done
    done
done
