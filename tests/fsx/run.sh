#!/usr/bin/env bash
# run.sh DIR [OPERATIONS [SEED]]: random reads, writes, maps and truncations of one file in DIR,
# each checked against what the file must hold (fsx, 100,000 operations by default).
#
# More operations than that are done in parts, each with the next seed.
#
# Needs the fsx crate's program in PATH (`cargo install fsx --version 0.3.2`). The same seed means
# the same operations; the seed is printed. After a failure fsx leaves what it found and what it
# expected in the current directory.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
directory=${1:?usage: run.sh DIR [OPERATIONS [SEED]]}
operations=${2:-100000}
seed=${3:-42}

file=$directory/fsx-$$
# The program keeps a map of each operation on mapped memory until it ends, wherever the file is: half a
# million operations reach the kernel's limit of maps (vm.max_map_count).
part=100000
while [ "$operations" -gt 0 ]; do
    count=$((operations < part ? operations : part))
    echo "fsx: $count operations with seed $seed in $directory"
    fsx -f "$here/fsx.toml" -N "$count" -S "$seed" -P "$PWD" "$file"
    rm "$file"
    operations=$((operations - count)) seed=$((seed + 1))
done
