#!/usr/bin/env bash
# loop_device.sh MOUNT: an ext4 in a sparse file on the mount, through a loop device (as root).
set -euo pipefail

work=$(mktemp -d "$(realpath "$1")/loop_device.XXXXXX")
local=$(mktemp -d)
device=
cleanup() {
    mountpoint -q "$local/ext4" && umount "$local/ext4"
    [ -z "$device" ] || losetup -d "$device"
    rm -rf "$work" "$local"
}
trap cleanup EXIT

# Where a local file gets no loop device, there are none to be had.
truncate -s 1M "$local/control"
if ! device=$(losetup --find --show "$local/control" 2>"$local/why"); then
    echo "loop device: skipped: none to be had here: $(head -n 1 "$local/why")"
    exit 0
fi
losetup -d "$device"
device=

mkdir "$local/ext4"
truncate -s 256M "$work/image"
device=$(losetup --find --show "$work/image")
mkfs.ext4 -q "$device"
mount "$device" "$local/ext4"
mkdir "$local/ext4/d"
for index in $(seq 200); do
    head -c $((index * 997)) /dev/urandom >"$local/ext4/d/$index"
done
head -c 40000000 /dev/urandom >"$local/ext4/large"
(cd "$local/ext4" && sha256sum large d/*) >"$local/sums"
rm "$local/ext4"/d/1[0-9] # what was there is free again (and trimmed)
fstrim "$local/ext4"
umount "$local/ext4"
e2fsck -fn "$device" >"$local/fsck" 2>&1 || { cat "$local/fsck"; exit 1; }
losetup -d "$device"
device=

# Once more, from what the file holds.
device=$(losetup --find --show --read-only "$work/image")
mount -o ro "$device" "$local/ext4"
(cd "$local/ext4" && grep -vE ' d/1[0-9]$' "$local/sums" | sha256sum --quiet -c)
umount "$local/ext4"
taken=$(($(stat -c '%b * 512' "$work/image")))
[ "$taken" -lt 150000000 ] # it is sparse still
echo "loop device: ext4 was made, filled, trimmed and checked; its 256 MiB take $((taken >> 20)) MiB"
