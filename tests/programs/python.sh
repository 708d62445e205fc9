#!/usr/bin/env bash
# python.sh MOUNT: Python's tempfile, and multiprocessing over shared files, locks and maps.
set -euo pipefail

work=$(mktemp -d "$(realpath "$1")/python.XXXXXX")
trap 'rm -rf "$work"' EXIT
TMPDIR=$work python3 - "$work" <<'PYTHON'
import fcntl, mmap, multiprocessing, os, struct, sys, tempfile
from concurrent.futures import ProcessPoolExecutor

work = sys.argv[1]
assert tempfile.gettempdir() == work

# TemporaryFile uses O_TMPFILE where it can, and remembers where it could not.
with tempfile.TemporaryFile() as file:
    assert os.fstat(file.fileno()).st_nlink == 0
    assert os.readlink(f"/proc/self/fd/{file.fileno()}").endswith("(deleted)")
    assert os.listdir(work) == []
    file.write(b"data" * 100_000)
    file.seek(4)
    assert file.read(4) == b"data"
assert tempfile._O_TMPFILE_WORKS
with tempfile.NamedTemporaryFile() as file:
    file.write(b"named")
    file.flush()
    assert open(file.name, "rb").read() == b"named"
with tempfile.SpooledTemporaryFile(max_size=10) as file:
    file.write(b"x" * 1000)
    assert file.tell() == 1000
with tempfile.TemporaryDirectory() as folder:
    for index in range(50):
        os.close(tempfile.mkstemp(dir=folder)[0])
    assert len(os.listdir(folder)) == 50
assert os.listdir(work) == []

# A file written under O_TMPFILE is given its name when it is whole.
descriptor = os.open(work, os.O_TMPFILE | os.O_WRONLY, 0o600)
os.write(descriptor, b"whole")
folder = os.open(work, os.O_RDONLY)
os.link(f"/proc/self/fd/{descriptor}", "published", dst_dir_fd=folder, follow_symlinks=True)
assert open(work + "/published", "rb").read() == b"whole"
os.close(descriptor)
os.close(folder)

COUNTER, LOG, MAP = (f"{work}/{name}" for name in ("counter", "log", "map"))
TASKS, ROUNDS = 4, 100
CONTEXT = multiprocessing.get_context("fork")


def count(task, lock):
    """Adds under a lock, appends without, and stores into a shared map."""
    with open(MAP, "r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        for round in range(ROUNDS):
            with open(COUNTER, "r+b") as counter:
                lock(counter, fcntl.LOCK_EX)
                (value,) = struct.unpack("<q", counter.read(8))
                counter.seek(0)
                counter.write(struct.pack("<q", value + 1))
            with open(LOG, "ab", buffering=0) as log:
                log.write(struct.pack("<ii", task, round))
            struct.pack_into("<i", shared, (task * ROUNDS + round) * 4, task * ROUNDS + round)
        shared.flush()
    return task


for lock in fcntl.flock, fcntl.lockf:
    open(COUNTER, "wb").write(bytes(8))
    open(LOG, "wb").close()
    open(MAP, "wb").write(bytes(TASKS * ROUNDS * 4))
    with ProcessPoolExecutor(TASKS, mp_context=CONTEXT) as pool:
        assert list(pool.map(count, range(TASKS), [lock] * TASKS)) == list(range(TASKS))
    assert struct.unpack("<q", open(COUNTER, "rb").read()) == (TASKS * ROUNDS,)
    log = open(LOG, "rb").read()
    seen = [struct.unpack_from("<ii", log, at) for at in range(0, len(log), 8)]
    assert sorted(seen) == [(task, round) for task in range(TASKS) for round in range(ROUNDS)]
    stored = struct.unpack(f"<{TASKS * ROUNDS}i", open(MAP, "rb").read())
    assert list(stored) == list(range(TASKS * ROUNDS))

# A manager listens on a socket in TMPDIR.
with CONTEXT.Manager() as manager:
    shared = manager.dict()
    workers = [
        CONTEXT.Process(target=shared.__setitem__, args=(index, index)) for index in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert dict(shared) == {index: index for index in range(4)}
print("python: tempfile, and multiprocessing over one file, its locks and its map")
PYTHON
