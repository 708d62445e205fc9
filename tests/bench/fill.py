"""Fills a small storage server until a write does not fit, and looks how much memory that took."""

import dataclasses
import errno
import os
import time
from pathlib import Path

from memory import Watch

SERVER_BYTES = 512 << 20

# Small files show what a server keeps beside their bytes, large ones what it allocates beyond them.
FILE_BYTES = {"1 MiB files": 1 << 20, "100 KiB files": 100 << 10, "4 KiB files": 4 << 10, "1000 B files": 1000}

# After so long a server that is slow to free what was deleted counts as one that does not.
FREED_WITHIN_S = 10


def measure(make_cluster) -> list[dict]:
    """For each size of file: a fresh cluster filled to the brim, emptied, and filled again."""
    return [measure_one(make_cluster(f"fill{number}"), name, size) for number, (name, size) in enumerate(FILE_BYTES.items())]


def measure_one(cluster, name: str, file_bytes: int) -> dict:
    """One size of file."""
    with cluster:
        watch = Watch([cluster])
        first = write_until_full(cluster.directory / "first", file_bytes)
        first["freed_in_s"] = remove(cluster.directory / "first", file_bytes)
        second = write_until_full(cluster.directory / "second", file_bytes)
        usages = {role: dataclasses.asdict(usage) for role, usage in watch.stop().items()}
    return {"files": name, "server_bytes": SERVER_BYTES, "first": first, "second": second, "processes": usages}


def write_until_full(directory: Path, file_bytes: int) -> dict:
    """Writes files until one does not fit; returns how many fit and the error that the next one got."""
    directory.mkdir()
    content = os.urandom(file_bytes)
    written, problem = 0, "none"
    while written * file_bytes < 2 * SERVER_BYTES:
        try:
            with open(directory / f"f{written}", "wb", buffering=0) as file:
                file.write(content)
        except OSError as error:
            problem = errno.errorcode.get(error.errno, str(error.errno))
            break
        written += 1
    return {"bytes": written * file_bytes, "error": problem}


def remove(directory: Path, file_bytes: int) -> float:
    """Removes what was written; returns the seconds until a write fits again."""
    for path in directory.iterdir():
        path.unlink()
    start = time.monotonic()
    while time.monotonic() - start < FREED_WITHIN_S:
        try:
            (directory / "probe").write_bytes(os.urandom(file_bytes))
            (directory / "probe").unlink()
            break
        except OSError:
            time.sleep(0.02)
    seconds = time.monotonic() - start
    directory.rmdir()
    return round(seconds, 3)
