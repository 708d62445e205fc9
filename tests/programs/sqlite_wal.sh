#!/usr/bin/env bash
# sqlite_wal.sh MOUNT: several processes write one SQLite database with a write-ahead log.
#
# The log's index is shared memory, so that all of them are on one mount.
set -euo pipefail

work=$(mktemp -d "$(realpath "$1")/sqlite_wal.XXXXXX")
trap 'rm -rf "$work"' EXIT
writers=4
rows=100

sql() {
    sqlite3 -bail -cmd '.timeout 30000' "$work/db" "$@"
}

[ "$(sql 'PRAGMA journal_mode=WAL')" = wal ]
sql 'CREATE TABLE t (writer INTEGER, row INTEGER, text TEXT, PRIMARY KEY (writer, row));
     CREATE TABLE count (n INTEGER); INSERT INTO count VALUES (0);'
pids=()
for writer in $(seq $writers); do
    for row in $(seq $rows); do
        echo "BEGIN IMMEDIATE; INSERT INTO t VALUES ($writer, $row, hex(randomblob(200)));
              UPDATE count SET n = n + 1; COMMIT;"
        [ $((row % 25)) != 0 ] || echo 'PRAGMA wal_checkpoint(PASSIVE);'
    done | sql >/dev/null &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    # Readers beside the writers never see half of a transaction.
    [ "$(sql 'SELECT (SELECT n FROM count) = (SELECT count(*) FROM t)')" = 1 ]
    wait "$pid"
done
[ "$(sql 'SELECT n FROM count')" = $((writers * rows)) ]
[ "$(sql 'SELECT count(*) FROM t')" = $((writers * rows)) ]
[ "$(sql 'PRAGMA integrity_check')" = ok ]
sql 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
[ "$(sql 'PRAGMA journal_mode=DELETE')" = delete ]
[ "$(sql 'PRAGMA integrity_check; SELECT n FROM count')" = $'ok\n'$((writers * rows)) ]
echo "sqlite: $writers processes committed $((writers * rows)) transactions to one write-ahead log"
