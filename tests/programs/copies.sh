#!/usr/bin/env bash
# copies.sh MOUNT: cp and rsync keep what they say they keep, holes among it (as root).
set -euo pipefail

work=$(mktemp -d "$(realpath "$1")/copies.XXXXXX")
local=$(mktemp -d)
trap 'rm -rf "$work" "$local"' EXIT
mkdir -p "$work/from/d"
cd "$work/from"
head -c 5000001 /dev/urandom >large
truncate -s 100M sparse
printf data | dd of=sparse bs=1 seek=70000000 conv=notrunc status=none
for index in $(seq 50); do
    echo "$index" >"d/$index"
done
ln large d/hard
ln -s ../large d/link
setfattr -n user.note -v kept large
touch -d '2001-02-03 04:05:06.123456789' large

taken() {
    echo $(($(stat -c '%b * 512' "$1")))
}
same() { # DIRECTORY
    diff -r --no-dereference "$work/from" "$1"
    [ "$(stat -c '%y %h' "$1/large")" = "$(stat -c '%y %h' large)" ]
    [ "$(getfattr --absolute-names --only-values -n user.note "$1/large")" = kept ]
    [ "$(taken "$1/sparse")" -lt 4000000 ]
}

cp -a --reflink=auto "$work/from" "$work/auto"
same "$work/auto"
cp -a --reflink=never --sparse=always "$work/from" "$work/sparse"
same "$work/sparse"
cp -a "$work/from" "$local/out" # to another file system and back
cp -a "$local/out" "$work/back"
same "$work/back"
if cp --reflink=always large "$work/clone" 2>/dev/null; then
    echo "copies: blocks were shared, which is not offered" >&2
    exit 1
fi
rsync -aHX --sparse "$work/from/" "$work/rsync/"
same "$work/rsync"
echo changed >>"$work/rsync/d/7"
rm "$work/rsync/d/8"
rsync -aHX --sparse --no-whole-file --delete "$work/from/" "$work/rsync/"
same "$work/rsync"
echo "copies: cp and rsync kept data, holes, links, attributes and times"
