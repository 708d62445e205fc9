#!/bin/sh
# reduce.sh JOB_DIR PARTITION: one reducer, a process of its own.
#
# Reads its partition from every mapper, counts the words and writes them, sorted, to JOB_DIR/counts/PARTITION: under
# a name of its own first, then renamed, so that nobody ever sees half a result.
set -eu
export LC_ALL=C
cd "$1"
sort words/*/"$2" | uniq -c >"counts/.$2.unfinished"
mv "counts/.$2.unfinished" "counts/$2"
