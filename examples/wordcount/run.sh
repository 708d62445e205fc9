#!/bin/sh
# run.sh [FILE...]: counts and sorts the words of real text, in map and reduce stages over two mounts of one job.
#
# The text is the licences that every Debian system holds and this repository's documents, or the files given.
# Builds Pocket if needed (set POCKET_BIN to a directory with pocket-mount to use another build), mounts the job twice,
# runs four mappers over the first mount and four reducers over the second, compares the result with what coreutils
# make of the same text in one pipeline, and leaves nothing behind. Takes some seconds once Pocket is built.
# Needs /dev/fuse, and root or fusermount3.
set -eu
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
workers="0 1 2 3"
job="wordcount-$$"
scratch=$(mktemp -d "${TMPDIR:-/tmp}/pocket-wordcount.XXXXXX")
near="$scratch/mount-of-the-mappers"
far="$scratch/mount-of-the-reducers"

say() { printf '%s\n' "$*"; }
die() { printf 'wordcount: %s\n' "$*" >&2; exit 1; }

unmount() {
    if mountpoint -q "$1" 2>/dev/null; then
        umount "$1" 2>/dev/null || fusermount3 -u "$1" || umount -l "$1"
    fi
}

# The first mount carries the cluster in its process, so it goes last.
clean_up() {
    unmount "$far"
    unmount "$near"
    rm -rf --one-file-system "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Waits for the processes with these ids, and fails when one of them failed.
wait_for() {
    for process in "$@"; do
        wait "$process" || die "a process of this stage failed"
    done
}

[ -e /dev/fuse ] || die "there is no /dev/fuse on this machine"
[ "$(id -u)" = 0 ] || command -v fusermount3 >/dev/null || die "run this as root, or install fuse3"

# 1. The programs.
if [ -z "${POCKET_BIN:-}" ]; then
    say "building pocket-mount (the first time takes some minutes)"
    cargo build --quiet --release --manifest-path "$repository/Cargo.toml" -p pocket-mounts
    POCKET_BIN=${CARGO_TARGET_DIR:-$repository/target}/release
fi

# 2. One job, mounted twice. The first mount runs the cluster and tells how to join.
mkdir "$near" "$far"
"$POCKET_BIN/pocket-mount" "$job" "$near" --capacity 256MiB >"$scratch/mount.log" 2>&1 ||
    die "cannot mount: $(cat "$scratch/mount.log")"
controller=$(grep -o -- '--controller [^ ]*' "$scratch/mount.log" | head -n 1 | cut -d ' ' -f 2)
[ -n "$controller" ] || die "the mount did not tell its controller: $(cat "$scratch/mount.log")"
"$POCKET_BIN/pocket-mount" "$job" "$far" --controller "$controller" >>"$scratch/mount.log" 2>&1 ||
    die "cannot mount a second time: $(cat "$scratch/mount.log")"
say "mounted job $job twice: $near and $far"

# 3. The text, dealt out to the mappers.
if [ $# = 0 ]; then
    set -- "$repository"/*.md "$repository"/docs/*.md "$repository"/examples/*/*.md /usr/share/common-licenses/*
fi
mkdir "$near/input" "$near/words" "$near/counts"
number=0
: >"$scratch/text"
for file in "$@"; do
    [ -f "$file" ] || continue
    cp "$file" "$near/input/$((number % 4)).$number"
    cat "$file" >>"$scratch/text"
    number=$((number + 1))
done
[ "$number" -ge 4 ] || die "found $number files of text, and the four mappers want at least one each"
say "copied $number files of text into it, $(wc -c <"$scratch/text") bytes"

# 4. Map through one mount, reduce through the other.
processes=""
for worker in $workers; do
    "$here/map.sh" "$near" "$worker" &
    processes="$processes $!"
done
# shellcheck disable=SC2086 # a list of numbers
wait_for $processes
say "four mappers wrote $(cat "$near"/words/*/* | wc -l) words in 16 partitions"
processes=""
for worker in $workers; do
    "$here/reduce.sh" "$far" "$worker" &
    processes="$processes $!"
done
# shellcheck disable=SC2086 # a list of numbers
wait_for $processes
cat "$near"/counts/* >"$scratch/counted"
say "four reducers counted $(wc -l <"$scratch/counted") different words through the other mount"

# 5. The same by coreutils, on the same text, without Pocket.
tr -cs 'A-Za-z' '\n' <"$scratch/text" | tr 'A-Z' 'a-z' | grep . | sort | uniq -c >"$scratch/expected"
cmp "$scratch/counted" "$scratch/expected" || die "the result differs from what coreutils count"
say "the result is, byte for byte, what coreutils count; the most frequent words:"
sort -k 1nr,1 -k 2 "$scratch/counted" | head -n 5
clean_up
trap - EXIT
say "unmounted; the job and its data are gone"
