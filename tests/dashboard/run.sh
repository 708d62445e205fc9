#!/usr/bin/env bash
# Looks at the dashboard of a real cluster with a real browser; see browse.py.
#
# tests/dashboard/run.sh [FOLDER]: pictures are left in FOLDER (docs keeps those of the last change).
# POCKET_BIN   where the programs are (default target/debug)
# CHROMIUM     the browser (default: chromium)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bin=${POCKET_BIN:-target/debug}
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
[ -n "$chromium" ] || { echo "install chromium first (apt-get install chromium)" >&2; exit 2; }
work=$(mktemp -d)
pictures=${1:-$work}

up=
finish() {
    [ -z "$up" ] || { kill "$up" 2>/dev/null && wait "$up" || true; }
    rm -rf "$work"
}
trap finish EXIT

"$bin/pocket" up --json --listen 127.0.0.1:0 --dashboard 127.0.0.1:0 --storage-servers 3 --capacity 256MiB \
    --bandwidth 8Gb/s >"$work/up.json" &
up=$!
for _ in $(seq 600); do
    [ -s "$work/up.json" ] && break
    kill -0 "$up"
    sleep 0.1
done
field() {
    python3 -c 'import json, sys; up = json.load(open(sys.argv[1])); print(eval(sys.argv[2], {"up": up}))' \
        "$work/up.json" "$1"
}
export POCKET_CONTROLLER
POCKET_CONTROLLER=$(field 'up["controller"]')
dashboard=$(field 'up["servers"][0]["dashboard"]')

head -c 64M /dev/zero | tr '\0' x >"$work/data"
"$bin/pocket" put sort-42/data "$work/data" --keep --capacity 256MiB
# Free text, which the page must not obey. What is there stays, and so does the server.
export REASON='<script>window.obeyed=1</script><img src=x onerror=window.obeyed=1>'
"$bin/pocket" node drain "$(field 'up["servers"][-1]["endpoint"]')" --no-move --reason "$REASON"
timeout 300 python3 tests/dashboard/browse.py "$chromium" "http://$dashboard/" "$pictures"
