#!/usr/bin/env bash
# Every test there is, the real peers installed first. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/install-peers.sh
# All of them, even where one fails: one run tells everything.
exec cargo test --workspace --no-fail-fast "$@"
