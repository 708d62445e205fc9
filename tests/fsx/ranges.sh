#!/usr/bin/env bash
# ranges.sh DIR OTHER [OPERATIONS [SEED]]: as run.sh, two at once in one file: DIR and OTHER are mounts of
# a job, and each has a range of its own, next to the other's, in the middle of a block.
#
# A range is a loop device over it, so this needs root, and fsx as run.sh does.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage="usage: ranges.sh DIR OTHER [OPERATIONS [SEED]]"
mounts=("${1:?$usage}" "${2:?$usage}")
operations=${3:-10000}
seed=${4:-42}

bytes=$(sed -n 's/^flen = //p' "$here/ranges.toml")
name=fsx-ranges-$$
devices=()
cleanup() {
    for device in "${devices[@]}"; do losetup -d "$device"; done
    rm -f "${mounts[0]}/$name"
}
trap cleanup EXIT

# Where a local file gets no loop device, there are none to be had.
control=$(mktemp)
truncate -s 1M "$control"
if ! device=$(losetup --find --show "$control" 2>&1); then
    rm "$control"
    echo "fsx in ranges: skipped: no loop devices: ${device%%$'\n'*}"
    exit 0
fi
losetup -d "$device"
rm "$control"

truncate -s $((2 * bytes)) "${mounts[0]}/$name"
for at in 0 1; do
    devices+=("$(losetup --find --show --offset $((at * bytes)) --sizelimit "$bytes" "${mounts[at]}/$name")")
done
echo "fsx: $operations operations with seeds $seed and $((seed + 1)) in two ranges of a file, a mount each"
fsx -f "$here/ranges.toml" -N "$operations" -S "$seed" -P "$PWD" "${devices[0]}" &
first=$!
status=0
fsx -f "$here/ranges.toml" -N "$operations" -S $((seed + 1)) -P "$PWD" "${devices[1]}" || status=1
wait "$first" || status=1
exit $status
