#!/bin/sh
# map.sh JOB_DIR NUMBER: one mapper, a process of its own.
#
# Reads its share of the input from JOB_DIR/input/NUMBER.*, cuts it into words in lower case, and writes each word to
# the partition of its first letter: JOB_DIR/words/NUMBER/{0,1,2,3}. The partitions are ranges of the alphabet, so that
# their results, one after the other, are sorted as a whole.
set -eu
export LC_ALL=C
cd "$1"
mkdir "words/$2"
for partition in 0 1 2 3; do : >"words/$2/$partition"; done
cat "input/$2".* | tr -cs 'A-Za-z' '\n' | tr 'A-Z' 'a-z' | awk -v out="words/$2/" '
    /^[a-c]/ { print > out "0"; next }
    /^[d-l]/ { print > out "1"; next }
    /^[m-r]/ { print > out "2"; next }
    /^[s-z]/ { print > out "3" }'
