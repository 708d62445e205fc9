#!/usr/bin/env bash
# tar.sh MOUNT: sparse files, attributes, links, times and owners survive tar (as root).
set -euo pipefail

work=$(mktemp -d "$(realpath "$1")/tar.XXXXXX")
local=$(mktemp -d)
trap 'rm -rf "$work" "$local"' EXIT
mkdir -p "$work/from/d" "$work/to"
cd "$work/from"
truncate -s 64M sparse
printf data | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
printf end | dd of=sparse bs=1 seek=60000000 conv=notrunc status=none
seq 100000 >plain
ln plain d/hard
ln -s ../plain d/link
mkfifo fifo
mknod null c 1 3
setfattr -n user.note -v kept plain
setfattr -n trusted.note -v kept plain
setfattr -n user.note -v kept d
chmod 4755 plain
chmod 2775 d
chown 4242:4343 d
touch -d '2001-02-03 04:05:06.123456789' plain

features=(--sparse --xattrs --xattrs-include='*')
# Where ACLs cannot be set there is nothing of them to keep.
acls=without
if setfacl -m u:4242:rw plain 2>/dev/null; then
    acls=with
    setfacl -d -m g:4343:rx d
    features+=(--acls)
fi
tar -C "$work/from" --format=posix "${features[@]}" -cf "$work/all.tar" .
tar -C "$work/to" "${features[@]}" -xpf "$work/all.tar"

describe() {
    cd "$1"
    find . | sort | xargs stat -c '%n %F %a %u:%g %h %s %t:%T'
    stat -c %y plain
    find . | sort | xargs getfattr -h -d -m -
    [ $acls = without ] || find . ! -type l | sort | xargs getfacl -n
}
describe "$work/from" >"$local/from"
describe "$work/to" >"$local/to"
diff "$local/from" "$local/to"
diff -r --no-dereference --exclude=fifo --exclude=null "$work/from" "$work/to"
for file in "$work/from/sparse" "$work/to/sparse" "$work/all.tar"; do
    [ $(($(stat -c '%b * 512' "$file"))) -lt 4000000 ]
done
echo "tar: packed and unpacked sparse files, attributes, links, nodes and times, $acls ACLs"
