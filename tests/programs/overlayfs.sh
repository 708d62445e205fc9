#!/usr/bin/env bash
# overlayfs.sh MOUNT: an overlayfs with its upper and work directories on the mount (as root).
#
# Changes files of the lower layer and looks whether they are there, also after the overlay was
# mounted anew; and that the lower layer is as it was.
set -euo pipefail

work=$(mktemp -d "$(realpath "$1")/overlayfs.XXXXXX")
local=$(mktemp -d)
cleanup() {
    for mounted in "$local/merged" "$local/control"; do
        mountpoint -q "$mounted" && umount "$mounted"
    done
    rm -rf "$work" "$local"
}
trap cleanup EXIT

overlay() { # UPPER-AND-WORK
    mount -t overlay overlay "$local/merged" \
        -o "lowerdir=$local/lower,upperdir=$1/upper,workdir=$1/work"
}

mkdir -p "$local"/{lower,merged,control} "$work"/{upper,work}
cd "$local/lower"
mkdir -p kept gone full/below moved
for name in changed kept/file gone/file full/file full/below/file moved/file renamed removed; do
    echo "lower $name" >"$name"
done
chmod 640 changed
setfattr -n user.note -v lower changed
head -c 3000000 /dev/urandom >large
cd "$local"
find lower -exec stat -c '%n %F %a %s %Y' {} + | sort >before

# Where not even a tmpfs can be the upper layer, overlayfs cannot be had.
if ! { mount -t tmpfs tmpfs control && mkdir control/upper control/work && overlay control; } \
    2>"$local/why"; then
    echo "overlayfs: skipped: cannot be mounted here: $(head -n 1 "$local/why")"
    exit 0
fi
umount merged

overlay "$work"
cd merged
echo more >>changed                       # copied up with its data, mode and attributes
printf middle | dd of=large bs=1 seek=1500000 conv=notrunc status=none
echo new >new
mkdir -p made/deep && echo new >made/deep/file
mv renamed other
rm removed gone/file && rmdir gone        # whiteouts
rm -r full && mkdir full && echo anew >full/file # an opaque directory
ln changed linked
ln -s changed symlink
mv made moved-made
echo once >temporary && rm temporary
mv kept/file kept/here && mv kept/here kept/file
chmod 600 moved/file
python3 - <<'PYTHON' # made without a name, and used under two ways to it
import os

made = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o644)
os.write(made, b"unnamed\n")
here = os.open(".", os.O_RDONLY)
os.link(f"/proc/self/fd/{made}", "published", dst_dir_fd=here, follow_symlinks=True)
for _ in range(3):
    assert os.stat("published").st_nlink == 1
    assert open("published").read() == "unnamed\n"
PYTHON

look() {
    cd "$local/merged"
    [ "$(cat changed)" = $'lower changed\nmore' ]
    [ "$(stat -c %a changed)" = 640 ]
    [ "$(getfattr --absolute-names --only-values -n user.note changed)" = lower ]
    cmp -s <(head -c 1500000 large) <(head -c 1500000 "$local/lower/large")
    [ "$(tail -c +1500001 large | head -c 6)" = middle ]
    cmp -s <(tail -c +1500007 large) <(tail -c +1500007 "$local/lower/large")
    [ "$(cat new moved-made/deep/file other)" = $'new\nnew\nlower renamed' ]
    [ "$(cat full/file kept/file moved/file)" = $'anew\nlower kept/file\nlower moved/file' ]
    [ "$(stat -c %a moved/file)" = 600 ]
    [ "$(cat published)" = unnamed ]
    [ "$(cat linked symlink | sort -u)" = "$(sort -u changed)" ]
    [ "$(find . | sort | tr '\n' ' ')" = ". ./changed ./full ./full/file ./kept ./kept/file ./large \
./linked ./moved ./moved-made ./moved-made/deep ./moved-made/deep/file ./moved/file ./new ./other \
./published ./symlink " ]
    cd "$local"
}
look
umount merged
overlay "$work"
look
umount merged

# What the kernel left on the mount.
for name in removed gone renamed; do
    [ "$(stat -c '%F %t:%T' "$work/upper/$name")" = 'character special file 0:0' ]
done
[ "$(getfattr --absolute-names --only-values -n trusted.overlay.opaque "$work/upper/full")" = y ]
[ ! -e "$work/upper/kept/here" ]
find lower -exec stat -c '%n %F %a %s %Y' {} + | sort | cmp -s - before
echo "overlayfs: copied up, renamed, removed and found again after mounting anew"
