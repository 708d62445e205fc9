#!/usr/bin/env bash
# run.sh DIR: pjdfstest in DIR and, for reference, on a new tmpfs.
#
# Fails if a case fails that expected-failures.txt does not list, if a listed one passes or does
# not exist, or if fewer than 90 % of the cases that pass on tmpfs pass in DIR. Must be root. Needs
# the pjdfstest crate's program in PATH (`cargo install pjdfstest --version 0.2.2`).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
directory=${1:?usage: run.sh DIR}
percent_min=90

[ "$(id -u)" = 0 ] || { echo "pjdfstest: must be root, to become other users" >&2; exit 2; }
work=$(mktemp -d)
# The cases become other users, who must get through.
chmod 755 "$work"
mkdir "$work/tmpfs" "$work/secondary"
clean_up() {
    umount "$work/tmpfs" "$work/secondary" || true
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
mount -t tmpfs pjdfstest "$work/tmpfs"
# Something else than what is tested, for EXDEV.
mount -t tmpfs pjdfstest "$work/secondary"

# Prints the cases listed as expected failures; each must have a reason.
listed() {
    awk -F '#' '
        /^[[:space:]]*(#|$)/ { next }
        {
            name = $1; reason = $2
            gsub(/[[:space:]]/, "", name); gsub(/^[[:space:]]+|[[:space:]]+$/, "", reason)
            if (reason == "") { print FILENAME ": no reason for " name > "/dev/stderr"; bad = 1 }
            print name
        }
        END { exit bad }
    ' "$here/expected-failures.txt"
}

# configure NAMES: the configuration with these expected failures, one name a line on its input.
configure() {
    local names
    names=$(sed 's/.*/    "&",/')
    awk -v names="$names" '
        { print }
        /^\[settings\]/ { print "expected_failures = [\n" names "\n]" }
    ' "$here/pjdfstest.toml"
}

# try DIR CONFIGURATION OUTPUT: runs all cases; failures are in the output, not in the status.
try() {
    NO_COLOR=1 pjdfstest -c "$2" -p "$1" -s "$work/secondary" >"$3" 2>&1 || true
    grep -q '^Summary:' "$3" || { echo "pjdfstest did not end:" >&2; tail -20 "$3" >&2; exit 1; }
}

# cases OUTPUT OUTCOME: names of the cases with this outcome, sorted.
cases() {
    sed -nE "s/^([A-Za-z0-9_:]+) +$2\$/\1/p" "$1" | sort -u
}

configure </dev/null >"$work/plain.toml"
try "$work/tmpfs" "$work/plain.toml" "$work/tmpfs.out"
cases "$work/tmpfs.out" ok >"$work/reference"

listed | sort -u >"$work/listed"
configure <"$work/listed" >"$work/expecting.toml"
try "$directory" "$work/expecting.toml" "$work/out"
cases "$work/out" ok >"$work/passed"
cases "$work/out" FAILED >"$work/failed"
cases "$work/out" "failed as expected" >"$work/expected"
cases "$work/out" "PASSED UNEXPECTEDLY" >"$work/surprising"

echo "on tmpfs: $(grep '^Summary:' "$work/tmpfs.out")"
echo "here:     $(grep '^Summary:' "$work/out")"
status=0
if [ -s "$work/failed" ]; then
    echo "cases that fail and are not listed:"
    while read -r name; do
        grep -A 1 "^$name " "$work/out" | sed 's/^/    /'
        grep -qx "$name" "$work/reference" || echo "        (not passed by tmpfs either)"
    done <"$work/failed"
    status=1
fi
if [ -s "$work/surprising" ]; then
    echo "cases that pass: remove them from $here/expected-failures.txt"
    sed 's/^/    /' "$work/surprising"
    status=1
fi
if comm -23 "$work/listed" <(sort "$work/expected" "$work/surprising") | grep .; then
    echo "listed as expected failures, but there is no such case (above)"
    status=1
fi
reference=$(wc -l <"$work/reference")
both=$(comm -12 "$work/reference" <(sort "$work/passed" "$work/surprising") | wc -l)
echo "of the $reference cases that tmpfs passes, $both pass here: $((100 * both / reference)) %"
if [ $((100 * both)) -lt $((percent_min * reference)) ]; then
    echo "fewer than $percent_min %"
    status=1
fi
exit $status
