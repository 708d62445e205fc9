#!/usr/bin/env bash
# original.sh CHECKOUT DIR: the original pjdfstest, in C and Perl, in DIR and, for reference, on a
# new tmpfs.
#
# No registry has it, so that it is not part of CI: CHECKOUT is one of
# https://github.com/pjd/pjdfstest, built by `autoreconf -ifs && ./configure && make pjdfstest`.
# Fails if a file of cases fails in DIR that passes on tmpfs. Must be root; needs prove (Perl). DIR
# must be mounted with -o dev,suid and be reachable for other users.
set -euo pipefail
usage="usage: original.sh CHECKOUT DIR"
checkout=$(cd "${1:?$usage}" && pwd)
directory=${2:?$usage}
[ "$(id -u)" = 0 ] || { echo "pjdfstest: must be root, to become other users" >&2; exit 2; }
[ -x "$checkout/pjdfstest" ] || { echo "$checkout is not built, see $0" >&2; exit 2; }

work=$(mktemp -d)
chmod 755 "$work"
mkdir "$work/tmpfs"
clean_up() {
    umount "$work/tmpfs" || true
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
mount -t tmpfs pjdfstest "$work/tmpfs"

# try DIR OUTPUT: all cases in a new folder of DIR; prints the summary.
try() {
    mkdir "$1/pjdfstest-$$"
    (cd "$1/pjdfstest-$$" && prove -r "$checkout/tests") >"$2" 2>&1 || true
    rm -rf "$1/pjdfstest-$$"
    grep -E '^(Files=|Result:)' "$2"
}

# failed OUTPUT: files of cases that did not pass, sorted.
failed() {
    sed -nE 's/^.*(tests\/[^ ]+\.t) \(Wstat: .* Failed: [1-9].*$/\1/p' "$1" | sort
}

echo "on tmpfs:"
try "$work/tmpfs" "$work/reference"
echo "here:"
try "$directory" "$work/here"
if comm -13 <(failed "$work/reference") <(failed "$work/here") | grep .; then
    echo "fail here alone (above)"
    exit 1
fi
